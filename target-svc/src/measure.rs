//! Durations as histograms, with a recent trace beside each bucket.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use crate::telemetry::Exemplars;

/// Bucket boundaries in seconds that the HTTP conventions recommend.
pub(crate) const REQUEST_BOUNDARIES: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Bucket boundaries in seconds that the database conventions recommend.
pub(crate) const QUERY_BOUNDARIES: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// A histogram of durations in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    name: &'static str,
    boundaries: &'static [f64],
    histogram: Histogram<f64>,
    exemplars: Arc<Exemplars>,
}

impl Measure {
    pub(crate) fn new(
        meter: &Meter,
        exemplars: &Arc<Exemplars>,
        name: &'static str,
        description: &'static str,
        boundaries: &'static [f64],
    ) -> Self {
        let histogram = meter
            .f64_histogram(name)
            .with_unit("s")
            .with_description(description)
            .with_boundaries(boundaries.to_vec())
            .build();
        Self {
            name,
            boundaries,
            histogram,
            exemplars: Arc::clone(exemplars),
        }
    }

    /// Records a duration; the current span, if it is sampled, becomes the exemplar of its bucket.
    pub(crate) fn record(&self, duration: Duration, attributes: &[KeyValue]) {
        let seconds = duration.as_secs_f64();
        self.histogram.record(seconds, attributes);
        self.exemplars
            .offer(self.name, self.boundaries, seconds, attributes);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::*;

    /// A measure that nobody reads.
    pub(crate) fn nowhere() -> Measure {
        let meter = SdkMeterProvider::builder().build().meter("test");
        Measure::new(&meter, &Arc::default(), "test", "", &QUERY_BOUNDARIES)
    }
}

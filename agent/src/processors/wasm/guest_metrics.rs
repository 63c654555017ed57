//! Guests' own metrics among the agent's: each is a name and a label, and there are only so many of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::bindings::MetricKind;
use crate::signal::Signal;
use crate::telemetry::{Figure, Pool, Telemetry, names};

/// Series of one plugin in one pipeline. What is beyond goes into one series per kind.
const SERIES_MAX: usize = 200;

/// Bytes of a name or a label.
const WORD_MAX: usize = 100;

/// Larger counts at once are no counts.
const COUNT_MAX: f64 = (1_u64 << 53) as f64;

/// The label of what is beyond [`SERIES_MAX`].
const OVERFLOW: &str = "_other";

/// The metrics of one plugin in one pipeline.
pub(super) struct GuestMetrics {
    pool: Pool,
    /// Guards what there is.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    numbers: BTreeMap<(u8, String, String), u32>,
    series: Vec<Arc<Figure>>,
}

impl GuestMetrics {
    pub(super) fn new(telemetry: &Telemetry, processor: &str, signal: Signal) -> Self {
        Self {
            pool: telemetry.pool(processor, signal),
            known: Mutex::default(),
        }
    }

    /// The number of a metric, from now on.
    pub(super) fn number(&self, kind: MetricKind, name: &str, label: &str) -> u32 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind as u8, word(name), word(label));
        if let Some(number) = known.numbers.get(&key) {
            return *number;
        }
        let key = match known.series.len() < SERIES_MAX {
            true => key,
            false => (kind as u8, OVERFLOW.to_owned(), OVERFLOW.to_owned()),
        };
        if let Some(number) = known.numbers.get(&key) {
            return *number;
        }
        let number = u32::try_from(known.series.len()).unwrap_or(u32::MAX);
        let family = match kind {
            MetricKind::Counter => &names::PLUGIN_COUNTER,
            MetricKind::Gauge => &names::PLUGIN_GAUGE,
            MetricKind::Histogram => &names::PLUGIN_HISTOGRAM,
        };
        known.series.push(self.pool.lend(family, [&key.1, &key.2]));
        known.numbers.insert(key, number);
        number
    }

    /// Records a value. What makes no sense is ignored.
    pub(super) fn record(&self, number: u32, value: f64) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.series.get(number as usize).map(Arc::as_ref) {
            // The cast cannot lose anything.
            Some(Figure::Counter(counter)) if (0.0..COUNT_MAX).contains(&value) => {
                counter.inc_by(value as u64);
            }
            Some(Figure::Gauge(gauge)) if value.is_finite() => gauge.set(value),
            Some(Figure::Histogram(histogram)) if value.is_finite() => histogram.observe(value),
            _ => {}
        }
    }
}

/// A label's value that is not too long.
fn word(text: &str) -> String {
    let end = text.floor_char_boundary(WORD_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::metric;

    #[test]
    fn series_are_numbered_and_there_are_only_so_many() {
        let telemetry = Telemetry::default();
        let metrics = GuestMetrics::new(&telemetry, "wasm/a", Signal::Logs);
        let first = metrics.number(MetricKind::Counter, "seen", "x");
        assert_eq!(metrics.number(MetricKind::Counter, "seen", "x"), first);
        for label in 0..10 * SERIES_MAX {
            let number = metrics.number(MetricKind::Counter, "seen", &label.to_string());
            metrics.record(number, 1.0);
        }
        let text = String::from_utf8(telemetry.encode().unwrap()).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("tidegate_plugin_counter{"));
        assert_eq!(lines.count(), SERIES_MAX + 1);
        let other = "tidegate_plugin_counter{label=\"_other\",name=\"_other\"";
        assert_eq!(metric(&telemetry, other), (9 * SERIES_MAX + 1) as f64);
    }

    #[test]
    fn senseless_values_do_nothing() {
        let telemetry = Telemetry::default();
        let metrics = GuestMetrics::new(&telemetry, "wasm/a", Signal::Logs);
        let counter = metrics.number(MetricKind::Counter, "c", "");
        let gauge = metrics.number(MetricKind::Gauge, "g", "");
        let histogram = metrics.number(MetricKind::Histogram, "h", "");
        for value in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            metrics.record(counter, value);
        }
        metrics.record(gauge, 1.5);
        metrics.record(gauge, f64::NAN);
        metrics.record(histogram, f64::NAN);
        metrics.record(histogram, 3.0);
        metrics.record(99, 1.0);
        assert_eq!(metric(&telemetry, "tidegate_plugin_counter"), 0.0);
        assert_eq!(metric(&telemetry, "tidegate_plugin_gauge"), 1.5);
        assert_eq!(metric(&telemetry, "tidegate_plugin_histogram_sum"), 3.0);
    }
}

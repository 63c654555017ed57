//! Latency statistics: histograms of nanoseconds and the figures that are reported from them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Values are kept to one part in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Longer times are recorded as this one: a day in nanoseconds.
const NANOS_MAX: u64 = 86_400_000_000_000;

/// A latency histogram that grows with the longest time seen (about 0.2 MB at ten seconds).
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    nanos: Histogram<u64>,
}

/// Latency figures in milliseconds, all 0 without a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencySummary {
    pub(crate) count: u64,
    pub(crate) avg: f64,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let mut nanos =
            Histogram::new(SIGNIFICANT_DIGITS).expect("3 digits are within the histogram's 0 to 5");
        nanos.auto(true);
        Self { nanos }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos())
            .unwrap_or(NANOS_MAX)
            .min(NANOS_MAX);
        self.nanos
            .record(nanos)
            .expect("the histogram resizes itself up to NANOS_MAX");
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.nanos
            .add(&other.nanos)
            .expect("the histogram resizes itself up to NANOS_MAX");
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        if self.nanos.is_empty() {
            return LatencySummary::default();
        }
        let at =
            |quantile: f64| millis(self.nanos.value_at_quantile(quantile).min(self.nanos.max()));
        LatencySummary {
            count: self.nanos.len(),
            avg: self.nanos.mean() / 1e6,
            min: millis(self.nanos.min()),
            p50: at(0.50),
            p90: at(0.90),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(self.nanos.max()),
        }
    }

    /// Every bucket in use as (highest value in nanoseconds, count), lowest first.
    pub(crate) fn buckets(&self) -> Vec<(u64, u64)> {
        self.nanos
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(millis: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        for value in millis {
            latencies.record(Duration::from_millis(value));
        }
        latencies
    }

    fn assert_close(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() <= expected * 0.001 + 1e-9,
            "{actual} is not {expected}"
        );
    }

    #[test]
    fn figures_of_a_known_distribution() {
        let summary = latencies(1..=1000).summary();
        assert_eq!(summary.count, 1000);
        for (actual, expected) in [
            (summary.avg, 500.5),
            (summary.min, 1.0),
            (summary.p50, 500.0),
            (summary.p90, 900.0),
            (summary.p95, 950.0),
            (summary.p99, 990.0),
            (summary.p999, 999.0),
            (summary.max, 1000.0),
        ] {
            assert_close(actual, expected);
        }
    }

    #[test]
    fn no_value_gives_zeros() {
        assert_eq!(latencies([]).summary(), LatencySummary::default());
    }

    #[test]
    fn merged_histograms_equal_one_of_all_values() {
        let mut merged = latencies(1..=10);
        merged.merge(&latencies(5_000..=6_000));
        let whole = latencies((1..=10).chain(5_000..=6_000));
        assert_eq!(merged.buckets(), whole.buckets());
        assert_eq!(merged.summary(), whole.summary());
    }

    #[test]
    fn absurdly_long_times_are_cut_to_a_day() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::MAX);
        assert_close(latencies.summary().max, 86_400_000.0);
    }

    #[test]
    fn no_figure_exceeds_the_maximum() {
        let summary = latencies([7; 10]).summary();
        for figure in [summary.min, summary.avg, summary.p50, summary.p999] {
            assert!(figure <= summary.max);
        }
    }
}

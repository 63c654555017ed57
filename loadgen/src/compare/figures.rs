//! How well a record knows each of its metrics.

use super::estimate::Estimate;
use crate::record::{Distribution, Labels, Metric, Record};

/// A ratio metric, the series of its sums, and the factor between them and the metric.
const RATIOS: [(&str, &str, &str, f64); 2] = [
    ("error_rate", "errors", "requests", 1.0),
    ("cpu_seconds_per_million_items", "cpu", "items", 1e6),
];
/// A metric that is the mean of a series.
const MEANS: [(&str, &str); 4] = [
    ("items_per_second", "items"),
    ("requests_per_second", "requests"),
    ("iterations_per_second", "iterations"),
    ("cpu_share_of_core", "cpu"),
];

/// The figure and its error from the best that the record has: repetitions, else the histogram or the
/// seconds that the figure was computed from. `None` without a value.
pub(super) fn estimate(record: &Record, metric: &Metric) -> Option<Estimate> {
    let [value] = metric.values.as_slice() else {
        return Estimate::of_repetitions(&metric.values);
    };
    let value = *value;
    let found = from_distribution(record, metric, value)
        .or_else(|| from_mean(record, metric, value))
        .or_else(|| from_ratio(record, metric, value));
    Some(found.unwrap_or_else(|| Estimate::single(value)))
}

fn from_distribution(record: &Record, metric: &Metric, value: f64) -> Option<Estimate> {
    let (name, figure) = metric.name.rsplit_once('_')?;
    let is_it = |it: &&Distribution| it.name == name && it.labels == metric.labels;
    let distribution = record.distributions.iter().find(is_it)?;
    let factor = dependence(record, distribution);
    if figure == "avg" {
        let estimate = Estimate::of_histogram_mean(value, &distribution.buckets);
        return Some(estimate.widened(factor));
    }
    let quantile = quantile(figure)?;
    // Figures of nanoseconds are given in milliseconds.
    let scale = if metric.unit == "ms" && distribution.unit == "ns" {
        1e-6
    } else {
        1.0
    };
    let estimate = Estimate::of_percentile(value, &distribution.buckets, quantile);
    Some(estimate.scaled_values(scale).widened(factor))
}

/// By how much the values of a run vary more from second to second than independent ones would: slow seconds come
/// together. From the percentiles that the record has over time; 1 where it has none.
fn dependence(record: &Record, distribution: &Distribution) -> f64 {
    let figures = [("p50", 0.5), ("p99", 0.99)];
    let factors = figures.into_iter().filter_map(|(figure, quantile)| {
        let name = format!("{}_{figure}", distribution.name);
        let seconds = seconds(record, &name, &distribution.labels)?;
        let alone = Estimate::of_percentile(0.0, &distribution.buckets, quantile);
        let alone = alone.scaled_values(if distribution.unit == "ns" { 1e-6 } else { 1.0 });
        Estimate::of_series(0.0, &seconds).ratio_of_errors(&alone)
    });
    factors.fold(1.0, f64::max)
}

/// `p99` as 0.99, `p999` as 0.999.
fn quantile(figure: &str) -> Option<f64> {
    let digits = figure.strip_prefix('p')?;
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    format!("0.{digits}").parse().ok()
}

fn from_mean(record: &Record, metric: &Metric, value: f64) -> Option<Estimate> {
    let (_, series) = MEANS.iter().find(|it| it.0 == metric.name)?;
    let seconds = seconds(record, series, &metric.labels)?;
    Some(Estimate::of_series(value, &seconds))
}

fn from_ratio(record: &Record, metric: &Metric, value: f64) -> Option<Estimate> {
    let (_, above, below, factor) = RATIOS.iter().find(|it| it.0 == metric.name)?;
    let mut above = seconds(record, above, &metric.labels)?;
    above.iter_mut().for_each(|it| *it *= factor);
    let below = seconds(record, below, &metric.labels)
        .or_else(|| seconds(record, below, &Labels::new()))?;
    Some(Estimate::of_ratio(value, &above, &below))
}

fn seconds(record: &Record, name: &str, labels: &Labels) -> Option<Vec<f64>> {
    let mut series = record.series.iter();
    let found = series.find(|it| it.name == name && it.labels == *labels)?;
    Some(found.points.iter().map(|it| it.1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_read_from_names() {
        assert_eq!(quantile("p50"), Some(0.5));
        assert_eq!(quantile("p999"), Some(0.999));
        for figure in ["max", "p", "p9x", "avg"] {
            assert_eq!(quantile(figure), None, "{figure}");
        }
    }
}

//! An earlier run to measure up to.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::record::{Better, Metric, Record, ThresholdResult, titled};

/// The record of an earlier run.
#[derive(Debug)]
pub(crate) struct Baseline(Record);

/// A figure that both runs have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Regression {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) before: f64,
    pub(crate) now: f64,
    /// Change for the worse in percent; below 0 for the better.
    pub(crate) worse_percent: f64,
    /// Beyond the limit, and beyond what repetitions differ by themselves.
    pub(crate) is_worse: bool,
}

impl Baseline {
    /// # Errors
    /// When it cannot be read, or is of another kind.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let record = Record::read(path)?;
        ensure!(
            record.kind == crate::record::Kind::Suite,
            "{} is the record of a run of `loadgen {}`, not of a suite",
            path.display(),
            record.kind
        );
        Ok(Self(record))
    }

    /// Figures that have a better and a worse, next to those of before.
    pub(crate) fn regressions(&self, now: &Record, limit_percent: f64) -> Vec<Regression> {
        let both = now.metrics.iter().filter_map(|metric| {
            let is_same = |it: &&Metric| it.name == metric.name && it.labels == metric.labels;
            let before = self.0.metrics.iter().find(is_same)?;
            regression(before, metric, limit_percent)
        });
        both.collect()
    }
}

fn regression(before: &Metric, now: &Metric, limit_percent: f64) -> Option<Regression> {
    let (one, other) = (median(&before.values)?, median(&now.values)?);
    let worse = match now.better {
        Better::Higher => one - other,
        Better::Lower => other - one,
        Better::Neither => return None,
    };
    let worse_percent = match one == 0.0 {
        true if worse <= 0.0 => 0.0,
        true => 100.0,
        false => worse / one.abs() * 100.0,
    };
    let apart = match now.better {
        Better::Higher => greatest(&now.values) < least(&before.values),
        _ => least(&now.values) > greatest(&before.values),
    };
    Some(Regression {
        name: titled(&now.name, &now.labels),
        unit: now.unit.clone(),
        before: one,
        now: other,
        worse_percent,
        is_worse: worse_percent > limit_percent && apart,
    })
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The middle value; the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted.get(middle).copied(),
        _ => Some((sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0),
    }
}

/// The verdicts of the comparison, among the others.
pub(crate) fn add_to(record: &mut Record, regressions: &[Regression], limit_percent: f64) {
    for regression in regressions.iter().filter(|it| it.is_worse) {
        record.thresholds.push(ThresholdResult {
            expression: format!(
                "{} not more than {limit_percent}% worse than {}",
                regression.name, regression.before
            ),
            value: Some(regression.now),
            passed: false,
        });
        record.passed = false;
    }
}

/// Reads `10%` or `10`.
///
/// # Errors
/// When it is no percentage.
pub(crate) fn parse_percent(text: &str) -> anyhow::Result<f64> {
    let number: f64 = text
        .trim_end_matches('%')
        .trim()
        .parse()
        .with_context(|| format!("`{text}` is no percentage such as 10%"))?;
    ensure!(
        (0.0..=10_000.0).contains(&number),
        "`{text}` is from 0% to 10000%"
    );
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_is_what_is_beyond_limit_and_spread() {
        let metric = |better, values: &[f64]| Metric {
            values: values.to_vec(),
            ..Metric::new("figure", "s", better)
        };
        let check = |better, before: &[f64], now: &[f64], expected: bool| {
            let found = regression(&metric(better, before), &metric(better, now), 10.0).unwrap();
            assert_eq!(found.is_worse, expected, "{found:?}");
        };
        check(Better::Lower, &[1.0], &[1.05], false);
        check(Better::Lower, &[1.0], &[1.2], true);
        check(Better::Lower, &[1.0], &[0.5], false);
        check(Better::Higher, &[1.0], &[0.8], true);
        check(Better::Higher, &[1.0], &[2.0], false);
        // As far apart in the middle, but the repetitions overlap.
        check(Better::Lower, &[0.9, 1.0, 1.3], &[1.1, 1.2, 1.3], false);
        check(Better::Lower, &[0.0], &[1.0], true);
        assert!(
            regression(
                &metric(Better::Neither, &[1.0]),
                &metric(Better::Neither, &[2.0]),
                1.0
            )
            .is_none()
        );
    }

    #[test]
    fn percentages_are_read() {
        assert!((parse_percent("10%").unwrap() - 10.0).abs() < 1e-9);
        assert!((parse_percent("2.5").unwrap() - 2.5).abs() < 1e-9);
        assert!(parse_percent("much").is_err());
        assert!(parse_percent("-1%").is_err());
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}

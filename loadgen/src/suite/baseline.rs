//! An earlier run to measure up to.

use std::path::Path;

use anyhow::ensure;

use crate::compare::Comparison;
use crate::record::{Kind, Record, ThresholdResult};

/// The record of an earlier run, and how much worse a figure may be than in it.
#[derive(Debug)]
pub(crate) struct Baseline {
    record: Record,
    max_regression_percent: f64,
}

impl Baseline {
    /// # Errors
    /// When it cannot be read, or is of another kind.
    pub(crate) fn read(path: &Path, max_regression_percent: f64) -> anyhow::Result<Self> {
        let record = Record::read(path)?;
        ensure!(
            record.kind == Kind::Suite,
            "{} is the record of a run of `loadgen {}`, not of a suite",
            path.display(),
            record.kind
        );
        Ok(Self {
            record,
            max_regression_percent,
        })
    }

    /// The comparison, as `loadgen compare` makes it; what has become worse is a crossed limit of `now`, and what is not
    /// known has not held, either.
    pub(crate) fn compare(&self, now: &mut Record) -> Comparison {
        let comparison = Comparison::with_baseline(&self.record, now, self.max_regression_percent);
        for (title, value, unit) in comparison.regressions() {
            now.thresholds.push(ThresholdResult {
                expression: format!(
                    "{title} not more than {} % worse than in the baseline",
                    self.max_regression_percent
                ),
                value: Some(value),
                unit: unit.to_owned(),
                passed: false,
                why: String::new(),
            });
            now.passed = false;
        }
        for it in comparison.unknown() {
            now.thresholds.push(ThresholdResult {
                expression: format!(
                    "{} not more than {} % worse than in the baseline",
                    it.title(),
                    self.max_regression_percent
                ),
                value: None,
                unit: String::new(),
                passed: false,
                why: format!("it is unknown: {}", it.why()),
            });
            now.passed = false;
        }
        comparison
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Better, Labels, Ledger, Metric, Start};

    fn record(better: Better, values: &[f64]) -> Record {
        let mut record = Record::new(Kind::Suite, "test", &Start::now());
        record.metrics.push(Metric {
            values: values.to_vec(),
            ..Metric::new("figure", "s", better)
        });
        record
    }

    #[test]
    fn what_is_unknown_has_not_held_against_the_baseline() {
        let labels = Labels::from([("test".to_owned(), "t".to_owned())]);
        let lost = Metric::new("items_lost", "", Better::Lower).labels(&labels);
        let mut before = Record::new(Kind::Suite, "test", &Start::now());
        before.metrics.push(lost.value(0.0));
        let baseline = Baseline {
            record: before,
            max_regression_percent: 10.0,
        };
        let mut now = Record::new(Kind::Suite, "test", &Start::now());
        now.ledgers.push(Ledger {
            labels,
            repetition: 1,
            drained: true,
            seconds: 1.0,
            // What the baseline does not have is held to nothing.
            items: [("lost", None), ("duplicated", None), ("sent", Some(5))]
                .map(|(name, count)| (name.to_owned(), count))
                .into(),
            bounds: std::collections::BTreeMap::new(),
            unknown: vec!["the sink was killed".to_owned()],
        });
        baseline.compare(&mut now);
        let [threshold] = now.thresholds.as_slice() else {
            panic!("{:?}", now.thresholds);
        };
        assert!(!now.passed && !threshold.passed);
        assert_eq!(threshold.measured(), "unknown");
        let verdict = threshold.verdict();
        assert!(verdict.contains("the sink was killed"), "{verdict}");
    }

    #[test]
    fn worse_is_what_is_beyond_limit_and_spread() {
        let check = |better, before: &[f64], now: &[f64], expected: bool| {
            let baseline = Baseline {
                record: record(better, before),
                max_regression_percent: 10.0,
            };
            let mut now = record(better, now);
            now.passed = true;
            let comparison = baseline.compare(&mut now);
            assert_eq!(comparison.has_crossed(), expected, "{comparison}");
            assert_eq!(now.passed, !expected);
            assert_eq!(now.thresholds.len(), usize::from(expected));
        };
        check(Better::Lower, &[1.0], &[1.05], false);
        check(Better::Lower, &[1.0], &[1.2], true);
        check(Better::Lower, &[1.0], &[0.5], false);
        check(Better::Higher, &[1.0], &[0.8], true);
        check(Better::Higher, &[1.0], &[2.0], false);
        // As far apart in the middle, but the repetitions overlap.
        check(Better::Lower, &[0.9, 1.0, 1.3], &[1.1, 1.2, 1.3], false);
        check(Better::Lower, &[0.99, 1.0, 1.01], &[1.19, 1.2, 1.21], true);
        check(Better::Lower, &[0.0], &[1.0], true);
        check(Better::Neither, &[1.0], &[2.0], false);
    }
}

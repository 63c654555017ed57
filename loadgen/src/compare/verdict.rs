//! What the difference of one metric means.

use serde::Serialize;

use super::estimate::{Interval, difference};
use super::figures::estimate;
use crate::record::{Better, Labels, Metric, Record};

/// A metric of two runs.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    pub(super) metric: String,
    pub(super) labels: Labels,
    pub(super) unit: String,
    pub(super) better: Better,
    /// The means of the repetitions.
    pub(super) first: f64,
    pub(super) second: f64,
    /// How many repetitions these are of.
    pub(super) repetitions: (usize, usize),
    /// The difference in percent of the first; absent if that is zero.
    pub(super) percent: Option<f64>,
    /// Where the difference lies; absent if that cannot be told.
    pub(super) interval: Option<(f64, f64)>,
    /// Why it cannot.
    pub(super) unknown: Option<&'static str>,
    pub(super) verdict: Verdict,
    /// Worse by more than is allowed.
    pub(super) crossed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Equal,
    /// The interval holds zero.
    NotShown,
    Better,
    Worse,
    /// For metrics that are neither better nor worse.
    Higher,
    Lower,
    Unknown,
}

/// How much worse a metric may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) percent: f64,
    /// Figures count even if nothing is known about their error.
    pub(super) was_chosen: bool,
}

impl Difference {
    /// `None` if a run has no value of it.
    pub(super) fn of(
        (first, one): (&Record, &Metric),
        (second, two): (&Record, &Metric),
        limit: Option<Limit>,
    ) -> Option<Self> {
        let (before, after) = (estimate(first, one)?, estimate(second, two)?);
        let resolution = one.resolution.max(two.resolution);
        let interval = difference(&before, &after).map(|it| it.widened(resolution));
        let (from, to) = (before.value, after.value);
        let verdict = match Verdict::of(one.better, to - from, interval.ok()) {
            Verdict::Unknown if (to - from).abs() <= resolution => Verdict::NotShown,
            verdict => verdict,
        };
        let percent = (from != 0.0).then(|| (to - from) / from.abs() * 100.0);
        Some(Self {
            metric: one.name.clone(),
            labels: one.labels.clone(),
            unit: one.unit.clone(),
            better: one.better,
            first: from,
            second: to,
            repetitions: (one.values.len(), two.values.len()),
            percent,
            interval: interval.ok().map(|it| (it.from, it.to)),
            unknown: interval.err(),
            verdict,
            crossed: limit.is_some_and(|it| it.is_crossed(one.better, to - from, percent, verdict)),
        })
    }
}

impl Verdict {
    fn of(better: Better, difference: f64, interval: Option<Interval>) -> Self {
        if difference == 0.0 {
            return Self::Equal;
        }
        let Some(interval) = interval else {
            return Self::Unknown;
        };
        if !interval.shows_difference() {
            return Self::NotShown;
        }
        match (better, difference > 0.0) {
            (Better::Higher, true) | (Better::Lower, false) => Self::Better,
            (Better::Higher, false) | (Better::Lower, true) => Self::Worse,
            (Better::Neither, true) => Self::Higher,
            (Better::Neither, false) => Self::Lower,
        }
    }
}

impl Limit {
    fn is_crossed(
        self,
        better: Better,
        difference: f64,
        percent: Option<f64>,
        verdict: Verdict,
    ) -> bool {
        let is_worse = match better {
            Better::Higher => difference < 0.0,
            Better::Lower => difference > 0.0,
            Better::Neither => false,
        };
        // From nothing to something is more than any percentage.
        let is_beyond = percent.is_none_or(|it| it.abs() > self.percent);
        let counts = match verdict {
            Verdict::Worse => true,
            Verdict::Unknown => self.was_chosen,
            _ => false,
        };
        is_worse && is_beyond && counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_interval_and_the_direction() {
        let check = |better, difference: f64, half: f64, expected| {
            let interval = Interval {
                from: difference - half,
                to: difference + half,
            };
            assert_eq!(Verdict::of(better, difference, Some(interval)), expected);
        };
        check(Better::Lower, -2.0, 1.0, Verdict::Better);
        check(Better::Lower, 2.0, 1.0, Verdict::Worse);
        check(Better::Higher, 2.0, 1.0, Verdict::Better);
        check(Better::Higher, -2.0, 1.0, Verdict::Worse);
        check(Better::Neither, 2.0, 1.0, Verdict::Higher);
        check(Better::Lower, 2.0, 2.5, Verdict::NotShown);
        check(Better::Lower, 0.0, 0.0, Verdict::Equal);
        assert_eq!(Verdict::of(Better::Lower, 2.0, None), Verdict::Unknown);
    }

    #[test]
    fn within_the_steps_of_what_was_measured_no_difference_is_shown() {
        let check = |first: &[f64], second: &[f64], expected| {
            let start = crate::record::Start::now();
            let mut metric = Metric::new("cpu_seconds", "s", Better::Lower).resolution(0.02);
            let record = Record::new(crate::record::Kind::Suite, "test", &start);
            metric.values = first.to_vec();
            let other = Metric {
                values: second.to_vec(),
                ..metric.clone()
            };
            let limit = Limit {
                percent: 10.0,
                was_chosen: true,
            };
            let found = Difference::of((&record, &metric), (&record, &other), Some(limit));
            let found = found.unwrap();
            assert_eq!(found.verdict, expected, "{first:?} {second:?}");
            let is_worse = matches!(expected, Verdict::Worse | Verdict::Unknown);
            assert_eq!(found.crossed, is_worse);
        };
        check(&[0.0], &[0.02], Verdict::NotShown);
        check(&[0.0], &[0.03], Verdict::Unknown);
        check(&[0.02, 0.02], &[0.03, 0.03], Verdict::NotShown);
        check(&[0.02, 0.02], &[0.05, 0.05], Verdict::Worse);
    }

    #[test]
    fn limits_are_crossed_by_what_is_worse_and_known() {
        let limit = |was_chosen| Limit {
            percent: 10.0,
            was_chosen,
        };
        let check = |limit: Limit, better, percent: f64, verdict, expected| {
            let crossed = limit.is_crossed(better, percent, Some(percent), verdict);
            assert_eq!(crossed, expected, "{better:?} {percent} {verdict:?}");
        };
        check(limit(false), Better::Lower, 11.0, Verdict::Worse, true);
        check(limit(false), Better::Lower, 9.0, Verdict::Worse, false);
        check(limit(false), Better::Lower, 11.0, Verdict::NotShown, false);
        check(limit(false), Better::Lower, 11.0, Verdict::Unknown, false);
        check(limit(true), Better::Lower, 11.0, Verdict::Unknown, true);
        check(limit(true), Better::Lower, 11.0, Verdict::NotShown, false);
        check(limit(true), Better::Higher, 11.0, Verdict::Unknown, false);
        check(limit(false), Better::Higher, -11.0, Verdict::Worse, true);
        assert!(limit(false).is_crossed(Better::Lower, 1.0, None, Verdict::Worse));
    }
}

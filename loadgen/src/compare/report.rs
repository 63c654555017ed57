//! The comparison of two runs, for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::context;
use super::unknown::{self, Unknown};
use super::verdict::{Difference, Limit, Verdict};
use crate::record::figures::{number, shown};
use crate::record::{Record, titled, unit_of_values};
use crate::text::Table;

/// Two runs, figure by figure.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    first: Side,
    second: Side,
    /// What else was different.
    notes: Vec<String>,
    pub(super) differences: Vec<Difference>,
    /// What the first has, and the second does not know.
    unknown: Vec<Unknown>,
    max_regression_percent: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Side {
    run_id: String,
    name: String,
    started: String,
}

impl Side {
    fn of(record: &Record) -> Self {
        Self {
            run_id: record.run_id.clone(),
            name: record.name.clone(),
            started: record.started.clone(),
        }
    }
}

impl Comparison {
    /// Of the metrics that both have; of those with these names if there are any.
    pub(super) fn new(
        first: &Record,
        second: &Record,
        names: &[String],
        max_regression: Option<f64>,
    ) -> Self {
        let limit = max_regression.map(|percent| Limit {
            percent,
            was_chosen: !names.is_empty(),
        });
        Self::within(first, second, names, limit)
    }

    /// Of all metrics that both have, each held to the limit: by its figures alone where their uncertainty is unknown.
    pub(crate) fn with_baseline(baseline: &Record, now: &Record, percent: f64) -> Self {
        let limit = Limit {
            percent,
            was_chosen: true,
        };
        Self::within(baseline, now, &[], Some(limit))
    }

    fn within(first: &Record, second: &Record, names: &[String], limit: Option<Limit>) -> Self {
        let wanted = first
            .metrics
            .iter()
            .filter(|it| names.is_empty() || names.contains(&it.name));
        let differences = wanted.filter_map(|metric| {
            let mut others = second.metrics.iter();
            let other = others.find(|it| it.name == metric.name && it.labels == metric.labels)?;
            Difference::of((first, metric), (second, other), limit)
        });
        Self {
            first: Side::of(first),
            second: Side::of(second),
            notes: context::differences(first, second)
                .into_iter()
                .chain(context::missing(first, second, names))
                .collect(),
            differences: differences.collect(),
            unknown: unknown::figures(first, second, names),
            max_regression_percent: limit.map(|it| it.percent),
        }
    }

    /// Whether there is anything besides what loadgen itself used.
    pub(super) fn tells_of_what_was_measured(&self) -> bool {
        let own = |it: &Difference| it.labels.get("process").is_some_and(|it| it == "loadgen");
        self.has_unknown() || self.differences.iter().any(|it| !own(it))
    }

    pub(crate) fn has_unknown(&self) -> bool {
        !self.unknown.is_empty()
    }

    pub(crate) fn unknown(&self) -> &[Unknown] {
        &self.unknown
    }

    pub(crate) fn has_crossed(&self) -> bool {
        self.differences.iter().any(|it| it.crossed)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (which, side) in [("first ", &self.first), ("second", &self.second)] {
            writeln!(
                out,
                "{which}  {} UTC  {}  run {}",
                side.started, side.name, side.run_id
            )?;
        }
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        let mut table = Table::new(&[
            "metric",
            "first",
            "second",
            "change",
            "95 % interval",
            "verdict",
        ]);
        for difference in &self.differences {
            table.push(difference.cells());
        }
        write!(out, "\n{}", table.render())?;
        let told = || self.differences.iter().filter(|it| it.interval.is_some());
        if told().any(|it| it.repetitions.0 < 2 || it.repetitions.1 < 2) {
            writeln!(
                out,
                "\nOne run each: the intervals hold what varies within a run, not what varies from run to run. Compare\n\
                 repetitions (RUN,RUN,… RUN,RUN,…), taken in turns, before you believe a small difference."
            )?;
        }
        if told().count() > 1 {
            writeln!(
                out,
                "Each interval misses the truth in 1 of 20 comparisons: of many metrics without a difference, some show one."
            )?;
        }
        if let Some(limit) = self.max_regression_percent {
            let crossed: Vec<_> = self.differences.iter().filter(|it| it.crossed).collect();
            for it in &crossed {
                writeln!(out, "REGRESSION  {} by more than {limit} %", it.title())?;
            }
            for it in &self.unknown {
                writeln!(out, "UNKNOWN  {}: {}", it.title(), it.why())?;
            }
            if crossed.is_empty() {
                writeln!(out, "no metric is known to be worse by more than {limit} %")?;
            }
        }
        Ok(())
    }
}

impl Comparison {
    /// Title, value and its unit of what is worse by more than is allowed.
    pub(crate) fn regressions(&self) -> impl Iterator<Item = (String, f64, &str)> {
        let crossed = self.differences.iter().filter(|it| it.crossed);
        crossed.map(|it| (it.title(), it.second, unit_of_values(&it.metric, &it.unit)))
    }
}

impl Difference {
    fn title(&self) -> String {
        titled(&self.metric, &self.labels)
    }

    fn cells(&self) -> Vec<String> {
        let change = match self.percent {
            Some(percent) => format!("{percent:+.2} %"),
            None if self.first == self.second => "0 %".to_owned(),
            None => format!("from nothing to {}", shown(self.second, &self.unit)),
        };
        vec![
            self.title(),
            shown(self.first, &self.unit),
            shown(self.second, &self.unit),
            change,
            self.interval_text(),
            self.verdict_text(),
        ]
    }

    /// In percent of the first, as the change is.
    fn interval_text(&self) -> String {
        let Some((from, to)) = self.interval else {
            return "unknown".to_owned();
        };
        if self.first == 0.0 {
            return format!("{} .. {}", number(from), number(to));
        }
        let percent = |it: f64| it / self.first.abs() * 100.0;
        format!("{:+.2} .. {:+.2} %", percent(from), percent(to))
    }

    fn verdict_text(&self) -> String {
        let text = match self.verdict {
            Verdict::Equal => "equal",
            Verdict::NotShown => "no difference shown",
            Verdict::Better => "second is better",
            Verdict::Worse => "second is WORSE",
            Verdict::Higher => "second is higher",
            Verdict::Lower => "second is lower",
            Verdict::Unknown => {
                return format!("cannot be told: {}", self.unknown.unwrap_or_default());
            }
        };
        text.to_owned()
    }
}

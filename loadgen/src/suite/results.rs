//! What a test has given: figures, windows, verdicts, and what happened when.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::model::Better;
use super::monitor::{Key, Points, Resource, unit, unit_in_window};
use super::variables::Variant;
use crate::otlp::progress::Progress;
use crate::record::{Record, unit_of_values};

/// One test in one variant, once.
#[derive(Debug, Clone)]
pub(crate) struct TestResult {
    pub(crate) test: String,
    pub(crate) variant: Variant,
    /// Counted from 1.
    pub(crate) repetition: u32,
    pub(crate) status: Status,
    /// Seconds since the run began.
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) loads: Vec<LoadResult>,
    pub(crate) windows: Vec<WindowResult>,
    pub(crate) assertions: Vec<Assertion>,
    pub(crate) metrics: Vec<OwnMetric>,
    pub(crate) tables: Vec<Answer>,
    pub(crate) events: Vec<Event>,
    pub(crate) series: BTreeMap<Key, Points>,
    /// Configurations as rendered, and command lines, by component.
    pub(crate) inputs: Vec<(String, String)>,
    pub(crate) notes: Vec<String>,
    pub(crate) steps: Vec<StepResult>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Passed,
    /// It ran, and something that was to hold did not.
    Crossed,
    /// It ran, and whether all that was to hold did, nobody knows.
    Unknown,
    Failed(String),
    Interrupted,
}

impl Status {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Crossed => "limit crossed",
            Self::Unknown => "unknown",
            Self::Failed(_) => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What one load step has reported.
#[derive(Debug, Clone)]
pub(crate) struct LoadResult {
    pub(crate) label: String,
    /// By name; over all labels where that makes sense.
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) record: Option<Record>,
    /// It says how many items it has sent; of others, counters must.
    pub(crate) counts_items: bool,
    /// Why nobody knows what it has sent, when it ended, and how, if it should have said so.
    pub(crate) unknown: Option<String>,
    /// What it had sent when it last said so; more than that is unknown where its record is.
    pub(crate) progress: Option<Progress>,
    /// When it sent its first request, as far as it tells, or was started; seconds since the run began.
    pub(crate) began: f64,
    /// A limit of its own was crossed, and it may not fail.
    pub(crate) has_crossed: bool,
}

impl LoadResult {
    /// How long it was sending, as far as its figures tell.
    pub(crate) fn seconds(&self) -> Option<f64> {
        let figure = |name: &str| self.figures.get(name).copied().filter(|it| *it > 0.0);
        figure("wall_seconds").or_else(|| self.measured())
    }

    /// From the beginning of its first window to the end of its last.
    fn measured(&self) -> Option<f64> {
        let windows = &self.record.as_ref()?.windows;
        let from = windows.iter().map(|it| it.from).reduce(f64::min)?;
        let to = windows.iter().map(|it| it.to).reduce(f64::max)?;
        Some(to - from)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct WindowResult {
    pub(crate) name: String,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) resources: Vec<Resource>,
}

#[derive(Debug, Clone)]
pub(crate) struct Assertion {
    pub(crate) expression: String,
    /// The value of its left side, where that is a number.
    pub(crate) value: Option<f64>,
    /// Of the value, as in a [`ThresholdResult`](crate::record::ThresholdResult).
    pub(crate) unit: String,
    pub(crate) passed: bool,
    /// Why it could not be evaluated.
    pub(crate) problem: Option<String>,
    /// It asks for what is not known.
    pub(crate) unknown: bool,
}

/// A figure that a step `metric` has made.
#[derive(Debug, Clone)]
pub(crate) struct OwnMetric {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) better: Better,
}

/// What a step `query` has been answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) title: String,
    /// The first has the names of the columns.
    pub(crate) rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: f64,
    pub(crate) name: String,
    pub(crate) detail: String,
}

/// A step as the test report shows it.
#[derive(Debug, Clone)]
pub(crate) struct StepResult {
    pub(crate) name: String,
    /// 0 for a test's own steps, more for hooks.
    pub(crate) depth: usize,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) problem: Option<String>,
}

impl TestResult {
    pub(crate) fn new(test: String, variant: Variant, repetition: u32, from: f64) -> Self {
        Self {
            test,
            variant,
            repetition,
            status: Status::Passed,
            from,
            to: from,
            ledger: None,
            loads: Vec::new(),
            windows: Vec::new(),
            assertions: Vec::new(),
            metrics: Vec::new(),
            tables: Vec::new(),
            events: Vec::new(),
            series: BTreeMap::new(),
            inputs: Vec::new(),
            notes: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Says it once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The unit of what an expression asks for by `name`, such as `load.main.latency_p99`; empty where that is a plain
    /// number, nobody knows, or it is more than a name.
    pub(crate) fn unit_of(&self, name: &str) -> &str {
        let parts: Vec<_> = name.split('.').collect();
        match parts.as_slice() {
            ["ledger", field] => Ledger::unit(field),
            ["load", label, figure] => self.unit_of_load(label, figure),
            ["window", _, "seconds"] => "s",
            ["window", _, _, metric, figure] => unit_in_window(metric, figure),
            ["metric", _, metric] => unit(metric),
            _ => "",
        }
    }

    fn unit_of_load(&self, label: &str, figure: &str) -> &str {
        let load = self.loads.iter().rev().find(|it| it.label == label);
        let record = load.and_then(|load| load.record.as_ref());
        let mut metrics = record.into_iter().flat_map(|record| &record.metrics);
        let found = metrics.find(|it| it.name == figure);
        found.map_or("", |it| unit_of_values(&it.name, &it.unit))
    }

    /// When an event of this name was recorded last.
    pub(crate) fn event_at(&self, name: &str) -> Option<f64> {
        let found = self.events.iter().rev().find(|event| event.name == name);
        found.map(|event| event.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::figures::SHARE;
    use crate::record::{Better, Metric};

    #[test]
    fn names_have_the_unit_of_what_they_ask_for() {
        let mut record = crate::record::tests::record();
        let errors = Metric::new("error_rate", "", Better::Lower).value(0.5);
        record.metrics.push(errors);
        let mut result = TestResult::new("t".to_owned(), Variant::new(), 1, 0.0);
        result.loads.push(LoadResult {
            label: "main".to_owned(),
            figures: BTreeMap::new(),
            record: Some(record),
            counts_items: true,
            unknown: None,
            progress: None,
            began: 0.0,
            has_crossed: false,
        });
        let check =
            |name: &str, expected: &str| assert_eq!(result.unit_of(name), expected, "{name}");
        check("load.main.latency_p99", "ms");
        check("load.main.error_rate", SHARE);
        check("load.main.items_refused", "");
        check("load.other.latency_p99", "");
        check("ledger.lost", "");
        check("ledger.lost_percent", "%");
        check("window.w.agent.rss.max", "bytes");
        check("window.w.agent.cpu.avg", "cores");
        check("window.w.agent.cpu.delta", "s");
        check("window.w.agent.disk_read.avg", "bytes/s");
        check("window.w.agent.disk_read.delta", "bytes");
        check("window.w.seconds", "s");
        check("metric.agent.rss", "bytes");
        check("load.main.latency_p99 - 5", "");
    }
}

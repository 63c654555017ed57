//! The result of any measuring run: what ran, where, and every figure; written as JSON and read back.

mod csv;
mod environment;
pub(crate) mod figures;
mod html;
mod input;
mod output;
mod sampler;
mod timeline;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::count::Count;
use crate::stats::Latencies;
use crate::text::utc_time;
#[cfg(test)]
pub(crate) use environment::Disturbance;
pub(crate) use environment::{Counters, Environment};
pub(crate) use input::Input;
pub(crate) use output::{Output, check_writable};
pub(crate) use sampler::Sampler;
pub(crate) use timeline::Timeline;

/// Version of the JSON; raised when a reader of the old one would misread the new one.
const SCHEMA: u32 = 1;
/// A longer file is no record: the bounded series of a run take a few megabytes.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Points kept of one series: one hour of seconds, and more than a screen has columns.
pub(crate) const POINTS_MAX: usize = 3_600;

/// Metrics that are shares from 0 to 1, beside those whose names end in `_rate`.
const SHARES: [&str; 2] = ["checks", "dropped"];

/// How late the generator's own clock was.
pub(crate) const LATENESS: &str = "lateness";

/// Names of the figures of a distribution, such as `latency_p99`, as [`Record::add_latencies`] has them.
pub(crate) fn latency_figures(name: &str) -> [String; 8] {
    ["avg", "min", "p50", "p90", "p95", "p99", "p999", "max"].map(|it| format!("{name}_{it}"))
}

/// What kind of run it was; only runs of one kind can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Http,
    Otlp,
    Suite,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Otlp => "otlp",
            Self::Suite => "suite",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// One finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) run_id: String,
    pub(crate) kind: Kind,
    /// The scenario, suite or endpoint.
    pub(crate) name: String,
    pub(crate) started_unix_ms: i64,
    /// The same in UTC, for people.
    pub(crate) started: String,
    /// From the start until the record was made.
    pub(crate) seconds: f64,
    pub(crate) environment: Environment,
    pub(crate) inputs: Vec<Input>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) distributions: Vec<Distribution>,
    pub(crate) series: Vec<Series>,
    pub(crate) windows: Vec<Window>,
    pub(crate) events: Vec<Event>,
    pub(crate) thresholds: Vec<ThresholdResult>,
    /// Of a suite: what became of every item in each test, variant and repetition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ledgers: Vec<Ledger>,
    /// The rates that a search for a breakpoint tried, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) trials: Vec<Trial>,
    /// Everything that was to hold did hold.
    pub(crate) passed: bool,
    pub(crate) interrupted: bool,
    /// Why it cannot be said whether everything held: something else was measured than was to be, or not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_verdict: Option<String>,
    /// What the reader must know, such as that the generator was the bottleneck.
    pub(crate) notes: Vec<String>,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// Which way a metric is meant to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
    Neither,
}

/// A figure of the run; one value for each repetition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metric {
    /// Lower snake case without the unit: `latency_p99`.
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: Labels,
    /// `ms`, `s`, `bytes`, `1/s`, or empty for a plain number.
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) values: Vec<f64>,
    /// Values that are no further apart may be the same: CPU time is counted in steps. 0 where it is measured finely.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) resolution: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(resolution: &f64) -> bool {
    *resolution == 0.0
}

/// A histogram that can be merged with others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: Labels,
    pub(crate) unit: String,
    /// (highest value, how many), lowest first; empty buckets are left out.
    pub(crate) buckets: Vec<(u64, u64)>,
}

/// A figure over the time of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: Labels,
    pub(crate) unit: String,
    /// (seconds since the start, value), [`POINTS_MAX`] at most.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A part of the run that figures belong to; seconds since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) name: String,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// Something that happened, `at` seconds after the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) at: f64,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) detail: String,
}

/// What was to hold, and whether it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThresholdResult {
    pub(crate) expression: String,
    /// What was measured; absent when there was nothing to measure.
    pub(crate) value: Option<f64>,
    /// Of the value: a unit as metrics have it, or [`SHARE`](figures::SHARE); empty for a plain number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) unit: String,
    pub(crate) passed: bool,
    /// Why nobody knows whether it held; empty where that is known. It has not passed then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
}

impl ThresholdResult {
    /// The value as people read it.
    pub(crate) fn measured(&self) -> String {
        match self.value {
            Some(value) => figures::shown(value, &self.unit),
            None if self.why.is_empty() => "nothing".to_owned(),
            None => "unknown".to_owned(),
        }
    }

    /// Whether it held, as people read it.
    pub(crate) fn verdict(&self) -> String {
        match (self.passed, self.why.as_str()) {
            (true, _) => "held".to_owned(),
            (false, "") => "crossed".to_owned(),
            (false, why) => format!("unknown: {why}"),
        }
    }
}

/// What became of the items of a test, as [`Record::ledgers`] has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// As its metrics have them: test and variant.
    pub(crate) labels: Labels,
    pub(crate) repetition: u32,
    /// The pipeline was given the time to deliver.
    pub(crate) drained: bool,
    pub(crate) seconds: f64,
    /// `null` where it is not known.
    pub(crate) items: BTreeMap<String, Option<u64>>,
    /// What is known of those, all the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) bounds: BTreeMap<String, Bounds>,
    /// Why they are not known: what could not be asked, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unknown: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    pub(crate) at_least: u64,
    pub(crate) at_most: Option<u64>,
}

impl Ledger {
    /// What is known of how many, as the report of the run had it; `None` of what older records do not have.
    pub(crate) fn count(&self, name: &str) -> Option<Count> {
        let known = self.items.get(name)?.map(Count::of);
        let bounds = || {
            self.bounds.get(name).map(|it| Count {
                at_least: it.at_least,
                at_most: it.at_most,
            })
        };
        Some(known.or_else(bounds).unwrap_or_else(|| Count::at_least(0)))
    }
}

/// A rate that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// Iterations due in a second.
    pub(crate) rate: f64,
    pub(crate) result: TrialResult,
    /// The thresholds that were crossed, or why there is no verdict.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrialResult {
    Held,
    Crossed,
    NoVerdict,
}

impl TrialResult {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Crossed => "crossed",
            Self::NoVerdict => "no verdict",
        }
    }
}

/// The moment a run starts: take it before the first work, and make the [`Record`] from it after the last.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    time: SystemTime,
    instant: Instant,
    environment: Environment,
    counters: Counters,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self {
            environment: Environment::read(),
            counters: Counters::read(),
            time: SystemTime::now(),
            instant: Instant::now(),
        }
    }

    /// What the seconds of series, windows and events count from.
    pub(crate) fn instant(&self) -> Instant {
        self.instant
    }
}

impl Record {
    /// The record of a run that ends now, with its environment and command line and without figures.
    pub(crate) fn new(kind: Kind, name: impl Into<String>, start: &Start) -> Self {
        let since = start.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_unix_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Self {
            schema: SCHEMA,
            run_id: format!("{:032x}", rand::random::<u128>()),
            kind,
            name: name.into(),
            started_unix_ms,
            started: utc_time(started_unix_ms),
            seconds: start.instant.elapsed().as_secs_f64(),
            environment: start.environment.clone().disturbed_since(&start.counters),
            inputs: vec![Input::command_line()],
            metrics: Vec::new(),
            distributions: Vec::new(),
            series: Vec::new(),
            windows: Vec::new(),
            events: Vec::new(),
            thresholds: Vec::new(),
            ledgers: Vec::new(),
            trials: Vec::new(),
            passed: true,
            interrupted: false,
            no_verdict: None,
            notes: Vec::new(),
        }
    }

    /// Adds a histogram of latencies as distribution `name` and its figures as metrics `name_p99` and so
    /// on; nothing when it is empty. `lateness` is the generator's own, and says nothing for or against what was measured.
    pub(crate) fn add_latencies(&mut self, name: &str, labels: &Labels, latencies: &Latencies) {
        let summary = latencies.summary();
        if summary.count == 0 {
            return;
        }
        let better = match name {
            LATENESS => Better::Neither,
            _ => Better::Lower,
        };
        let values = [
            summary.avg,
            summary.min,
            summary.p50,
            summary.p90,
            summary.p95,
            summary.p99,
            summary.p999,
            summary.max,
        ];
        for (figure, value) in latency_figures(name).into_iter().zip(values) {
            let metric = Metric::new(figure, "ms", better);
            self.metrics.push(metric.labels(labels).value(value));
        }
        self.distributions.push(Distribution {
            name: name.to_owned(),
            labels: labels.clone(),
            unit: "ns".to_owned(),
            buckets: latencies.buckets(),
        });
    }

    /// Takes in another repetition of the same run: each metric has the values of all, histograms are merged, series
    /// follow on each other.
    pub(crate) fn absorb(&mut self, other: Self) {
        for metric in other.metrics {
            let mut own = self.metrics.iter_mut();
            match own.find(|it| it.name == metric.name && it.labels == metric.labels) {
                Some(found) => found.values.extend(metric.values),
                None => self.metrics.push(metric),
            }
        }
        for distribution in other.distributions {
            let mut own = self.distributions.iter_mut();
            match own.find(|it| it.name == distribution.name && it.labels == distribution.labels) {
                Some(found) => found.merge(&distribution),
                None => self.distributions.push(distribution),
            }
        }
        for series in other.series {
            let mut own = self.series.iter_mut();
            match own.find(|it| it.name == series.name && it.labels == series.labels) {
                Some(found) => found.extend(series.points),
                None => self.series.push(series),
            }
        }
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.windows.extend(other.windows);
        self.events.extend(other.events);
        self.thresholds.extend(other.thresholds);
        self.ledgers.extend(other.ledgers);
        self.trials.extend(other.trials);
        self.seconds = other.seconds;
        self.environment.disturbed = other.environment.disturbed;
        self.passed &= other.passed;
        self.interrupted |= other.interrupted;
        self.no_verdict = self.no_verdict.take().or(other.no_verdict);
    }

    /// Reads a record back from JSON.
    ///
    /// # Errors
    /// When the file cannot be read, is no record, or was written by a newer loadgen.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut text = String::new();
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no record", path.display()))
    }

    /// # Errors
    /// When the text is no record, or one of a newer loadgen.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_str(text)?;
        ensure!(
            schema == SCHEMA,
            "it has schema {schema}, and this loadgen reads {SCHEMA}"
        );
        Ok(serde_json::from_str(text)?)
    }

    /// What came of it, in a word or two.
    pub(crate) fn verdict(&self) -> &'static str {
        verdict(self.passed, self.interrupted, self.no_verdict.is_some())
    }

    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Metric {
    pub(crate) fn new(name: impl Into<String>, unit: &str, better: Better) -> Self {
        Self {
            name: name.into(),
            labels: Labels::new(),
            unit: unit.to_owned(),
            better,
            values: Vec::new(),
            resolution: 0.0,
        }
    }

    /// With values that are no further apart taken for the same.
    pub(crate) fn resolution(mut self, resolution: f64) -> Self {
        self.resolution = resolution;
        self
    }

    pub(crate) fn labels(mut self, labels: &Labels) -> Self {
        self.labels.extend(labels.clone());
        self
    }

    /// Its values as people read them: shares in percent.
    pub(crate) fn shown(&self, value: f64) -> String {
        figures::shown(value, unit_of_values(&self.name, &self.unit))
    }

    /// Adds the value of one repetition. What is no number (a share of nothing) is left out: JSON has none.
    pub(crate) fn value(mut self, value: f64) -> Self {
        if value.is_finite() {
            self.values.push(value);
        }
        self
    }
}

impl Distribution {
    fn merge(&mut self, other: &Self) {
        let mut counts: BTreeMap<u64, u64> = self.buckets.iter().copied().collect();
        for (value, count) in &other.buckets {
            *counts.entry(*value).or_default() += count;
        }
        self.buckets = counts.into_iter().collect();
    }

    /// How many values it holds.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl Series {
    /// Adds later points; each two become one where there would be more than [`POINTS_MAX`].
    fn extend(&mut self, points: Vec<(f64, f64)>) {
        self.points.extend(points);
        while self.points.len() > POINTS_MAX {
            self.points = sampler::thinned(&self.points);
        }
    }
}

/// What came of a run, in a word or two.
pub(crate) fn verdict(passed: bool, interrupted: bool, has_none: bool) -> &'static str {
    match (passed, interrupted, has_none) {
        (_, true, _) => "interrupted",
        (true, ..) => "passed",
        (false, _, true) => "no verdict",
        (false, _, false) => "failed",
    }
}

/// The unit of a metric, or that it is a share, which its name tells.
pub(crate) fn unit_of_values<'u>(name: &str, unit: &'u str) -> &'u str {
    let is_share = name.ends_with("_rate") || SHARES.contains(&name);
    match is_share && unit.is_empty() {
        true => figures::SHARE,
        false => unit,
    }
}

/// A name with its labels as people read it: `latency_p99{endpoint="a"}`.
pub(crate) fn titled(name: &str, labels: &Labels) -> String {
    if labels.is_empty() {
        return name.to_owned();
    }
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}=\"{value}\""))
        .collect();
    format!("{name}{{{}}}", labels.join(","))
}

#[cfg(test)]
pub(crate) mod tests;

//! Load that a step runs: a process of loadgen, or any command, and the record it writes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::child::{Running, Spec, describe};
use super::model::ExecutionKind;
use super::results::LoadResult;
use crate::cli::{EXIT_FAILED, EXIT_LIMIT_CROSSED};
use crate::otlp::progress::Progress;
use crate::record::Record;
use crate::text::grouped;

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct LoadSpec {
    pub(crate) label: String,
    pub(crate) component: String,
    pub(crate) kind: ExecutionKind,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) folder: PathBuf,
    pub(crate) cores: Vec<usize>,
    pub(crate) mark: String,
    pub(crate) may_fail: bool,
    /// Which load of this test it is, counted from 1.
    pub(crate) number: usize,
    /// When it is started, in seconds since the run began.
    pub(crate) started: f64,
}

/// Load under way.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) label: String,
    pub(crate) component: String,
    pub(crate) command_line: String,
    pub(crate) running: Running,
    /// Seconds since the run began.
    pub(crate) started: f64,
    /// When it was seen to have ended.
    pub(crate) ended: Option<f64>,
    /// The observation window that lasts as long as it does, where its step does not.
    pub(crate) window: Option<String>,
    counts_items: bool,
    /// Where it writes its record, if it writes one.
    record: Option<PathBuf>,
    /// Where it says how far it has come, if it does.
    progress: Option<PathBuf>,
    may_fail: bool,
}

impl Load {
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(spec: LoadSpec) -> anyhow::Result<Self> {
        let name = format!("load-{}-{}", spec.number, spec.label);
        let own = std::env::current_exe()?.display().to_string();
        let record = spec.folder.join(format!("{name}.json"));
        let written = ["--record".to_owned(), record.display().to_string()];
        let counts_items = spec.kind == ExecutionKind::Otlp;
        let progress = counts_items.then(|| record.with_extension("progress.json"));
        let (command, record) = match spec.kind {
            ExecutionKind::Command => (spec.arguments, None),
            ExecutionKind::Otlp | ExecutionKind::Http => {
                let kind = match spec.kind {
                    ExecutionKind::Http => "http",
                    _ => "otlp",
                };
                let mut command = vec![own, kind.to_owned()];
                command.extend(spec.arguments);
                command.extend(written);
                if let Some(path) = &progress {
                    command.extend(["--progress".to_owned(), path.display().to_string()]);
                }
                (command, Some(record))
            }
        };
        let child = Spec {
            name,
            command,
            environment: spec.environment,
            folder: spec.folder,
            cores: spec.cores,
            mark: spec.mark,
            output: None,
        };
        Ok(Self {
            label: spec.label,
            component: spec.component,
            command_line: child.command_line(),
            running: Running::start(&child)?,
            started: spec.started,
            ended: None,
            window: None,
            counts_items,
            record,
            progress,
            may_fail: spec.may_fail,
        })
    }

    /// What it has to say, once it has ended.
    ///
    /// # Errors
    /// When it failed, and may not, or its record cannot be read.
    pub(crate) fn result(&mut self) -> anyhow::Result<LoadResult> {
        let label = &self.label;
        let status = self.running.ended()?;
        let status = status.with_context(|| format!("{label} is under way"))?;
        let record = match &self.record {
            Some(path) if path.exists() => Some(Record::read(path)?),
            _ => None,
        };
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let is_good = match code {
            Some(0 | EXIT_LIMIT_CROSSED) => true,
            Some(EXIT_FAILED) => self.may_fail,
            _ => false,
        };
        if !is_good || (self.record.is_some() && record.is_none() && !self.may_fail) {
            let status = describe(status);
            bail!(
                "load {label} failed ({status}):\n{}",
                self.running.log_end()
            );
        }
        Ok(LoadResult {
            has_crossed: code == Some(EXIT_LIMIT_CROSSED) && !self.may_fail,
            ..self.of(record)
        })
    }

    /// What it has written, whatever became of it.
    pub(crate) fn salvage(&mut self) -> LoadResult {
        let record = self.record.as_ref();
        let record = record.and_then(|path| Record::read(path).ok());
        self.of(record)
    }

    fn of(&mut self, record: Option<Record>) -> LoadResult {
        let is_silent = self.record.is_some() && record.is_none();
        let progress = self.progress.as_deref().filter(|_| is_silent);
        let progress = progress.and_then(Progress::read);
        let unknown = is_silent.then(|| self.silence(progress));
        let mut result = LoadResult {
            label: self.label.clone(),
            figures: record.as_ref().map(figures).unwrap_or_default(),
            record,
            counts_items: self.counts_items,
            unknown,
            progress,
            began: self.started,
            has_crossed: false,
        };
        if let (Some(ended), Some(seconds)) = (self.ended, result.seconds()) {
            result.began = self.started.max(ended - seconds);
        }
        result
    }

    /// What is to be said of one that has left no record.
    fn silence(&mut self, progress: Option<Progress>) -> String {
        let status = self.running.ended().ok().flatten();
        let status = status.map_or_else(|| "nobody knows how".to_owned(), describe);
        let at = self.ended.map(|at| format!(" at {at:.2} s"));
        let known = match progress {
            Some(Progress { sent, accepted, .. }) if sent > 0 => format!(
                "when it last said so, it had sent {} items, of which {} were accepted; nobody knows what it sent after \
                 that",
                grouped(sent),
                grouped(accepted)
            ),
            _ => "nobody knows what it has sent, and what was accepted".to_owned(),
        };
        format!(
            "load {} ended{} ({status}) and left no record: {known}",
            self.label,
            at.unwrap_or_default()
        )
    }
}

/// Metrics by name. Counts are summed over their labels, endpoints being parts of scenarios; of anything else the one
/// without labels, or the first, counts.
fn figures(record: &Record) -> BTreeMap<String, f64> {
    let mut figures: BTreeMap<String, f64> = BTreeMap::new();
    for metric in &record.metrics {
        let Some(value) = metric.values.last().copied() else {
            continue;
        };
        if metric.labels.contains_key("endpoint") {
            continue;
        }
        let counts = ["items_", "requests", "errors"];
        let is_count = counts.iter().any(|it| metric.name.starts_with(it));
        let is_count = is_count && metric.unit.is_empty();
        match figures.get_mut(&metric.name) {
            Some(sum) if is_count => *sum += value,
            Some(known) if metric.labels.is_empty() => *known = value,
            Some(_) => {}
            None => drop(figures.insert(metric.name.clone(), value)),
        }
    }
    // Asked for even where nothing was refused or failed.
    for name in ["items_refused", "items_failed", "items_rejected"] {
        figures.entry(name.to_owned()).or_insert(0.0);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{labels, record};
    use crate::record::{Better, Metric};

    #[test]
    fn counts_of_scenarios_are_summed_and_their_endpoints_are_in_them() {
        let mut record = record();
        let mut push = |pairs: &[(&str, &str)], value: f64| {
            let metric = Metric::new("requests", "", Better::Neither);
            record
                .metrics
                .push(metric.labels(&labels(pairs)).value(value));
        };
        push(&[("scenario", "a")], 5.0);
        push(&[("scenario", "a"), ("endpoint", "x")], 2.0);
        push(&[("scenario", "a"), ("endpoint", "y")], 3.0);
        push(&[("scenario", "b")], 7.0);
        let figures = figures(&record);
        assert_eq!(figures.get("requests"), Some(&12.0));
        assert_eq!(figures.get("items_refused"), Some(&7.0));
        assert_eq!(figures.get("items_failed"), Some(&0.0));
    }
}

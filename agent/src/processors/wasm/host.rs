//! What the agent offers to a guest: log, metrics, files. It is bounded whatever the guest does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bindings::tidegate::plugin::{host, types};
use super::bindings::{Level, MetricKind};
use super::call::Call;
use super::guest_log::GuestLog;
use super::guest_metrics::GuestMetrics;
use super::limits::Limits;
use super::wasi::Grants;

/// Everything that belongs to one instance on the agent's side.
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) call: Call,
    pub(super) grants: Grants,
    pub(super) shared: Arc<Shared>,
    /// What the guest wrote to its standard error last, such as why it panicked.
    pub(super) last_words: String,
}

/// What the instances of a plugin in a pipeline have in common, one after the other.
pub(super) struct Shared {
    pub(super) log: GuestLog,
    pub(super) metrics: GuestMetrics,
    pub(super) files: Arc<BTreeMap<String, Vec<u8>>>,
}

impl State {
    /// Logs what the guest wrote to its standard error in a call that went well.
    pub(super) fn log_last_words(&mut self) {
        if self.last_words.is_empty() {
            return;
        }
        let said = std::mem::take(&mut self.last_words);
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            self.shared.log.line(Level::Warn, line);
        }
    }
}

impl types::Host for State {}

impl host::Host for State {
    fn log(&mut self, level: Level, message: String) {
        self.shared.log.line(level, &message);
    }

    fn metric(&mut self, kind: MetricKind, name: String, label: String) -> u32 {
        self.shared.metrics.number(kind, &name, &label)
    }

    fn record(&mut self, metric: u32, value: f64) {
        self.shared.metrics.record(metric, value);
    }

    fn file(&mut self, name: String) -> Option<Vec<u8>> {
        self.shared.files.get(&name).cloned()
    }
}

//! What is to run, and how it differs from what runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::component::{ExporterSettings, ProcessorSettings, ReceiverSettings};
use crate::fingerprint::Fingerprints;
use crate::signal::{PerSignal, Signal};

/// One pipeline's shape: ids in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `traces` or `traces/name`.
    pub id: String,
    /// What flows through it.
    pub signal: Signal,
    /// Ids of receivers.
    pub receivers: Vec<String>,
    /// Ids of processors, in order.
    pub processors: Vec<String>,
    /// Ids of exporters.
    pub exporters: Vec<String>,
}

/// What is to run. Every id that a pipeline names is in the maps.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Receivers by id.
    pub receivers: BTreeMap<&'a str, &'a dyn ReceiverSettings>,
    /// Processors by id.
    pub processors: BTreeMap<&'a str, &'a dyn ProcessorSettings>,
    /// Exporters by id.
    pub exporters: BTreeMap<&'a str, &'a dyn ExporterSettings>,
    /// The pipelines.
    pub pipelines: &'a [Node],
    /// The most bytes of telemetry to hold.
    pub held_max: usize,
    /// What the files hold that components read.
    pub files: &'a Fingerprints,
}

/// What a new plan does to a component or a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// There was none of this name.
    Started,
    /// It is built anew.
    Changed,
    /// It runs on with its state.
    Kept,
    /// It ends.
    Removed,
}

impl Plan<'_> {
    /// What becomes of a receiver when this plan takes the place of `old`.
    pub fn receiver(&self, old: &Plan<'_>, id: &str) -> Change {
        let (before, now) = (old.receivers.get(id), self.receivers.get(id));
        change(before, now, |before, now| {
            before.is_same(now.as_any())
                && self.same_files(old, now.files())
                && old.wired(id) == self.wired(id)
        })
    }

    /// What becomes of a processor. Kept are those instances whose pipelines are.
    pub fn processor(&self, old: &Plan<'_>, id: &str) -> Change {
        let (before, now) = (old.processors.get(id), self.processors.get(id));
        change(before, now, |before, now| {
            before.is_same(now.as_any()) && self.same_files(old, now.files())
        })
    }

    /// What becomes of an exporter.
    pub fn exporter(&self, old: &Plan<'_>, id: &str) -> Change {
        let (before, now) = (old.exporters.get(id), self.exporters.get(id));
        change(before, now, |before, now| {
            before.is_same(now.as_any())
                && self.same_files(old, now.files())
                && old.fed(id) == self.fed(id)
        })
    }

    /// What becomes of a pipeline.
    pub fn pipeline(&self, old: &Plan<'_>, id: &str) -> Change {
        change(old.node(id), self.node(id), |before, now| {
            before == now && self.same_processors(old, now)
        })
    }

    /// The signals that pipelines take from a receiver.
    pub(super) fn wired(&self, receiver: &str) -> PerSignal<bool> {
        PerSignal::from_fn(|signal| {
            let mut nodes = self.pipelines.iter();
            nodes.any(|node| node.signal == signal && has(&node.receivers, receiver))
        })
    }

    /// The signals that pipelines feed an exporter with.
    pub(super) fn fed(&self, exporter: &str) -> Vec<Signal> {
        let wants = |signal: &Signal| {
            let mut nodes = self.pipelines.iter();
            nodes.any(|node| node.signal == *signal && has(&node.exporters, exporter))
        };
        Signal::ALL.into_iter().filter(wants).collect()
    }

    /// Whether the processors of a pipeline are what they were.
    pub(super) fn same_processors(&self, old: &Plan<'_>, node: &Node) -> bool {
        let mut ids = node.processors.iter();
        ids.all(|id| self.processor(old, id) == Change::Kept)
    }

    pub(super) fn node(&self, id: &str) -> Option<&Node> {
        self.pipelines.iter().find(|node| node.id == id)
    }

    fn same_files(&self, old: &Plan<'_>, files: Vec<PathBuf>) -> bool {
        let mut files = files.iter();
        files.all(|file| self.files.of(file) == old.files.of(file))
    }
}

fn has(ids: &[String], id: &str) -> bool {
    ids.iter().any(|found| found == id)
}

fn change<T: Copy>(before: Option<T>, now: Option<T>, same: impl FnOnce(T, T) -> bool) -> Change {
    match (before, now) {
        (None, _) => Change::Started,
        (Some(_), None) => Change::Removed,
        (Some(before), Some(now)) if same(before, now) => Change::Kept,
        _ => Change::Changed,
    }
}

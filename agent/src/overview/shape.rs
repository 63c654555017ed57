//! What runs, as far as figures do not tell: which components, in which order, and what their limits are.

use std::collections::BTreeMap;

use crate::config::Settings;
use crate::pipeline::Node;
use crate::signal::Signal;

/// What a configuration has the agent run.
#[derive(Debug, Default)]
pub struct Shape {
    pub(super) nodes: Vec<Node>,
    /// Of memory limiters by id: bytes above which they refuse.
    pub(super) limits: BTreeMap<String, u64>,
    /// Of exporters by id.
    pub(super) queues: BTreeMap<String, QueueKind>,
}

/// How an exporter queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueKind {
    pub(super) durable: bool,
    /// What its size counts.
    pub(super) unit: &'static str,
}

impl Shape {
    /// Of a configuration.
    pub fn of(settings: &Settings) -> Self {
        let limits = settings.processors.iter().filter_map(|(id, settings)| {
            let limit = settings.memory_limit()?;
            Some((id.clone(), limit))
        });
        let queues = settings.exporters.iter().filter_map(|(id, settings)| {
            let queue = settings.sender()?.queue();
            let kind = QueueKind {
                durable: queue.is_durable(),
                unit: queue.unit(),
            };
            Some((id.clone(), kind))
        });
        Self {
            nodes: settings.pipelines.clone(),
            limits: limits.collect(),
            queues: queues.collect(),
        }
    }

    pub(super) fn receives(&self, id: &str, signal: Signal) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| node.signal == signal && node.receivers.iter().any(|found| found == id))
    }

    /// Processors and the signals they work for, each once, in the order of the pipelines.
    pub(super) fn processors(&self) -> impl Iterator<Item = (&str, Signal)> {
        self.each(|node| &node.processors)
    }

    /// Exporters and the signals they take, each once, in the order of the pipelines.
    pub(super) fn exporters(&self) -> impl Iterator<Item = (&str, Signal)> {
        self.each(|node| &node.exporters)
    }

    fn each(&self, ids: fn(&Node) -> &Vec<String>) -> impl Iterator<Item = (&str, Signal)> {
        let mut seen = Vec::new();
        for node in &self.nodes {
            for id in ids(node) {
                let pair = (id.as_str(), node.signal);
                if !seen.contains(&pair) {
                    seen.push(pair);
                }
            }
        }
        seen.into_iter()
    }
}

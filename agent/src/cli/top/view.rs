//! What happened between two documents: rates, beside what there is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::calendar::UnixNanos;
use crate::overview::{Document, Exporter, Flow, Pipeline, Processor, Queue, Receiver, Reload};

/// Rates are in items, bytes or times a second. They are absent where there is no earlier figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct View {
    /// As in RFC 3339.
    at: String,
    pub(super) agent: AgentRow,
    pub(super) reload: Reload,
    pub(super) pipelines: Vec<FlowRow>,
    pub(super) receivers: Vec<ReceiverRow>,
    pub(super) processors: Vec<ProcessorRow>,
    pub(super) exporters: Vec<ExporterRow>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct AgentRow {
    #[serde(flatten)]
    pub(super) agent: crate::overview::Agent,
    /// Of one processor.
    pub(super) cpu_percent: Option<f64>,
}

/// What a pipeline has on behalf of an exporter.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FlowRow {
    pub(super) pipeline: String,
    pub(super) signal: String,
    /// Whether the pipeline has the exporter now.
    pub(super) current: bool,
    pub(super) accepted_per_second: Option<f64>,
    pub(super) delivered_per_second: Option<f64>,
    pub(super) dropped_per_second: Option<f64>,
    #[serde(flatten)]
    pub(super) flow: Flow,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ReceiverRow {
    pub(super) accepted_per_second: Option<f64>,
    pub(super) refused_per_second: Option<f64>,
    pub(super) bytes_per_second: Option<f64>,
    #[serde(flatten)]
    pub(super) receiver: Receiver,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ProcessorRow {
    pub(super) incoming_per_second: Option<f64>,
    pub(super) outgoing_per_second: Option<f64>,
    #[serde(flatten)]
    pub(super) processor: Processor,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ExporterRow {
    pub(super) sent_per_second: Option<f64>,
    pub(super) bytes_per_second: Option<f64>,
    pub(super) retries_per_second: Option<f64>,
    #[serde(flatten)]
    pub(super) exporter: Exporter,
}

/// Two documents of the same process, or one.
struct Span<'a> {
    before: Option<&'a Document>,
    seconds: f64,
}

impl View {
    /// `before` is looked at if it is of the same process.
    pub(super) fn of(document: &Document, before: Option<&Document>) -> Self {
        let agent = &document.agent;
        let earlier = |before: &&Document| {
            before.agent.pid == agent.pid && before.agent.uptime_seconds <= agent.uptime_seconds
        };
        let before = before.filter(earlier);
        let span = Span {
            // The process's own clock: how long the answers took makes no difference.
            seconds: before.map_or(0.0, |before| {
                agent.uptime_seconds - before.agent.uptime_seconds
            }),
            before,
        };
        let cpu = span.before.map(|before| before.agent.cpu_seconds);
        Self {
            at: UnixNanos::from(std::time::SystemTime::now()).to_string(),
            agent: AgentRow {
                agent: agent.clone(),
                cpu_percent: cpu
                    .filter(|_| span.seconds > 0.0)
                    .map(|cpu| (agent.cpu_seconds - cpu).max(0.0) / span.seconds * 100.0),
            },
            reload: document.reload.clone(),
            pipelines: document
                .pipelines
                .iter()
                .flat_map(|pipeline| span.flows(pipeline))
                .collect(),
            receivers: document
                .receivers
                .iter()
                .map(|row| span.receiver(row))
                .collect(),
            processors: document
                .processors
                .iter()
                .map(|row| span.processor(row))
                .collect(),
            exporters: document
                .exporters
                .iter()
                .map(|row| span.exporter(row))
                .collect(),
        }
    }
}

impl Span<'_> {
    fn rate(&self, now: u64, before: Option<u64>) -> Option<f64> {
        let before = before.filter(|_| self.seconds > 0.0)?;
        Some(now.saturating_sub(before) as f64 / self.seconds)
    }

    fn flows(&self, pipeline: &Pipeline) -> Vec<FlowRow> {
        let before = self.before.and_then(|before| {
            let mut pipelines = before.pipelines.iter();
            pipelines.find(|before| before.id == pipeline.id)
        });
        let rows = pipeline.flows.iter().map(|flow| {
            let before = before.and_then(|before| {
                let mut flows = before.flows.iter();
                flows.find(|before| before.exporter == flow.exporter)
            });
            FlowRow {
                pipeline: pipeline.id.clone(),
                signal: pipeline.signal.clone(),
                current: pipeline.exporters.contains(&flow.exporter),
                accepted_per_second: self.rate(flow.accepted, before.map(|flow| flow.accepted)),
                delivered_per_second: self.rate(flow.delivered, before.map(|flow| flow.delivered)),
                dropped_per_second: self
                    .rate(sum(&flow.dropped), before.map(|flow| sum(&flow.dropped))),
                flow: flow.clone(),
            }
        });
        rows.collect()
    }

    fn receiver(&self, row: &Receiver) -> ReceiverRow {
        let before = self.before.and_then(|before| {
            let mut rows = before.receivers.iter();
            rows.find(|before| {
                (&before.id, &before.transport, &before.signal)
                    == (&row.id, &row.transport, &row.signal)
            })
        });
        let rate = |of: fn(&Receiver) -> u64| self.rate(of(row), before.map(of));
        ReceiverRow {
            accepted_per_second: rate(|row| row.accepted),
            refused_per_second: rate(|row| row.refused),
            bytes_per_second: rate(|row| row.accepted_bytes),
            receiver: row.clone(),
        }
    }

    fn processor(&self, row: &Processor) -> ProcessorRow {
        let before = self.before.and_then(|before| {
            let mut rows = before.processors.iter();
            rows.find(|before| (&before.id, &before.signal) == (&row.id, &row.signal))
        });
        let rate = |of: fn(&Processor) -> u64| self.rate(of(row), before.map(of));
        ProcessorRow {
            incoming_per_second: rate(|row| row.incoming),
            outgoing_per_second: rate(|row| row.outgoing),
            processor: row.clone(),
        }
    }

    fn exporter(&self, row: &Exporter) -> ExporterRow {
        let before = self.before.and_then(|before| {
            let mut rows = before.exporters.iter();
            rows.find(|before| (&before.id, &before.signal) == (&row.id, &row.signal))
        });
        let rate = |of: fn(&Exporter) -> u64| self.rate(of(row), before.map(of));
        ExporterRow {
            sent_per_second: rate(|row| row.sent),
            bytes_per_second: rate(|row| row.sent_bytes),
            retries_per_second: rate(|row| row.retries),
            exporter: row.clone(),
        }
    }
}

/// All reasons together.
pub(super) fn sum(by_reason: &BTreeMap<String, u64>) -> u64 {
    by_reason.values().sum()
}

/// How full a queue is, from 0 to 1.
pub(super) fn fullness(queue: &Queue) -> f64 {
    match queue.capacity {
        0 => 0.0,
        capacity => queue.size as f64 / capacity as f64,
    }
}

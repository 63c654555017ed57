//! What the agent does, in one document: `GET /status` of the admin endpoint, made for `tidegate top` and for scripts.

mod document;
mod shape;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

pub use document::{
    Agent, Document, Exporter, Flow, MemoryLimit, Pipeline, Processor, Queue, Receiver, Reload,
    VERSION,
};
pub use shape::Shape;

use crate::calendar::UnixNanos;
use crate::health::{Health, Phase};
use crate::pipeline::World;
use crate::process;
use crate::signal::Signal;
use crate::telemetry::figures::{Figure, Figures, total};
use crate::telemetry::names;

/// Makes the document.
#[derive(Debug, Clone)]
pub struct Overview {
    world: World,
    health: Health,
    /// When the process began.
    started: Instant,
    /// What runs, as it is configured.
    shape: Arc<ArcSwap<Shape>>,
}

impl Overview {
    /// Of an agent that runs nothing yet.
    pub fn new(world: World, health: Health, started: Instant) -> Self {
        Self {
            world,
            health,
            started,
            shape: Arc::default(),
        }
    }

    /// Notes what runs from now on.
    pub fn show(&self, shape: Shape) {
        self.shape.store(Arc::new(shape));
    }

    /// The pipelines that run, by name.
    pub fn pipelines(&self) -> Vec<String> {
        let shape = self.shape.load();
        shape.nodes.iter().map(|node| node.id.clone()).collect()
    }

    /// The exporters of a pipeline; `None` if there is no such pipeline.
    pub fn exporters_of(&self, pipeline: &str) -> Option<Vec<String>> {
        let shape = self.shape.load();
        let node = shape.nodes.iter().find(|node| node.id == pipeline)?;
        Some(node.exporters.clone())
    }

    /// Everything at one moment. Called on the runtime.
    pub fn document(&self) -> Document {
        let shape = self.shape.load_full();
        let figures = self.world.telemetry.figures();
        Document {
            version: VERSION,
            agent: self.agent(&figures),
            reload: self.reload(&figures),
            pipelines: pipelines(&shape, &figures),
            receivers: receivers(&shape, &figures),
            processors: processors(&shape, &figures),
            exporters: exporters(&shape, &figures),
        }
    }

    fn agent(&self, figures: &Figures) -> Agent {
        let runtime = tokio::runtime::Handle::current().metrics();
        let phase = match self.health.phase() {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Stopping => "stopping",
        };
        Agent {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            phase: phase.to_owned(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            cpu_seconds: process::cpu_seconds(),
            resident_bytes: process::resident_bytes(),
            held_bytes: self.world.held.bytes() as u64,
            tasks: runtime.num_alive_tasks() as u64,
            config_hash: total(figures.of(&names::CONFIG_HASH), &[]),
        }
    }

    fn reload(&self, figures: &Figures) -> Reload {
        let count = |outcome| total(figures.of(&names::RELOADS), &[("outcome", outcome)]);
        let last = self.health.reloaded();
        Reload {
            reloaded: count("reloaded"),
            unchanged: count("unchanged"),
            refused: count("refused"),
            last_outcome: last.as_ref().map(|last| last.outcome.to_owned()),
            last_at: last
                .as_ref()
                .map(|last| UnixNanos::from(last.at).to_string()),
            problems: last.map(|last| last.problems).unwrap_or_default(),
        }
    }
}

fn pipelines(shape: &Shape, figures: &Figures) -> Vec<Pipeline> {
    let nodes = shape.nodes.iter();
    let pipelines = nodes.map(|node| Pipeline {
        id: node.id.clone(),
        signal: node.signal.name().to_owned(),
        receivers: node.receivers.clone(),
        processors: node.processors.clone(),
        exporters: node.exporters.clone(),
        flows: flows(figures, &node.id),
    });
    pipelines.collect()
}

/// All that the ledger has for a pipeline: also for exporters that it had before a reload.
fn flows(figures: &Figures, pipeline: &str) -> Vec<Flow> {
    let accepted = figures.of(&names::LEDGER_ACCEPTED).iter();
    let accepted = accepted.filter(|figure| figure.label("pipeline") == pipeline);
    let flows = accepted.map(|figure| {
        let exporter = figure.label("exporter");
        let labels = [("pipeline", pipeline), ("exporter", exporter)];
        Flow {
            exporter: exporter.to_owned(),
            accepted: figure.count(),
            delivered: total(figures.of(&names::LEDGER_DELIVERED), &labels),
            queued: total(figures.of(&names::LEDGER_QUEUED), &labels),
            dropped: by_reason(figures.of(&names::LEDGER_DROPPED), &labels),
        }
    });
    flows.collect()
}

fn by_reason(figures: &[Figure], labels: &[(&str, &str)]) -> BTreeMap<String, u64> {
    let figures = figures.iter().filter(|figure| figure.has(labels));
    figures
        .map(|figure| (figure.label("reason").to_owned(), figure.count()))
        .collect()
}

/// One row for each receiver, transport and signal that pipelines take from it.
fn receivers(shape: &Shape, figures: &Figures) -> Vec<Receiver> {
    let requests = figures.of(&names::RECEIVER_REQUESTS);
    let mut rows = Vec::new();
    for success in requests
        .iter()
        .filter(|figure| figure.label("outcome") == "success")
    {
        let (id, transport) = (success.label("receiver"), success.label("transport"));
        let Some(signal) = Signal::of_pipeline(success.label("otel_signal")) else {
            continue;
        };
        if !shape.receives(id, signal) {
            continue;
        }
        let pair = [("receiver", id), ("transport", transport)];
        let triple = [pair[0], pair[1], ("otel_signal", signal.name())];
        let outcome = |outcome| {
            total(
                requests,
                &[triple.as_slice(), &[("outcome", outcome)]].concat(),
            )
        };
        rows.push(Receiver {
            id: id.to_owned(),
            transport: transport.to_owned(),
            signal: signal.name().to_owned(),
            accepted: total(figures.items(&names::RECEIVER_ACCEPTED, signal), &pair),
            refused: total(figures.items(&names::RECEIVER_REFUSED, signal), &pair),
            accepted_bytes: total(figures.of(&names::RECEIVER_BYTES), &triple),
            requests: success.count(),
            requests_refused: outcome("refused"),
            requests_failed: outcome("failure"),
        });
    }
    rows
}

fn processors(shape: &Shape, figures: &Figures) -> Vec<Processor> {
    let rows = shape.processors().map(|(id, signal)| {
        let labels = [("processor", id), ("otel_signal", signal.name())];
        Processor {
            id: id.to_owned(),
            signal: signal.name().to_owned(),
            incoming: total(figures.of(&names::PROCESSOR_INCOMING), &labels),
            outgoing: total(figures.of(&names::PROCESSOR_OUTGOING), &labels),
            refused: total(
                figures.items(&names::LIMITER_REFUSED, signal),
                &[("processor", id)],
            ),
            rejected: by_reason(figures.of(&names::PROCESSOR_REJECTED), &labels),
            memory_limit: shape.limits.get(id).map(|soft| MemoryLimit {
                refuses_above_bytes: *soft,
            }),
        }
    });
    rows.collect()
}

fn exporters(shape: &Shape, figures: &Figures) -> Vec<Exporter> {
    let rows = shape.exporters().map(|(id, signal)| {
        let own = [("exporter", id)];
        let data_type = [("exporter", id), ("data_type", signal.name())];
        let labels = [("exporter", id), ("otel_signal", signal.name())];
        let attempts = |outcome| {
            let labels = [labels[0], labels[1], ("outcome", outcome)];
            total(figures.of(&names::EXPORTER_ATTEMPTS), &labels)
        };
        let kind = shape.queues.get(id);
        let durable = kind.is_some_and(|kind| kind.durable);
        let if_durable = |spec| durable.then(|| total(figures.of(spec), &labels));
        Exporter {
            id: id.to_owned(),
            signal: signal.name().to_owned(),
            sent: total(figures.items(&names::EXPORTER_SENT, signal), &own),
            failed: total(figures.items(&names::EXPORTER_FAILED, signal), &own),
            enqueue_failed: total(figures.items(&names::EXPORTER_ENQUEUE_FAILED, signal), &own),
            sent_bytes: total(figures.of(&names::EXPORTER_BYTES), &labels),
            attempts: attempts("success"),
            retries: attempts("retry"),
            in_flight: total(figures.of(&names::EXPORTER_IN_FLIGHT), &data_type),
            dead_letter_items: total(figures.of(&names::DEAD_LETTER_ITEMS), &labels),
            dead_letter_bytes: total(figures.of(&names::DEAD_LETTER_DISK_BYTES), &labels),
            queue: Queue {
                storage: if durable { "wal" } else { "memory" }.to_owned(),
                unit: kind.map_or("requests", |kind| kind.unit).to_owned(),
                items: total(figures.of(&names::LEDGER_QUEUED), &labels),
                size: total(figures.of(&names::EXPORTER_QUEUE_SIZE), &data_type),
                capacity: total(figures.of(&names::EXPORTER_QUEUE_CAPACITY), &data_type),
                disk_bytes: if_durable(&names::QUEUE_DISK_BYTES),
                oldest_age_seconds: if_durable(&names::QUEUE_OLDEST_AGE),
            },
        }
    });
    rows.collect()
}

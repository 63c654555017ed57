//! What every exporter shares: a sending queue, workers, attempts with a timeout, retries, and the counting.

mod failure;
mod letters;
#[cfg(test)]
mod progress_tests;
#[cfg(test)]
mod tests;
mod worker;

use std::time::Duration;

use tokio::sync::watch;

use super::dead_letter::{DeadLetterSettings, Folder};
pub use super::queue::QueueOptions;
use super::queue::{Queue, QueueSettings};
use super::retry::{Patience, RetryOptions, RetrySettings};
use crate::component::{BoxFuture, ComponentError, Exporter, ExporterContext, Sender, Shutdown};
use crate::config::Section;
use crate::progress::{Line, Pulse};
use crate::signal::Signal;
use crate::telemetry::spans::SpanKind;
use crate::telemetry::{Counter, Gauge, names};
use crate::units::HumanDuration;
use letters::Letters;
use worker::Worker;

/// Validated settings of a sender.
#[derive(Debug, Clone, PartialEq)]
pub struct SenderSettings {
    consumers: usize,
    queue: QueueSettings,
    retry: RetrySettings,
    timeout: Option<Duration>,
}

impl SenderSettings {
    /// Validates the three tables that exporters share; problems go to `section`.
    pub fn resolve(
        section: &mut Section<'_>,
        timeout: HumanDuration,
        retry: &RetryOptions,
        queue: &QueueOptions,
    ) -> Self {
        if queue.num_consumers == 0 {
            section.error("sending_queue.num_consumers", "must be at least 1");
        }
        if queue.num_consumers > CONSUMERS_MAX {
            section.error(
                "sending_queue.num_consumers",
                format!("must be at most {CONSUMERS_MAX}"),
            );
        }
        let settings = Self {
            consumers: queue.num_consumers,
            queue: queue.resolve(section),
            retry: retry.resolve(section),
            timeout: (!timeout.0.is_zero()).then_some(timeout.0),
        };
        if settings.queue.is_durable() {
            settings.retry.check_endless(section);
        }
        settings
    }

    /// Workers per signal.
    pub fn workers(&self) -> usize {
        self.consumers
    }

    /// Its queue.
    pub fn queue(&self) -> &QueueSettings {
        &self.queue
    }

    /// Where items go that the destination will never take.
    pub fn dead_letter(&self) -> Option<&DeadLetterSettings> {
        self.queue.dead_letter()
    }

    /// The same, to send dead letters again: one worker that has nothing on disk, and tries for `patience` at most.
    pub fn for_replay(&self, patience: Duration) -> Self {
        Self {
            consumers: 1,
            queue: QueueSettings::for_replay(),
            retry: self.retry.limited(patience),
            timeout: Some(self.timeout.unwrap_or(patience)),
        }
    }

    /// For exporters that neither queue nor retry: one worker, clients wait for it.
    pub fn direct() -> Self {
        let mut found = crate::config::Diagnostics::default();
        let retry = RetryOptions {
            enabled: false,
            ..RetryOptions::default()
        };
        Self {
            retry: Section::empty("exporters", &mut found, |section| retry.resolve(section)),
            consumers: 1,
            queue: QueueSettings::short(DIRECT_QUEUE),
            timeout: None,
        }
    }
}

/// Each worker holds a batch and a connection: more than this is a mistake.
const CONSUMERS_MAX: usize = 1024;
/// Local exporters keep up; a short queue decouples them from receivers.
const DIRECT_QUEUE: usize = 64;

/// Makes the queue and the workers of an exporter for one signal, or takes the queue of the exporter before. Each worker
/// has its own `make()`.
///
/// # Errors
/// When the log of a durable queue or the folder for dead letters cannot be opened.
pub fn spawn<E: Exporter>(
    context: &ExporterContext,
    signal: Signal,
    settings: &SenderSettings,
    mut make: impl FnMut() -> E,
) -> Result<Sender, ComponentError> {
    let (cut, leave) = (context.cut.child(), context.leave.child());
    let (delivered, deliveries) = watch::channel(());
    // First: the folder for dead letters may be in that of the queue.
    let queue = Queue::open(context, signal, &settings.queue)?;
    let (letters, upkeep) = match settings.dead_letter() {
        Some(place) => {
            let (folder, upkeep) = Folder::open(context, signal, place)?;
            let retry = settings.retry.clone();
            let letters = Letters::new(context, signal, folder, retry, (&cut, &leave));
            (Some(letters), Some(upkeep))
        }
        None => (None, None),
    };
    let leftovers = queue.leftovers(context, signal);
    // What is left over goes out beside the rest, by one worker each.
    let queues = std::iter::repeat_n(&queue, settings.consumers).chain(&leftovers);
    let line = line(context, signal, &queue);
    let waiting = queues.map(|queue| {
        let worker = Worker {
            exporter: make(),
            id: context.id.clone(),
            signal,
            queue: queue.clone(),
            letters: letters.clone(),
            settings: settings.clone(),
            cut: cut.clone(),
            leave: leave.clone(),
            delivered: delivered.clone(),
            metrics: Metrics::register(context, signal),
            status: context.status[signal].clone(),
            taps: context.taps.clone(),
            patience: settings.timeout.map(Patience::new),
            begun: false,
            failing: false,
            line: line.clone(),
            pulse: Pulse::unwatched(),
        };
        Box::pin(worker.run()) as BoxFuture<'static, ()>
    });
    Ok(Sender {
        exporter: context.id.clone(),
        signal,
        waiting: waiting.collect(),
        queue,
        settings: settings.queue.clone(),
        leftovers,
        workers: upkeep.into_iter().collect(),
        status: context.status[signal].clone(),
        leave,
        cut,
        ended: Shutdown::default(),
        deliveries,
    })
}

/// Where the workers say what they do.
fn line(context: &ExporterContext, signal: Signal, queue: &Queue) -> Line {
    let queue = queue.clone();
    let name = format!("exporters.{} {signal}", context.id);
    context.progress.line(name, move || queue.has_waiting())
}

struct Metrics {
    sent: Counter,
    failed: Counter,
    in_flight: Gauge,
    attempts_ok: Counter,
    attempts_retry: Counter,
    attempts_rejected: Counter,
    splits: Counter,
    preparing: SpanKind,
    sending: SpanKind,
}

impl Metrics {
    fn register(context: &ExporterContext, signal: Signal) -> Self {
        let telemetry = &context.telemetry;
        let id = context.id.as_str();
        let attempts =
            |outcome| telemetry.counter(&names::EXPORTER_ATTEMPTS, &[id, signal.name(), outcome]);
        Self {
            sent: telemetry.item_counter(&names::EXPORTER_SENT, signal, &[id]),
            failed: telemetry.item_counter(&names::EXPORTER_FAILED, signal, &[id]),
            in_flight: telemetry.gauge(&names::EXPORTER_IN_FLIGHT, &[id, signal.name()]),
            attempts_ok: attempts("success"),
            attempts_retry: attempts("retry"),
            attempts_rejected: attempts("rejected"),
            splits: attempts("split"),
            preparing: telemetry
                .spans()
                .kind(&format!("exporter {id} {signal} prepare")),
            sending: telemetry
                .spans()
                .kind(&format!("exporter {id} {signal} send")),
        }
    }
}

//! What every exporter shares: a sending queue, workers, attempts with a timeout, retries, and the counting.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::queue::{Entry, Queue, Sizer};
use super::retry::{Backoff, RetryOptions, RetrySettings};
use crate::ack::{Answer, Refusal, RefusalReason};
use crate::component::{Exporter, ExporterContext, Outcome, Sender, Shutdown};
use crate::config::Section;
use crate::signal::Signal;
use crate::telemetry::{Counter, Gauge, names};
use crate::units::HumanDuration;

/// `sending_queue`: what waits for the destination, in memory.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueOptions {
    /// Without a queue every client waits for the destination's answer.
    pub enabled: bool,
    /// Batches sent at the same time, at least 1.
    pub num_consumers: usize,
    /// How much waits, in the unit of `sizer`. A full queue refuses; it drops nothing.
    pub queue_size: usize,
    /// What `queue_size` counts: `requests`, `items` or `bytes`.
    pub sizer: Sizer,
    /// Whether clients are answered only after delivery. Takes effect in pipelines without `batch`.
    pub wait_for_result: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            wait_for_result: false,
        }
    }
}

/// Validated settings of a sender.
#[derive(Debug, Clone, PartialEq)]
pub struct SenderSettings {
    queue: QueueOptions,
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
        for (key, value) in [
            ("num_consumers", queue.num_consumers),
            ("queue_size", queue.queue_size),
        ] {
            if value == 0 {
                section.error(&format!("sending_queue.{key}"), "must be at least 1");
            }
        }
        if queue.num_consumers > CONSUMERS_MAX {
            section.error(
                "sending_queue.num_consumers",
                format!("must be at most {CONSUMERS_MAX}"),
            );
        }
        Self {
            queue: queue.clone(),
            retry: retry.resolve(section),
            timeout: (!timeout.0.is_zero()).then_some(timeout.0),
        }
    }

    /// Workers per signal.
    pub fn workers(&self) -> usize {
        self.queue.num_consumers
    }

    /// For exporters that neither queue nor retry: one worker, clients wait for it.
    pub fn direct() -> Self {
        let mut found = crate::config::Diagnostics::default();
        let queue = QueueOptions {
            num_consumers: 1,
            queue_size: DIRECT_QUEUE,
            ..QueueOptions::default()
        };
        let retry = RetryOptions {
            enabled: false,
            ..RetryOptions::default()
        };
        Self {
            retry: Section::empty("exporters", &mut found, |section| retry.resolve(section)),
            queue,
            timeout: None,
        }
    }
}

/// Each worker holds a batch and a connection: more than this is a mistake.
const CONSUMERS_MAX: usize = 1024;
/// Local exporters keep up; a short queue decouples them from receivers.
const DIRECT_QUEUE: usize = 64;

/// Starts the queue and the workers of an exporter for one signal. Each worker has its own `make()`.
pub fn spawn<E: Exporter>(
    context: &ExporterContext,
    signal: Signal,
    settings: &SenderSettings,
    mut make: impl FnMut() -> E,
) -> Sender {
    let labels = [context.id.as_str(), signal.name()];
    let waits = settings.queue.wait_for_result || !settings.queue.enabled;
    let queue = Queue::new(
        &context.telemetry,
        labels,
        settings.queue.sizer,
        settings.queue.queue_size,
        waits,
    );
    let workers = (0..settings.queue.num_consumers)
        .map(|_| {
            let worker = Worker {
                exporter: make(),
                id: context.id.clone(),
                signal,
                queue: queue.clone(),
                settings: settings.clone(),
                cut: context.cut.clone(),
                metrics: Metrics::register(context, signal),
                failing: false,
            };
            tokio::spawn(worker.run())
        })
        .collect();
    Sender {
        exporter: context.id.clone(),
        signal,
        queue,
        workers,
    }
}

struct Metrics {
    sent: Counter,
    failed: Counter,
    in_flight: Gauge,
    attempts_ok: Counter,
    attempts_retry: Counter,
    attempts_rejected: Counter,
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
        }
    }
}

struct Worker<E> {
    exporter: E,
    id: String,
    signal: Signal,
    queue: Queue,
    settings: SenderSettings,
    cut: Shutdown,
    metrics: Metrics,
    /// Whether the last attempt failed: state changes are logged, not attempts.
    failing: bool,
}

impl<E: Exporter> Worker<E> {
    async fn run(mut self) {
        while let Some(entry) = self.queue.pop().await {
            self.metrics.in_flight.inc();
            self.deliver(entry).await;
            self.metrics.in_flight.dec();
        }
        if let Err(cause) = self.exporter.close().await {
            error!(exporter = self.id, %cause, "closing the exporter failed");
        }
    }

    async fn deliver(&mut self, entry: Entry) {
        let Entry {
            payload,
            custody,
            ack,
        } = entry;
        let items = custody.items() as u64;
        let result = match self.exporter.prepare(self.signal, payload) {
            Ok(mut prepared) => {
                let cut = self.cut.clone();
                tokio::select! {
                    biased;
                    result = self.attempt_until_settled(&mut prepared) => result,
                    () = cut.triggered() => Err(Failure::CutShort),
                }
            }
            Err(cause) => Err(Failure::Rejected(cause)),
        };
        match result {
            Ok(()) => {
                self.metrics.sent.inc_by(items);
                custody.delivered();
                ack.answer(Answer::Delivered);
            }
            Err(failure) => {
                self.metrics.failed.inc_by(items);
                error!(exporter = self.id, signal = %self.signal, items, reason = failure.reason(), cause = failure.cause(), "batch given up");
                custody.dropped(failure.reason());
                ack.answer(Answer::Refused(failure.refusal()));
            }
        }
    }

    async fn attempt_until_settled(&mut self, prepared: &mut E::Prepared) -> Result<(), Failure> {
        let settings = self.settings.retry.clone();
        let mut backoff = Backoff::new(&settings);
        let started = Instant::now();
        loop {
            let (cause, hint) = match self.attempt(prepared).await {
                Outcome::Delivered => {
                    self.metrics.attempts_ok.inc();
                    self.recovered();
                    return Ok(());
                }
                Outcome::Rejected { cause } => {
                    self.metrics.attempts_rejected.inc();
                    return Err(Failure::Rejected(cause));
                }
                Outcome::Retry { cause, after } => (cause, after),
            };
            self.metrics.attempts_retry.inc();
            let Some(wait) = backoff.next_wait(hint, started.elapsed(), random_unit()) else {
                return Err(Failure::Exhausted(cause));
            };
            self.failed(&cause, wait);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&mut self, prepared: &mut E::Prepared) -> Outcome {
        let Some(limit) = self.settings.timeout else {
            return self.exporter.send(prepared).await;
        };
        match tokio::time::timeout(limit, self.exporter.send(prepared)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Retry {
                cause: format!("no answer within {limit:?}"),
                after: None,
            },
        }
    }

    fn failed(&mut self, cause: &str, wait: Duration) {
        if !self.failing {
            warn!(exporter = self.id, signal = %self.signal, cause, retry_in = ?wait, "sending failed, will retry");
        }
        self.failing = true;
    }

    fn recovered(&mut self) {
        if self.failing {
            info!(exporter = self.id, signal = %self.signal, "sending works again");
        }
        self.failing = false;
    }
}

/// Why a batch was given up.
enum Failure {
    Rejected(String),
    Exhausted(String),
    CutShort,
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Exhausted(_) => "retries_exhausted",
            Self::CutShort => "shutdown",
        }
    }

    fn cause(&self) -> &str {
        match self {
            Self::Rejected(cause) | Self::Exhausted(cause) => cause,
            Self::CutShort => "the agent stopped before the destination took it",
        }
    }

    /// For a client that waits for the result.
    fn refusal(self) -> Refusal {
        match self {
            Self::Rejected(cause) => Refusal::permanent(cause),
            Self::Exhausted(cause) => Refusal::retry(
                RefusalReason::QueueFull,
                cause,
                Refusal::DEFAULT_RETRY_AFTER,
            ),
            Self::CutShort => Refusal::shutting_down(),
        }
    }
}

/// A number in `0..1` for jitter, from the hasher's random keys.
fn random_unit() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(Instant::now());
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

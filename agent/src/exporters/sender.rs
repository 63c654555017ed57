//! What every exporter shares: a sending queue, workers, attempts with a timeout, retries, and the counting.

use std::time::{Duration, Instant};

use tracing::{error, info, warn};

pub use super::queue::QueueOptions;
use super::queue::{Delivery, Queue, QueueSettings, Settlement, Ticket};
use super::retry::{Backoff, RetryOptions, RetrySettings};
use crate::ack::{Refusal, RefusalReason};
use crate::batch::Payload;
use crate::component::{ComponentError, Exporter, ExporterContext, Outcome, Sender, Shutdown};
use crate::config::Section;
use crate::signal::Signal;
use crate::telemetry::{Counter, Gauge, names};
use crate::units::HumanDuration;

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
/// How often a batch is divided at most: a destination to which everything is too large is not asked for each item.
const SPLITS_MAX: usize = 1024;
/// Local exporters keep up; a short queue decouples them from receivers.
const DIRECT_QUEUE: usize = 64;

/// Starts the queue and the workers of an exporter for one signal. Each worker has its own `make()`.
///
/// # Errors
/// When the log of a durable queue cannot be opened.
pub fn spawn<E: Exporter>(
    context: &ExporterContext,
    signal: Signal,
    settings: &SenderSettings,
    mut make: impl FnMut() -> E,
) -> Result<Sender, ComponentError> {
    let queue = Queue::open(context, signal, &settings.queue)?;
    let workers = (0..settings.consumers)
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
    Ok(Sender {
        exporter: context.id.clone(),
        signal,
        queue,
        workers,
    })
}

struct Metrics {
    sent: Counter,
    failed: Counter,
    in_flight: Gauge,
    attempts_ok: Counter,
    attempts_retry: Counter,
    attempts_rejected: Counter,
    splits: Counter,
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
        let cut = self.cut.clone();
        loop {
            let next = tokio::select! {
                biased;
                () = cut.triggered() => None,
                next = self.queue.next() => next,
            };
            let Some(delivery) = next else {
                break;
            };
            self.metrics.in_flight.inc();
            self.deliver_all(delivery).await;
            self.metrics.in_flight.dec();
        }
        if let Err(cause) = self.exporter.close().await {
            error!(exporter = self.id, %cause, "closing the exporter failed");
        }
    }

    /// Delivers a batch and whatever it had to be divided into.
    async fn deliver_all(&mut self, delivery: Delivery) {
        let mut waiting = vec![delivery];
        let mut splits = 0;
        while let Some(Delivery {
            payload,
            ticket,
            settlement,
        }) = waiting.pop()
        {
            let Err(failure) = self.deliver(payload, &ticket, &settlement).await else {
                self.metrics.sent.inc_by(settlement.items() as u64);
                settlement.delivered();
                continue;
            };
            if matches!(failure, Failure::TooLarge(_)) && splits < SPLITS_MAX {
                splits += 1;
                match settlement.split().await {
                    Ok([first, second]) => {
                        self.metrics.splits.inc();
                        waiting.extend([second, first]);
                    }
                    Err(settlement) => self.give_up(settlement, failure).await,
                }
            } else {
                self.give_up(settlement, failure).await;
            }
        }
    }

    async fn give_up(&mut self, mut settlement: Settlement, failure: Failure) {
        if let Failure::Rejected(_, Some(rejected)) = &failure {
            let taken = settlement.items().saturating_sub(*rejected);
            self.metrics.sent.inc_by(taken as u64);
            settlement.delivered_in_part(taken);
        }
        let items = settlement.items();
        if let Failure::CutShort = failure {
            if settlement.cut_short() > 0 {
                self.metrics.failed.inc_by(items as u64);
                error!(exporter = self.id, signal = %self.signal, items, "batch given up: the agent stopped before the destination took it");
            }
            return;
        }
        self.metrics.failed.inc_by(items as u64);
        error!(exporter = self.id, signal = %self.signal, items, reason = failure.reason(), cause = failure.cause(), "batch given up");
        settlement.dropped(failure.reason(), &failure.refusal());
    }

    async fn deliver(
        &mut self,
        payload: Payload,
        ticket: &Ticket,
        settlement: &Settlement,
    ) -> Result<(), Failure> {
        let mut prepared = self
            .exporter
            .prepare(self.signal, payload, ticket)
            .map_err(|cause| Failure::Rejected(cause, None))?;
        let cut = self.cut.clone();
        tokio::select! {
            biased;
            result = self.attempt_until_settled(&mut prepared, settlement) => result,
            () = cut.triggered() => Err(Failure::CutShort),
        }
    }

    async fn attempt_until_settled(
        &mut self,
        prepared: &mut E::Prepared,
        settlement: &Settlement,
    ) -> Result<(), Failure> {
        let settings = self.settings.retry.clone();
        let mut backoff = Backoff::new(&settings);
        let started = Instant::now();
        loop {
            if settlement.is_expired() {
                return Err(Failure::Expired);
            }
            let (cause, hint) = match self.attempt(prepared).await {
                Outcome::Delivered => {
                    self.metrics.attempts_ok.inc();
                    self.recovered();
                    return Ok(());
                }
                Outcome::Rejected { cause, items } => {
                    self.metrics.attempts_rejected.inc();
                    return Err(Failure::Rejected(cause, items));
                }
                Outcome::TooLarge { cause } => {
                    self.metrics.attempts_rejected.inc();
                    return Err(Failure::TooLarge(cause));
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

/// Why a batch was not delivered.
enum Failure {
    /// Why, and how many of the items if not all.
    Rejected(String, Option<usize>),
    TooLarge(String),
    Exhausted(String),
    Expired,
    CutShort,
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(..) => "rejected",
            Self::TooLarge(_) => "too_large",
            Self::Exhausted(_) => "retries_exhausted",
            Self::Expired => "expired",
            Self::CutShort => "shutdown",
        }
    }

    fn cause(&self) -> &str {
        match self {
            Self::Rejected(cause, _) | Self::TooLarge(cause) | Self::Exhausted(cause) => cause,
            Self::Expired => "older than max_age",
            Self::CutShort => "the agent stopped before the destination took it",
        }
    }

    /// For a client that waits for the result.
    fn refusal(self) -> Refusal {
        match self {
            Self::Rejected(cause, _) | Self::TooLarge(cause) => Refusal::permanent(cause),
            Self::Exhausted(cause) => Refusal::retry(
                RefusalReason::QueueFull,
                cause,
                Refusal::DEFAULT_RETRY_AFTER,
            ),
            Self::Expired => Refusal::permanent("older than max_age"),
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

//! The way from a receiver into the pipelines it feeds: admission, fan-out, and the receivers' counters.

use std::sync::Arc;

use crate::ack::{Answer, Refusal, RefusalReason};
use crate::batch::{Batch, Transport};
use crate::component::{Intake, RequestFailure};
use crate::memory::{HeldBytes, Reservation};
use crate::pipeline::Pipeline;
use crate::signal::Signal;
use crate::telemetry::{Counter, Telemetry, names};

/// One receiver's entrance for one signal.
pub struct Inlet {
    /// Shared with the answers that are owed.
    pipelines: Arc<[Arc<Pipeline>]>,
    held: HeldBytes,
    /// The most that the process holds, whatever its pipelines allow.
    held_max: usize,
    grpc: Arc<Counters>,
    http: Arc<Counters>,
}

struct Counters {
    accepted: Counter,
    refused: Counter,
    bytes: Counter,
    repaired: Counter,
    succeeded: Counter,
    turned_away: Counter,
    failed: Counter,
}

impl Counters {
    fn register(
        telemetry: &Telemetry,
        receiver: &str,
        signal: Signal,
        transport: Transport,
    ) -> Self {
        let pair = [receiver, transport.name()];
        let triple = [receiver, transport.name(), signal.name()];
        let requests = |outcome| {
            telemetry.counter(
                &names::RECEIVER_REQUESTS,
                &[receiver, transport.name(), signal.name(), outcome],
            )
        };
        Self {
            accepted: telemetry.item_counter(&names::RECEIVER_ACCEPTED, signal, &pair),
            refused: telemetry.item_counter(&names::RECEIVER_REFUSED, signal, &pair),
            bytes: telemetry.counter(&names::RECEIVER_BYTES, &triple),
            repaired: telemetry.counter(&names::RECEIVER_REPAIRED, &triple),
            succeeded: requests("success"),
            turned_away: requests("refused"),
            failed: requests("failure"),
        }
    }
}

impl Counters {
    fn accept(&self, items: usize, bytes: usize) {
        self.accepted.inc_by(items as u64);
        self.bytes.inc_by(bytes as u64);
        self.succeeded.inc();
    }

    fn refuse(&self, pipelines: &[Arc<Pipeline>], items: usize, reason: RefusalReason) {
        self.refused.inc_by(items as u64);
        self.turned_away.inc();
        for pipeline in pipelines {
            pipeline.count_refused(items, reason);
        }
    }

    /// How many items a request holds that was refused unread: by its bytes and the items so far if it has told its
    /// length, else by the requests so far; at least one.
    fn estimate(&self, bytes: Option<usize>) -> usize {
        let (share, whole) = match bytes {
            Some(bytes) => (bytes as u128, self.bytes.get()),
            None => (1, self.succeeded.get()),
        };
        let estimate = share * u128::from(self.accepted.get()) / u128::from(whole).max(1);
        usize::try_from(estimate).unwrap_or(usize::MAX).max(1)
    }
}

impl Inlet {
    /// The entrance of `receiver` to `pipelines`, which all carry `signal`.
    pub fn new(
        telemetry: &Telemetry,
        receiver: &str,
        signal: Signal,
        pipelines: Vec<Arc<Pipeline>>,
        held: HeldBytes,
        held_max: usize,
    ) -> Self {
        let register =
            |transport| Arc::new(Counters::register(telemetry, receiver, signal, transport));
        Self {
            pipelines: pipelines.into(),
            held,
            held_max,
            grpc: register(Transport::Grpc),
            http: register(Transport::Http),
        }
    }

    fn counters(&self, transport: Transport) -> &Arc<Counters> {
        match transport {
            Transport::Grpc => &self.grpc,
            Transport::Http => &self.http,
        }
    }

    fn ready(&self, bytes: usize) -> Result<(), Refusal> {
        self.pipelines
            .iter()
            .try_for_each(|pipeline| pipeline.ready(bytes))
    }
}

impl Intake for Inlet {
    fn admit(&self, bytes: usize) -> Result<Reservation, Refusal> {
        self.ready(bytes)?;
        self.held
            .reserve_within(bytes, self.held_max)
            .ok_or_else(|| {
                Refusal::retry(
                    RefusalReason::MemoryLimit,
                    "data refused: the agent holds as much telemetry as its memory allows",
                    Refusal::DEFAULT_RETRY_AFTER,
                )
            })
    }

    fn submit(&self, batch: Batch, transport: Transport) {
        let (items, bytes) = (batch.items(), batch.payload.byte_len());
        let counters = Arc::clone(self.counters(transport));
        let pipelines = Arc::clone(&self.pipelines);
        let ack = batch.ack.observed(move |answer| match answer {
            Answer::Delivered | Answer::Queued => counters.accept(items, bytes),
            Answer::Partial(rejected) => {
                counters.accept(items.saturating_sub(rejected.items), bytes);
                counters.refused.inc_by(rejected.items as u64);
            }
            Answer::Refused(refusal) => counters.refuse(&pipelines, items, refusal.reason),
        });
        // The batch's bytes are reserved already: no more are asked for.
        if let Err(refusal) = self.ready(0) {
            ack.answer(Answer::Refused(refusal));
            return;
        }
        let acks = ack.split(self.pipelines.len());
        for (pipeline, ack) in self.pipelines.iter().zip(acks) {
            pipeline.accept(Batch {
                signal: batch.signal,
                payload: batch.payload.clone(),
                ack,
            });
        }
    }

    fn count_failure(&self, transport: Transport, failure: RequestFailure) {
        let counters = self.counters(transport);
        match failure {
            RequestFailure::Refused { reason, bytes } => {
                counters.refuse(&self.pipelines, counters.estimate(bytes), reason);
            }
            RequestFailure::Failed => counters.failed.inc(),
        }
    }

    fn count_repaired(&self, transport: Transport, strings: usize) {
        self.counters(transport).repaired.inc_by(strings as u64);
    }
}

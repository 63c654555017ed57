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
    pipelines: Vec<Arc<Pipeline>>,
    held: HeldBytes,
    /// The most that the process holds, whatever its pipelines allow.
    held_max: usize,
    grpc: Counters,
    http: Counters,
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
        Self {
            pipelines,
            held,
            held_max,
            grpc: Counters::register(telemetry, receiver, signal, Transport::Grpc),
            http: Counters::register(telemetry, receiver, signal, Transport::Http),
        }
    }

    fn counters(&self, transport: Transport) -> &Counters {
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
        let counters = self.counters(transport);
        // The batch's bytes are reserved already: no more are asked for.
        if let Err(refusal) = self.ready(0) {
            counters.refused.inc_by(batch.items() as u64);
            counters.turned_away.inc();
            for pipeline in &self.pipelines {
                pipeline.count_refused(batch.items());
            }
            batch.ack.answer(Answer::Refused(refusal));
            return;
        }
        counters.accepted.inc_by(batch.items() as u64);
        counters.bytes.inc_by(batch.payload.byte_len() as u64);
        counters.succeeded.inc();
        let acks = batch.ack.split(self.pipelines.len());
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
            RequestFailure::Refused => counters.turned_away.inc(),
            RequestFailure::Failed => counters.failed.inc(),
        }
    }

    fn count_repaired(&self, transport: Transport, strings: usize) {
        self.counters(transport).repaired.inc_by(strings as u64);
    }
}

//! The way from a receiver into the pipelines it feeds: admission, fan-out, and the receivers' counters.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ack::{Answer, Refusal, RefusalReason};
use crate::batch::{Batch, Transport};
use crate::component::{Intake, RequestFailure};
use crate::memory::{HeldBytes, Reservation};
use crate::pipeline::Pipeline;
use crate::signal::Signal;
use crate::telemetry::{Counter, Telemetry, names};
use crate::waiting_room::WaitingRoom;

/// One receiver's entrance for one signal. Where it leads to may change; each batch goes one way as a whole.
pub struct Inlet {
    route: ArcSwap<Route>,
    /// Tells when nobody has the inlet any more.
    gone: CancellationToken,
    _gone: DropGuard,
    held: HeldBytes,
    waiting_room: WaitingRoom,
    /// The most that the process holds, whatever its pipelines allow.
    held_max: usize,
    grpc: Arc<Counters>,
    http: Arc<Counters>,
}

/// Where an inlet leads to.
struct Route {
    /// Shared with the answers that are owed.
    pipelines: Arc<[Arc<Pipeline>]>,
    /// Tells when no batch is on this way any more.
    left: CancellationToken,
    _left: DropGuard,
}

impl Route {
    fn new(pipelines: Vec<Arc<Pipeline>>) -> Self {
        let left = CancellationToken::new();
        Self {
            pipelines: pipelines.into(),
            _left: left.clone().drop_guard(),
            left,
        }
    }

    fn ready(&self, bytes: usize) -> Result<(), Refusal> {
        if self.pipelines.is_empty() {
            // Only what is still under way to a receiver or a signal that is gone.
            return Err(Refusal::shutting_down());
        }
        self.pipelines
            .iter()
            .try_for_each(|pipeline| pipeline.ready(bytes))
    }
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
        let gone = CancellationToken::new();
        Self {
            route: ArcSwap::from_pointee(Route::new(pipelines)),
            _gone: gone.clone().drop_guard(),
            gone,
            waiting_room: WaitingRoom::new(held.clone()),
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

    /// Leads every further batch to `pipelines`. What comes back is cancelled when none is on the old way any more.
    pub(super) fn lead_to(&self, pipelines: Vec<Arc<Pipeline>>) -> CancellationToken {
        let old = self.route.swap(Arc::new(Route::new(pipelines)));
        old.left.clone()
    }

    /// Is cancelled when nobody has the inlet any more.
    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

impl Intake for Inlet {
    fn admit(&self, bytes: usize) -> Result<Reservation, Refusal> {
        self.route.load().ready(bytes)?;
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

    fn waiting_room(&self) -> Option<&WaitingRoom> {
        Some(&self.waiting_room)
    }

    fn submit(&self, batch: Batch, transport: Transport) {
        let (items, bytes) = (batch.items(), batch.payload.byte_len());
        let counters = Arc::clone(self.counters(transport));
        // Held until the batch has entered, so that its way is not given up before.
        let route = self.route.load_full();
        let pipelines = Arc::clone(&route.pipelines);
        let ack = batch.ack.observed(move |answer| match answer {
            Answer::Delivered | Answer::Queued => counters.accept(items, bytes),
            Answer::Partial(rejected) => {
                counters.accept(items.saturating_sub(rejected.items), bytes);
                counters.refused.inc_by(rejected.items as u64);
            }
            Answer::Refused(refusal) => counters.refuse(&pipelines, items, refusal.reason),
        });
        // The batch's bytes are reserved already: no more are asked for.
        if let Err(refusal) = route.ready(0) {
            ack.answer(Answer::Refused(refusal));
            return;
        }
        let acks = ack.split(route.pipelines.len());
        for (pipeline, ack) in route.pipelines.iter().zip(acks) {
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
                let route = self.route.load();
                counters.refuse(&route.pipelines, counters.estimate(bytes), reason);
            }
            RequestFailure::Failed => counters.failed.inc(),
        }
    }

    fn count_repaired(&self, transport: Transport, strings: usize) {
        self.counters(transport).repaired.inc_by(strings as u64);
    }
}

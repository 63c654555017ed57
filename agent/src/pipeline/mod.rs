//! Pipelines: from a receiver's batch through the processors into the sending queues.
//!
//! Everything up to the queues is synchronous and runs on the task of the request. A batch is taken in two steps: every
//! stage of every pipeline it would enter is asked whether it is ready; then all of them take it. So a batch that goes
//! two ways is never taken one way and refused the other, and a client's retry stores nothing twice.

mod build;
mod graph;
mod intake;
mod plan;
mod retire;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use tokio::sync::Notify;

pub use build::{Built, World};
pub use graph::{Ending, Running, Totals};
pub use intake::Inlet;
pub use plan::{Change, Node, Plan};

use crate::ack::{Answer, Refusal, RefusalReason};
use crate::aside::step_aside;
use crate::batch::Batch;
use crate::component::{Output, Processor};
use crate::exporters::queue::{Account, Queue};
use crate::ledger::Ledger;
use crate::progress::Pulse;
use crate::signal::Signal;
use crate::tap::{Point, Taps};
use crate::telemetry::spans::SpanKind;
use crate::telemetry::{Counter, Telemetry, names};

/// One pipeline: its processors in order and the queues it ends in.
pub struct Pipeline {
    id: String,
    signal: Signal,
    /// Guards the processors: a batch passes all of them under one lock.
    stages: Mutex<Vec<Stage>>,
    /// Whether a batch may take so long that who waits for the lock has to step aside.
    may_take_long: bool,
    /// How many do.
    waiting: AtomicUsize,
    /// Whether there is a pipeline that this one has taken the place of, and that may hold something back still.
    follows: AtomicBool,
    /// Guards that pipeline.
    before: Mutex<Option<Arc<Self>>>,
    exits: Vec<Exit>,
    /// Whether an exit is durable: then nothing is answered for before it is on disk.
    durable: bool,
    /// Woken when a deadline appears where there was none.
    deadline_set: Notify,
    /// For what is declined, which is rare.
    telemetry: Telemetry,
    spans: SpanKind,
    /// Who looks at what passes.
    taps: Taps,
}

/// A processor with the edges' counters.
struct Stage {
    id: String,
    processor: Box<dyn Processor>,
    incoming: Counter,
    outgoing: Counter,
}

/// The way out to one exporter.
struct Exit {
    queue: Queue,
    ledger: Ledger,
    account: Account,
    enqueue_failed: Counter,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A pipeline of `processors`, with their ids, into `exits`: exporter ids, their queues, and whom to charge there.
    /// Nothing enters before [`Pipeline::attach`].
    pub fn new(
        telemetry: &Telemetry,
        taps: &Taps,
        id: &str,
        signal: Signal,
        processors: Vec<(String, Box<dyn Processor>)>,
        exits: Vec<(String, Queue, Ledger)>,
    ) -> Arc<Self> {
        let may_take_long = processors
            .iter()
            .any(|(_, processor)| processor.may_take_long());
        let stages = processors
            .into_iter()
            .map(|(name, processor)| {
                let labels = [name.as_str(), signal.name()];
                Stage {
                    processor,
                    incoming: telemetry.counter(&names::PROCESSOR_INCOMING, &labels),
                    outgoing: telemetry.counter(&names::PROCESSOR_OUTGOING, &labels),
                    id: name,
                }
            })
            .collect();
        let durable = exits.iter().any(|(_, queue, _)| queue.is_durable());
        let exits = exits
            .into_iter()
            .map(|(exporter, queue, ledger)| Exit {
                account: Account::new(id, ledger.clone(), !durable),
                ledger,
                queue,
                enqueue_failed: telemetry.item_counter(
                    &names::EXPORTER_ENQUEUE_FAILED,
                    signal,
                    &[&exporter],
                ),
            })
            .collect();
        Arc::new(Self {
            id: id.to_owned(),
            signal,
            stages: Mutex::new(stages),
            may_take_long,
            waiting: AtomicUsize::new(0),
            follows: AtomicBool::new(false),
            before: Mutex::default(),
            exits,
            durable,
            deadline_set: Notify::new(),
            telemetry: telemetry.clone(),
            spans: telemetry.spans().kind(&format!("pipeline {id}")),
            taps: taps.clone(),
        })
    }

    /// `traces` or `traces/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Lets the queues know whose the items are that they have, or will have.
    pub fn attach(&self) {
        for exit in &self.exits {
            exit.queue.attach(&exit.account);
        }
    }

    /// The queues that it ends in.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.exits.iter().map(|exit| &exit.queue)
    }

    /// What flows through it.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Whether a batch of about `bytes` may enter now.
    ///
    /// # Errors
    /// The first refusal among the queues and the processors.
    pub fn ready(&self, bytes: usize) -> Result<(), Refusal> {
        self.exits.iter().try_for_each(|exit| exit.queue.ready())?;
        if self.waiting.load(Ordering::Relaxed) >= WAITING_MAX {
            return Err(Refusal::retry(
                RefusalReason::Plugin,
                "data refused: a plugin cannot keep up",
                Refusal::DEFAULT_RETRY_AFTER,
            ));
        }
        self.stages()
            .iter()
            .try_for_each(|stage| stage.processor.ready(bytes))
    }

    /// Counts items that were sent back for `reason` where the Collector's users look for them.
    pub fn count_refused(&self, items: usize, reason: RefusalReason) {
        match reason {
            RefusalReason::MemoryLimit => {
                for stage in self.stages().iter() {
                    stage.processor.refused(items);
                }
            }
            RefusalReason::QueueFull => {
                let full = self.exits.iter().filter(|exit| exit.queue.ready().is_err());
                for exit in full {
                    exit.enqueue_failed.inc_by(items as u64);
                }
            }
            _ => {}
        }
    }

    /// Takes a batch. The caller has asked [`Pipeline::ready`].
    pub fn accept(&self, batch: Batch) {
        let items = batch.items();
        let mut span = self.spans.start();
        span.carries(items, batch.payload.byte_len());
        self.taps
            .show(&self.id, Point::Receivers, self.signal, &batch.payload);
        let mut output = Output::default();
        output.emit(batch);
        let mut stages = self.stages();
        if self.follows.load(Ordering::Acquire) {
            self.overtake();
        }
        let idle = next_deadline(&stages).is_none();
        let rejected = self.pass(&mut stages, &mut output);
        let armed = next_deadline(&stages).is_some();
        if !self.durable {
            for exit in &self.exits {
                exit.ledger.accept(items.saturating_sub(rejected));
            }
        }
        // The queues are filled under the lock, so that batches keep their order.
        self.leave(output);
        drop(stages);
        if idle && armed {
            self.deadline_set.notify_one();
        }
    }

    /// Runs the processors' timers until the task is ended; `pulse` says what they wait for.
    pub async fn run_timers(self: Arc<Self>, pulse: Pulse) {
        loop {
            let deadline = next_deadline(&self.stages());
            let Some(deadline) = deadline else {
                pulse.rests();
                self.deadline_set.notified().await;
                continue;
            };
            pulse.until(deadline);
            tokio::time::sleep_until(deadline.into()).await;
            self.wake(tokio::time::Instant::now().into_std());
        }
    }

    /// Takes the place of `before`: what that one holds back goes out before anything that enters here.
    pub(super) fn follow(&self, before: &Arc<Self>) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(before));
        self.follows.store(true, Ordering::Release);
    }

    /// Empties the pipeline before this one. Called with the lock on the processors.
    fn overtake(&self) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before.take() {
            before.drain();
        }
        self.follows.store(false, Ordering::Release);
    }

    /// Emits everything that processors hold back. Called when no batch can enter any more, or is not to wait any more.
    pub fn drain(&self) {
        let mut stages = self.stages();
        self.overtake();
        self.visit(&mut stages, |processor, output| processor.drain(output));
    }

    fn wake(&self, now: Instant) {
        let mut stages = self.stages();
        self.visit(&mut stages, |processor, output| processor.wake(now, output));
    }

    /// Calls each processor in order and passes what it emits through those behind it.
    fn visit(&self, stages: &mut [Stage], mut call: impl FnMut(&mut dyn Processor, &mut Output)) {
        for index in 0..stages.len() {
            let Some((stage, behind)) =
                stages.get_mut(index..).and_then(<[Stage]>::split_first_mut)
            else {
                return;
            };
            let mut output = Output::default();
            call(stage.processor.as_mut(), &mut output);
            let rejected = self.count(stage, &mut output) + self.pass(behind, &mut output);
            debug_assert_eq!(rejected, 0, "nobody waits for what was kept back");
            self.leave(output);
        }
    }

    /// Passes the batches of `output` through the stages, one after the other. Returns how many items were declined.
    fn pass(&self, stages: &mut [Stage], output: &mut Output) -> usize {
        let mut rejected = 0;
        for stage in stages {
            for batch in std::mem::take(&mut output.batches) {
                stage.incoming.inc_by(batch.items() as u64);
                stage.processor.process(batch, output);
            }
            rejected += self.count(stage, output);
        }
        rejected
    }

    /// Counts what a processor emitted and declined. Returns how many items it declined.
    fn count(&self, stage: &Stage, output: &mut Output) -> usize {
        for batch in &output.batches {
            stage.outgoing.inc_by(batch.items() as u64);
        }
        let mut rejected = 0;
        for (reason, items) in output.rejected.drain(..) {
            let labels = [stage.id.as_str(), self.signal.name(), &*reason];
            let counter = self.telemetry.counter(&names::PROCESSOR_REJECTED, &labels);
            counter.inc_by(items as u64);
            rejected += items;
        }
        rejected
    }

    /// Books what processors gave up, puts their batches into every exporter's queue, and answers for what they keep back.
    fn leave(&self, mut output: Output) {
        for (reason, items) in output.dropped.drain(..) {
            for exit in &self.exits {
                if self.durable {
                    exit.ledger.accept(items);
                }
                exit.ledger.drop_items(items, &reason);
            }
        }
        for batch in output.batches.drain(..) {
            self.taps
                .show(&self.id, Point::Processors, self.signal, &batch.payload);
            let acks = batch.ack.split(self.exits.len());
            for (exit, ack) in self.exits.iter().zip(acks) {
                exit.queue.push(&exit.account, batch.payload.clone(), ack);
            }
        }
        for ack in output.into_taken_over() {
            ack.answer(Answer::Queued);
        }
    }

    fn stages(&self) -> MutexGuard<'_, Vec<Stage>> {
        let lock = || self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        // What this one takes the place of may be slow, and is emptied under this lock.
        if !self.may_take_long && !self.follows.load(Ordering::Acquire) {
            return lock();
        }
        match self.stages.try_lock() {
            Ok(stages) => return stages,
            Err(TryLockError::Poisoned(stages)) => return stages.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let stages = step_aside(lock);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        stages
    }
}

/// Requests that wait for a plugin, each with a thread, of the 512 that the runtime may have. More are refused.
const WAITING_MAX: usize = 64;

fn next_deadline(stages: &[Stage]) -> Option<Instant> {
    stages
        .iter()
        .filter_map(|stage| stage.processor.deadline())
        .min()
}

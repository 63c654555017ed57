//! Sending queues: what waits for a destination, in memory or in a log on disk, behind one interface.
//!
//! A queue takes requests and gives out batches. Batches are formed behind the queue, by the worker that asks for one:
//! what waits stays what it was, in the order in which it came.

mod durable;
mod former;
mod memory;
mod options;
mod pace;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

pub use memory::Sizer;
pub use options::{
    BatchOptions, DurableSettings, FsyncOption, OnFull, QueueOptions, QueueSettings, Storage,
};
pub use pace::Pace;

use crate::ack::{Ack, Answer, Answered, Refusal};
use crate::batch::Payload;
use crate::component::{ComponentError, ExporterContext, Shutdown};
use crate::gather::Batching;
use crate::ledger::{Custody, Ledger};
use crate::progress::Pulse;
use crate::signal::Signal;
use crate::status::Reporter;

/// One exporter's queue for one signal. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Queue {
    place: Place,
    /// Batches that workers have and do not have ready to send.
    preparing: Arc<AtomicUsize>,
}

#[derive(Debug, Clone)]
enum Place {
    /// In memory: what waits is lost with the process.
    Memory(memory::Queue),
    /// In a log on disk.
    Durable(durable::Queue),
    /// Nowhere: dead letters are handed in, one after the other.
    Replay(replay::Queue),
}

/// A pipeline's account at a queue.
#[derive(Debug, Clone)]
pub struct Account {
    ledger: Ledger,
    /// Names the pipeline in a log, over restarts.
    origin: u32,
    /// Whether the items were counted as accepted when they entered the pipeline; otherwise the queue does that when
    /// it takes them.
    counted: bool,
}

impl Queue {
    /// The queue of the exporter that is being built: that of the exporter before if it keeps its requests in the same
    /// place. It is as it was until it is told otherwise.
    ///
    /// # Errors
    /// When the log of a durable queue cannot be opened.
    pub fn open(
        context: &ExporterContext,
        signal: Signal,
        settings: &QueueSettings,
    ) -> Result<Self, ComponentError> {
        let mut inherited = inherited(context, signal);
        if let Some(same) = inherited.find(|queue| queue.is_at(context, signal, settings)) {
            return Ok(same.clone());
        }
        let place = match &settings.durable {
            Some(durable) => Place::Durable(durable::Queue::open(
                context,
                signal,
                durable,
                settings.batching.clone(),
            )?),
            None if settings.replays => Place::Replay(replay::Queue::new(context, signal)),
            None => Place::Memory(memory::Queue::new(context, signal, settings)),
        };
        Ok(Self {
            place,
            preparing: Arc::default(),
        })
    }

    /// The queues of the exporter before that are not this one, and may have something still.
    pub(super) fn leftovers(&self, context: &ExporterContext, signal: Signal) -> Vec<Self> {
        inherited(context, signal)
            .filter(|queue| !queue.is_same(self) && !queue.is_drained())
            .cloned()
            .collect()
    }

    /// Whether an exporter with these settings would keep its requests where this queue has them.
    fn is_at(&self, context: &ExporterContext, signal: Signal, settings: &QueueSettings) -> bool {
        match (&self.place, &settings.durable) {
            (Place::Memory(_), None) => !settings.replays,
            (Place::Durable(queue), Some(durable)) => {
                queue.is_at(&durable::folder(context, signal, durable))
            }
            _ => false,
        }
    }

    /// Whether the two share one place.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Memory(one), Place::Memory(other)) => one.is_same(other),
            (Place::Durable(one), Place::Durable(other)) => one.is_same(other),
            _ => false,
        }
    }

    /// Whether nothing is in it and nothing comes any more. Of what was in memory, workers may give some back.
    pub fn is_drained(&self) -> bool {
        match &self.place {
            Place::Memory(_) => false,
            Place::Durable(queue) => queue.is_drained(),
            Place::Replay(_) => true,
        }
    }

    /// Takes requests, again if it was closed, and goes on as `settings` say, which are those it was opened with or
    /// others for the same place. Batches are formed as they say; where they do not, as `batching`.
    pub fn tune(&self, settings: &QueueSettings, batching: Option<Batching>) {
        let batching = settings.batching.clone().or(batching);
        match (&self.place, &settings.durable) {
            (Place::Memory(queue), _) => queue.tune(settings, batching),
            (Place::Durable(queue), Some(durable)) => queue.tune(durable, batching),
            (Place::Durable(_), None) | (Place::Replay(_), _) => {}
        }
    }

    /// Whether what is in the queue outlives the process.
    pub fn is_durable(&self) -> bool {
        matches!(self.place, Place::Durable(_))
    }

    /// The account of a pipeline, known to the queue.
    pub fn account(&self, pipeline: &str, ledger: Ledger, counted: bool) -> Account {
        let account = Account::new(pipeline, ledger, counted);
        self.attach(&account);
        account
    }

    /// Lets the queue know whose the items are that it has, or will have.
    pub fn attach(&self, account: &Account) {
        if let Place::Durable(queue) = &self.place {
            queue.attach(account);
        }
    }

    /// How batches are formed from now on.
    #[cfg(test)]
    pub(crate) fn form(&self, batching: Batching) {
        match &self.place {
            Place::Memory(queue) => queue.form(batching),
            Place::Durable(queue) => queue.form(batching),
            Place::Replay(_) => {}
        }
    }

    /// Tells from now on where to say that something is wrong with the queue itself.
    pub fn report_to(&self, status: &Reporter) {
        if let Place::Durable(queue) = &self.place {
            queue.report_to(status);
        }
    }

    /// Lets workers have what is in the queue. Pipelines are attached by now.
    pub fn start(&self) {
        if let Place::Durable(queue) = &self.place {
            queue.start();
        }
    }

    /// Whether another request may come.
    ///
    /// # Errors
    /// The refusal to give to the client.
    pub fn ready(&self) -> Result<(), Refusal> {
        match &self.place {
            Place::Memory(queue) => queue.ready(),
            Place::Durable(queue) => queue.ready(),
            Place::Replay(_) => Err(replay::refusal()),
        }
    }

    /// Takes a request. Its sender is answered when the queue has taken responsibility for it, or when it was delivered
    /// if the queue was told to make clients wait.
    ///
    /// A full queue takes it too: pipelines refuse at the door while a queue is full, so what still comes is what
    /// processors held back, at most one batch each.
    pub fn push(&self, account: &Account, payload: Payload, ack: Ack) {
        match &self.place {
            Place::Memory(queue) => queue.push(account, payload, ack),
            Place::Durable(queue) => queue.push(account, payload, ack),
            Place::Replay(_) => ack.answer(Answer::Refused(replay::refusal())),
        }
    }

    /// The same; the sender is answered when it was delivered, whatever the queue was told.
    #[cfg(test)]
    pub(crate) fn push_for_result(&self, account: &Account, payload: Payload, ack: Ack) {
        match &self.place {
            Place::Memory(queue) => queue.push_waiting(account, payload, ack, true),
            Place::Durable(queue) => queue.push(account, payload, ack),
            Place::Replay(_) => ack.answer(Answer::Refused(replay::refusal())),
        }
    }

    /// Hands in a batch under its old name, with the parts of it that the destination has. The ticket knows afterwards
    /// which parts it has then. `None` if the queue is not there for that.
    pub fn hand(
        &self,
        payload: Payload,
        name: &str,
        done: impl IntoIterator<Item = String>,
    ) -> Option<(Ticket, Answered)> {
        match &self.place {
            Place::Replay(queue) => queue.hand(payload, name, done.into_iter().collect()),
            Place::Memory(_) | Place::Durable(_) => None,
        }
    }

    /// The next batch, waiting for one; `None` when the queue is closed and there is no more.
    pub async fn next(&self) -> Option<Delivery> {
        let (never, unwatched) = (Shutdown::default(), Pulse::unwatched());
        self.next_unless(&never, &unwatched).await
    }

    /// The same; `None` also once `leave` is triggered while it waits. Nothing is lost then, while dropping the future
    /// leaves a batch in its log until the next start. `pulse` says what it waits for.
    pub async fn next_unless(&self, leave: &Shutdown, pulse: &Pulse) -> Option<Delivery> {
        pulse.rests();
        match &self.place {
            Place::Memory(queue) => queue.next(leave, pulse).await,
            Place::Durable(queue) => queue.next(leave, pulse).await,
            Place::Replay(queue) => queue.next().await,
        }
    }

    /// Whether there is something that a worker who rests should take.
    pub fn has_waiting(&self) -> bool {
        match &self.place {
            Place::Memory(queue) => queue.has_waiting(),
            Place::Durable(queue) => queue.has_waiting(),
            Place::Replay(_) => false,
        }
    }

    /// Bytes that are in no batch yet.
    fn waiting_bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(queue) => queue.waiting_bytes(),
            Place::Durable(queue) => queue.waiting_bytes(),
            Place::Replay(_) => 0,
        }
    }

    /// Takes a batch back that was given out and is not settled, to be given out again before all others, under its name.
    pub fn put_back(&self, ticket: Ticket, settlement: Settlement) {
        match &self.place {
            Place::Memory(queue) => queue.put_back(ticket, settlement),
            Place::Durable(queue) => queue.put_back(ticket, settlement),
            Place::Replay(_) => drop(settlement.cut_short()),
        }
    }

    /// Takes no more requests. Workers empty the queue and end.
    pub fn close(&self) {
        match &self.place {
            Place::Memory(queue) => queue.close(),
            Place::Durable(queue) => queue.close(),
            Place::Replay(queue) => queue.close(),
        }
    }

    /// A number that changes whenever the queue is tuned, for [`Queue::close_if_still`].
    pub fn turn(&self) -> u64 {
        match &self.place {
            Place::Memory(queue) => queue.turn(),
            Place::Durable(queue) => queue.turn(),
            Place::Replay(_) => 0,
        }
    }

    /// As [`Queue::close`], unless the queue was tuned since it had this `turn`: then somebody has use for it.
    pub fn close_if_still(&self, turn: u64) {
        match &self.place {
            Place::Memory(queue) => queue.close_if_still(turn),
            Place::Durable(queue) => queue.close_if_still(turn),
            Place::Replay(queue) => queue.close(),
        }
    }

    /// After the last worker has ended: what waits in memory is given up, and a log is closed.
    pub async fn finish(&self) {
        match &self.place {
            Place::Memory(queue) => queue.give_up().await,
            Place::Durable(queue) => queue.finish().await,
            Place::Replay(queue) => queue.close(),
        }
    }
}

fn inherited(context: &ExporterContext, signal: Signal) -> impl Iterator<Item = &Queue> {
    let of_signal = context
        .inherited
        .iter()
        .filter(move |(of, _)| *of == signal);
    of_signal.map(|(_, queue)| queue)
}

impl Account {
    /// The account of a pipeline. `counted`: whether its items are counted as accepted before they come to the queue.
    pub fn new(pipeline: &str, ledger: Ledger, counted: bool) -> Self {
        Self {
            ledger,
            origin: origin_of(pipeline),
            counted,
        }
    }
}

/// Whether a queue takes requests.
#[derive(Debug, Default)]
struct Opening {
    /// Counts how often it was opened.
    turn: u64,
    closed: bool,
}

impl Opening {
    fn reopen(&mut self) {
        self.turn += 1;
        self.closed = false;
    }

    /// Whether it is closed by this.
    fn close_if_still(&mut self, turn: u64) -> bool {
        self.closed |= self.turn == turn;
        self.turn == turn
    }
}

/// Batches that were given back, in order.
type Returned = Mutex<VecDeque<(Ticket, Settlement)>>;

/// A number for a pipeline's name that is the same after a restart (FNV-1a).
fn origin_of(pipeline: &str) -> u32 {
    pipeline.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// A batch on its way, with the responsibility for it.
#[derive(Debug)]
pub struct Delivery {
    /// The items.
    pub payload: Payload,
    /// Which batch it is.
    pub ticket: Ticket,
    /// How it ends.
    pub settlement: Settlement,
}

/// Which batch this is. The same batch has the same name after a retry and, if the queue is durable, after a restart.
#[derive(Debug, Clone)]
pub struct Ticket {
    name: Arc<str>,
    /// Parts that were delivered.
    done: Parts,
    log: Option<durable::Batch>,
}

impl Ticket {
    /// The ticket of no queue's batch.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            name: "test".into(),
            done: Parts::default(),
            log: None,
        }
    }

    /// A name that no other batch has, on this or any other machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a part, such as one table of a batch of metrics, was delivered before.
    pub fn is_done(&self, part: &str) -> bool {
        self.done.contains(part)
    }

    /// The parts that were delivered.
    pub fn parts_done(&self) -> Vec<String> {
        self.done.names()
    }

    /// Remembers that a part was delivered.
    pub fn part_done(&self, part: &str) {
        self.done.add(part);
        if let Some(batch) = &self.log {
            batch.part_done(part);
        }
    }
}

/// The parts of a batch that were delivered. Cloning shares them.
#[derive(Debug, Clone, Default)]
struct Parts(Arc<Mutex<BTreeSet<String>>>);

impl Parts {
    fn contains(&self, part: &str) -> bool {
        self.with(|parts| parts.contains(part))
    }

    fn add(&self, part: &str) {
        self.with(|parts| parts.insert(part.to_owned()));
    }

    fn names(&self) -> Vec<String> {
        self.with(|parts| parts.iter().cloned().collect())
    }

    /// As many as there are now, for a batch of its own: what was delivered of a batch was delivered of its halves.
    fn inherited(&self) -> Self {
        self.with(|parts| parts.clone()).into()
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<BTreeSet<String>> for Parts {
    fn from(parts: BTreeSet<String>) -> Self {
        Self(Arc::new(Mutex::new(parts)))
    }
}

/// The responsibility for a batch, to be settled once. Dropped unsettled, it counts the items as `abandoned`, except
/// where a log has them still.
#[derive(Debug)]
pub struct Settlement {
    custodies: Vec<Custody>,
    acks: Vec<Ack>,
    done: Parts,
    keeping: Keeping,
}

/// Where a batch is kept until it is settled.
#[derive(Debug)]
enum Keeping {
    Memory { signal: Signal, payload: Payload },
    Log(durable::Batch),
}

impl Settlement {
    /// Spans, log records or data points.
    pub fn items(&self) -> usize {
        self.custodies.iter().map(Custody::items).sum()
    }

    /// The destination has the batch.
    pub fn delivered(mut self) {
        if let Keeping::Log(batch) = &self.keeping {
            batch.done();
        }
        for custody in self.custodies.drain(..) {
            custody.delivered();
        }
        for ack in self.acks.drain(..) {
            ack.answer(Answer::Delivered);
        }
    }

    /// The destination has so many of the items; the rest is still to be settled.
    pub fn delivered_in_part(&mut self, items: usize) {
        for custody in take_front(&mut self.custodies, items) {
            custody.delivered();
        }
    }

    /// The batch is given up for a stable reason.
    pub fn dropped(mut self, reason: &'static str, refusal: &Refusal) {
        if let Keeping::Log(batch) = &self.keeping {
            batch.dropped(reason);
        }
        for custody in self.custodies.drain(..) {
            custody.dropped(reason);
        }
        for ack in self.acks.drain(..) {
            ack.answer(Answer::Refused(refusal.clone()));
        }
    }

    /// The process ends first: what a log has stays there, what is in memory is given up. Returns the items given up.
    pub fn cut_short(mut self) -> usize {
        if matches!(self.keeping, Keeping::Log(_)) {
            self.keep();
            return 0;
        }
        let items = self.items();
        self.dropped("shutdown", &Refusal::shutting_down());
        items
    }

    /// Whether retries may go on for ever because a log has the batch.
    pub fn is_durable(&self) -> bool {
        matches!(self.keeping, Keeping::Log(_))
    }

    /// Whether the batch has become older than the queue keeps data.
    pub fn is_expired(&self) -> bool {
        match &self.keeping {
            Keeping::Log(batch) => batch.is_expired(),
            Keeping::Memory { .. } => false,
        }
    }

    /// Two batches in its place, each with about half of the items and a name of its own.
    ///
    /// # Errors
    /// Itself, if it has one item only, or the log cannot divide it now.
    pub async fn split(mut self) -> Result<[Delivery; 2], Self> {
        let items = self.items();
        if items < 2 {
            return Err(self);
        }
        match &mut self.keeping {
            Keeping::Memory { signal, payload } => {
                let (signal, payload) = (*signal, std::mem::take(payload));
                Ok(self.split_in_memory(signal, payload, items / 2))
            }
            Keeping::Log(batch) => match batch.split(items / 2, &self.done).await {
                Some(halves) => {
                    self.keep();
                    Ok(halves)
                }
                None => Err(self),
            },
        }
    }

    fn split_in_memory(mut self, signal: Signal, payload: Payload, at: usize) -> [Delivery; 2] {
        let items = payload.items();
        let first = take_front(&mut self.custodies, at);
        // Whoever waits hears the worst of both halves.
        let (first_acks, second_acks) = self
            .acks
            .drain(..)
            .filter_map(|ack| {
                let mut parts = ack.split(2).into_iter();
                Some((parts.next()?, parts.next()?))
            })
            .unzip();
        let second = std::mem::take(&mut self.custodies);
        let done = self.done.clone();
        let halves = [(first, first_acks, 0..at), (second, second_acks, at..items)];
        halves.map(|(custodies, acks, range)| {
            let part = crate::gather::part(signal, payload.clone(), range);
            memory::delivery(signal, part, custodies, acks, done.inherited())
        })
    }

    /// Whose the items are, in order, and how many.
    pub fn shares(&self) -> impl Iterator<Item = (&str, usize)> {
        let custodies = self.custodies.iter();
        custodies.map(|custody| (custody.pipeline(), custody.items()))
    }

    /// The pipelines whose items these are.
    pub fn pipelines(&self) -> BTreeSet<&str> {
        self.custodies.iter().map(Custody::pipeline).collect()
    }

    /// When the oldest of the items came, in milliseconds since 1970; `None` where only this process knows of them.
    pub fn since_unix_ms(&self) -> Option<u64> {
        match &self.keeping {
            Keeping::Log(batch) => Some(batch.oldest_ms()),
            Keeping::Memory { .. } => None,
        }
    }

    /// The items again, as to write them to a dead-letter file.
    ///
    /// # Errors
    /// When they cannot be read from the log.
    pub async fn payload(&self) -> Result<Payload, String> {
        match &self.keeping {
            Keeping::Memory { payload, .. } => Ok(payload.clone()),
            Keeping::Log(batch) => batch.read().await,
        }
    }

    fn keep(&mut self) {
        for custody in self.custodies.drain(..) {
            custody.stays();
        }
        for ack in self.acks.drain(..) {
            ack.answer(Answer::Queued);
        }
    }
}

/// Custody of the first `items`; of the rest it stays where it is.
fn take_front(custodies: &mut Vec<Custody>, items: usize) -> Vec<Custody> {
    let mut front = Vec::new();
    let mut left = items;
    while left > 0
        && let Some(custody) = custodies.first_mut()
    {
        if custody.items() > left {
            front.push(custody.split(left));
            break;
        }
        left -= custody.items();
        front.push(custodies.remove(0));
    }
    front
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if matches!(self.keeping, Keeping::Log(_)) {
            self.keep();
        }
    }
}

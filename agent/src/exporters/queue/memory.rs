//! The sending queue in memory: bounded, ordered, closed once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::former::{Former, Part, Told};
use super::options::QueueSettings;
use super::{Account, Delivery, Keeping, Opening, Parts, Returned, Settlement, Ticket};
use crate::ack::{Ack, Answer, Refusal, RefusalReason};
use crate::batch::Payload;
use crate::component::{ExporterContext, Shutdown};
use crate::gather::Batching;
use crate::ledger::Custody;
use crate::progress::Pulse;
use crate::signal::Signal;
use crate::telemetry::{Gauge, Telemetry, names};

/// What a queue's size counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sizer {
    /// Batches.
    #[default]
    Requests,
    /// Spans, log records or data points.
    Items,
    /// Bytes in OTLP wire format.
    Bytes,
}

impl Sizer {
    /// As it is written.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Items => "items",
            Self::Bytes => "bytes",
        }
    }

    fn size(self, payload: &Payload) -> usize {
        match self {
            Self::Requests => 1,
            Self::Items => payload.items(),
            Self::Bytes => payload.byte_len(),
        }
    }
}

/// A request in a queue, with the responsibility for it.
#[derive(Debug)]
struct Entry {
    payload: Payload,
    carried: Carried,
}

/// What a request carries.
#[derive(Debug)]
struct Carried {
    custody: Custody,
    /// Whoever still waits for delivery; settled already unless the queue was told to make clients wait.
    ack: Ack,
}

impl Part for Carried {
    fn split(&mut self, items: usize) -> Self {
        let ack = std::mem::replace(&mut self.ack, Ack::settled());
        let mut acks = ack.split(2).into_iter();
        self.ack = acks.next().unwrap_or(Ack::settled());
        Self {
            custody: self.custody.split(items),
            ack: acks.next().unwrap_or(Ack::settled()),
        }
    }
}

/// A bounded queue of requests. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Inner>);

struct Inner {
    signal: Signal,
    telemetry: Telemetry,
    /// How batches are formed: as the queue was told itself, else as the first pipeline says.
    batching: Told,
    size: Gauge,
    capacity: Gauge,
    /// Guards what was given back.
    returned: Returned,
    /// Guards the entries, their summed size, the limits, and whether the queue is closed.
    state: Mutex<State>,
    /// Woken when an entry arrives or the queue closes.
    arrived: Notify,
    /// Guards the batch under way: one worker at a time gathers.
    former: tokio::sync::Mutex<Former<Carried>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("signal", &self.signal)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    entries: VecDeque<Entry>,
    size: usize,
    opening: Opening,
    sizer: Sizer,
    capacity: usize,
    wait_for_result: bool,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(context: &ExporterContext, signal: Signal, settings: &QueueSettings) -> Self {
        let telemetry = &context.telemetry;
        let labels = [context.id.as_str(), signal.name()];
        Self(Arc::new(Inner {
            signal,
            batching: Told::new(settings.batching.clone()),
            size: telemetry.gauge(&names::EXPORTER_QUEUE_SIZE, &labels),
            capacity: telemetry.gauge(&names::EXPORTER_QUEUE_CAPACITY, &labels),
            returned: Mutex::default(),
            state: Mutex::new(State {
                entries: VecDeque::new(),
                size: 0,
                opening: Opening::default(),
                sizer: settings.sizer,
                capacity: settings.capacity,
                wait_for_result: settings.wait_for_result,
            }),
            arrived: Notify::new(),
            former: tokio::sync::Mutex::new(Former::new(signal)),
            telemetry: telemetry.clone(),
        }))
    }

    #[cfg(test)]
    pub(super) fn form(&self, batching: Batching) {
        self.0.batching.tell(Some(batching));
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn tune(&self, settings: &QueueSettings, batching: Option<Batching>) {
        let mut state = self.state();
        state.opening.reopen();
        state.capacity = settings.capacity;
        state.wait_for_result = settings.wait_for_result;
        if state.sizer != settings.sizer {
            let sizes = state.entries.iter();
            state.size = sizes.map(|entry| settings.sizer.size(&entry.payload)).sum();
            state.sizer = settings.sizer;
        }
        self.publish(&state);
        drop(state);
        let capacity = i64::try_from(settings.capacity).unwrap_or(i64::MAX);
        self.0.capacity.set(capacity);
        self.0.batching.tell(batching);
        self.0.arrived.notify_one();
    }

    pub(super) fn ready(&self) -> Result<(), Refusal> {
        let state = self.state();
        if state.size >= state.capacity {
            return Err(Refusal::retry(
                RefusalReason::QueueFull,
                "sending queue is full",
                Refusal::DEFAULT_RETRY_AFTER,
            ));
        }
        Ok(())
    }

    pub(super) fn waiting_bytes(&self) -> u64 {
        let state = self.state();
        let bytes = state.entries.iter().map(|entry| entry.payload.byte_len());
        bytes.sum::<usize>() as u64
    }

    pub(super) fn push(&self, account: &Account, payload: Payload, ack: Ack) {
        self.push_waiting(account, payload, ack, false);
    }

    /// Takes a request; its sender is answered at once, or after delivery if it `waits` or the queue was told so.
    pub(super) fn push_waiting(&self, account: &Account, payload: Payload, ack: Ack, waits: bool) {
        let items = payload.items();
        let mut state = self.state();
        let waits = waits || state.wait_for_result;
        if state.opening.closed {
            drop(state);
            if account.counted {
                account.ledger.custody(items).dropped("shutting_down");
            }
            ack.answer(Answer::Refused(Refusal::shutting_down()));
            return;
        }
        if !account.counted {
            account.ledger.accept(items);
        }
        let custody = account.ledger.custody(items);
        let (ack, answered) = if waits {
            (ack, Ack::settled())
        } else {
            (Ack::settled(), ack)
        };
        state.size += state.sizer.size(&payload);
        state.entries.push_back(Entry {
            payload,
            carried: Carried { custody, ack },
        });
        self.publish(&state);
        drop(state);
        self.0.arrived.notify_one();
        answered.answer(Answer::Queued);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.state().entries.is_empty() || !self.returned().is_empty()
    }

    pub(super) async fn next(&self, leave: &Shutdown, pulse: &Pulse) -> Option<Delivery> {
        let mut former = tokio::select! {
            biased;
            () = leave.triggered() => return None,
            former = self.0.former.lock() => former,
        };
        loop {
            if leave.is_triggered() {
                return None;
            }
            let arrived = self.0.arrived.notified();
            if let Some(delivery) = self.take_returned() {
                return Some(delivery);
            }
            former.follow(&self.0.batching, &self.0.telemetry);
            while !former.is_due()
                && let Some(entry) = self.pop()
            {
                former.push(entry.payload, entry.carried);
            }
            if former.is_due() || self.is_finished() {
                // Another worker may wait for the same news.
                self.0.arrived.notify_one();
                let (payload, carried) = former.take()?;
                let (custodies, acks) = carried
                    .into_iter()
                    .map(|carried| (carried.custody, carried.ack))
                    .unzip();
                let done = Parts::default();
                return Some(delivery(self.0.signal, payload, custodies, acks, done));
            }
            let arrived = async {
                match former.deadline() {
                    Some(deadline) => {
                        pulse.until(deadline);
                        drop(tokio::time::timeout_at(deadline.into(), arrived).await);
                    }
                    None => {
                        pulse.rests();
                        arrived.await;
                    }
                }
            };
            tokio::select! {
                () = arrived => {}
                () = leave.triggered() => return None,
            }
        }
    }

    pub(super) fn put_back(&self, ticket: Ticket, settlement: Settlement) {
        self.returned().push_back((ticket, settlement));
        self.0.arrived.notify_one();
    }

    fn take_returned(&self) -> Option<Delivery> {
        let (ticket, settlement) = self.returned().pop_front()?;
        // Another worker may wait for the same news.
        self.0.arrived.notify_one();
        let payload = match &settlement.keeping {
            Keeping::Memory { payload, .. } => payload.clone(),
            Keeping::Log(_) => Payload::default(),
        };
        Some(Delivery {
            payload,
            ticket,
            settlement,
        })
    }

    fn returned(&self) -> MutexGuard<'_, VecDeque<(Ticket, Settlement)>> {
        let returned = self.0.returned.lock();
        returned.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.state().opening.closed = true;
        self.0.arrived.notify_one();
    }

    pub(super) fn turn(&self) -> u64 {
        self.state().opening.turn
    }

    pub(super) fn close_if_still(&self, turn: u64) {
        if self.state().opening.close_if_still(turn) {
            self.0.arrived.notify_one();
        }
    }

    /// Gives up everything that waits, as when a drain is cut short.
    pub(super) async fn give_up(&self) {
        let mut former = self.0.former.lock().await;
        for (_, settlement) in std::mem::take(&mut *self.returned()) {
            settlement.cut_short();
        }
        while let Some(entry) = self.pop() {
            former.push(entry.payload, entry.carried);
        }
        while let Some((_, carried)) = former.take() {
            for Carried { custody, ack } in carried {
                custody.dropped("shutdown");
                ack.answer(Answer::Refused(Refusal::shutting_down()));
            }
        }
    }

    fn pop(&self) -> Option<Entry> {
        let mut state = self.state();
        let entry = state.entries.pop_front()?;
        state.size -= state.sizer.size(&entry.payload);
        self.publish(&state);
        Some(entry)
    }

    fn is_finished(&self) -> bool {
        let state = self.state();
        state.opening.closed && state.entries.is_empty()
    }

    fn publish(&self, state: &State) {
        self.0
            .size
            .set(i64::try_from(state.size).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is in memory only.
pub(super) fn delivery(
    signal: Signal,
    payload: Payload,
    custodies: Vec<Custody>,
    acks: Vec<Ack>,
    done: Parts,
) -> Delivery {
    Delivery {
        ticket: Ticket {
            name: names_of_batches::next(),
            done: done.clone(),
            log: None,
        },
        settlement: Settlement {
            custodies,
            acks,
            done,
            keeping: Keeping::Memory {
                signal,
                payload: payload.clone(),
            },
        },
        payload,
    }
}

/// Names for batches that no other batch has, on this or any other machine.
mod names_of_batches {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, LazyLock};

    /// 128 random bits of this process.
    static PROCESS: LazyLock<String> = LazyLock::new(|| {
        use std::hash::{BuildHasher, RandomState};
        let now = std::time::SystemTime::now();
        let half = || RandomState::new().hash_one((now, std::process::id()));
        format!("{:016x}{:016x}", half(), half())
    });
    static NEXT: AtomicU64 = AtomicU64::new(0);

    pub(super) fn next() -> Arc<str> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", *PROCESS).into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::Chunk;
    use crate::ledger::Ledger;
    use crate::testing::exporter_context;

    fn queue(sizer: Sizer, capacity: usize) -> (Queue, Account) {
        let context = exporter_context(&[Signal::Traces]);
        let settings = QueueSettings {
            sizer,
            ..QueueSettings::short(capacity)
        };
        let queue = Queue::new(&context, Signal::Traces, &settings);
        let account = Account {
            ledger: Ledger::new(&context.telemetry, "traces", "test", Signal::Traces),
            origin: 0,
            counted: false,
        };
        (queue, account)
    }

    fn push(queue: &(Queue, Account), items: usize) {
        let payload = Chunk::new(Bytes::from(vec![0; items * 10]), items).into();
        queue.0.push(&queue.1, payload, Ack::settled());
    }

    #[test]
    fn fullness_is_counted_by_the_sizer() {
        let check = |sizer, capacity, full: bool| {
            let queue = queue(sizer, capacity);
            push(&queue, 5);
            assert_eq!(queue.0.ready().is_err(), full, "{sizer:?} {capacity}");
        };
        check(Sizer::Requests, 2, false);
        check(Sizer::Requests, 1, true);
        check(Sizer::Items, 6, false);
        check(Sizer::Items, 5, true);
        check(Sizer::Bytes, 51, false);
        check(Sizer::Bytes, 50, true);
    }

    #[tokio::test]
    async fn requests_leave_in_order_and_a_closed_queue_ends_every_worker() {
        let queue = queue(Sizer::Requests, 10);
        for items in 1..=3 {
            push(&queue, items);
        }
        queue.0.close();
        let (ack, answered) = Ack::channel();
        let late = Chunk::new(Bytes::new(), 1).into();
        queue.0.push(&queue.1, late, ack);
        assert!(matches!(answered.await, Answer::Refused(_)));
        for items in 1..=3 {
            let delivery = queue
                .0
                .next(&Shutdown::default(), &Pulse::unwatched())
                .await
                .unwrap();
            assert_eq!(delivery.payload.items(), items);
            delivery.settlement.delivered();
        }
        let (stay, idle) = (Shutdown::default(), Pulse::unwatched());
        let (first, second) = tokio::join!(queue.0.next(&stay, &idle), queue.0.next(&stay, &idle));
        assert!(first.is_none() && second.is_none());
    }

    #[tokio::test]
    async fn taking_makes_room() {
        let queue = queue(Sizer::Requests, 1);
        push(&queue, 1);
        assert!(queue.0.ready().is_err());
        queue
            .0
            .next(&Shutdown::default(), &Pulse::unwatched())
            .await
            .unwrap()
            .settlement
            .delivered();
        assert!(queue.0.ready().is_ok());
    }
}

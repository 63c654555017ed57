//! The sending queue in memory: bounded, ordered, closed once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::ack::Ack;
use crate::batch::Payload;
use crate::ledger::Custody;
use crate::telemetry::{Gauge, Telemetry, names};

/// What a queue's size counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
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
    fn size(self, payload: &Payload) -> usize {
        match self {
            Self::Requests => 1,
            Self::Items => payload.items(),
            Self::Bytes => payload.byte_len(),
        }
    }
}

/// A batch in a queue, with the responsibility for it.
#[derive(Debug)]
pub struct Entry {
    /// The items.
    pub payload: Payload,
    /// The account to settle.
    pub custody: Custody,
    /// Whoever still waits for delivery; settled already unless the queue was told to make clients wait.
    pub ack: Ack,
}

/// A bounded queue of batches. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sizer: Sizer,
    capacity: usize,
    wait_for_result: bool,
    size: Gauge,
    /// Guards the entries, their summed size, and whether the queue is closed.
    state: Mutex<State>,
    /// Woken when an entry arrives or the queue closes.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    size: usize,
    closed: bool,
}

impl Queue {
    /// An empty queue that holds `capacity` of what `sizer` counts.
    pub fn new(
        telemetry: &Telemetry,
        labels: [&str; 2],
        sizer: Sizer,
        capacity: usize,
        wait_for_result: bool,
    ) -> Self {
        telemetry
            .gauge(&names::EXPORTER_QUEUE_CAPACITY, &labels)
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        Self(Arc::new(Inner {
            sizer,
            capacity,
            wait_for_result,
            size: telemetry.gauge(&names::EXPORTER_QUEUE_SIZE, &labels),
            state: Mutex::default(),
            arrived: Notify::new(),
        }))
    }

    /// Whether clients are answered only after delivery.
    pub fn waits_for_result(&self) -> bool {
        self.0.wait_for_result
    }

    /// Whether the queue is at its capacity.
    pub fn is_full(&self) -> bool {
        self.state().size >= self.0.capacity
    }

    /// Appends an entry even to a full queue: pipelines refuse at the door while a queue is full, so what still comes
    /// is what processors held back, at most one batch each.
    ///
    /// # Errors
    /// Gives the entry back when the queue is closed.
    pub fn push(&self, entry: Entry) -> Result<(), Box<Entry>> {
        let mut state = self.state();
        if state.closed {
            return Err(Box::new(entry));
        }
        state.size += self.0.sizer.size(&entry.payload);
        state.entries.push_back(entry);
        self.publish(&state);
        drop(state);
        self.0.arrived.notify_one();
        Ok(())
    }

    /// The oldest entry, waiting for one; `None` when the queue is closed and empty.
    pub async fn pop(&self) -> Option<Entry> {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(entry) = self.try_pop() {
                return Some(entry);
            }
            if self.state().closed {
                self.0.arrived.notify_one();
                return None;
            }
            arrived.await;
        }
    }

    /// Takes no more entries. Workers empty the queue and end.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.arrived.notify_one();
    }

    /// Takes out everything that waits, as when a drain is cut short.
    pub fn take_all(&self) -> Vec<Entry> {
        let mut state = self.state();
        state.size = 0;
        let entries = std::mem::take(&mut state.entries);
        self.publish(&state);
        entries.into()
    }

    fn try_pop(&self) -> Option<Entry> {
        let mut state = self.state();
        let entry = state.entries.pop_front()?;
        state.size -= self.0.sizer.size(&entry.payload);
        self.publish(&state);
        let more = !state.entries.is_empty();
        drop(state);
        if more {
            self.0.arrived.notify_one();
        }
        Some(entry)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::Chunk;
    use crate::ledger::Ledger;
    use crate::signal::Signal;

    fn entry(items: usize) -> Entry {
        let ledger = Ledger::new(&Telemetry::default(), "traces", "test", Signal::Traces);
        ledger.accept(items);
        Entry {
            payload: Chunk::new(Bytes::from(vec![0; items * 10]), items).into(),
            custody: ledger.custody(items),
            ack: Ack::settled(),
        }
    }

    fn queue(sizer: Sizer, capacity: usize) -> Queue {
        Queue::new(
            &Telemetry::default(),
            ["test", "traces"],
            sizer,
            capacity,
            false,
        )
    }

    #[test]
    fn fullness_is_counted_by_the_sizer() {
        let check = |sizer, capacity, expected: bool| {
            let queue = queue(sizer, capacity);
            queue.push(entry(5)).unwrap();
            assert_eq!(queue.is_full(), expected, "{sizer:?} {capacity}");
        };
        check(Sizer::Requests, 2, false);
        check(Sizer::Requests, 1, true);
        check(Sizer::Items, 6, false);
        check(Sizer::Items, 5, true);
        check(Sizer::Bytes, 51, false);
        check(Sizer::Bytes, 50, true);
    }

    #[tokio::test]
    async fn entries_leave_in_order_and_a_closed_queue_ends_every_worker() {
        let queue = queue(Sizer::Requests, 10);
        for items in 1..=3 {
            queue.push(entry(items)).unwrap();
        }
        queue.close();
        assert!(queue.push(entry(4)).is_err());
        for items in 1..=3 {
            assert_eq!(queue.pop().await.unwrap().payload.items(), items);
        }
        let (first, second) = tokio::join!(queue.pop(), queue.pop());
        assert!(first.is_none() && second.is_none());
    }

    #[tokio::test]
    async fn popping_makes_room() {
        let queue = queue(Sizer::Requests, 1);
        queue.push(entry(1)).unwrap();
        assert!(queue.is_full());
        assert!(queue.pop().await.is_some());
        assert!(!queue.is_full());
    }
}

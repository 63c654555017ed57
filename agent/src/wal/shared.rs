//! What connects callers, reader and writer of one log: the state, the inbox of the writer, and who is woken when.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, oneshot};

use super::error::Error;
use super::files::Files;
use super::group::Order;
use super::layout::{LogId, segment_name};
use super::options::LogOptions;
use super::state::State;

/// Answers one order with the sequence number it got.
pub(super) enum Answer {
    /// To whoever waits for it.
    Channel(oneshot::Sender<Result<u64, Error>>),
    /// By a call, which comes before a reader can see the record.
    Call(Box<dyn FnOnce(Result<u64, Error>) + Send>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

impl Answer {
    pub(super) fn give(self, outcome: Result<u64, Error>) {
        match self {
            // Nobody to tell: the caller has gone away, the record stays.
            Self::Channel(sender) => drop(sender.send(outcome)),
            Self::Call(call) => call(outcome),
        }
    }
}

/// An order in the inbox. Without an answer nobody waits, and the order is kept until it is written.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) order: Order,
    pub(super) answer: Option<Answer>,
}

#[derive(Debug, Default)]
struct Inbox {
    orders: VecDeque<Pending>,
    bytes: usize,
    closing: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// May be told anew.
    options: ArcSwap<LogOptions>,
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) log: LogId,
    /// Guards what is known of the log's content. Held for moments, never during I/O.
    state: Mutex<State>,
    /// Guards what waits for the writer.
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    /// Woken when there is more to read, or the log closes.
    pub(super) readable: Notify,
    /// Bytes that can be appended before the disk must give more; `u64::MAX` while it does when asked.
    pub(super) room: AtomicU64,
    pub(super) observer: OnceLock<Observer>,
}

/// Called when a group of records is about to be written, with whether it will be synced; what it gives is dropped when
/// that is done.
pub(super) struct Observer(pub(super) Box<dyn Fn(bool) -> Box<dyn Send> + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// What the writer found in its inbox.
pub(super) struct Taken {
    pub(super) orders: VecDeque<Pending>,
    pub(super) closing: bool,
}

/// What one order costs in the inbox besides its body.
const ORDER_OVERHEAD: usize = 128;

impl Shared {
    pub(super) fn new(
        options: LogOptions,
        files: Arc<dyn Files>,
        dir: PathBuf,
        log: LogId,
        state: State,
    ) -> Self {
        Self {
            options: ArcSwap::from_pointee(options),
            files,
            dir,
            log,
            state: Mutex::new(state),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            readable: Notify::new(),
            room: AtomicU64::new(u64::MAX),
            observer: OnceLock::new(),
        }
    }

    pub(super) fn options(&self) -> Guard<Arc<LogOptions>> {
        self.options.load()
    }

    /// From the next record, and for its size from the next segment on.
    pub(super) fn set_options(&self, options: LogOptions) {
        self.options.store(Arc::new(options));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segment_path(&self, first_seq: u64) -> PathBuf {
        self.dir.join(segment_name(first_seq))
    }

    /// Hands an order to the writer, unless it is data and too much waits already, or the log is closing: then the
    /// one to be answered comes back.
    pub(super) fn send(&self, pending: Pending) -> Result<(), (Error, Option<Answer>)> {
        let cost = cost(&pending.order);
        let mut inbox = self.inbox();
        if inbox.closing {
            return Err((Error::Closed, pending.answer));
        }
        let full = inbox.bytes > 0 && inbox.bytes + cost > self.options().pending_bytes;
        if pending.order.is_data() && full {
            return Err((Error::Busy, pending.answer));
        }
        inbox.bytes += cost;
        let was_empty = inbox.orders.is_empty();
        inbox.orders.push_back(pending);
        drop(inbox);
        if was_empty {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Lets the writer finish what waits and end.
    pub(super) fn close(&self) {
        self.inbox().closing = true;
        self.arrived.notify_one();
    }

    /// Everything that waits; waits for something until `deadline`.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Taken {
        let mut inbox = self.inbox();
        while inbox.orders.is_empty() && !inbox.closing {
            let Some(deadline) = deadline else {
                inbox = self
                    .arrived
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inbox = self
                .arrived
                .wait_timeout(inbox, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        inbox.bytes = 0;
        Taken {
            orders: std::mem::take(&mut inbox.orders),
            closing: inbox.closing,
        }
    }

    /// Bytes of orders that wait for the writer.
    pub(super) fn pending_bytes(&self) -> usize {
        self.inbox().bytes
    }

    /// Whether `bytes` more can be appended as far as is known.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.room.load(Ordering::Relaxed)
    }
}

fn cost(order: &Order) -> usize {
    match order {
        Order::Data { payload, .. } => payload.byte_len() + ORDER_OVERHEAD,
        Order::Control { .. } => ORDER_OVERHEAD,
    }
}

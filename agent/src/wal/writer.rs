//! The one thread that writes a log: takes all that waits, writes and syncs it once, answers all of it, and keeps the
//! files in order meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::debug;

use super::error::Error;
use super::group::{Group, Order};
use super::layout::Control;
use super::options::Fsync;
use super::position::Position;
use super::segment::{Active, Mark, Prepared};
use super::shared::{Answer, Pending, Shared};
use super::state::{Recent, State};
use super::turns;

/// Bytes written at once, so that those who came first are answered first.
const GROUP_BYTES: u64 = 8 << 20;

/// A record of the group being written.
pub(super) struct Placed {
    pending: Pending,
    seq: u64,
    offset: u64,
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// `None` after a failure, until another segment can be begun.
    pub(super) active: Option<Active>,
    pub(super) next: Option<Prepared>,
    pub(super) next_seq: u64,
    /// Where the next boundary must begin.
    pub(super) batched: Position,
    /// Orders that nobody waits for, written and not synced.
    pub(super) unsynced: Vec<Order>,
    /// Orders that nobody waits for and that could not be written yet.
    pub(super) owed: VecDeque<Pending>,
    pub(super) group: Group,
    pub(super) sync_due: Option<Instant>,
    pub(super) retry_due: Option<Instant>,
    pub(super) idle_due: Option<Instant>,
    /// The directory is another's once this is gone.
    _lock: Box<dyn Send>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        active: Active,
        next_seq: u64,
        lock: Box<dyn Send>,
    ) -> Self {
        let batched = shared.state().books.batched();
        Self {
            shared,
            active: Some(active),
            next: None,
            next_seq,
            batched,
            unsynced: Vec::new(),
            owed: VecDeque::new(),
            group: Group::default(),
            sync_due: None,
            retry_due: None,
            idle_due: None,
            _lock: lock,
        }
    }

    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        let short_turns = turns::shorten();
        debug!(short_turns, "the writer of a queue on disk begins");
        self.reclaim();
        loop {
            let due = [self.sync_due, self.retry_due, self.idle_due];
            let taken = self.shared.take(due.into_iter().flatten().min());
            let busy = !taken.orders.is_empty();
            let mut orders = std::mem::take(&mut self.owed);
            orders.extend(taken.orders);
            if taken.closing {
                self.commit_all(orders);
                if busy {
                    continue;
                }
                return self.finish();
            }
            if busy || self.retry_due.is_some_and(is_past) {
                self.commit_all(orders);
            } else {
                self.owed = orders;
            }
            self.tend(busy);
        }
    }

    // === committing ===

    fn commit_all(&mut self, mut orders: VecDeque<Pending>) {
        while let Some(first) = orders.pop_front() {
            if let Err(error) = self.make_room(&first.order) {
                self.refuse(first, &error);
                continue;
            }
            orders.push_front(first);
            self.commit_some(&mut orders);
        }
    }

    /// Writes as many of `orders` as go into the segment at once.
    fn commit_some(&mut self, orders: &mut VecDeque<Pending>) {
        let Some(mut active) = self.active.take() else {
            return;
        };
        let start = Mark {
            offset: active.written,
            seq: self.next_seq,
        };
        let placed = self.lay_out(&active, orders);
        if placed.is_empty() {
            self.active = Some(active);
            return;
        }
        let urgent = placed.iter().any(|record| record.pending.answer.is_some());
        let sync = urgent && self.shared.options().fsync == Fsync::Always;
        let observer = self.shared.observer.get();
        let observed = observer.map(|observer| (observer.0)(sync));
        let len = self.group.len();
        let written = active.write(self.group.parts(), len);
        self.group.clear();
        if let Err(error) = written {
            self.give_up(active, start, placed, &error);
            return;
        }
        if sync && let Err(error) = active.sync(self.next_seq) {
            let synced = active.synced;
            self.give_up(active, synced, placed, &error);
            return;
        }
        drop(observed);
        let synced = active.synced.seq == self.next_seq;
        self.publish(&active, placed, synced);
        self.active = Some(active);
        if synced {
            self.after_sync();
        } else {
            self.schedule_sync();
        }
    }

    /// Numbers and encodes orders from the front until the segment or the group is full.
    fn lay_out(&mut self, active: &Active, orders: &mut VecDeque<Pending>) -> Vec<Placed> {
        self.group.clear();
        let now = unix_ms();
        let mut placed = Vec::with_capacity(orders.len().min(1024));
        while let Some(pending) = orders.pop_front() {
            let stride = pending.order.stride();
            let offset = active.written + self.group.len();
            let full = self.group.len() > 0 && self.group.len() + stride > GROUP_BYTES;
            if full || offset + stride > self.limit(active, &pending.order) {
                orders.push_front(pending);
                break;
            }
            if let Err(error) = self.check_order(&pending.order) {
                self.refuse(pending, &error);
                continue;
            }
            let seq = self.next_seq;
            self.next_seq = self.group.push(self.shared.log, seq, now, &pending.order);
            placed.push(Placed {
                pending,
                seq,
                offset,
            });
        }
        placed
    }

    /// Batches continue each other without a gap.
    fn check_order(&mut self, order: &Order) -> Result<(), Error> {
        let Order::Control {
            control: Control::Boundary(range) | Control::DroppedRange { range, .. },
            ..
        } = order
        else {
            return Ok(());
        };
        if range.start != self.batched || range.end <= range.start {
            return Err(Error::OutOfOrder);
        }
        self.batched = range.end;
        Ok(())
    }

    /// Takes what has been written into the state, and answers.
    fn publish(&mut self, active: &Active, placed: Vec<Placed>, synced: bool) {
        let mut answers: Vec<(Answer, u64)> = Vec::new();
        let mut state = self.shared.state();
        state.next_seq = self.next_seq;
        let segment = state.last_segment();
        segment.end_seq = self.next_seq;
        let before = std::mem::replace(&mut segment.len, active.written);
        state.totals.groups += 1;
        state.totals.written_bytes += active.written - before;
        for record in placed {
            let Placed {
                pending,
                seq,
                offset,
            } = record;
            let written = apply(&mut state, seq, offset, pending.order);
            match pending.answer {
                // While nobody can see the record.
                Some(call @ Answer::Call(_)) => call.give(Ok(seq)),
                Some(answer) => answers.push((answer, seq)),
                None if synced => {}
                None => self.unsynced.extend(written),
            }
        }
        let more = state.read < state.data_end;
        drop(state);
        if more {
            self.shared.readable.notify_one();
        }
        for (answer, seq) in answers {
            answer.give(Ok(seq));
        }
    }

    // === failing ===

    /// After a failed write or sync: cuts the segment back to `keep`, and begins another with the next order.
    pub(super) fn give_up(
        &mut self,
        active: Active,
        keep: Mark,
        placed: Vec<Placed>,
        error: &Error,
    ) {
        let mut keep = keep;
        match active.cut(keep.offset) {
            // The cut's sync covers what was written before the group.
            Ok(()) => self.requeue_if(keep == active.synced),
            Err(_) if self.shared.options().fsync == Fsync::Always => {
                keep = active.synced;
                self.requeue_if(true);
            }
            Err(_) => {}
        }
        self.next_seq = keep.seq;
        let mut state = self.shared.state();
        state.totals.failures += 1;
        state.next_seq = keep.seq;
        self.batched = state.books.batched();
        let segment = state.last_segment();
        segment.end_seq = keep.seq;
        segment.len = keep.offset;
        segment.failed = true;
        drop(state);
        for record in placed {
            self.refuse(record.pending, error);
        }
        self.retry_later();
    }

    /// What was written and not synced is written again, or is durable now.
    fn requeue_if(&mut self, lost: bool) {
        let orders = std::mem::take(&mut self.unsynced);
        if lost {
            self.owed.extend(orders.into_iter().map(|order| Pending {
                order,
                answer: None,
            }));
        }
    }

    /// Answers with `error`, or keeps an order that nobody waits for.
    fn refuse(&mut self, pending: Pending, error: &Error) {
        let Some(answer) = pending.answer else {
            self.owed.push_back(pending);
            self.retry_later();
            return;
        };
        let mut state = self.shared.state();
        state.totals.refused_records += 1;
        if let Order::Control {
            control: Control::Split { batch, .. },
            ..
        } = &pending.order
        {
            state.settling.remove(batch);
        }
        drop(state);
        answer.give(Err(error.clone()));
    }

    pub(super) fn retry_later(&mut self) {
        let delay = self.shared.options().retry;
        self.retry_due.get_or_insert_with(|| Instant::now() + delay);
    }
}

/// Takes what has been written into the state. A control record comes back, in case that it must be written again.
fn apply(state: &mut State, seq: u64, offset: u64, order: Order) -> Option<Order> {
    match order {
        Order::Data {
            origin,
            unix_ms,
            payload,
        } => {
            let recent = Recent {
                seq,
                origin,
                unix_ms,
                payload,
            };
            state.commit_data(recent, offset);
            None
        }
        Order::Control {
            control,
            tallies,
            applied,
        } => {
            if !applied {
                state.commit_control(seq, &control, &tallies);
            }
            Some(Order::Control {
                control,
                tallies,
                applied: true,
            })
        }
    }
}

pub(super) fn is_past(deadline: Instant) -> bool {
    deadline <= Instant::now()
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

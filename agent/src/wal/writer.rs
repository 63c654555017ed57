//! The one thread that writes a log: takes all that waits, writes and syncs it once, answers all of it, and keeps the
//! files in order meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::error::Error;
use super::group::{Group, Order};
use super::layout::{Control, PREPARED, SEGMENT_HEADER, SegmentHeader};
use super::options::Fsync;
use super::position::Position;
use super::segment::{Active, Mark, Prepared};
use super::shared::{Answer, Pending, Shared};
use super::state::{Recent, Segment, State};

/// How long what nobody waits for stays unsynced.
const LAZY_SYNC: Duration = Duration::from_millis(100);
/// Bytes written at once, so that those who came first are answered first.
const GROUP_BYTES: u64 = 8 << 20;
/// Space asked for when there is none for a whole segment, so that deliveries can be noted.
const CONTROL_SEGMENT: u64 = 64 << 10;

/// A record of the group being written.
struct Placed {
    pending: Pending,
    seq: u64,
    offset: u64,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure, until another segment can be begun.
    active: Option<Active>,
    next: Option<Prepared>,
    next_seq: u64,
    /// Where the next boundary must begin.
    batched: Position,
    /// Orders that nobody waits for, written and not synced.
    unsynced: Vec<Order>,
    /// Orders that nobody waits for and that could not be written yet.
    owed: VecDeque<Pending>,
    group: Group,
    sync_due: Option<Instant>,
    retry_due: Option<Instant>,
    idle_due: Option<Instant>,
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
        let len = self.group.len();
        let urgent = placed.iter().any(|record| record.pending.answer.is_some());
        let written = active.write(&mut self.group.parts(), len);
        self.group.clear();
        if let Err(error) = written {
            self.give_up(active, start, placed, &error);
            return;
        }
        if urgent
            && self.shared.options.fsync == Fsync::Always
            && let Err(error) = active.sync(self.next_seq)
        {
            let synced = active.synced;
            self.give_up(active, synced, placed, &error);
            return;
        }
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
    fn publish(&mut self, active: &Active, mut placed: Vec<Placed>, synced: bool) {
        for record in &mut placed {
            if let Some(Answer::Call(_)) = record.pending.answer
                && let Some(answer) = record.pending.answer.take()
            {
                answer.give(Ok(record.seq));
            }
        }
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
            apply(&mut state, seq, offset, &pending.order);
            match pending.answer {
                Some(answer) => answers.push((answer, seq)),
                None if synced => {}
                None => self.unsynced.push(as_applied(pending.order)),
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
    fn give_up(&mut self, active: Active, keep: Mark, placed: Vec<Placed>, error: &Error) {
        let mut keep = keep;
        match active.cut(keep.offset) {
            // The cut's sync covers what was written before the group.
            Ok(()) => self.requeue_if(keep == active.synced),
            Err(_) if self.shared.options.fsync == Fsync::Always => {
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

    fn retry_later(&mut self) {
        let delay = self.shared.options.retry;
        self.retry_due.get_or_insert_with(|| Instant::now() + delay);
    }

    // === room ===

    /// Where in the segment records like `order` must end.
    fn limit(&self, active: &Active, order: &Order) -> u64 {
        if !order.is_data() {
            return active.capacity;
        }
        active
            .capacity
            .saturating_sub(self.shared.options.reserve())
    }

    /// Sees to a segment into which `order` fits.
    fn make_room(&mut self, order: &Order) -> Result<(), Error> {
        let stride = order.stride();
        if let Some(active) = &self.active
            && active.written + stride <= self.limit(active, order)
        {
            return Ok(());
        }
        let reserve = self.shared.options.reserve();
        let needed = SEGMENT_HEADER as u64 + stride + reserve;
        let capacity = self.shared.options.segment_bytes.max(needed);
        match self.enlarge(capacity) {
            Err(_) if !order.is_data() => self.enlarge(CONTROL_SEGMENT.max(needed)),
            outcome => outcome,
        }
    }

    /// Gives an empty segment `capacity` bytes, or begins another.
    fn enlarge(&mut self, capacity: u64) -> Result<(), Error> {
        let outcome = match &mut self.active {
            Some(active) if active.is_empty() => active.reserve(capacity),
            _ => self.roll(capacity),
        };
        self.note_room(&outcome);
        outcome
    }

    fn note_room(&mut self, outcome: &Result<(), Error>) {
        if outcome.is_ok() {
            self.shared.room.store(u64::MAX, Ordering::Relaxed);
            return;
        }
        let left = self.active.as_ref().map_or(0, |active| {
            let reserve = self.shared.options.reserve();
            active.capacity.saturating_sub(active.written + reserve)
        });
        self.shared.room.store(left, Ordering::Relaxed);
        self.shared.state().totals.failures += 1;
        self.retry_later();
    }

    /// Begins another segment; the one before is synced and keeps only what it holds.
    fn roll(&mut self, capacity: u64) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let prepared = match self.next.take() {
            Some(next) if next.capacity() >= capacity => next,
            _ => Prepared::make(&*shared.files, &shared.dir, capacity)?,
        };
        if !self.sync() {
            // The segment was given up; its successor is begun all the same.
            self.active = None;
        }
        let (last, given_up, follows) = {
            let mut state = shared.state();
            let last = state.last_segment();
            (last.first_seq, last.is_empty(), last.follows)
        };
        let header = SegmentHeader {
            log: shared.log,
            // A segment that was given up empty has taken its number, and is skipped.
            first_seq: self.next_seq.max(last + 1),
            follows: if given_up { follows } else { self.next_seq },
        };
        let durable = shared.options.fsync != Fsync::Never;
        // From here on a file may say that it follows the segment before, even if this fails: nothing more goes in there.
        if let Some(mut old) = self.active.take() {
            // Space that is not given back now is given back with the segment.
            old.release().ok();
        }
        let begun = Active::begin(&*shared.files, &shared.dir, prepared, &header, durable)?;
        self.active = Some(begun);
        self.next_seq = header.first_seq;
        let mut state = shared.state();
        state.next_seq = header.first_seq;
        if given_up {
            state.segments.pop_back();
        }
        state
            .segments
            .push_back(Segment::new(header.first_seq, header.follows));
        drop(state);
        if given_up {
            // What stays is removed at the next start: there is nothing in it.
            shared.files.remove(&shared.segment_path(last)).ok();
        }
        Ok(())
    }

    // === syncing and tidying ===

    fn schedule_sync(&mut self) {
        let delay = match self.shared.options.fsync {
            Fsync::Always => LAZY_SYNC,
            Fsync::Interval(interval) => interval,
            Fsync::Never => return self.after_sync(),
        };
        self.sync_due.get_or_insert_with(|| Instant::now() + delay);
    }

    /// Makes durable what is written; whether the segment can be written on.
    fn sync(&mut self) -> bool {
        let Some(mut active) = self.active.take() else {
            return true;
        };
        let clean = active.synced.offset == active.written;
        if clean || self.shared.options.fsync == Fsync::Never {
            self.active = Some(active);
            return true;
        }
        match active.sync(self.next_seq) {
            Ok(()) => {
                self.active = Some(active);
                self.after_sync();
                true
            }
            Err(error) if self.shared.options.fsync == Fsync::Always => {
                let synced = active.synced;
                self.give_up(active, synced, Vec::new(), &error);
                false
            }
            Err(_) => {
                // It has been answered: what the kernel still has is kept, and nothing is built on it.
                self.shared.state().totals.failures += 1;
                self.sync_due = None;
                false
            }
        }
    }

    /// All that is applied is durable, or as durable as it gets.
    fn after_sync(&mut self) {
        self.unsynced.clear();
        self.sync_due = None;
        if self.shared.options.fsync != Fsync::Never {
            self.shared.state().totals.syncs += 1;
        }
        self.reclaim();
    }

    /// Removes segments from the oldest on in which everything is settled: one at a time, each durably, so that what is
    /// left is always the log's end.
    fn reclaim(&mut self) {
        loop {
            let state = self.shared.state();
            let wanted = state.oldest_wanted();
            let oldest = match state.segments.front() {
                Some(oldest) if state.segments.len() > 1 && oldest.end_seq <= wanted => {
                    oldest.first_seq
                }
                _ => return,
            };
            drop(state);
            let path = self.shared.segment_path(oldest);
            let files = &self.shared.files;
            let removed = files.remove(&path).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            if removed
                .and_then(|()| files.sync_dir(&self.shared.dir))
                .is_err()
            {
                self.shared.state().totals.failures += 1;
                return self.retry_later();
            }
            let mut state = self.shared.state();
            state.segments.pop_front();
            state.totals.removed_segments += 1;
        }
    }

    /// What is due between groups.
    fn tend(&mut self, busy: bool) {
        if self.sync_due.is_some_and(is_past) && !self.sync() {
            self.active = None;
        }
        if self.retry_due.is_some_and(is_past) {
            self.retry_due = None;
            self.retry();
        }
        self.prepare();
        let empty = self.shared.state().is_settled();
        if busy || !empty {
            self.idle_due = empty.then(|| Instant::now() + self.shared.options.idle);
        } else if self.idle_due.is_some_and(is_past) {
            self.idle_due = None;
            self.shrink();
        }
        if !self.owed.is_empty() {
            self.retry_later();
        }
    }

    fn retry(&mut self) {
        if self.unsynced.is_empty() && self.sync_due.is_none() {
            self.reclaim();
        }
        if self.shared.has_room(u64::MAX) {
            return;
        }
        if self.active.is_none() || self.active.as_ref().is_some_and(Active::is_empty) {
            // The outcome is noted in the room that is left.
            self.enlarge(self.shared.options.segment_bytes).ok();
            return;
        }
        self.next = None;
        self.prepare_now();
    }

    /// Reserves the next segment once this one is more than half full.
    fn prepare(&mut self) {
        let half_full = self
            .active
            .as_ref()
            .is_some_and(|active| active.written > active.capacity / 2 && !active.is_empty());
        if half_full && self.next.is_none() && self.retry_due.is_none() {
            self.prepare_now();
        }
    }

    fn prepare_now(&mut self) {
        let shared = &self.shared;
        let capacity = shared.options.segment_bytes;
        let made = Prepared::make(&*shared.files, &shared.dir, capacity);
        let outcome = made.map(|prepared| self.next = Some(prepared));
        self.note_room(&outcome);
    }

    /// Leaves nearly nothing on disk of a log in which everything is settled.
    fn shrink(&mut self) {
        let holds_nothing = self.active.as_ref().is_some_and(Active::is_empty);
        if self.next.take().is_some() {
            let path = self.shared.dir.join(PREPARED);
            // What stays is removed at the next start.
            self.shared.files.remove(&path).ok();
        }
        if !self.sync() || (!holds_nothing && self.roll(0).is_err()) {
            return self.retry_later();
        }
        if let Some(active) = &mut self.active {
            // Space that is not given back now is given back with the segment.
            active.release().ok();
        }
        self.reclaim();
    }

    /// The end: what can be made durable is.
    fn finish(mut self) {
        self.sync();
        if self.shared.state().is_settled() {
            self.shrink();
        } else {
            if let Some(active) = &mut self.active {
                // The next start does not mind what is reserved.
                active.release().ok();
            }
            if self.next.take().is_some() {
                let path = self.shared.dir.join(PREPARED);
                self.shared.files.remove(&path).ok();
            }
        }
        self.shared.state().closed = true;
        self.shared.readable.notify_one();
    }
}

fn apply(state: &mut State, seq: u64, offset: u64, order: &Order) {
    match order {
        Order::Data {
            origin,
            unix_ms,
            payload,
        } => {
            let recent = Recent {
                seq,
                origin: *origin,
                unix_ms: *unix_ms,
                payload: payload.clone(),
            };
            state.commit_data(recent, offset);
        }
        Order::Control {
            control,
            tallies,
            applied: false,
        } => state.commit_control(seq, control, tallies.clone()),
        Order::Control { .. } => {}
    }
}

fn as_applied(order: Order) -> Order {
    match order {
        Order::Control {
            control, tallies, ..
        } => Order::Control {
            control,
            tallies,
            applied: true,
        },
        data @ Order::Data { .. } => data,
    }
}

fn is_past(deadline: Instant) -> bool {
    deadline <= Instant::now()
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

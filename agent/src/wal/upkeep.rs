//! The writer's work besides committing: room for what comes, segments begun and removed, late syncs, the end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::error::Error;
use super::group::Order;
use super::layout::{PREPARED, SEGMENT_HEADER, SegmentHeader};
use super::options::Fsync;
use super::segment::{Active, Prepared};
use super::state::Segment;
use super::writer::{Writer, is_past};

/// How long what nobody waits for stays unsynced.
const LAZY_SYNC: Duration = Duration::from_millis(100);
/// Space asked for when there is none for a whole segment, so that deliveries can be noted.
const CONTROL_SEGMENT: u64 = 64 << 10;

impl Writer {
    // === room ===

    /// Where in the segment records like `order` must end.
    pub(super) fn limit(&self, active: &Active, order: &Order) -> u64 {
        if !order.is_data() {
            return active.capacity;
        }
        active
            .capacity
            .saturating_sub(self.shared.options().reserve())
    }

    /// Sees to a segment into which `order` fits.
    pub(super) fn make_room(&mut self, order: &Order) -> Result<(), Error> {
        let stride = order.stride();
        if let Some(active) = &self.active
            && active.written + stride <= self.limit(active, order)
        {
            return Ok(());
        }
        let reserve = self.shared.options().reserve();
        let needed = SEGMENT_HEADER as u64 + stride + reserve;
        let capacity = self.shared.options().segment_bytes.max(needed);
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
            let reserve = self.shared.options().reserve();
            active.capacity.saturating_sub(active.written + reserve)
        });
        self.shared.room.store(left, Ordering::Relaxed);
        self.shared.state().totals.failures += 1;
        self.retry_later();
    }

    /// Begins another segment; the one before is synced and keeps only what it holds.
    fn roll(&mut self, capacity: u64) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        // First, for what is settled by it may become the prepared file.
        if !self.sync() {
            // The segment was given up; its successor is begun all the same.
            self.active = None;
        }
        let prepared = match self.next.take() {
            Some(next) if next.capacity() >= capacity => next,
            _ => Prepared::make(&*shared.files, &shared.dir, capacity)?,
        };
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
            recycled: prepared.recycled,
        };
        let durable = shared.options().fsync != Fsync::Never;
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

    pub(super) fn schedule_sync(&mut self) {
        let delay = match self.shared.options().fsync {
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
        if clean || self.shared.options().fsync == Fsync::Never {
            self.active = Some(active);
            return true;
        }
        match active.sync(self.next_seq) {
            Ok(()) => {
                self.active = Some(active);
                self.after_sync();
                true
            }
            Err(error) if self.shared.options().fsync == Fsync::Always => {
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
    pub(super) fn after_sync(&mut self) {
        self.unsynced.clear();
        self.sync_due = None;
        if self.shared.options().fsync != Fsync::Never {
            self.shared.state().totals.syncs += 1;
        }
        self.reclaim();
    }

    /// Removes segments from the oldest on in which everything is settled: one at a time, each durably, so that what is
    /// left is always the log's end.
    pub(super) fn reclaim(&mut self) {
        loop {
            let state = self.shared.state();
            let wanted = state.oldest_wanted();
            let (oldest, fit) = match state.segments.front() {
                Some(oldest) if state.segments.len() > 1 && oldest.end_seq <= wanted => {
                    let fits = oldest.len <= self.shared.options().segment_bytes;
                    (oldest.first_seq, fits && !oldest.failed)
                }
                _ => return,
            };
            drop(state);
            let path = self.shared.segment_path(oldest);
            let recycle = fit && self.next.as_ref().is_none_or(|next| !next.recycled);
            let removed = if recycle {
                self.recycle(&path)
            } else {
                self.remove(&path)
            };
            if removed.is_err() {
                self.shared.state().totals.failures += 1;
                return self.retry_later();
            }
            let mut state = self.shared.state();
            state.segments.pop_front();
            state.totals.removed_segments += 1;
        }
    }

    /// Removes a segment's file durably, if it is there.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let files = &self.shared.files;
        match files.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => files.sync_dir(&self.shared.dir),
        }
    }

    /// Removes a segment, durably, by making its file the one that is prepared to be the next.
    fn recycle(&mut self, path: &Path) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let prepared = shared.dir.join(PREPARED);
        match shared.files.rename(path, &prepared) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.remove(path),
            outcome => outcome?,
        }
        // It has replaced any that was there.
        self.next = None;
        if let Err(error) = shared.files.sync_dir(&shared.dir) {
            // After a power cut the file may be a segment again: its bytes must stay.
            shared.files.remove(&prepared).ok();
            return Err(error);
        }
        match Prepared::reuse(&*shared.files, &shared.dir, shared.options().segment_bytes) {
            Ok(reused) => {
                self.next = Some(reused);
                shared.state().totals.recycled_segments += 1;
            }
            // Its space goes back; another is made when it is needed.
            Err(_) => drop(shared.files.remove(&prepared)),
        }
        Ok(())
    }

    /// What is due between groups.
    pub(super) fn tend(&mut self, busy: bool) {
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
            self.idle_due = empty.then(|| Instant::now() + self.shared.options().idle);
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
            self.enlarge(self.shared.options().segment_bytes).ok();
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
        let capacity = shared.options().segment_bytes;
        let made = Prepared::make(&*shared.files, &shared.dir, capacity);
        let outcome = made.map(|prepared| self.next = Some(prepared));
        self.note_room(&outcome);
    }

    /// Leaves nearly nothing on disk of a log in which everything is settled.
    fn shrink(&mut self) {
        let holds_nothing = self.active.as_ref().is_some_and(Active::is_empty);
        if !self.sync() || (!holds_nothing && self.roll(0).is_err()) {
            return self.retry_later();
        }
        if let Some(active) = &mut self.active {
            // Space that is not given back now is given back with the segment.
            active.release().ok();
        }
        self.reclaim();
        self.discard_next();
    }

    fn discard_next(&mut self) {
        if self.next.take().is_some() {
            let path = self.shared.dir.join(PREPARED);
            // What stays is removed at the next start.
            self.shared.files.remove(&path).ok();
        }
    }

    /// The end: what can be made durable is.
    pub(super) fn finish(mut self) {
        self.sync();
        if self.shared.state().is_settled() {
            self.shrink();
        } else {
            if let Some(active) = &mut self.active {
                // The next start does not mind what is reserved.
                active.release().ok();
            }
            self.discard_next();
        }
        self.shared.state().closed = true;
        self.shared.readable.notify_one();
    }
}

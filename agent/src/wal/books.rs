//! Which data is in which batch, and what of it is settled: the meaning of the control records, live and in recovery.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Control;
use super::position::{Position, Range};

/// Items and bytes of data, by origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    origins: BTreeMap<u32, Count>,
}

/// Items and the bytes of their bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Spans, log records or data points.
    pub items: u64,
    /// Bytes of bodies. A request that is in two batches counts in the one with its last item.
    pub bytes: u64,
}

impl Tally {
    /// Origins with what there is of each, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Count)> {
        self.origins.iter().map(|(origin, count)| (*origin, *count))
    }

    /// Items of all origins.
    pub fn items(&self) -> u64 {
        self.origins.values().map(|count| count.items).sum()
    }

    /// Bytes of all origins.
    pub fn bytes(&self) -> u64 {
        self.origins.values().map(|count| count.bytes).sum()
    }

    pub(super) fn add(&mut self, origin: u32, items: u64, bytes: u64) {
        let count = self.origins.entry(origin).or_default();
        count.items += items;
        count.bytes += bytes;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (origin, count) in other.iter() {
            self.add(origin, count.items, count.bytes);
        }
    }

    pub(super) fn remove_all(&mut self, other: &Self) {
        for (origin, count) in other.iter() {
            let mine = self.origins.entry(origin).or_default();
            debug_assert!(mine.items >= count.items && mine.bytes >= count.bytes);
            mine.items = mine.items.saturating_sub(count.items);
            mine.bytes = mine.bytes.saturating_sub(count.bytes);
            if *mine == Count::default() {
                self.origins.remove(&origin);
            }
        }
    }

    /// Adds the part of a request that is inside of `range`.
    pub(super) fn add_part(&mut self, range: Range, seq: u64, origin: u32, count: (u32, u64)) {
        let (items, bytes) = count;
        let inside = range.items_of(seq, items).len() as u64;
        let bytes = if range.finishes(seq) { bytes } else { 0 };
        if inside > 0 || bytes > 0 {
            self.add(origin, inside, bytes);
        }
    }
}

/// A batch that has been logged and not been settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBatch {
    /// Unique over the life of the log's directory.
    pub id: u64,
    /// Its data.
    pub range: Range,
    /// What the range holds. Less than when the batch was made if damage took some; then `range` is as it was.
    pub tally: Tally,
    /// When its first request was appended, in milliseconds since 1970.
    pub oldest_unix_ms: u64,
    /// Names given to [`super::Log::part_done`].
    pub parts_done: BTreeSet<String>,
}

/// The batches of a log.
#[derive(Debug, Default)]
pub(super) struct Books {
    open: BTreeMap<u64, OpenBatch>,
    /// Where the last batch, or the last range given up, ended.
    batched: Position,
    /// Sequence numbers whose records are lost.
    lost: Vec<std::ops::Range<u64>>,
    /// Batches settled though their boundary was never seen.
    settled_unseen: BTreeSet<u64>,
}

impl Default for Position {
    fn default() -> Self {
        Self::before(0)
    }
}

impl Books {
    pub(super) fn batched(&self) -> Position {
        self.batched
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &OpenBatch> {
        self.open.values()
    }

    pub(super) fn get(&self, id: u64) -> Option<&OpenBatch> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut OpenBatch> {
        self.open.get_mut(&id)
    }

    /// The lowest sequence number whose data may be wanted, if all up to `next_seq` is written and `has_unbatched`
    /// says whether there is data in no batch.
    pub(super) fn oldest_wanted(&self, has_unbatched: bool, next_seq: u64) -> u64 {
        let unbatched = if has_unbatched {
            self.batched.seq
        } else {
            next_seq
        };
        let batches = self.open.values().map(|batch| batch.range.start.seq);
        batches.fold(unbatched, u64::min)
    }

    /// Notes that records are missing, so that what refers to them is understood.
    pub(super) fn lose(&mut self, seqs: std::ops::Range<u64>) {
        self.lost.push(seqs);
    }

    /// Data below `seq` is gone and settled: the stream begins there.
    pub(super) fn begin_at(&mut self, seq: u64) {
        self.batched = self.batched.max(Position::before(seq));
    }

    /// Forgets what only matters while a log is read from its beginning.
    pub(super) fn finish_recovery(&mut self) {
        self.lost = Vec::new();
        self.settled_unseen = BTreeSet::new();
    }

    /// Applies the control record with number `seq`; gives back the batches that it settles.
    pub(super) fn apply(&mut self, seq: u64, control: &Control) -> Vec<OpenBatch> {
        match control {
            Control::Boundary(range) => {
                self.open_range(seq, *range);
                Vec::new()
            }
            Control::Split { batch, cuts } => self.split(seq, *batch, cuts).into_iter().collect(),
            Control::PartDone { batch, part } => {
                if let Some(open) = self.open.get_mut(batch) {
                    open.parts_done.insert(part.clone());
                }
                Vec::new()
            }
            Control::Done { batch } | Control::DroppedBatch { batch, .. } => {
                self.settle(*batch).into_iter().collect()
            }
            Control::DroppedRange { range, .. } => {
                self.fill_hole(seq, range.start);
                self.batched = self.batched.max(range.end);
                Vec::new()
            }
            Control::Lost { .. } => Vec::new(),
        }
    }

    fn open_range(&mut self, id: u64, range: Range) {
        self.fill_hole(id, range.start);
        self.batched = self.batched.max(range.end);
        self.insert(id, range);
    }

    /// Data before `start` that no batch claims was in a batch whose boundary is lost: it is given that number again,
    /// so that sending it again is recognised.
    fn fill_hole(&mut self, before_id: u64, start: Position) {
        if start <= self.batched || self.lost.is_empty() {
            return;
        }
        let hole = Range {
            start: self.batched,
            end: start,
        };
        let is_lost = |id: &u64| self.lost.iter().any(|seqs| seqs.contains(id));
        if let Some(settled) = self.settled_unseen.iter().copied().find(is_lost) {
            self.settled_unseen.remove(&settled);
            return;
        }
        let number = self.lost.iter().rev().find(|seqs| seqs.end <= before_id);
        if let Some(seqs) = number {
            self.insert(seqs.end - 1, hole);
        }
    }

    fn insert(&mut self, id: u64, range: Range) {
        let batch = OpenBatch {
            id,
            range,
            tally: Tally::default(),
            oldest_unix_ms: 0,
            parts_done: BTreeSet::new(),
        };
        self.open.insert(id, batch);
    }

    fn split(&mut self, seq: u64, batch: u64, cuts: &[Position]) -> Option<OpenBatch> {
        let whole = self.settle(batch)?;
        let mut start = whole.range.start;
        for (id, end) in (seq..).zip(cuts.iter().copied().chain([whole.range.end])) {
            self.insert(id, Range { start, end });
            start = end;
        }
        Some(whole)
    }

    fn settle(&mut self, id: u64) -> Option<OpenBatch> {
        let batch = self.open.remove(&id);
        if batch.is_none() && self.lost.iter().any(|seqs| seqs.contains(&id)) {
            self.settled_unseen.insert(id);
        }
        batch
    }
}

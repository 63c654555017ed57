//! What the writer, the reader and the callers of a log share: segments, batches, recent bodies. In memory only, behind
//! one lock that nobody holds while waiting for the disk.

use std::collections::{BTreeSet, VecDeque};

use crate::batch::Payload;

use super::books::{Books, OpenBatch, Tally};
use super::entry::Loss;
use super::layout::{Control, SEGMENT_HEADER};
use super::position::{Position, Range};

/// Content of a segment between two entries of its index.
const INDEX_STEP: u64 = 256 * 1024;

/// A segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first_seq: u64,
    /// What its header says that it follows.
    pub(super) follows: u64,
    /// What comes next: the first sequence number that is not in it.
    pub(super) end_seq: u64,
    /// Where its content ends.
    pub(super) len: u64,
    /// Some of its data records, so that a search need not begin at the beginning.
    pub(super) index: Vec<Mark>,
    /// Damage found in recovery, as offsets from and to: known and counted.
    pub(super) holes: Vec<(u64, u64)>,
    /// Whether a write or sync failed: it may have records behind its content whose numbers others were given.
    pub(super) failed: bool,
}

/// Where a data record is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) seq: u64,
    pub(super) offset: u64,
    pub(super) unix_ms: u64,
}

impl Segment {
    pub(super) fn new(first_seq: u64, follows: u64) -> Self {
        Self {
            first_seq,
            follows,
            end_seq: first_seq,
            len: SEGMENT_HEADER as u64,
            index: Vec::new(),
            holes: Vec::new(),
            failed: false,
        }
    }

    /// Whether it holds no record.
    pub(super) fn is_empty(&self) -> bool {
        self.end_seq == self.first_seq
    }

    /// Notes a data record, if the last note is far enough behind.
    pub(super) fn note(&mut self, mark: Mark) {
        let far = |last: &Mark| mark.offset - last.offset >= INDEX_STEP;
        if self.index.last().is_none_or(far) {
            self.index.push(mark);
        }
    }

    /// Where to begin looking for `seq`.
    pub(super) fn seek(&self, seq: u64) -> u64 {
        self.mark_before(seq)
            .map_or(SEGMENT_HEADER as u64, |mark| mark.offset)
    }

    fn mark_before(&self, seq: u64) -> Option<Mark> {
        let after = self.index.partition_point(|mark| mark.seq <= seq);
        self.index[..after].last().copied()
    }
}

/// A request that has been committed lately.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) seq: u64,
    pub(super) origin: u32,
    pub(super) unix_ms: u64,
    pub(super) payload: Payload,
}

/// What a request in memory costs besides its body.
const RECENT_OVERHEAD: usize = 256;

impl Recent {
    fn cost(&self) -> usize {
        self.payload.byte_len() + RECENT_OVERHEAD
    }
}

/// A request that the reader has given out, and of which something is in no batch yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    pub(super) seq: u64,
    pub(super) origin: u32,
    pub(super) items: u32,
    pub(super) bytes: u64,
    pub(super) unix_ms: u64,
}

/// Counts since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests committed.
    pub appended_records: u64,
    /// Bytes of their bodies.
    pub appended_bytes: u64,
    /// Requests, boundaries and splits refused because of an error.
    pub refused_records: u64,
    /// Bytes written to segments: headers, bodies, padding.
    pub written_bytes: u64,
    /// Writes, each of everything that waited.
    pub groups: u64,
    /// Successful syncs of segments.
    pub syncs: u64,
    /// Failed writes, syncs, and attempts to make room.
    pub failures: u64,
    /// Bytes of bodies that the reader took from disk, not from memory.
    pub disk_read_bytes: u64,
    /// Damaged or unreadable records found after recovery.
    pub damaged_records: u64,
    /// Segments removed after everything in them was settled, those whose files were used again included.
    pub removed_segments: u64,
    /// Segments whose files became other segments.
    pub recycled_segments: u64,
}

#[derive(Debug)]
pub(super) struct State {
    /// In order; the last is the one being written, or was.
    pub(super) segments: VecDeque<Segment>,
    pub(super) books: Books,
    /// The next record's number: all below is committed.
    pub(super) next_seq: u64,
    /// Behind the newest data.
    pub(super) data_end: Position,
    pub(super) unsettled: Tally,
    /// Behind what the reader has given out.
    pub(super) read: Position,
    /// Given out and in no batch, in order.
    pub(super) handed: VecDeque<Handed>,
    /// Batches whose settlement or split is under way.
    pub(super) settling: BTreeSet<u64>,
    recent: VecDeque<Recent>,
    recent_cost: usize,
    recent_cost_max: usize,
    /// All data from this number on that has not been read is in `recent`.
    recent_from: u64,
    pub(super) totals: Totals,
    pub(super) closed: bool,
}

impl State {
    /// Bytes of all segments' content.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub(super) fn new(books: Books, next_seq: u64, recent_cost_max: usize) -> Self {
        Self {
            segments: VecDeque::new(),
            read: books.batched(),
            data_end: Position::before(0),
            books,
            next_seq,
            unsettled: Tally::default(),
            handed: VecDeque::new(),
            settling: BTreeSet::new(),
            recent: VecDeque::new(),
            recent_cost: 0,
            recent_cost_max,
            recent_from: next_seq,
            totals: Totals::default(),
            closed: false,
        }
    }

    /// Sequence number from which on the log is needed.
    pub(super) fn oldest_wanted(&self) -> u64 {
        let has_unbatched = self.books.batched() < self.data_end;
        self.books.oldest_wanted(has_unbatched, self.next_seq)
    }

    /// Whether everything in the log is settled.
    pub(super) fn is_settled(&self) -> bool {
        self.oldest_wanted() == self.next_seq
    }

    /// The segment being written.
    pub(super) fn last_segment(&mut self) -> &mut Segment {
        self.segments
            .back_mut()
            .expect("an open log has at least one segment")
    }

    /// The segment that holds `seq`, or the first behind it.
    pub(super) fn segment_of(&self, seq: u64) -> Option<&Segment> {
        let at = self
            .segments
            .partition_point(|segment| segment.end_seq <= seq);
        self.segments.get(at)
    }

    /// A number behind the reader from which reading can begin: the next one in the index.
    pub(super) fn next_known(&self) -> u64 {
        let end = self.data_end.seq;
        let Some(segment) = self.segment_of(self.read.seq) else {
            return end;
        };
        let after = segment
            .index
            .partition_point(|mark| mark.seq <= self.read.seq);
        let known = segment.index.get(after).map(|mark| mark.seq);
        known.unwrap_or(segment.end_seq).min(end)
    }

    /// Takes in a committed request.
    pub(super) fn commit_data(&mut self, recent: Recent, offset: u64) {
        let Recent { seq, unix_ms, .. } = recent;
        self.last_segment().note(Mark {
            seq,
            offset,
            unix_ms,
        });
        let bytes = recent.payload.byte_len() as u64;
        self.unsettled
            .add(recent.origin, recent.payload.items() as u64, bytes);
        self.totals.appended_records += 1;
        self.totals.appended_bytes += bytes;
        self.data_end = Position::after(seq);
        self.recent_cost += recent.cost();
        self.recent.push_back(recent);
        while self.recent_cost > self.recent_cost_max {
            let Some(oldest) = self.recent.pop_front() else {
                break;
            };
            self.recent_cost -= oldest.cost();
            self.recent_from = oldest.seq + 1;
        }
    }

    /// Takes in a committed control record; `tallies` are of a split's parts, or of a range given up.
    pub(super) fn commit_control(&mut self, seq: u64, control: &Control, tallies: &[Tally]) {
        let settled = self.books.apply(seq, control);
        match control {
            Control::Boundary(range) => self.claim(seq, *range),
            Control::Split { .. } => self.share_out(seq, &settled, tallies),
            Control::DroppedRange { range, .. } => {
                self.forget_until(range.end);
                self.read = self.read.max(range.end);
                for tally in tallies {
                    self.unsettled.remove_all(tally);
                }
            }
            Control::Done { .. } | Control::DroppedBatch { .. } => {
                for batch in &settled {
                    self.unsettled.remove_all(&batch.tally);
                }
            }
            Control::PartDone { .. } | Control::Lost { .. } => {}
        }
        for batch in &settled {
            self.settling.remove(&batch.id);
        }
        if self.is_settled() {
            // Where damage took requests whose headers are gone too, their items stayed counted until now.
            self.unsettled = Tally::default();
        }
    }

    /// Moves what has been given out of `range` to the batch that it has become.
    fn claim(&mut self, id: u64, range: Range) {
        let mut tally = Tally::default();
        let oldest = self.handed.front().map_or(0, |first| first.unix_ms);
        for handed in &self.handed {
            let count = (handed.items, handed.bytes);
            tally.add_part(range, handed.seq, handed.origin, count);
        }
        self.forget_until(range.end);
        if let Some(batch) = self.books.get_mut(id) {
            batch.tally = tally;
            batch.oldest_unix_ms = oldest;
        }
    }

    fn share_out(&mut self, first_id: u64, whole: &[OpenBatch], tallies: &[Tally]) {
        let oldest = whole.first().map_or(0, |batch| batch.oldest_unix_ms);
        for (id, tally) in (first_id..).zip(tallies) {
            if let Some(part) = self.books.get_mut(id) {
                part.tally = tally.clone();
                part.oldest_unix_ms = oldest;
            }
        }
    }

    fn forget_until(&mut self, end: Position) {
        while self
            .handed
            .front()
            .is_some_and(|handed| Position::after(handed.seq) <= end)
        {
            self.handed.pop_front();
        }
    }

    /// The next request to read, if it is in memory. `Ok(None)`: there is none. `Err`: it is on disk.
    pub(super) fn take_recent(&mut self) -> Result<Option<Recent>, OnDisk> {
        if self.read >= self.data_end {
            return Ok(None);
        }
        if self.read.seq < self.recent_from {
            return Err(OnDisk);
        }
        while let Some(recent) = self.recent.pop_front() {
            self.recent_cost -= recent.cost();
            self.recent_from = recent.seq + 1;
            if recent.seq >= self.read.seq {
                return Ok(Some(recent));
            }
        }
        Err(OnDisk)
    }

    /// Notes that the reader gives out a request: its whole count, of which a part may be in a batch already.
    pub(super) fn hand_out(&mut self, handed: Handed) {
        self.read = Position::after(handed.seq);
        self.handed.push_back(handed);
    }

    /// Notes that the reader has come upon damage.
    pub(super) fn lose(&mut self, loss: &Loss) {
        self.totals.damaged_records += loss.seqs.end.saturating_sub(loss.seqs.start);
        if let Some(request) = &loss.request {
            let rest = Range {
                start: self.read,
                end: Position::before(loss.seqs.end),
            };
            let mut tally = Tally::default();
            let count = (request.items, request.bytes);
            tally.add_part(rest, loss.seqs.start, request.origin, count);
            self.unsettled.remove_all(&tally);
        }
        self.read = self.read.max(Position::before(loss.seqs.end));
    }

    /// When the oldest unsettled request was appended; to the nearest 256 KiB where it has not been read yet.
    pub(super) fn oldest_unix_ms(&self) -> Option<u64> {
        let batches = self.books.open().map(|batch| batch.oldest_unix_ms);
        let handed = self.handed.front().map(|handed| handed.unix_ms);
        let unread = (self.read < self.data_end)
            .then(|| self.segment_of(self.read.seq))
            .flatten()
            .and_then(|segment| {
                segment
                    .mark_before(self.read.seq)
                    .or_else(|| segment.index.first().copied())
            })
            .map(|mark| mark.unix_ms);
        batches.chain(handed).chain(unread).min()
    }

    pub(super) fn recent_bytes(&self) -> usize {
        self.recent_cost
    }
}

/// What is wanted is not in memory any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OnDisk;

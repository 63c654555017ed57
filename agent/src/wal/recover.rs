//! Reading a log after a start: what is in it, which batches are open, and what is damaged.

use std::io;
use std::ops::Range as Span;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::books::{Books, OpenBatch, Tally};
use super::error::OpenError;
use super::files::{Files, LogFile, read_full};
use super::layout::{
    BadHeader, Control, Kind, LogId, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader,
    parse_segment_name,
};
use super::position::{Position, Range};
use super::salvage;
use super::scan::Scan;
use super::state::{Mark, Segment};
use super::walk::{Event, Walk};

/// What was found when a log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Batches logged and not settled, in the order of their data: to be sent again under the same ids. One
    /// whose tally is empty has lost all its data to damage, or never had any.
    pub batches: Vec<OpenBatch>,
    /// Data that is in no batch; the reader begins there.
    pub unbatched: Tally,
    /// What is lost.
    pub damage: Damage,
    /// Bytes cut off the newest segment's end: written when the process or the machine stopped, not answered.
    pub torn_bytes: u64,
    /// Segment files found.
    pub segments: usize,
}

/// What is lost of a log and was not told at an earlier start. Damaged bodies in older segments are found when they are read, and are not in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that are no records. They have been copied to `damaged-*.bin` files.
    pub bytes: u64,
    /// Records missing, by the gaps in their numbers; at least one for each place.
    pub records: u64,
    /// Items of requests whose header is sound and whose body is not.
    pub requests: Tally,
}

impl Damage {
    /// Whether nothing is lost.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A log as recovered, before anything is written to it.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) log: LogId,
    pub(super) books: Books,
    pub(super) segments: Vec<Segment>,
    /// Files without a record in them.
    pub(super) empty: Vec<PathBuf>,
    /// Files of which nothing can be told: they get another name.
    pub(super) aside: Vec<(PathBuf, PathBuf)>,
    /// The newest segment and where its content ends.
    pub(super) newest: Option<(PathBuf, u64)>,
    /// What would have come next.
    pub(super) end_seq: u64,
    /// No number above has been used.
    pub(super) highest_seq: u64,
    pub(super) data_end: Position,
    pub(super) report: Recovered,
    /// The numbers of what is lost and has not been told before.
    pub(super) losses: Vec<Span<u64>>,
}

/// A segment file before its records are read.
struct Candidate {
    /// Whether its header is sound.
    known: bool,
    path: PathBuf,
    first_seq: u64,
    follows: u64,
    recycled: bool,
    file: Arc<dyn LogFile>,
    len: u64,
}

/// Reads all segments in `dir`. Changes nothing but to copy damaged bytes aside.
pub(super) fn scan_log(files: &dyn Files, dir: &Path, fresh: LogId) -> Result<Scanned, OpenError> {
    let (log, candidates) = candidates(files, dir)?;
    let mut recovery = Recovery {
        files,
        dir,
        log: log.unwrap_or(fresh),
        books: Books::default(),
        segments: Vec::new(),
        empty: Vec::new(),
        aside: Vec::new(),
        sums: Vec::new(),
        end_seq: 0,
        highest_seq: 0,
        data_end: Position::before(0),
        report: Recovered {
            segments: candidates.len(),
            ..Recovered::default()
        },
        identified: candidates.iter().any(|candidate| candidate.known),
        losses: Vec::new(),
    };
    if let Some(first) = candidates.first() {
        recovery.books.begin_at(first.first_seq);
        recovery.end_seq = first.follows;
    }
    let mut newest = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let until = candidates.get(at + 1).map(|next| next.follows);
        let end = recovery
            .segment(candidate, until)
            .map_err(|error| OpenError::io("read", &candidate.path, error))?;
        newest = Some((candidate.path.clone(), end));
    }
    recovery.count(&candidates)?;
    Ok(recovery.finish(newest))
}

/// The segments in order, with their headers; fails before anything is touched.
fn candidates(files: &dyn Files, dir: &Path) -> Result<(Option<LogId>, Vec<Candidate>), OpenError> {
    let names = files
        .list(dir)
        .map_err(|error| OpenError::io("list", dir, error))?;
    let mut found: Vec<(u64, PathBuf)> = names
        .iter()
        .filter_map(|name| Some((parse_segment_name(name)?, dir.join(name))))
        .collect();
    found.sort_unstable();
    let mut log = None;
    let mut candidates = Vec::with_capacity(found.len());
    for (first_seq, path) in found {
        let fail = |error| OpenError::io("read", &path, error);
        let file = files.open(&path).map_err(fail)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = read_full(&*file, &mut bytes, 0).map_err(fail)?;
        let len = file.byte_len().map_err(fail)?;
        let decoded = SegmentHeader::decode(&bytes[..read]);
        let known = decoded.is_ok();
        let recycled = decoded.is_ok_and(|header| header.recycled);
        let follows = match decoded {
            Ok(header) if header.first_seq != first_seq => first_seq,
            Ok(header) if *log.get_or_insert(header.log) != header.log => {
                return Err(OpenError::Foreign { path });
            }
            Ok(header) => header.follows,
            Err(BadHeader::Version(found)) => return Err(OpenError::Version { path, found }),
            Err(BadHeader::Damaged) => first_seq,
        };
        candidates.push(Candidate {
            known,
            path,
            first_seq,
            follows,
            recycled,
            file,
            len,
        });
    }
    Ok((log, candidates))
}

struct Recovery<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
    log: LogId,
    books: Books,
    segments: Vec<Segment>,
    empty: Vec<PathBuf>,
    aside: Vec<(PathBuf, PathBuf)>,
    /// For each segment, what data is in it.
    sums: Vec<Tally>,
    end_seq: u64,
    highest_seq: u64,
    data_end: Position,
    report: Recovered,
    /// Whether the log's id is known.
    identified: bool,
    /// Damage found and, as far as has been read, not told before.
    losses: Vec<Found>,
}

/// A damaged or missing place.
struct Found {
    seqs: Span<u64>,
    file: Option<Arc<dyn LogFile>>,
    bytes: Span<u64>,
    request: Option<RecordHeader>,
}

impl Found {
    /// How many records are missing, or at least one.
    fn records(&self) -> u64 {
        // Each start begins at the next multiple of 2^32: numbers that were never used are no records.
        let Span { start, end } = self.seqs;
        let missing = if start >> 32 == end >> 32 {
            end.saturating_sub(start)
        } else {
            end & u64::from(u32::MAX)
        };
        missing.max(1)
    }
}

impl Recovery<'_> {
    /// Reads one segment; `until` is what the next one follows, if there is one. Gives back where its content ends.
    fn segment(&mut self, candidate: &Candidate, until: Option<u64>) -> io::Result<u64> {
        if candidate.follows > self.end_seq {
            self.lose(self.end_seq..candidate.follows, None, 0..0, None);
        }
        let scan = Scan::new(Arc::clone(&candidate.file), self.log, candidate.len);
        let is_newest = until.is_none();
        let mut walk = Walk::new(scan, candidate.first_seq, until.unwrap_or(u64::MAX));
        let mut segment = Segment::new(candidate.first_seq, candidate.follows);
        let mut sums = Tally::default();
        while let Some(event) = walk.next(is_newest)? {
            match event {
                Event::Data { offset, header } => {
                    self.data(&mut segment, &mut sums, offset, &header);
                }
                Event::Control {
                    control: Control::Lost { seqs },
                    ..
                } => self.losses.retain(|loss| loss.seqs != seqs),
                Event::Control { header, control } => {
                    self.books.apply(header.seq, &control);
                }
                Event::Hole {
                    from,
                    to,
                    seqs,
                    request,
                } => {
                    self.lose(seqs, Some(candidate), from..to, request);
                    segment.holes.push((from, to));
                }
            }
        }
        let (end, end_seq) = (walk.offset(), walk.seq());
        let tail = if candidate.recycled {
            walk.tail_before(candidate.first_seq)?
        } else {
            walk.tail()?
        };
        let tail = tail.saturating_sub(end);
        if !self.identified && tail > 0 {
            self.set_aside(candidate);
            return Ok(candidate.len);
        }
        match until {
            None => self.report.torn_bytes += tail,
            // What is behind was refused when it was written.
            Some(until) if end_seq >= until => {}
            Some(until) => self.lose(end_seq..until, Some(candidate), end..end + tail, None),
        }
        self.highest_seq = self.highest_seq.max(end_seq);
        segment.end_seq = end_seq;
        segment.len = end;
        if segment.end_seq == segment.first_seq && segment.holes.is_empty() {
            // It may go: what comes next follows what came before.
            self.end_seq = self.end_seq.max(candidate.follows);
            self.empty.push(candidate.path.clone());
        } else {
            self.end_seq = end_seq.max(until.unwrap_or(0));
            self.segments.push(segment);
            self.sums.push(sums);
        }
        Ok(end)
    }

    fn data(
        &mut self,
        segment: &mut Segment,
        sums: &mut Tally,
        offset: u64,
        header: &RecordHeader,
    ) {
        segment.note(Mark {
            seq: header.seq,
            offset,
            unix_ms: header.unix_ms,
        });
        sums.add(
            header.origin,
            u64::from(header.items),
            u64::from(header.body_len),
        );
        self.data_end = Position::after(header.seq);
    }

    /// Without the log's id no record can be told from other bytes: the whole file is kept aside.
    fn set_aside(&mut self, candidate: &Candidate) {
        let most = candidate.first_seq + candidate.len / RECORD_HEADER as u64;
        self.highest_seq = self.highest_seq.max(most);
        self.end_seq = self.end_seq.max(most);
        let seqs = candidate.first_seq..candidate.first_seq + 1;
        self.lose(seqs, None, 0..candidate.len, None);
        let aside = self.dir.join(salvage::name(candidate.first_seq));
        self.aside.push((candidate.path.clone(), aside));
    }

    fn lose(
        &mut self,
        seqs: Span<u64>,
        within: Option<&Candidate>,
        bytes: Span<u64>,
        request: Option<RecordHeader>,
    ) {
        self.books.lose(seqs.clone());
        self.losses.push(Found {
            seqs,
            file: within.map(|candidate| Arc::clone(&candidate.file)),
            bytes,
            request,
        });
    }

    /// Copies aside what is damaged and has not been told before, and counts it.
    fn tell(&mut self) {
        for loss in &self.losses {
            let damage = &mut self.report.damage;
            damage.bytes += loss.bytes.end - loss.bytes.start;
            damage.records += loss.records();
            if let Some(header) = &loss.request {
                let (items, bytes) = (header.items.into(), header.body_len.into());
                damage.requests.add(header.origin, items, bytes);
            }
            if let Some(file) = &loss.file {
                let scan = Scan::new(Arc::clone(file), self.log, loss.bytes.end);
                // A copy that cannot be made must not keep the log from being opened; the bytes stay in the segment.
                salvage::copy(
                    self.files,
                    self.dir,
                    loss.seqs.start,
                    &scan,
                    loss.bytes.clone(),
                )
                .ok();
            }
        }
    }

    /// Counts what the open batches hold, and what is in none: segments of which all or nothing is in a batch are not
    /// read again.
    fn count(&mut self, candidates: &[Candidate]) -> Result<(), OpenError> {
        let batched = self.books.batched();
        let mut shares: Vec<Share> = self.books.open().map(Share::of).collect();
        shares.sort_by_key(|share| share.range.start);
        let oldest = shares.first().map_or(batched, |share| share.range.start);
        shares.push(Share {
            id: None,
            range: Range {
                start: batched,
                end: Position::before(u64::MAX),
            },
            tally: Tally::default(),
            oldest_unix_ms: 0,
        });
        for (segment, sums) in self.segments.iter().zip(&self.sums) {
            if Position::before(segment.end_seq) <= oldest {
                continue;
            }
            if Position::before(segment.first_seq) >= batched {
                self.report.unbatched.add_all(sums);
                continue;
            }
            let candidate = candidates
                .iter()
                .find(|candidate| candidate.first_seq == segment.first_seq)
                .expect("each segment was made from a candidate");
            count_segment(candidate, self.log, segment, &mut shares)
                .map_err(|error| OpenError::io("read", &candidate.path, error))?;
        }
        for share in shares {
            match share.id.and_then(|id| self.books.get_mut(id)) {
                Some(batch) => {
                    batch.tally = share.tally;
                    batch.oldest_unix_ms = share.oldest_unix_ms;
                }
                None => self.report.unbatched.add_all(&share.tally),
            }
        }
        Ok(())
    }

    fn finish(mut self, newest: Option<(PathBuf, u64)>) -> Scanned {
        self.tell();
        self.books.finish_recovery();
        self.report.batches = self.books.open().cloned().collect();
        self.report.batches.sort_by_key(|batch| batch.range.start);
        Scanned {
            log: self.log,
            books: self.books,
            segments: self.segments,
            empty: self.empty,
            aside: self.aside,
            newest,
            end_seq: self.end_seq,
            highest_seq: self.highest_seq.max(self.end_seq),
            data_end: self.data_end,
            report: self.report,
            losses: self.losses.into_iter().map(|loss| loss.seqs).collect(),
        }
    }
}

/// What one batch, or none, holds.
struct Share {
    id: Option<u64>,
    range: Range,
    tally: Tally,
    oldest_unix_ms: u64,
}

impl Share {
    fn of(batch: &OpenBatch) -> Self {
        Self {
            id: Some(batch.id),
            range: batch.range,
            tally: Tally::default(),
            oldest_unix_ms: 0,
        }
    }
}

fn count_segment(
    candidate: &Candidate,
    log: LogId,
    segment: &Segment,
    shares: &mut [Share],
) -> io::Result<()> {
    let scan = Scan::new(Arc::clone(&candidate.file), log, segment.len);
    let mut walk = Walk::again(scan, segment);
    let mut first = 0;
    while let Some(header) = walk.next_header()? {
        if header.kind != Kind::Data {
            continue;
        }
        while first + 1 < shares.len() && shares[first].range.end <= Position::before(header.seq) {
            first += 1;
        }
        for share in &mut shares[first..] {
            if share.range.start >= Position::after(header.seq) {
                break;
            }
            let count = (header.items, u64::from(header.body_len));
            if share.tally.items() == 0 {
                share.oldest_unix_ms = header.unix_ms;
            }
            share
                .tally
                .add_part(share.range, header.seq, header.origin, count);
        }
    }
    Ok(())
}

//! One segment from its first record to its last, with what is damaged told apart from what was never written.

use std::io;

use super::layout::{Control, Kind, RecordHeader, SEGMENT_HEADER};
use super::scan::{Found, Scan};
use super::state::Segment;

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Event {
    /// A request.
    Data { offset: u64, header: RecordHeader },
    /// A control record.
    Control {
        header: RecordHeader,
        control: Control,
    },
    /// Damage with sound records behind it, or a record of which only the header is sound.
    Hole {
        from: u64,
        to: u64,
        seqs: std::ops::Range<u64>,
        request: Option<RecordHeader>,
    },
}

/// A walk over the records of a segment.
#[derive(Debug)]
pub(super) struct Walk {
    scan: Scan,
    offset: u64,
    seq: u64,
    /// Records from this number on do not count.
    until: u64,
    holes: Vec<(u64, u64)>,
}

impl Walk {
    pub(super) fn new(scan: Scan, first_seq: u64, until: u64) -> Self {
        Self {
            scan,
            offset: SEGMENT_HEADER as u64,
            seq: first_seq,
            until,
            holes: Vec::new(),
        }
    }

    /// A walk over a segment whose holes are known.
    pub(super) fn again(scan: Scan, segment: &Segment) -> Self {
        let mut walk = Self::new(scan, segment.first_seq, segment.end_seq);
        walk.holes.clone_from(&segment.holes);
        walk
    }

    /// Behind the last record seen.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The number after the last record seen.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Behind the last byte that was written, whatever it is.
    pub(super) fn tail(&self) -> io::Result<u64> {
        let mut end = self.offset;
        let mut from = self.offset;
        loop {
            let bytes = self.scan.raw(from, from + STEP)?;
            if bytes.is_empty() {
                return Ok(end);
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = from + last as u64 + 1;
            }
            from += bytes.len() as u64;
        }
    }

    /// Behind the last byte that was written since the file became this segment, as far as can be told: a blank header
    /// ends what was written, and so does a sound record with a number below `first_seq`.
    pub(super) fn tail_before(&mut self, first_seq: u64) -> io::Result<u64> {
        if self.scan.header(self.offset)? == Found::Nothing {
            return Ok(self.offset);
        }
        match self.scan.resync(self.offset, 0..first_seq)? {
            Some((older, _)) => Ok(older),
            None => self.tail(),
        }
    }

    /// The next event; `None` at the end. Bodies of requests are checked if `verify`, those of control records always.
    pub(super) fn next(&mut self, verify: bool) -> io::Result<Option<Event>> {
        let Found::Record(header) = self.scan.header(self.offset)? else {
            return self.skip_damage();
        };
        if header.seq >= self.until {
            return Ok(None);
        }
        if header.seq != self.seq {
            return self.skip_damage();
        }
        if header.kind == Kind::Data {
            if verify && !self.scan.body_is_sound(self.offset, &header)? {
                return self.bad_body(header);
            }
            let offset = self.pass(&header);
            return Ok(Some(Event::Data { offset, header }));
        }
        let body = self.control_body(&header)?;
        let Some(control) = body.and_then(|body| Control::decode(header.kind, &body)) else {
            return self.bad_body(header);
        };
        self.pass(&header);
        Ok(Some(Event::Control { header, control }))
    }

    /// The next record's header where the segment has been walked before.
    pub(super) fn next_header(&mut self) -> io::Result<Option<RecordHeader>> {
        loop {
            if let Some((_, to)) = self.holes.iter().find(|(from, _)| *from == self.offset) {
                self.offset = *to;
                continue;
            }
            return match self.scan.header(self.offset)? {
                Found::Record(header) if header.seq < self.until => {
                    self.pass(&header);
                    Ok(Some(header))
                }
                _ => Ok(None),
            };
        }
    }

    fn pass(&mut self, header: &RecordHeader) -> u64 {
        let offset = self.offset;
        self.offset += header.stride();
        self.seq = header.next_seq();
        offset
    }

    fn control_body(&self, header: &RecordHeader) -> io::Result<Option<Vec<u8>>> {
        if header.body_len > CONTROL_BODY_MAX {
            return Ok(None);
        }
        self.scan.body(self.offset, header)
    }

    /// A sound header with a damaged body: the next record should be where the header says.
    fn bad_body(&mut self, header: RecordHeader) -> io::Result<Option<Event>> {
        let seqs = header.next_seq()..self.until;
        let behind = self.offset + header.stride();
        let Some((to, next)) = self.scan.resync(behind, seqs)? else {
            return Ok(None);
        };
        let is_request = header.kind == Kind::Data;
        Ok(Some(Event::Hole {
            from: std::mem::replace(&mut self.offset, to),
            to,
            seqs: std::mem::replace(&mut self.seq, next.seq)..next.seq,
            request: is_request.then_some(header),
        }))
    }

    /// Goes to the next sound record, if there is one.
    fn skip_damage(&mut self) -> io::Result<Option<Event>> {
        let seqs = self.seq..self.until;
        let Some((to, next)) = self.scan.resync(self.offset, seqs)? else {
            return Ok(None);
        };
        Ok(Some(Event::Hole {
            from: std::mem::replace(&mut self.offset, to),
            to,
            seqs: std::mem::replace(&mut self.seq, next.seq)..next.seq,
            request: None,
        }))
    }
}

/// Bytes looked at at once.
const STEP: u64 = 256 * 1024;
/// Longer than any control record: a split of a batch into 80,000 parts.
const CONTROL_BODY_MAX: u32 = 1 << 20;

//! Reading data records from the segments, in order, a few at a time. Blocks; knows no tokio.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::entry::{Entry, Item, Loss, LostRequest};
use super::error::Error;
use super::layout::{Kind, RecordHeader};
use super::position::{Position, Range};
use super::salvage::salvage;
use super::scan::{Found, Scan};
use super::shared::Shared;

/// Bytes of bodies after which a reading ends.
const READ_BYTES: usize = 256 * 1024;

/// A place in a segment file.
#[derive(Debug)]
pub(super) struct Cursor {
    segment: u64,
    scan: Scan,
    offset: u64,
    /// The number of the record at `offset`, or a lower one.
    seq: u64,
}

/// What must be known of a segment to read it.
struct Target {
    first_seq: u64,
    end_seq: u64,
    len: u64,
    seek: u64,
    holes: Vec<(u64, u64)>,
}

/// One reading: what was found, and where to go on.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) items: Vec<Item>,
    pub(super) cursor: Option<Cursor>,
}

/// Reads the requests of `range` from its beginning until there are enough or the range ends. `cursor` is where the
/// reading before ended, if it did end at `range.start`.
pub(super) fn read_some(
    shared: &Shared,
    cursor: Option<Cursor>,
    range: Range,
) -> Result<Reading, Error> {
    let mut walk = Walk {
        shared,
        range,
        items: Vec::new(),
        bytes: 0,
    };
    let mut cursor = cursor;
    let mut from = range.start.seq.max(cursor.as_ref().map_or(0, |at| at.seq));
    while !walk.is_full() {
        let Some(target) = target(shared, from) else {
            break;
        };
        if Position::before(target.first_seq) >= range.end {
            break;
        }
        let path = shared.segment_path(target.first_seq);
        let fail = |error| Error::io("read", &path, error);
        let mut at = position(shared, cursor.take(), &target, from).map_err(fail)?;
        let ended = walk.segment(&mut at, &target).map_err(fail)?;
        from = at.seq.max(from);
        cursor = Some(at);
        if ended {
            from = from.max(target.end_seq);
        }
    }
    Ok(Reading {
        items: walk.items,
        cursor,
    })
}

/// Shows `visit` the header of each sound request from `start` on, until it says that it has seen enough.
pub(super) fn visit_requests(
    shared: &Shared,
    start: u64,
    mut visit: impl FnMut(&RecordHeader) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut from = start;
    while let Some(target) = target(shared, from) {
        let path = shared.segment_path(target.first_seq);
        let fail = |error| Error::io("read", &path, error);
        let mut at = position(shared, None, &target, from).map_err(fail)?;
        while at.offset < target.len {
            match at.scan.header(at.offset).map_err(fail)? {
                Found::Record(header) if header.seq >= target.end_seq => break,
                Found::Record(header) => {
                    // A segment that has grown meanwhile is read from an earlier place again.
                    let wanted = header.kind == Kind::Data && header.seq >= from;
                    if wanted && visit(&header).is_break() {
                        return Ok(());
                    }
                    at.offset += header.stride();
                    at.seq = header.next_seq();
                }
                Found::Nothing | Found::Damage => {
                    let seqs = at.seq..target.end_seq;
                    let found = at.scan.resync(at.offset, seqs).map_err(fail)?;
                    at.offset = found.map_or(target.len, |(to, _)| to);
                }
            }
        }
        from = from.max(target.end_seq);
    }
    Ok(())
}

fn target(shared: &Shared, seq: u64) -> Option<Target> {
    let state = shared.state();
    let segment = state.segment_of(seq)?;
    Some(Target {
        first_seq: segment.first_seq,
        end_seq: segment.end_seq,
        len: segment.len,
        seek: segment.seek(seq),
        holes: segment.holes.clone(),
    })
}

/// A cursor in `target` at or before `seq`.
fn position(
    shared: &Shared,
    cursor: Option<Cursor>,
    target: &Target,
    seq: u64,
) -> io::Result<Cursor> {
    if let Some(mut cursor) = cursor
        && cursor.segment == target.first_seq
        && cursor.seq <= seq
    {
        cursor.scan.extend(target.len);
        cursor.offset = cursor.offset.max(target.seek);
        return Ok(cursor);
    }
    let file = shared.files.open(&shared.segment_path(target.first_seq))?;
    Ok(Cursor {
        segment: target.first_seq,
        scan: Scan::new(Arc::clone(&file), shared.log, target.len),
        offset: target.seek,
        seq: target.first_seq,
    })
}

struct Walk<'a> {
    shared: &'a Shared,
    range: Range,
    items: Vec<Item>,
    bytes: usize,
}

impl Walk<'_> {
    fn is_full(&self) -> bool {
        self.bytes >= READ_BYTES
    }

    /// Reads on in one segment; whether its end or the range's was reached.
    fn segment(&mut self, at: &mut Cursor, target: &Target) -> io::Result<bool> {
        while !self.is_full() {
            if at.offset >= target.len || Position::before(at.seq) >= self.range.end {
                return Ok(true);
            }
            match at.scan.header(at.offset)? {
                Found::Record(header) if header.seq >= target.end_seq => return Ok(true),
                Found::Record(header) => self.record(at, &header)?,
                Found::Nothing | Found::Damage => self.damage(at, target)?,
            }
        }
        Ok(false)
    }

    fn record(&mut self, at: &mut Cursor, header: &RecordHeader) -> io::Result<()> {
        let wanted = !self
            .range
            .items_of(header.seq, header.items.max(1))
            .is_empty();
        if header.kind == Kind::Data && wanted {
            match at.scan.body(at.offset, header)? {
                Some(body) => {
                    self.bytes += body.len() + 1;
                    let entry = Entry::from_disk(header, body, self.range);
                    self.items.push(Item::Request(entry));
                }
                None => {
                    let to = at.offset + header.stride();
                    salvage(self.shared, header.seq, &at.scan, at.offset..to);
                    self.items.push(Item::Lost(Loss {
                        seqs: header.seq..header.next_seq(),
                        bytes: header.stride(),
                        request: Some(LostRequest {
                            origin: header.origin,
                            items: header.items,
                            bytes: u64::from(header.body_len),
                        }),
                    }));
                }
            }
        }
        at.offset += header.stride();
        at.seq = header.next_seq();
        Ok(())
    }

    /// Goes to the next sound record, and tells what is lost unless that is known.
    fn damage(&mut self, at: &mut Cursor, target: &Target) -> io::Result<()> {
        let known = target.holes.iter().find(|(from, _)| *from == at.offset);
        if let Some((_, to)) = known {
            at.offset = *to;
            return Ok(());
        }
        let found = at.scan.resync(at.offset, at.seq..target.end_seq)?;
        let (to, seq) = found.map_or((target.len, target.end_seq), |(to, header)| {
            (to, header.seq)
        });
        salvage(self.shared, at.seq, &at.scan, at.offset..to);
        self.items.push(Item::Lost(Loss {
            seqs: at.seq..seq,
            bytes: to - at.offset,
            request: None,
        }));
        at.offset = to;
        at.seq = seq;
        Ok(())
    }
}

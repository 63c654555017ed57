//! How a log looks on disk: file names, the segment header, the record header and the bodies of control records.
//!
//! All numbers are little-endian. A segment is a header (two copies of the same 64 bytes, so that one damaged sector
//! or byte does not take the log's identity with it), then records at offsets divisible by 8.

use std::ops::Range as Span;

use super::position::{Position, Range};

/// The version of the format that this code writes, and the only one it reads.
pub(super) const VERSION: u16 = 1;
/// Bytes of one copy of a segment header. In every version: magic, version, and a checksum in the last four bytes.
const HEADER_COPY: usize = 64;
/// Bytes before the first record.
pub(super) const SEGMENT_HEADER: usize = 2 * HEADER_COPY;
/// Bytes of a record header.
pub(super) const RECORD_HEADER: usize = 40;
/// Where records may begin.
pub(super) const ALIGNMENT: u64 = 8;
/// The segment that is being prepared; its name is given when its first sequence number is known.
pub(super) const PREPARED: &str = "next.tmp";
/// Held locked while a process owns the log; contains its process id.
pub(super) const LOCK: &str = "lock";

const SEGMENT_MAGIC: [u8; 8] = *b"TIDEWAL\n";
const RECORD_MAGIC: u16 = 0xD71E;

/// The name of the segment that begins with `first_seq`.
pub(super) fn segment_name(first_seq: u64) -> String {
    format!("{first_seq:016x}.seg")
}

/// The first sequence number in a segment's name.
pub(super) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let sound = digits.len() == 16
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !sound {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// The first multiple of [`ALIGNMENT`] at or after `len`.
pub(super) fn padded(len: u64) -> u64 {
    len.next_multiple_of(ALIGNMENT)
}

/// What makes this log's checksums its own: bytes copied from elsewhere do not pass for its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogId(pub(super) [u8; 16]);

impl LogId {
    /// A checksum over the log's id, to be continued over what it protects.
    pub(super) fn hasher(self) -> crc32fast::Hasher {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0);
        hasher
    }

    fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log: LogId,
    /// The sequence number of the first record, also when there is none yet.
    pub(super) first_seq: u64,
    /// The sequence number that would have come next in the segment before. Records there with this or a higher one
    /// were refused and do not count; if that segment ends below, something is missing.
    pub(super) follows: u64,
    /// Whether the file was another segment of this log before. Behind its content may then lie records of that one, all
    /// of them with numbers below `first_seq`; the header of a blank record marks the end.
    pub(super) recycled: bool,
}

/// Why the bytes of a segment header are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// A sound header of a version that this code does not know.
    Version(u16),
    /// Neither copy is sound.
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut copy = [0; HEADER_COPY];
        copy[0..8].copy_from_slice(&SEGMENT_MAGIC);
        copy[8..10].copy_from_slice(&VERSION.to_le_bytes());
        copy[10] = self.recycled.into();
        copy[16..32].copy_from_slice(&self.log.0);
        copy[32..40].copy_from_slice(&self.first_seq.to_le_bytes());
        copy[40..48].copy_from_slice(&self.follows.to_le_bytes());
        let checksum = crc32fast::hash(&copy[..HEADER_COPY - 4]);
        copy[HEADER_COPY - 4..].copy_from_slice(&checksum.to_le_bytes());
        let mut both = [0; SEGMENT_HEADER];
        both[..HEADER_COPY].copy_from_slice(&copy);
        both[HEADER_COPY..].copy_from_slice(&copy);
        both
    }

    /// Reads a header from a segment's first bytes, fewer than [`SEGMENT_HEADER`] if the file is that short.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let mut verdict = BadHeader::Damaged;
        for copy in bytes.chunks_exact(HEADER_COPY).take(2) {
            match Self::decode_copy(copy) {
                Ok(header) => return Ok(header),
                Err(BadHeader::Damaged) => {}
                Err(version) => verdict = version,
            }
        }
        Err(verdict)
    }

    fn decode_copy(copy: &[u8]) -> Result<Self, BadHeader> {
        let checksum = crc32fast::hash(&copy[..HEADER_COPY - 4]);
        if copy[0..8] != SEGMENT_MAGIC || u32_at(copy, HEADER_COPY - 4) != checksum {
            return Err(BadHeader::Damaged);
        }
        let version = u16::from_le_bytes([copy[8], copy[9]]);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let mut log = [0; 16];
        log.copy_from_slice(&copy[16..32]);
        Ok(Self {
            log: LogId(log),
            first_seq: u64_at(copy, 32),
            follows: u64_at(copy, 40),
            recycled: copy[10] != 0,
        })
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A request of a client.
    Data = 1,
    /// A range of data has become a batch.
    Boundary = 2,
    /// A batch has been replaced by parts of it.
    Split = 3,
    /// A named part of a batch has been delivered.
    PartDone = 4,
    /// A batch has been delivered.
    Done = 5,
    /// A batch has been given up.
    DroppedBatch = 6,
    /// A range of data has been given up before it became a batch.
    DroppedRange = 7,
    /// Damage has been found and told: it is not told again.
    Lost = 8,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Data,
            2 => Self::Boundary,
            3 => Self::Split,
            4 => Self::PartDone,
            5 => Self::Done,
            6 => Self::DroppedBatch,
            7 => Self::DroppedRange,
            8 => Self::Lost,
            _ => return None,
        })
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: Kind,
    pub(super) body_len: u32,
    /// Items of a request; the number of batches that a split makes; otherwise 0.
    pub(super) items: u32,
    pub(super) origin: u32,
    pub(super) seq: u64,
    pub(super) unix_ms: u64,
    pub(super) body_checksum: u32,
}

impl RecordHeader {
    pub(super) fn encode(&self, log: LogId) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[0..2].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        bytes[2] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.items.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.origin.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.unix_ms.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_checksum.to_le_bytes());
        let checksum = log.checksum(&bytes[..RECORD_HEADER - 4]);
        bytes[36..40].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, if it is sound.
    pub(super) fn decode(bytes: &[u8], log: LogId) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER)?;
        if !may_begin_record(bytes) || u32_at(bytes, 36) != log.checksum(&bytes[..36]) {
            return None;
        }
        Self::unchecked(bytes)
    }

    /// The fields of a header of [`RECORD_HEADER`] bytes, whatever its checksum.
    pub(super) fn unchecked(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            kind: Kind::of(bytes[2])?,
            body_len: u32_at(bytes, 4),
            items: u32_at(bytes, 8),
            origin: u32_at(bytes, 12),
            seq: u64_at(bytes, 16),
            unix_ms: u64_at(bytes, 24),
            body_checksum: u32_at(bytes, 32),
        })
    }

    /// Bytes from this record's beginning to the next one's.
    pub(super) fn stride(&self) -> u64 {
        padded(RECORD_HEADER as u64 + u64::from(self.body_len))
    }

    /// The sequence number after this record: a split takes one for each batch that it makes.
    pub(super) fn next_seq(&self) -> u64 {
        let taken = match self.kind {
            Kind::Split => self.items.max(1),
            _ => 1,
        };
        self.seq.saturating_add(u64::from(taken))
    }
}

/// Whether a record could begin with these bytes: what a search looks at first.
pub(super) fn may_begin_record(bytes: &[u8]) -> bool {
    bytes.starts_with(&RECORD_MAGIC.to_le_bytes())
}

/// What a control record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    Boundary(Range),
    Split { batch: u64, cuts: Vec<Position> },
    PartDone { batch: u64, part: String },
    Done { batch: u64 },
    DroppedBatch { batch: u64, reason: String },
    DroppedRange { range: Range, reason: String },
    Lost { seqs: Span<u64> },
}

impl Control {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Boundary(_) => Kind::Boundary,
            Self::Split { .. } => Kind::Split,
            Self::PartDone { .. } => Kind::PartDone,
            Self::Done { .. } => Kind::Done,
            Self::DroppedBatch { .. } => Kind::DroppedBatch,
            Self::DroppedRange { .. } => Kind::DroppedRange,
            Self::Lost { .. } => Kind::Lost,
        }
    }

    /// The record header's count: how many batches a split makes.
    pub(super) fn items(&self) -> u32 {
        match self {
            Self::Split { cuts, .. } => u32::try_from(cuts.len() + 1).unwrap_or(u32::MAX),
            _ => 0,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(32);
        match self {
            Self::Boundary(range) => push_range(&mut body, *range),
            Self::Split { batch, cuts } => {
                body.extend_from_slice(&batch.to_le_bytes());
                for cut in cuts {
                    push_position(&mut body, *cut);
                }
            }
            Self::PartDone { batch, part: text }
            | Self::DroppedBatch {
                batch,
                reason: text,
            } => {
                body.extend_from_slice(&batch.to_le_bytes());
                body.extend_from_slice(text.as_bytes());
            }
            Self::Done { batch } => body.extend_from_slice(&batch.to_le_bytes()),
            Self::DroppedRange { range, reason } => {
                push_range(&mut body, *range);
                body.extend_from_slice(reason.as_bytes());
            }
            Self::Lost { seqs } => {
                body.extend_from_slice(&seqs.start.to_le_bytes());
                body.extend_from_slice(&seqs.end.to_le_bytes());
            }
        }
        body
    }

    /// Reads a body whose checksum was right; `None` if it is not of this shape all the same, or the kind is `Data`.
    pub(super) fn decode(kind: Kind, body: &[u8]) -> Option<Self> {
        Some(match kind {
            Kind::Data => return None,
            Kind::Boundary => Self::Boundary(range_at(exactly(body, 24)?, 0)?),
            Kind::Split => Self::Split {
                batch: u64_at(body.get(..8)?, 0),
                cuts: cuts_of(&body[8..])?,
            },
            Kind::PartDone => Self::PartDone {
                batch: u64_at(body.get(..8)?, 0),
                part: text(&body[8..])?,
            },
            Kind::Done => Self::Done {
                batch: u64_at(exactly(body, 8)?, 0),
            },
            Kind::DroppedBatch => Self::DroppedBatch {
                batch: u64_at(body.get(..8)?, 0),
                reason: text(&body[8..])?,
            },
            Kind::DroppedRange => Self::DroppedRange {
                range: range_at(body.get(..24)?, 0)?,
                reason: text(&body[24..])?,
            },
            Kind::Lost => Self::Lost {
                seqs: u64_at(exactly(body, 16)?, 0)..u64_at(body, 8),
            },
        })
    }
}

const POSITION: usize = 12;

fn push_position(body: &mut Vec<u8>, position: Position) {
    body.extend_from_slice(&position.seq.to_le_bytes());
    body.extend_from_slice(&position.item.to_le_bytes());
}

fn push_range(body: &mut Vec<u8>, range: Range) {
    push_position(body, range.start);
    push_position(body, range.end);
}

fn position_at(bytes: &[u8], at: usize) -> Position {
    Position {
        seq: u64_at(bytes, at),
        item: u32_at(bytes, at + 8),
    }
}

fn range_at(bytes: &[u8], at: usize) -> Option<Range> {
    let range = Range {
        start: position_at(bytes, at),
        end: position_at(bytes, at + POSITION),
    };
    (range.start < range.end).then_some(range)
}

fn cuts_of(bytes: &[u8]) -> Option<Vec<Position>> {
    let cuts = bytes.chunks_exact(POSITION);
    let whole = !bytes.is_empty() && cuts.remainder().is_empty();
    whole.then(|| cuts.map(|cut| position_at(cut, 0)).collect())
}

fn exactly(bytes: &[u8], len: usize) -> Option<&[u8]> {
    (bytes.len() == len).then_some(bytes)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn array<const N: usize>(bytes: &[u8], span: Span<usize>) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[span]);
    array
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at..at + 8))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at..at + 4))
}

//! What comes out of a log: requests, and the knowledge that some are lost.

use bytes::Bytes;

use crate::batch::{Chunk, Payload};

use super::layout::RecordHeader;
use super::position::{Position, Range};
use super::state::{Handed, Recent};

/// A request as it was appended.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its sequence number.
    pub seq: u64,
    /// What the caller gave: from which pipeline it came.
    pub origin: u32,
    /// What the caller gave: when it was appended, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The whole request. From disk it is one chunk without a reservation.
    pub payload: Payload,
    /// The items that are meant, counted from 0: all but where a batch begins or ends inside the request.
    pub items: std::ops::Range<u32>,
}

impl Entry {
    /// The place behind the request: where a batch ends that takes all of it.
    pub fn end(&self) -> Position {
        Position::after(self.seq)
    }

    /// The place before item `item` of the request: where a batch ends that takes the items before it.
    pub fn before_item(&self, item: u32) -> Position {
        if u64::from(item) >= self.payload.items() as u64 {
            return self.end();
        }
        Position {
            seq: self.seq,
            item,
        }
    }

    pub(super) fn handed(&self) -> Handed {
        Handed {
            seq: self.seq,
            origin: self.origin,
            items: u32::try_from(self.payload.items()).unwrap_or(u32::MAX),
            bytes: self.payload.byte_len() as u64,
            unix_ms: self.unix_ms,
        }
    }

    pub(super) fn from_memory(recent: Recent, start: Position) -> Self {
        let items = u32::try_from(recent.payload.items()).unwrap_or(u32::MAX);
        let within = Range {
            start,
            end: Position::after(recent.seq),
        };
        Self {
            seq: recent.seq,
            origin: recent.origin,
            unix_ms: recent.unix_ms,
            payload: recent.payload,
            items: within.items_of(recent.seq, items),
        }
    }

    pub(super) fn from_disk(header: &RecordHeader, body: Vec<u8>, within: Range) -> Self {
        let chunk = Chunk::new(Bytes::from(body), header.items as usize);
        Self {
            seq: header.seq,
            origin: header.origin,
            unix_ms: header.unix_ms,
            payload: chunk.into(),
            items: within.items_of(header.seq, header.items),
        }
    }
}

/// Records that cannot be read any more. Their bytes, where there are any, have been copied to a `damaged-*.bin` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The sequence numbers that are lost. Some may have been control records; all are data if `request` is known.
    pub seqs: std::ops::Range<u64>,
    /// Bytes on disk that are damaged.
    pub bytes: u64,
    /// The one request that is lost, where its header is sound.
    pub request: Option<LostRequest>,
}

/// What is known of a request whose body is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRequest {
    /// What the caller of the append gave.
    pub origin: u32,
    /// Spans, log records or data points.
    pub items: u32,
    /// Bytes of the body.
    pub bytes: u64,
}

/// One thing read.
#[derive(Debug, Clone)]
pub enum Item {
    /// The next request.
    Request(Entry),
    /// What was here is lost. It is told once.
    Lost(Loss),
}

impl Item {
    /// The place behind it.
    pub(super) fn end(&self) -> Position {
        match self {
            Self::Request(entry) => entry.end(),
            Self::Lost(loss) => Position::before(loss.seqs.end),
        }
    }

    pub(super) fn first_seq(&self) -> u64 {
        match self {
            Self::Request(entry) => entry.seq,
            Self::Lost(loss) => loss.seqs.start,
        }
    }
}

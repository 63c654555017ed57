//! Several records laid out to be written at once, without copying their bodies.

use std::io::IoSlice;

use bytes::Bytes;

use crate::batch::Payload;

use super::books::Tally;
use super::layout::{Control, Kind, LogId, RECORD_HEADER, RecordHeader, padded};

/// What is to be logged.
#[derive(Debug)]
pub(super) enum Order {
    Data {
        origin: u32,
        unix_ms: u64,
        payload: Payload,
    },
    Control {
        control: Control,
        /// Of a split's parts, or of a range given up.
        tallies: Vec<Tally>,
        /// Whether the state has it already: then it is only written again.
        applied: bool,
    },
}

impl Order {
    /// Bytes on disk.
    pub(super) fn stride(&self) -> u64 {
        let body = match self {
            Self::Data { payload, .. } => payload.byte_len(),
            Self::Control { control, .. } => control.encode().len(),
        };
        padded((RECORD_HEADER + body) as u64)
    }

    pub(super) fn is_data(&self) -> bool {
        matches!(self, Self::Data { .. })
    }
}

/// Bodies up to this length are copied next to their header: cheaper than another part of the write.
const COPIED_MAX: usize = 1024;

#[derive(Debug)]
enum Piece {
    Scratch(std::ops::Range<usize>),
    Body(Bytes),
}

/// Records in the form in which they are written.
#[derive(Debug, Default)]
pub(super) struct Group {
    scratch: Vec<u8>,
    /// Where the part of `scratch` begins that no piece has yet.
    open: usize,
    pieces: Vec<Piece>,
    len: u64,
}

impl Group {
    pub(super) fn clear(&mut self) {
        self.scratch.clear();
        self.pieces.clear();
        self.open = 0;
        self.len = 0;
    }

    /// Bytes in the group.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds a record with number `seq`; gives back the number after it.
    pub(super) fn push(&mut self, log: LogId, seq: u64, unix_ms: u64, order: &Order) -> u64 {
        let mut header = RecordHeader {
            kind: Kind::Data,
            body_len: 0,
            items: 0,
            origin: 0,
            seq,
            unix_ms,
            body_checksum: 0,
        };
        match order {
            Order::Data {
                origin,
                unix_ms,
                payload,
            } => {
                header.origin = *origin;
                header.unix_ms = *unix_ms;
                header.items = clamp(payload.items());
                let bodies = payload.chunks().iter().map(|chunk| chunk.bytes());
                self.push_record(log, &mut header, bodies);
            }
            Order::Control { control, .. } => {
                header.kind = control.kind();
                header.items = control.items();
                let body = Bytes::from(control.encode());
                self.push_record(log, &mut header, std::iter::once(&body));
            }
        }
        header.next_seq()
    }

    fn push_record<'a>(
        &mut self,
        log: LogId,
        header: &mut RecordHeader,
        bodies: impl Iterator<Item = &'a Bytes>,
    ) {
        let at = self.scratch.len();
        self.scratch.extend_from_slice(&[0; RECORD_HEADER]);
        let mut hasher = log.hasher();
        let mut body_len = 0;
        // The header goes in last; it lies before the bodies, so its place in `scratch` is kept.
        for body in bodies {
            hasher.update(body);
            body_len += body.len();
            if body.len() <= COPIED_MAX {
                self.scratch.extend_from_slice(body);
            } else {
                self.close_piece();
                self.pieces.push(Piece::Body(body.clone()));
            }
        }
        header.body_len = clamp(body_len);
        header.body_checksum = hasher.finalize();
        self.scratch[at..at + RECORD_HEADER].copy_from_slice(&header.encode(log));
        let stride = header.stride();
        let padding = stride - (RECORD_HEADER + body_len) as u64;
        let padded_len = self.scratch.len() + usize::try_from(padding).unwrap_or(0);
        self.scratch.resize(padded_len, 0);
        self.len += stride;
    }

    fn close_piece(&mut self) {
        if self.open < self.scratch.len() {
            self.pieces
                .push(Piece::Scratch(self.open..self.scratch.len()));
            self.open = self.scratch.len();
        }
    }

    /// The bytes to write, in order.
    pub(super) fn parts(&mut self) -> Vec<IoSlice<'_>> {
        self.close_piece();
        let scratch = &self.scratch;
        let mut parts = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            parts.push(match piece {
                Piece::Scratch(span) => IoSlice::new(&scratch[span.clone()]),
                Piece::Body(body) => IoSlice::new(body),
            });
        }
        parts
    }
}

/// Lengths and counts are checked when they are taken in.
fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

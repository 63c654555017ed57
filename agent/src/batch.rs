//! A batch: one signal's OTLP request bytes, as they arrived, with what is owed for them.

use std::sync::Arc;

use bytes::Bytes;

use crate::ack::Ack;
use crate::memory::{HeldBytes, Reservation};
use crate::signal::Signal;

/// One validated OTLP `Export*ServiceRequest` in wire format.
///
/// Whoever builds a chunk has walked `bytes` with [`crate::otlp`]: the structure is sound, strings are
/// UTF-8, ids have their length, and `items` is the count of spans, log records or data points.
#[derive(Debug, Clone)]
pub struct Chunk {
    bytes: Bytes,
    items: usize,
    /// The memory the bytes occupy, released with the last clone.
    held: Option<Arc<Reservation>>,
}

impl Chunk {
    /// A chunk of validated bytes holding `items` items.
    pub fn new(bytes: Bytes, items: usize) -> Self {
        Self {
            bytes,
            items,
            held: None,
        }
    }

    /// The same, keeping `reservation` until the last clone of the chunk is gone.
    pub fn reserved(bytes: Bytes, items: usize, reservation: Reservation) -> Self {
        Self {
            bytes,
            items,
            held: Some(Arc::new(reservation)),
        }
    }

    /// Another chunk cut from this one's memory: it shares the reservation.
    pub fn derive(&self, bytes: Bytes, items: usize) -> Self {
        Self {
            bytes,
            items,
            held: self.held.clone(),
        }
    }

    /// The OTLP request in wire format.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Spans, log records or data points in the chunk.
    pub fn items(&self) -> usize {
        self.items
    }
}

/// The bytes of a batch: OTLP requests in order.
///
/// A protobuf message of repeated fields may be concatenated with another, so the chunks in sequence are one
/// `Export*ServiceRequest`. Merging batches moves handles and copies nothing.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    chunks: Vec<Chunk>,
    items: usize,
    byte_len: usize,
}

impl Payload {
    /// Appends a chunk.
    pub fn push(&mut self, chunk: Chunk) {
        self.items += chunk.items;
        self.byte_len += chunk.bytes.len();
        self.chunks.push(chunk);
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: Self) {
        self.items += other.items;
        self.byte_len += other.byte_len;
        self.chunks.extend(other.chunks);
    }

    /// The chunks in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunks in order, by value.
    pub fn into_chunks(self) -> Vec<Chunk> {
        self.chunks
    }

    /// Spans, log records or data points.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Bytes in wire format.
    pub fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// The count of bytes that its memory is held in; `None` if none of its chunks has a reservation.
    pub fn held_in(&self) -> Option<&HeldBytes> {
        let mut reservations = self.chunks.iter().flat_map(|chunk| &chunk.held);
        reservations.next().map(|reservation| reservation.held_in())
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// All chunks as one contiguous OTLP request. Copies unless there is exactly one chunk.
    pub fn to_bytes(&self) -> Bytes {
        if let [only] = self.chunks.as_slice() {
            return only.bytes.clone();
        }
        let mut whole = Vec::with_capacity(self.byte_len);
        for chunk in &self.chunks {
            whole.extend_from_slice(&chunk.bytes);
        }
        whole.into()
    }
}

impl From<Chunk> for Payload {
    fn from(chunk: Chunk) -> Self {
        let mut payload = Self::default();
        payload.push(chunk);
        payload
    }
}

/// The protocol that a batch arrived by: the Collector's `transport` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
}

impl Transport {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// One signal's items on their way through a pipeline, with the answer that is owed for them.
#[derive(Debug)]
pub struct Batch {
    /// What the items are.
    pub signal: Signal,
    /// The items, as validated wire bytes.
    pub payload: Payload,
    /// The obligation to the sender.
    pub ack: Ack,
}

impl Batch {
    /// Spans, log records or data points.
    pub fn items(&self) -> usize {
        self.payload.items()
    }
}

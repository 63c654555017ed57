//! From OTLP wire bytes straight into Native columns: one walk, no objects.
//!
//! The bytes were checked by a receiver. Protobuf's rules hold all the same: fields come in any order, and messages
//! that should be single but come twice are read as one.

mod hex;
mod json;
mod number;
mod shared;
mod traces;
mod value;

use std::io;

use thiserror::Error;

use super::native::{Columns, Compressor, Method, assemble};
use crate::batch::Payload;
use crate::otlp::WireError;
use crate::signal::Signal;

/// Why a batch cannot be encoded.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The bytes are not what a receiver should have let through.
    #[error("not valid OTLP: {0}")]
    Wire(#[from] WireError),
    /// Compression failed.
    #[error("compressing: {0}")]
    Compression(#[from] io::Error),
}

/// Items that were stored with a correction, or left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adjusted {
    /// Spans that end before they start: stored with a duration of 0.
    pub negative_durations: u64,
    /// Metrics without data: nothing to store.
    pub metrics_without_data: u64,
}

/// A table's rows, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Rows.
    pub rows: usize,
    /// The request body: a Native block, compressed.
    pub body: bytes::Bytes,
}

/// Columns look whether they have something to compress after this many rows.
const SEAL_ROWS: usize = 64;

/// Turns batches into blocks. Keeps its buffers, within bounds, from one batch to the next.
#[derive(Debug)]
pub struct Encoder {
    compressor: Compressor,
    traces: traces::Traces,
}

impl Encoder {
    /// An encoder that compresses with `method`.
    ///
    /// # Errors
    /// When the compressor cannot have its memory.
    pub fn new(method: Method) -> io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(method)?,
            traces: traces::Traces::default(),
        })
    }

    /// Encodes a batch.
    ///
    /// # Errors
    /// When the bytes are not what a receiver should have let through.
    pub fn encode(
        &mut self,
        signal: Signal,
        payload: &Payload,
        adjusted: &mut Adjusted,
    ) -> Result<Vec<Block>, EncodeError> {
        let _ = signal;
        for chunk in payload.chunks() {
            self.traces
                .request(chunk.bytes(), &mut self.compressor, adjusted)?;
        }
        let rows = self.traces.rows();
        let body = assemble(&mut self.traces, rows, &mut self.compressor)?.into();
        self.traces.reset();
        Ok(vec![Block { rows, body }])
    }
}

fn reset(columns: &mut dyn Columns) {
    let visited = columns.visit(&mut |_, _, column| {
        column.reset();
        Ok(())
    });
    debug_assert!(visited.is_ok(), "resetting cannot fail");
}

/// The name of an enum's value; empty for a value without a name.
fn enum_name<'n>(names: &[&'n [u8]], value: u64) -> &'n [u8] {
    usize::try_from(value)
        .ok()
        .and_then(|index| names.get(index))
        .copied()
        .unwrap_or_default()
}

/// The lower half, as protobuf truncates 32-bit fields.
fn low_u32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

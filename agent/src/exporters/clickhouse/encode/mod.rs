//! From OTLP wire bytes straight into Native columns: one walk, no objects.
//!
//! The bytes were checked by a receiver. Protobuf's rules hold all the same: fields come in any order, and messages
//! that should be single but come twice are read as one.

mod hex;
mod json;
mod logs;
mod metrics;
mod number;
mod shared;
#[cfg(test)]
mod tests;
mod traces;
mod value;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use thiserror::Error;

use super::native::{Columns, Compressor, Method, assemble, reset};
use crate::batch::Payload;
use crate::exporters::queue::Pace;
use crate::otlp::WireError;
use crate::signal::Signal;
use logs::Logs;
use metrics::Metrics;
use traces::Traces;

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

/// The tables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Gauge points.
    Gauge,
    /// Sum points.
    Sum,
    /// Histogram points.
    Histogram,
    /// Exponential histogram points.
    ExponentialHistogram,
    /// Summary points.
    Summary,
}

/// A table's rows, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where they belong.
    pub table: Table,
    /// Rows.
    pub rows: usize,
    /// The request body: a Native block, compressed.
    pub body: bytes::Bytes,
}

/// Columns look whether they have something to compress after this many rows.
const SEAL_ROWS: usize = 64;

const LABEL: &str = "LowCardinality(String)";
const MAP: &str = "Map(LowCardinality(String), String)";
const MAPS: &str = "Array(Map(LowCardinality(String), String))";

/// Turns batches into blocks. Keeps its buffers, within bounds, from one batch to the next.
#[derive(Debug)]
pub struct Encoder {
    compressor: Compressor,
    traces: Traces,
    logs: Logs,
    metrics: Metrics,
}

impl Encoder {
    /// An encoder that compresses with `method`.
    ///
    /// # Errors
    /// When the compressor cannot have its memory.
    pub fn new(method: Method) -> io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(method)?,
            traces: Traces::default(),
            logs: Logs::default(),
            metrics: Metrics::default(),
        })
    }

    /// Encodes a batch: a block for each table that has rows.
    ///
    /// # Errors
    /// When the bytes are not what a receiver should have let through.
    pub fn encode(
        &mut self,
        signal: Signal,
        payload: &Payload,
        adjusted: &mut Adjusted,
    ) -> Result<Vec<Block>, EncodeError> {
        let never = Pace::default();
        let mut encoding = self.begin(signal);
        for chunk in payload.chunks() {
            let added = pin!(encoding.add(chunk.bytes(), adjusted, &never));
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(added) = added.poll(&mut context) else {
                unreachable!("it never rests");
            };
            added?;
        }
        encoding.finish()
    }

    /// Begins a batch of `signal`, to be encoded request by request.
    pub fn begin(&mut self, signal: Signal) -> Encoding<'_> {
        Encoding {
            encoder: self,
            signal,
            finished: false,
        }
    }

    fn take(&mut self, signal: Signal) -> Result<Vec<Block>, EncodeError> {
        let mut blocks = Vec::new();
        for (table, columns) in tables(&mut self.traces, &mut self.logs, &mut self.metrics, signal)
        {
            let rows = columns.rows();
            if rows > 0 {
                let body = assemble(columns, &mut self.compressor)?.into();
                blocks.push(Block { table, rows, body });
            }
        }
        Ok(blocks)
    }
}

/// A batch being encoded. Dropped before its end, it leaves the encoder as if it had never begun.
#[derive(Debug)]
pub struct Encoding<'a> {
    encoder: &'a mut Encoder,
    signal: Signal,
    finished: bool,
}

impl Encoding<'_> {
    /// Adds a request, resting at `pace`.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub async fn add(
        &mut self,
        request: &[u8],
        adjusted: &mut Adjusted,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        let Encoder {
            compressor,
            traces,
            logs,
            metrics,
        } = &mut *self.encoder;
        match self.signal {
            Signal::Traces => traces.request(request, compressor, adjusted, pace).await,
            Signal::Logs => logs.request(request, compressor, pace).await,
            Signal::Metrics => metrics.request(request, compressor, adjusted, pace).await,
        }
    }

    /// The blocks, one for each table that has rows.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn finish(mut self) -> Result<Vec<Block>, EncodeError> {
        let blocks = self.encoder.take(self.signal)?;
        self.finished = true;
        Ok(blocks)
    }
}

impl Drop for Encoding<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let Encoder {
            traces,
            logs,
            metrics,
            ..
        } = &mut *self.encoder;
        for (_, columns) in tables(traces, logs, metrics, self.signal) {
            // It fails for no reason of its own.
            reset(columns).ok();
        }
    }
}

/// The tables of a signal, with their columns.
fn tables<'a>(
    traces: &'a mut Traces,
    logs: &'a mut Logs,
    metrics: &'a mut Metrics,
    signal: Signal,
) -> Vec<(Table, &'a mut dyn Columns)> {
    match signal {
        Signal::Traces => vec![(Table::Traces, traces)],
        Signal::Logs => vec![(Table::Logs, logs)],
        Signal::Metrics => vec![
            (Table::Gauge, &mut metrics.gauge),
            (Table::Sum, &mut metrics.sum),
            (Table::Histogram, &mut metrics.histogram),
            (
                Table::ExponentialHistogram,
                &mut metrics.exponential_histogram,
            ),
            (Table::Summary, &mut metrics.summary),
        ],
    }
}

impl Table {
    /// A short name that never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Gauge => "gauge",
            Self::Sum => "sum",
            Self::Histogram => "histogram",
            Self::ExponentialHistogram => "exponential_histogram",
            Self::Summary => "summary",
        }
    }

    /// The tables of a signal.
    pub const fn of(signal: Signal) -> &'static [Self] {
        match signal {
            Signal::Traces => &[Self::Traces],
            Signal::Logs => &[Self::Logs],
            Signal::Metrics => &[
                Self::Gauge,
                Self::Sum,
                Self::Histogram,
                Self::ExponentialHistogram,
                Self::Summary,
            ],
        }
    }

    /// Names of the columns that are inserted, in order.
    pub fn columns(self) -> Vec<&'static str> {
        let (mut traces, mut logs, mut metrics) = Default::default();
        let mut names = Vec::new();
        for signal in Signal::ALL {
            for (table, columns) in tables(&mut traces, &mut logs, &mut metrics, signal) {
                if table == self {
                    columns
                        .visit(&mut |name, _, _| {
                            names.push(name);
                            Ok(())
                        })
                        .expect("collecting names cannot fail");
                }
            }
        }
        names
    }
}

fn seal(columns: &mut dyn Columns, compressor: &mut Compressor) -> io::Result<()> {
    columns.visit(&mut |_, _, column| column.seal(compressor))
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

/// The lowest byte, as the Collector stores flags and severities.
fn low_u8(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

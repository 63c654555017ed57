//! Turning requests into the records that are appended: lines or framed messages, compressed or not.

use zstd::bulk::Compressor;

use super::options::{FileSettings, Format};
use super::tail::{Framing, MESSAGE_BYTES_MAX};
use crate::batch::Chunk;
use crate::otlp::json;
use crate::signal::Signal;

/// One record, ready to append.
#[derive(Debug)]
pub(super) enum Record {
    /// Encoded bytes.
    Encoded(Vec<u8>),
    /// A message behind its length, as it arrived.
    Framed { header: [u8; 4], chunks: Vec<Chunk> },
}

impl Record {
    /// The bytes in order.
    pub(super) fn parts(&self) -> Vec<&[u8]> {
        match self {
            Self::Encoded(bytes) => vec![bytes],
            Self::Framed { header, chunks } => std::iter::once(&header[..])
                .chain(chunks.iter().map(|chunk| &chunk.bytes()[..]))
                .collect(),
        }
    }

    /// How many bytes are appended.
    pub(super) fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

/// Makes records; keeps its buffers and the compressor from one to the next.
pub(super) struct Packer {
    format: Format,
    compressor: Option<Compressor<'static>>,
    spare: Vec<u8>,
}

/// Buffers that grew larger are not kept.
const SPARE_BYTES_MAX: usize = 4 << 20;

impl Packer {
    /// # Errors
    /// When the compressor cannot be made.
    pub(super) fn new(settings: &FileSettings) -> std::io::Result<Self> {
        let compressor = settings.zstd_level.map(|level| {
            let mut compressor = Compressor::new(level)?;
            compressor.include_checksum(true)?;
            Ok::<_, std::io::Error>(compressor)
        });
        Ok(Self {
            format: settings.format,
            compressor: compressor.transpose()?,
            spare: Vec::new(),
        })
    }

    /// How the records are told apart in the file.
    pub(super) fn framing(settings: &FileSettings) -> Framing {
        match (settings.zstd_level, settings.format) {
            (Some(_), _) => Framing::Zstd,
            (None, Format::Json) => Framing::Lines,
            (None, Format::Proto) => Framing::Lengths,
        }
    }

    /// The record of one request.
    pub(super) fn pack(&mut self, signal: Signal, chunks: Vec<Chunk>) -> Result<Record, String> {
        match (self.format, &mut self.compressor) {
            (Format::Json, _) => {
                let mut line = std::mem::take(&mut self.spare);
                line.clear();
                let parts = chunks.iter().map(|chunk| &chunk.bytes()[..]);
                json::encode(signal, parts, &mut line)
                    .map_err(|error| format!("encode as JSON: {error}"))?;
                line.push(b'\n');
                self.compressed(line)
            }
            (Format::Proto, None) => Ok(Record::Framed {
                header: header(&chunks)?,
                chunks,
            }),
            (Format::Proto, Some(_)) => {
                let mut message = std::mem::take(&mut self.spare);
                message.clear();
                message.extend_from_slice(&header(&chunks)?);
                for chunk in &chunks {
                    message.extend_from_slice(chunk.bytes());
                }
                self.compressed(message)
            }
        }
    }

    /// Takes a record back once it is written, to use its buffer again.
    pub(super) fn recycle(&mut self, record: Record) {
        if let Record::Encoded(bytes) = record {
            self.keep(bytes);
        }
    }

    fn compressed(&mut self, plain: Vec<u8>) -> Result<Record, String> {
        let Some(compressor) = &mut self.compressor else {
            return Ok(Record::Encoded(plain));
        };
        let frame = compressor
            .compress(&plain)
            .map_err(|error| format!("compress: {error}"))?;
        self.keep(plain);
        Ok(Record::Encoded(frame))
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_BYTES_MAX && buffer.capacity() > self.spare.capacity() {
            self.spare = buffer;
        }
    }
}

/// The length of a message as four big-endian bytes.
fn header(chunks: &[Chunk]) -> Result<[u8; 4], String> {
    let length: usize = chunks.iter().map(|chunk| chunk.bytes().len()).sum();
    u32::try_from(length)
        .ok()
        .filter(|_| length <= MESSAGE_BYTES_MAX)
        .map(u32::to_be_bytes)
        .ok_or_else(|| {
            format!("a batch of {length} bytes is too large for one message of {MESSAGE_BYTES_MAX}; set send_batch_max_size on `batch`")
        })
}

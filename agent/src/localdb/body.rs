//! A request's body as a blocking reader: taken off the socket chunk by chunk, decoded, never whole in memory.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::exception::{CANNOT_DECOMPRESS, Exception, UNKNOWN_COMPRESSION_METHOD};
use super::frames::FrameReader;

/// How many chunks of a body wait for the engine; a chunk is at most what hyper reads at once (under 1 MiB).
pub(super) const CHUNKS_WAITING: usize = 8;

/// What the connection's task sends. A channel that closes without [`Chunk::End`] is a body cut short: the
/// client went away, so nothing of it may count as complete.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Some bytes.
    Data(Bytes),
    /// The body is complete.
    End,
}

/// The raw body. Clones share the position.
#[derive(Clone)]
pub(super) struct RawBody(Arc<Mutex<RawState>>);

struct RawState {
    chunks: mpsc::Receiver<Chunk>,
    current: Bytes,
    ended: bool,
}

impl RawBody {
    pub(super) fn new(chunks: mpsc::Receiver<Chunk>) -> Self {
        Self(Arc::new(Mutex::new(RawState {
            chunks,
            current: Bytes::new(),
            ended: false,
        })))
    }

    /// Whether nothing is left, which may have to be waited for.
    ///
    /// # Errors
    /// When the body was cut short.
    fn at_end(&self) -> io::Result<bool> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.fill()?;
        Ok(state.current.is_empty())
    }
}

impl RawState {
    /// Waits for bytes or the end.
    fn fill(&mut self) -> io::Result<()> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Chunk::Data(data)) => self.current = data,
                Some(Chunk::End) => self.ended = true,
                None => {
                    let reason = "the client closed the connection";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
            }
        }
        Ok(())
    }
}

impl Read for RawBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.fill()?;
        let taken = buffer.len().min(state.current.len());
        state.current.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

/// A body with its encodings undone.
pub(super) struct Body {
    raw: RawBody,
    decoded: Box<dyn Read + Send>,
}

impl Body {
    /// Undoes `Content-Encoding`, then ClickHouse's own blocks (`decompress=1`).
    ///
    /// # Errors
    /// An encoding that is not known.
    pub(super) fn open(
        raw: RawBody,
        content_encoding: Option<&str>,
        framed: bool,
    ) -> Result<Self, Exception> {
        let reader = raw.clone();
        let decoded: Box<dyn Read + Send> = match content_encoding
            .map(str::trim)
            .unwrap_or_default()
        {
            "" | "identity" => Box::new(reader),
            "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(reader)),
            "deflate" => Box::new(flate2::read::ZlibDecoder::new(reader)),
            "lz4" => Box::new(Lz4Frames(lz4_flex::frame::FrameDecoder::new(reader))),
            "zstd" => Box::new(zstd::stream::read::Decoder::new(reader)?),
            other => {
                let message = format!(
                    "Unknown Content-Encoding '{other}'; known are gzip, deflate, lz4, zstd and identity."
                );
                return Err(Exception::new(UNKNOWN_COMPRESSION_METHOD, message));
            }
        };
        let decoded = if framed {
            Box::new(FrameReader::new(decoded))
        } else {
            decoded
        };
        Ok(Self { raw, decoded })
    }
}

impl Read for Body {
    /// As its decoder reads. The end only counts when the raw body has ended with it: what follows a
    /// compressed stream would otherwise be lost without a word.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoded.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.raw.at_end()? {
            let message = "The request's body goes on after the end of its compressed stream.";
            return Err(Exception::new(CANNOT_DECOMPRESS, message).into());
        }
        Ok(read)
    }
}

/// LZ4 frames one after the other: the decoder ends at each, clients send many.
struct Lz4Frames(lz4_flex::frame::FrameDecoder<RawBody>);

impl Read for Lz4Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.0.get_ref().at_end()? {
                return Ok(read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Reads a body sent in small chunks; `complete` says whether the client sent all of it.
    fn read(
        bytes: &[u8],
        encoding: &str,
        framed: bool,
        complete: bool,
    ) -> Result<Vec<u8>, Exception> {
        let (sender, receiver) = mpsc::channel(1 << 16);
        for chunk in bytes.chunks(3) {
            sender
                .try_send(Chunk::Data(Bytes::copy_from_slice(chunk)))
                .unwrap();
        }
        if complete {
            sender.try_send(Chunk::End).unwrap();
        }
        drop(sender);
        let mut content = Vec::new();
        Body::open(RawBody::new(receiver), Some(encoding), framed)?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(content: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(content, 1).unwrap()
    }

    const CONTENT: &[u8] = b"some content, some content, some more content";

    fn encodings() -> [(&'static str, Vec<u8>); 5] {
        [
            ("", CONTENT.to_vec()),
            ("gzip", gzip(CONTENT)),
            ("deflate", zlib(CONTENT)),
            ("lz4", lz4(CONTENT)),
            ("zstd", zstd(CONTENT)),
        ]
    }

    #[test]
    fn every_encoding_is_undone() {
        for (encoding, bytes) in encodings() {
            assert_eq!(
                read(&bytes, encoding, false, true).as_deref(),
                Ok(CONTENT),
                "{encoding}"
            );
        }
    }

    #[test]
    fn streams_one_after_the_other_are_one_body() {
        for (encoding, bytes) in encodings() {
            let result = read(&[bytes.clone(), bytes].concat(), encoding, false, true);
            match encoding {
                "deflate" => assert_eq!(result.unwrap_err().code, 271),
                _ => assert_eq!(result, Ok(CONTENT.repeat(2)), "{encoding}"),
            }
        }
    }

    #[test]
    fn blocks_inside_an_encoding_are_undone() {
        let mut writer = super::super::frames::FrameWriter::new(Vec::new());
        writer.write_all(CONTENT).unwrap();
        assert_eq!(
            read(&gzip(&writer.finish().unwrap()), "gzip", true, true).as_deref(),
            Ok(CONTENT)
        );
    }

    #[test]
    fn a_body_cut_short_is_an_error_even_after_its_last_byte() {
        for (encoding, bytes) in encodings() {
            assert_eq!(
                read(&bytes, encoding, false, false).unwrap_err().code,
                33,
                "{encoding}, end not announced"
            );
            if !encoding.is_empty() {
                let cut = &bytes[..bytes.len() - 5];
                let code = read(cut, encoding, false, true).unwrap_err().code;
                assert!([33, 271].contains(&code), "{encoding}, {code}");
            }
        }
    }

    #[test]
    fn unknown_encodings_are_refused() {
        assert_eq!(read(b"", "br", false, true).unwrap_err().code, 89);
    }
}

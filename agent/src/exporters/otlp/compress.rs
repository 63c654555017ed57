//! Compressing requests: each method with what it is called on the wire.

use std::cell::Cell;
use std::io::Write;

use bytes::Bytes;
use libdeflater::{CompressionError, CompressionLvl};

use super::options::Compression;

/// What zlib and Go take when nobody says otherwise.
const DEFLATE_LEVEL: i32 = 6;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;
/// Output buffers that grew larger are not kept.
const SCRATCH_MAX: usize = 8 << 20;

/// libdeflate, with a container around what it writes.
type Deflate =
    fn(&mut libdeflater::Compressor, &[u8], &mut [u8]) -> Result<usize, CompressionError>;

/// A method and its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method {
    compression: Compression,
    level: i32,
}

thread_local! {
    /// Taken while they work, so that nothing is borrowed across a call. Per thread and not per worker: a compressor has
    /// some hundred kilobytes of tables, and there are never more at work than threads.
    static DEFLATE: Cell<Option<(i32, libdeflater::Compressor)>> = const { Cell::new(None) };
    static ZSTD: Cell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { Cell::new(None) };
    /// Compressors want room for the worst case: it is paid for once, and what they wrote is copied out.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Method {
    /// `compression` at `level`, where 0 (and the -1 of other systems) is the usual one.
    ///
    /// # Errors
    /// What levels there are.
    pub(super) fn new(compression: Compression, level: i32) -> Result<Self, &'static str> {
        let usual = matches!(level, 0 | -1);
        let level = match compression {
            Compression::Gzip | Compression::Zlib | Compression::Deflate => match level {
                _ if usual => DEFLATE_LEVEL,
                1..=9 => level,
                _ => return Err("must be between 1 and 9 for gzip, zlib and deflate"),
            },
            Compression::Zstd => match level {
                _ if usual => ZSTD_LEVEL,
                1..=22 => level,
                _ => return Err("must be between 1 and 22 for zstd"),
            },
            Compression::Snappy
            | Compression::SnappyFramed
            | Compression::Lz4
            | Compression::None => {
                if !usual {
                    return Err("is for gzip, zlib, deflate and zstd: the others have no levels");
                }
                0
            }
        };
        Ok(Self { compression, level })
    }

    /// Whether requests are sent as they are.
    pub(super) fn is_none(self) -> bool {
        self.compression == Compression::None
    }

    /// The value of `Content-Encoding` or `grpc-encoding`; `None` where there is none.
    pub(super) fn name(self) -> Option<&'static str> {
        match self.compression {
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            Compression::Snappy => Some("snappy"),
            Compression::SnappyFramed => Some("x-snappy-framed"),
            Compression::Zlib => Some("zlib"),
            Compression::Deflate => Some("deflate"),
            Compression::Lz4 => Some("lz4"),
            Compression::None => None,
        }
    }

    /// The compressed form of `plain`. In gRPC `snappy` names the framed format, in HTTP the block format.
    ///
    /// # Errors
    /// When memory runs out, or the input is too large for the format.
    pub(super) fn compress(self, plain: &[u8], grpc: bool) -> Result<Bytes, String> {
        let failed = |error: &dyn std::fmt::Display| format!("compress: {error}");
        match self.compression {
            Compression::None => Ok(Bytes::copy_from_slice(plain)),
            Compression::Gzip => self.deflate(
                plain,
                libdeflater::Compressor::gzip_compress_bound,
                libdeflater::Compressor::gzip_compress,
            ),
            Compression::Zlib | Compression::Deflate => self.deflate(
                plain,
                libdeflater::Compressor::zlib_compress_bound,
                libdeflater::Compressor::zlib_compress,
            ),
            Compression::Zstd => self.zstd(plain),
            Compression::Snappy if !grpc => snap::raw::Encoder::new()
                .compress_vec(plain)
                .map(Bytes::from)
                .map_err(|error| failed(&error)),
            Compression::Snappy | Compression::SnappyFramed => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).map_err(|error| failed(&error))?;
                let framed = encoder.into_inner().map_err(|error| failed(&error))?;
                Ok(framed.into())
            }
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).map_err(|error| failed(&error))?;
                let framed = encoder.finish().map_err(|error| failed(&error))?;
                Ok(framed.into())
            }
        }
    }

    fn deflate(
        self,
        plain: &[u8],
        bound: fn(&mut libdeflater::Compressor, usize) -> usize,
        compress: Deflate,
    ) -> Result<Bytes, String> {
        let mut compressor = match DEFLATE.take() {
            Some((level, compressor)) if level == self.level => compressor,
            _ => {
                let level = CompressionLvl::new(self.level)
                    .map_err(|error| format!("compress: {error:?}"))?;
                libdeflater::Compressor::new(level)
            }
        };
        let room = bound(&mut compressor, plain.len());
        let compressed = with_scratch(room, |out| {
            compress(&mut compressor, plain, out).map_err(|error| format!("compress: {error}"))
        });
        DEFLATE.set(Some((self.level, compressor)));
        compressed
    }

    fn zstd(self, plain: &[u8]) -> Result<Bytes, String> {
        let failed = |error: std::io::Error| format!("compress: {error}");
        let mut compressor = match ZSTD.take() {
            Some((level, compressor)) if level == self.level => compressor,
            _ => zstd::bulk::Compressor::new(self.level).map_err(failed)?,
        };
        let room = zstd::zstd_safe::compress_bound(plain.len());
        let compressed = with_scratch(room, |out| {
            compressor.compress_to_buffer(plain, out).map_err(failed)
        });
        ZSTD.set(Some((self.level, compressor)));
        compressed
    }
}

/// Has `work` fill a buffer of at least `room` bytes, and copies out as many as it says.
fn with_scratch(
    room: usize,
    work: impl FnOnce(&mut [u8]) -> Result<usize, String>,
) -> Result<Bytes, String> {
    let mut scratch = SCRATCH.take();
    if scratch.len() < room {
        scratch.resize(room, 0);
    }
    let written = work(&mut scratch);
    let bytes =
        written.map(|count| Bytes::copy_from_slice(scratch.get(..count).unwrap_or(&scratch)));
    if scratch.len() <= SCRATCH_MAX {
        SCRATCH.set(scratch);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn inflated(name: &str, bytes: &[u8], grpc: bool) -> Vec<u8> {
        let mut reader: Box<dyn Read + '_> = match name {
            "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
            "zlib" | "deflate" => Box::new(flate2::read::ZlibDecoder::new(bytes)),
            "zstd" => Box::new(zstd::Decoder::new(bytes).unwrap()),
            "snappy" if !grpc => return snap::raw::Decoder::new().decompress_vec(bytes).unwrap(),
            "snappy" | "x-snappy-framed" => Box::new(snap::read::FrameDecoder::new(bytes)),
            "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
            other => panic!("{other}"),
        };
        let mut plain = Vec::new();
        reader.read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn every_method_is_read_back_by_its_name() {
        let text = "telemetry, telemetry, telemetry. ".repeat(5000);
        for compression in [
            Compression::Gzip,
            Compression::Zstd,
            Compression::Snappy,
            Compression::SnappyFramed,
            Compression::Zlib,
            Compression::Deflate,
            Compression::Lz4,
        ] {
            for grpc in [false, true] {
                for plain in [text.as_bytes(), b"", b"x"] {
                    let method = Method::new(compression, 0).unwrap();
                    let bytes = method.compress(plain, grpc).unwrap();
                    let name = method.name().unwrap();
                    assert_eq!(inflated(name, &bytes, grpc), plain, "{name}");
                    assert!(plain.len() < 100 || bytes.len() < plain.len() / 5, "{name}");
                }
            }
        }
    }

    #[test]
    fn levels_are_those_of_the_method() {
        let check = |compression, level, sound: bool| {
            let found = Method::new(compression, level);
            assert_eq!(found.is_ok(), sound, "{compression:?} {level}");
        };
        check(Compression::Gzip, -1, true);
        check(Compression::Gzip, 9, true);
        check(Compression::Gzip, 10, false);
        check(Compression::Zstd, 19, true);
        check(Compression::Zstd, 23, false);
        check(Compression::Zstd, -5, false);
        check(Compression::Snappy, 0, true);
        check(Compression::Snappy, 1, false);
        check(Compression::None, 3, false);
    }

    #[test]
    fn a_higher_level_is_smaller() {
        let text: String = (0..20_000)
            .map(|number| format!("{} ", number * number))
            .collect();
        let size = |compression, level| {
            let method = Method::new(compression, level).unwrap();
            method.compress(text.as_bytes(), false).unwrap().len()
        };
        assert!(size(Compression::Gzip, 9) < size(Compression::Gzip, 1));
        assert!(size(Compression::Zstd, 19) < size(Compression::Zstd, 1));
    }
}

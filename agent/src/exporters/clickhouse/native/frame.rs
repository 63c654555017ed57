//! ClickHouse's compressed block frames: a checksum, a method, two sizes, and the content.
//!
//! The checksum is CityHash128 as of version 1.0.2 over everything behind it. All numbers are little-endian.
//! A request body with `decompress=1` is a sequence of such frames; where one ends means nothing.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

/// How frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// No frames at all: the body is plain Native format.
    None,
    /// LZ4 blocks.
    Lz4,
    /// Zstandard at its lowest level.
    Zstd,
}

impl Method {
    /// Content of one frame at most, in bytes.
    pub const fn content_max(self) -> usize {
        match self {
            Self::None => usize::MAX,
            Self::Lz4 => LZ4_CONTENT_MAX,
            Self::Zstd => ZSTD_CONTENT_MAX,
        }
    }
}

/// Below 64 KiB the compressor's table has 16-bit positions and stays in the first-level cache, as does the content.
const LZ4_CONTENT_MAX: usize = (64 << 10) - 64;
/// What ClickHouse's own clients use.
const ZSTD_CONTENT_MAX: usize = 1 << 20;
const ZSTD_LEVEL: i32 = 1;

const CHECKSUM: usize = 16;
/// Method, compressed size and content size.
const HEADER: usize = 9;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;

/// Makes frames, and keeps what compression needs between them.
pub struct Compressor {
    method: Method,
    /// Room for the largest compressed content.
    room: Vec<u8>,
    table: CompressTable,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor for one method.
    ///
    /// # Errors
    /// When zstd cannot have its memory.
    pub fn new(method: Method) -> std::io::Result<Self> {
        let (room, zstd) = match method {
            Method::None => (0, None),
            Method::Lz4 => (get_maximum_output_size(LZ4_CONTENT_MAX), None),
            Method::Zstd => (
                zstd::zstd_safe::compress_bound(ZSTD_CONTENT_MAX),
                Some(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
            ),
        };
        Ok(Self {
            method,
            room: vec![0; room],
            table: CompressTable::small(),
            zstd,
        })
    }

    /// How it compresses.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Appends `content` to `out` as frames; as it is when the method is none.
    ///
    /// # Errors
    /// When the compressor fails, which sizes within bounds exclude.
    pub fn append(&mut self, content: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        if self.method == Method::None {
            out.extend_from_slice(content);
            return Ok(());
        }
        for piece in content.chunks(self.method.content_max()) {
            self.append_frame(piece, out)?;
        }
        Ok(())
    }

    fn append_frame(&mut self, content: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        let (method, length) = match &mut self.zstd {
            Some(zstd) => (
                METHOD_ZSTD,
                zstd.compress_to_buffer(content, self.room.as_mut_slice())?,
            ),
            None => (
                METHOD_LZ4,
                compress_into_with_table(content, &mut self.room, &mut self.table)
                    .map_err(std::io::Error::other)?,
            ),
        };
        let compressed = self.room.get(..length).unwrap_or_default();
        append_framed(method, compressed, content.len(), out);
        Ok(())
    }
}

fn append_framed(method: u8, compressed: &[u8], content_length: usize, out: &mut Vec<u8>) {
    let size = |length: usize| {
        u32::try_from(length)
            .expect("frames are cut at content_max")
            .to_le_bytes()
    };
    out.reserve(CHECKSUM + HEADER + compressed.len());
    let start = out.len();
    out.extend_from_slice(&[0; CHECKSUM]);
    out.push(method);
    out.extend_from_slice(&size(HEADER + compressed.len()));
    out.extend_from_slice(&size(content_length));
    out.extend_from_slice(compressed);
    let (place, hashed) = out
        .get_mut(start..)
        .and_then(|frame| frame.split_at_mut_checked(CHECKSUM))
        .expect("the checksum's place was appended above");
    // The hash's first half comes first; `cityhash_102_128` returns it as the upper half.
    let checksum = cityhash_rs::cityhash_102_128(hashed).rotate_left(64);
    place.copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::decode::unframed;
    use super::*;

    #[test]
    fn frames_hold_what_went_in() {
        for method in [Method::Lz4, Method::Zstd] {
            let mut compressor = Compressor::new(method).unwrap();
            for length in [
                0,
                1,
                15,
                4096,
                method.content_max(),
                method.content_max() * 2 + 1,
            ] {
                let content: Vec<u8> = (0..length).map(|at| (at * at / 7 % 251) as u8).collect();
                let mut out = Vec::new();
                compressor.append(&content, &mut out).unwrap();
                assert!(unframed(&out) == content, "{method:?} {length}");
            }
        }
    }
}

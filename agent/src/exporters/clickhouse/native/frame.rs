//! ClickHouse's compressed block frames: a checksum, a method, two sizes, and the content.
//!
//! The checksum is CityHash128 as of version 1.0.2 over everything behind it. All numbers are little-endian.
//! A request body with `decompress=1` is a sequence of such frames; where one ends means nothing.

use std::fmt;

use super::{texts, words};
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
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;

/// What compressing a stream has been worth lately. Ids are random: trying again and again would cost 25 ns a span
/// and 50 ns a log record, measured, for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worth {
    /// Frames to store as they are before compression is tried again.
    plain_frames: u8,
}

/// After a frame that compression hardly made smaller, this many are stored as they are.
const PLAIN_FRAMES: u8 = 15;

impl Worth {
    /// Takes note of a frame: worth it is a sixteenth less.
    fn note(&mut self, compressed: usize, content: usize) {
        if compressed > content - content / 16 {
            self.plain_frames = PLAIN_FRAMES;
        }
    }

    /// Whether the next frame is to be compressed.
    fn try_next(&mut self) -> bool {
        let tried = self.plain_frames == 0;
        self.plain_frames = self.plain_frames.saturating_sub(1);
        tried
    }
}

/// Makes frames, and keeps what compression needs between them.
pub struct Compressor {
    method: Method,
    /// Room for the largest compressed content.
    room: Vec<u8>,
    table: CompressTable,
    /// A block of numbers or strings being made.
    special: Vec<u8>,
    texts: texts::Table,
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
            special: Vec::new(),
            texts: texts::Table::default(),
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

    /// The same, for a stream whose `worth` is remembered: what does not compress is stored as it is.
    ///
    /// # Errors
    /// As [`Compressor::append`].
    pub fn append_worth(
        &mut self,
        content: &[u8],
        worth: &mut Worth,
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        if self.method == Method::None {
            return self.append(content, out);
        }
        for piece in content.chunks(self.method.content_max()) {
            if worth.try_next() {
                let compressed = self.append_frame(piece, out)?;
                worth.note(compressed, piece.len());
            } else {
                append_framed(METHOD_NONE, piece, piece.len(), out);
            }
        }
        Ok(())
    }

    /// The same, for numbers of eight bytes that change little from one to the next.
    ///
    /// # Errors
    /// As [`Compressor::append`].
    pub fn append_words(&mut self, content: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        if self.method != Method::Lz4 {
            return self.append(content, out);
        }
        for piece in content.chunks(LZ4_CONTENT_MAX) {
            self.special.clear();
            words::compress(piece, &mut self.special);
            append_framed(METHOD_LZ4, &self.special, piece.len(), out);
        }
        Ok(())
    }

    /// The same, for strings behind their lengths; the first `carry` bytes are the rest of one that began before.
    /// Returns how far the last one reaches beyond the end.
    ///
    /// # Errors
    /// As [`Compressor::append`].
    pub fn append_texts(
        &mut self,
        content: &[u8],
        mut carry: usize,
        worth: &mut Worth,
        out: &mut Vec<u8>,
    ) -> std::io::Result<usize> {
        if self.method != Method::Lz4 {
            self.append_worth(content, worth, out)?;
            return Ok(0);
        }
        for piece in content.chunks(LZ4_CONTENT_MAX) {
            if worth.try_next() {
                self.special.clear();
                carry = texts::compress(piece, carry, &mut self.texts, &mut self.special);
                append_framed(METHOD_LZ4, &self.special, piece.len(), out);
                worth.note(self.special.len(), piece.len());
            } else {
                carry = texts::skip(piece, carry);
                append_framed(METHOD_NONE, piece, piece.len(), out);
            }
        }
        Ok(carry)
    }

    /// Appends one frame; gives the size of its content compressed.
    fn append_frame(&mut self, content: &[u8], out: &mut Vec<u8>) -> std::io::Result<usize> {
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
        Ok(length)
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
    fn what_does_not_compress_is_stored_as_it_is_until_it_is_tried_again() {
        let size = Method::Lz4.content_max();
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(size)
        .collect();
        let zeros = vec![0; size];
        let mut compressor = Compressor::new(Method::Lz4).unwrap();
        let mut worth = Worth::default();
        let (mut content, mut out, mut methods) = (Vec::new(), Vec::new(), Vec::new());
        for frame in std::iter::once(&noise).chain(std::iter::repeat_n(&zeros, 18)) {
            let start = out.len();
            compressor
                .append_worth(frame, &mut worth, &mut out)
                .unwrap();
            methods.push(out[start + CHECKSUM]);
            content.extend_from_slice(frame);
        }
        let plain = usize::from(PLAIN_FRAMES);
        assert_eq!(methods[0], METHOD_LZ4);
        assert_eq!(methods[1..=plain], vec![METHOD_NONE; plain]);
        assert_eq!(methods[plain + 1..], [METHOD_LZ4; 3]);
        assert!(unframed(&out) == content);
    }

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

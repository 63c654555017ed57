//! One substream of a column: values in Native encoding, compressed piece by piece while they are still in the cache.

use std::io;

use super::frame::{Compressor, Worth};

/// What a stream may keep allocated between batches; more goes back to the allocator.
const KEPT_MAX: usize = 512 << 10;

/// Bytes of one substream: frames already made, and the bytes after them.
#[derive(Debug, Default)]
pub struct Stream {
    open: Vec<u8>,
    sealed: Vec<u8>,
    kind: Kind,
}

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As bytes of any kind. What that was worth outlives the batch: a column of ids is one in the next batch too.
    Bytes(Worth),
    /// As strings, mostly short ones, of which some begin alike. The first frame to be made begins with so many bytes
    /// of a string that began before.
    Texts { worth: Worth, carry: usize },
    /// As numbers of eight bytes that change little from row to row.
    Words,
}

impl Default for Kind {
    fn default() -> Self {
        Self::Bytes(Worth::default())
    }
}

impl Stream {
    /// A stream of eight-byte numbers that change little from row to row, such as times.
    pub fn of_words() -> Self {
        Self {
            kind: Kind::Words,
            ..Self::default()
        }
    }

    /// A stream of strings, mostly short ones.
    pub fn of_texts() -> Self {
        Self {
            kind: Kind::Texts {
                worth: Worth::default(),
                carry: 0,
            },
            ..Self::default()
        }
    }

    /// The bytes not in frames yet.
    pub fn open(&self) -> &[u8] {
        &self.open
    }

    /// The frames made so far.
    pub fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    /// Appends the bytes not in frames yet to `out`, as frames.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    pub fn append_open(&self, compressor: &mut Compressor, out: &mut Vec<u8>) -> io::Result<()> {
        compress(self.kind, &self.open, compressor, out).map(drop)
    }

    /// Whether nothing was written.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.sealed.is_empty()
    }

    /// Appends bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    /// Appends a `UInt8`.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.open.push(value);
    }

    /// Appends a `UInt32`.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.open.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a `UInt64`, or the bits of a `DateTime64` or a `Float64`.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.open.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a `String`: its length as a varint, then its bytes.
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        append_text(&mut self.open, text);
    }

    /// The buffer itself, for writers that make their value in place.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.open
    }

    /// Makes frames of the full pieces there are.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    #[inline]
    pub fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        if self.open.len() < compressor.method().content_max() {
            return Ok(());
        }
        self.seal_full(compressor)
    }

    #[cold]
    fn seal_full(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        let size = compressor.method().content_max();
        let full = self.open.len() - self.open.len() % size;
        let (whole, rest) = self.open.split_at(full);
        self.kind = compress(self.kind, whole, compressor, &mut self.sealed)?;
        let rest = rest.len();
        self.open.copy_within(full.., 0);
        self.open.truncate(rest);
        Ok(())
    }

    /// Appends `pattern` `times` over, in pieces that are compressed as they fill.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    pub fn repeat(
        &mut self,
        pattern: &[u8],
        times: usize,
        compressor: &mut Compressor,
    ) -> io::Result<()> {
        if pattern.is_empty() {
            return Ok(());
        }
        if let Kind::Texts { worth, .. } = self.kind {
            // A general compressor finds that everything repeats and looks at no string.
            self.kind = Kind::Bytes(worth);
        }
        let fits = (compressor.method().content_max() / pattern.len()).max(1);
        let mut left = times;
        while left > 0 {
            let now = left.min(fits);
            append_repeated(&mut self.open, pattern, now);
            self.seal(compressor)?;
            left -= now;
        }
        Ok(())
    }

    /// Empties the stream for the next batch.
    pub fn reset(&mut self) {
        if let Kind::Texts { carry, .. } = &mut self.kind {
            *carry = 0;
        }
        for buffer in [&mut self.open, &mut self.sealed] {
            buffer.clear();
            buffer.shrink_to(KEPT_MAX);
        }
    }
}

/// Appends frames; gives the kind with what was learnt.
fn compress(
    kind: Kind,
    content: &[u8],
    compressor: &mut Compressor,
    out: &mut Vec<u8>,
) -> io::Result<Kind> {
    match kind {
        Kind::Bytes(mut worth) => {
            compressor.append_worth(content, &mut worth, out)?;
            Ok(Kind::Bytes(worth))
        }
        Kind::Texts { mut worth, carry } => {
            let carry = compressor.append_texts(content, carry, &mut worth, out)?;
            Ok(Kind::Texts { worth, carry })
        }
        Kind::Words => {
            compressor.append_words(content, out)?;
            Ok(kind)
        }
    }
}

/// Appends `pattern` `times` over, by doubling what is there.
pub(super) fn append_repeated(out: &mut Vec<u8>, pattern: &[u8], times: usize) {
    let Some(last) = times.checked_sub(1) else {
        return;
    };
    let start = out.len();
    out.reserve(pattern.len() * times);
    out.extend_from_slice(pattern);
    let mut copied = 1;
    while copied <= last {
        let now = copied.min(times - copied);
        out.extend_from_within(start..start + now * pattern.len());
        copied += now;
    }
}

/// Appends a `String` in Native encoding.
#[inline]
pub fn append_text(out: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length) if length < 0x80 => out.push(length),
        _ => append_varint(out, text.len()),
    }
    out.extend_from_slice(text);
}

/// Appends a varint, seven bits a byte, lowest first.
pub(super) fn append_varint(out: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        let [low, ..] = rest.to_le_bytes();
        out.push(low | 0x80);
        rest >>= 7;
    }
    let [low, ..] = rest.to_le_bytes();
    out.push(low);
}

#[cfg(test)]
mod tests {
    use super::super::decode::unframed;
    use super::super::frame::Method;
    use super::*;

    #[test]
    fn repeating_is_the_same_as_appending() {
        for method in [Method::None, Method::Lz4] {
            let mut compressor = Compressor::new(method).unwrap();
            for (pattern, times) in [
                (&b"abc"[..], 0),
                (b"", 5),
                (b"x", 1),
                (b"abc", 7),
                (b"abcdefg", 100_000),
            ] {
                let mut stream = Stream::default();
                stream.raw(b"before");
                stream.repeat(pattern, times, &mut compressor).unwrap();
                let mut found = unframed(stream.sealed());
                found.extend_from_slice(stream.open());
                assert!(
                    found == [b"before", pattern.repeat(times).as_slice()].concat(),
                    "{times}"
                );
            }
        }
    }

    #[test]
    fn a_giant_batch_gives_its_memory_back() {
        let mut compressor = Compressor::new(Method::Lz4).unwrap();
        let mut stream = Stream::default();
        stream.raw(&vec![7; 32 << 20]);
        stream.seal(&mut compressor).unwrap();
        stream.reset();
        assert!(stream.is_empty());
        assert!(stream.open.capacity() <= KEPT_MAX && stream.sealed.capacity() <= KEPT_MAX);
    }

    #[test]
    fn lengths_are_varints() {
        for length in [0, 1, 127, 128, 16_383, 16_384] {
            let mut out = Vec::new();
            append_text(&mut out, &vec![b'x'; length]);
            let bytes = match length {
                0..128 => 1,
                128..16_384 => 2,
                _ => 3,
            };
            assert_eq!(out.len(), length + bytes);
        }
    }
}

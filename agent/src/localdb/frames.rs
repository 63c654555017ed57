//! ClickHouse's compressed blocks: what `compress=1` answers with and `decompress=1` expects.
//!
//! A block is a 16-byte CityHash128 (version 1.0.2) of what follows, one byte of method, the compressed size
//! with these nine bytes (u32), the size of the content (u32), and the compressed content. Little-endian.

use std::io::{self, Read, Write};

use super::exception::{
    CANNOT_DECOMPRESS, CHECKSUM_DOESNT_MATCH, Exception, UNKNOWN_COMPRESSION_METHOD,
};

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
/// The content of one block, read or written, is at most this large. ClickHouse allows 1 GiB; clients that put
/// a whole insert into one block stay far below this.
const CONTENT_BYTES_MAX: usize = 256 << 20;
/// What is gathered into one block of an answer: ClickHouse's `max_compress_block_size`.
const CONTENT_BYTES: usize = 1 << 20;

const NONE: u8 = 0x02;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;

/// Appends `content` as one LZ4 block.
fn encode(content: &[u8], out: &mut Vec<u8>) {
    let compressed = lz4_flex::block::compress(content);
    let start = out.len();
    out.extend_from_slice(&[0; CHECKSUM_BYTES]);
    out.push(LZ4);
    let sizes = [HEADER_BYTES + compressed.len(), content.len()];
    for size in sizes {
        let size = u32::try_from(size).expect("blocks are cut at CONTENT_BYTES");
        out.extend_from_slice(&size.to_le_bytes());
    }
    out.extend_from_slice(&compressed);
    let checksum = checksum(&out[start + CHECKSUM_BYTES..]);
    out[start..start + CHECKSUM_BYTES].copy_from_slice(&checksum);
}

/// The two halves of the hash, first half first, each little-endian.
fn checksum(data: &[u8]) -> [u8; CHECKSUM_BYTES] {
    cityhash_rs::cityhash_102_128(data)
        .rotate_left(64)
        .to_le_bytes()
}

/// Writes an answer as LZ4 blocks.
pub(super) struct FrameWriter<W: Write> {
    inner: W,
    content: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            content: Vec::new(),
        }
    }

    /// Writes what is gathered and returns the writer below.
    ///
    /// # Errors
    /// Those of the writer below.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write_block()?;
        Ok(self.inner)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.content.is_empty() {
            return Ok(());
        }
        let mut block = Vec::with_capacity(self.content.len() / 2);
        encode(&self.content, &mut block);
        self.content.clear();
        self.inner.write_all(&block)
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(CONTENT_BYTES - self.content.len());
        self.content.extend_from_slice(&data[..taken]);
        if self.content.len() == CONTENT_BYTES {
            self.write_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_block()?;
        self.inner.flush()
    }
}

/// Reads the content out of compressed blocks, checking every checksum.
pub(super) struct FrameReader<R: Read> {
    inner: R,
    block: Vec<u8>,
    content: Vec<u8>,
    position: usize,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            block: Vec::new(),
            content: Vec::new(),
            position: 0,
        }
    }

    /// Reads the next block; `false` at the end, which may only come between blocks.
    fn next_block(&mut self) -> io::Result<bool> {
        self.position = 0;
        self.content.clear();
        let mut start = [0; CHECKSUM_BYTES + HEADER_BYTES];
        let first = read_some(&mut self.inner, &mut start)?;
        if first == 0 {
            return Ok(false);
        }
        self.inner.read_exact(&mut start[first..])?;
        let (checksum_found, header) = start.split_at(CHECKSUM_BYTES);
        let method = header[0];
        let size = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (compressed_size, content_size) = (size(1) as usize, size(5) as usize);
        if compressed_size < HEADER_BYTES || compressed_size.max(content_size) > CONTENT_BYTES_MAX {
            let message = format!(
                "A compressed block claims {compressed_size} bytes of {content_size}; the bound is {CONTENT_BYTES_MAX}."
            );
            return Err(Exception::new(CANNOT_DECOMPRESS, message).into());
        }
        self.block.clear();
        self.block.extend_from_slice(header);
        let body = compressed_size - HEADER_BYTES;
        // Grows with what arrives, not with what is claimed.
        let read = self
            .inner
            .by_ref()
            .take(body as u64)
            .read_to_end(&mut self.block)?;
        if read < body {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum(&self.block) != checksum_found {
            let message = "Checksum doesn't match: corrupted data in a compressed block.";
            return Err(Exception::new(CHECKSUM_DOESNT_MATCH, message).into());
        }
        decode(
            method,
            &self.block[HEADER_BYTES..],
            content_size,
            &mut self.content,
        )?;
        Ok(true)
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.content.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let rest = &self.content[self.position..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.position += taken;
        Ok(taken)
    }
}

fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Unpacks a block's body of a known content size.
fn decode(
    method: u8,
    body: &[u8],
    content_size: usize,
    content: &mut Vec<u8>,
) -> Result<(), Exception> {
    let broken = |detail: String| {
        Exception::new(
            CANNOT_DECOMPRESS,
            format!("Cannot decompress a block: {detail}."),
        )
    };
    let size = match method {
        NONE => {
            content.extend_from_slice(body);
            body.len()
        }
        LZ4 => {
            content.resize(content_size, 0);
            lz4_flex::block::decompress_into(body, content)
                .map_err(|error| broken(error.to_string()))?
        }
        ZSTD => {
            content.resize(content_size, 0);
            zstd::bulk::decompress_to_buffer(body, content)
                .map_err(|error| broken(error.to_string()))?
        }
        other => {
            let message = format!("Unknown compression method of a block: {other:#04x}.");
            return Err(Exception::new(UNKNOWN_COMPRESSION_METHOD, message));
        }
    };
    if size != content_size {
        return Err(broken(format!(
            "it holds {size} bytes where {content_size} are declared"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(method: u8, body: &[u8], content_size: usize) -> Vec<u8> {
        let mut rest = vec![method];
        rest.extend_from_slice(
            &u32::try_from(HEADER_BYTES + body.len())
                .unwrap()
                .to_le_bytes(),
        );
        rest.extend_from_slice(&u32::try_from(content_size).unwrap().to_le_bytes());
        rest.extend_from_slice(body);
        [checksum(&rest).as_slice(), &rest].concat()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, Exception> {
        let mut content = Vec::new();
        FrameReader::new(bytes)
            .read_to_end(&mut content)
            .map_err(Exception::from)?;
        Ok(content)
    }

    #[test]
    fn what_is_written_can_be_read() {
        for size in [0, 1, 1000, CONTENT_BYTES, CONTENT_BYTES * 2 + 17] {
            let content: Vec<u8> = (0..size).map(|index| (index / 7) as u8).collect();
            let mut writer = FrameWriter::new(Vec::new());
            writer.write_all(&content).unwrap();
            assert_eq!(read(&writer.finish().unwrap()), Ok(content), "{size}");
        }
    }

    #[test]
    fn every_method_is_read() {
        let content = b"hello hello hello hello hello".as_slice();
        let bodies = [
            (NONE, content.to_vec()),
            (LZ4, lz4_flex::block::compress(content)),
            (ZSTD, zstd::bulk::compress(content, 1).unwrap()),
        ];
        for (method, body) in bodies {
            assert_eq!(
                read(&framed(method, &body, content.len())).as_deref(),
                Ok(content),
                "{method:#x}"
            );
        }
    }

    /// A column file of a MergeTree part is made of the same blocks; this one holds the numbers 0 to 3.
    #[test]
    fn a_block_of_the_engine_is_read() {
        let bytes = [
            50, 106, 160, 248, 174, 192, 240, 114, 171, 182, 72, 102, 213, 243, 176,
            241, // checksum
            130, 30, 0, 0, 0, 32, 0, 0, 0, // header
            19, 0, 1, 0, 19, 1, 8, 0, 19, 2, 8, 0, 128, 3, 0, 0, 0, 0, 0, 0, 0,
        ];
        let content: Vec<u8> = (0..4u64).flat_map(u64::to_le_bytes).collect();
        assert_eq!(read(&bytes), Ok(content));
    }

    #[test]
    fn broken_blocks_are_refused_with_their_code() {
        let good = framed(LZ4, &lz4_flex::block::compress(b"abcabcabc"), 9);
        let mut flipped = good.clone();
        flipped[0] ^= 1;
        for (bytes, code, what) in [
            (flipped, 40, "checksum"),
            (good[..10].to_vec(), 33, "cut in the header"),
            (good[..good.len() - 1].to_vec(), 33, "cut in the body"),
            (framed(0x55, b"abc", 3), 89, "method"),
            (framed(LZ4, &[0xff; 8], 9), 271, "garbage"),
            (framed(NONE, b"abc", 4), 271, "size"),
            (framed(ZSTD, b"abc", 4), 271, "zstd garbage"),
            (framed(NONE, b"abc", CONTENT_BYTES_MAX + 1), 271, "bound"),
        ] {
            assert_eq!(read(&bytes).unwrap_err().code, code, "{what}");
        }
    }
}

//! The end of an existing file: whether its last line or frame is whole, and where to cut if not.
//!
//! A crash or a full disk may leave part of a batch behind. Nobody was told that it was delivered, so cutting it off
//! loses nothing, and what is appended stays readable. A file of another kind is left alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How the records of a file are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// JSON objects, each ended by a line feed.
    Lines,
    /// Messages behind their length as four big-endian bytes.
    Lengths,
    /// zstd frames.
    Zstd,
}

/// What the end of a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Every record is whole.
    Whole,
    /// The last record is torn; the file is good up to here.
    Torn(u64),
    /// At this offset stands something that the exporter does not write.
    Foreign(u64),
}

/// The largest message written with its length: longer ones are refused, so a greater length is not ours.
pub(super) const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// Looks at the end of `file`. Reads it from the start, apart from [`Framing::Lines`]; only headers are looked at.
pub(super) fn inspect(file: &File, framing: Framing) -> io::Result<Tail> {
    let mut window = Window::new(file)?;
    if window.len == 0 {
        return Ok(Tail::Whole);
    }
    match framing {
        Framing::Lines => lines(&mut window),
        Framing::Lengths => lengths(&mut window),
        Framing::Zstd => zstd_frames(&mut window),
    }
}

/// Reads a file here and there through a buffer.
struct Window<'a> {
    file: &'a File,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

/// Large enough that headers a few KiB apart share a read, small enough to skip most of a large frame.
const WINDOW_BYTES: usize = 16 << 10;

impl<'a> Window<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        Ok(Self {
            file,
            len: file.metadata()?.len(),
            start: 0,
            bytes: Vec::new(),
        })
    }

    /// The `N` bytes at `offset`; `None` if the file ends before.
    fn array<const N: usize>(&mut self, offset: u64) -> io::Result<Option<[u8; N]>> {
        if offset
            .checked_add(N as u64)
            .is_none_or(|end| end > self.len)
        {
            return Ok(None);
        }
        if let Some(found) = self.buffered(offset) {
            return Ok(Some(found));
        }
        self.fill(offset)?;
        Ok(self.buffered(offset))
    }

    fn buffered<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..)?.first_chunk().copied()
    }

    fn fill(&mut self, offset: u64) -> io::Result<()> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.bytes.resize(left.min(WINDOW_BYTES), 0);
        self.file.read_exact_at(&mut self.bytes, offset)?;
        self.start = offset;
        Ok(())
    }

    /// Whether only zeros follow: some file systems leave them after a power failure.
    fn is_zero_from(&mut self, mut offset: u64) -> io::Result<bool> {
        while offset < self.len {
            self.fill(offset)?;
            if self.bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset += self.bytes.len() as u64;
        }
        Ok(true)
    }
}

fn lines(window: &mut Window<'_>) -> io::Result<Tail> {
    if !starts_line(window, 0)? {
        return Ok(Tail::Foreign(0));
    }
    let mut end = window.len;
    while end > 0 {
        let start = end.saturating_sub(WINDOW_BYTES as u64);
        window.fill(start)?;
        window
            .bytes
            .truncate(usize::try_from(end - start).unwrap_or(WINDOW_BYTES));
        if let Some(at) = window.bytes.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end == window.len {
        return Ok(Tail::Whole);
    }
    Ok(if starts_line(window, end)? {
        Tail::Torn(end)
    } else {
        Tail::Foreign(end)
    })
}

/// Whether a JSON object of ours may begin at `offset`, or zeros do.
fn starts_line(window: &mut Window<'_>, offset: u64) -> io::Result<bool> {
    let first = window.array(offset)?;
    Ok(first.is_none_or(|[byte]: [u8; 1]| byte == b'{' || byte == 0))
}

fn lengths(window: &mut Window<'_>) -> io::Result<Tail> {
    let mut offset = 0;
    while offset < window.len {
        let Some(header) = window.array(offset)? else {
            return Ok(Tail::Torn(offset));
        };
        let length = u32::from_be_bytes(header);
        if length as usize > MESSAGE_BYTES_MAX {
            return Ok(Tail::Foreign(offset));
        }
        let end = offset + 4 + u64::from(length);
        if end > window.len {
            return Ok(Tail::Torn(offset));
        }
        offset = end;
    }
    Ok(Tail::Whole)
}

fn zstd_frames(window: &mut Window<'_>) -> io::Result<Tail> {
    let mut offset = 0;
    while offset < window.len {
        match zstd_frame(window, offset)? {
            Frame::Ends(end) if end <= window.len => offset = end,
            Frame::Ends(_) | Frame::Cut => return Ok(Tail::Torn(offset)),
            Frame::Other if window.is_zero_from(offset)? => return Ok(Tail::Torn(offset)),
            Frame::Other => return Ok(Tail::Foreign(offset)),
        }
    }
    Ok(Tail::Whole)
}

/// A zstd frame as far as its headers tell.
enum Frame {
    Ends(u64),
    Cut,
    Other,
}

/// Finds the end of the frame at `start` by its block headers. Format: RFC 8878, section 3.1.
fn zstd_frame(window: &mut Window<'_>, start: u64) -> io::Result<Frame> {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    const SKIPPABLE: u32 = 0x184d_2a50;
    let Some(magic) = window.array::<4>(start)? else {
        let Some([first]) = window.array(start)? else {
            return Ok(Frame::Cut);
        };
        let is_ours = first == MAGIC[0] || first & 0xf0 == 0x50 || first == 0;
        return Ok(if is_ours { Frame::Cut } else { Frame::Other });
    };
    if u32::from_le_bytes(magic) & !15 == SKIPPABLE {
        let size = window.array(start + 4)?.map(u32::from_le_bytes);
        return Ok(size.map_or(Frame::Cut, |size| Frame::Ends(start + 8 + u64::from(size))));
    }
    if magic != MAGIC {
        return Ok(Frame::Other);
    }
    let Some([descriptor]) = window.array(start + 4)? else {
        return Ok(Frame::Cut);
    };
    let mut offset = start + 5 + frame_header_rest(descriptor);
    loop {
        let Some([low, middle, high]) = window.array(offset)? else {
            return Ok(Frame::Cut);
        };
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = match header >> 1 & 3 {
            1 => 1,
            3 => return Ok(Frame::Other),
            _ => header >> 3,
        };
        offset += 3 + u64::from(size);
        if header & 1 != 0 {
            let checksum = if descriptor & 4 != 0 { 4 } else { 0 };
            return Ok(Frame::Ends(offset + checksum));
        }
    }
}

/// The bytes of a frame header behind its descriptor: window, dictionary id, content size.
fn frame_header_rest(descriptor: u8) -> u64 {
    let single_segment = descriptor & 32 != 0;
    let window = u64::from(!single_segment);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => u64::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    window + dictionary + content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(framing: Framing, content: &[u8]) -> Tail {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        inspect(&File::open(path).unwrap(), framing).unwrap()
    }

    fn check_every_cut(framing: Framing, records: &[Vec<u8>]) {
        let whole = records.concat();
        let ends: Vec<usize> = records
            .iter()
            .scan(0, |end, record| {
                *end += record.len();
                Some(*end)
            })
            .collect();
        for cut in 0..=whole.len() {
            let good = ends
                .iter()
                .copied()
                .filter(|end| *end <= cut)
                .max()
                .unwrap_or(0);
            let expected = if good == cut {
                Tail::Whole
            } else {
                Tail::Torn(good as u64)
            };
            assert_eq!(
                tail(framing, &whole[..cut]),
                expected,
                "{framing:?} cut at {cut}"
            );
        }
    }

    fn zstd(content: &[u8], checksum: bool) -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(checksum).unwrap();
        compressor.compress(content).unwrap()
    }

    #[test]
    fn lines_cut_anywhere_are_torn_at_the_last_whole_line() {
        let records = ["{}\n", "{\"a\":1}\n", "{\"b\":\"c\"}\n"];
        check_every_cut(
            Framing::Lines,
            &records.map(|line| line.as_bytes().to_vec()),
        );
        let long = [
            b"{}\n".to_vec(),
            [b"{".to_vec(), vec![b'x'; 3 * WINDOW_BYTES]].concat(),
        ];
        assert_eq!(tail(Framing::Lines, &long.concat()), Tail::Torn(3));
        assert_eq!(tail(Framing::Lines, b"{}\n\0\0\0"), Tail::Torn(3));
    }

    #[test]
    fn lengths_cut_anywhere_are_torn_at_the_last_whole_message() {
        let message = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        check_every_cut(
            Framing::Lengths,
            &[message(b"abc"), message(b""), message(&[1; 300])],
        );
    }

    #[test]
    fn zstd_frames_cut_anywhere_are_torn_at_the_last_whole_frame() {
        let varied: Vec<u8> = (0..100_000u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        check_every_cut(
            Framing::Zstd,
            &[
                zstd(b"abc", true),
                zstd(b"", false),
                zstd(&vec![7; 300_000], true),
            ],
        );
        for content in [&varied[..], &[b'x'; 1000], &varied[..70_000]] {
            let mut frame = zstd(content, true);
            assert_eq!(tail(Framing::Zstd, &frame), Tail::Whole);
            frame.pop();
            assert_eq!(tail(Framing::Zstd, &frame), Tail::Torn(0));
        }
        let zeros = [zstd(b"abc", true), vec![0; 40_000]].concat();
        let good = zstd(b"abc", true).len() as u64;
        assert_eq!(tail(Framing::Zstd, &zeros), Tail::Torn(good));
        let skippable = [
            &0x184d_2a53_u32.to_le_bytes()[..],
            &2u32.to_le_bytes(),
            b"xy",
        ]
        .concat();
        check_every_cut(Framing::Zstd, &[zstd(b"abc", true), skippable]);
    }

    #[test]
    fn files_of_another_kind_are_left_alone() {
        let line = b"{\"resourceSpans\":[]}\n";
        let check = |framing, content: &[u8], offset| {
            assert_eq!(
                tail(framing, content),
                Tail::Foreign(offset),
                "{framing:?} {content:?}"
            );
        };
        check(Framing::Lengths, line, 0);
        check(Framing::Zstd, line, 0);
        check(Framing::Zstd, b"\0\0\0\x03abc", 0);
        check(Framing::Lines, b"\x28\xb5\x2f\xfd", 0);
        check(Framing::Lengths, &zstd(b"abc", true), 0);
        check(Framing::Lines, b"root:x:0:0\n", 0);
        check(Framing::Lines, b"{}\nroot", 3);
    }
}

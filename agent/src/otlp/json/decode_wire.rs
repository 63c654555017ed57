//! Wire format as it is written while reading: lengths are known only afterwards, and room is asked for before it is used.

use crate::otlp::rewrite::put_varint;

/// Where decoded bytes go.
pub trait Output {
    /// The buffer. Nothing but the decoder changes its length.
    fn bytes(&mut self) -> &mut Vec<u8>;

    /// Makes room for `additional` bytes behind those that are there.
    ///
    /// # Errors
    /// When there may not be so many. The decoding ends there; the reason is the implementor's to remember.
    fn grow(&mut self, additional: usize) -> Result<(), NoRoom>;

    /// Takes note that the decoder needs `bytes` of memory for itself.
    ///
    /// # Errors
    /// As [`Output::grow`].
    fn grow_notes(&mut self, bytes: usize) -> Result<(), NoRoom>;
}

/// There may not be more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// Without a limit.
impl Output for Vec<u8> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        self
    }

    fn grow(&mut self, additional: usize) -> Result<(), NoRoom> {
        self.reserve(additional);
        Ok(())
    }

    fn grow_notes(&mut self, _bytes: usize) -> Result<(), NoRoom> {
        Ok(())
    }
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/// A delimited field whose length takes more than the one byte that is kept free for it, or may yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    /// The place of that byte.
    at: usize,
    /// Of the content, once it is complete, with all lengths inside it at their full size.
    length: usize,
}

/// A delimited field that is not complete.
#[derive(Debug)]
pub(super) struct Open {
    /// The position of its note.
    note: usize,
    /// The place of the first byte of its content.
    start: usize,
    /// `Writer::widening` at that time.
    widening: usize,
}

/// Writes fields to an [`Output`].
///
/// Lengths of less than 128 bytes are put in their place at once. The others are noted, and put there by
/// [`Writer::finish`] in one pass from behind, which moves each byte at most once however deep it is nested.
#[derive(Debug)]
pub(super) struct Writer<'o, O> {
    out: &'o mut O,
    /// In the order of `at`; at most one for each level that is open and one for each content of 128 bytes or more.
    notes: Vec<Note>,
    /// Bytes that the lengths noted will take beyond those kept free.
    widening: usize,
}

impl<'o, O: Output> Writer<'o, O> {
    pub(super) fn new(out: &'o mut O) -> Self {
        Self {
            out,
            notes: Vec::new(),
            widening: 0,
        }
    }

    /// Makes room for `additional` bytes, beside what the lengths noted will take.
    fn make_room(&mut self, additional: usize) -> Result<(), NoRoom> {
        let needed = additional + self.widening;
        let bytes = self.out.bytes();
        if bytes.capacity() - bytes.len() >= needed {
            return Ok(());
        }
        self.out.grow(needed)
    }

    // === Values; packed ones have no tag ===

    pub(super) fn varint(&mut self, value: u64) -> Result<(), NoRoom> {
        self.make_room(varint_length(value))?;
        put_varint(value, self.out.bytes());
        Ok(())
    }

    pub(super) fn fixed64(&mut self, value: u64) -> Result<(), NoRoom> {
        self.make_room(8)?;
        self.out.bytes().extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    // === Fields ===

    pub(super) fn tag(&mut self, number: u32, wire_type: u32) -> Result<(), NoRoom> {
        self.varint(u64::from(number << 3 | wire_type))
    }

    pub(super) fn put_varint(&mut self, number: u32, value: u64) -> Result<(), NoRoom> {
        self.tag(number, VARINT)?;
        self.varint(value)
    }

    pub(super) fn put_fixed32(&mut self, number: u32, value: u32) -> Result<(), NoRoom> {
        self.tag(number, FIXED32)?;
        self.make_room(4)?;
        self.out.bytes().extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    pub(super) fn put_fixed64(&mut self, number: u32, value: u64) -> Result<(), NoRoom> {
        self.tag(number, FIXED64)?;
        self.fixed64(value)
    }

    pub(super) fn put_bytes(&mut self, number: u32, bytes: &[u8]) -> Result<(), NoRoom> {
        self.tag(number, DELIMITED)?;
        self.varint(bytes.len() as u64)?;
        self.make_room(bytes.len())?;
        self.out.bytes().extend_from_slice(bytes);
        Ok(())
    }

    /// Starts a delimited field with room for a length of one byte.
    pub(super) fn open(&mut self, number: u32) -> Result<Open, NoRoom> {
        self.tag(number, DELIMITED)?;
        self.make_room(1)?;
        let bytes = self.out.bytes();
        let at = bytes.len();
        bytes.push(0);
        if self.notes.len() == self.notes.capacity() {
            let capacity = (self.notes.capacity() * 2).max(64);
            self.out.grow_notes(capacity * size_of::<Note>())?;
            self.notes.reserve_exact(capacity - self.notes.len());
        }
        self.notes.push(Note { at, length: 0 });
        Ok(Open {
            note: self.notes.len() - 1,
            start: at + 1,
            widening: self.widening,
        })
    }

    /// Ends the delimited field that was opened last.
    pub(super) fn close(&mut self, open: &Open) -> Result<(), NoRoom> {
        let bytes = self.out.bytes();
        let length = bytes.len() - open.start + (self.widening - open.widening);
        if length < 0x80 {
            // What is inside was as short: no note of it is left, and the last one is that of this field.
            if let Some(place) = bytes.get_mut(open.start - 1) {
                *place = length as u8;
            }
            self.notes.pop();
            return Ok(());
        }
        // Notes that came later are of what is inside: this one is where it was.
        if let Some(note) = self.notes.get_mut(open.note) {
            note.length = length;
        }
        self.widening += varint_length(length as u64) - 1;
        self.make_room(0)
    }

    /// Puts the lengths noted in their places.
    pub(super) fn finish(self) {
        widen(self.out.bytes(), &self.notes, self.widening);
    }
}

/// Makes room for the lengths in `notes`, `widening` bytes in all, and writes them. Returns how many bytes were moved.
fn widen(bytes: &mut Vec<u8>, notes: &[Note], widening: usize) -> usize {
    let mut moved = 0;
    let mut from_end = bytes.len();
    bytes.resize(from_end + widening, 0);
    let mut to_end = bytes.len();
    for note in notes.iter().rev() {
        let content = note.at + 1..from_end;
        let to = to_end - content.len();
        if to != content.start {
            moved += content.len();
            bytes.copy_within(content, to);
        }
        let mut length = note.length as u64;
        let start = to - varint_length(length);
        for place in bytes.iter_mut().take(to).skip(start) {
            *place = length as u8 | 0x80;
            length >>= 7;
        }
        if let Some(last) = bytes.get_mut(to - 1) {
            *last &= 0x7f;
        }
        from_end = note.at;
        to_end = start;
    }
    moved
}

/// Bytes that a varint takes: one for each seven bits.
fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_their_length() {
        for bits in 0..64 {
            for value in [1 << bits, (1 << bits) - 1, u64::MAX >> bits] {
                let mut bytes = Vec::new();
                put_varint(value, &mut bytes);
                assert_eq!(bytes.len(), varint_length(value), "{value}");
            }
        }
    }

    /// `levels` fields in each other around `size` bytes, written in one go.
    fn nested(levels: usize, size: usize) -> Vec<u8> {
        let mut bytes = vec![7; size];
        for _ in 0..levels {
            let mut outer = vec![0x0a];
            put_varint(bytes.len() as u64, &mut outer);
            outer.append(&mut bytes);
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn lengths_are_right_at_every_size_and_depth() {
        for size in [0, 1, 120, 127, 128, 129, 16_380, 16_384, 70_000] {
            for levels in 0..9 {
                let mut out = Vec::new();
                let mut writer = Writer::new(&mut out);
                let opened: Vec<_> = (0..levels).map(|_| writer.open(1).unwrap()).collect();
                for _ in 0..size {
                    writer.varint(7).unwrap();
                }
                for open in opened.iter().rev() {
                    writer.close(open).unwrap();
                }
                writer.finish();
                assert_eq!(out, nested(levels, size), "{size} bytes in {levels} levels");
            }
        }
    }

    #[test]
    fn a_byte_moves_at_most_once_however_deep_it_is() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let opened: Vec<_> = (0..100).map(|_| writer.open(1).unwrap()).collect();
        for _ in 0..1000 {
            let open = writer.open(1).unwrap();
            writer.put_bytes(1, &[7; 200]).unwrap();
            writer.close(&open).unwrap();
        }
        for open in opened.iter().rev() {
            writer.close(open).unwrap();
        }
        let before = writer.out.len();
        let moved = widen(writer.out, &writer.notes, writer.widening);
        assert!(moved <= before, "{moved} moves of {before} bytes");
    }

    /// At most so many bytes of output, and of notes.
    struct Limited(Vec<u8>, usize, usize);

    impl Output for Limited {
        fn bytes(&mut self) -> &mut Vec<u8> {
            &mut self.0
        }

        fn grow(&mut self, additional: usize) -> Result<(), NoRoom> {
            let wanted = self.0.len() + additional;
            if wanted > self.1 {
                return Err(NoRoom);
            }
            self.0.reserve_exact(additional);
            Ok(())
        }

        fn grow_notes(&mut self, bytes: usize) -> Result<(), NoRoom> {
            if bytes > self.2 { Err(NoRoom) } else { Ok(()) }
        }
    }

    #[test]
    fn nothing_is_written_beyond_what_was_allowed() {
        let write = |limit: usize| {
            let mut out = Limited(Vec::new(), limit, usize::MAX);
            let mut writer = Writer::new(&mut out);
            let mut run = || {
                let outer = writer.open(1)?;
                let inner = writer.open(1)?;
                writer.put_bytes(2, &[7; 16_380])?;
                writer.put_fixed64(3, 1)?;
                writer.close(&inner)?;
                writer.close(&outer)
            };
            let result = run();
            if result.is_ok() {
                writer.finish();
            }
            assert!(out.0.len() <= limit);
            result
        };
        let size = 1 + 3 + 1 + 3 + 1 + 2 + 16_380 + 1 + 8;
        assert_eq!(write(size), Ok(()));
        for limit in [size - 1, size - 4, size - 9, 100, 1, 0] {
            assert_eq!(write(limit), Err(NoRoom), "{limit}");
        }
    }

    #[test]
    fn notes_are_accounted_for() {
        let mut out = Limited(Vec::new(), usize::MAX, 64 * size_of::<Note>());
        let mut writer = Writer::new(&mut out);
        let opened = (0..100).map_while(|_| writer.open(1).ok()).count();
        assert_eq!(opened, 64);
    }
}

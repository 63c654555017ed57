//! Changes of a batch, in order: what is not named in them is copied by the agent, and never by the plugin.

use std::ops::Range;

use crate::wire::{Field, put_varint, varint_length};

/// The bytes from `start` up to `end` give way to `length` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// Where it starts in the input.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// How many bytes take their place.
    pub length: u32,
}

/// Edits so far, and what they put in.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    pub(crate) list: Vec<Edit>,
    pub(crate) inserted: Vec<u8>,
    /// Places in `inserted` that were kept free for a length, and how many of the bytes were not needed.
    gaps: Vec<Gap>,
    /// By how much the edits make the input longer.
    grown: isize,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    at: usize,
    unused: usize,
}

/// The state before a message was opened.
#[derive(Debug)]
pub(crate) struct Mark {
    edits: usize,
    inserted: usize,
    gaps: usize,
    grown: isize,
}

/// Bytes kept free for the length of a message: enough for any that an agent can send.
const LENGTH_MAX: usize = 5;

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Puts what `write` writes in the place of `range`.
    #[inline]
    pub(crate) fn replace(&mut self, range: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.inserted.len();
        write(&mut self.inserted);
        self.push(range, self.inserted.len() - before);
    }

    #[inline(always)]
    fn push(&mut self, range: Range<usize>, length: usize) {
        self.grown += length as isize - range.len() as isize;
        self.list.push(Edit {
            start: range.start as u32,
            end: range.end as u32,
            length: length as u32,
        });
    }

    /// Writes the new length of a message that grows by `grown`.
    #[inline]
    pub(crate) fn resize(&mut self, field: &Field, grown: isize) {
        if grown == 0 {
            return;
        }
        let before = self.inserted.len();
        let length = field.value.len().saturating_add_signed(grown) as u64;
        put_varint(&mut self.inserted, length);
        self.push(field.length.clone(), self.inserted.len() - before);
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            edits: self.list.len(),
            inserted: self.inserted.len(),
            gaps: self.gaps.len(),
            grown: self.grown,
        }
    }

    /// Opens a message whose length is known only when what is in it is known.
    pub(crate) fn open(&mut self, field: &Field) -> Mark {
        let mark = self.mark();
        self.inserted.extend_from_slice(&[0; LENGTH_MAX]);
        self.list.push(Edit {
            start: field.length.start as u32,
            end: field.length.end as u32,
            length: 0,
        });
        mark
    }

    /// Closes it again.
    pub(crate) fn close(&mut self, mark: &Mark, field: &Field) {
        if self.list.len() == mark.edits + 1 {
            self.undo(mark);
            return;
        }
        let inner = self.grown - mark.grown;
        let length = field.value.len().saturating_add_signed(inner) as u64;
        let used = varint_length(length);
        let mut digits = Vec::with_capacity(LENGTH_MAX);
        put_varint(&mut digits, length);
        if let Some(place) = self.inserted.get_mut(mark.inserted..mark.inserted + used) {
            place.copy_from_slice(&digits);
        }
        self.gaps.push(Gap {
            at: mark.inserted + used,
            unused: LENGTH_MAX - used,
        });
        if let Some(edit) = self.list.get_mut(mark.edits) {
            edit.length = used as u32;
            self.grown += used as isize - (edit.end - edit.start) as isize;
        }
    }

    /// Forgets everything since.
    pub(crate) fn undo(&mut self, mark: &Mark) {
        self.list.truncate(mark.edits);
        self.inserted.truncate(mark.inserted);
        self.gaps.truncate(mark.gaps);
        self.grown = mark.grown;
    }

    /// Closes the gaps. To be called last.
    pub(crate) fn finish(&mut self) {
        self.gaps.sort_unstable_by_key(|gap| gap.at);
        let mut gaps = self.gaps.iter().peekable();
        let Some(first) = gaps.peek() else {
            return;
        };
        let mut to = first.at;
        while let Some(gap) = gaps.next() {
            let from = gap.at + gap.unused;
            let end = gaps.peek().map_or(self.inserted.len(), |next| next.at);
            self.inserted.copy_within(from..end, to);
            to += end - from;
        }
        self.inserted.truncate(to);
        self.gaps.clear();
    }

    /// The input with the edits, after [`Edits::finish`].
    pub(crate) fn apply(&self, input: &[u8]) -> Vec<u8> {
        let length = input.len().saturating_add_signed(self.grown);
        let mut output = Vec::with_capacity(length);
        let (mut copied, mut taken) = (0, 0);
        for edit in &self.list {
            let untouched = input.get(copied..edit.start as usize);
            output.extend_from_slice(untouched.unwrap_or_default());
            let end = taken + edit.length as usize;
            output.extend_from_slice(self.inserted.get(taken..end).unwrap_or_default());
            (copied, taken) = (edit.end as usize, end);
        }
        output.extend_from_slice(input.get(copied..).unwrap_or_default());
        output
    }
}

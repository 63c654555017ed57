//! Items as the usual encoders write them: fields in the order of their numbers, lengths in one byte.
//!
//! The walkers read fields in any order through a jump table, whose target the processor guesses wrong several times an
//! item. What stands where it usually does is passed here first, with branches that nearly always go the same way; whatever
//! comes instead, the walkers take it from there. Fields may come in any order and any number, so it makes no difference
//! who passes one.
//!
//! Together with looking for bytes beyond ASCII in whole runs of attributes this saves a fifth of the check of spans and log records, and a third of
//! that of data points, as `loadgen` sends them.

use super::common::plain_text;
use super::{Depth, Walk, is_ascii};

/// The rest of a message.
pub(super) struct Usual<'a>(pub(super) &'a [u8]);

impl<'a> Usual<'a> {
    /// Passes a field of `LENGTH` bytes behind a key of one byte, as a fixed number is; whether there was one.
    #[inline]
    pub(super) fn fixed<const LENGTH: usize>(&mut self, key: u32) -> bool {
        if let [found, rest @ ..] = self.0
            && u32::from(*found) == key
            && let Some((_, rest)) = rest.split_first_chunk::<LENGTH>()
        {
            self.0 = rest;
            return true;
        }
        false
    }

    /// Passes a field of bytes that has to be `LENGTH` long.
    #[inline]
    pub(super) fn id<const LENGTH: usize>(&mut self, key: u32) {
        if let [found, length, rest @ ..] = self.0
            && u32::from(*found) == key
            && usize::from(*length) == LENGTH
            && let Some((_, rest)) = rest.split_first_chunk::<LENGTH>()
        {
            self.0 = rest;
        }
    }

    /// Passes a number below 128.
    #[inline]
    pub(super) fn small_varint(&mut self, key: u32) {
        if let [found, 0..=0x7f, rest @ ..] = self.0
            && u32::from(*found) == key
        {
            self.0 = rest;
        }
    }

    /// Passes a string.
    #[inline]
    pub(super) fn string(&mut self, walk: &mut Walk, key: u32) {
        if let Some((text, rest)) = self.delimited(key) {
            walk.string(text);
            self.0 = rest;
        }
    }

    /// Passes a value that is a string in ASCII; whether there was one.
    #[inline]
    pub(super) fn text_value(&mut self, key: u32) -> bool {
        let Some((value, rest)) = self.delimited(key) else {
            return false;
        };
        let plain = matches!(value, [0x0a, length, text @ ..]
            if usize::from(*length) == text.len() && is_ascii(value));
        if plain {
            self.0 = rest;
        }
        plain
    }

    /// Passes a message in which there is nothing, or nothing but a number below 128; whether there was one.
    #[inline]
    pub(super) fn small_code(&mut self, key: u32, code: u32) -> bool {
        match self.0 {
            [found, 0, rest @ ..] if u32::from(*found) == key => self.0 = rest,
            [found, 2, inner, 0..=0x7f, rest @ ..]
                if u32::from(*found) == key && u32::from(*inner) == code =>
            {
                self.0 = rest;
            }
            _ => return false,
        }
        true
    }

    /// Passes the flags of a span, four bytes behind a key of two.
    #[inline]
    pub(super) fn flags(&mut self) {
        if let [0x85, 0x01, _, _, _, _, rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// Passes attributes of the usual form.
    #[inline]
    pub(super) fn attributes(&mut self, key: u32, depth: Depth) {
        if depth.0 < 2 {
            return;
        }
        // What has been passed and has still to prove ASCII: looked at in long runs, not string by string.
        let mut run = self.0;
        while let Some((pair, rest)) = self.delimited(key)
            && let Some(text) = plain_text(pair)
        {
            if text < pair.len() {
                let number = rest.len() + pair.len() - text;
                if !starts_with_ascii(run, number) {
                    break;
                }
                run = rest;
            }
            self.0 = rest;
        }
        if !starts_with_ascii(run, self.0.len()) {
            self.0 = run;
        }
    }

    #[inline]
    fn delimited(&self, key: u32) -> Option<(&'a [u8], &'a [u8])> {
        match self.0 {
            [found, length @ 0..=0x7f, rest @ ..] if u32::from(*found) == key => {
                rest.split_at_checked(usize::from(*length))
            }
            _ => None,
        }
    }
}

/// Whether all but the last bytes of `run`, that many, are ASCII.
#[inline]
fn starts_with_ascii(run: &[u8], last: usize) -> bool {
    is_ascii(run.get(..run.len() - last).unwrap_or(run))
}

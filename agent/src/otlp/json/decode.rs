//! OTLP/JSON text to the wire format, in one pass and without objects in between.
//!
//! Accepted is what the Collector accepts: names in lowerCamelCase or snake_case, unknown fields, enums as numbers or names,
//! 64-bit numbers as text or numbers, NaN and the infinities as text, lone surrogates and invalid UTF-8 (repaired and counted),
//! `null` for anything but an enum or a number. Refused is, unlike there: text after the value.

use std::fmt;

use thiserror::Error;

use super::decode_schema::{FieldSchema, Form, Message, request};
use super::decode_text::{Cursor, Raw, unescape};
use crate::otlp::rewrite::put_varint;
use crate::signal::Signal;

/// Messages nested deeper than this are refused here already: [`crate::otlp::check`] allows no more.
const DEPTH_MAX: usize = 100;

/// From this depth on, lengths are written in four bytes whatever they are. Shorter ones cost moving the message when they turn
/// out longer than reserved, once a level, which hostile nesting would make expensive.
const PADDED_DEPTH: usize = 16;

/// Bytes of such a length.
const PADDED_SIZE: usize = 4;

/// Four bytes of seven bits hold every length up to 256 MiB.
const PADDED_MAX: usize = 1 << 28;

/// A decoded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The request in wire format; its structure, ids and strings are sound.
    pub bytes: Vec<u8>,
    /// Strings in which invalid UTF-8 or a lone surrogate was replaced by U+FFFD.
    pub repaired_strings: usize,
}

/// What is wrong with the text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    pub(super) offset: usize,
    pub(super) problem: Problem,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JSON, byte {}: {}", self.offset, self.problem)
    }
}

impl std::error::Error for JsonError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Problem {
    #[error("the text ends inside a value")]
    Truncated,
    #[error("expected {0}")]
    Expected(&'static str),
    #[error("text after the value")]
    Trailing,
    #[error("control character in a string")]
    ControlCharacter,
    #[error("invalid escape")]
    Escape,
    #[error("nested too deep")]
    Depth,
    #[error("the request is too large")]
    TooLarge,
    #[error("`{0}`: expected {1}")]
    Value(&'static str, &'static str),
    #[error("invalid TraceID length")]
    TraceId,
    #[error("invalid SpanID length")]
    SpanId,
}

/// Decodes the request of `signal` in `text`, to at most about `limit` bytes.
///
/// # Errors
/// When the text is not JSON, a known field's value is not what its schema says, or the result exceeds the limit.
pub fn decode(signal: Signal, text: &[u8], limit: usize) -> Result<Decoded, JsonError> {
    let mut decoder = Decoder {
        cursor: Cursor::new(text),
        // Text is mostly twice as long as the wire format.
        out: Vec::with_capacity(text.len() / 2),
        open: Vec::with_capacity(16),
        scratch: Vec::new(),
        repaired_strings: 0,
        limit,
    };
    decoder.request(request(signal))?;
    decoder.out.shrink_to_fit();
    Ok(Decoded {
        bytes: decoder.out,
        repaired_strings: decoder.repaired_strings,
    })
}

/// One pass over one text.
pub(super) struct Decoder<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) out: Vec<u8>,
    /// The messages being read, the innermost last.
    open: Vec<Open>,
    /// For strings with escapes.
    pub(super) scratch: Vec<u8>,
    pub(super) repaired_strings: usize,
    limit: usize,
}

/// A message being read.
struct Open {
    message: &'static Message,
    /// Where its length stands in the output; nothing for the request itself.
    length: Option<Length>,
    /// The repeated field whose array it is in.
    element_of: Option<&'static FieldSchema>,
    /// Where to start looking for the next key.
    hint: usize,
    /// A bit for each field that came before, by position.
    seen: u32,
    /// Whether no key has been read yet.
    first: bool,
}

/// The place of a length that is not known yet.
#[derive(Clone, Copy)]
struct Length {
    at: usize,
    /// Bytes reserved for it.
    reserved: usize,
}

impl Decoder<'_> {
    fn request(&mut self, message: &'static Message) -> Result<(), JsonError> {
        self.cursor.expect(b'{', "an object")?;
        self.open(message, None, None)?;
        while let Some(innermost) = self.open.last_mut() {
            let first = std::mem::replace(&mut innermost.first, false);
            if self.cursor.another(first, b'}')? {
                self.member()?;
            } else {
                self.close()?;
            }
            if self.out.len() > self.limit {
                return Err(self.cursor.error(Problem::TooLarge));
            }
        }
        if !self.cursor.is_at_end() {
            return Err(self.cursor.error(Problem::Trailing));
        }
        Ok(())
    }

    // === structure ===

    fn open(
        &mut self,
        message: &'static Message,
        length: Option<Length>,
        element_of: Option<&'static FieldSchema>,
    ) -> Result<(), JsonError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(self.cursor.error(Problem::Depth));
        }
        self.open.push(Open {
            message,
            length,
            element_of,
            hint: 0,
            seen: 0,
            first: true,
        });
        Ok(())
    }

    /// After the `}` of the innermost message.
    fn close(&mut self) -> Result<(), JsonError> {
        let Some(closed) = self.open.pop() else {
            return Ok(());
        };
        if let Some(length) = closed.length {
            self.end_length(length);
        }
        match closed.element_of {
            Some(field) => self.elements(field, closed.message, false),
            None => Ok(()),
        }
    }

    /// A key and its value, or the beginning of it.
    fn member(&mut self) -> Result<(), JsonError> {
        let key = self.cursor.key()?;
        let name = self.plain_key(key)?;
        let Some(innermost) = self.open.last_mut() else {
            return Ok(());
        };
        let name = if key.escaped { &self.scratch } else { name };
        let Some(position) = innermost.message.position(name, innermost.hint) else {
            return self.cursor.skip();
        };
        let Some(field) = innermost.message.fields.get(position) else {
            return self.cursor.skip();
        };
        innermost.hint = position + 1;
        let bit = 1 << position;
        // A default value is left out, unless it has to overwrite what came before.
        let keep_default = field.explicit || innermost.seen & bit != 0;
        innermost.seen |= bit;
        self.value(field, keep_default)
    }

    /// The key without its escapes: itself, or in `scratch`.
    fn plain_key<'k>(&mut self, key: Raw<'k>) -> Result<&'k [u8], JsonError> {
        if key.escaped {
            self.scratch.clear();
            if unescape(key.bytes, &mut self.scratch).is_none() {
                return Err(self.cursor.error(Problem::Escape));
            }
        }
        Ok(key.bytes)
    }

    fn value(&mut self, field: &'static FieldSchema, keep_default: bool) -> Result<(), JsonError> {
        if self.cursor.peek() == Some(b'n') && !matches!(field.form, Form::Enum(_)) {
            return match self.cursor.word(b"null") {
                true => Ok(()),
                false => Err(self.cursor.unexpected("a value")),
            };
        }
        match field.form {
            Form::One(message) => {
                self.cursor.expect(b'{', "an object")?;
                let length = self.begin_length(field);
                self.open(message, Some(length), None)
            }
            Form::Many(message) => {
                self.cursor.expect(b'[', "an array")?;
                self.elements(field, message, true)
            }
            Form::Strings => self.strings(field),
            Form::Fixed64s | Form::Varints | Form::Doubles => self.packed(field),
            _ => self.scalar(field, keep_default),
        }
    }

    /// The elements of an array of messages, up to the next object, which stays open, or to the end.
    fn elements(
        &mut self,
        field: &'static FieldSchema,
        message: &'static Message,
        mut first: bool,
    ) -> Result<(), JsonError> {
        while self.cursor.another(first, b']')? {
            first = false;
            let length = self.begin_length(field);
            if self.cursor.word(b"null") {
                self.end_length(length);
                continue;
            }
            self.cursor.expect(b'{', "an object")?;
            return self.open(message, Some(length), Some(field));
        }
        Ok(())
    }

    fn strings(&mut self, field: &'static FieldSchema) -> Result<(), JsonError> {
        self.cursor.expect(b'[', "an array")?;
        let mut first = true;
        while self.cursor.another(first, b']')? {
            first = false;
            let raw = self.cursor.string("text")?;
            self.string(field, raw, true)?;
        }
        Ok(())
    }

    fn packed(&mut self, field: &'static FieldSchema) -> Result<(), JsonError> {
        self.cursor.expect(b'[', "an array")?;
        let start = self.out.len();
        let length = self.begin_length(field);
        let mut first = true;
        while self.cursor.another(first, b']')? {
            first = false;
            match field.form {
                Form::Doubles => {
                    let number = self.double(field)?;
                    self.out.extend_from_slice(&number.to_le_bytes());
                }
                Form::Varints => {
                    let number = self.uint64(field)?;
                    put_varint(number, &mut self.out);
                }
                _ => {
                    let number = self.uint64(field)?;
                    self.out.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        if first {
            self.out.truncate(start);
        } else {
            self.end_length(length);
        }
        Ok(())
    }

    // === lengths ===

    pub(super) fn tag(&mut self, field: &FieldSchema, wire_type: u32) {
        put_varint(u64::from(field.number << 3 | wire_type), &mut self.out);
    }

    fn begin_length(&mut self, field: &FieldSchema) -> Length {
        self.tag(field, 2);
        let at = self.out.len();
        let padded = self.open.len() >= PADDED_DEPTH && self.limit < PADDED_MAX / 2;
        let reserved = if padded { PADDED_SIZE } else { 1 };
        self.out.resize(at + reserved, 0);
        Length { at, reserved }
    }

    /// Fills in the length of all that was written since `begin_length`.
    fn end_length(&mut self, length: Length) {
        let start = length.at + length.reserved;
        let end = self.out.len();
        let mut rest = end - start;
        let wanted = varint_size(rest).max(length.reserved);
        if wanted > length.reserved {
            self.out.resize(end + wanted - length.reserved, 0);
            self.out.copy_within(start..end, length.at + wanted);
        }
        let place = self.out.get_mut(length.at..length.at + wanted);
        for (index, byte) in place.unwrap_or_default().iter_mut().enumerate() {
            let more = if index + 1 < wanted { 0x80 } else { 0 };
            *byte = (rest & 0x7f) as u8 | more;
            rest >>= 7;
        }
    }
}

fn varint_size(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Decodes hostile text: no panic, and what comes out is what prost and [`crate::otlp::check`] accept.
///
/// # Panics
/// When a promise of [`decode`] does not hold.
#[doc(hidden)]
pub fn fuzz_json_decode(signal: Signal, text: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Ok(decoded) = decode(signal, text, LIMIT) else {
        return;
    };
    // A packed array of numbers as short as `1,` is the densest text there is.
    assert!(decoded.bytes.len() <= 4 * text.len() + 16);
    let bytes = bytes::Bytes::from(decoded.bytes);
    let checked = crate::otlp::check(signal, bytes.clone()).expect("decoded requests are sound");
    assert_eq!(checked.repaired_strings, 0, "strings are repaired already");
    if let Err(error) = crate::otlp::testing::Tree::decode(signal, &bytes) {
        panic!("prost refuses what was decoded: {error}");
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;

//! OTLP's `AnyValue` and `KeyValue` on the wire, and the strings that ClickHouse stores for them.

use std::borrow::Cow;

use super::super::native::append_text;
use super::json;
use super::number::{append_double, append_int};
use crate::otlp::{Field, Fields, Value, WireError};

/// A decoded `AnyValue`: what it holds, still in wire format where it is a message.
#[derive(Debug, PartialEq)]
pub(super) enum Any<'a> {
    Missing,
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// The fields of an `ArrayValue`.
    Array(Cow<'a, [u8]>),
    /// The fields of a `KeyValueList`.
    Map(Cow<'a, [u8]>),
    Bytes(&'a [u8]),
}

impl<'a> Any<'a> {
    /// Reads an `AnyValue`. Of several values the last counts; arrays or maps that follow each other are one.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut found = Self::Missing;
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            found = match (number, value) {
                (1, Value::Bytes(text)) => Self::Text(text),
                (2, Value::Varint(flag)) => Self::Bool(flag != 0),
                (3, Value::Varint(number)) => Self::Int(number.cast_signed()),
                (4, Value::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
                (5, Value::Bytes(fields)) => match found {
                    Self::Array(before) => Self::Array(joined(before, fields)),
                    _ => Self::Array(Cow::Borrowed(fields)),
                },
                (6, Value::Bytes(fields)) => match found {
                    Self::Map(before) => Self::Map(joined(before, fields)),
                    _ => Self::Map(Cow::Borrowed(fields)),
                },
                (7, Value::Bytes(bytes)) => Self::Bytes(bytes),
                _ => continue,
            };
        }
        Ok(found)
    }
}

/// Two messages one after the other: protobuf reads them as one.
#[cold]
fn joined<'a>(before: Cow<'a, [u8]>, after: &[u8]) -> Cow<'a, [u8]> {
    let mut whole = before.into_owned();
    whole.extend_from_slice(after);
    Cow::Owned(whole)
}

/// The key of a `KeyValue`, and its `AnyValue` in wire format.
#[inline]
pub(super) fn key_value(message: &[u8]) -> Result<(&[u8], Cow<'_, [u8]>), WireError> {
    match plain_key_value(message) {
        Some((key, value)) => Ok((key, Cow::Borrowed(value))),
        None => any_key_value(message),
    }
}

/// The usual form: a short key, then a short value, and nothing else.
#[inline]
pub(super) fn plain_key_value(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, length, rest @ ..] = message else {
        return None;
    };
    if *length >= 0x80 {
        return None;
    }
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    let [0x12, length, value @ ..] = rest else {
        return None;
    };
    (*length < 0x80 && value.len() == usize::from(*length)).then_some((key, value))
}

/// Any order and any number of fields.
#[cold]
#[inline(never)]
pub(super) fn any_key_value(message: &[u8]) -> Result<(&[u8], Cow<'_, [u8]>), WireError> {
    let mut key: &[u8] = &[];
    let mut value: Option<Cow<'_, [u8]>> = None;
    for field in Fields::new(message) {
        match field? {
            Field {
                number: 1,
                value: Value::Bytes(text),
            } => key = text,
            Field {
                number: 2,
                value: Value::Bytes(any),
            } => {
                value = Some(merged(value, any));
            }
            _ => {}
        }
    }
    Ok((key, value.unwrap_or_default()))
}

/// An `AnyValue` after another one of the same field: protobuf reads them as one.
pub(super) fn merged<'a>(before: Option<Cow<'a, [u8]>>, message: &'a [u8]) -> Cow<'a, [u8]> {
    match before {
        Some(before) => joined(before, message),
        None => Cow::Borrowed(message),
    }
}

/// Appends the first `length` bytes of `tail`, by one copy of a fixed size where there is room to read.
#[inline]
fn append_front(out: &mut Vec<u8>, tail: &[u8], length: usize) {
    const AT_ONCE: usize = 32;
    if length <= AT_ONCE
        && let Some(chunk) = tail.first_chunk::<AT_ONCE>()
    {
        let end = out.len() + length;
        out.extend_from_slice(chunk);
        out.truncate(end);
    } else {
        out.extend_from_slice(tail.get(..length).unwrap_or_default());
    }
}

/// A field with an attribute at the start of `rest`: its key, its value, and what follows. None if it has not the
/// usual form, a short key before a short value.
#[inline]
pub(super) fn plain_attribute(rest: &[u8], tag: u8) -> Option<(&[u8], Plain<'_>, &[u8])> {
    let [found, length, 0x0a, key_length, after @ ..] = rest else {
        return None;
    };
    let (key, after) = after.split_at_checked(usize::from(*key_length))?;
    let [0x12, value_length, tail @ ..] = after else {
        return None;
    };
    let length_found = usize::from(*key_length) + usize::from(*value_length) + 4;
    let usual = *found == tag && (*length | *key_length | *value_length) < 0x80;
    if !usual || usize::from(*length) != length_found {
        return None;
    }
    let (message, next) = tail.split_at_checked(usize::from(*value_length))?;
    Some((key, Plain { message, tail }, next))
}

/// An `AnyValue`, with what stands behind it in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain<'a> {
    message: &'a [u8],
    /// Starts with `message`.
    tail: &'a [u8],
}

impl Plain<'_> {
    /// As [`append_value`].
    #[inline]
    pub(super) fn append(self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if let [0x0a, string @ ..] = self.message
            && let [length, text @ ..] = string
            && *length < 0x80
            && usize::from(*length) == text.len()
            && let [_, tail @ ..] = self.tail
        {
            append_front(out, tail, string.len());
            return Ok(());
        }
        append_other(out, self.message)
    }
}

/// Appends the string form of an `AnyValue` as one Native string.
///
/// # Errors
/// When the bytes are no `AnyValue`.
#[inline]
pub(super) fn append_value(out: &mut Vec<u8>, message: &[u8]) -> Result<(), WireError> {
    // A short string alone: behind the tag stands what Native wants, the length in one byte and the text.
    if let [0x0a, string @ ..] = message
        && let [length, text @ ..] = string
        && *length < 0x80
        && usize::from(*length) == text.len()
    {
        out.extend_from_slice(string);
        return Ok(());
    }
    append_other(out, message)
}

#[inline(never)]
fn append_other(out: &mut Vec<u8>, message: &[u8]) -> Result<(), WireError> {
    // An integer alone.
    if let [0x18, varint @ ..] = message {
        let mut cursor = Fields::new(varint);
        let value = cursor.varint()?.cast_signed();
        if cursor.rest().is_empty() {
            append_short(out, |out| append_int(out, value));
            return Ok(());
        }
    }
    match Any::read(message)? {
        Any::Missing => append_text(out, b""),
        Any::Text(text) => append_text(out, text),
        Any::Bool(true) => append_text(out, b"true"),
        Any::Bool(false) => append_text(out, b"false"),
        Any::Int(value) => append_short(out, |out| append_int(out, value)),
        Any::Double(value) => append_short(out, |out| append_double(out, value)),
        Any::Bytes(bytes) => append_text(out, json::base64(bytes).as_bytes()),
        Any::Array(fields) => append_text(out, &json::array(&fields)?),
        Any::Map(fields) => append_text(out, &json::map(&fields)?),
    }
    Ok(())
}

/// Appends a string of less than 128 bytes that `write` makes in place.
#[inline]
fn append_short(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let place = out.len();
    out.push(0);
    write(out);
    let length = out.len() - place - 1;
    debug_assert!(length < 0x80, "numbers are short");
    if let (Some(first), Ok(length)) = (out.get_mut(place), u8::try_from(length)) {
        *first = length;
    }
}

/// The string form of an `AnyValue`, for values that are needed by themselves.
///
/// # Errors
/// When the bytes are no `AnyValue`.
pub(super) fn text_of(message: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    match Any::read(message)? {
        Any::Missing => {}
        Any::Text(text) => out.extend_from_slice(text),
        Any::Bytes(bytes) => out = json::base64(bytes).into_bytes(),
        Any::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Any::Int(value) => append_int(&mut out, value),
        Any::Double(value) => append_double(&mut out, value),
        Any::Array(fields) => out = json::array(&fields)?,
        Any::Map(fields) => out = json::map(&fields)?,
    }
    Ok(out)
}

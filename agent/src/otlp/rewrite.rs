//! The rare second pass over a walked request: repairs strings and merges what occurs twice, all else byte for byte.

use bytes::Bytes;

use super::check;
use super::reader::{Fields, Value};
use super::schema::{self, FieldSchema, Form, Message};

/// Rewrites a request that has been walked, so its structure is sound.
///
/// Invalid UTF-8 becomes U+FFFD, one per maximal invalid part, as in [`String::from_utf8_lossy`]. Of singular messages
/// that occur twice the content is concatenated, which is what merging means; of a oneof only the last member stays.
#[cold]
pub(super) fn rewrite(schema: &Message, request: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(request.len() + request.len() / 8);
    message(schema, &[request], &mut out);
    out.into()
}

/// Writes the message whose content is `parts`, one after the other.
fn message(schema: &Message, parts: &[&[u8]], out: &mut Vec<u8>) {
    let last_member = LastMember::find(schema, parts);
    // Field numbers of singular messages already written, as bits; all are under 32.
    let mut written = 0u32;
    for (index, raw) in raw_fields(parts).enumerate() {
        let Some(field) = schema.field(raw.number) else {
            out.extend_from_slice(raw.bytes);
            continue;
        };
        if field.is_member() && !last_member.keeps(field, index) {
            continue;
        }
        match (field.form, raw.value) {
            (form, Value::Bytes(string)) if form.is_text() => text(raw, string, out),
            (Form::Messages(schema), Value::Bytes(content)) => nested(schema, raw, &[content], out),
            (Form::Message(schema), Value::Bytes(_)) if written >> raw.number & 1 == 0 => {
                written |= 1 << raw.number;
                let from = if field.is_member() {
                    last_member.start
                } else {
                    0
                };
                nested(schema, raw, &occurrences(parts, from, raw.number), out);
            }
            (Form::Message(_), _) => (),
            _ => out.extend_from_slice(raw.bytes),
        }
    }
}

/// The contents of all occurrences of field `number`, from the field with index `from`.
fn occurrences<'a>(parts: &[&'a [u8]], from: usize, number: u32) -> Vec<&'a [u8]> {
    raw_fields(parts)
        .skip(from)
        .filter(|raw| raw.number == number)
        .filter_map(|raw| match raw.value {
            Value::Bytes(content) => Some(content),
            _ => None,
        })
        .collect()
}

/// Where the last run of a oneof's last member starts and ends, as indices of fields.
#[derive(Default)]
struct LastMember {
    number: u32,
    start: usize,
    end: usize,
}

impl LastMember {
    fn find(schema: &Message, parts: &[&[u8]]) -> Self {
        let mut last = Self::default();
        if !schema.has_oneof {
            return last;
        }
        for (index, raw) in raw_fields(parts).enumerate() {
            if !schema.field(raw.number).is_some_and(FieldSchema::is_member) {
                continue;
            }
            if last.number != raw.number {
                last.number = raw.number;
                last.start = index;
            }
            last.end = index;
        }
        last
    }

    /// Whether the member at `index` counts: of scalars the very last, of messages the run that is merged.
    fn keeps(&self, field: &FieldSchema, index: usize) -> bool {
        match field.form {
            Form::Message(_) => index >= self.start && field.number == self.number,
            _ => index == self.end,
        }
    }
}

/// A field with the bytes it was read from, key included.
#[derive(Clone, Copy)]
struct RawField<'a> {
    number: u32,
    value: Value<'a>,
    bytes: &'a [u8],
}

impl<'a> RawField<'a> {
    /// The bytes before a delimited value's content: key and length.
    fn head(&self, content: &[u8]) -> &'a [u8] {
        let length = self.bytes.len().saturating_sub(content.len());
        self.bytes.get(..length).unwrap_or_default()
    }
}

fn raw_fields<'a>(parts: &[&'a [u8]]) -> impl Iterator<Item = RawField<'a>> {
    parts.iter().flat_map(|part| {
        let mut fields = Fields::new(part);
        std::iter::from_fn(move || {
            let before = fields.rest();
            let field = fields.next()?.ok()?;
            Some(RawField {
                number: field.number,
                value: field.value,
                bytes: before.get(..before.len() - fields.rest().len())?,
            })
        })
    })
}

fn text(raw: RawField<'_>, string: &[u8], out: &mut Vec<u8>) {
    match String::from_utf8_lossy(string) {
        std::borrow::Cow::Borrowed(_) => out.extend_from_slice(raw.bytes),
        std::borrow::Cow::Owned(repaired) => {
            put_head(raw.number, repaired.len(), out);
            out.extend_from_slice(repaired.as_bytes());
        }
    }
}

/// Writes a message field, with the head it had if the content's length has not changed.
///
/// Most attributes need no rewriting and show it at once: 1,880 ns per span of a rewritten request become 690 (`benches/wire.rs`).
fn nested(schema: &Message, raw: RawField<'_>, parts: &[&[u8]], out: &mut Vec<u8>) {
    let Value::Bytes(content) = raw.value else {
        return;
    };
    if schema::is_key_value(schema) && parts.len() == 1 && check::is_plain_pair(content) {
        return out.extend_from_slice(raw.bytes);
    }
    let start = out.len();
    out.extend_from_slice(raw.head(content));
    let content_start = out.len();
    message(schema, parts, out);
    let length = out.len() - content_start;
    if length != content.len() {
        let mut head = Vec::with_capacity(10);
        put_head(raw.number, length, &mut head);
        out.splice(start..content_start, head);
    }
}

/// Writes the key of a delimited field and its length.
pub(super) fn put_head(number: u32, length: usize, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | 2), out);
    put_varint(length as u64, out);
}

/// Writes a varint in its shortest form.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

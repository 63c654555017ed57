//! Checked OTLP wire bytes to OTLP/JSON text, in one pass over each message and without an object tree.
//!
//! JSON wants a repeated field in one array and a singular field once; the wire promises neither. So each message is
//! scanned for where its fields stand, and then written field by field in the order of the schema.

use super::encode_schema::{FIELDS_MAX, FieldSchema, Form, Message, Presence, request};
use super::encode_text::{base64, double, hex, signed, string, unsigned};
use crate::otlp::{Field, Fields, Value, WireError};
use crate::signal::Signal;

/// Messages nested deeper are refused: twice what any checked request holds, and a bound for the stack.
const DEPTH_MAX: usize = 200;

/// Appends to `out` the OTLP/JSON form of `chunks`, requests of one signal, as one request object on one line.
///
/// Names are in lowerCamelCase, ids in hexadecimal, 64-bit integers in quotes, enums as numbers, and defaults are
/// left out as the Collector leaves them out. Unknown fields have no name and are skipped.
///
/// # Errors
/// When the bytes are not a checked request; `out` then ends in an unfinished object.
pub fn encode<'a>(
    signal: Signal,
    chunks: impl Iterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let parts: Vec<&[u8]> = chunks.collect();
    write_message(out, request(signal), &parts, DEPTH_MAX)
}

/// Where the fields of one message stand, by position in its schema.
struct Occurrences<'a> {
    slots: [Slot<'a>; FIELDS_MAX],
}

/// The occurrences of one field that count.
#[derive(Clone, Copy)]
struct Slot<'a> {
    count: usize,
    /// Before the first occurrence.
    first: Cursor<'a>,
    last: Value<'a>,
}

/// A position in a message that comes in parts.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    part: usize,
    fields: Fields<'a>,
}

impl<'a> Slot<'a> {
    const EMPTY: Self = Self {
        count: 0,
        first: Cursor {
            part: 0,
            fields: Fields::new(&[]),
        },
        last: Value::Varint(0),
    };

    fn record(&mut self, before: Cursor<'a>, value: Value<'a>) {
        if self.count == 0 {
            self.first = before;
        }
        self.count += 1;
        self.last = value;
    }

    /// Calls `visit` with every occurrence, in order.
    fn each(
        &self,
        parts: &[&'a [u8]],
        schema: &FieldSchema,
        mut visit: impl FnMut(Value<'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut cursor = self.first;
        let mut left = self.count;
        while left > 0 {
            let Some(field) = cursor.next(parts) else {
                break;
            };
            let Field { number, value } = field?;
            if number == schema.number {
                visit(value)?;
                left -= 1;
            }
        }
        Ok(())
    }
}

impl<'a> Cursor<'a> {
    fn start(parts: &[&'a [u8]]) -> Self {
        Self {
            part: 0,
            fields: Fields::new(parts.first().copied().unwrap_or_default()),
        }
    }

    /// The next field, from one part into the next.
    fn next(&mut self, parts: &[&'a [u8]]) -> Option<Result<Field<'a>, WireError>> {
        loop {
            if let Some(field) = self.fields.next() {
                return Some(field);
            }
            self.part += 1;
            self.fields = Fields::new(parts.get(self.part)?);
        }
    }
}

impl<'a> Occurrences<'a> {
    fn scan(schema: &Message, parts: &[&'a [u8]]) -> Result<Self, WireError> {
        let mut found = Self {
            slots: [Slot::EMPTY; FIELDS_MAX],
        };
        let mut member = None;
        let mut cursor = Cursor::start(parts);
        loop {
            let before = cursor;
            let Some(field) = cursor.next(parts) else {
                return Ok(found);
            };
            let Field { number, value } = field?;
            let Some(position) = schema.position(number) else {
                continue;
            };
            let is_member = schema
                .fields
                .get(position)
                .is_some_and(|field| field.presence == Presence::Oneof);
            if is_member && member != Some(position) {
                // Another member of the oneof takes the place of the one before.
                found.clear(member);
                member = Some(position);
            }
            if let Some(slot) = found.slots.get_mut(position) {
                slot.record(before, value);
            }
        }
    }

    fn clear(&mut self, position: Option<usize>) {
        if let Some(slot) = position.and_then(|position| self.slots.get_mut(position)) {
            *slot = Slot::EMPTY;
        }
    }
}

fn write_message(
    out: &mut Vec<u8>,
    schema: &Message,
    parts: &[&[u8]],
    depth: usize,
) -> Result<(), WireError> {
    let depth = depth.checked_sub(1).ok_or(WireError::Depth)?;
    let found = Occurrences::scan(schema, parts)?;
    out.push(b'{');
    let start = out.len();
    for (field, slot) in schema.fields.iter().zip(&found.slots) {
        if slot.count == 0 && field.presence != Presence::Always {
            continue;
        }
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        out.extend_from_slice(field.key.as_bytes());
        let mut writer = FieldWriter {
            out,
            parts,
            field,
            slot,
            depth,
        };
        if !writer.write()? {
            out.truncate(before);
        }
    }
    out.push(b'}');
    Ok(())
}

/// Writes the value of one field.
struct FieldWriter<'w, 'a> {
    out: &'w mut Vec<u8>,
    parts: &'w [&'a [u8]],
    field: &'w FieldSchema,
    slot: &'w Slot<'a>,
    depth: usize,
}

impl<'a> FieldWriter<'_, 'a> {
    /// Whether the field is to be there at all; if not, the caller takes back what was written.
    fn write(&mut self) -> Result<bool, WireError> {
        match self.field.form {
            Form::Message(schema) => self.message(schema)?,
            Form::Messages(schema) => {
                let depth = self.depth;
                self.array(|out, element| write_message(out, schema, &[element], depth))?;
            }
            Form::Strings => self.array(|out, element| {
                string(out, element);
                Ok(())
            })?,
            Form::Fixed64s | Form::Varints | Form::Doubles => return self.numbers(),
            _ => return self.scalar(),
        }
        Ok(true)
    }

    fn message(&mut self, schema: &Message) -> Result<(), WireError> {
        if self.slot.count <= 1 {
            let part = match self.slot.count {
                0 => &[][..],
                _ => bytes(self.slot.last, self.field)?,
            };
            return write_message(self.out, schema, &[part], self.depth);
        }
        // Several occurrences merge as if their bytes were concatenated.
        let mut merged = Vec::with_capacity(self.slot.count);
        self.slot.each(self.parts, self.field, |value| {
            merged.push(bytes(value, self.field)?);
            Ok(())
        })?;
        write_message(self.out, schema, &merged, self.depth)
    }

    fn array(
        &mut self,
        mut write: impl FnMut(&mut Vec<u8>, &'a [u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        self.out.push(b'[');
        let start = self.out.len();
        self.slot.each(self.parts, self.field, |value| {
            if self.out.len() > start {
                self.out.push(b',');
            }
            write(self.out, bytes(value, self.field)?)
        })?;
        self.out.push(b']');
        Ok(())
    }

    /// Repeated numbers: each occurrence is one, or a packed run of them, which may be empty.
    fn numbers(&mut self) -> Result<bool, WireError> {
        let form = self.field.form;
        self.out.push(b'[');
        let start = self.out.len();
        self.slot.each(self.parts, self.field, |value| {
            for_each_number(form, value, self.field, |number| {
                if self.out.len() > start {
                    self.out.push(b',');
                }
                match form {
                    Form::Doubles => double(self.out, f64::from_bits(number)),
                    _ => quoted(self.out, |out| unsigned(out, number)),
                }
            })
        })?;
        let any = self.out.len() > start;
        self.out.push(b']');
        Ok(any)
    }

    fn scalar(&mut self) -> Result<bool, WireError> {
        let out = &mut *self.out;
        let value = self.slot.last;
        let is_default = match self.field.form {
            Form::String => {
                let text = bytes(value, self.field)?;
                string(out, text);
                text.is_empty()
            }
            Form::Base64 => {
                let data = bytes(value, self.field)?;
                base64(out, data);
                data.is_empty()
            }
            Form::Id => {
                let id = bytes(value, self.field)?;
                hex(out, id);
                id.iter().all(|byte| *byte == 0)
            }
            _ => write_number(out, self.field, number(value, self.field)?),
        };
        Ok(!is_default || self.field.presence != Presence::Implicit)
    }
}

/// Writes a scalar that stands on the wire as `bits`; whether it is the default.
fn write_number(out: &mut Vec<u8>, field: &FieldSchema, bits: u64) -> bool {
    // Numbers of 32 bits stand as varints of up to 64: the upper half is cut off, as every decoder does.
    let low = bits as u32;
    match field.form {
        Form::Bool => {
            out.extend_from_slice(if bits != 0 { b"true" } else { b"false" });
            bits == 0
        }
        Form::Uint32 | Form::Fixed32 => {
            unsigned(out, u64::from(low));
            low == 0
        }
        Form::Int32 => {
            signed(out, i64::from(low.cast_signed()));
            low == 0
        }
        Form::Sint32 => {
            let unzigzag = (low >> 1).cast_signed() ^ -(low & 1).cast_signed();
            signed(out, i64::from(unzigzag));
            low == 0
        }
        Form::Int64 | Form::Sfixed64 => {
            quoted(out, |out| signed(out, bits.cast_signed()));
            bits == 0
        }
        Form::Double => {
            double(out, f64::from_bits(bits));
            // Negative zero equals the default, but is not the default.
            bits == 0
        }
        _ => {
            quoted(out, |out| unsigned(out, bits));
            bits == 0
        }
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn bytes<'a>(value: Value<'a>, field: &FieldSchema) -> Result<&'a [u8], WireError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong_type(field)),
    }
}

fn number(value: Value<'_>, field: &FieldSchema) -> Result<u64, WireError> {
    match value {
        Value::Varint(bits) | Value::Fixed64(bits) => Ok(bits),
        Value::Fixed32(bits) => Ok(u64::from(bits)),
        Value::Bytes(_) | Value::Group(_) => Err(wrong_type(field)),
    }
}

fn for_each_number(
    form: Form,
    value: Value<'_>,
    field: &FieldSchema,
    mut visit: impl FnMut(u64),
) -> Result<(), WireError> {
    let Value::Bytes(packed) = value else {
        visit(number(value, field)?);
        return Ok(());
    };
    let mut packed = Fields::new(packed);
    while !packed.rest().is_empty() {
        visit(match form {
            Form::Varints => packed.varint()?,
            _ => packed.fixed64()?,
        });
    }
    Ok(())
}

const fn wrong_type(field: &FieldSchema) -> WireError {
    WireError::FieldType {
        field: field.number,
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;

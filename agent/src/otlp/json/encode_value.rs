//! Field values as JSON: which form a value has, and whether it is to be written at all.

use super::encode::write_message;
use super::encode_text::{base64, double, hex, signed, string, unsigned};
use crate::otlp::schema::{FieldSchema, Form, Presence};
use crate::otlp::{Fields, Value, WireError};

/// Writes a field that occurs once; whether it is to be there at all. If not, the caller takes back what was written.
pub(super) fn write_value(
    out: &mut Vec<u8>,
    field: &FieldSchema,
    value: Value<'_>,
    depth: usize,
) -> Result<bool, WireError> {
    match value {
        Value::Bytes(bytes) => write_delimited(out, field, bytes, depth),
        _ => write_scalar(out, field, value),
    }
}

pub(super) fn write_delimited(
    out: &mut Vec<u8>,
    field: &FieldSchema,
    bytes: &[u8],
    depth: usize,
) -> Result<bool, WireError> {
    let is_default = match field.form {
        Form::String => {
            string(out, bytes);
            bytes.is_empty()
        }
        Form::Message(schema) => {
            write_message(out, schema, &[bytes], depth)?;
            return Ok(true);
        }
        Form::Id => {
            hex(out, bytes);
            bytes.iter().all(|byte| *byte == 0)
        }
        Form::Base64 => {
            base64(out, bytes);
            bytes.is_empty()
        }
        _ => return write_scalar(out, field, Value::Bytes(bytes)),
    };
    Ok(!is_default || field.presence != Presence::Implicit)
}

/// Writes a number, or an array of them.
pub(super) fn write_scalar(
    out: &mut Vec<u8>,
    field: &FieldSchema,
    value: Value<'_>,
) -> Result<bool, WireError> {
    if matches!(field.form, Form::Fixed64s | Form::Varints | Form::Doubles) {
        out.push(b'[');
        let start = out.len();
        write_numbers(out, start, field, value)?;
        let any = out.len() > start;
        out.push(b']');
        return Ok(any);
    }
    if !field.form.is_number() {
        return Err(wrong_type(field));
    }
    let is_default = write_number(out, field, number(value, field)?);
    Ok(!is_default || field.presence != Presence::Implicit)
}

/// Writes one occurrence of repeated numbers: a number, or a packed run of them, which may be empty.
pub(super) fn write_numbers(
    out: &mut Vec<u8>,
    start: usize,
    field: &FieldSchema,
    value: Value<'_>,
) -> Result<(), WireError> {
    for_each_number(field, value, |number| {
        if out.len() > start {
            out.push(b',');
        }
        match field.form {
            Form::Doubles => double(out, f64::from_bits(number)),
            _ => quoted(out, |out| unsigned(out, number)),
        }
    })
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

/// The bytes of a delimited value.
pub(super) fn bytes<'a>(value: Value<'a>, field: &FieldSchema) -> Result<&'a [u8], WireError> {
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
    field: &FieldSchema,
    value: Value<'_>,
    mut visit: impl FnMut(u64),
) -> Result<(), WireError> {
    let Value::Bytes(packed) = value else {
        visit(number(value, field)?);
        return Ok(());
    };
    let mut packed = Fields::new(packed);
    while !packed.rest().is_empty() {
        visit(match field.form {
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

//! Arrays and maps as JSON text: map keys sorted, bytes in base64, nothing escaped that JSON does not ask for.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::number::{append_double, append_int};
use super::value::{Any, any_key_value};
use crate::otlp::{Field, Fields, Value, WireError};

/// Deeper values are refused. Bytes that came through a receiver are within it.
const DEPTH_MAX: usize = 512;

/// Bytes in standard base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// An `ArrayValue` in wire format, as JSON.
///
/// # Errors
/// When the bytes are no `ArrayValue`, or nested too deep.
pub(super) fn array(fields: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    append_array(&mut out, fields, 0)?;
    Ok(out)
}

/// A `KeyValueList` in wire format, as JSON.
///
/// # Errors
/// When the bytes are no `KeyValueList`, or nested too deep.
pub(super) fn map(fields: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    append_map(&mut out, fields, 0)?;
    Ok(out)
}

fn append_any(out: &mut Vec<u8>, message: &[u8], depth: usize) -> Result<(), WireError> {
    match Any::read(message)? {
        Any::Missing => out.extend_from_slice(b"null"),
        Any::Text(text) => append_string(out, text),
        Any::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Any::Int(value) => append_int(out, value),
        // JSON has no number for these; OTLP/JSON writes them as strings too.
        Any::Double(value) if !value.is_finite() => {
            out.push(b'"');
            append_double(out, value);
            out.push(b'"');
        }
        Any::Double(value) => append_double(out, value),
        Any::Bytes(bytes) => append_string(out, base64(bytes).as_bytes()),
        Any::Array(fields) => append_array(out, &fields, depth + 1)?,
        Any::Map(fields) => append_map(out, &fields, depth + 1)?,
    }
    Ok(())
}

fn append_array(out: &mut Vec<u8>, fields: &[u8], depth: usize) -> Result<(), WireError> {
    if depth > DEPTH_MAX {
        return Err(WireError::Depth);
    }
    out.push(b'[');
    let mut first = true;
    for field in Fields::new(fields) {
        if let Field {
            number: 1,
            value: Value::Bytes(any),
        } = field?
        {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            append_any(out, any, depth)?;
        }
    }
    out.push(b']');
    Ok(())
}

/// Of duplicated keys the last counts, as in any JSON object.
fn append_map(out: &mut Vec<u8>, fields: &[u8], depth: usize) -> Result<(), WireError> {
    if depth > DEPTH_MAX {
        return Err(WireError::Depth);
    }
    let mut sorted = BTreeMap::new();
    for field in Fields::new(fields) {
        if let Field {
            number: 1,
            value: Value::Bytes(pair),
        } = field?
        {
            let (key, value) = any_key_value(pair)?;
            sorted.insert(key, value);
        }
    }
    out.push(b'{');
    let mut first = true;
    for (key, value) in &sorted {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        append_string(out, key);
        out.push(b':');
        append_any(out, value, depth)?;
    }
    out.push(b'}');
    Ok(())
}

/// Appends a JSON string. U+2028 and U+2029 are escaped, as the Collector does.
fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        if let [0xe2, 0x80, last @ (0xa8 | 0xa9), after @ ..] = rest {
            out.extend_from_slice(if *last == 0xa8 {
                b"\\u2028"
            } else {
                b"\\u2029"
            });
            rest = after;
            continue;
        }
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
        rest = after;
    }
    out.push(b'"');
}

//! Scalars: each form of value, from text to its field in wire format.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decode::{Decoder, JsonError, Problem};
use super::decode_schema::{FieldSchema, Form};
use super::decode_text::{Raw, append_repaired, unescape};
use crate::otlp::rewrite::put_varint;

const INDIFFERENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, INDIFFERENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, INDIFFERENT);

const INTEGER: &str = "an integer of its type, as a number or as text";

impl<'a> Decoder<'a> {
    /// Reads the value of a scalar field and writes the field. Default values are left out unless `keep_default`.
    pub(super) fn scalar(
        &mut self,
        field: &'static FieldSchema,
        keep_default: bool,
    ) -> Result<(), JsonError> {
        match field.form {
            Form::String => {
                let raw = self.text(field)?;
                return self.string(field, raw, keep_default);
            }
            Form::Base64 => return self.base64(field, keep_default),
            Form::Id(size) => return self.id(field, size, keep_default),
            Form::Bool => {
                let value = self.bool(field)?;
                self.varint(field, u64::from(value), keep_default);
            }
            Form::Uint32 => {
                let number = self.uint32(field)?;
                self.varint(field, u64::from(number), keep_default);
            }
            Form::Enum(names) => {
                let number = self.enumeration(field, names)?;
                self.varint(field, i64::from(number) as u64, keep_default);
            }
            Form::Int32 => {
                let number = self.int32(field)?;
                self.varint(field, i64::from(number) as u64, keep_default);
            }
            Form::Sint32 => {
                let number = self.int32(field)?;
                let zigzag = (number << 1) ^ (number >> 31);
                self.varint(field, u64::from(zigzag as u32), keep_default);
            }
            Form::Int64 => {
                let number = self.int64(field)?;
                self.varint(field, number as u64, keep_default);
            }
            Form::Fixed32 => {
                let number = self.uint32(field)?;
                self.fixed(field, 5, &number.to_le_bytes(), keep_default);
            }
            Form::Fixed64 => {
                let number = self.uint64(field)?;
                self.fixed(field, 1, &number.to_le_bytes(), keep_default);
            }
            Form::Sfixed64 => {
                let number = self.int64(field)?;
                self.fixed(field, 1, &number.to_le_bytes(), keep_default);
            }
            Form::Double => {
                let number = self.double(field)?;
                self.fixed(field, 1, &number.to_le_bytes(), keep_default);
            }
            Form::Strings
            | Form::Fixed64s
            | Form::Varints
            | Form::Doubles
            | Form::One(_)
            | Form::Many(_) => {
                debug_assert!(false, "{} is no scalar", field.name);
            }
        }
        Ok(())
    }

    // === writing ===

    #[inline]
    fn varint(&mut self, field: &FieldSchema, number: u64, keep_default: bool) {
        if number != 0 || keep_default {
            self.tag(field, 0);
            put_varint(number, &mut self.out);
        }
    }

    /// Negative zero is not the default: its bytes are not all zero.
    #[inline]
    fn fixed(&mut self, field: &FieldSchema, wire_type: u32, bytes: &[u8], keep_default: bool) {
        if keep_default || bytes.iter().any(|byte| *byte != 0) {
            self.tag(field, wire_type);
            self.out.extend_from_slice(bytes);
        }
    }

    #[inline]
    fn delimited(&mut self, field: &FieldSchema, bytes: &[u8], keep_default: bool) {
        if keep_default || !bytes.is_empty() {
            self.tag(field, 2);
            put_varint(bytes.len() as u64, &mut self.out);
            self.out.extend_from_slice(bytes);
        }
    }

    // === text ===

    #[cold]
    fn wrong(&self, field: &FieldSchema, expected: &'static str) -> JsonError {
        self.cursor.error(Problem::Value(field.name, expected))
    }

    fn text(&mut self, field: &FieldSchema) -> Result<Raw<'a>, JsonError> {
        if self.cursor.peek() != Some(b'"') {
            return Err(self.wrong(field, "text"));
        }
        self.cursor.string("text")
    }

    /// Writes a string field; what is not UTF-8 in it is repaired.
    pub(super) fn string(
        &mut self,
        field: &FieldSchema,
        raw: Raw<'_>,
        keep_default: bool,
    ) -> Result<(), JsonError> {
        if !raw.escaped && simdutf8::basic::from_utf8(raw.bytes).is_ok() {
            self.delimited(field, raw.bytes, keep_default);
            return Ok(());
        }
        let mut plain = std::mem::take(&mut self.scratch);
        plain.clear();
        let Some(lone) = unescape(raw.bytes, &mut plain) else {
            return Err(self.cursor.error(Problem::Escape));
        };
        let invalid = simdutf8::basic::from_utf8(&plain).is_err();
        if invalid {
            let mut repaired = Vec::with_capacity(plain.len() + 8);
            append_repaired(&plain, &mut repaired);
            plain = repaired;
        }
        self.repaired_strings += usize::from(lone || invalid);
        self.delimited(field, &plain, keep_default);
        self.scratch = plain;
        Ok(())
    }

    /// The text of a value that has no need for escapes, though it may have some.
    fn plain(&mut self, field: &FieldSchema) -> Result<Cow<'a, [u8]>, JsonError> {
        let raw = self.text(field)?;
        if !raw.escaped {
            return Ok(Cow::Borrowed(raw.bytes));
        }
        let mut plain = Vec::with_capacity(raw.bytes.len());
        match unescape(raw.bytes, &mut plain) {
            Some(_) => Ok(Cow::Owned(plain)),
            None => Err(self.cursor.error(Problem::Escape)),
        }
    }

    /// Standard or URL-safe alphabet, with or without padding.
    fn base64(&mut self, field: &FieldSchema, keep_default: bool) -> Result<(), JsonError> {
        let text = self.plain(field)?;
        let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
        let engine = if url_safe { URL_SAFE } else { STANDARD };
        let bytes = engine
            .decode(text)
            .map_err(|_| self.wrong(field, "base64"))?;
        self.delimited(field, &bytes, keep_default);
        Ok(())
    }

    fn id(
        &mut self,
        field: &FieldSchema,
        size: usize,
        keep_default: bool,
    ) -> Result<(), JsonError> {
        let text = self.plain(field)?;
        let mut id = [0; 16];
        if text.len() != 2 * size && !text.is_empty() {
            return Err(self.cursor.error(match size {
                16 => Problem::TraceId,
                _ => Problem::SpanId,
            }));
        }
        let (digits, _) = text.as_chunks::<2>();
        for (byte, [high, low]) in id.iter_mut().zip(digits) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(self.wrong(field, "hexadecimal digits"));
            };
            *byte = (high << 4 | low) as u8;
        }
        let id = id.get(..text.len() / 2).unwrap_or_default();
        self.delimited(field, id, keep_default);
        Ok(())
    }

    fn bool(&mut self, field: &FieldSchema) -> Result<bool, JsonError> {
        if self.cursor.word(b"true") {
            return Ok(true);
        }
        if self.cursor.word(b"false") {
            return Ok(false);
        }
        Err(self.wrong(field, "`true` or `false`"))
    }

    // === numbers ===

    /// A number, or the text between quotes.
    fn number(&mut self, field: &FieldSchema) -> Result<&'a str, JsonError> {
        match self.cursor.peek() {
            Some(b'"') => {
                let raw = self.cursor.string("a number")?;
                std::str::from_utf8(raw.bytes).map_err(|_| self.wrong(field, "a number"))
            }
            Some(b'-' | b'0'..=b'9') => self.cursor.number(),
            _ => Err(self.wrong(field, "a number")),
        }
    }

    fn uint32(&mut self, field: &FieldSchema) -> Result<u32, JsonError> {
        let text = self.number(field)?;
        text.parse().map_err(|_| self.wrong(field, INTEGER))
    }

    fn int32(&mut self, field: &FieldSchema) -> Result<i32, JsonError> {
        let text = self.number(field)?;
        text.parse().map_err(|_| self.wrong(field, INTEGER))
    }

    pub(super) fn uint64(&mut self, field: &FieldSchema) -> Result<u64, JsonError> {
        let text = self.number(field)?;
        text.parse().map_err(|_| self.wrong(field, INTEGER))
    }

    fn int64(&mut self, field: &FieldSchema) -> Result<i64, JsonError> {
        let text = self.number(field)?;
        text.parse().map_err(|_| self.wrong(field, INTEGER))
    }

    /// A number, a number as text, or the text `NaN`, `Infinity` or `-Infinity`.
    pub(super) fn double(&mut self, field: &FieldSchema) -> Result<f64, JsonError> {
        let text = self.number(field)?;
        let number: f64 = text.parse().map_err(|_| self.wrong(field, "a number"))?;
        let overflow = number.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
        if overflow {
            return Err(self.wrong(field, "a number that a double can hold"));
        }
        Ok(number)
    }

    /// A number or a name. `null` is neither.
    fn enumeration(
        &mut self,
        field: &FieldSchema,
        names: &[(&str, i32)],
    ) -> Result<i32, JsonError> {
        if self.cursor.peek() != Some(b'"') {
            return self.int32(field);
        }
        let name = self.plain(field)?;
        names
            .iter()
            .find(|(known, _)| known.as_bytes() == name.as_ref())
            .map(|(_, number)| *number)
            .ok_or_else(|| self.wrong(field, "a known name or a number"))
    }
}

//! OTLP/JSON text to OTLP wire bytes, in one pass and without an object tree.
//!
//! It reads what the Collector reads: names in lowerCamelCase or snake_case, enums by number or name, 64-bit integers as
//! numbers or strings, unknown keys skipped. Unlike the Collector it refuses text after the request, a byte order mark and
//! negative times. A key that stands twice is read twice: lists grow, messages merge, and of other values the last counts.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decode_text::{Scanner, Start};
use super::decode_wire::{NoRoom, Output, Writer};
use crate::otlp::reader::DEPTH_MAX;
use crate::otlp::schema::{FieldSchema, Form, Message, Presence, request};
use crate::signal::Signal;

/// What is wrong with text that should be OTLP/JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Line and column, unless the text is not what is wrong.
    place: Option<(usize, usize)>,
    problem: Cow<'static, str>,
}

impl DecodeError {
    pub(super) fn new(text: &[u8], at: usize, problem: Cow<'static, str>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Self {
            place: Some((line, before.len() - line_start + 1)),
            problem,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match self.place {
            Some((line, column)) => write!(f, " at line {line} column {column}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<NoRoom> for DecodeError {
    fn from(_: NoRoom) -> Self {
        Self {
            place: None,
            problem: Cow::Borrowed("no room for what the text describes"),
        }
    }
}

/// The OTLP request of `signal` that `text` describes, in wire format. It has still to pass [`crate::otlp::check()`],
/// which looks at the length of ids and at UTF-8.
///
/// # Errors
/// When the text is not JSON, or not the JSON form of such a request.
pub fn decode(signal: Signal, text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(text.len() / 2);
    decode_to(signal, text, &mut out)?;
    Ok(out)
}

/// As [`decode()`], to the end of an empty `out`, which says how far it may grow. Numbers in arrays are what can be longer
/// than their text, up to four times.
///
/// # Errors
/// As [`decode()`], or when `out` refused to grow. What is in it means nothing then.
pub fn decode_to<O: Output>(signal: Signal, text: &[u8], out: &mut O) -> Result<(), DecodeError> {
    let mut decoder = Decoder {
        scanner: Scanner::new(text),
        wire: Writer::new(out),
    };
    if decoder.scanner.start()? != Start::Object {
        return Err(decoder.scanner.error("expected an object"));
    }
    decoder.message(request(signal), DEPTH_MAX)?;
    decoder.scanner.end()?;
    decoder.wire.finish();
    Ok(())
}

struct Decoder<'a, 'o, O> {
    scanner: Scanner<'a>,
    wire: Writer<'o, O>,
}

impl<'a, O: Output> Decoder<'a, '_, O> {
    /// An object, as the fields of `schema`.
    fn message(&mut self, schema: &'static Message, depth: u32) -> Result<(), DecodeError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.scanner.error("nested too deep"));
        };
        self.scanner.expect(b'{')?;
        let mut first = true;
        while self.scanner.more(b'}', first)? {
            first = false;
            let key = self.scanner.string()?;
            self.scanner.expect(b':')?;
            match field_named(schema, &key) {
                Some(field) => self.field(field, depth)?,
                None => self.scanner.skip_value()?,
            }
        }
        Ok(())
    }

    /// The value of a known key.
    fn field(&mut self, field: &'static FieldSchema, depth: u32) -> Result<(), DecodeError> {
        if self.scanner.start()? == Start::Null {
            if enum_names(field).is_some() {
                return Err(self
                    .scanner
                    .error(format!("{} cannot be null", name(field))));
            }
            return self.scanner.word("null");
        }
        match field.form {
            Form::Message(schema) => {
                let open = self.wire.open(field.number)?;
                self.message(schema, depth)?;
                Ok(self.wire.close(&open)?)
            }
            Form::Messages(_) | Form::Strings => self.list(field, depth),
            Form::Fixed64s | Form::Varints | Form::Doubles => {
                let open = self.wire.open(field.number)?;
                self.list(field, depth)?;
                Ok(self.wire.close(&open)?)
            }
            _ => self.scalar(field),
        }
    }

    /// An array; `null` in the place of a message is an empty one, as protobuf's reader has it.
    fn list(&mut self, field: &'static FieldSchema, depth: u32) -> Result<(), DecodeError> {
        if self.scanner.start()? != Start::Array {
            return Err(self.wrong(field, "an array"));
        }
        self.scanner.expect(b'[')?;
        let mut first = true;
        while self.scanner.more(b']', first)? {
            first = false;
            self.element(field, depth)?;
        }
        Ok(())
    }

    fn element(&mut self, field: &'static FieldSchema, depth: u32) -> Result<(), DecodeError> {
        match field.form {
            Form::Messages(schema) => {
                let open = self.wire.open(field.number)?;
                if self.scanner.start()? == Start::Null {
                    self.scanner.word("null")?;
                } else {
                    self.message(schema, depth)?;
                }
                self.wire.close(&open)?;
            }
            Form::Strings => self.text(field)?,
            Form::Fixed64s => {
                let value = self.unsigned(field, u64::MAX)?;
                self.wire.fixed64(value)?;
            }
            Form::Varints => {
                let value = self.unsigned(field, u64::MAX)?;
                self.wire.varint(value)?;
            }
            Form::Doubles => {
                let value = self.double(field)?;
                self.wire.fixed64(value.to_bits())?;
            }
            _ => return Err(self.wrong(field, "a value")),
        }
        Ok(())
    }

    fn scalar(&mut self, field: &'static FieldSchema) -> Result<(), DecodeError> {
        match field.form {
            Form::String => self.text(field),
            Form::Base64 => self.base64(field),
            Form::Id => self.hexadecimal(field),
            Form::Bool => {
                let value = self.boolean(field)?;
                Ok(self.wire.put_varint(field.number, u64::from(value))?)
            }
            Form::Uint32 => {
                let value = self.unsigned(field, u64::from(u32::MAX))?;
                Ok(self.wire.put_varint(field.number, value)?)
            }
            Form::Fixed32 => {
                let value = self.unsigned(field, u64::from(u32::MAX))?;
                Ok(self.wire.put_fixed32(field.number, value as u32)?)
            }
            Form::Int32 => {
                let value = self.int32_or_enum(field)?;
                Ok(self.wire.put_varint(field.number, value as u64)?)
            }
            Form::Sint32 => {
                let value = self.signed(field, i64::from(i32::MIN), i64::from(i32::MAX))?;
                Ok(self
                    .wire
                    .put_varint(field.number, ((value << 1) ^ (value >> 63)) as u64)?)
            }
            Form::Int64 => {
                let value = self.signed(field, i64::MIN, i64::MAX)?;
                Ok(self.wire.put_varint(field.number, value as u64)?)
            }
            Form::Fixed64 => {
                let value = self.unsigned(field, u64::MAX)?;
                Ok(self.wire.put_fixed64(field.number, value)?)
            }
            Form::Sfixed64 => {
                let value = self.signed(field, i64::MIN, i64::MAX)?;
                Ok(self.wire.put_fixed64(field.number, value as u64)?)
            }
            Form::Double => {
                let value = self.double(field)?;
                Ok(self.wire.put_fixed64(field.number, value.to_bits())?)
            }
            Form::Strings
            | Form::Fixed64s
            | Form::Varints
            | Form::Doubles
            | Form::Message(_)
            | Form::Messages(_) => Err(self.wrong(field, "a value")),
        }
    }

    // === Values ===

    fn text(&mut self, field: &'static FieldSchema) -> Result<(), DecodeError> {
        let text = self.quoted(field, "a string")?;
        Ok(self.wire.put_bytes(field.number, &text)?)
    }

    fn base64(&mut self, field: &'static FieldSchema) -> Result<(), DecodeError> {
        let mut text = self.quoted(field, "base64 in a string")?.into_owned();
        for byte in &mut text {
            *byte = match *byte {
                b'-' => b'+',
                b'_' => b'/',
                other => other,
            };
        }
        let bytes = BASE64
            .decode(&text)
            .map_err(|_| self.wrong(field, "base64 in a string"))?;
        Ok(self.wire.put_bytes(field.number, &bytes)?)
    }

    fn hexadecimal(&mut self, field: &'static FieldSchema) -> Result<(), DecodeError> {
        let text = self.quoted(field, "an id in hexadecimal")?;
        let digits: Option<Vec<u8>> = text
            .iter()
            .map(|byte| {
                char::from(*byte)
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect();
        let pairs = digits.filter(|digits| digits.len().is_multiple_of(2));
        let Some(digits) = pairs else {
            return Err(self.wrong(field, "an id in hexadecimal"));
        };
        let bytes: Vec<u8> = digits
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[high, low]| high << 4 | low)
            .collect();
        Ok(self.wire.put_bytes(field.number, &bytes)?)
    }

    fn boolean(&mut self, field: &'static FieldSchema) -> Result<bool, DecodeError> {
        match self.scanner.start()? {
            Start::True => self.scanner.word("true").map(|()| true),
            Start::False => self.scanner.word("false").map(|()| false),
            _ => Err(self.wrong(field, "true or false")),
        }
    }

    fn int32_or_enum(&mut self, field: &'static FieldSchema) -> Result<i64, DecodeError> {
        let names = enum_names(field);
        if let (Some(names), Start::String) = (names, self.scanner.start()?) {
            let text = self.scanner.string()?;
            let known = names
                .iter()
                .find(|(name, _)| name.as_bytes() == text.as_ref());
            return known
                .map(|(_, number)| i64::from(*number))
                .ok_or_else(|| self.wrong(field, "a known name or a number"));
        }
        self.signed(field, i64::from(i32::MIN), i64::from(i32::MAX))
    }

    fn unsigned(&mut self, field: &'static FieldSchema, most: u64) -> Result<u64, DecodeError> {
        let text = self.numeric(field, "a whole number that is not negative")?;
        text.parse()
            .ok()
            .or_else(|| whole(&text).and_then(|value| u64::try_from(value).ok()))
            .filter(|value| *value <= most)
            .ok_or_else(|| {
                self.wrong(
                    field,
                    "a whole number that is not negative and fits the field",
                )
            })
    }

    fn signed(
        &mut self,
        field: &'static FieldSchema,
        least: i64,
        most: i64,
    ) -> Result<i64, DecodeError> {
        let text = self.numeric(field, "a whole number")?;
        text.parse()
            .ok()
            .or_else(|| whole(&text))
            .filter(|value| (least..=most).contains(value))
            .ok_or_else(|| self.wrong(field, "a whole number that fits the field"))
    }

    fn double(&mut self, field: &'static FieldSchema) -> Result<f64, DecodeError> {
        let text = self.numeric(field, "a number")?;
        match text.as_ref() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            digits
                if digits
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) =>
            {
                digits.parse().map_err(|_| self.wrong(field, "a number"))
            }
            _ => Err(self.wrong(field, "a number")),
        }
    }

    /// The text of a number, quoted or not.
    fn numeric(
        &mut self,
        field: &'static FieldSchema,
        expected: &str,
    ) -> Result<Cow<'a, str>, DecodeError> {
        match self.scanner.start()? {
            Start::Number => self.scanner.number().map(Cow::Borrowed),
            Start::String => {
                let text = self.scanner.string()?.into_owned();
                String::from_utf8(text)
                    .map(Cow::Owned)
                    .map_err(|_| self.wrong(field, expected))
            }
            _ => Err(self.wrong(field, expected)),
        }
    }

    fn quoted(
        &mut self,
        field: &'static FieldSchema,
        expected: &str,
    ) -> Result<Cow<'a, [u8]>, DecodeError> {
        if self.scanner.start()? != Start::String {
            return Err(self.wrong(field, expected));
        }
        self.scanner.string()
    }

    fn wrong(&self, field: &FieldSchema, expected: &str) -> DecodeError {
        self.scanner
            .error(format!("{} must be {expected}", name(field)))
    }
}

/// Standard alphabet, padded or not, as lenient as the Collector.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The value of a number written with a point or an exponent, if it is whole and small enough to be exact.
fn whole(text: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value: f64 = text.parse().ok()?;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

/// The field's name out of its key with punctuation.
fn name(field: &FieldSchema) -> &'static str {
    field.key.trim_matches(['"', ':'])
}

/// The field that a key in lowerCamelCase or snake_case names.
fn field_named(schema: &'static Message, key: &[u8]) -> Option<&'static FieldSchema> {
    let exact = |key: &[u8]| {
        schema
            .fields
            .iter()
            .find(|field| name(field).as_bytes() == key)
    };
    exact(key).or_else(|| {
        key.contains(&b'_')
            .then(|| exact(&lower_camel_case(key)))
            .flatten()
    })
}

fn lower_camel_case(key: &[u8]) -> Vec<u8> {
    let mut camel = Vec::with_capacity(key.len());
    let mut raise = false;
    for byte in key {
        if *byte == b'_' {
            raise = true;
        } else {
            camel.push(if raise {
                byte.to_ascii_uppercase()
            } else {
                *byte
            });
            raise = false;
        }
    }
    camel
}

type EnumNames = &'static [(&'static str, i32)];

/// The names of an enum field's values; `None` for a plain number.
fn enum_names(field: &FieldSchema) -> Option<EnumNames> {
    if !matches!(field.form, Form::Int32) || field.presence == Presence::Oneof {
        return None;
    }
    match name(field) {
        "kind" => Some(SPAN_KIND),
        "code" => Some(STATUS_CODE),
        "severityNumber" => Some(SEVERITY),
        "aggregationTemporality" => Some(TEMPORALITY),
        _ => None,
    }
}

const SPAN_KIND: EnumNames = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];
const STATUS_CODE: EnumNames = &[
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
];
const TEMPORALITY: EnumNames = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];
const SEVERITY: EnumNames = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];

/// Decodes anything without a panic; what decodes is either refused by the check, or the same again after it was
/// encoded and decoded once more.
#[doc(hidden)]
pub fn fuzz_json_decode(signal: Signal, text: &[u8]) {
    let Ok(bytes) = decode(signal, text) else {
        return;
    };
    let Ok(checked) = crate::otlp::check(signal, bytes.into()) else {
        return;
    };
    let mut first = Vec::new();
    super::encode(signal, std::iter::once(checked.bytes.as_ref()), &mut first)
        .expect("checked bytes encode");
    let again = decode(signal, &first).expect("our own JSON decodes");
    let mut second = Vec::new();
    super::encode(signal, std::iter::once(again.as_slice()), &mut second)
        .expect("decoded JSON encodes");
    assert_eq!(first, second);
}

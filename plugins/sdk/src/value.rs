//! Values of attributes and bodies: read where they are, or made to be written.

use crate::wire::{self, Field, Fields, Wire};

/// A value, as it stands in the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// None.
    Empty,
    /// Text.
    Str(&'a str),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Values in order.
    List(List<'a>),
    /// Values by name.
    Map(Map<'a>),
}

/// Values in order, not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a>(&'a [u8]);

/// Values by name, not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map<'a>(&'a [u8]);

/// A value that is on its own: to be written, or kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OwnedValue {
    /// None.
    #[default]
    Empty,
    /// Text.
    Str(String),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    List(Vec<Self>),
    /// Values by name.
    Map(Vec<(String, Self)>),
}

/// Numbers of the fields of an `AnyValue`.
mod number {
    pub(super) const STR: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT: u32 = 3;
    pub(super) const DOUBLE: u32 = 4;
    pub(super) const LIST: u32 = 5;
    pub(super) const MAP: u32 = 6;
    pub(super) const BYTES: u32 = 7;
}

impl<'a> Value<'a> {
    /// Reads an `AnyValue`.
    pub(crate) fn read(bytes: &'a [u8]) -> Self {
        // As nearly all are: a short text and nothing else.
        if let [0x0a, length, text @ ..] = bytes
            && *length < 0x80
            && usize::from(*length) == text.len()
        {
            return Self::Str(wire::text(text));
        }
        Self::read_any(bytes)
    }

    #[inline(never)]
    fn read_any(bytes: &'a [u8]) -> Self {
        let fields = Fields::new(bytes, 0..bytes.len());
        fields
            .filter_map(|field| Self::of_field(bytes, &field))
            .last()
            .unwrap_or(Self::Empty)
    }

    fn of_field(bytes: &'a [u8], field: &Field) -> Option<Self> {
        let value = wire::slice(bytes, field.value.clone());
        let whole = || wire::varint(value, &mut 0).unwrap_or_default();
        Some(match (field.number, field.wire) {
            (number::STR, Wire::Bytes) => Self::Str(wire::text(value)),
            (number::BOOL, Wire::Varint) => Self::Bool(whole() != 0),
            (number::INT, Wire::Varint) => Self::Int(whole().cast_signed()),
            (number::DOUBLE, Wire::Fixed64) => Self::Double(f64::from_bits(wire::fixed64(value))),
            (number::LIST, Wire::Bytes) => Self::List(List(value)),
            (number::MAP, Wire::Bytes) => Self::Map(Map(value)),
            (number::BYTES, Wire::Bytes) => Self::Bytes(value),
            _ => return None,
        })
    }

    /// The text, if it is text.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a whole one.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(number as f64),
            Self::Double(number) => Some(number),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// The value on its own.
    pub fn to_owned(self) -> OwnedValue {
        match self {
            Self::Empty => OwnedValue::Empty,
            Self::Str(text) => OwnedValue::Str(text.to_owned()),
            Self::Bool(truth) => OwnedValue::Bool(truth),
            Self::Int(number) => OwnedValue::Int(number),
            Self::Double(number) => OwnedValue::Double(number),
            Self::Bytes(bytes) => OwnedValue::Bytes(bytes.to_vec()),
            Self::List(list) => OwnedValue::List(list.iter().map(Value::to_owned).collect()),
            Self::Map(map) => {
                let pairs = map.iter();
                let owned = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
                OwnedValue::Map(owned.collect())
            }
        }
    }

    /// The value with texts replaced, at whatever depth: `replace` gives what takes the place of a text, or `None` if it
    /// stays. `None` if all stay.
    pub fn map_strings(
        self,
        replace: &mut impl FnMut(&str) -> Option<String>,
    ) -> Option<OwnedValue> {
        match self {
            Self::Str(text) => replace(text).map(OwnedValue::Str),
            Self::List(list) => {
                let mut changed = false;
                let mut each = |value: Value<'a>| {
                    let new = value.map_strings(replace);
                    changed |= new.is_some();
                    new.unwrap_or_else(|| value.to_owned())
                };
                let list = list.iter().map(&mut each).collect();
                changed.then_some(OwnedValue::List(list))
            }
            Self::Map(map) => {
                let mut changed = false;
                let mut each = |(key, value): (&str, Value<'a>)| {
                    let new = value.map_strings(replace);
                    changed |= new.is_some();
                    (key.to_owned(), new.unwrap_or_else(|| value.to_owned()))
                };
                let map = map.iter().map(&mut each).collect();
                changed.then_some(OwnedValue::Map(map))
            }
            _ => None,
        }
    }

    /// Writes an `AnyValue`.
    pub(crate) fn write(self, to: &mut Vec<u8>) {
        match self {
            Self::Empty => {}
            Self::Str(text) => wire::put_bytes(to, number::STR, text.as_bytes()),
            Self::Bool(truth) => wire::put_number(to, number::BOOL, truth.into()),
            Self::Int(whole) => wire::put_number(to, number::INT, whole.cast_unsigned()),
            Self::Double(double) => {
                wire::put_fixed64(to, number::DOUBLE, double.to_le_bytes());
            }
            Self::Bytes(bytes) => wire::put_bytes(to, number::BYTES, bytes),
            Self::List(List(bytes)) => wire::put_bytes(to, number::LIST, bytes),
            Self::Map(Map(bytes)) => wire::put_bytes(to, number::MAP, bytes),
        }
    }
}

/// The number of the repeated field of lists and maps.
const ELEMENT: u32 = 1;

impl<'a> List<'a> {
    /// The values.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let Self(bytes) = self;
        Fields::new(bytes, 0..bytes.len())
            .filter(|field| (field.number, field.wire) == (ELEMENT, Wire::Bytes))
            .map(|field| Value::read(wire::slice(bytes, field.value)))
    }
}

impl<'a> Map<'a> {
    /// The names and values.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let Self(bytes) = self;
        Fields::new(bytes, 0..bytes.len())
            .filter(|field| (field.number, field.wire) == (ELEMENT, Wire::Bytes))
            .map(|field| pair(wire::slice(bytes, field.value)))
    }

    /// The value of this name.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.iter()
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }
}

const KEY: u32 = 1;
const VALUE: u32 = 2;

/// Reads a `KeyValue`.
#[inline]
pub(crate) fn pair(bytes: &[u8]) -> (&str, Value<'_>) {
    match usual_pair(bytes) {
        Some((key, value)) => (wire::text(key), Value::read(value)),
        None => any_pair(bytes),
    }
}

/// The key of a `KeyValue`.
#[inline]
pub(crate) fn key(bytes: &[u8]) -> &[u8] {
    match usual_pair(bytes) {
        Some((key, _)) => key,
        None => any_pair(bytes).0.as_bytes(),
    }
}

/// Key and value of a `KeyValue` as nearly all are written: both shorter than 128 bytes, and nothing else. What stood behind
/// them would count instead, so that has to be ruled out.
#[inline(always)]
fn usual_pair(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, length @ 0..0x80, rest @ ..] = bytes else {
        return None;
    };
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    match rest {
        [0x12, length @ 0..0x80, value @ ..] if usize::from(*length) == value.len() => {
            Some((key, value))
        }
        _ => None,
    }
}

#[inline(never)]
fn any_pair(bytes: &[u8]) -> (&str, Value<'_>) {
    let (mut key, mut value) = ("", Value::Empty);
    for field in Fields::new(bytes, 0..bytes.len()) {
        match (field.number, field.wire) {
            (KEY, Wire::Bytes) => key = wire::text(wire::slice(bytes, field.value)),
            (VALUE, Wire::Bytes) => value = Value::read(wire::slice(bytes, field.value)),
            _ => {}
        }
    }
    (key, value)
}

/// Writes a field with a `KeyValue`.
#[inline]
pub(crate) fn write_attribute(
    to: &mut Vec<u8>,
    number: u32,
    key: &[u8],
    value: &(impl IntoValue + ?Sized),
) {
    wire::put_sized(to, number, |to| {
        wire::put_bytes(to, KEY, key);
        wire::put_sized(to, VALUE, |to| value.write_to(to));
    });
}

/// Writes a `KeyValue`.
pub(crate) fn put_pair(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    wire::put_bytes(to, KEY, key);
    wire::put_bytes(to, VALUE, value);
}

/// How long what [`put_pair`] writes is.
pub(crate) fn pair_length(key: &[u8], value: &[u8]) -> usize {
    wire::head_length(KEY, key.len())
        + key.len()
        + wire::head_length(VALUE, value.len())
        + value.len()
}

impl OwnedValue {
    /// Writes an `AnyValue`.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Empty => {}
            Self::Str(text) => Value::Str(text).write(to),
            Self::Bool(truth) => Value::Bool(*truth).write(to),
            Self::Int(number) => Value::Int(*number).write(to),
            Self::Double(number) => Value::Double(*number).write(to),
            Self::Bytes(bytes) => Value::Bytes(bytes).write(to),
            Self::List(list) => {
                let mut all = Vec::new();
                for value in list {
                    wire::put_bytes(&mut all, ELEMENT, &value.written());
                }
                wire::put_bytes(to, number::LIST, &all);
            }
            Self::Map(map) => {
                let mut all = Vec::new();
                for (key, value) in map {
                    let value = value.written();
                    wire::put_head(&mut all, ELEMENT, pair_length(key.as_bytes(), &value));
                    put_pair(&mut all, key.as_bytes(), &value);
                }
                wire::put_bytes(to, number::MAP, &all);
            }
        }
    }

    fn written(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }
}

/// What can be written as a value.
pub trait IntoValue {
    /// Writes it as an `AnyValue`.
    #[doc(hidden)]
    fn write_to(&self, to: &mut Vec<u8>);
}

impl IntoValue for OwnedValue {
    fn write_to(&self, to: &mut Vec<u8>) {
        self.write(to);
    }
}

impl<T: IntoValue + ?Sized> IntoValue for &T {
    fn write_to(&self, to: &mut Vec<u8>) {
        (**self).write_to(to);
    }
}

macro_rules! into_value {
    ($($of:ty => |$it:ident| $value:expr;)*) => {
        $(impl IntoValue for $of {
            fn write_to(&self, to: &mut Vec<u8>) {
                let $it = self;
                $value.write(to);
            }
        })*
    };
}

into_value! {
    Value<'_> => |it| *it;
    str => |it| Value::Str(it);
    String => |it| Value::Str(it);
    bool => |it| Value::Bool(*it);
    i64 => |it| Value::Int(*it);
    i32 => |it| Value::Int((*it).into());
    u32 => |it| Value::Int((*it).into());
    f64 => |it| Value::Double(*it);
    [u8] => |it| Value::Bytes(it);
    Vec<u8> => |it| Value::Bytes(it);
}

/// A value of the configuration: strings, numbers and truth values are themselves, arrays and objects lists and maps.
impl IntoValue for serde_json::Value {
    fn write_to(&self, to: &mut Vec<u8>) {
        owned(self).write(to);
    }
}

fn owned(json: &serde_json::Value) -> OwnedValue {
    match json {
        serde_json::Value::Null => OwnedValue::Empty,
        serde_json::Value::Bool(truth) => OwnedValue::Bool(*truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => OwnedValue::Int(whole),
            None => OwnedValue::Double(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => OwnedValue::Str(text.clone()),
        serde_json::Value::Array(list) => OwnedValue::List(list.iter().map(owned).collect()),
        serde_json::Value::Object(map) => {
            let pairs = map.iter();
            OwnedValue::Map(
                pairs
                    .map(|(key, value)| (key.clone(), owned(value)))
                    .collect(),
            )
        }
    }
}

//! What items share: resources and scopes, read once and repeated for every item below them.

use std::borrow::Cow;
use std::io;

use super::super::native::{Compressor, Maps, Stream, append_text};
use super::value::{append_value, key_value, plain_attribute, plain_key_value, text_of};
use super::{EncodeError, low_u32};
use crate::otlp::{Field, Fields, Value, WireError};

/// Attributes encoded once: keys as they stand in the request, values as Native strings.
#[derive(Debug, Default)]
pub(super) struct Pairs<'a> {
    keys: Vec<&'a [u8]>,
    values: Vec<u8>,
}

impl<'a> Pairs<'a> {
    /// Adds a `KeyValue`.
    pub(super) fn add(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let (key, value) = key_value(message)?;
        self.keys.push(key);
        append_value(&mut self.values, &value)
    }

    /// Appends `times` rows of them.
    pub(super) fn fill(
        &self,
        column: &mut Maps,
        times: usize,
        compressor: &mut Compressor,
    ) -> io::Result<()> {
        column.repeat(&self.keys, &self.values, times, compressor)
    }
}

/// The next field of an item; attributes of the usual form before it, fields of the one-byte tag `tag`, are appended
/// to `column` on the way. They are most of an item: this path costs half of what [`push_attribute`] does.
///
/// Inlined always: as a call, the field comes back through memory in parts and is read in one piece, which the
/// processor has to wait for, 8 % of a span.
#[inline(always)]
pub(super) fn next_field<'a>(
    fields: &mut Fields<'a>,
    column: &mut Maps,
    tag: u8,
) -> Option<Result<Field<'a>, WireError>> {
    let mut rest = fields.rest();
    while let Some((key, value, next)) = plain_attribute(rest, tag) {
        if let Err(error) = value.append(column.key(key)) {
            return Some(Err(error));
        }
        rest = next;
    }
    *fields = Fields::new(rest);
    fields.next()
}

/// The tag of a field with a length.
pub(super) const fn tag(number: u8) -> u8 {
    number << 3 | 2
}

/// Appends an attribute of an item.
#[inline]
pub(super) fn push_attribute(column: &mut Maps, message: &[u8]) -> Result<(), WireError> {
    if let Some((key, value)) = plain_key_value(message) {
        return append_value(column.key(key), value);
    }
    let (key, value) = key_value(message)?;
    append_value(column.key(key), &value)
}

/// A resource.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    pub(super) attributes: Pairs<'a>,
    /// The first `service.name`, as a string whatever its type.
    service_name: Option<Cow<'a, [u8]>>,
    pub(super) schema_url: &'a [u8],
}

impl<'a> Resource<'a> {
    /// Adds the fields of a `Resource` message. Several are read as one.
    pub(super) fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        for field in Fields::new(message) {
            if let Field {
                number: 1,
                value: Value::Bytes(pair),
            } = field?
            {
                self.attributes.add(pair)?;
                if self.service_name.is_none() {
                    self.service_name = service_name(pair)?;
                }
            }
        }
        Ok(())
    }

    /// The service's name; empty if the resource has none.
    pub(super) fn service_name(&self) -> &[u8] {
        self.service_name.as_deref().unwrap_or_default()
    }
}

fn service_name(pair: &[u8]) -> Result<Option<Cow<'_, [u8]>>, WireError> {
    let (key, value) = key_value(pair)?;
    if key != b"service.name" {
        return Ok(None);
    }
    Ok(Some(Cow::Owned(text_of(&value)?)))
}

/// An instrumentation scope.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) name: &'a [u8],
    pub(super) version: &'a [u8],
    pub(super) attributes: Pairs<'a>,
    pub(super) dropped_attributes: u32,
    pub(super) schema_url: &'a [u8],
}

impl<'a> Scope<'a> {
    /// Adds the fields of an `InstrumentationScope` message. Several are read as one.
    pub(super) fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Bytes(text)) => self.name = text,
                (2, Value::Bytes(text)) => self.version = text,
                (3, Value::Bytes(pair)) => self.attributes.add(pair)?,
                (4, Value::Varint(count)) => self.dropped_attributes = low_u32(count),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Appends `times` rows of one string to a plain string column.
pub(super) fn fill_text(
    column: &mut Stream,
    text: &[u8],
    times: usize,
    compressor: &mut Compressor,
) -> Result<(), EncodeError> {
    let mut pattern = Vec::with_capacity(text.len() + 5);
    append_text(&mut pattern, text);
    column.repeat(&pattern, times, compressor)?;
    Ok(())
}

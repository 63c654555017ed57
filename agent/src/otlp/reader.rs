//! The cursor over protobuf wire format: field numbers and values, in order, borrowed from the input.

use thiserror::Error;

/// How deep messages and groups may be nested: prost's limit, so that whatever passes here, every decoder with the
/// usual protobuf limit reads too.
pub(super) const DEPTH_MAX: u32 = 100;

/// What is wrong with bytes that should be protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// The input ends inside a value.
    #[error("truncated message")]
    Truncated,
    /// A varint has more than ten bytes, or more than 64 bits.
    #[error("invalid varint")]
    Varint,
    /// The field number is 0 or over 2^29 - 1.
    #[error("invalid field number")]
    FieldNumber,
    /// The wire type is 6 or 7, or an end of a group without its start.
    #[error("invalid wire type")]
    WireType,
    /// A known field has another wire type than its schema says.
    #[error("wrong wire type for field {field}")]
    FieldType {
        /// The field's number.
        field: u32,
    },
    /// Messages are nested too deep.
    #[error("message nested too deep")]
    Depth,
    /// A trace id that is neither empty nor 16 bytes.
    #[error("invalid TraceID length")]
    TraceId,
    /// A span id that is neither empty nor 8 bytes.
    #[error("invalid SpanID length")]
    SpanId,
}

/// A field's value as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes, a message, or packed scalars.
    Bytes(&'a [u8]),
    /// Wire type 3 to 4: a group, skipped; the bytes between the tags.
    Group(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number.
    pub number: u32,
    /// The value.
    pub value: Value<'a>,
}

/// Iterates over the fields of one message. Ends after the first error.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The bytes not yet read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all of the message has been read.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads one varint, for packed fields.
    ///
    /// # Errors
    /// [`WireError::Varint`] or [`WireError::Truncated`].
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.varint_slow(),
        }
    }

    #[cold]
    fn varint_slow(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(WireError::Varint);
            }
            value |= bits << (7 * index);
            if *byte < 0x80 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 {
            WireError::Truncated
        } else {
            WireError::Varint
        })
    }

    /// Reads eight little-endian bytes, for packed fields.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Reads four little-endian bytes.
    #[inline]
    pub(super) fn fixed32(&mut self) -> Result<u32, WireError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// Reads a length and as many bytes.
    #[inline]
    pub(super) fn delimited(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads a key: field number times eight plus wire type. Both may still be invalid; [`Self::value`] refuses them.
    #[inline]
    pub(super) fn key(&mut self) -> Result<u32, WireError> {
        u32::try_from(self.varint()?).map_err(|_| WireError::FieldNumber)
    }

    /// Reads the value behind `key`. Groups may be nested `depth` deep.
    #[inline]
    pub(super) fn value(&mut self, key: u32, depth: u32) -> Result<Value<'a>, WireError> {
        if key < 8 {
            return Err(WireError::FieldNumber);
        }
        Ok(match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.delimited()?),
            3 => Value::Group(self.group(key, depth)?),
            5 => Value::Fixed32(self.fixed32()?),
            _ => return Err(WireError::WireType),
        })
    }

    #[inline]
    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let key = self.key()?;
        let value = self.value(key, DEPTH_MAX)?;
        Ok(Field {
            number: key >> 3,
            value,
        })
    }

    /// Skips to behind the end key that matches `start`; without recursion, so depth costs no stack.
    #[cold]
    fn group(&mut self, start: u32, depth: u32) -> Result<&'a [u8], WireError> {
        let content = self.rest;
        let mut open = vec![start >> 3];
        while let Some(innermost) = open.last().copied() {
            let before = self.rest.len();
            let key = self.key()?;
            if key < 8 {
                return Err(WireError::FieldNumber);
            }
            if key & 7 == 4 {
                if key >> 3 != innermost {
                    return Err(WireError::WireType);
                }
                open.pop();
                if open.is_empty() {
                    return Ok(content.get(..content.len() - before).unwrap_or_default());
                }
                continue;
            }
            if open.len() >= depth as usize {
                return Err(WireError::Depth);
            }
            match key & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.fixed64()?),
                2 => drop(self.delimited()?),
                3 => open.push(key >> 3),
                5 => drop(self.fixed32()?),
                _ => return Err(WireError::WireType),
            }
        }
        Err(WireError::WireType)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &[Result<Field<'_>, WireError>]) {
        assert_eq!(
            Fields::new(bytes).collect::<Vec<_>>(),
            expected,
            "{bytes:02x?}"
        );
    }

    fn field(number: u32, value: Value<'_>) -> Result<Field<'_>, WireError> {
        Ok(Field { number, value })
    }

    #[test]
    fn every_wire_type_reads() {
        check(&[], &[]);
        check(&[0x08, 0x96, 0x01], &[field(1, Value::Varint(150))]);
        check(&[0x12, 2, b'h', b'i'], &[field(2, Value::Bytes(b"hi"))]);
        check(&[0x1d, 1, 0, 0, 0], &[field(3, Value::Fixed32(1))]);
        check(
            &[0x21, 1, 0, 0, 0, 0, 0, 0, 0],
            &[field(4, Value::Fixed64(1))],
        );
        check(
            &[0x0b, 0x10, 5, 0x0c],
            &[field(1, Value::Group(&[0x10, 5]))],
        );
        check(
            &[0x0b, 0x13, 0x14, 0x0c, 0x08, 1],
            &[
                field(1, Value::Group(&[0x13, 0x14])),
                field(1, Value::Varint(1)),
            ],
        );
    }

    #[test]
    fn extremes_of_varints() {
        let mut max = vec![0x08];
        max.extend([0xff; 9]);
        max.push(1);
        check(&max, &[field(1, Value::Varint(u64::MAX))]);
        *max.last_mut().unwrap() = 2;
        check(&max, &[Err(WireError::Varint)]);
        check(&[0x08, 0x80, 0x00], &[field(1, Value::Varint(0))]);
        check(&[0x08, 0x80], &[Err(WireError::Truncated)]);
    }

    #[test]
    fn hostile_input_is_an_error() {
        check(&[0x00, 0x00], &[Err(WireError::FieldNumber)]);
        check(&[0x0e], &[Err(WireError::WireType)]);
        check(&[0x0c], &[Err(WireError::WireType)]);
        check(&[0x0b, 0x14], &[Err(WireError::WireType)]);
        check(
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[Err(WireError::Truncated)],
        );
        check(&[0x21, 1, 0], &[Err(WireError::Truncated)]);
        check(&[0x0b; 200], &[Err(WireError::Depth)]);
    }
}

//! A bounds-checked cursor over protobuf wire format, enough to count items and to find places to patch.

use thiserror::Error;

/// Bytes that are not protobuf: truncated, overlong or of an unknown wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed protobuf")]
pub(crate) struct Malformed;

/// The value of one field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    /// Where the value's first byte stands, counted from the start of the outermost message.
    pub(crate) offset: usize,
    pub(crate) value: Value<'a>,
}

impl<'a> Field<'a> {
    /// The fields of this embedded message; none when the field is not length-delimited.
    pub(crate) fn message(&self) -> Fields<'a> {
        match self.value {
            Value::Bytes(bytes) => Fields {
                bytes,
                position: 0,
                base: self.offset,
            },
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => Fields::new(&[]),
        }
    }

    /// The value as bytes; empty when the field is not length-delimited.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self.value {
            Value::Bytes(bytes) => bytes,
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => &[],
        }
    }
}

/// Iterates over the fields of one message.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
    base: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            base: 0,
        }
    }

    /// As [`Self::new`], with offsets counted from `base` bytes before the message.
    pub(crate) fn at(bytes: &'a [u8], base: usize) -> Self {
        Self {
            bytes,
            position: 0,
            base,
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.position).ok_or(Malformed)?;
            self.position += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.position.checked_add(length).ok_or(Malformed)?;
        let taken = self.bytes.get(self.position..end).ok_or(Malformed)?;
        self.position = end;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let tag = self.varint()?;
        let mut offset = self.position;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                offset = self.position;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Malformed),
        };
        Ok(Field {
            number: tag >> 3,
            offset: self.base + offset,
            value,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.position = self.bytes.len();
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &[Result<(u64, usize, Value<'_>), Malformed>]) {
        let fields: Vec<_> = Fields::new(bytes)
            .map(|field| field.map(|field| (field.number, field.offset, field.value)))
            .collect();
        assert_eq!(fields, expected, "{bytes:02x?}");
    }

    #[test]
    fn fields_are_read_with_number_offset_and_value() {
        check(&[], &[]);
        check(&[0x08, 0x96, 0x01], &[Ok((1, 1, Value::Varint(150)))]);
        check(&[0x12, 2, 7, 8], &[Ok((2, 2, Value::Bytes(&[7, 8])))]);
        check(&[0x1d, 1, 0, 0, 0], &[Ok((3, 1, Value::Fixed32(1)))]);
        check(
            &[0x21, 1, 0, 0, 0, 0, 0, 0, 0],
            &[Ok((4, 1, Value::Fixed64(1)))],
        );
    }

    #[test]
    fn damage_ends_the_iteration_with_an_error() {
        check(&[0x08], &[Err(Malformed)]);
        check(&[0x12, 3, 7, 8], &[Err(Malformed)]);
        check(&[0x0b], &[Err(Malformed)]);
        check(&[0xff; 11], &[Err(Malformed)]);
        check(
            &[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[Err(Malformed)],
        );
    }

    #[test]
    fn offsets_of_embedded_messages_count_from_the_outermost() {
        let outer = [0x0a, 4, 0x12, 2, 7, 8];
        let inner = Fields::at(&outer, 5)
            .next()
            .unwrap()
            .unwrap()
            .message()
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(inner.offset, 5 + 4);
    }
}

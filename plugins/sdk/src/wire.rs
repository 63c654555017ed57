//! Protobuf's wire format: reading fields without copying, and writing the few things that edits need.

use std::ops::Range;

/// A field of a message. Ranges are places in the bytes that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) wire: Wire,
    /// All of it: key, length if it has one, value.
    pub(crate) whole: Range<usize>,
    /// Where its length stands, if it has one.
    pub(crate) length: Range<usize>,
    /// Its value, without the length.
    pub(crate) value: Range<usize>,
}

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

/// The fields of the message in a part of `bytes`. They end where something is not protobuf, which agents do not send.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], body: Range<usize>) -> Self {
        Self {
            bytes: bytes.get(..body.end).unwrap_or_default(),
            at: body.start,
        }
    }
}

impl Fields<'_> {
    /// Where the next field starts, if it is bytes of this number with a head of two bytes.
    #[inline(always)]
    pub(crate) fn short(&mut self, number: u32) -> Option<usize> {
        let start = self.at;
        let [key, length @ 0..0x80, ..] = self.bytes.get(start..)? else {
            return None;
        };
        let end = start + 2 + usize::from(*length);
        if u32::from(*key) != (number << 3 | 2) || *key >= 0x80 || end > self.bytes.len() {
            return None;
        }
        self.at = end;
        Some(start)
    }

    /// The next field, however it is written.
    #[inline(never)]
    fn any(&mut self) -> Option<Field> {
        let start = self.at;
        let key = varint(self.bytes, &mut self.at)?;
        let length = self.at;
        let mut value = self.at;
        let (wire, end) = match key & 7 {
            0 => {
                varint(self.bytes, &mut self.at)?;
                (Wire::Varint, self.at)
            }
            1 => (Wire::Fixed64, value + 8),
            2 => {
                let length = usize::try_from(varint(self.bytes, &mut self.at)?).ok()?;
                value = self.at;
                (Wire::Bytes, value.checked_add(length)?)
            }
            5 => (Wire::Fixed32, value + 4),
            _ => return None,
        };
        if end > self.bytes.len() {
            return None;
        }
        self.at = end;
        Some(Field {
            number: u32::try_from(key >> 3).ok()?,
            wire,
            whole: start..end,
            length: length..value,
            value: value..end,
        })
    }
}

impl Iterator for Fields<'_> {
    type Item = Field;

    /// Nearly all fields have a number below 16 and are bytes, shorter than 128, or eight bytes: these are read here, and the rest
    /// elsewhere. Every plugin's time goes here (`tidegate plugin bench`).
    #[inline(always)]
    fn next(&mut self) -> Option<Field> {
        let start = self.at;
        let (value, end, wire, key) = match self.bytes.get(start..)? {
            [key, length, ..] if key & 0x87 == 2 && *length < 0x80 => {
                let value = start + 2;
                (value, value + usize::from(*length), Wire::Bytes, *key)
            }
            [key, ..] if key & 0x87 == 1 => (start + 1, start + 9, Wire::Fixed64, *key),
            [] => return None,
            _ => return self.any(),
        };
        if end > self.bytes.len() {
            return None;
        }
        self.at = end;
        Some(Field {
            number: u32::from(key >> 3),
            wire,
            whole: start..end,
            length: start + 1..value,
            value: value..end,
        })
    }
}

/// Reads a number of variable length, and moves `at` behind it.
#[inline]
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(first.into());
    }
    let mut number = u64::from(first & 0x7f);
    for shift in 1..10 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Writes a number of variable length.
pub(crate) fn put_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// How many bytes [`put_varint`] writes.
pub(crate) fn varint_length(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes the key and the length of a field of bytes.
pub(crate) fn put_head(to: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(to, u64::from(number) << 3 | 2);
    put_varint(to, length as u64);
}

/// How many bytes [`put_head`] writes.
pub(crate) fn head_length(number: u32, length: usize) -> usize {
    varint_length(u64::from(number) << 3) + varint_length(length as u64)
}

/// Writes a field of bytes.
pub(crate) fn put_bytes(to: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_head(to, number, bytes.len());
    to.extend_from_slice(bytes);
}

/// Writes a number.
pub(crate) fn put_number(to: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(to, u64::from(number) << 3);
    put_varint(to, value);
}

/// Writes eight bytes.
pub(crate) fn put_fixed64(to: &mut Vec<u8>, number: u32, value: [u8; 8]) {
    put_varint(to, u64::from(number) << 3 | 1);
    to.extend_from_slice(&value);
}

/// The value of a field, of these bytes.
pub(crate) fn slice(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// Text. The agent has made sure that it is UTF-8.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A number of eight bytes.
pub(crate) fn fixed64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_have_the_length_that_was_foretold() {
        for number in [
            0,
            1,
            127,
            128,
            300,
            16383,
            16384,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(bytes.len(), varint_length(number), "{number}");
            let mut at = 0;
            assert_eq!(varint(&bytes, &mut at), Some(number));
            assert_eq!(at, bytes.len());
            assert_eq!(varint(&bytes[..bytes.len() - 1], &mut 0), None);
        }
    }

    #[test]
    fn fields_end_at_what_is_no_protobuf() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 1, 300);
        put_bytes(&mut bytes, 2, b"abc");
        put_fixed64(&mut bytes, 3, [1; 8]);
        bytes.extend([0x25, 1, 2, 3, 4]);
        let whole = bytes.len();
        let numbers = |bytes: &[u8]| -> Vec<u32> {
            let fields = Fields::new(bytes, 0..bytes.len());
            fields.map(|field| field.number).collect()
        };
        assert_eq!(numbers(&bytes), [1, 2, 3, 4]);
        assert_eq!(numbers(&bytes[..whole - 1]), [1, 2, 3]);
        bytes.extend([
            0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ]);
        assert_eq!(numbers(&bytes), [1, 2, 3, 4]);
        bytes.truncate(whole);
        bytes.extend([0x0f, 1]);
        assert_eq!(numbers(&bytes), [1, 2, 3, 4]);
        let field = Fields::new(&bytes, 3..whole).next().unwrap();
        assert_eq!((field.whole, field.value), (3..8, 5..8));
    }
}

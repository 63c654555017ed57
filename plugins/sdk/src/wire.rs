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

/// The field at a place, as nearly all items are: bytes with a length of two bytes.
#[inline(always)]
pub(crate) fn item_at(bytes: &[u8], start: usize) -> Option<Field> {
    let [key, low @ 0x80..=0xff, high @ 0..0x80, ..] = bytes.get(start..)? else {
        return field_at(bytes, start);
    };
    let value = start + 3;
    let end = value + (usize::from(*low & 0x7f) | usize::from(*high) << 7);
    if key & 0x87 != 2 || end > bytes.len() {
        return field_at(bytes, start);
    }
    Some(Field {
        number: u32::from(key >> 3),
        wire: Wire::Bytes,
        whole: start..end,
        length: start + 1..value,
        value: value..end,
    })
}

/// The field at a place, however it is written.
#[inline(never)]
fn uncommon(bytes: &[u8], start: usize) -> Option<Field> {
    let mut at = start;
    let key = varint(bytes, &mut at)?;
    let length = at;
    let mut value = at;
    let (wire, end) = match key & 7 {
        0 => {
            varint(bytes, &mut at)?;
            (Wire::Varint, at)
        }
        1 => (Wire::Fixed64, value + 8),
        2 => {
            let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
            value = at;
            (Wire::Bytes, value.checked_add(length)?)
        }
        5 => (Wire::Fixed32, value + 4),
        _ => return None,
    };
    if end > bytes.len() {
        return None;
    }
    Some(Field {
        number: u32::try_from(key >> 3).ok()?,
        wire,
        whole: start..end,
        length: length..value,
        value: value..end,
    })
}

/// The field at a place. Nearly all have a number below 16 and are bytes, shorter than 128, or eight bytes: these are read
/// here, and the rest elsewhere.
#[inline(always)]
pub(crate) fn field_at(bytes: &[u8], start: usize) -> Option<Field> {
    let (value, end, wire, key) = match bytes.get(start..)? {
        [key, length, ..] if key & 0x87 == 2 && *length < 0x80 => {
            let value = start + 2;
            (value, value + usize::from(*length), Wire::Bytes, *key)
        }
        [key, ..] if key & 0x87 == 1 => (start + 1, start + 9, Wire::Fixed64, *key),
        [] => return None,
        _ => return uncommon(bytes, start),
    };
    if end > bytes.len() {
        return None;
    }
    Some(Field {
        number: u32::from(key >> 3),
        wire,
        whole: start..end,
        length: start + 1..value,
        value: value..end,
    })
}

/// Passes over fields in the usual form that are not attributes with a key of this length: the place of the first that may be one,
/// or of the end. It calls nothing, so that compilers of WebAssembly keep all of it in registers, and reads four bytes at a time.
#[inline(never)]
pub(crate) fn pass_over(bytes: &[u8], from: usize, number: u32, key_length: usize) -> usize {
    let tag = number << 3 | 2;
    let mut at = from;
    while let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let head = u32::from_le_bytes(*head);
        let length = (head >> 8 & 0xff) as usize;
        // The tag of an attribute and the tag of its key, each with a length below 128.
        if head & 0x80ff_80ff == KEY_TAG << 16 | tag {
            let of_key = (head >> 24) as usize;
            // Behind the key the value, and nothing else.
            let Some([VALUE_TAG, of_value @ 0..0x80]) = bytes.get(at + 4 + of_key..at + 6 + of_key)
            else {
                break;
            };
            if of_key == key_length || of_key + usize::from(*of_value) + 4 != length {
                break;
            }
            at += 2 + length;
        } else {
            let kind = head & 0x87;
            let is_long = head & 0x8000 != 0 && kind != 1;
            if kind > 2 || is_long || head & 0xff == tag {
                break;
            }
            // Without a branch: which kind comes next is hard to foretell.
            let kind = kind as usize;
            at += 2 + (kind >> 1) * length + (kind & 1) * 7;
        }
    }
    at
}

/// In a `KeyValue`.
const KEY_TAG: u32 = 0x0a;
const VALUE_TAG: u8 = 0x12;

impl Iterator for Fields<'_> {
    type Item = Field;

    /// Its place is handed on by value, so that it stays in a register.
    #[inline(always)]
    fn next(&mut self) -> Option<Field> {
        let field = field_at(self.bytes, self.at)?;
        self.at = field.whole.end;
        Some(field)
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
#[inline]
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
#[inline(always)]
pub(crate) fn put_head(to: &mut Vec<u8>, number: u32, length: usize) {
    if number < 16 && length < 0x80 {
        to.extend_from_slice(&[(number << 3 | 2) as u8, length as u8]);
    } else {
        put_long_head(to, number, length);
    }
}

#[inline(never)]
fn put_long_head(to: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(to, u64::from(number) << 3 | 2);
    put_varint(to, length as u64);
}

/// Writes a field of bytes whose length is known only when they are written: nearly always it fits into the byte that is kept free.
#[inline]
pub(crate) fn put_sized(to: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_head(to, number, 0);
    let start = to.len();
    write(to);
    let length = to.len() - start;
    match to.get_mut(start - 1) {
        Some(place) if length < 0x80 => *place = length as u8,
        _ => make_room(to, start, length),
    }
}

/// Puts a length of several bytes in the place of the last one before `start`.
#[cold]
fn make_room(to: &mut Vec<u8>, start: usize, length: usize) {
    let value = to.split_off(start);
    to.pop();
    put_varint(to, length as u64);
    to.extend_from_slice(&value);
}

/// How many bytes [`put_head`] writes.
#[inline]
pub(crate) fn head_length(number: u32, length: usize) -> usize {
    if number < 16 && length < 0x80 {
        return 2;
    }
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
    use proptest::prelude::*;

    use super::*;

    /// A field, as some sender may write it.
    fn fields() -> impl Strategy<Value = Vec<u8>> {
        let field = |number: u32, body: Vec<u8>| {
            let mut bytes = Vec::new();
            put_bytes(&mut bytes, number, &body);
            bytes
        };
        // Few different ones, so that they meet.
        let text = || proptest::collection::vec(b'a'..=b'b', 0..3);
        let pair = (text(), text()).prop_map(|(key, value)| {
            let mut bytes = Vec::new();
            crate::value::put_pair(&mut bytes, &key, &value);
            bytes
        });
        // In any order, more than once, or not there.
        let odd_pair = proptest::collection::vec((1_u32..3, text()), 0..4).prop_map(move |parts| {
            let parts = parts.into_iter().map(|(number, body)| field(number, body));
            parts.collect::<Vec<_>>().concat()
        });
        let long = proptest::collection::vec(b'a'..=b'c', 120..140);
        prop_oneof![
            4 => pair.prop_map(move |pair| field(9, pair)),
            4 => odd_pair.prop_map(move |pair| field(9, pair)),
            1 => long.prop_map(move |long| field(9, long)),
            2 => (1_u32..20, text()).prop_map(move |(number, body)| field(number, body)),
            1 => (1_u32..20, any::<u64>()).prop_map(|(number, value)| {
                let mut bytes = Vec::new();
                put_number(&mut bytes, number, value);
                bytes
            }),
            1 => (1_u32..20, any::<[u8; 8]>()).prop_map(|(number, value)| {
                let mut bytes = Vec::new();
                put_fixed64(&mut bytes, number, value);
                bytes
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What is passed over quickly are whole fields, and none of them an attribute with the key.
        #[test]
        fn nothing_that_is_looked_for_is_passed_over(
            fields in proptest::collection::vec(fields(), 0..12),
            key in proptest::collection::vec(b'a'..=b'b', 0..3),
        ) {
            let bytes = fields.concat();
            let passed = pass_over(&bytes, 0, 9, key.len());
            let mut at = 0;
            for field in Fields::new(&bytes, 0..passed) {
                at = field.whole.end;
                if field.number == 9 && field.wire == Wire::Bytes {
                    let pair = slice(&bytes, field.value);
                    prop_assert_ne!(crate::value::key(pair), key.as_slice());
                }
            }
            prop_assert_eq!(at, passed);
        }
    }

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

//! The one validating walk over a request: structure, ids, depth and UTF-8, counting items as it goes.
//!
//! What passes may be read without checks afterwards. What the walk accepts is what prost decodes, apart from two
//! things: invalid UTF-8 is repaired instead of refused, and ids of wrong length are refused.

mod common;
mod edited;
mod logs;
mod metrics;
mod traces;
mod usual;

use bytes::Bytes;

pub(super) use common::is_plain_pair;
pub(super) use edited::fuzz_edits;
pub use edited::{Edit, check_edited};

use super::reader::{DEPTH_MAX, Fields, WireError};
use super::rewrite::rewrite;
use super::schema;
use crate::signal::Signal;

/// A request that has been walked.
///
/// Of `bytes`, consumers may rely on this:
/// - every length, varint and wire type is valid, so [`Fields`] gives no errors on it or on any message inside;
/// - messages are nested at most 100 deep, so recursion over values is bounded;
/// - every string is UTF-8, trace ids have 0 or 16 bytes, span ids 0 or 8;
/// - a singular message field (`resource`, `status`, an attribute's `value`, …) occurs at most once, and at most
///   one member of a oneof is present. A scalar, string or bytes field may still occur twice: the last one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The request, the same memory as the input unless it had to be rewritten.
    pub bytes: Bytes,
    /// Spans, log records or data points in it.
    pub items: usize,
    /// Strings in which invalid UTF-8 was replaced by U+FFFD.
    pub repaired_strings: usize,
}

/// Walks a whole `Export{Trace,Metrics,Logs}ServiceRequest`.
///
/// Unknown fields are kept as they are. Nesting is limited to prost's 100 messages, which is 47 arrays or 31 maps
/// inside one another in an attribute of a span; the walk's stack is bounded by the same.
/// If strings are not UTF-8, or a singular message or oneof occurs twice, the request is rewritten: strings repaired,
/// duplicates merged as protobuf defines it, all else byte for byte. The result is at most 3 times as long.
///
/// # Errors
/// What prost refuses, and ids of wrong length.
pub fn check(signal: Signal, bytes: Bytes) -> Result<Checked, WireError> {
    let mut walk = Walk::default();
    let depth = Depth(DEPTH_MAX);
    match signal {
        Signal::Traces => traces::request(&mut walk, &bytes, depth)?,
        Signal::Metrics => metrics::request(&mut walk, &bytes, depth)?,
        Signal::Logs => logs::request(&mut walk, &bytes, depth)?,
    }
    let bytes = if walk.invalid_strings > 0 || walk.duplicates {
        rewrite(schema::request(signal), &bytes)
    } else {
        bytes
    };
    Ok(Checked {
        bytes,
        items: walk.items,
        repaired_strings: walk.invalid_strings,
    })
}

/// What one walk gathers.
#[derive(Debug, Default)]
struct Walk {
    items: usize,
    invalid_strings: usize,
    /// Whether a singular message or a oneof occurs more than once somewhere.
    duplicates: bool,
}

impl Walk {
    #[inline]
    fn string(&mut self, bytes: &[u8]) {
        if !is_ascii(bytes) {
            self.beyond_ascii(bytes);
        }
    }

    #[inline(never)]
    fn beyond_ascii(&mut self, bytes: &[u8]) {
        self.invalid_strings += usize::from(simdutf8::basic::from_utf8(bytes).is_err());
    }

    /// Notes how often a singular message or the members of a oneof occurred.
    #[inline]
    fn singular(&mut self, occurrences: u32) {
        self.duplicates |= occurrences > 1;
    }
}

/// Like `[u8]::is_ascii`, but with few branches whose way depends on the length: 72 ns per span, as `loadgen` sends them,
/// instead of 78 with a loop over words.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let (chunks, _) = bytes.as_chunks::<32>();
    let Some(last) = bytes.last_chunk::<32>() else {
        return is_short_ascii(bytes);
    };
    chunks
        .iter()
        .fold(high(last), |all, chunk| all | high(chunk))
        & HIGH
        == 0
}

const HIGH: u64 = 0x8080_8080_8080_8080;

#[inline]
fn high<const N: usize>(chunk: &[u8; N]) -> u64 {
    chunk
        .as_chunks::<8>()
        .0
        .iter()
        .fold(0, |high, word| high | u64::from_ne_bytes(*word))
}

#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    let high = match (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        (Some(first), Some(last)) => high(first) | high(last),
        _ => match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) => high(first) | high(last),
            _ => bytes.iter().fold(0, |high, byte| high | u64::from(*byte)),
        },
    };
    high & HIGH == 0
}

/// How many more messages may be nested in the current one.
#[derive(Debug, Clone, Copy)]
struct Depth(u32);

impl Depth {
    #[inline]
    fn enter(self) -> Result<Self, WireError> {
        match self.0.checked_sub(1) {
            Some(depth) => Ok(Self(depth)),
            None => Err(WireError::Depth),
        }
    }
}

/// Skips a field that the message's walker does not handle. `known` has a bit for each field number of the schema:
/// these were not handled because their wire type is wrong.
#[cold]
#[inline(never)]
fn skip(fields: &mut Fields<'_>, key: u32, known: u32, depth: Depth) -> Result<(), WireError> {
    let field = key >> 3;
    if field < 32 && known >> field & 1 == 1 {
        return Err(WireError::FieldType { field });
    }
    depth.enter()?;
    fields.value(key, depth.0).map(drop)
}

/// The bits of [`skip`] for the field numbers from `first` to `last`.
const fn known(first: u32, last: u32) -> u32 {
    (u32::MAX >> (31 - last)) & (u32::MAX << first)
}

fn trace_id(bytes: &[u8]) -> Result<(), WireError> {
    match bytes.len() {
        0 | 16 => Ok(()),
        _ => Err(WireError::TraceId),
    }
}

fn span_id(bytes: &[u8]) -> Result<(), WireError> {
    match bytes.len() {
        0 | 8 => Ok(()),
        _ => Err(WireError::SpanId),
    }
}

/// Keys on the wire, named by wire type and field number: number times eight plus wire type.
mod key {
    pub(super) const VARINT_1: u32 = 1 << 3;
    pub(super) const VARINT_2: u32 = 2 << 3;
    pub(super) const VARINT_3: u32 = 3 << 3;
    pub(super) const VARINT_4: u32 = 4 << 3;
    pub(super) const VARINT_5: u32 = 5 << 3;
    pub(super) const VARINT_6: u32 = 6 << 3;
    pub(super) const VARINT_7: u32 = 7 << 3;
    pub(super) const VARINT_8: u32 = 8 << 3;
    pub(super) const VARINT_10: u32 = 10 << 3;
    pub(super) const VARINT_12: u32 = 12 << 3;
    pub(super) const VARINT_14: u32 = 14 << 3;
    pub(super) const FIXED64_1: u32 = 1 << 3 | 1;
    pub(super) const FIXED64_2: u32 = 2 << 3 | 1;
    pub(super) const FIXED64_3: u32 = 3 << 3 | 1;
    pub(super) const FIXED64_4: u32 = 4 << 3 | 1;
    pub(super) const FIXED64_5: u32 = 5 << 3 | 1;
    pub(super) const FIXED64_6: u32 = 6 << 3 | 1;
    pub(super) const FIXED64_7: u32 = 7 << 3 | 1;
    pub(super) const FIXED64_8: u32 = 8 << 3 | 1;
    pub(super) const FIXED64_11: u32 = 11 << 3 | 1;
    pub(super) const FIXED64_12: u32 = 12 << 3 | 1;
    pub(super) const FIXED64_13: u32 = 13 << 3 | 1;
    pub(super) const FIXED64_14: u32 = 14 << 3 | 1;
    pub(super) const LEN_1: u32 = 1 << 3 | 2;
    pub(super) const LEN_2: u32 = 2 << 3 | 2;
    pub(super) const LEN_3: u32 = 3 << 3 | 2;
    pub(super) const LEN_4: u32 = 4 << 3 | 2;
    pub(super) const LEN_5: u32 = 5 << 3 | 2;
    pub(super) const LEN_6: u32 = 6 << 3 | 2;
    pub(super) const LEN_7: u32 = 7 << 3 | 2;
    pub(super) const LEN_8: u32 = 8 << 3 | 2;
    pub(super) const LEN_9: u32 = 9 << 3 | 2;
    pub(super) const LEN_10: u32 = 10 << 3 | 2;
    pub(super) const LEN_11: u32 = 11 << 3 | 2;
    pub(super) const LEN_12: u32 = 12 << 3 | 2;
    pub(super) const LEN_13: u32 = 13 << 3 | 2;
    pub(super) const LEN_15: u32 = 15 << 3 | 2;
    pub(super) const FIXED32_6: u32 = 6 << 3 | 5;
    pub(super) const FIXED32_8: u32 = 8 << 3 | 5;
    pub(super) const FIXED32_16: u32 = 16 << 3 | 5;
}

/// Holds [`check`] to what prost makes of the same bytes; panics where they differ.
///
/// The relation: `check` accepts without repairs exactly what prost decodes, but for ids of wrong length, which only
/// `check` refuses. What it repairs, prost refuses before and decodes after. Item counts are the same, and so is the
/// tree before and after a rewrite.
pub(super) fn fuzz_check(signal: Signal, input: &[u8]) {
    use super::testing::Tree;

    let tree = Tree::decode(signal, input);
    match check(signal, Bytes::copy_from_slice(input)) {
        Err(WireError::TraceId | WireError::SpanId) => (),
        Err(error) => assert!(tree.is_err(), "refused with {error}, prost decodes it"),
        Ok(checked) => {
            let after = Tree::decode(signal, &checked.bytes).expect("checked bytes decode");
            assert_eq!(checked.items, after.items(), "items");
            match tree {
                Ok(before) => {
                    assert_eq!(checked.repaired_strings, 0, "repairs of what prost decodes");
                    // Compared in wire format, where NaN is equal to itself.
                    assert_eq!(before.encode(), after.encode(), "meaning");
                }
                Err(error) => assert!(checked.repaired_strings > 0, "accepted, prost: {error}"),
            }
            assert!(checked.bytes.len() <= 3 * input.len() + 64, "growth");
            // A second look finds nothing left to do.
            let again = check(signal, checked.bytes.clone()).expect("checked bytes pass again");
            assert_eq!(again.repaired_strings, 0, "repairs twice");
            assert_eq!(again.bytes, checked.bytes, "rewritten twice");
        }
    }
}

#[cfg(test)]
mod tests;

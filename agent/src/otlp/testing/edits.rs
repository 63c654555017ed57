//! Random edits of a request, as plugins make them: most with the lengths around them set right.

use std::ops::Range;

use super::super::reader::{DEPTH_MAX, Fields};
use super::super::rewrite::{put_head, put_varint};
use super::random::Random;

/// Parts of a request and what takes their place.
pub type RandomEdits = Vec<(Range<usize>, Vec<u8>)>;

/// Edits of a request of traces or logs, in order and apart.
pub fn random_edits(random: &mut Random, request: &[u8]) -> RandomEdits {
    let mut edits = Vec::new();
    group(random, request, 0..request.len(), 0, &mut edits);
    edits
}

/// Edits what is in a message that holds others; by how much it grows.
fn group(
    random: &mut Random,
    bytes: &[u8],
    body: Range<usize>,
    level: u32,
    edits: &mut RandomEdits,
) -> isize {
    let mut grown = 0;
    let mut at = body.start;
    while at < body.end {
        let start = at;
        let mut fields = Fields::new(&bytes[at..body.end]);
        let key = fields.key().expect("a key");
        let length = body.end - fields.rest().len();
        fields.value(key, DEPTH_MAX).expect("a value");
        at = body.end - fields.rest().len();
        if key & 7 != 2 || random.once_in(3) {
            continue;
        }
        if random.once_in(8) {
            edits.push((start..at, Vec::new()));
            grown -= (at - start) as isize;
            continue;
        }
        let mut value = Fields::new(&bytes[length..at]);
        let was = value.varint().expect("a length") as usize;
        let value = at - was;
        let mark = edits.len();
        edits.push((length..value, Vec::new()));
        let inner = match (level, key >> 3) {
            (0, 1) | (1, 2) => group(random, bytes, value..at, level + 1, edits),
            _ => leaf(random, value..at, edits),
        };
        if edits.len() == mark + 1 && !random.once_in(10) {
            edits.pop();
            continue;
        }
        let is_now = was.checked_add_signed(inner).expect("a length") as u64;
        put_varint(is_now + u64::from(random.once_in(60)), &mut edits[mark].1);
        grown += inner + edits[mark].1.len() as isize - (value - length) as isize;
        if random.once_in(60) {
            edits.push((at..at, vec![0x7a, 0]));
        }
    }
    grown
}

/// Edits a message that holds no others.
fn leaf(random: &mut Random, body: Range<usize>, edits: &mut RandomEdits) -> isize {
    let mut grown = 0;
    if !body.is_empty() && random.once_in(3) {
        let start = body.start + random.below(body.len());
        let end = start + random.below(body.end - start + 1).min(8);
        let new: Vec<u8> = (0..random.below(6))
            .map(|_| random.number() as u8)
            .collect();
        grown += new.len() as isize - (end - start) as isize;
        edits.push((start..end, new));
    }
    if !random.once_in(3) {
        let mut new = Vec::new();
        for _ in 0..=random.below(2) {
            attribute(random, &mut new);
        }
        if random.once_in(20) {
            new.pop();
        }
        grown += new.len() as isize;
        edits.push((body.end..body.end, new));
    }
    grown
}

/// An attribute of a span, a log record or something else.
fn attribute(random: &mut Random, to: &mut Vec<u8>) {
    let value = match random.below(5) {
        0 => b"\x18\x05".to_vec(),
        1 => b"\x0a\x02\xff\xfe".to_vec(),
        2 => b"\x0a\x01a\x10\x01".to_vec(),
        _ => b"\x0a\x01v".to_vec(),
    };
    let mut pair = b"\x0a\x01k".to_vec();
    put_head(2, value.len(), &mut pair);
    pair.extend(value);
    let number = random.one_of(&[9, 9, 9, 6, 6, 6, 1, 3, 15]);
    put_head(number, pair.len(), to);
    to.extend(pair);
}

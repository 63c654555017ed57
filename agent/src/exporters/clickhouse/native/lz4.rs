//! The LZ4 block format, as far as writers of blocks share it.
//!
//! A block is a list of sequences: a token (two lengths in its halves, 15 and more continued in further bytes), literal
//! bytes, and a match, which repeats bytes from a distance back. Matches have at least four bytes; the last sequence
//! has literals only, at least five bytes, and no match starts in the last twelve.

/// Bytes of a match at least.
pub(super) const MATCH_MIN: usize = 4;
/// No match starts in the last bytes of a block.
pub(super) const NO_MATCH: usize = 12;
/// No match covers the last bytes of a block.
pub(super) const LAST_LITERALS: usize = 5;
/// What a half of the token holds before further bytes are needed.
const HALF: usize = 15;
/// Literals copied at once, whatever their number.
const SHORT: usize = 16;

/// Appends a sequence: the literals of `content` from `from` to `at`, and a match of `length` from `distance` back.
#[inline]
pub(super) fn sequence(
    out: &mut Vec<u8>,
    content: &[u8],
    literals: std::ops::Range<usize>,
    distance: [u8; 2],
    length: usize,
) {
    let count = literals.len();
    let extra = length - MATCH_MIN;
    let short = content
        .get(literals.start..)
        .and_then(<[u8]>::first_chunk::<SHORT>);
    match short {
        Some(chunk) if count <= SHORT - 2 && extra < HALF => {
            out.push(token(count, extra));
            let end = out.len() + count;
            out.extend_from_slice(chunk);
            out.truncate(end);
            out.extend_from_slice(&distance);
        }
        _ => long_sequence(
            out,
            content.get(literals).unwrap_or_default(),
            distance,
            extra,
        ),
    }
}

#[inline(never)]
fn long_sequence(out: &mut Vec<u8>, literals: &[u8], distance: [u8; 2], extra: usize) {
    out.push(token(literals.len(), extra));
    append_length(out, literals.len());
    out.extend_from_slice(literals);
    out.extend_from_slice(&distance);
    append_length(out, extra);
}

/// Appends the last sequence.
pub(super) fn last_literals(out: &mut Vec<u8>, literals: &[u8]) {
    out.push(token(literals.len(), 0));
    append_length(out, literals.len());
    out.extend_from_slice(literals);
}

/// Both lengths, as far as they fit.
#[inline]
fn token(literals: usize, extra: usize) -> u8 {
    let [literals, ..] = literals.min(HALF).to_le_bytes();
    let [extra, ..] = extra.min(HALF).to_le_bytes();
    literals << 4 | extra
}

/// What of a length does not fit into the token: bytes of 255, then the rest.
fn append_length(out: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(HALF) else {
        return;
    };
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    let [last, ..] = rest.to_le_bytes();
    out.push(last);
}

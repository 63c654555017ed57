//! LZ4 blocks for columns of short strings: attribute values, ids.
//!
//! Where strings begin is known: their lengths stand before them. So only beginnings are looked up, with eight bytes
//! and then with four, instead of every position; inside a string only where much of it is left. On the attribute
//! values of spans and log records this takes 5.5 ns a string where a general compressor takes 8 to 10, most of it
//! mispredicted branches, for 12 to 25 % more bytes of them (4 and 9 % of a whole block).

use super::lz4::{self, LAST_LITERALS, MATCH_MIN, NO_MATCH};

/// Bits of a hash: two tables of 8 KiB, which stay in the first-level cache.
const BITS: u32 = 12;
/// Inside of a string, positions are looked up while more than this many bytes are left.
const INSIDE_MIN: usize = 40;
/// After this many positions in vain, steps between them become longer.
const PATIENCE: usize = 8;

type Positions = Box<[u16; 1 << BITS]>;

/// Where strings were seen to begin in a block.
pub(super) struct Table {
    /// By the four bytes behind the length.
    four: Positions,
    /// By the length and the seven bytes behind it.
    eight: Positions,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            four: Box::new([0; 1 << BITS]),
            eight: Box::new([0; 1 << BITS]),
        }
    }
}

impl Table {
    fn clear(&mut self) {
        self.four.fill(0);
        self.eight.fill(0);
    }

    /// Notes that a string begins with `word` at `at`; gives where its like began, by eight bytes and by four.
    #[inline]
    fn replace(&mut self, word: u64, at: u16) -> [usize; 2] {
        [
            exchange(&mut self.eight, hash_eight(word), at),
            exchange(&mut self.four, hash_four(word), at),
        ]
    }

    /// The same by four bytes only, for positions inside of strings.
    #[inline]
    fn replace_inside(&mut self, word: u64, at: u16) -> usize {
        exchange(&mut self.four, hash_four(word), at)
    }
}

#[inline]
fn exchange(positions: &mut Positions, hash: usize, at: u16) -> usize {
    positions
        .get_mut(hash)
        .map_or(0, |place| usize::from(std::mem::replace(place, at)))
}

#[inline]
fn hash_eight(word: u64) -> usize {
    usize::try_from(word.wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - BITS)).unwrap_or_default()
}

#[inline]
fn hash_four(word: u64) -> usize {
    let bytes = word >> 8 << 32;
    usize::try_from(bytes.wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - BITS)).unwrap_or_default()
}

/// Appends `content`, less than 64 KiB of strings behind their lengths, to `out` as an LZ4 block. The first `carry`
/// bytes are the rest of a string that began before. Returns how far the last string reaches beyond the end.
pub(super) fn compress(
    content: &[u8],
    carry: usize,
    table: &mut Table,
    out: &mut Vec<u8>,
) -> usize {
    table.clear();
    let mut block = Block {
        content,
        table,
        out,
        literals: 0,
        string: carry,
    };
    let matchable = content.len().saturating_sub(NO_MATCH);
    while block.string < matchable {
        block.next(matchable);
    }
    let rest = content.get(block.literals..).unwrap_or_default();
    lz4::last_literals(block.out, rest);
    skip(content, block.string)
}

/// How far the last string reaches beyond the end, if one begins at `string`.
pub(super) fn skip(content: &[u8], mut string: usize) -> usize {
    while string < content.len() {
        string = behind(content, string);
    }
    string - content.len()
}

/// Where the string that begins at `at` ends; at the end of `content` if its length is cut off there.
#[inline]
fn behind(content: &[u8], at: usize) -> usize {
    match content.get(at) {
        Some(length) if *length < 0x80 => at + 1 + usize::from(*length),
        _ => behind_long(content, at),
    }
}

#[cold]
fn behind_long(content: &[u8], at: usize) -> usize {
    let (mut length, mut position) = (0usize, at);
    for shift in (0..usize::BITS).step_by(7) {
        let Some(byte) = content.get(position) else {
            return content.len();
        };
        position += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    position.saturating_add(length)
}

/// A block being written.
struct Block<'a> {
    content: &'a [u8],
    table: &'a mut Table,
    out: &'a mut Vec<u8>,
    /// Where the literals of the sequence under way begin.
    literals: usize,
    /// Where the next string begins.
    string: usize,
}

impl Block<'_> {
    /// Looks up the next string, and goes on to the one after what was found.
    #[inline]
    fn next(&mut self, matchable: usize) {
        let start = self.string;
        let Some(word) = self.word(start) else {
            self.string = self.content.len();
            return;
        };
        self.string = behind(self.content, start);
        let candidates = self.table.replace(word, position(start));
        let (at, length, distance) = self.best(start, word, candidates);
        let mut inside = start + 1;
        if length >= MATCH_MIN {
            self.emit(at, length, distance);
            inside = self.literals;
            self.pass(inside.min(matchable));
        }
        if self.string > inside + INSIDE_MIN {
            self.search(inside, matchable);
        }
    }

    /// The match for the string at `start`: where it begins, its length (0 if there is none), its distance.
    #[inline]
    fn best(&self, start: usize, word: u64, [eight, four]: [usize; 2]) -> (usize, usize, usize) {
        let found = |at: usize| self.word(at).filter(|_| at < start);
        if found(eight) == Some(word) {
            return (start, self.reach(eight, start, 8), start - eight);
        }
        let Some(difference) = found(four).map(|other| other ^ word) else {
            return (start, 0, 0);
        };
        let same_length = usize::from(difference & 0xff == 0);
        let same = match difference >> 8 {
            0 => self.reach(four, start, 8) - 1,
            some => usize::try_from(some.trailing_zeros() / 8).unwrap_or_default(),
        };
        if same < MATCH_MIN {
            return (start, 0, 0);
        }
        (start + 1 - same_length, same + same_length, start - four)
    }

    /// How many bytes at `at` are as those at `from`, of which the first `known` are.
    #[inline]
    fn reach(&self, from: usize, at: usize, known: usize) -> usize {
        let end = self.content.len() - LAST_LITERALS;
        let mut length = known;
        while at + length < end {
            let (Some(left), Some(right)) = (self.word(from + length), self.word(at + length))
            else {
                break;
            };
            let difference = left ^ right;
            if difference != 0 {
                length += usize::try_from(difference.trailing_zeros() / 8).unwrap_or_default();
                break;
            }
            length += 8;
        }
        length.min(end - at)
    }

    /// Looks up positions of a long string from `at` on.
    #[inline(never)]
    fn search(&mut self, mut at: usize, matchable: usize) {
        let stop = self.string.min(matchable);
        let mut vain = 0;
        while at < stop {
            // The table goes by the bytes behind a position.
            let Some(word) = self.word(at - 1) else {
                break;
            };
            let from = self.table.replace_inside(word, position(at - 1)) + 1;
            let same = match self.word(from) {
                Some(other) if from < at => other ^ (word >> 8),
                _ => 1,
            };
            if same << 16 == 0 {
                let length = self.reach(from, at, 6);
                self.emit(at, length, at - from);
                at = self.literals;
                vain = 0;
            } else {
                vain += 1;
                at += 1 + vain / PATIENCE;
            }
        }
        self.pass(self.literals.min(matchable));
    }

    /// Goes on to the first string that begins at `to` or later; those before are noted.
    #[inline]
    fn pass(&mut self, to: usize) {
        while self.string < to {
            if let Some(word) = self.word(self.string) {
                self.table.replace(word, position(self.string));
            }
            self.string = behind(self.content, self.string);
        }
    }

    #[inline]
    fn emit(&mut self, at: usize, length: usize, distance: usize) {
        let [low, high, ..] = distance.to_le_bytes();
        lz4::sequence(
            self.out,
            self.content,
            self.literals..at,
            [low, high],
            length,
        );
        self.literals = at + length;
    }

    #[inline]
    fn word(&self, at: usize) -> Option<u64> {
        let bytes = self.content.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

/// A position in a block of less than 64 KiB.
#[inline]
fn position(at: usize) -> u16 {
    let [low, high, ..] = at.to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use super::super::stream::append_text;
    use super::*;

    /// Compresses `texts` in pieces of `piece` bytes, reads them back, and gives the compressed size.
    fn check(texts: &[&[u8]], piece: usize) -> usize {
        let mut content = Vec::new();
        for text in texts {
            append_text(&mut content, text);
        }
        let mut table = Table::default();
        let (mut carry, mut total) = (0, 0);
        for block in content.chunks(piece) {
            let mut out = Vec::new();
            carry = compress(block, carry, &mut table, &mut out);
            let back = lz4_flex::block::decompress(&out, block.len()).unwrap();
            assert!(back == block, "{texts:?}");
            total += out.len();
        }
        total
    }

    #[test]
    fn blocks_are_read_back_by_another_implementation() {
        let long = "0123456789abcdef".repeat(5000);
        for texts in [
            &[][..],
            &["a"],
            &["", "", "", "", "", "", "", "", "", "", "", "", "", ""],
            &["same", "same", "same", "same", "same", "same"],
            &["/api/v1/a", "/api/v1/bc", "/api/v1/a", "/api/v1/bc", "x"],
            &["short", &long, "short", &long],
        ] {
            let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
            for piece in [1, 12, 13, 14, 37, 4096, 65_472] {
                check(&texts, piece);
            }
        }
    }

    #[test]
    fn strings_seen_before_take_few_bytes() {
        let texts: Vec<String> = (0..4000)
            .map(|row| match row % 4 {
                0 => "/api/v1/products/{productId}".to_owned(),
                1 => "GET".to_owned(),
                2 => format!("10.0.{}.{}", row % 7, row % 11),
                _ => format!("user-{:06}", row * 7919 % 1_000_000),
            })
            .collect();
        let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let bytes: usize = texts.iter().map(|text| text.len() + 1).sum();
        let general = {
            let content: Vec<u8> = texts.iter().flat_map(|text| text.iter().copied()).collect();
            lz4_flex::block::compress(&content).len()
        };
        let size = check(&texts, 65_472);
        assert!(
            size < bytes / 2 && size < general * 3 / 2,
            "{size} {general} {bytes}"
        );
    }

    #[test]
    fn what_repeats_inside_of_long_strings_is_found() {
        let frame = "    at com.example.shop.Checkout.place(Checkout.java:42)\n";
        let trace = format!("java.lang.IllegalStateException: {}", frame.repeat(40));
        assert!(check(&[trace.as_bytes()], 65_472) < trace.len() / 10);
    }

    proptest::proptest! {
        #[test]
        fn any_strings_are_read_back(
            choices in proptest::collection::vec((0..6usize, 0..40usize), 0..400),
            piece in 1..3000usize,
        ) {
            let alphabet = b"abcabcabcabdabcabcabcaXbcabcabcabcabcabdab";
            let texts: Vec<&[u8]> =
                choices.iter().map(|(from, length)| &alphabet[*from..(*from + *length).min(42)]).collect();
            check(&texts, piece);
        }

        #[test]
        fn bytes_that_are_no_strings_are_read_back(
            content in proptest::collection::vec(0..4u8, 0..2000),
            carry in 0..3000usize,
        ) {
            let mut out = Vec::new();
            compress(&content, carry, &mut Table::default(), &mut out);
            proptest::prop_assert_eq!(lz4_flex::block::decompress(&out, content.len()).unwrap(), content);
        }
    }
}

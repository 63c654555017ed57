//! Whether a text stands somewhere: most attributes that plugins ask for do not, and that is cheaper to see than by a walk over
//! all fields.
//!
//! `memchr` does the same, and with vectors only if whoever builds the plugin asks the compiler for them.

/// Whether `text` is a part of `bytes`.
pub(crate) fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let half = text.len() / 2;
    let (Some(first), Some(middle), Some(last)) = (text.first(), text.get(half), text.last())
    else {
        return true;
    };
    let Some(ends) = bytes.get(text.len() - 1..) else {
        return false;
    };
    let places = ends.len();
    let starts = bytes.get(..places).unwrap_or_default();
    let middles = bytes.get(half..half + places).unwrap_or_default();
    let stands_in = |mut places: std::ops::Range<usize>| {
        places.any(|at| bytes.get(at..at + text.len()) == Some(text))
    };
    let signs = [*first, *middle, *last];
    let (Some(last_starts), Some(last_middles), Some(last_ends)) =
        (starts.last_chunk(), middles.last_chunk(), ends.last_chunk())
    else {
        return stands_in(0..places);
    };
    let mut blocks = Blocks {
        starts: starts.as_chunks().0,
        middles: middles.as_chunks().0,
        ends: ends.as_chunks().0,
    };
    let mut at = 0;
    loop {
        let passed = blocks.pass(signs);
        at += passed * BLOCK;
        if passed == blocks.ends.len() {
            break;
        }
        if stands_in(at..at + BLOCK) {
            return true;
        }
        blocks = blocks.behind(passed + 1);
        at += BLOCK;
    }
    let rest = Blocks {
        starts: std::slice::from_ref(last_starts),
        middles: std::slice::from_ref(last_middles),
        ends: std::slice::from_ref(last_ends),
    };
    rest.pass(signs) == 0 && stands_in(places - BLOCK..places)
}

/// Places that are looked at together.
const BLOCK: usize = 64;

/// Places where a text may stand: its first byte there, the one in its middle, and its last.
struct Blocks<'a> {
    starts: &'a [[u8; BLOCK]],
    middles: &'a [[u8; BLOCK]],
    ends: &'a [[u8; BLOCK]],
}

impl Blocks<'_> {
    fn behind(&self, passed: usize) -> Self {
        Self {
            starts: self.starts.get(passed..).unwrap_or_default(),
            middles: self.middles.get(passed..).unwrap_or_default(),
            ends: self.ends.get(passed..).unwrap_or_default(),
        }
    }

    /// How many blocks there are before the first in which a text with these three bytes may start.
    ///
    /// It calls nothing: compilers of WebAssembly keep no vector in a register over a call.
    #[cfg(target_family = "wasm")]
    #[target_feature(enable = "simd128")]
    #[inline(never)]
    fn pass(&self, signs: [u8; 3]) -> usize {
        use std::arch::wasm32::{
            i64x2, u8x16_eq, u8x16_splat, v128, v128_and, v128_any_true, v128_or,
        };

        // Becomes one instruction.
        let sixteen = |block: &[u8; BLOCK], part: usize| -> v128 {
            let (words, _) = block.as_chunks();
            let word = |index: usize| i64::from_le_bytes(words[2 * part + index]);
            i64x2(word(0), word(1))
        };
        let [first, middle, last] = signs.map(|sign| u8x16_splat(sign));
        let mut passed = 0;
        for ((starts, middles), ends) in self.starts.iter().zip(self.middles).zip(self.ends) {
            let hits = |part: usize| {
                let starts = u8x16_eq(sixteen(starts, part), first);
                let middles = u8x16_eq(sixteen(middles, part), middle);
                v128_and(
                    v128_and(starts, middles),
                    u8x16_eq(sixteen(ends, part), last),
                )
            };
            if v128_any_true(v128_or(
                v128_or(hits(0), hits(1)),
                v128_or(hits(2), hits(3)),
            )) {
                break;
            }
            passed += 1;
        }
        passed
    }

    /// The same where plugins are tested.
    #[cfg(not(target_family = "wasm"))]
    fn pass(&self, signs: [u8; 3]) -> usize {
        let blocks = self.starts.iter().zip(self.middles).zip(self.ends);
        let has_none =
            |((starts, middles), ends): &((&[u8; BLOCK], &[u8; BLOCK]), &[u8; BLOCK])| {
                let mut places = starts.iter().zip(middles.iter()).zip(ends.iter());
                places.all(|((start, middle), end)| [*start, *middle, *end] != signs)
            };
        blocks.take_while(has_none).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_text_is_found_wherever_it_stands(
            bytes in proptest::collection::vec(b'a'..=b'c', 0..300),
            text in proptest::collection::vec(b'a'..=b'c', 0..9),
        ) {
            let stands = text.is_empty() || bytes.windows(text.len()).any(|part| part == text);
            prop_assert_eq!(contains(&bytes, &text), stands);
        }
    }
}

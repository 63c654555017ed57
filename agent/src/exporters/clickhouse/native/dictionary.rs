//! The distinct strings of one `LowCardinality(String)` column in one block, and the way from a string to its index.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::stream::append_text;

/// Distinct strings in order of appearance.
///
/// Keys come from outside, so the table's hash is seeded; in front of it stands a small table addressed by a few
/// bytes of the string, which answers nearly every call with one comparison.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// The strings as Native wants them: length, bytes, length, bytes.
    encoded: Vec<u8>,
    entries: Vec<Entry>,
    table: HashTable<u32>,
    hasher: hashbrown::DefaultHashBuilder,
    recent: Box<[Recent; RECENT]>,
}

/// A string seen before: its length, its ends, and its index. Up to 16 bytes, that is all of it.
#[derive(Debug, Clone, Copy)]
struct Recent {
    ends: Ends,
    index: u32,
}

/// What the small table is addressed by, and compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    first: u64,
    last: u64,
    length: usize,
}

/// Where a string stands in `encoded`, without its length.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    end: usize,
}

/// A power of two, well above the distinct attribute keys of most batches, so that few share a place.
const RECENT: usize = 1 << RECENT_BITS;
const RECENT_BITS: u32 = 8;
/// No string is as long as this.
const NOTHING: Recent = Recent {
    ends: Ends {
        first: 0,
        last: 0,
        length: usize::MAX,
    },
    index: 0,
};
/// Kept between batches; more goes back to the allocator.
const KEPT_ENTRIES: usize = 4096;
const KEPT_BYTES: usize = 256 << 10;

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            encoded: Vec::new(),
            entries: Vec::new(),
            table: HashTable::new(),
            hasher: hashbrown::DefaultHashBuilder::default(),
            recent: Box::new([NOTHING; RECENT]),
        }
    }
}

impl Dictionary {
    /// How many distinct strings there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All strings, each with its length before it.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The index of `text`, which is added if it is new.
    #[inline]
    pub(super) fn index_of(&mut self, text: &[u8]) -> u32 {
        let ends = Ends::of(text);
        let slot = ends.slot();
        for place in [slot, slot ^ 1] {
            let recent = self.recent[place];
            if recent.ends == ends && (text.len() <= 16 || self.is(recent.index, text)) {
                return recent.index;
            }
        }
        let index = self.find_or_add(text);
        self.recent[slot ^ 1] = self.recent[slot];
        self.recent[slot] = Recent { ends, index };
        index
    }

    /// Whether `index` is that of `text`, which is longer than 16 bytes.
    #[inline]
    fn is(&self, index: u32, text: &[u8]) -> bool {
        let Some(known) = text_of(&self.encoded, &self.entries, index) else {
            return false;
        };
        let ends = |text: &[u8]| {
            text.first_chunk::<16>()
                .copied()
                .zip(text.last_chunk::<16>().copied())
        };
        if text.len() <= 32 {
            return known.len() == text.len() && ends(known) == ends(text);
        }
        known == text
    }

    #[cold]
    #[inline(never)]
    fn find_or_add(&mut self, text: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(text);
        let (encoded, entries) = (&self.encoded, &self.entries);
        let found = self.table.find(hash, |index| {
            text_of(encoded, entries, *index) == Some(text)
        });
        if let Some(index) = found {
            return *index;
        }
        let index = u32::try_from(self.entries.len()).expect("a block has fewer than 2^32 strings");
        append_text(&mut self.encoded, text);
        let end = self.encoded.len();
        self.entries.push(Entry {
            start: end - text.len(),
            end,
        });
        let (hasher, encoded, entries) = (&self.hasher, &self.encoded, &self.entries);
        self.table.insert_unique(hash, index, |index| {
            hasher.hash_one(text_of(encoded, entries, *index).unwrap_or_default())
        });
        index
    }

    /// Empties the dictionary for the next block.
    pub(super) fn reset(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        self.encoded.clear();
        self.encoded.shrink_to(KEPT_BYTES);
        self.entries.clear();
        self.entries.shrink_to(KEPT_ENTRIES);
        self.table.clear();
        self.table.shrink_to(KEPT_ENTRIES, |_| 0);
        self.recent.fill(NOTHING);
    }
}

#[inline]
fn text_of<'a>(encoded: &'a [u8], entries: &[Entry], index: u32) -> Option<&'a [u8]> {
    let entry = entries.get(usize::try_from(index).ok()?)?;
    encoded.get(entry.start..entry.end)
}

impl Ends {
    #[inline]
    fn of(text: &[u8]) -> Self {
        let length = text.len();
        let (first, last) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => short_ends(text),
        };
        Self {
            first,
            last,
            length,
        }
    }

    /// Where in the small table it belongs.
    #[inline]
    fn slot(self) -> usize {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let both = self.first.rotate_left(29) ^ self.last ^ (self.length as u64).rotate_left(13);
        usize::try_from(both.wrapping_mul(MIX) >> (u64::BITS - RECENT_BITS)).unwrap_or_default()
    }
}

/// The ends of a string of less than eight bytes.
#[inline]
fn short_ends(text: &[u8]) -> (u64, u64) {
    match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => (
            u64::from(u32::from_le_bytes(*first)),
            u64::from(u32::from_le_bytes(*last)),
        ),
        _ => (
            text.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            0,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_look_alike_are_told_apart() {
        let mut dictionary = Dictionary::default();
        let texts: Vec<Vec<u8>> = [0usize, 1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 100]
            .into_iter()
            .flat_map(|length| {
                // The same but for one byte, wherever it stands.
                (0..length.max(1)).map(move |place| {
                    let mut text = vec![b'k'; length];
                    if let Some(byte) = text.get_mut(place) {
                        *byte = b'x';
                    }
                    text
                })
            })
            .collect();
        for round in 0..2 {
            for (index, text) in texts.iter().enumerate() {
                assert_eq!(
                    dictionary.index_of(text) as usize,
                    index,
                    "{round} {text:?}"
                );
            }
        }
        dictionary.reset();
        assert_eq!(dictionary.len(), 0);
        assert_eq!(dictionary.index_of(b"server.port"), 0);
    }

    #[test]
    fn any_number_of_strings_is_taken() {
        let mut dictionary = Dictionary::default();
        for round in 0..2 {
            for number in 0..100_000u32 {
                let text = format!("key {number}");
                assert_eq!(dictionary.index_of(text.as_bytes()), number, "{round}");
            }
        }
        dictionary.reset();
        assert!(dictionary.encoded.capacity() <= KEPT_BYTES);
        assert!(dictionary.entries.capacity() <= KEPT_ENTRIES);
    }
}

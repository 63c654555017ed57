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
    recent: [u32; RECENT],
}

/// Where a string stands in `encoded`, without its length.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    end: usize,
}

/// A power of two; a batch rarely has more distinct attribute keys.
const RECENT: usize = 256;
const NOWHERE: u32 = u32::MAX;
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
            recent: [NOWHERE; RECENT],
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
        let slot = recent_slot(text);
        let candidate = self.recent[slot];
        if self.text(candidate) == Some(text) {
            return candidate;
        }
        let index = self.find_or_add(text);
        self.recent[slot] = index;
        index
    }

    #[inline]
    fn text(&self, index: u32) -> Option<&[u8]> {
        text_of(&self.encoded, &self.entries, index)
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
        self.encoded.clear();
        self.encoded.shrink_to(KEPT_BYTES);
        self.entries.clear();
        self.entries.shrink_to(KEPT_ENTRIES);
        self.table.clear();
        self.table.shrink_to(KEPT_ENTRIES, |_| 0);
        self.recent = [NOWHERE; RECENT];
    }
}

#[inline]
fn text_of<'a>(encoded: &'a [u8], entries: &[Entry], index: u32) -> Option<&'a [u8]> {
    let entry = entries.get(usize::try_from(index).ok()?)?;
    encoded.get(entry.start..entry.end)
}

/// Where in the small table a string belongs, from its length and its first and last bytes.
#[inline]
fn recent_slot(text: &[u8]) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let ends = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            u64::from_le_bytes(*first).rotate_left(29) ^ u64::from_le_bytes(*last)
        }
        _ => short_ends(text),
    };
    let mixed = (ends ^ (text.len() as u64).rotate_left(13)).wrapping_mul(MIX);
    let [.., top] = mixed.to_le_bytes();
    usize::from(top)
}

#[inline]
fn short_ends(text: &[u8]) -> u64 {
    match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => text.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    }
}

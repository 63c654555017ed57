//! Tells items apart by what is in them, to find those that came twice.
//!
//! Every item of `loadgen otlp` has ids and a number of its own, so two items with the same content are one that came
//! twice. Of each, 64 bits are kept: among 10 million, the chance that two are taken for one is 3 in a million.

use std::collections::HashSet;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

/// Items that are remembered: half a GiB. Past that, nobody knows any more what came twice.
const ITEMS_MAX: usize = 50_000_000;

/// The content of an item, in 64 bits.
pub(super) fn print_of(content: &[u8]) -> u64 {
    FixedState::default().hash_one(content)
}

/// The content of something whose parts have these prints, in this order.
pub(super) fn print_of_all(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, also)
}

/// A print with one more part.
pub(super) fn also(print: u64, part: u64) -> u64 {
    FixedState::default().hash_one((print, part))
}

/// The items that have come.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    seen: HashSet<u64, FixedState>,
    /// There were too many to remember.
    is_full: bool,
}

impl Distinct {
    /// Remembers these, and says how many came before, among themselves or earlier. `of` tells apart what is alike and not
    /// the same, such as rows of different tables.
    pub(super) fn add(&mut self, of: &str, prints: &[u64]) -> u64 {
        if self.is_full || self.seen.len() + prints.len() > ITEMS_MAX {
            self.is_full = true;
            self.seen = HashSet::default();
            return 0;
        }
        let of = print_of(of.as_bytes());
        let prints = prints.iter().map(|print| also(of, *print));
        prints.filter(|print| !self.seen.insert(*print)).count() as u64
    }

    /// Whether there were too many: then nobody knows what came twice.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_found_and_what_is_alike_elsewhere_is_not() {
        let mut distinct = Distinct::default();
        let [one, two, three] = [b"one", b"two", b"thr"].map(|item| print_of(item));
        assert_eq!(distinct.add("logs", &[one, two]), 0);
        assert_eq!(distinct.add("logs", &[three, two, three]), 2);
        assert_eq!(distinct.add("traces", &[one, two, three]), 0);
        assert!(!distinct.is_full());
        assert_ne!(print_of_all([one, two]), print_of_all([two, one]));
        assert_ne!(print_of_all([one]), print_of_all([one, one]));
    }
}

//! The tokens of blocks that were taken: a block that is sent again is not taken again.

use std::collections::{HashMap, HashSet, VecDeque};

use foldhash::fast::FixedState;

use super::super::distinct::print_of;

/// Blocks that a server remembers of each table: `replicated_deduplication_window` of ClickHouse 26.7. (Of tables that are
/// not replicated it remembers none, unless they were made with `non_replicated_deduplication_window`.)
pub(crate) const WINDOW: u32 = 10_000;

/// The last tokens of each table, in 64 bits each.
#[derive(Debug)]
pub(super) struct Tokens {
    window: usize,
    tables: HashMap<String, Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// The oldest first.
    order: VecDeque<u64>,
    known: HashSet<u64, FixedState>,
}

impl Tokens {
    /// Remembers as many as `window` of each table.
    pub(super) fn new(window: u32) -> Self {
        Self {
            window: window as usize,
            tables: HashMap::new(),
        }
    }

    /// Whether a block of this name is new to the table. It is known from now on, until as many others as the window holds
    /// have come; that it comes again does not make that longer.
    pub(super) fn is_new(&mut self, table: &str, token: &str) -> bool {
        if self.window == 0 {
            return true;
        }
        let window = match self.tables.get_mut(table) {
            Some(window) => window,
            None => self.tables.entry(table.to_owned()).or_default(),
        };
        let token = print_of(token.as_bytes());
        if !window.known.insert(token) {
            return false;
        }
        window.order.push_back(token);
        if window.order.len() > self.window
            && let Some(oldest) = window.order.pop_front()
        {
            window.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_remembers_its_last_tokens() {
        let mut tokens = Tokens::new(3);
        let mut check = |table: &str, all: &[&str], expected: &[bool]| {
            let new: Vec<_> = all.iter().map(|it| tokens.is_new(table, it)).collect();
            assert_eq!(new, expected, "{table} {all:?}");
        };
        check("t", &["a", "a", "b", "c"], &[true, false, true, true]);
        // That `a` comes again does not keep it.
        check("t", &["a", "d", "a"], &[false, true, true]);
        check("t", &["c", "d", "b"], &[false, false, true]);
        check("u", &["b"], &[true]);
    }

    #[test]
    fn without_a_window_everything_is_new() {
        let mut tokens = Tokens::new(0);
        assert!(tokens.is_new("t", "a") && tokens.is_new("t", "a"));
    }
}

//! Places in a log's stream of data, and ranges between them.

/// A place in the stream of data: before item `item` of the request with sequence number `seq`.
///
/// The place behind a request's last item is written as `(seq + 1, 0)`, whatever record has that number, so that
/// places compare as their numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Sequence number of a record.
    pub seq: u64,
    /// Items of that request before this place.
    pub item: u32,
}

impl Position {
    /// Before the first item of `seq`.
    pub const fn before(seq: u64) -> Self {
        Self { seq, item: 0 }
    }

    /// Behind the last item of `seq`.
    pub const fn after(seq: u64) -> Self {
        Self::before(seq.saturating_add(1))
    }
}

/// Data from one place to another; `end` is outside. It may begin and end inside a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// The first place inside.
    pub start: Position,
    /// The first place behind.
    pub end: Position,
}

impl Range {
    /// Which of the `items` items of request `seq` are inside; empty if none.
    pub fn items_of(&self, seq: u64, items: u32) -> std::ops::Range<u32> {
        let clip = |place: Position| match place.seq.cmp(&seq) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => place.item.min(items),
            std::cmp::Ordering::Greater => items,
        };
        let (from, to) = (clip(self.start), clip(self.end));
        from..to.max(from)
    }

    /// Whether the last item of request `seq` is inside: then the range also counts the request's bytes.
    pub(super) fn finishes(&self, seq: u64) -> bool {
        self.start.seq <= seq && self.end.seq > seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_knows_its_share_of_each_request() {
        let range = Range {
            start: Position { seq: 3, item: 4 },
            end: Position { seq: 5, item: 2 },
        };
        let check = |seq, items, expected: std::ops::Range<u32>| {
            assert_eq!(range.items_of(seq, items), expected, "{seq}");
        };
        check(2, 10, 10..10);
        check(3, 10, 4..10);
        check(4, 10, 0..10);
        check(5, 10, 0..2);
        check(6, 10, 0..0);
        assert!(range.finishes(3) && range.finishes(4) && !range.finishes(5) && !range.finishes(2));
    }
}

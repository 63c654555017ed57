//! Counts of which not everything need be known: what could not be asked is no 0.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use crate::text::grouped;

/// What is known of a count: exactly how many, or only how many at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) at_least: u64,
    pub(crate) at_most: Option<u64>,
}

impl Count {
    pub(crate) fn of(number: u64) -> Self {
        Self {
            at_least: number,
            at_most: Some(number),
        }
    }

    pub(crate) fn at_least(number: u64) -> Self {
        Self {
            at_least: number,
            at_most: None,
        }
    }

    /// The number, if it is known exactly.
    pub(crate) fn known(self) -> Option<u64> {
        self.at_most.filter(|most| *most == self.at_least)
    }

    /// The same, and any number more.
    pub(crate) fn or_more(self) -> Self {
        Self::at_least(self.at_least)
    }

    /// What is left without the others; nothing, where they are more.
    pub(crate) fn without(self, others: Self) -> Self {
        let least = others
            .at_most
            .map_or(0, |most| self.at_least.saturating_sub(most));
        Self {
            at_least: least,
            at_most: self.at_most.map(|it| it.saturating_sub(others.at_least)),
        }
    }

    /// As tables show it, with the digits in groups.
    pub(crate) fn shown(self) -> String {
        self.written(grouped)
    }

    /// `at most 12`, where it is not known exactly and anything is known of it.
    pub(crate) fn bounds(self) -> Option<String> {
        match (self.at_least, self.at_most) {
            (least, Some(most)) if least == most => None,
            (0, None) => None,
            (least, None) => Some(format!("at least {}", grouped(least))),
            (0, Some(most)) => Some(format!("at most {}", grouped(most))),
            (least, Some(most)) => Some(format!("{} to {}", grouped(least), grouped(most))),
        }
    }

    /// Without spaces: it stands behind a `=`, too.
    fn written(self, number: impl Fn(u64) -> String) -> String {
        match (self.at_least, self.at_most) {
            (least, Some(most)) if least == most => number(least),
            (0, None) => "unknown".to_owned(),
            (least, None) => format!("unknown(>={})", number(least)),
            (0, Some(most)) => format!("unknown(<={})", number(most)),
            (least, Some(most)) => format!("unknown({}..{})", number(least), number(most)),
        }
    }
}

impl Default for Count {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let most = self.at_most.zip(other.at_most);
        Self {
            at_least: self.at_least.saturating_add(other.at_least),
            at_most: most.map(|(one, other)| one.saturating_add(other)),
        }
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Self::add)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.written(|number| number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(at_least: u64, at_most: u64) -> Count {
        Count {
            at_least,
            at_most: Some(at_most),
        }
    }

    #[test]
    fn what_is_not_known_stays_unknown_in_sums_and_differences() {
        let (some, more) = (Count::of(10), Count::at_least(10));
        assert_eq!(some + Count::of(5), Count::of(15));
        assert_eq!(some + more, Count::at_least(20));
        assert_eq!(some.without(Count::of(3)), Count::of(7));
        assert_eq!(some.without(Count::of(30)), Count::of(0));
        assert_eq!(some.without(Count::at_least(3)), between(0, 7));
        assert_eq!(more.without(Count::of(3)), Count::at_least(7));
        // No more is missing than there is: that is known.
        assert_eq!(some.without(more).known(), Some(0));
    }

    #[test]
    fn it_says_what_is_known() {
        let check = |count: Count, expected: &str, bounds: Option<&str>| {
            assert_eq!(count.to_string(), expected);
            assert_eq!(count.bounds().as_deref(), bounds);
        };
        check(Count::of(1234), "1234", None);
        check(Count::at_least(0), "unknown", None);
        check(Count::at_least(5), "unknown(>=5)", Some("at least 5"));
        check(between(0, 5), "unknown(<=5)", Some("at most 5"));
        check(between(2, 5), "unknown(2..5)", Some("2 to 5"));
        assert_eq!(Count::of(1234).shown(), "1,234");
    }
}

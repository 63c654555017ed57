//! Which items somebody wants to see: `severity>=warn and not attr.http.route~"^/health"`.

mod field;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use regex::Regex;

use super::item::Seen;
use field::Field;

/// A filter that was understood.
#[derive(Debug, Clone)]
pub struct Filter(Term);

#[derive(Debug, Clone)]
enum Term {
    All(Vec<Term>),
    Any(Vec<Term>),
    Not(Box<Term>),
    /// The item has such a field, and it is not empty.
    Exists(Field),
    Compare(Field, Test),
}

/// What a field's value has to be.
#[derive(Debug, Clone)]
enum Test {
    Is(Value),
    IsNot(Value),
    Matches(Regex),
    MatchesNot(Regex),
    /// In the order of numbers.
    Order(Order, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What stands in a filter, once as text and once as what it means in numbers.
#[derive(Debug, Clone)]
struct Value {
    text: String,
    /// The first and the last number that it stands for: `warn` is 13 to 16.
    numbers: Option<(f64, f64)>,
}

/// What an item has in a field.
#[derive(Debug, Clone, PartialEq)]
enum Found<'a> {
    Nothing,
    Text(Cow<'a, str>),
    Number(f64),
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(Self)
    }

    pub(super) fn holds(&self, item: &Seen<'_>) -> bool {
        self.0.holds(item)
    }
}

impl Term {
    fn holds(&self, item: &Seen<'_>) -> bool {
        match self {
            Self::All(terms) => terms.iter().all(|term| term.holds(item)),
            Self::Any(terms) => terms.iter().any(|term| term.holds(item)),
            Self::Not(term) => !term.holds(item),
            Self::Exists(field) => match field.of(item) {
                Found::Nothing => false,
                Found::Text(text) => !text.is_empty(),
                Found::Number(_) => true,
            },
            Self::Compare(field, test) => test.passes(&field.of(item)),
        }
    }
}

impl Test {
    /// What is not there is like nothing, and unlike everything.
    fn passes(&self, found: &Found<'_>) -> bool {
        match self {
            Self::Is(value) => value.is(found),
            Self::IsNot(value) => !value.is(found),
            Self::Matches(regex) => found.matches(regex),
            Self::MatchesNot(regex) => !found.matches(regex),
            Self::Order(order, limit) => {
                let Some(number) = found.number() else {
                    return false;
                };
                match order {
                    Order::Less => number < *limit,
                    Order::LessOrEqual => number <= *limit,
                    Order::Greater => number > *limit,
                    Order::GreaterOrEqual => number >= *limit,
                }
            }
        }
    }
}

impl Value {
    fn is(&self, found: &Found<'_>) -> bool {
        match found {
            Found::Nothing => false,
            Found::Text(text) => *text == self.text,
            Found::Number(number) => self
                .numbers
                .is_some_and(|(first, last)| (first..=last).contains(number)),
        }
    }
}

impl Found<'_> {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Nothing => None,
            Self::Text(text) => text.parse().ok(),
            Self::Number(number) => Some(*number),
        }
    }

    fn matches(&self, regex: &Regex) -> bool {
        match self {
            Self::Nothing => false,
            Self::Text(text) => regex.is_match(text),
            Self::Number(number) => regex.is_match(&number.to_string()),
        }
    }
}

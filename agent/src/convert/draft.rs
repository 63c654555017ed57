//! The TOML document while it is made: values with comments, and what is left out, each at its place.

use super::comments::Remarks;
use super::substitution::is_substituted;
use super::yaml::At;

/// A table, in the order of the YAML document.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(pub Vec<Item>);

/// A key, and what becomes of it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub key: String,
    /// Where it was written in YAML: its first and its last line. Of what was not written, where it comes from.
    pub at: At,
    pub last_line: usize,
    pub remarks: Remarks,
    /// What the operator should know, beside the value.
    pub notes: Vec<String>,
    pub state: State,
}

/// What becomes of a key.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// It is set.
    On(Value),
    /// It has no counterpart, for this reason, and stands there as a comment.
    Off(String),
    /// It is not needed here, for this reason.
    Gone(String),
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar(toml::Value),
    List(Vec<Element>),
    Table(Table),
}

/// Something in a list.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub value: Value,
    pub remarks: Remarks,
}

impl Item {
    /// A key that is not in the YAML document itself, but follows from what is written at `at`.
    pub(super) fn made(key: &str, at: At, value: Value) -> Self {
        Self {
            key: key.to_owned(),
            at,
            last_line: at.line,
            remarks: Remarks::default(),
            notes: Vec::new(),
            state: State::On(value),
        }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The table in it, if it is on.
    pub(super) fn table(&self) -> Option<&Table> {
        match &self.state {
            State::On(Value::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub(super) fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.state {
            State::On(Value::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self.state, State::On(_))
    }
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Scalar(toml::Value::String(text.into()))
    }

    /// Whether the environment decides about it, or about a part of it.
    pub(super) fn is_substituted(&self) -> bool {
        match self {
            Self::Scalar(toml::Value::String(text)) => is_substituted(text),
            Self::Scalar(_) => false,
            Self::List(elements) => elements
                .iter()
                .any(|element| element.value.is_substituted()),
            Self::Table(table) => table.0.iter().any(|item| match &item.state {
                State::On(value) => value.is_substituted(),
                _ => false,
            }),
        }
    }
}

impl Table {
    /// What is set under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.0.iter().find(|item| item.key == key && item.is_on())
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Item> {
        self.0
            .iter_mut()
            .find(|item| item.key == key && item.is_on())
    }

    /// Adds a key; where it is set already, the second one is left out.
    pub(super) fn add(&mut self, mut item: Item) {
        if item.is_on() && self.get(&item.key).is_some() {
            item.state = State::Off(format!("`{}` is set already", item.key));
        }
        self.0.push(item);
    }

    /// The deepest item on the way of `keys` that is there, and how many keys lead to it.
    pub(super) fn deepest_mut(&mut self, keys: &[String]) -> Option<(&mut Item, usize)> {
        let (first, rest) = keys.split_first()?;
        let item = self.get_mut(first)?;
        let goes_on = rest
            .first()
            .is_some_and(|next| item.table().is_some_and(|table| table.get(next).is_some()));
        if !goes_on {
            return Some((item, 1));
        }
        let (item, depth) = item.table_mut()?.deepest_mut(rest)?;
        Some((item, depth + 1))
    }
}

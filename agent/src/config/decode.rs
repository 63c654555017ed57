//! From a tree to a type of serde's, with every problem and not just the first.
//!
//! A type stops at its first problem. So the problem is reported, the value it is about is taken out of the tree, and the
//! type is decoded again, until nothing is wrong any more. A required key that is missing is stood in for by something of
//! a fitting type, so that what else is missing shows too.

use std::sync::atomic::Ordering;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::{Fault, Reason};
use super::text::Span;
use super::tree::{Entry, Given, Node, Step, Value};

/// The most rounds for one table: a bound on the time that a hopeless one takes.
const ROUNDS_MAX: usize = 400;

/// Decodes a table. Each problem goes to `report` with its path and the value it is about. What has none is decoded all
/// the same, with defaults in place of the rest, unless that cannot be done.
pub(crate) fn decode<T: DeserializeOwned>(
    root: &Node,
    mut report: impl FnMut(&[Step], &Reason, Option<&Node>),
) -> Option<T> {
    let mut root = root.clone();
    for _ in 0..ROUNDS_MAX {
        let fault = match T::deserialize(Reader(&root)) {
            Ok(decoded) => return Some(decoded),
            Err(fault) => fault,
        };
        let (path, reason) = fault.into_parts();
        if let Reason::Missing(key) = reason {
            if stand_in(&mut root, &path, key) == Known::No {
                report(&path, &reason, root.at(&path));
            }
            continue;
        }
        let node = root.at(&path);
        let known = match node.map(|node| &node.value) {
            Some(Value::Stand(_)) => true,
            Some(_) => node.is_some_and(has_holes) && !matches!(reason, Reason::UnknownKey { .. }),
            None => false,
        };
        if !known {
            report(&path, &reason, node);
        }
        if path.is_empty() || !take_out(&mut root, path) {
            return None;
        }
    }
    None
}

/// Whether a problem was reported before.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

/// Whether something was taken out of the tree here: then a complaint about the whole may only be its consequence.
fn has_holes(node: &Node) -> bool {
    match &node.value {
        Value::Hole | Value::Stand(_) => true,
        Value::List(items) => items.iter().any(has_holes),
        Value::Table(table) => table.0.iter().any(|entry| has_holes(&entry.node)),
        _ => false,
    }
}

/// Where something was taken out of the tree.
pub(super) fn holes(node: &Node) -> Vec<Vec<Step>> {
    let below = |step: Step, node: &Node| -> Vec<Vec<Step>> {
        let mut paths = holes(node);
        paths
            .iter_mut()
            .for_each(|path| path.insert(0, step.clone()));
        paths
    };
    match &node.value {
        Value::Hole | Value::Stand(_) => vec![Vec::new()],
        Value::List(items) => items
            .iter()
            .enumerate()
            .flat_map(|(at, item)| below(Step::Index(at), item))
            .collect(),
        Value::Table(table) => table
            .0
            .iter()
            .flat_map(|entry| below(Step::Key(entry.key.clone()), &entry.node))
            .collect(),
        _ => Vec::new(),
    }
}

/// Puts something under `key` of the table at `path`.
fn stand_in(root: &mut Node, path: &[Step], key: &str) -> Known {
    let Some(node) = root.at_mut(path) else {
        return Known::Yes;
    };
    if let Value::Given(Given {
        typed: Some(typed), ..
    }) = &node.value
    {
        node.value = (**typed).clone();
    }
    let Value::Table(table) = &mut node.value else {
        // A type that takes its keys from elsewhere than from a table: nothing can stand in.
        node.value = Value::Hole;
        return Known::No;
    };
    if let Some(entry) = table.get_mut(key) {
        entry.node.value = Value::Stand(0);
        return Known::Yes;
    }
    table.0.push(Entry {
        key: key.to_owned(),
        key_span: Span::default(),
        node: Node::new(Value::Stand(0), Span::default()),
    });
    Known::No
}

/// Takes the value at `path` out; one that was taken out before takes what it is in with it.
fn take_out(root: &mut Node, mut path: Vec<Step>) -> bool {
    loop {
        // A text that is a table to whoever wants one has no nodes below it.
        while root.at(&path).is_none() && !path.is_empty() {
            path.pop();
        }
        let Some(node) = root.at_mut(&path) else {
            return false;
        };
        match &mut node.value {
            Value::Stand(attempt) if *attempt < STANDS_MAX => {
                *attempt += 1;
                return true;
            }
            Value::Hole | Value::Stand(_) => {
                if path.pop().is_none() {
                    return false;
                }
            }
            value => {
                *value = Value::Hole;
                return !path.is_empty();
            }
        }
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

/// The last of the kinds of value that [`stand`] tries.
const STANDS_MAX: u8 = 4;

/// Something of one type or another.
fn stand<'de, V: Visitor<'de>>(attempt: u8, visitor: V) -> Result<V::Value, Fault> {
    match attempt {
        0 => visitor.visit_u8(0),
        1 => visitor.visit_str("0"),
        2 => visitor.visit_bool(false),
        3 => visitor.visit_map(Entries::new(&[])),
        _ => visitor.visit_seq(Items::new(&[])),
    }
}

fn visit<'de, V: Visitor<'de>>(value: &Value, visitor: V) -> Result<V::Value, Fault> {
    match value {
        Value::Text(text) => visitor.visit_str(text),
        Value::Given(given) => match given.typed.as_deref() {
            Some(typed) => visit(typed, visitor),
            None => visitor.visit_str(&given.text),
        },
        Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => visitor.visit_i64(number),
            (_, Ok(number)) => visitor.visit_u64(number),
            _ => visitor.visit_i128(*number),
        },
        Value::Float(number) => visitor.visit_f64(*number),
        Value::Bool(flag) => visitor.visit_bool(*flag),
        Value::Datetime(datetime) => visitor.visit_string(datetime.to_string()),
        Value::List(items) => visitor.visit_seq(Items::new(items)),
        Value::Table(table) => visitor.visit_map(Entries::new(&table.0)),
        Value::Hole => visitor.visit_unit(),
        Value::Stand(attempt) => stand(*attempt, visitor),
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visit(&self.0.value, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Given(given) => {
                given.wanted_as_text.store(true, Ordering::Relaxed);
                visitor.visit_str(&given.text)
            }
            value => visit(value, visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A derived struct would take an array as its fields in order, which nobody means who writes TOML.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::List(_) => Err(Fault::invalid_type(Unexpected::Seq, &visitor)),
            value => visit(value, visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let value = match &self.0.value {
            Value::Given(Given {
                typed: Some(typed), ..
            }) if matches!(**typed, Value::Table(_)) => typed,
            value => value,
        };
        match value {
            Value::Text(word) | Value::Given(Given { text: word, .. }) => {
                visitor.visit_enum(StrDeserializer::new(word))
            }
            Value::Stand(_) => {
                visitor.visit_enum(StrDeserializer::new(variants.first().unwrap_or(&"")))
            }
            Value::Table(table) => match table.0.as_slice() {
                [entry] => visitor.visit_enum(Variant(entry)),
                _ => visit(value, visitor),
            },
            value => visit(value, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

/// The entries of a table; holes are skipped.
struct Entries<'a> {
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> Entries<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        Self {
            entries: entries.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.current = self
            .entries
            .find(|entry| !matches!(entry.node.value, Value::Hole));
        let Some(entry) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|fault| fault.below(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some(entry) = self.current else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        seed.deserialize(Reader(&entry.node))
            .map_err(|fault| fault.below(Step::Key(entry.key.clone())))
    }
}

/// The items of an array; holes are skipped.
struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Node>>);

impl<'a> Items<'a> {
    fn new(items: &'a [Node]) -> Self {
        Self(items.iter().enumerate())
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((at, item)) = self.0.find(|(_, item)| !matches!(item.value, Value::Hole)) else {
            return Ok(None);
        };
        seed.deserialize(Reader(item))
            .map(Some)
            .map_err(|fault| fault.below(Step::Index(at)))
    }
}

/// A variant with content, written as a table with one key.
struct Variant<'a>(&'a Entry);

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Content<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'a>), Fault> {
        let key: StrDeserializer<'_, Fault> = self.0.key.as_str().into_deserializer();
        let variant = seed
            .deserialize(key)
            .map_err(|fault| fault.below(Step::Key(self.0.key.clone())))?;
        Ok((variant, Content(self.0)))
    }
}

/// What a variant holds.
struct Content<'a>(&'a Entry);

impl Content<'_> {
    fn below<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| fault.below(Step::Key(self.0.key.clone())))
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match &self.0.node.value {
            Value::Table(table) if table.0.is_empty() => Ok(()),
            _ => self.below(Err(Fault::custom(format!(
                "`{}` takes no options",
                self.0.key
            )))),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let result = seed.deserialize(Reader(&self.0.node));
        self.below(result)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        let result = Reader(&self.0.node).deserialize_any(visitor);
        self.below(result)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = Reader(&self.0.node).deserialize_any(visitor);
        self.below(result)
    }
}

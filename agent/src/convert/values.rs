//! From YAML values to those that a field of ours takes.

use std::collections::BTreeSet;

use serde_json::Value as Schema;

use super::comments::Remarks;
use super::draft::{Element, Item, State, Table, Value};
use super::substitution::{is_substituted, translate};
use super::yaml::{Entry, Node, Plain, Value as Yaml};

/// What becomes of a value.
pub(super) enum Outcome {
    /// It is this.
    Value(Value),
    /// It is this, and the operator should know.
    Noted(Value, String),
    /// Nothing was written, so the default holds.
    Nothing,
    /// It cannot be.
    Refused(String),
}

impl Outcome {
    /// The item of an entry; `None` where nothing was written.
    pub(super) fn into_item(self, entry: &Entry) -> Option<Item> {
        let mut notes = Vec::new();
        let state = match self {
            Self::Value(value) => State::On(value),
            Self::Noted(value, note) => {
                notes.push(note);
                State::On(value)
            }
            Self::Nothing => return None,
            Self::Refused(reason) => State::Off(reason),
        };
        Some(Item {
            notes,
            ..item(entry, state)
        })
    }
}

/// The item of an entry.
pub(super) fn item(entry: &Entry, state: State) -> Item {
    Item {
        key: entry.key.clone(),
        at: entry.at,
        last_line: entry.node.last_line.max(entry.at.line),
        remarks: entry.remarks.clone(),
        notes: Vec::new(),
        state,
    }
}

/// The value of a field that the schema describes; tables with fields of their own are `fields`' affair.
pub(super) fn value(schema: &Schema, node: &Node) -> Outcome {
    match &node.value {
        Yaml::Scalar { text, .. } => scalar(schema, node, text),
        Yaml::List(items) => list(schema, items),
        Yaml::Table(entries) => match schema.get("additionalProperties") {
            Some(each) if each.is_object() => table(each, entries),
            _ if is_any(schema) => Outcome::Value(natural(node)),
            _ => Outcome::Refused("a mapping, where Tidegate takes one value".to_owned()),
        },
    }
}

fn is_any(schema: &Schema) -> bool {
    schema.get("type").is_none() && schema.get("anyOf").is_none()
}

/// Whether the schema takes this type.
pub(super) fn takes(schema: &Schema, kind: &str) -> bool {
    match schema.get("type") {
        Some(Schema::Array(kinds)) => kinds.iter().any(|found| found == kind),
        Some(found) => found == kind,
        None => {
            let choices = schema.get("anyOf").and_then(Schema::as_array);
            choices
                .into_iter()
                .flatten()
                .any(|choice| takes(choice, kind))
        }
    }
}

fn scalar(schema: &Schema, node: &Node, text: &str) -> Outcome {
    let plain = node.plain().unwrap_or(Plain::Text);
    if plain == Plain::Null {
        return match takes(schema, "object") {
            true => Outcome::Value(Value::Table(Table::default())),
            false => Outcome::Nothing,
        };
    }
    let translated = match translate(text) {
        Ok(translated) => translated,
        Err(problem) => return Outcome::Refused(problem),
    };
    // A text that is substituted takes its type afterwards.
    if is_substituted(&translated) {
        return Outcome::Value(Value::text(translated));
    }
    if is_any(schema) {
        return Outcome::Value(natural(node));
    }
    if let Some(unit) = schema.get("x-unit").and_then(Schema::as_str) {
        return in_unit(unit, plain, translated);
    }
    if let Some(words) = schema.get("enum").and_then(Schema::as_array) {
        let lower = translated.to_lowercase();
        let known = words.iter().any(|word| word == lower.as_str());
        return Outcome::Value(Value::text(if known { lower } else { translated }));
    }
    Outcome::Value(typed(schema, plain, translated))
}

/// A duration or a size.
fn in_unit(unit: &str, plain: Plain, text: String) -> Outcome {
    match (unit, plain) {
        ("duration", Plain::Integer(0)) => Outcome::Value(Value::text("0s")),
        ("duration", Plain::Integer(number)) => Outcome::Noted(
            Value::text(format!("{number}ns")),
            format!(
                "`{number}` without a unit is nanoseconds for the Collector; is that what was meant?"
            ),
        ),
        (_, Plain::Integer(number)) => Outcome::Value(Value::Scalar(number.into())),
        _ => Outcome::Value(Value::text(text)),
    }
}

/// A scalar as one of the types that the schema takes; as text where it is none of them.
fn typed(schema: &Schema, plain: Plain, text: String) -> Value {
    let wants = |kind: &str| takes(schema, kind);
    let wants_text = wants("string");
    match plain {
        Plain::Integer(number) if wants("integer") => Value::Scalar(number.into()),
        Plain::Integer(number) if wants("number") => {
            Value::Scalar(toml::Value::Float(number as f64))
        }
        Plain::Float(number)
            if wants("integer") && number.fract() == 0.0 && number.abs() < 1e15 =>
        {
            Value::Scalar((number as i64).into())
        }
        Plain::Float(number) if wants("number") => Value::Scalar(number.into()),
        Plain::Bool(flag) if wants("boolean") => Value::Scalar(flag.into()),
        _ if wants("array") && !wants_text => {
            let parts = text.split(',').map(|part| Element {
                value: Value::text(part.trim()),
                remarks: Remarks::default(),
            });
            Value::List(parts.collect())
        }
        _ if wants("boolean") && !wants_text => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Value::Scalar(true.into()),
            "false" | "no" | "off" | "n" => Value::Scalar(false.into()),
            _ => Value::text(text),
        },
        _ if wants("integer") && !wants_text => whole(&text).unwrap_or_else(|| Value::text(text)),
        _ if wants("number") && !wants_text => match text.parse::<f64>() {
            Ok(number) => Value::Scalar(number.into()),
            Err(_) => Value::text(text),
        },
        _ => Value::text(text),
    }
}

/// A whole number, written as one or with a fraction of 0.
fn whole(text: &str) -> Option<Value> {
    let number = text
        .strip_suffix(".0")
        .unwrap_or(text)
        .parse::<i64>()
        .ok()?;
    Some(Value::Scalar(number.into()))
}

fn list(schema: &Schema, items: &[Node]) -> Outcome {
    if is_any(schema) {
        return Outcome::Value(Value::List(items.iter().map(natural_element).collect()));
    }
    if takes(schema, "object") {
        return pairs(schema, items);
    }
    let Some(each) = schema.get("items").filter(|_| takes(schema, "array")) else {
        return Outcome::Refused("a list, where Tidegate takes one value".to_owned());
    };
    let mut elements = Vec::new();
    for item in items {
        match value(each, item) {
            Outcome::Value(value) | Outcome::Noted(value, _) => elements.push(Element {
                value,
                remarks: item.remarks.clone(),
            }),
            Outcome::Nothing => {}
            Outcome::Refused(reason) => return Outcome::Refused(reason),
        }
    }
    Outcome::Value(Value::List(elements))
}

/// The newer way to write headers: a list of names and values.
fn pairs(schema: &Schema, items: &[Node]) -> Outcome {
    let Some(each) = schema
        .get("additionalProperties")
        .filter(|each| each.is_object())
    else {
        return Outcome::Refused("a list, where Tidegate takes a table".to_owned());
    };
    let entries = items.iter().map(|item| {
        let name = item.get("name").and_then(Node::text)?;
        Some(Entry {
            key: name.to_owned(),
            at: item.at,
            node: item.get("value")?.clone(),
            remarks: item.remarks.clone(),
        })
    });
    match entries.collect::<Option<Vec<_>>>() {
        Some(entries) => table(each, &entries),
        None => Outcome::Refused("a list, where Tidegate takes a table".to_owned()),
    }
}

fn table(each: &Schema, entries: &[Entry]) -> Outcome {
    let mut items: Vec<Item> = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in entries {
        if !seen.insert(entry.key.as_str()) {
            return Outcome::Refused(format!("`{}` is there twice", entry.key));
        }
        items.extend(value(each, &entry.node).into_item(entry));
    }
    Outcome::Value(Value::Table(Table(items)))
}

/// A value as it stands, for fields that the validator has its own opinion of.
fn natural(node: &Node) -> Value {
    match &node.value {
        Yaml::Scalar { text, .. } => match node.plain() {
            Some(Plain::Bool(flag)) => Value::Scalar(flag.into()),
            Some(Plain::Integer(number)) => Value::Scalar(number.into()),
            Some(Plain::Float(number)) => Value::Scalar(number.into()),
            _ => Value::text(translate(text).unwrap_or_else(|_| text.replace("${", "$${"))),
        },
        Yaml::List(items) => Value::List(items.iter().map(natural_element).collect()),
        Yaml::Table(entries) => {
            let items = entries
                .iter()
                .map(|entry| item(entry, State::On(natural(&entry.node))));
            Value::Table(Table(items.collect()))
        }
    }
}

fn natural_element(node: &Node) -> Element {
    Element {
        value: natural(node),
        remarks: node.remarks.clone(),
    }
}

//! The configuration as text again: merged, expanded, and without secrets unless they are asked for.

use std::sync::atomic::Ordering;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::load::Tree;
use super::secret;
use super::tree::{Node, Table, Value};

/// How to write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As it is read.
    #[default]
    Toml,
    /// For other programs.
    Json,
}

/// The whole configuration. What was substituted is written with the type that its option took, once the tree was
/// resolved; before, a number as a number.
///
/// # Errors
/// When a value cannot be written in the format, such as a number out of its range.
pub fn render(tree: &Tree, format: Format, redact: bool) -> Result<String, String> {
    let redacted;
    let root = if redact {
        redacted = secret::redacted(&tree.root);
        &redacted
    } else {
        &tree.root
    };
    match format {
        Format::Toml => {
            let mut root = root.clone();
            escape(&mut root);
            toml::to_string(&root).map_err(|error| error.to_string())
        }
        Format::Json => serde_json::to_string_pretty(root)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string()),
    }
}

/// Doubles each `$` that would begin something when the text is read again.
fn escape(node: &mut Node) {
    match &mut node.value {
        Value::Text(text) => *text = escaped(text),
        Value::Given(given) => {
            given.text = escaped(&given.text);
            if let Some(typed) = &mut given.typed {
                let mut inner = Node::new((**typed).clone(), node.span);
                escape(&mut inner);
                **typed = inner.value;
            }
        }
        Value::List(items) => items.iter_mut().for_each(escape),
        Value::Table(table) => table.0.iter_mut().for_each(|entry| escape(&mut entry.node)),
        _ => {}
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        escaped.push(c);
        if c == '$' && matches!(rest.peek(), Some('$' | '{')) {
            escaped.push('$');
        }
    }
    escaped
}

/// A table as TOML, for tests.
#[cfg(test)]
pub(crate) fn plain(table: &Table) -> String {
    let node = Node::new(Value::Table(table.clone()), super::text::Span::default());
    toml::to_string(&node).unwrap()
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Given(given) => match &given.typed {
                Some(typed) if !given.wanted_as_text.load(Ordering::Relaxed) => {
                    typed.serialize(serializer)
                }
                _ => serializer.serialize_str(&given.text),
            },
            Self::Integer(number) => match i64::try_from(*number) {
                Ok(number) => serializer.serialize_i64(number),
                Err(_) => serializer.serialize_str(&number.to_string()),
            },
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Datetime(datetime) => datetime.serialize(serializer),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(None)?;
                for item in items.iter().filter(|item| item.is_there()) {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Table(Table(entries)) => {
                let mut map = serializer.serialize_map(None)?;
                for entry in entries.iter().filter(|entry| entry.node.is_there()) {
                    map.serialize_entry(&entry.key, &entry.node)?;
                }
                map.end()
            }
            Self::Hole | Self::Stand(_) => serializer.serialize_unit(),
        }
    }
}

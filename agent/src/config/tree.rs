//! The configuration as a tree in which every key and value knows where it was written.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::text::Span;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// What was written.
    pub value: Value,
    /// Where.
    pub span: Span,
}

/// What can be written.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Text that stands in the configuration itself.
    Text(String),
    /// Text that came from outside: through a substitution or `--set`.
    Given(Given),
    /// A whole number.
    Integer(i128),
    /// A number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date or time.
    Datetime(toml::value::Datetime),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Table),
    /// A value that was reported as wrong: as if it were not there.
    Hole,
    /// Stands for a required value that was reported as missing, so that decoding can go on; the number says which
    /// kind of value to try.
    Stand(u8),
}

/// Text from outside.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// The text.
    pub text: String,
    /// The same as a number, boolean, array or table, for whoever wants one.
    pub typed: Option<Box<Value>>,
    /// Set when an option took the text and not the type: then it is printed as text, too. Shared by all clones.
    pub wanted_as_text: Arc<AtomicBool>,
    /// How it was written: `${env:PORT}`. Empty for `--set`.
    pub written: String,
    /// The parts of `text` that were substituted.
    pub parts: Vec<String>,
    /// Whether any part is the content of a file.
    pub from_file: bool,
}

/// Keys and values in the order in which they were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(pub Vec<Entry>);

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key, unquoted.
    pub key: String,
    /// Where the key was written.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

impl Table {
    /// The entry of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// The entry of a key, to change.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.key == key)
    }
}

impl Node {
    /// A node.
    pub(crate) fn new(value: Value, span: Span) -> Self {
        Self { value, span }
    }

    /// Whether anything was written that was not found to be wrong.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.value, Value::Hole | Value::Stand(_))
    }

    /// The table in this node, if it is one.
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            Value::Given(given) => match given.typed.as_deref() {
                Some(Value::Table(table)) => Some(table),
                _ => None,
            },
            _ => None,
        }
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Table(table), Step::Key(key)) => Some(&table.get(key)?.node),
            (Value::List(items), Step::Index(at)) => items.get(*at),
            _ => None,
        }
    }

    /// The node at a path below this one.
    pub(crate) fn at(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| node.child(step))
    }

    /// The node at a path below this one, to change.
    pub(crate) fn at_mut(&mut self, path: &[Step]) -> Option<&mut Self> {
        path.iter()
            .try_fold(self, |node, step| match (&mut node.value, step) {
                (Value::Table(table), Step::Key(key)) => Some(&mut table.get_mut(key)?.node),
                (Value::List(items), Step::Index(at)) => items.get_mut(*at),
                _ => None,
            })
    }

    /// Where the key at a path was written, or the value where it has no key; the deepest that is there.
    pub(crate) fn key_span(&self, path: &[Step]) -> Span {
        self.deepest(path, |entry| entry.key_span)
    }

    /// Where the value at a path was written; the deepest that is there. A table is where its key is.
    pub(crate) fn value_span(&self, path: &[Step]) -> Span {
        self.deepest(path, |entry| match entry.node.value {
            Value::Table(_) => entry.key_span,
            _ => entry.node.span,
        })
    }

    fn deepest(&self, path: &[Step], of_entry: impl Fn(&Entry) -> Span) -> Span {
        let mut node = self;
        let mut span = self.span;
        for step in path {
            match (&node.value, step) {
                (Value::Table(table), Step::Key(key)) => {
                    let Some(entry) = table.get(key) else { break };
                    span = of_entry(entry);
                    node = &entry.node;
                }
                (Value::List(items), Step::Index(at)) => {
                    let Some(item) = items.get(*at) else { break };
                    span = item.span;
                    node = item;
                }
                _ => break,
            }
        }
        span
    }
}

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a table.
    Key(String),
    /// Into an array.
    Index(usize),
}

/// A way down the tree from its root. Displays as TOML writes it: `exporters."clickhouse/archive".endpoints[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyPath(pub Vec<Step>);

impl KeyPath {
    /// The path of keys.
    pub(crate) fn of(keys: &[&str]) -> Self {
        Self(
            keys.iter()
                .map(|key| Step::Key((*key).to_owned()))
                .collect(),
        )
    }

    /// This path and then a key.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.join(&[Step::Key(key.to_owned())])
    }

    /// This path and then others.
    pub(crate) fn join(&self, steps: &[Step]) -> Self {
        let mut joined = self.0.clone();
        joined.extend_from_slice(steps);
        Self(joined)
    }

    /// Reads a dotted path. A part may be quoted; `[0]` and a part of digits only is an index where the tree has an
    /// array. Never fails: what cannot be read as quoted is taken as it is.
    pub(crate) fn parse(text: &str, root: &Node) -> Self {
        let mut path = Self::default();
        let mut node = Some(root);
        for part in split_dotted(text) {
            let index = part.parse().ok().map(Step::Index);
            let step = match node.map(|node| &node.value) {
                Some(Value::List(_)) => index.unwrap_or(Step::Key(part)),
                _ => Step::Key(part),
            };
            node = node.and_then(|node| node.child(&step));
            path.0.push(step);
        }
        path
    }
}

/// Splits `a."b.c".d[0]` into `a`, `b.c`, `d`, `0`.
pub(crate) fn split_dotted(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '.') => parts.push(std::mem::take(&mut part)),
            (None, '[') if !part.is_empty() => parts.push(std::mem::take(&mut part)),
            (None, ']') => {}
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(at) => write!(f, "[{at}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(&quoted(key))?;
                }
            }
        }
        Ok(())
    }
}

/// A key as TOML writes it.
pub(crate) fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        return key.to_owned();
    }
    format!("{key:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_paths_split_at_dots_outside_quotes() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split_dotted(text), expected);
        check("a.b", &["a", "b"]);
        check("a.\"b.c/d\".e", &["a", "b.c/d", "e"]);
        check(
            "exporters.clickhouse/archive.ttl",
            &["exporters", "clickhouse/archive", "ttl"],
        );
        check("a[0].b", &["a", "0", "b"]);
        check("", &[""]);
    }

    #[test]
    fn paths_are_written_as_toml_writes_them() {
        let path = KeyPath::of(&["exporters", "file/a b", "paths"]).join(&[Step::Index(2)]);
        assert_eq!(path.to_string(), "exporters.\"file/a b\".paths[2]");
        assert_eq!(KeyPath::default().to_string(), "");
    }
}

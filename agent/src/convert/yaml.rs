//! From YAML to a tree in which every entry knows its line and the comments beside it.
//!
//! Aliases and merge keys are resolved. Everything is bounded: bytes, depth, and what aliases expand to.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::ConvertError;
use super::comments::{Comment, Remarks, comments};

/// The most bytes of a document.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// The deepest nesting, as in a TOML configuration: trees of such depth are walked by recursion.
const DEPTH_MAX: usize = 64;
/// The most nodes, those that aliases repeat included: a configuration of a hundred pipelines has a
/// few thousand, and some steps compare them with each other.
const NODES_MAX: usize = 20_000;
/// The most bytes of text in all nodes.
const TEXT_MAX: usize = 4 * BYTES_MAX;

/// A place in the document, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct At {
    pub line: usize,
    pub column: usize,
}

impl From<Span> for At {
    fn from(span: Span) -> Self {
        Self {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub value: Value,
    pub at: At,
    /// The last line it stands on.
    pub last_line: usize,
    pub remarks: Remarks,
}

/// What a value can be.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text, or what reads as something else where it stands without quotes.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub at: At,
    pub node: Node,
    pub remarks: Remarks,
}

/// What a scalar without quotes reads as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text,
}

/// The first document of a stream.
#[derive(Debug)]
pub(super) struct Document {
    pub root: Node,
    /// Comments behind everything.
    pub foot: Vec<String>,
    /// Where further documents begin.
    pub further: Vec<At>,
}

impl Node {
    /// The entries of a mapping.
    pub(super) fn table(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.table()?.iter().find(|entry| entry.key == key)?;
        Some(&entry.node)
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether nothing stands there.
    pub(super) fn is_null(&self) -> bool {
        self.plain() == Some(Plain::Null)
    }

    /// What a scalar reads as.
    pub(super) fn plain(&self) -> Option<Plain> {
        match &self.value {
            Value::Scalar { text, plain: true } => Some(read(text)),
            Value::Scalar { .. } => Some(Plain::Text),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        let below = match &self.value {
            Value::Scalar { .. } => None,
            Value::List(items) => items.iter().map(Self::depth).max(),
            Value::Table(entries) => entries.iter().map(|entry| entry.node.depth()).max(),
        };
        1 + below.unwrap_or(0)
    }

    /// Nodes and bytes of text.
    fn size(&self) -> (usize, usize) {
        let add = |(a, b): (usize, usize), (c, d): (usize, usize)| (a + c, b + d);
        match &self.value {
            Value::Scalar { text, .. } => (1, text.len()),
            Value::List(items) => items.iter().map(Self::size).fold((1, 0), add),
            Value::Table(entries) => entries
                .iter()
                .map(|entry| add(entry.node.size(), (0, entry.key.len())))
                .fold((1, 0), add),
        }
    }
}

/// The core schema of YAML 1.2.
fn read(text: &str) -> Plain {
    let integer = |text: &str, prefix: &str, radix| {
        let digits = text.strip_prefix(prefix)?;
        i64::from_str_radix(digits, radix).ok()
    };
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let number = text.trim_start_matches(['+', '-']);
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    if let Some(number) = integer(text, "0x", 16).or_else(|| integer(text, "0o", 8)) {
        return Plain::Integer(number);
    }
    if let Ok(number) = text.parse() {
        return Plain::Integer(number);
    }
    match text.parse() {
        Ok(number) => Plain::Float(number),
        Err(_) => Plain::Text,
    }
}

/// Reads a stream of documents and gives the first.
pub(super) fn parse(text: &str) -> Result<Document, ConvertError> {
    if text.len() > BYTES_MAX {
        let problem = format!("is larger than {} MiB", BYTES_MAX >> 20);
        return Err(ConvertError::at(At::default(), problem));
    }
    let events = events(text)?;
    let mut builder = Builder::new(comments(text, scalars(&events)));
    for (event, span) in events {
        builder.event(event, span)?;
    }
    builder.finish()
}

/// The places of scalars, in characters.
fn scalars(events: &[(Event<'_>, Span)]) -> impl Iterator<Item = (usize, usize)> {
    let scalars = events
        .iter()
        .filter(|(event, _)| matches!(event, Event::Scalar(..)));
    scalars.map(|(_, span)| (span.start.index(), span.end.index()))
}

/// The comments of a document, for tests.
#[cfg(test)]
pub(super) fn comments_of(text: &str) -> Result<BTreeMap<usize, Comment>, ConvertError> {
    let events = events(text)?;
    Ok(comments(text, scalars(&events)))
}

fn events(text: &str) -> Result<Vec<(Event<'_>, Span)>, ConvertError> {
    let chars: Vec<char> = text.chars().collect();
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, mut span) = event.map_err(|error| {
            let mark = *error.marker();
            let at = At::from(Span::new(mark, mark));
            ConvertError::at(at, format!("is not YAML: {}", error.info()))
        })?;
        if events.len() > 4 * NODES_MAX {
            return Err(ConvertError::at(span.into(), too_much()));
        }
        if let Event::Scalar(_, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..) = event {
            span.end = closing_quote(&chars, span.start);
        }
        events.push((event, span));
    }
    Ok(events)
}

/// The place behind the quote that closes the one at `start`: the parser's own end is behind what follows it.
fn closing_quote(chars: &[char], start: Marker) -> Marker {
    let (mut line, mut column) = (start.line(), start.col());
    let rest = chars.get(start.index()..).unwrap_or_default();
    let Some(quote) = rest.first() else {
        return start;
    };
    let mut escaped = false;
    for (at, c) in rest.iter().enumerate().skip(1) {
        match c {
            '\n' => (line, column) = (line + 1, 0),
            _ => column += 1,
        }
        if c == quote && !escaped {
            let doubled = *quote == '\'' && rest.get(at + 1) == Some(quote);
            if !doubled {
                return Marker::new(start.index() + at + 1, line, column + 1);
            }
            escaped = true;
            continue;
        }
        escaped = *c == '\\' && *quote == '"' && !escaped;
    }
    start
}

fn too_much() -> String {
    format!("holds more than {NODES_MAX} values, or aliases that expand to as much")
}

/// What is being read: a sequence or mapping that has begun.
struct Open {
    at: At,
    anchor: usize,
    remarks: Remarks,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Table {
        entries: Vec<Entry>,
        /// The keys so far.
        seen: BTreeSet<String>,
        /// The key whose value comes next.
        key: Option<(String, At, Remarks)>,
    },
}

struct Builder {
    comments: BTreeMap<usize, Comment>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    further: Vec<At>,
    documents: usize,
    nodes: usize,
    text: usize,
}

impl Builder {
    fn new(comments: BTreeMap<usize, Comment>) -> Self {
        Self {
            comments,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
            further: Vec::new(),
            documents: 0,
            nodes: 0,
            text: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), ConvertError> {
        if matches!(event, Event::DocumentStart(_)) {
            self.documents += 1;
            if self.documents > 1 {
                self.further.push(span.into());
            }
        }
        if self.documents > 1 {
            return Ok(());
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !tag.as_deref().is_some_and(is_text);
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain,
                };
                self.leaf(value, span, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Content::List(Vec::new()), span, anchor),
            Event::MappingStart(anchor, _) => {
                let content = Content::Table {
                    entries: Vec::new(),
                    seen: BTreeSet::new(),
                    key: None,
                };
                self.begin(content, span, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => Ok(()),
        }
    }

    /// Counts what was read, or repeated by an alias.
    fn count(&mut self, at: At, (nodes, text): (usize, usize)) -> Result<(), ConvertError> {
        self.nodes += nodes;
        self.text += text;
        if self.nodes > NODES_MAX || self.text > TEXT_MAX {
            return Err(ConvertError::at(at, too_much()));
        }
        Ok(())
    }

    fn leaf(&mut self, value: Value, span: Span, anchor: usize) -> Result<(), ConvertError> {
        let remarks = self.item_remarks(span.into());
        let node = Node {
            value,
            at: span.into(),
            last_line: last_line(span),
            remarks,
        };
        self.count(node.at, node.size())?;
        self.place(node, anchor)
    }

    fn begin(&mut self, content: Content, span: Span, anchor: usize) -> Result<(), ConvertError> {
        let at = At::from(span);
        if self.open.len() >= DEPTH_MAX {
            let problem = format!("is nested deeper than {DEPTH_MAX} levels");
            return Err(ConvertError::at(at, problem));
        }
        self.count(at, (1, 0))?;
        // A comment behind the key is about the whole.
        if let Some(Open {
            content:
                Content::Table {
                    key: Some((_, at, remarks)),
                    ..
                },
            ..
        }) = self.open.last_mut()
        {
            remarks.aside = take_aside(&mut self.comments, at.line);
        }
        let remarks = self.item_remarks(at);
        self.open.push(Open {
            at,
            anchor,
            remarks,
            content,
        });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), ConvertError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Table { entries, .. } => Value::Table(merge_keys(entries)?),
        };
        let inside = match &value {
            Value::List(items) => items.last().map(|item| item.last_line),
            Value::Table(entries) => entries.iter().map(|entry| entry.node.last_line).max(),
            Value::Scalar { .. } => None,
        };
        // A block ends where the next thing begins; brackets end where they close.
        let in_brackets = span.end.index() > span.start.index();
        let last_line = match in_brackets {
            true => span.end.line(),
            false => inside.unwrap_or(open.at.line),
        };
        let node = Node {
            value,
            at: open.at,
            last_line: last_line.max(open.at.line),
            remarks: open.remarks,
        };
        self.place(node, open.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), ConvertError> {
        let at = At::from(span);
        let Some(node) = self.anchors.get(&anchor) else {
            let problem = "is an alias of something that it is a part of".to_owned();
            return Err(ConvertError::at(at, problem));
        };
        let mut node = node.clone();
        if self.open.len() + node.depth() > DEPTH_MAX {
            let problem = format!("is nested deeper than {DEPTH_MAX} levels");
            return Err(ConvertError::at(at, problem));
        }
        self.count(at, node.size())?;
        node.remarks = self.item_remarks(at);
        self.place(node, 0)
    }

    /// The remarks on something in a sequence.
    fn item_remarks(&mut self, at: At) -> Remarks {
        match self.open.last() {
            Some(Open {
                content: Content::List(_),
                ..
            }) => self.remarks_above(at),
            _ => Remarks::default(),
        }
    }

    /// The comments before `at`. Those that are indented deeper belong to what was read before.
    fn remarks_above(&mut self, at: At) -> Remarks {
        let later = self.comments.split_off(&at.line);
        let before = std::mem::replace(&mut self.comments, later);
        let (inner, above): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|(_, comment)| comment.column > at.column);
        let mut remarks = Remarks {
            above: paragraphs(above),
            ..Remarks::default()
        };
        let inner = paragraphs(inner);
        if !inner.is_empty() {
            match self.last_entry() {
                Some(entry) => entry.below.extend(inner),
                None => remarks.above.splice(0..0, inner).for_each(drop),
            }
        }
        remarks
    }

    /// The remarks on the entry that was read last.
    fn last_entry(&mut self) -> Option<&mut Remarks> {
        let open = self.open.last_mut()?;
        let entries = match &mut open.content {
            Content::Table { entries, .. } => entries,
            Content::List(_) => return None,
        };
        let mut entry = entries.last_mut()?;
        loop {
            let deeper = matches!(&entry.node.value, Value::Table(inner) if !inner.is_empty());
            if !deeper {
                return Some(&mut entry.remarks);
            }
            let Value::Table(inner) = &mut entry.node.value else {
                return None;
            };
            entry = inner.last_mut()?;
        }
    }

    /// Puts a finished value where it belongs: a key, a value, an item, or the whole document.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), ConvertError> {
        if anchor != 0 {
            self.count(node.at, node.size())?;
            self.anchors.insert(anchor, node.clone());
        }
        let waits_for_key = matches!(
            self.open.last(),
            Some(Open {
                content: Content::Table { key: None, .. },
                ..
            })
        );
        if waits_for_key {
            return self.place_key(node);
        }
        let aside = take_aside(&mut self.comments, node.last_line);
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => {
                let mut node = node;
                node.remarks.aside = aside;
                items.push(node);
            }
            Some(Content::Table { entries, key, .. }) => {
                let Some((key, at, mut remarks)) = key.take() else {
                    return Ok(());
                };
                remarks.aside = remarks.aside.or(aside);
                entries.push(Entry {
                    key,
                    at,
                    node,
                    remarks,
                });
            }
        }
        Ok(())
    }

    fn place_key(&mut self, node: Node) -> Result<(), ConvertError> {
        let at = node.at;
        let Value::Scalar { text, .. } = node.value else {
            let problem = "is a key that is not text".to_owned();
            return Err(ConvertError::at(at, problem));
        };
        let remarks = self.remarks_above(at);
        let Some(Open {
            content: Content::Table { seen, key, .. },
            ..
        }) = self.open.last_mut()
        else {
            return Ok(());
        };
        if text != MERGE && !seen.insert(text.clone()) {
            return Err(ConvertError::at(at, format!("is a second `{text}`")));
        }
        *key = Some((text, at, remarks));
        Ok(())
    }

    fn finish(self) -> Result<Document, ConvertError> {
        let Some(root) = self.root else {
            let problem = "is empty: there is nothing to convert".to_owned();
            return Err(ConvertError::at(At::default(), problem));
        };
        Ok(Document {
            root,
            foot: self
                .comments
                .into_values()
                .map(|comment| comment.text)
                .collect(),
            further: self.further,
        })
    }
}

/// Comments with their lines, and an empty line wherever there was something between them.
fn paragraphs(comments: impl IntoIterator<Item = (usize, Comment)>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before = None;
    for (line, comment) in comments {
        if before.is_some_and(|before| before + 1 < line) {
            lines.push(String::new());
        }
        before = Some(line);
        lines.push(comment.text);
    }
    lines
}

/// The comment that stands behind something on `line`.
fn take_aside(comments: &mut BTreeMap<usize, Comment>, line: usize) -> Option<String> {
    let comment = comments.get(&line)?;
    if comment.alone {
        return None;
    }
    comments.remove(&line).map(|comment| comment.text)
}

/// The last line of a scalar; a block scalar ends at the beginning of the next line.
fn last_line(span: Span) -> usize {
    match span.end.col() {
        0 if span.end.line() > span.start.line() => span.end.line() - 1,
        _ => span.end.line(),
    }
}

fn is_text(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str"
}

const MERGE: &str = "<<";

/// Puts in what `<<` names. Keys that are written win; of several mappings, the first one does.
fn merge_keys(entries: Vec<Entry>) -> Result<Vec<Entry>, ConvertError> {
    if !entries.iter().any(|entry| entry.key == MERGE) {
        return Ok(entries);
    }
    let (merges, mut merged): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.key == MERGE);
    let mut seen: BTreeSet<String> = merged.iter().map(|entry| entry.key.clone()).collect();
    for merge in merges {
        let sources = match merge.node.value {
            Value::Table(entries) => vec![entries],
            Value::List(items) => {
                let tables = items.into_iter().map(|item| match item.value {
                    Value::Table(entries) => Ok(entries),
                    _ => Err(no_mapping(item.at)),
                });
                tables.collect::<Result<_, _>>()?
            }
            Value::Scalar { .. } => return Err(no_mapping(merge.node.at)),
        };
        for entry in sources.into_iter().flatten() {
            if seen.insert(entry.key.clone()) {
                merged.push(entry);
            }
        }
    }
    Ok(merged)
}

fn no_mapping(at: At) -> ConvertError {
    ConvertError::at(at, "`<<` merges mappings, and this is none".to_owned())
}

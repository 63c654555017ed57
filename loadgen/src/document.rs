//! TOML whose every key is asked for, and that remembers what was wrong with it and where.

mod set;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Where something is written. Ordered as in the text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    /// From 1; 0 is nowhere.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// The path of the key: `scenario[0].rate`.
    pub(crate) key: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            file,
            line,
            column,
            key,
        } = self;
        write!(out, "{file}:{line}:{column}: {key}")
    }
}

/// A text and where it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// Something wrong. Displays as `file:line:column: key: what; help`.
/// Ordered by place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place {
            file, line, column, ..
        } = &self.place;
        write!(out, "{file}:{line}:{column}: ")?;
        if !self.place.key.is_empty() {
            write!(out, "{}: ", self.place.key)?;
        }
        out.write_str(&self.message)
    }
}

/// A text and what is wrong with it so far.
#[derive(Debug)]
pub(crate) struct Document {
    file: Piece,
    /// `--set KEY.PATH=VALUE`, in place of what the file says.
    settings: Vec<Piece>,
    /// What is no TOML.
    syntax: RefCell<Vec<Mistake>>,
    mistakes: RefCell<Vec<Mistake>>,
}

/// A part of a document, with a name of its own. Spans count on from one to the next, so that each has its place.
#[derive(Debug)]
struct Piece {
    name: Arc<str>,
    text: String,
    begins: usize,
    /// Where each line begins, in the text.
    lines: Vec<usize>,
}

impl Piece {
    fn new(name: &str, text: String, begins: usize) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            name: name.into(),
            lines: std::iter::once(0).chain(newlines).collect(),
            text,
            begins,
        }
    }

    /// Where the next one begins.
    fn end(&self) -> usize {
        // What is missing at the end is there, too.
        self.begins + self.text.len() + 1
    }

    /// What is written in the document's `span`, in the text's.
    fn span(&self, span: &Range<usize>) -> Range<usize> {
        self.begins + span.start..self.begins + span.end
    }
}

impl Document {
    pub(crate) fn new(file: &str, source: String) -> Rc<Self> {
        Self::with_settings(file, source, &[])
    }

    /// With `KEY.PATH=VALUE` on top, each in its turn.
    pub(crate) fn with_settings(file: &str, source: String, settings: &[String]) -> Rc<Self> {
        let file = Piece::new(file, source, 0);
        let mut begins = file.end();
        let setting = |text: &String| {
            let key = text.split('=').next().unwrap_or_default().trim();
            let piece = Piece::new(&format!("--set {key}"), text.clone(), begins);
            begins = piece.end();
            piece
        };
        Rc::new(Self {
            settings: settings.iter().map(setting).collect(),
            file,
            syntax: RefCell::default(),
            mistakes: RefCell::default(),
        })
    }

    /// The whole document as a table. What is no TOML is a mistake, and the table has the rest.
    pub(crate) fn root(self: &Rc<Self>) -> Table {
        Table::new(Rc::clone(self), self.branches(), 0..0, "")
    }

    fn branches(&self) -> Vec<Branch> {
        let (table, errors) = DeTable::parse_recoverable(&self.file.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.syntax.borrow_mut().push(Mistake {
                place: self.place(&span, ""),
                message: error.message().to_owned(),
            });
        }
        let mut branches = branches(&self.file, table.into_inner());
        for setting in &self.settings {
            if let Err(problem) = set::apply(&mut branches, setting) {
                let place = self.place(&(setting.begins..setting.begins), "");
                self.wrong(place, problem);
            }
        }
        branches
    }

    /// The TOML that is read: the file with its settings, without comments.
    pub(crate) fn rendered(&self) -> String {
        toml::to_string_pretty(&set::Rendered(&self.branches()))
            .expect("what was read as TOML can be written as TOML")
    }

    pub(crate) fn wrong(&self, place: Place, message: String) {
        self.mistakes.borrow_mut().push(Mistake { place, message });
    }

    /// Everything that was wrong, in the order of the text. Where that is no TOML, only that: what follows from it says little.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let syntax = self.syntax.take();
        let mut mistakes = match syntax.is_empty() {
            true => self.mistakes.take(),
            false => syntax,
        };
        mistakes.sort();
        mistakes.dedup();
        mistakes
    }

    fn place(&self, span: &Range<usize>, key: &str) -> Place {
        let later = self.settings.iter().rev();
        let piece = later.chain([&self.file]).find(|it| it.begins <= span.start);
        let piece = piece.unwrap_or(&self.file);
        let at = span.start - piece.begins;
        let line = piece.lines.partition_point(|start| *start <= at);
        let start = piece.lines.get(line.saturating_sub(1)).copied();
        let before = piece.text.get(start.unwrap_or(0)..at);
        Place {
            file: Arc::clone(&piece.name),
            line,
            column: before.unwrap_or("").chars().count() + 1,
            key: key.to_owned(),
        }
    }
}

/// A table of which keys are taken one by one.
#[derive(Debug)]
pub(crate) struct Table {
    document: Rc<Document>,
    entries: Vec<Entry>,
    /// What was asked for so far.
    asked: Vec<&'static str>,
    pub(crate) place: Place,
}

/// A value of TOML, with nothing borrowed from the text.
#[derive(Debug)]
enum Tree {
    Text(String),
    /// As it was written, without `_`.
    Number(String),
    Bool(bool),
    List(Vec<(Range<usize>, Tree)>),
    Table(Range<usize>, Vec<Branch>),
    Other,
}

#[derive(Debug)]
struct Branch {
    key: String,
    key_span: Range<usize>,
    span: Range<usize>,
    value: Tree,
}

#[derive(Debug)]
struct Entry {
    key: String,
    key_place: Place,
    item: Item,
}

/// A value and where it was written.
#[derive(Debug)]
pub(crate) struct Item {
    value: Tree,
    pub(crate) place: Place,
    document: Rc<Document>,
}

impl Table {
    fn new(document: Rc<Document>, branches: Vec<Branch>, span: Range<usize>, path: &str) -> Self {
        let entry = |branch: Branch| {
            let path = match path {
                "" => branch.key.clone(),
                path => format!("{path}.{}", branch.key),
            };
            Entry {
                key: branch.key,
                key_place: document.place(&branch.key_span, &path),
                item: Item {
                    value: branch.value,
                    place: document.place(&branch.span, &path),
                    document: Rc::clone(&document),
                },
            }
        };
        Self {
            entries: branches.into_iter().map(entry).collect(),
            place: document.place(&span, path),
            document,
            asked: Vec::new(),
        }
    }

    pub(crate) fn wrong(&self, place: &Place, message: impl Into<String>) {
        self.document.wrong(place.clone(), message.into());
    }

    /// Takes a value out.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Item> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at).item)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Option<Text> {
        self.take(key)?.text()
    }

    /// One that must be there.
    pub(crate) fn need(&mut self, key: &'static str) -> Text {
        if !self.has(key) {
            self.missing(key);
        }
        self.text(key).unwrap_or_default()
    }

    pub(crate) fn missing(&self, key: &'static str) {
        let place = self.place.clone();
        self.wrong(&place, format!("`{key}` is missing"));
    }

    /// One text or a list of them.
    pub(crate) fn texts(&mut self, key: &'static str) -> Vec<Text> {
        self.take(key).map(Item::texts).unwrap_or_default()
    }

    pub(crate) fn strings(&mut self, key: &'static str) -> Vec<String> {
        self.texts(key).into_iter().map(|text| text.text).collect()
    }

    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(item) = self.take(key) else {
            return default;
        };
        match &item.value {
            Tree::Bool(value) => *value,
            _ => {
                item.wrong("true or false is expected");
                default
            }
        }
    }

    pub(crate) fn integers(&mut self, key: &'static str) -> Vec<i64> {
        let mut numbers = Vec::new();
        for text in self.texts(key) {
            match text.text.parse() {
                Ok(number) => numbers.push(number),
                Err(_) => self.wrong(&text.place, "whole numbers are expected"),
            }
        }
        numbers
    }

    pub(crate) fn table(&mut self, key: &'static str) -> Option<Self> {
        self.take(key)?.table()
    }

    /// A list of tables; one alone is a list of one.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        self.take(key).map(Item::tables).unwrap_or_default()
    }

    /// Everything in it, whatever the keys.
    pub(crate) fn rest(mut self) -> Vec<(String, Place, Item)> {
        let entries = std::mem::take(&mut self.entries).into_iter();
        entries
            .map(|entry| (entry.key, entry.key_place, entry.item))
            .collect()
    }

    /// What nobody asked for is a mistake.
    pub(crate) fn finish(self) {
        for entry in &self.entries {
            let near = nearest(&entry.key, self.asked.iter().copied());
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", self.asked.join(", ")),
            };
            self.wrong(&entry.key_place, format!("unknown key; {help}"));
        }
    }
}

impl Item {
    pub(crate) fn wrong(&self, message: impl Into<String>) {
        self.document.wrong(self.place.clone(), message.into());
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, Tree::Table(..))
    }

    /// Text, or a number or boolean as text.
    pub(crate) fn text(self) -> Option<Text> {
        let text = match &self.value {
            Tree::Text(text) | Tree::Number(text) => text.clone(),
            Tree::Bool(value) => value.to_string(),
            Tree::List(_) | Tree::Table(..) | Tree::Other => {
                self.wrong("text is expected");
                return None;
            }
        };
        Some(Text {
            text,
            place: self.place,
        })
    }

    pub(crate) fn texts(self) -> Vec<Text> {
        self.each().filter_map(Self::text).collect()
    }

    pub(crate) fn table(self) -> Option<Table> {
        match self.value {
            Tree::Table(span, branches) => {
                Some(Table::new(self.document, branches, span, &self.place.key))
            }
            _ => {
                self.wrong("a table is expected");
                None
            }
        }
    }

    pub(crate) fn tables(self) -> Vec<Table> {
        self.each().filter_map(Self::table).collect()
    }

    /// The text, if it is one.
    pub(crate) fn peek(&self) -> Option<&str> {
        match &self.value {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a whole one.
    pub(crate) fn integer(&self) -> Option<i64> {
        match &self.value {
            Tree::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, Tree::List(_))
    }

    /// What the value is in JSON; a time of day is a mistake.
    pub(crate) fn json(self) -> Option<Value> {
        match &self.value {
            Tree::Text(text) => Some(Value::from(text.clone())),
            Tree::Bool(value) => Some(Value::from(*value)),
            Tree::Number(text) => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(number), _) => Some(Value::from(number)),
                (_, Ok(number)) => Some(Value::from(number)),
                _ => {
                    self.wrong("a decimal number is expected");
                    None
                }
            },
            Tree::List(_) => Some(self.each().filter_map(Self::json).collect()),
            Tree::Table(..) => {
                let entries = self.table()?.rest().into_iter();
                let fields = entries.filter_map(|(key, _, item)| Some((key, item.json()?)));
                Some(Value::Object(fields.collect()))
            }
            Tree::Other => {
                self.wrong("put it in quotes: JSON has no times");
                None
            }
        }
    }

    /// The items of a list.
    pub(crate) fn items(self) -> Vec<Self> {
        self.each().collect()
    }

    /// The items of a list; anything else is a list of one.
    fn each(self) -> impl Iterator<Item = Self> {
        let (document, key) = (Rc::clone(&self.document), self.place.key.clone());
        let (items, only) = match self.value {
            Tree::List(items) => (items, None),
            value => (Vec::new(), Some(Self { value, ..self })),
        };
        let item = move |(at, (span, value)): (usize, (Range<usize>, Tree))| Self {
            value,
            place: document.place(&span, &format!("{key}[{at}]")),
            document: Rc::clone(&document),
        };
        only.into_iter()
            .chain(items.into_iter().enumerate().map(item))
    }
}

fn branches(piece: &Piece, table: DeTable<'_>) -> Vec<Branch> {
    let branch = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| Branch {
        key_span: piece.span(&key.span()),
        key: key.into_inner().into_owned(),
        span: piece.span(&value.span()),
        value: tree(piece, value),
    };
    let mut branches: Vec<_> = table.into_iter().map(branch).collect();
    branches.sort_by_key(|branch| branch.key_span.start);
    branches
}

fn tree(piece: &Piece, value: Spanned<DeValue<'_>>) -> Tree {
    let span = value.span();
    match value.into_inner() {
        DeValue::String(text) => Tree::Text(text.into_owned()),
        DeValue::Integer(_) | DeValue::Float(_) => {
            let written = piece.text.get(span).unwrap_or("");
            Tree::Number(written.trim().replace('_', ""))
        }
        DeValue::Boolean(value) => Tree::Bool(value),
        DeValue::Datetime(_) => Tree::Other,
        DeValue::Array(items) => Tree::List(
            items
                .into_iter()
                .map(|item| (piece.span(&item.span()), tree(piece, item)))
                .collect(),
        ),
        DeValue::Table(table) => Tree::Table(piece.span(&span), branches(piece, table)),
    }
}

/// The known name that is most like what was written, if any is.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Two names less alike than this have nothing to do with each other.
    const ALIKE: f64 = 0.75;
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(written, name), name))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_place_and_key() {
        let source = "name = 'a'\nnmae = 'b'\n[[part]]\nother = 1\nsize = [1, 'x']\nlist = 7\n";
        let document = Document::new("f.toml", source.to_owned());
        let mut root = document.root();
        assert_eq!(root.need("name").text, "a");
        for mut part in root.tables("part") {
            part.need("id");
            assert_eq!(part.integers("size"), [1]);
            assert!(part.table("list").is_none());
            part.finish();
        }
        root.finish();
        let mistakes: Vec<_> = document
            .mistakes()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            mistakes,
            [
                "f.toml:2:1: nmae: unknown key; did you mean `name`?",
                "f.toml:3:1: part[0]: `id` is missing",
                "f.toml:4:1: part[0].other: unknown key; there are id, size, list",
                "f.toml:5:12: part[0].size[1]: whole numbers are expected",
                "f.toml:6:8: part[0].list: a table is expected",
            ]
        );
    }

    #[test]
    fn what_is_no_toml_is_a_mistake_and_the_rest_is_read() {
        let document = Document::new("f", "a =\nb = 2\n".to_owned());
        let mut root = document.root();
        assert_eq!(root.integers("b"), [2]);
        let mistakes = document.mistakes();
        assert_eq!(
            (mistakes.len(), mistakes[0].place.line),
            (1, 1),
            "{mistakes:?}"
        );
    }

    #[test]
    fn values_are_what_they_are_in_json() {
        let source = "v = { a = [1, 2.5, true], b = 'x' }";
        let item = Document::new("f", source.to_owned()).root().take("v");
        let expected = serde_json::json!({ "a": [1, 2.5, true], "b": "x" });
        assert_eq!(item.unwrap().json(), Some(expected));
    }
}

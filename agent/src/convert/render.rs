//! From a draft to TOML text.

use super::comments::Remarks;
use super::draft::{Element, Item, State, Table, Value};

/// What a converted document begins and ends with, and the YAML that comments quote.
pub(super) struct Frame<'a> {
    pub head: Vec<String>,
    pub foot: &'a [String],
    /// The lines of the YAML document.
    pub source: Vec<&'a str>,
}

/// The most lines that a comment quotes of what was left out; the rest is in the YAML document.
const QUOTED_LINES_MAX: usize = 200;
/// The most characters of each.
const QUOTED_CHARS_MAX: usize = 400;
/// The longest list on one line.
const LIST_WIDTH_MAX: usize = 90;

/// The text of a document.
pub(super) fn render(draft: &Table, frame: &Frame<'_>) -> String {
    let mut writer = Writer {
        out: String::new(),
        source: &frame.source,
        waiting: Vec::new(),
    };
    for line in &frame.head {
        writer.line(line);
    }
    writer.table(&[], draft);
    writer.flush();
    if !frame.foot.is_empty() {
        writer.gap();
        writer.comments(frame.foot);
    }
    writer.out
}

/// The text of a scalar or list on one line.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::Scalar(value) => value.to_string(),
        Value::List(elements) => {
            let items: Vec<_> = elements
                .iter()
                .map(|element| inline(&element.value))
                .collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let items: Vec<_> = table
                .0
                .iter()
                .filter_map(|item| match &item.state {
                    State::On(value) => {
                        Some(format!("{} = {}", key_text(&item.key), inline(value)))
                    }
                    _ => None,
                })
                .collect();
            match items.is_empty() {
                true => "{}".to_owned(),
                false => format!("{{ {} }}", items.join(", ")),
            }
        }
    }
}

/// A key as TOML writes it.
pub(super) fn key_text(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(plain) {
        return key.to_owned();
    }
    // Of the ways to write text, a key can only have those on one line.
    let mut text = String::from("\"");
    for c in key.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => text += &format!("\\u{:04X}", u32::from(c)),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

struct Writer<'a> {
    out: String,
    source: &'a [&'a str],
    /// Comments about tables without a header of their own, for the next header.
    waiting: Vec<String>,
}

impl Writer<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// An empty line between what is there and what comes.
    fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.gap();
        for comment in std::mem::take(&mut self.waiting) {
            self.line(&comment);
        }
    }

    fn comments(&mut self, comments: &[String]) {
        for comment in comments {
            self.comment(comment);
        }
    }

    /// A comment; what a TOML comment cannot hold is left out of it.
    fn comment(&mut self, text: &str) {
        let text = clean(text);
        self.line(&text);
    }

    fn table(&mut self, path: &[&str], table: &Table) {
        let is_table = |item: &&Item| item.table().is_some();
        if !has_values(table) {
            // Nothing needs to stand first: the order stays.
            let apart = groups(path, table);
            for item in &table.0 {
                self.item(path, item, apart);
            }
            return;
        }
        for item in table.0.iter().filter(|item| !is_table(item)) {
            self.item(path, item, false);
        }
        for item in table.0.iter().filter(is_table) {
            self.item(path, item, false);
        }
    }

    /// One item, with an empty line before it where it stands `apart`.
    fn item(&mut self, path: &[&str], item: &Item, apart: bool) {
        if apart && item.table().is_none() {
            self.flush();
            self.gap();
        }
        match &item.state {
            State::On(Value::Table(table)) => self.sub_table(path, item, table),
            State::On(value) => self.value(item, value),
            State::Off(reason) => self.off(path, item, reason),
            State::Gone(reason) => {
                self.comments(&item.remarks.above);
                self.line(&remark(&format!("{}: {reason}", name(path, item))));
                self.comments(&item.remarks.below);
            }
        }
    }

    fn sub_table(&mut self, path: &[&str], item: &Item, table: &Table) {
        let path: Vec<&str> = path.iter().copied().chain([item.key.as_str()]).collect();
        let Remarks {
            above,
            aside,
            below,
        } = &item.remarks;
        let notes = item.notes.iter().map(|note| remark(note));
        self.waiting.extend(above.iter().map(|text| clean(text)));
        self.waiting.extend(notes);
        if groups(&path, table) {
            self.waiting.extend(aside.iter().map(|text| clean(text)));
        } else {
            self.gap();
            for comment in std::mem::take(&mut self.waiting) {
                self.line(&comment);
            }
            let keys: Vec<_> = path.iter().map(|key| key_text(key)).collect();
            let aside = aside
                .as_ref()
                .map_or_else(String::new, |text| format!(" {}", clean(text)));
            self.line(&format!("[{}]{aside}", keys.join(".")));
        }
        self.table(&path, table);
        self.comments(below);
    }

    fn value(&mut self, item: &Item, value: &Value) {
        self.comments(&item.remarks.above);
        for note in &item.notes {
            self.line(&remark(note));
        }
        let aside = item.remarks.aside.as_ref();
        let aside = aside.map_or_else(String::new, |text| format!(" {}", clean(text)));
        let key = key_text(&item.key);
        match value {
            Value::List(elements) if is_long(&key, elements) => {
                self.line(&format!("{key} = [{aside}"));
                for element in elements {
                    self.element(element);
                }
                self.line("]");
            }
            value => self.line(&format!("{key} = {}{aside}", inline(value))),
        }
        self.comments(&item.remarks.below);
    }

    fn element(&mut self, element: &Element) {
        for comment in &element.remarks.above {
            self.comment(&format!("  {comment}"));
        }
        let aside = element.remarks.aside.as_ref();
        let aside = aside.map_or_else(String::new, |text| format!(" {}", clean(text)));
        self.line(&format!("  {},{aside}", inline(&element.value)));
        for comment in &element.remarks.below {
            self.comment(&format!("  {comment}"));
        }
    }

    /// What is left out, as a comment: why, and what it was.
    fn off(&mut self, path: &[&str], item: &Item, reason: &str) {
        self.comments(&item.remarks.above);
        let what = name(path, item);
        self.line(&remark(&format!("not converted: {what}: {reason}")));
        let first = item.at.line.saturating_sub(1);
        let lines = self.source.get(first..item.last_line).unwrap_or_default();
        let indent = lines.iter().map(|line| indent_of(line)).min().unwrap_or(0);
        let quoted: Vec<String> = lines
            .iter()
            .take(QUOTED_LINES_MAX)
            .map(|line| {
                let line = line.get(indent..).unwrap_or_default();
                let line: String = line.chars().take(QUOTED_CHARS_MAX).collect();
                format!("#   {}", line.trim_end())
            })
            .collect();
        for line in quoted {
            self.comment(&line);
        }
        if lines.len() > QUOTED_LINES_MAX {
            self.line(&format!(
                "#   … {} more lines",
                lines.len() - QUOTED_LINES_MAX
            ));
        }
        self.comments(&item.remarks.below);
    }
}

fn has_values(table: &Table) -> bool {
    let is_value = |item: &Item| item.is_on() && item.table().is_none();
    table.0.iter().any(is_value)
}

/// Whether a table only groups others, so that it is there without a header; the tables of components always do.
fn groups(path: &[&str], table: &Table) -> bool {
    let has_tables = table.0.iter().any(|item| item.table().is_some());
    !has_values(table) && (has_tables || path.len() <= 1)
}

/// What a comment calls an item: by its whole path where no header stands before it.
fn name(path: &[&str], item: &Item) -> String {
    let keys = match path {
        [] | [_] | ["service", "pipelines"] => path,
        _ => &[],
    };
    let keys = keys.iter().copied().chain([item.key.as_str()]);
    keys.map(key_text).collect::<Vec<_>>().join(".")
}

fn is_long(key: &str, elements: &[Element]) -> bool {
    let width: usize = elements
        .iter()
        .map(|element| inline(&element.value).len() + 2)
        .sum();
    elements
        .iter()
        .any(|element| element.remarks != Remarks::default())
        || key.len() + width > LIST_WIDTH_MAX
}

/// Spaces before a line; an empty line has as many as any.
fn indent_of(line: &str) -> usize {
    match line.trim().is_empty() {
        true => usize::MAX,
        false => line.len() - line.trim_start_matches(' ').len(),
    }
}

fn remark(text: &str) -> String {
    clean(&format!("# tidegate: {text}"))
}

/// A comment on one line, without what TOML does not allow in one.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => c,
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

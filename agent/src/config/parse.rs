//! TOML text to a tree, with every syntax error that the text has.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::secret::mentions_secret;
use super::text::Span;
use super::tree::{Entry, Node, Table, Value};

/// A text that is not TOML: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Where.
    pub span: Span,
    /// Why, and what to write instead.
    pub message: String,
}

/// Reads a document. With errors, the table is what could be made of the rest.
pub(crate) fn document(text: usize, content: &str) -> (Table, Vec<SyntaxError>) {
    let read = || {
        let (table, errors) = DeTable::parse_recoverable(content);
        let mut reader = Reader::new(text);
        let table = reader.table(table.into_inner());
        let mut problems = reader.problems;
        problems.extend(
            errors
                .iter()
                .map(|error| syntax_error(text, content, error)),
        );
        (table, first_of_each_line(content, problems))
    };
    with_stack(content, read).unwrap_or_else(|problem| {
        let span = Span {
            text,
            ..Span::default()
        };
        let message = format!("cannot be parsed: {problem}");
        (Table::default(), vec![SyntaxError { span, message }])
    })
}

/// Reads one value, such as `5`, `"text"` or `[1, 2]`. Every place in it is `span`.
pub(crate) fn value(content: &str, span: Span) -> Option<Value> {
    let read = || {
        let value = DeValue::parse(content).ok()?;
        let mut reader = Reader::new(span.text);
        let node = reader.node(value);
        reader.problems.is_empty().then_some(node)
    };
    let mut node = with_stack(content, read).ok()??;
    set_spans(&mut node, span);
    Some(node.value)
}

/// How deep tables and arrays may be nested: far more than any option needs, and no danger to the stack.
pub(crate) const DEPTH_MAX: usize = 64;

/// Nesting that any thread's stack has room for in the parser, which allows thousands of levels.
const NESTING_HARMLESS: usize = 256;

/// Room for everything that the parser allows.
const STACK_BYTES: usize = 64 << 20;

/// Does `work` on `content`, on a stack of its own where the text might be nested deeply.
fn with_stack<T: Send>(content: &str, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    let nesting_max = content.matches(['.', '[', '{']).count();
    if nesting_max < NESTING_HARMLESS {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("config-parser".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn set_spans(node: &mut Node, span: Span) {
    node.span = span;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| set_spans(item, span)),
        Value::Table(table) => {
            for entry in &mut table.0 {
                entry.key_span = span;
                set_spans(&mut entry.node, span);
            }
        }
        _ => {}
    }
}

/// In order, one for each line: what follows on the same line is mostly a consequence.
fn first_of_each_line(content: &str, mut problems: Vec<SyntaxError>) -> Vec<SyntaxError> {
    problems.sort_by_key(|problem| problem.span);
    problems.dedup_by_key(|problem| line_start(content, problem.span.start));
    problems
}

fn line_start(content: &str, at: usize) -> usize {
    content
        .get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |newline| newline + 1)
}

fn syntax_error(text: usize, content: &str, error: &toml::de::Error) -> SyntaxError {
    let range = error.span().unwrap_or(0..0);
    let (before, rest) = content
        .split_at_checked(line_start(content, range.start))
        .unwrap_or_default();
    let line = rest.lines().next().unwrap_or("");
    SyntaxError {
        span: Span {
            text,
            start: range.start,
            end: range.end,
        },
        message: syntax_words(error.message(), before, line),
    }
}

/// The parser's message, with what the usual mistakes on a line ask for.
fn syntax_words(message: &str, before: &str, line: &str) -> String {
    let code = line.split('#').next().unwrap_or(line).trim();
    if let Some(header) = code
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        && header.contains('/')
        && !header.contains('"')
    {
        let parts: Vec<String> = header.split('.').map(super::tree::quoted).collect();
        return format!("a name with `/` goes in quotes: `[{}]`", parts.join("."));
    }
    if code.contains(':') && !code.contains('=') && !code.starts_with(['[', '"']) {
        return format!(
            "{message}; this looks like YAML: TOML writes `key = value`, and `[table]` for a block"
        );
    }
    if message.starts_with("string values must be quoted") {
        return match code.split_once('=').map(|(_, value)| value.trim()) {
            Some(_) if mentions_secret(before, code) => "text goes in quotes".to_owned(),
            Some("") => "there is no value after the `=`".to_owned(),
            Some(value) if !value.contains(['"', '\'', '[', '{']) || value.starts_with("${") => {
                format!("text goes in quotes: `\"{value}\"`")
            }
            _ => "text goes in quotes".to_owned(),
        };
    }
    message.to_owned()
}

/// Turns the parser's tree into ours.
struct Reader {
    text: usize,
    depth: usize,
    /// What the parser lets pass.
    problems: Vec<SyntaxError>,
}

impl Reader {
    fn new(text: usize) -> Self {
        Self {
            text,
            depth: 0,
            problems: Vec::new(),
        }
    }

    fn span<T>(&self, spanned: &Spanned<T>) -> Span {
        let range = spanned.span();
        Span {
            text: self.text,
            start: range.start,
            end: range.end,
        }
    }

    fn table(&mut self, table: DeTable<'_>) -> Table {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| Entry {
                key_span: self.span(&key),
                key: key.into_inner().into_owned(),
                node: self.node(value),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span);
        Table(entries)
    }

    fn list(&mut self, items: DeArray<'_>) -> Vec<Node> {
        items.into_iter().map(|item| self.node(item)).collect()
    }

    fn problem(&mut self, span: Span, message: String) -> Node {
        self.problems.push(SyntaxError { span, message });
        Node::new(Value::Hole, span)
    }

    /// Recurses at most [`DEPTH_MAX`] deep.
    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let span = self.span(&value);
        if self.depth == DEPTH_MAX {
            return self.problem(span, format!("nested more than {DEPTH_MAX} levels deep"));
        }
        self.depth += 1;
        let node = self.shallow(value.into_inner(), span);
        self.depth -= 1;
        node
    }

    fn shallow(&mut self, value: DeValue<'_>, span: Span) -> Node {
        let value = match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => return self.problem(span, format!("`{number}` is not a number")),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => return self.problem(span, format!("`{number}` is not a number")),
            },
            DeValue::Boolean(flag) => Value::Bool(flag),
            DeValue::Datetime(datetime) => Value::Datetime(datetime),
            DeValue::Array(items) => Value::List(self.list(items)),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node::new(value, span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, expected: &[(usize, &str)]) {
        let (_, errors) = document(0, content);
        let found: Vec<_> = errors
            .iter()
            .map(|error| (error.span.start, error.message.as_str()))
            .collect();
        assert_eq!(found, expected, "{content}");
    }

    #[test]
    fn every_syntax_error_is_reported_with_its_place() {
        check("a = 1\n", &[]);
        check("a = 1\na = 2\n", &[(6, "duplicate key")]);
        check(
            "a = \nb = ]\n",
            &[
                (4, "there is no value after the `=`"),
                (9, "missing array opening, expected `[`"),
            ],
        );
        check(
            "receivers:\n",
            &[(
                9,
                "invalid unquoted key, expected letters, numbers, `-`, `_`; this looks like YAML: TOML writes `key = value`, and `[table]` for a block",
            )],
        );
        check(
            "[exporters.clickhouse/archive]\n",
            &[(
                21,
                "a name with `/` goes in quotes: `[exporters.\"clickhouse/archive\"]`",
            )],
        );
        check(
            "a = localhost:4317\n",
            &[(4, "text goes in quotes: `\"localhost:4317\"`")],
        );
        check(
            "a = ${env:X} # why\n",
            &[(4, "text goes in quotes: `\"${env:X}\"`")],
        );
        check(
            "a = \"x\nb = 1\n",
            &[(6, "invalid basic string, expected `\"`")],
        );
        check("[headers]\nx-team = abc\n", &[(19, "text goes in quotes")]);
        check("a = 0x\n", &[(4, "`0x` is not a number")]);
        check("[a]\n[a]\n", &[(5, "duplicate key")]);
    }

    #[test]
    fn nesting_bombs_are_refused() {
        let deep = |levels: usize| format!("a = {}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(document(0, &deep(DEPTH_MAX - 1)).1.is_empty());
        assert!(!document(0, &deep(DEPTH_MAX + 2)).1.is_empty());
        let dotted = vec!["k"; 70].join(".");
        let bomb = format!("{}1{}", format!("{{{dotted} = ").repeat(70), "}".repeat(70));
        assert!(!document(0, &format!("a = {bomb}")).1.is_empty());
        assert!(value(&bomb, Span::default()).is_none());
    }
}

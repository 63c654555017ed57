//! TOML text to a tree, with every syntax error that the text has.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

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
        let mut errors: Vec<_> = errors
            .iter()
            .map(|error| syntax_error(text, content, error))
            .collect();
        let mut reader = Reader::new(text);
        let table = reader.table(table.into_inner());
        errors.extend(reader.too_deep.map(|span| SyntaxError {
            span,
            message: format!("nested more than {DEPTH_MAX} levels deep"),
        }));
        (table, errors)
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
        reader.too_deep.is_none().then_some(node)
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

fn syntax_error(text: usize, content: &str, error: &toml::de::Error) -> SyntaxError {
    let range = error.span().unwrap_or(0..0);
    let line_start = content
        .get(..range.start)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |at| at + 1);
    let line = content
        .get(line_start..)
        .and_then(|rest| rest.lines().next());
    let mut message = error.message().to_owned();
    if let Some(hint) = line.and_then(hint) {
        message = format!("{message}; {hint}");
    }
    SyntaxError {
        span: Span {
            text,
            start: range.start,
            end: range.end,
        },
        message,
    }
}

/// What the usual mistakes on a line ask for.
fn hint(line: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or(line).trim();
    if let Some(header) = line
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        && header.contains('/')
        && !header.contains('"')
    {
        let parts: Vec<String> = header.split('.').map(super::tree::quoted).collect();
        return Some(format!(
            "a name with `/` is quoted: `[{}]`",
            parts.join(".")
        ));
    }
    if !line.contains('=') && line.contains(':') && !line.starts_with(['[', '"']) {
        return Some(
            "this looks like YAML: TOML writes `key = value`, and `[table]` for a block".to_owned(),
        );
    }
    None
}

/// Turns the parser's tree into ours.
struct Reader {
    text: usize,
    depth: usize,
    /// The first value below the depth allowed.
    too_deep: Option<Span>,
}

impl Reader {
    fn new(text: usize) -> Self {
        Self {
            text,
            depth: 0,
            too_deep: None,
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

    /// Recurses at most [`DEPTH_MAX`] deep.
    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let span = self.span(&value);
        if self.depth == DEPTH_MAX {
            self.too_deep.get_or_insert(span);
            return Node::new(Value::Hole, span);
        }
        self.depth += 1;
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::Text(number.to_string()), Value::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or_else(|_| Value::Text(number.to_string()), Value::Float),
            DeValue::Boolean(flag) => Value::Bool(flag),
            DeValue::Datetime(datetime) => Value::Datetime(datetime),
            DeValue::Array(items) => Value::List(self.list(items)),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        self.depth -= 1;
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
        check("a = \nb = ]\n", &[]);
        check("receivers:\n", &[]);
        check("[exporters.clickhouse/archive]\n", &[]);
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

//! What a statement asks for, and a plausible server's answer.

use super::schema::{Schema, bare};
use super::types::split_top_level;

/// The version the sink says it is.
pub(crate) const VERSION: &str = "26.7.3.1";
/// The revision of the protocol that goes with it.
const REVISION: u32 = 54_483;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Text(String),
    U8(u8),
    U32(u32),
    U64(u64),
}

/// Rows that answer a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// Names and, by a cell of each, types.
    pub(crate) columns: Vec<(String, Cell)>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The statement has no result.
    Done,
    Rows(Answer),
    /// The sink does not know what to say.
    Unknown,
}

/// An `INSERT` up to its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Insert {
    pub(crate) table: String,
    /// In the order of the data; empty means all of the table's.
    pub(crate) columns: Vec<String>,
    pub(crate) format: String,
}

impl Insert {
    /// `None` when the statement is no insert.
    pub(crate) fn parse(statement: &str) -> Option<Self> {
        let rest = strip_words(statement, &["INSERT", "INTO"])?;
        let rest = strip_words(rest, &["TABLE"]).unwrap_or(rest).trim_start();
        let end = rest.find(|character: char| character.is_whitespace() || character == '(')?;
        let (table, rest) = rest.split_at(end);
        let (columns, rest) = match rest.trim_start().strip_prefix('(') {
            Some(list) => {
                let (columns, rest) = list.split_once(')')?;
                (
                    split_top_level(columns)
                        .map(|name| unquote(name).to_owned())
                        .collect(),
                    rest,
                )
            }
            None => (Vec::new(), rest),
        };
        Some(Self {
            table: bare(table),
            columns,
            format: format_of(rest).unwrap_or("Values").to_owned(),
        })
    }
}

/// The word after the last `FORMAT` of a statement.
pub(crate) fn format_of(statement: &str) -> Option<&str> {
    let words: Vec<_> = statement
        .trim()
        .trim_end_matches(';')
        .split_ascii_whitespace()
        .collect();
    let place = words
        .iter()
        .rposition(|word| word.eq_ignore_ascii_case("FORMAT"))?;
    words.get(place + 1).copied()
}

/// A quoted column such as `` `Events.Name` `` without its quotes.
fn unquote(name: &str) -> &str {
    name.trim_matches(|character| matches!(character, '`' | '"'))
}

/// The text after these words; `None` when it does not start with them.
fn strip_words<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    let mut rest = text;
    for word in words {
        rest = rest.trim_start();
        let (head, tail) = rest.split_at_checked(word.len())?;
        if !head.eq_ignore_ascii_case(word) || tail.starts_with(|next: char| next.is_alphanumeric())
        {
            return None;
        }
        rest = tail;
    }
    Some(rest)
}

/// Answers a statement that is no insert, and learns from `CREATE TABLE`.
pub(crate) fn reply(statement: &str, schema: &mut Schema) -> Reply {
    const SILENT: [&str; 12] = [
        "CREATE", "ALTER", "DROP", "RENAME", "EXCHANGE", "ATTACH", "DETACH", "TRUNCATE",
        "OPTIMIZE", "SYSTEM", "SET", "USE",
    ];
    if SILENT
        .iter()
        .any(|word| strip_words(statement, &[word]).is_some())
    {
        schema.learn(statement);
        return Reply::Done;
    }
    if let Some(rest) = strip_words(statement, &["EXISTS"]) {
        let name = rest
            .split_ascii_whitespace()
            .find(|word| !is_word(word, &["TABLE", "DATABASE", "VIEW"]));
        let is_table = strip_words(rest, &["DATABASE"]).is_none();
        let exists = !is_table || name.is_some_and(|name| schema.columns(&bare(name)).is_some());
        return one("result", Cell::U8(u8::from(exists)));
    }
    if let Some(rest) = strip_words(statement, &["SHOW", "CREATE"]) {
        let name = rest
            .split_ascii_whitespace()
            .find(|word| !is_word(word, &["TABLE", "DATABASE", "VIEW"]));
        return show_create(&bare(name.unwrap_or_default()), schema);
    }
    if let Some(rest) =
        strip_words(statement, &["DESCRIBE"]).or_else(|| strip_words(statement, &["DESC"]))
    {
        let name = rest
            .split_ascii_whitespace()
            .find(|word| !is_word(word, &["TABLE"]));
        return describe(&bare(name.unwrap_or_default()), schema);
    }
    match strip_words(statement, &["SELECT"]) {
        Some(rest) => select(rest, schema),
        None => Reply::Unknown,
    }
}

fn is_word(word: &str, words: &[&str]) -> bool {
    words.iter().any(|other| word.eq_ignore_ascii_case(other))
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

fn one(name: &str, cell: Cell) -> Reply {
    Reply::Rows(Answer {
        columns: vec![(name.to_owned(), cell.clone())],
        rows: vec![vec![cell]],
    })
}

fn show_create(table: &str, schema: &Schema) -> Reply {
    let Some(columns) = schema.columns(table) else {
        return Reply::Unknown;
    };
    let columns: Vec<_> = columns
        .iter()
        .map(|column| format!("`{}` {}", column.name, column.type_name))
        .collect();
    let statement = format!(
        "CREATE TABLE {table} ({}) ENGINE = Null",
        columns.join(", ")
    );
    one("statement", Cell::Text(statement))
}

fn describe(table: &str, schema: &Schema) -> Reply {
    const NAMES: [&str; 7] = [
        "name",
        "type",
        "default_type",
        "default_expression",
        "comment",
        "codec_expression",
        "ttl_expression",
    ];
    let Some(columns) = schema.columns(table) else {
        return Reply::Unknown;
    };
    let row = |name: &str, type_name: &str| {
        let mut row = vec![text(name), text(type_name)];
        row.resize(NAMES.len(), text(""));
        row
    };
    Reply::Rows(Answer {
        columns: NAMES.map(|name| (name.to_owned(), text(""))).to_vec(),
        rows: columns
            .iter()
            .map(|column| row(&column.name, &column.type_name))
            .collect(),
    })
}

fn select(rest: &str, schema: &Schema) -> Reply {
    let words: Vec<_> = rest.split_ascii_whitespace().collect();
    let Some(from) = words
        .iter()
        .position(|word| word.eq_ignore_ascii_case("FROM"))
    else {
        let end = words
            .iter()
            .position(|word| word.eq_ignore_ascii_case("FORMAT"))
            .unwrap_or(words.len());
        return constants(&words.get(..end).unwrap_or_default().join(" "));
    };
    let wanted = words.get(..from).unwrap_or_default().join(" ");
    let source = words
        .get(from + 1)
        .copied()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let (Some(table), true) = (source.strip_prefix("system."), !wanted.is_empty()) else {
        return Reply::Unknown;
    };
    let names: Vec<_> = split_top_level(&wanted).map(output_name).collect();
    let rows = match table {
        "columns" => system_columns(&names, rest, schema),
        "tables" => system_tables(&names, rest, schema),
        // Settings, functions, parts and the like: a server without any.
        _ => Vec::new(),
    };
    let columns = names
        .iter()
        .map(|(name, of)| ((*name).to_owned(), kind(of)))
        .collect();
    Reply::Rows(Answer { columns, rows })
}

/// What a selected expression is called, and the expression itself.
fn output_name(expression: &str) -> (&str, &str) {
    let lower = expression.to_ascii_lowercase();
    match lower
        .rfind(" as ")
        .and_then(|place| expression.split_at_checked(place))
    {
        Some((of, alias)) => (
            unquote(alias.get(4..).unwrap_or_default().trim()),
            of.trim(),
        ),
        None => (unquote(expression), expression),
    }
}

fn kind(expression: &str) -> Cell {
    if matches!(
        expression,
        "position" | "total_rows" | "count()" | "is_in_primary_key"
    ) {
        return Cell::U64(0);
    }
    text("")
}

/// `SELECT version(), 1`: expressions that need no table.
fn constants(expressions: &str) -> Reply {
    let mut answer = Answer {
        columns: Vec::new(),
        rows: vec![Vec::new()],
    };
    for expression in split_top_level(expressions) {
        let (name, of) = output_name(expression);
        let cell = match of.to_ascii_lowercase().as_str() {
            "version()" => text(VERSION),
            "revision()" => Cell::U32(REVISION),
            "timezone()" | "servertimezone()" => text("UTC"),
            "hostname()" | "displayname()" => text("loadgen-sink"),
            "currentdatabase()" => text("default"),
            "currentuser()" | "user()" => text("default"),
            number => match number.parse() {
                Ok(number) => Cell::U8(number),
                Err(_) => return Reply::Unknown,
            },
        };
        answer.columns.push((name.to_owned(), cell.clone()));
        answer
            .rows
            .iter_mut()
            .for_each(|row| row.push(cell.clone()));
    }
    if answer.columns.is_empty() {
        Reply::Unknown
    } else {
        Reply::Rows(answer)
    }
}

/// The tables a query's text names, or all if it names none.
fn named<'a>(schema: &'a Schema, query: &str) -> Vec<(&'a str, &'a [super::schema::Column])> {
    let quoted = |name: &str| query.contains(&format!("'{name}'"));
    let named: Vec<_> = schema.tables().filter(|(name, _)| quoted(name)).collect();
    let asks_for_one = query
        .to_ascii_lowercase()
        .split_whitespace()
        .any(|word| word.starts_with("table"));
    if named.is_empty() && !asks_for_one {
        schema.tables().collect()
    } else {
        named
    }
}

fn system_columns(names: &[(&str, &str)], query: &str, schema: &Schema) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for (table, columns) in named(schema, query) {
        for (position, column) in (1..).zip(columns) {
            let cell = |(_, of): &(&str, &str)| match *of {
                "name" => text(&column.name),
                "type" => text(&column.type_name),
                "table" => text(table),
                "database" => text("default"),
                "position" => Cell::U64(position),
                other => kind(other),
            };
            rows.push(names.iter().map(cell).collect());
        }
    }
    rows
}

fn system_tables(names: &[(&str, &str)], query: &str, schema: &Schema) -> Vec<Vec<Cell>> {
    let row = |(table, _): (&str, _)| {
        let cell = |(_, of): &(&str, &str)| match *of {
            "name" | "table" => text(table),
            "database" => text("default"),
            "engine" | "engine_full" => text("Null"),
            other => kind(other),
        };
        names.iter().map(cell).collect()
    };
    named(schema, query).into_iter().map(row).collect()
}

#[cfg(test)]
mod tests;

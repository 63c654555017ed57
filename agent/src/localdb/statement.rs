//! What kind of statement a request carries, and the cuts that the engine's C interface needs.
//!
//! The interface takes an insert's head, format and rows apart, and can write a result to a file descriptor
//! when told so in SQL (`INTO OUTFILE`). Both need the text cut at the right place; everything else about SQL,
//! syntax errors included, is left to the engine.

use super::exception::{Exception, INTO_OUTFILE_NOT_ALLOWED, NOT_IMPLEMENTED, SYNTAX_ERROR};
use super::lexer::{Lexer, Token, TokenKind};

/// An insert whose rows follow its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InsertHead {
    /// Where the text before `FORMAT` or `VALUES` ends.
    pub(super) end: usize,
    /// The rows' format.
    pub(super) format: String,
    /// Where the rows begin.
    pub(super) data: usize,
}

/// What the first bytes of a request say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// An insert with rows after it.
    Insert(InsertHead),
    /// Something without rows: all of the text is the statement.
    Statement,
    /// More text is needed to tell.
    Incomplete,
}

/// Looks for an insert's head. `complete` says that no text follows `text`.
pub(super) fn scan(text: &[u8], complete: bool) -> Scan {
    let undecided = if complete {
        Scan::Statement
    } else {
        Scan::Incomplete
    };
    let mut tokens = Lexer::new(text).peekable();
    let Some(first) = tokens.next() else {
        return undecided;
    };
    if first.end == text.len() && !complete {
        return Scan::Incomplete;
    }
    if !first.is(text, "INSERT") {
        return Scan::Statement;
    }
    skip_target(&mut tokens, text);
    let mut previous: Option<Token> = None;
    while let Some(token) = tokens.next() {
        let touches_end = token.end == text.len() && !complete;
        if token.kind == TokenKind::Unterminated || touches_end {
            return undecided;
        }
        let opens_query = previous.is_none_or(|token| token.kind == TokenKind::Symbol(b'('));
        let is_query = ["SELECT", "WITH"]
            .iter()
            .any(|keyword| token.is(text, keyword));
        if is_query && (token.depth == 0 || opens_query) || token.is(text, "INFILE") {
            return Scan::Statement;
        }
        previous = Some(token);
        if token.depth > 0 {
            continue;
        }
        if token.is(text, "VALUES") {
            return Scan::Insert(InsertHead {
                end: token.start,
                format: "Values".to_owned(),
                data: token.end,
            });
        }
        if token.is(text, "FORMAT") {
            return match tokens.next() {
                Some(name) if name.is_name() => format_clause(text, complete, token.start, &name),
                _ => undecided,
            };
        }
    }
    undecided
}

/// Skips `INTO [TABLE | FUNCTION] name`, so that a table may be called like a keyword.
fn skip_target(tokens: &mut std::iter::Peekable<Lexer<'_>>, text: &[u8]) {
    let mut skipped = tokens.next_if(|token| token.is(text, "INTO")).is_some();
    let noise = |token: &Token| token.is(text, "TABLE") || token.is(text, "FUNCTION");
    skipped |= tokens.next_if(noise).is_some();
    if skipped {
        tokens.next_if(Token::is_name);
    }
}

/// The rows begin after the format's name, blanks, and at most one line end.
fn format_clause(text: &[u8], complete: bool, end: usize, name: &Token) -> Scan {
    let mut data = name.end;
    while matches!(text.get(data), Some(b' ' | b'\t' | 0x0c)) {
        data += 1;
    }
    for line_end in *b"\r\n" {
        if text.get(data) == Some(&line_end) {
            data += 1;
        }
    }
    // Without a byte of data in sight, the name may go on or a line end may follow.
    if data == text.len() && !complete {
        return Scan::Incomplete;
    }
    let name = String::from_utf8_lossy(&text[name.start..name.end]);
    Scan::Insert(InsertHead {
        end,
        format: name.trim_matches(['`', '"']).to_owned(),
        data,
    })
}

/// A statement that takes no rows, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain<'text> {
    /// The text up to `FORMAT`, without a closing semicolon.
    pub(super) head: &'text [u8],
    /// The format named in the text.
    pub(super) format: Option<String>,
    /// What follows the format's name, such as `SETTINGS`.
    pub(super) tail: &'text [u8],
    /// Whether the answer may be written to a descriptor as it comes: queries, not commands.
    pub(super) streams: bool,
    /// Whether it may change something outside its session.
    pub(super) changes: bool,
}

impl<'text> Plain<'text> {
    /// Takes a statement apart.
    ///
    /// # Errors
    /// What ClickHouse refuses over HTTP: more than one statement, files of the server, no statement at all.
    pub(super) fn parse(text: &'text [u8]) -> Result<Self, Exception> {
        let tokens = statement_tokens(text)?;
        let Some((first, last)) = tokens.first().zip(tokens.last()) else {
            return Err(Exception::new(SYNTAX_ERROR, "Empty query."));
        };
        let streams = is_query(text, first, &tokens);
        refuse(text, &tokens, first.is(text, "INSERT"))?;
        // A SELECT owns its SETTINGS; after other queries they follow INTO OUTFILE.
        let owns_settings = ["SHOW", "DESCRIBE", "DESC", "EXISTS", "CHECK"]
            .iter()
            .all(|keyword| !first.is(text, keyword));
        let format = format_of(text, &tokens);
        let cut = match format {
            Some((keyword, _)) => keyword.start,
            None if owns_settings => last.end,
            None => trailing_settings(text, &tokens).unwrap_or(last.end),
        };
        let tail = format.map_or(cut, |(_, name)| name.end);
        Ok(Self {
            head: head_before(text, &tokens, cut),
            format: format
                .map(|(_, name)| String::from_utf8_lossy(&text[name.start..name.end]).into_owned()),
            tail: &text[tail..last.end],
            streams,
            changes: !streams && !first.is(text, "SET") && !first.is(text, "USE"),
        })
    }

    /// The statement that writes its answer to a descriptor of this process. `tag` marks it, to be killed by.
    pub(super) fn writing_to(&self, descriptor: i32, tag: &str, format: &str) -> Vec<u8> {
        let clause = format!(
            " /*{tag}*/ INTO OUTFILE '/proc/self/fd/{descriptor}' TRUNCATE FORMAT {format} "
        );
        [self.head, clause.as_bytes(), self.tail].concat()
    }
}

/// The text before `cut`, up to the end of its last token: a line comment after it would hide what we append.
fn head_before<'text>(text: &'text [u8], tokens: &[Token], cut: usize) -> &'text [u8] {
    let last = tokens.iter().rev().find(|token| token.end <= cut);
    &text[..last.map_or(0, |token| token.end)]
}

/// The tokens of one statement, without a closing semicolon.
fn statement_tokens(text: &[u8]) -> Result<Vec<Token>, Exception> {
    let mut tokens = Vec::new();
    let mut ended = false;
    for token in Lexer::new(text) {
        let semicolon = token.kind == TokenKind::Symbol(b';') && token.depth == 0;
        if ended && !semicolon {
            let message = format!(
                "Syntax error (Multi-statements are not allowed): failed at position {} (end of query).",
                token.start
            );
            return Err(Exception::new(SYNTAX_ERROR, message));
        }
        if semicolon {
            ended = true;
        } else {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

/// Whether the statement answers with rows and is parsed with an output clause.
fn is_query(text: &[u8], first: &Token, tokens: &[Token]) -> bool {
    let begins = [
        "SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "CHECK",
    ];
    let query = first.kind == TokenKind::Symbol(b'(')
        || begins.iter().any(|keyword| first.is(text, keyword));
    let writes = |token: &Token| token.depth == 0 && token.is(text, "INSERT");
    query && !(first.is(text, "WITH") && tokens.iter().any(writes))
}

fn refuse(text: &[u8], tokens: &[Token], insert: bool) -> Result<(), Exception> {
    for pair in tokens.windows(2) {
        let [first, second] = pair else { continue };
        if first.depth == 0 && first.is(text, "INTO") && second.is(text, "OUTFILE") {
            return Err(Exception::new(
                INTO_OUTFILE_NOT_ALLOWED,
                "INTO OUTFILE is not allowed.",
            ));
        }
        if first.depth == 0 && first.is(text, "FROM") && second.is(text, "INFILE") {
            return Err(Exception::new(
                NOT_IMPLEMENTED,
                "FROM INFILE is a feature of clickhouse-client.",
            ));
        }
        if insert && first.is(text, "input") && second.kind == TokenKind::Symbol(b'(') {
            let message = "INSERT ... SELECT FROM input() is not available in the embedded engine.";
            return Err(Exception::new(NOT_IMPLEMENTED, message));
        }
    }
    Ok(())
}

/// `FORMAT name` at the end of the statement or before its last SETTINGS.
fn format_of<'tokens>(
    text: &[u8],
    tokens: &'tokens [Token],
) -> Option<(&'tokens Token, &'tokens Token)> {
    let at = tokens.windows(2).rposition(|pair| {
        pair[0].depth == 0 && pair[0].is(text, "FORMAT") && pair[1].kind == TokenKind::Word
    })?;
    let ends = tokens
        .get(at + 2)
        .is_none_or(|next| next.is(text, "SETTINGS"));
    (at > 0 && ends).then(|| (&tokens[at], &tokens[at + 1]))
}

fn trailing_settings(text: &[u8], tokens: &[Token]) -> Option<usize> {
    let at = tokens
        .iter()
        .rposition(|token| token.depth == 0 && token.is(text, "SETTINGS"))?;
    let assigns = tokens
        .get(at + 2)
        .is_some_and(|token| token.kind == TokenKind::Symbol(b'='));
    assigns.then(|| tokens[at].start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(text: &str, sql: &str, format: &str, data: &str) {
        let Scan::Insert(head) = scan(text.as_bytes(), true) else {
            panic!("no insert: {text}")
        };
        let sql_found = text.get(..head.end).map(str::trim_end);
        let found = (sql_found, head.format.as_str(), text.get(head.data..));
        assert_eq!(found, (Some(sql), format, Some(data)), "{text}");
    }

    #[test]
    fn insert_heads_are_cut_before_the_rows() {
        insert(
            "INSERT INTO t FORMAT CSV\n1,2",
            "INSERT INTO t",
            "CSV",
            "1,2",
        );
        insert(
            "insert into t(a,b) format JSONEachRow {\"a\":1}",
            "insert into t(a,b)",
            "JSONEachRow",
            "{\"a\":1}",
        );
        insert(
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t",
            "Values",
            " (1)",
        );
        insert(
            "INSERT INTO t FORMAT Native \r\n\n1",
            "INSERT INTO t",
            "Native",
            "\n1",
        );
        insert(
            "INSERT INTO `format` FORMAT CSV 1",
            "INSERT INTO `format`",
            "CSV",
            "1",
        );
        insert(
            "INSERT INTO format FORMAT CSV 1",
            "INSERT INTO format",
            "CSV",
            "1",
        );
        insert(
            "INSERT INTO TABLE values VALUES(1)",
            "INSERT INTO TABLE values",
            "Values",
            "(1)",
        );
        insert(
            "INSERT INTO FUNCTION file('x', 'CSV') SETTINGS a='FORMAT', b=2 FORMAT TSV\n1",
            "INSERT INTO FUNCTION file('x', 'CSV') SETTINGS a='FORMAT', b=2",
            "TSV",
            "1",
        );
        insert(
            "-- c\nINSERT /*x*/ INTO t FORMAT CSV\n",
            "-- c\nINSERT /*x*/ INTO t",
            "CSV",
            "",
        );
        insert(
            "INSERT INTO d.t (`format`, values) FORMAT Native\n",
            "INSERT INTO d.t (`format`, values)",
            "Native",
            "",
        );
    }

    #[test]
    fn statements_without_rows_are_told_apart() {
        for text in [
            "SELECT 1",
            "INSERT INTO t SELECT 1",
            "INSERT INTO t (SELECT 1 FORMAT CSV)",
            "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
            "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
            "INSERT INTO t",
            "",
            "CREATE TABLE t (a Int8)",
        ] {
            assert_eq!(scan(text.as_bytes(), true), Scan::Statement, "{text}");
        }
    }

    #[test]
    fn a_cut_head_asks_for_more() {
        let text = "INSERT INTO t (a) FORMAT Native \n";
        for end in 0..text.len() {
            assert_eq!(
                scan(&text.as_bytes()[..end], false),
                Scan::Incomplete,
                "{end}"
            );
        }
        assert_eq!(
            scan(b"INSERT INTO t (a) FORMAT Native \nx", false),
            scan(b"INSERT INTO t (a) FORMAT Native \n", true)
        );
        assert_eq!(scan(b"SELECT 1", false), Scan::Statement);
        assert_eq!(scan(b"SEL", false), Scan::Incomplete);
    }

    /// `=` stands for the whole text.
    fn plain(text: &str, head: &str, format: Option<&str>, tail: &str, streams: bool) {
        let parsed = Plain::parse(text.as_bytes()).unwrap();
        let head = if head == "=" { text } else { head };
        assert_eq!(String::from_utf8_lossy(parsed.head), head, "{text}");
        assert_eq!(parsed.format.as_deref(), format, "{text}");
        assert_eq!(String::from_utf8_lossy(parsed.tail), tail, "{text}");
        assert_eq!(parsed.streams, streams, "{text}");
    }

    #[test]
    fn the_format_clause_is_found_at_the_end() {
        let json = Some("JSON");
        plain("SELECT 1", "=", None, "", true);
        plain("SELECT 1;\n", "SELECT 1", None, "", true);
        plain("SELECT 1 FORMAT JSON;", "SELECT 1", json, "", true);
        plain(
            "SELECT 1 -- x\nFORMAT JSON -- y",
            "SELECT 1",
            json,
            "",
            true,
        );
        plain(
            "SELECT 1 FORMAT JSON SETTINGS a=1",
            "SELECT 1",
            json,
            " SETTINGS a=1",
            true,
        );
        plain("SELECT 1 SETTINGS a = 1", "=", None, "", true);
        plain("SELECT format('{}', 1) AS format", "=", None, "", true);
        plain("SELECT 'FORMAT JSON'", "=", None, "", true);
        plain("SELECT (SELECT 1 FORMAT CSV)", "=", None, "", true);
        plain("(SELECT 1) UNION ALL (SELECT 2)", "=", None, "", true);
        plain(
            "SHOW TABLES SETTINGS a = 1",
            "SHOW TABLES",
            None,
            "SETTINGS a = 1",
            true,
        );
        plain("DESCRIBE t FORMAT JSON", "DESCRIBE t", json, "", true);
        plain(
            "CREATE TABLE t (a Int8) ENGINE = Memory",
            "=",
            None,
            "",
            false,
        );
        plain("WITH 1 AS x SELECT x", "=", None, "", true);
        plain(
            "WITH a AS (SELECT 1) INSERT INTO t SELECT 1",
            "=",
            None,
            "",
            false,
        );
    }

    #[test]
    fn what_http_does_not_allow_is_refused() {
        for (text, code) in [
            ("", 62),
            (" ; ", 62),
            ("-- only a comment", 62),
            ("SELECT 1; SELECT 2", 62),
            ("SELECT 1 INTO OUTFILE 'x'", 358),
            ("INSERT INTO t FROM INFILE 'x' FORMAT CSV", 48),
            ("INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV", 48),
        ] {
            assert_eq!(
                Plain::parse(text.as_bytes()).unwrap_err().code,
                code,
                "{text}"
            );
        }
    }

    #[test]
    fn the_descriptor_clause_goes_between_query_and_settings() {
        let sql = Plain::parse(b"SELECT 1 FORMAT JSON SETTINGS a = 1;")
            .unwrap()
            .writing_to(7, "t-1", "JSON");
        assert_eq!(
            String::from_utf8(sql).unwrap(),
            "SELECT 1 /*t-1*/ INTO OUTFILE '/proc/self/fd/7' TRUNCATE FORMAT JSON  SETTINGS a = 1"
        );
        let sql = Plain::parse(b"SELECT 1 -- c")
            .unwrap()
            .writing_to(7, "t", "CSV");
        assert_eq!(
            String::from_utf8(sql).unwrap(),
            "SELECT 1 /*t*/ INTO OUTFILE '/proc/self/fd/7' TRUNCATE FORMAT CSV "
        );
    }
}

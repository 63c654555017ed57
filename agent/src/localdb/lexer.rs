//! Cuts ClickHouse SQL into tokens: enough to see where a statement, a clause or inline data begins and ends.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A bare identifier, keyword or number.
    Word,
    /// An identifier in backticks or double quotes.
    QuotedName,
    /// A string literal or heredoc.
    Text,
    /// Any other single byte.
    Symbol(u8),
    /// A quote or comment that the text ends inside of.
    Unterminated,
}

/// A token's place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// How many brackets are open around it; a bracket itself counts as outside.
    pub(super) depth: usize,
}

impl Token {
    /// Whether it is this keyword, in any case.
    pub(super) fn is(&self, text: &[u8], keyword: &str) -> bool {
        self.kind == TokenKind::Word
            && text[self.start..self.end].eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// Whether it names something.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::QuotedName)
    }
}

/// The tokens of a text, comments and white space skipped. Ends after [`TokenKind::Unterminated`].
pub(super) struct Lexer<'text> {
    text: &'text [u8],
    position: usize,
    depth: usize,
}

impl<'text> Lexer<'text> {
    pub(super) fn new(text: &'text [u8]) -> Self {
        Self {
            text,
            position: 0,
            depth: 0,
        }
    }

    /// Skips white space and comments; `None` inside a comment that does not end.
    fn skip_blank(&mut self) -> Option<()> {
        loop {
            let rest = &self.text[self.position..];
            match rest {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => self.position += 1,
                [b'-', b'-', ..] | [b'#', b' ' | b'!', ..] => {
                    let line = rest.iter().position(|&byte| byte == b'\n');
                    self.position += line.unwrap_or(rest.len());
                }
                [b'/', b'*', body @ ..] => {
                    let end = body.windows(2).position(|pair| pair == b"*/")?;
                    self.position += end + 4;
                }
                _ => return Some(()),
            }
        }
    }

    /// The kind and length of the token at the head of `rest`, which is not empty.
    fn measure(rest: &[u8]) -> (TokenKind, usize) {
        match rest[0] {
            quote @ (b'\'' | b'"' | b'`') => {
                let kind = if quote == b'\'' {
                    TokenKind::Text
                } else {
                    TokenKind::QuotedName
                };
                quoted(rest, quote).map_or((TokenKind::Unterminated, rest.len()), |length| {
                    (kind, length)
                })
            }
            b'$' => heredoc(rest),
            first if is_word(first) => {
                let length = rest.iter().position(|&byte| !is_word(byte));
                (TokenKind::Word, length.unwrap_or(rest.len()))
            }
            symbol => (TokenKind::Symbol(symbol), 1),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let before = self.position;
        if self.skip_blank().is_none() {
            self.position = self.text.len();
            let kind = TokenKind::Unterminated;
            return Some(Token {
                kind,
                start: before,
                end: self.position,
                depth: self.depth,
            });
        }
        let start = self.position;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let (kind, length) = Self::measure(rest);
        if let TokenKind::Symbol(b')' | b']' | b'}') = kind {
            self.depth = self.depth.saturating_sub(1);
        }
        let depth = self.depth;
        if let TokenKind::Symbol(b'(' | b'[' | b'{') = kind {
            self.depth += 1;
        }
        self.position = start + length;
        Some(Token {
            kind,
            start,
            end: self.position,
            depth,
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of a quoted token with backslash and doubled-quote escapes; `None` when it does not end.
fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
    let mut position = 1;
    loop {
        match *rest.get(position)? {
            b'\\' => position += 2,
            byte if byte == quote && rest.get(position + 1) == Some(&quote) => position += 2,
            byte if byte == quote => return Some(position + 1),
            _ => position += 1,
        }
    }
}

/// `$tag$ ... $tag$`, or a lone `$`.
fn heredoc(rest: &[u8]) -> (TokenKind, usize) {
    let tag = rest[1..]
        .iter()
        .position(|&byte| !is_word(byte))
        .map(|length| length + 1);
    let Some(tag) = tag.filter(|&end| rest[end] == b'$') else {
        return (TokenKind::Symbol(b'$'), 1);
    };
    let marker = &rest[..=tag];
    let body = &rest[marker.len()..];
    match body
        .windows(marker.len())
        .position(|window| window == marker)
    {
        Some(end) => (TokenKind::Text, marker.len() + end + marker.len()),
        None => (TokenKind::Unterminated, rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &[&str]) {
        let tokens: Vec<_> = Lexer::new(sql.as_bytes())
            .filter_map(|token| sql.get(token.start..token.end))
            .collect();
        assert_eq!(tokens, expected, "{sql}");
    }

    #[test]
    fn text_is_cut_into_tokens() {
        check("", &[]);
        check(" select 1 ", &["select", "1"]);
        check("a.b/*x*/-- y\n+c", &["a", ".", "b", "+", "c"]);
        check(
            "'it''s' \"q\" `b``t` 'a\\'b'",
            &["'it''s'", "\"q\"", "`b``t`", "'a\\'b'"],
        );
        check("$$a;b$$ $t$ ' $t$;", &["$$a;b$$", "$t$ ' $t$", ";"]);
        check("# note\nx #! y", &["x"]);
        check("größe", &["größe"]);
        check("{a:UInt8}", &["{", "a", ":", "UInt8", "}"]);
        check("a - - b / c", &["a", "-", "-", "b", "/", "c"]);
    }

    #[test]
    fn unfinished_quotes_and_comments_are_unterminated() {
        for sql in ["'abc", "`abc", "a /* b", "$x$ y", "'a\\", "a --b /*\n /*"] {
            let last = Lexer::new(sql.as_bytes()).last().unwrap();
            assert_eq!(last.kind, TokenKind::Unterminated, "{sql}");
            assert_eq!(last.end, sql.len(), "{sql}");
        }
    }

    #[test]
    fn depth_counts_open_brackets() {
        let depths: Vec<_> = Lexer::new(b"a(b[c])d)e").map(|token| token.depth).collect();
        assert_eq!(depths, [0, 0, 1, 1, 2, 1, 0, 0, 0, 0]);
    }
}

//! JSON tokens out of bytes: strings, numbers, punctuation, and values to be skipped.

use std::borrow::Cow;

use super::decode::DecodeError;

/// An unknown value may nest this deep. It is skipped without recursion; the bound is for the memory of its brackets.
const SKIP_DEPTH_MAX: usize = 10_000;

/// A position in JSON text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// What a value starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// An error at the present position.
    pub(super) fn error(&self, problem: impl Into<Cow<'static, str>>) -> DecodeError {
        DecodeError::new(self.text, self.at, problem.into())
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// What the value at hand is.
    pub(super) fn start(&mut self) -> Result<Start, DecodeError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => Ok(Start::Object),
            Some(b'[') => Ok(Start::Array),
            Some(b'"') => Ok(Start::String),
            Some(b'-' | b'0'..=b'9') => Ok(Start::Number),
            Some(b't') => Ok(Start::True),
            Some(b'f') => Ok(Start::False),
            Some(b'n') => Ok(Start::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("the text ends where a value should be")),
        }
    }

    /// Takes `byte`, after white space, if it comes next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`, after white space.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.error(format!("expected `{}`", char::from(byte))))
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Result<(), DecodeError> {
        self.skip_space();
        if self.rest().is_empty() {
            return Ok(());
        }
        Err(self.error("text after the end of the request"))
    }

    /// Takes `true`, `false` or `null`.
    pub(super) fn word(&mut self, word: &str) -> Result<(), DecodeError> {
        if self.rest().starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.error(format!("expected `{word}`")))
    }

    /// Whether a further element follows in an array or object whose `first` element may be missing.
    pub(super) fn more(&mut self, close: u8, first: bool) -> Result<bool, DecodeError> {
        if self.take(close) {
            return Ok(false);
        }
        if !first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// A number as it is written.
    pub(super) fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.digits();
        let leading_zero = self.text.get(self.at - whole) == Some(&b'0');
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(self.error("expected a number"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.error("expected a digit after the point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(self.error("expected a digit in the exponent"));
            }
        }
        let bytes = self.text.get(start..self.at).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| self.error("expected a number"))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    /// A string's bytes. Text that is not UTF-8 stays as it is: the check of the request replaces and counts it.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, DecodeError> {
        self.expect(b'"')?;
        let plain = self.plain_run();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut text)?;
                }
                Some(_) => return Err(self.error("control character in a string")),
                None => return Err(self.error("the text ends inside a string")),
            }
            text.extend_from_slice(self.plain_run());
        }
    }

    /// What stands up to the next quote, escape or control character.
    fn plain_run(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
            .unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), DecodeError> {
        let escaped = self.peek();
        self.at += 1;
        let byte = match escaped {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.unicode_escape()?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => {
                self.at -= 1;
                return Err(self.error("unknown escape in a string"));
            }
        };
        text.push(byte);
        Ok(())
    }

    /// The character of `\uXXXX`, or of two of them; U+FFFD for a lone surrogate.
    fn unicode_escape(&mut self) -> Result<char, DecodeError> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) || !self.rest().starts_with(b"\\u") {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        self.at += 2;
        let second = self.four_digits()?;
        if !(0xdc00..0xe000).contains(&second) {
            // The second escape stands for itself.
            self.at = before;
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let combined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        Ok(char::from_u32(combined).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.error("expected four hexadecimal digits"));
            };
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }

    /// Skips one value, whatever it is.
    pub(super) fn skip_value(&mut self) -> Result<(), DecodeError> {
        let mut open = Vec::new();
        loop {
            let close = match self.start()? {
                Start::Object => Some(b'}'),
                Start::Array => Some(b']'),
                Start::String => self.string().map(|_| None)?,
                Start::Number => self.number().map(|_| None)?,
                Start::True => self.word("true").map(|()| None)?,
                Start::False => self.word("false").map(|()| None)?,
                Start::Null => self.word("null").map(|()| None)?,
            };
            let opened = close.is_some();
            if let Some(close) = close {
                self.at += 1;
                open.push(close);
            }
            if open.len() > SKIP_DEPTH_MAX {
                return Err(self.error("nested too deep"));
            }
            if !self.next_skipped(&mut open, opened)? {
                return Ok(());
            }
        }
    }

    /// Goes on to the next value inside the innermost open bracket; `false` when all are closed.
    fn next_skipped(&mut self, open: &mut Vec<u8>, mut first: bool) -> Result<bool, DecodeError> {
        while let Some(close) = open.last().copied() {
            if self.more(close, first)? {
                if close == b'}' {
                    self.string()?;
                    self.expect(b':')?;
                }
                return Ok(true);
            }
            open.pop();
            first = false;
        }
        Ok(false)
    }
}

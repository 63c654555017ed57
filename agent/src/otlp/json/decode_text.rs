//! The cursor over JSON text: tokens, strings with their escapes, numbers, and values skipped without recursion.

use super::decode::{JsonError, Problem};

/// Values of unknown fields may be nested so deep: what the Collector's parser allows.
const SKIP_DEPTH_MAX: usize = 10_000;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// A position in JSON text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// A string as it stands between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether there is a backslash in it.
    pub(super) escaped: bool,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// An error at this place.
    #[cold]
    pub(super) fn error(&self, problem: Problem) -> JsonError {
        JsonError {
            offset: self.at,
            problem,
        }
    }

    /// The next byte that is not white space, not taken.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at).copied() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                found => return found,
            }
        }
    }

    /// Takes `byte` if it comes next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.unexpected(what))
    }

    /// That something else was expected here.
    #[cold]
    pub(super) fn unexpected(&self, what: &'static str) -> JsonError {
        self.error(if self.at >= self.text.len() {
            Problem::Truncated
        } else {
            Problem::Expected(what)
        })
    }

    /// Takes a word such as `null` if it comes next.
    #[inline]
    pub(super) fn word(&mut self, word: &[u8]) -> bool {
        self.peek();
        let found = self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word));
        if found {
            self.at += word.len();
        }
        found
    }

    /// Whether nothing but white space is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// After `{` or `[` when `first`, else after a value: whether another one follows. Takes the comma, or `close`.
    #[inline]
    pub(super) fn another(&mut self, first: bool, close: u8) -> Result<bool, JsonError> {
        if self.take(close) {
            return Ok(false);
        }
        if !first {
            self.expect(b',', "`,` or the end")?;
        }
        Ok(true)
    }

    /// A key and its colon.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Raw<'a>, JsonError> {
        let key = self.string("a key in quotes")?;
        self.expect(b':', "`:`")?;
        Ok(key)
    }

    /// A string.
    #[inline]
    pub(super) fn string(&mut self, what: &'static str) -> Result<Raw<'a>, JsonError> {
        self.expect(b'"', what)?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_length(self.text.get(self.at..).unwrap_or_default());
            match self.text.get(self.at) {
                Some(b'"') => {
                    let bytes = self.text.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(Raw { bytes, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(_) => return Err(self.error(Problem::ControlCharacter)),
                None => {
                    self.at = self.text.len();
                    return Err(self.error(Problem::Truncated));
                }
            }
        }
    }

    /// A number as it stands, by JSON's grammar.
    pub(super) fn number(&mut self) -> Result<&'a str, JsonError> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = number_length(rest).ok_or_else(|| self.unexpected("a number"))?;
        self.at += length;
        let number = rest.get(..length).unwrap_or_default();
        Ok(std::str::from_utf8(number).unwrap_or_default())
    }

    /// Takes any value without looking at it. Nesting costs a byte a level, not stack.
    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        let mut open: Vec<u8> = Vec::new();
        // Whether a value stands before this place in the innermost array or object.
        let mut first = self.skip_start(&mut open)?;
        while let Some(close) = open.last().copied() {
            if !self.another(first, close)? {
                open.pop();
                first = false;
                continue;
            }
            if close == b'}' {
                self.key()?;
            }
            first = self.skip_start(&mut open)?;
        }
        Ok(())
    }

    /// Takes a scalar, or the opening of an array or object; tells which.
    fn skip_start(&mut self, open: &mut Vec<u8>) -> Result<bool, JsonError> {
        let close = match self.peek() {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => return self.skip_scalar().map(|()| false),
        };
        if open.len() >= SKIP_DEPTH_MAX {
            return Err(self.error(Problem::Depth));
        }
        open.push(close);
        self.at += 1;
        Ok(true)
    }

    fn skip_scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => {
                let at = self.at;
                let raw = self.string("a value")?;
                if raw.escaped && unescape(raw.bytes, &mut Vec::new()).is_none() {
                    self.at = at;
                    return Err(self.error(Problem::Escape));
                }
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ if self.word(b"null") || self.word(b"true") || self.word(b"false") => Ok(()),
            _ => Err(self.unexpected("a value")),
        }
    }
}

/// How many bytes come before a quote, a backslash or a control character. Eight at a time.
#[inline]
fn plain_length(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // A zero byte in `word` sets its high bit; bits above the lowest one set may be wrong, and do not matter.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, tail) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let special = control
            | zeros(word ^ (ONES * u64::from(b'"')))
            | zeros(word ^ (ONES * u64::from(b'\\')));
        if special != 0 {
            return index * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let in_tail = tail.iter().position(special).unwrap_or(tail.len());
    text.len() - tail.len() + in_tail
}

/// The length of the number at the start of `text`.
fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut length = usize::from(text.first() == Some(&b'-'));
    let whole = digits(length);
    let leading_zero = whole > 1 && text.get(length) == Some(&b'0');
    if whole == 0 || leading_zero {
        return None;
    }
    length += whole;
    if text.get(length) == Some(&b'.') {
        let fraction = digits(length + 1);
        if fraction == 0 {
            return None;
        }
        length += 1 + fraction;
    }
    if let Some(b'e' | b'E') = text.get(length) {
        let sign = usize::from(matches!(text.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign);
        if exponent == 0 {
            return None;
        }
        length += 1 + sign + exponent;
    }
    Some(length)
}

/// Appends the text that `raw` stands for, which may not be UTF-8 where `raw` is not. A surrogate without its other half
/// becomes U+FFFD. Returns whether there was one; `None` when an escape is invalid.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Option<bool> {
    let mut lone = false;
    let mut rest = raw;
    while let Some(backslash) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escape) = rest.split_at(backslash);
        out.extend_from_slice(plain);
        let (kind, after) = escape.get(1..)?.split_first()?;
        rest = after;
        let plain = match kind {
            b'"' | b'\\' | b'/' => *kind,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (first, after) = code_unit(rest)?;
                rest = after;
                match character(first, &mut rest) {
                    Some(found) => {
                        out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    None => {
                        out.extend_from_slice(REPLACEMENT);
                        lone = true;
                    }
                }
                continue;
            }
            _ => return None,
        };
        out.push(plain);
    }
    out.extend_from_slice(rest);
    Some(lone)
}

/// Four hexadecimal digits, and what follows.
fn code_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let mut unit = 0;
    for digit in digits {
        unit = unit << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((unit, rest))
}

/// The character that starts with code unit `first`; takes the other half of a pair from `rest`. `None` for a lone surrogate.
fn character(first: u32, rest: &mut &[u8]) -> Option<char> {
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    let after = rest.strip_prefix(b"\\u")?;
    let (second, after) = code_unit(after)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    *rest = after;
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}

/// Appends `bytes`, with what is not UTF-8 replaced by U+FFFD. Returns whether there was any.
pub(super) fn append_repaired(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    if simdutf8::basic::from_utf8(bytes).is_ok() {
        out.extend_from_slice(bytes);
        return false;
    }
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_bytes_are_counted_as_one_by_one() {
        let mut text = vec![b'x'; 40];
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for at in 0..text.len() {
                text[at] = special;
                assert_eq!(plain_length(&text), at, "{special} at {at}");
                text[at] = b'x';
            }
        }
        for harmless in [0x20, 0x21, 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
            let text = [harmless; 17];
            assert_eq!(plain_length(&text), 17, "{harmless}");
        }
    }

    #[test]
    fn numbers_follow_the_grammar() {
        let check = |text: &str, expected: Option<usize>| {
            assert_eq!(number_length(text.as_bytes()), expected, "{text}");
        };
        check("0", Some(1));
        check("-0.5e+10,", Some(8));
        check("123]", Some(3));
        for wrong in ["", "-", "01", "-01", "1.", ".5", "1e", "1e+", "+1", "NaN"] {
            check(wrong, None);
        }
    }

    #[test]
    fn escapes_become_text() {
        let check = |raw: &str, expected: Option<(&str, bool)>| {
            let mut out = Vec::new();
            let lone = unescape(raw.as_bytes(), &mut out);
            let found = lone.map(|lone| (String::from_utf8(out).unwrap(), lone));
            let expected = expected.map(|(text, lone)| (text.to_owned(), lone));
            assert_eq!(found, expected, "{raw}");
        };
        check(
            r#"a\"\\\/\b\f\n\r\tz"#,
            Some(("a\"\\/\u{8}\u{c}\n\r\tz", false)),
        );
        check(r"\u0041\u00e9\u20AC", Some(("Aé€", false)));
        check(r"\ud83d\ude00!", Some(("😀!", false)));
        check(r"\ud83d!", Some(("\u{fffd}!", true)));
        check(r"\ude00", Some(("\u{fffd}", true)));
        check(r"\ud83d\u0041", Some(("\u{fffd}A", true)));
        check(r"\ud83d\ud83d\ude00", Some(("\u{fffd}😀", true)));
        for wrong in [r"\", r"\x", r"\u", r"\u12", r"\u12g4", r"\u+123"] {
            check(wrong, None);
        }
    }
}

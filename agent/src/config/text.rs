//! The texts that a configuration was read from, and places in them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::secret::mentions_secret;

/// A stretch of one text: bytes `start..end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Which text, by its position in [`Texts`].
    pub text: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// Where a problem is, for people. Ordered as the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position of the text among those that were read.
    order: usize,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The file's name, `stdin`, or `--set` and the key.
    pub file: Arc<str>,
    /// The whole line; empty where a secret may stand on it.
    pub excerpt: String,
    /// How many characters of the line are meant, at least 1.
    pub width: usize,
}

impl Place {
    /// The same place without the words that stand there, for lines with a secret on them.
    pub(crate) fn without_excerpt(mut self) -> Self {
        self.excerpt.clear();
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[derive(Debug)]
struct Text {
    name: Arc<str>,
    /// The folder that relative paths in the text start from.
    folder: Option<PathBuf>,
    content: String,
}

/// Every text that was read, in order.
#[derive(Debug, Default)]
pub(crate) struct Texts(Vec<Text>);

impl Texts {
    /// Adds a text and returns its position.
    pub(crate) fn add(&mut self, name: &str, folder: Option<&Path>, content: String) -> usize {
        self.0.push(Text {
            name: name.into(),
            folder: folder.map(Path::to_owned),
            content,
        });
        self.0.len() - 1
    }

    /// The content of a text; empty for one that there is not.
    pub(crate) fn content(&self, text: usize) -> &str {
        self.0.get(text).map_or("", |text| &text.content)
    }

    /// The folder that relative paths in a text start from; `None` means the working directory.
    pub(crate) fn folder(&self, text: usize) -> Option<&Path> {
        self.0.get(text)?.folder.as_deref()
    }

    /// The place of a span's first character.
    pub(crate) fn place(&self, span: Span) -> Option<Place> {
        let text = self.0.get(span.text)?;
        let start = floor_char(&text.content, span.start);
        let before = text.content.get(..start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.content.get(line_start..)?;
        let excerpt = rest.lines().next().unwrap_or("");
        let line_end = line_start + excerpt.len();
        let end = floor_char(&text.content, span.end).clamp(start, line_end.max(start));
        let characters =
            |from: usize, to: usize| text.content.get(from..to).map_or(0, |s| s.chars().count());
        Some(Place {
            order: span.text,
            line: before.matches('\n').count() + 1,
            column: characters(line_start, start) + 1,
            file: Arc::clone(&text.name),
            excerpt: match mentions_secret(before, excerpt) {
                true => String::new(),
                false => excerpt.to_owned(),
            },
            width: characters(start, end).max(1),
        })
    }
}

/// The character boundary at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let mut texts = Texts::default();
        texts.add("f", None, "a = 1\nä = 'ö'\n".to_owned());
        let check = |start, end, expected: (usize, usize, &str, usize)| {
            let span = Span {
                text: 0,
                start,
                end,
            };
            let place = texts.place(span).unwrap();
            assert_eq!(
                (
                    place.line,
                    place.column,
                    place.excerpt.as_str(),
                    place.width
                ),
                expected,
                "{start}..{end}"
            );
        };
        check(0, 1, (1, 1, "a = 1", 1));
        check(4, 5, (1, 5, "a = 1", 1));
        check(11, 15, (2, 5, "ä = 'ö'", 3));
        check(5, 9, (1, 6, "a = 1", 1));
        check(99, 120, (3, 1, "", 1));
    }

    #[test]
    fn lines_with_secrets_are_not_shown() {
        let mut texts = Texts::default();
        texts.add("f", None, "x = {password = 'p', y = 1}".to_owned());
        assert_eq!(texts.place(Span::default()).unwrap().excerpt, "");
    }
}

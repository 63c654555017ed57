//! The comments of a YAML document, which its parser leaves out, and what they are about.

use std::collections::BTreeMap;

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comment {
    /// The text with its `#`.
    pub text: String,
    /// Where it begins, counted from 1.
    pub column: usize,
    /// Whether it has the line for itself.
    pub alone: bool,
}

/// The comments on one thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Remarks {
    /// On the lines before.
    pub above: Vec<String>,
    /// At the end of the line.
    pub aside: Option<String>,
    /// On the lines behind, where nothing else follows that they could be about.
    pub below: Vec<String>,
}

/// All comments by line: whatever begins with a `#` at the beginning of a word, and not in a scalar. `scalars` are the
/// places of scalars in order: first character and the one behind the last.
pub(super) fn comments(
    text: &str,
    scalars: impl Iterator<Item = (usize, usize)>,
) -> BTreeMap<usize, Comment> {
    let mut scalars = scalars.peekable();
    let mut found = BTreeMap::new();
    let mut index = 0;
    for (line, content) in text.split('\n').enumerate() {
        let mut before = ' ';
        let mut alone = true;
        for (column, (offset, c)) in content.char_indices().enumerate() {
            let here = index + column;
            while scalars.next_if(|(_, end)| *end <= here).is_some() {}
            let in_scalar = scalars.peek().is_some_and(|(start, _)| *start <= here);
            if c == '#' && before.is_whitespace() && !in_scalar {
                let text = content.get(offset..).unwrap_or_default().trim_end();
                let comment = Comment {
                    text: text.to_owned(),
                    column: column + 1,
                    alone,
                };
                found.insert(line + 1, comment);
                break;
            }
            alone &= c.is_whitespace();
            before = c;
        }
        index += content.chars().count() + 1;
    }
    found
}

#[cfg(test)]
mod tests {

    #[test]
    fn what_is_in_a_scalar_is_no_comment() {
        let text = "a: b#c # one\n# two\n'd # e': \"f # g\" # three\nh: |\n  # no\n  i\n# four\nj: k l #five";
        let found = super::super::yaml::comments_of(text).unwrap();
        let found: Vec<_> = found
            .into_iter()
            .map(|(line, comment)| (line, comment.text, comment.alone))
            .collect();
        let expected = [
            (1, "# one".to_owned(), false),
            (2, "# two".to_owned(), true),
            (3, "# three".to_owned(), false),
            (7, "# four".to_owned(), true),
            (8, "#five".to_owned(), false),
        ];
        assert_eq!(found, expected);
    }
}

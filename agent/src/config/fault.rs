//! Why a value does not decode, in words for the person who wrote it.

use std::fmt::{self, Display};

use serde::de::{self, Unexpected};

use super::tree::{Node, Step, Value};

/// One reason why decoding stopped, and where. The steps are collected on the way up, innermost first.
#[derive(Debug)]
pub(crate) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    steps: Vec<Step>,
}

/// Why decoding stopped.
#[derive(Debug)]
pub(crate) enum Reason {
    /// A key that the table does not have.
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that it has.
        known: &'static [&'static str],
    },
    /// A word that is none of a list.
    UnknownWord {
        /// The word.
        word: String,
        /// The list.
        known: &'static [&'static str],
    },
    /// A value of another type, or outside of the range.
    Unfit {
        /// What was found.
        found: Found,
        /// What was expected, in serde's words.
        expected: String,
    },
    /// A key that must be there.
    Missing(&'static str),
    /// Anything else, in the words of the type.
    Other(String),
}

/// What stood where something else was expected.
#[derive(Debug)]
pub(crate) enum Found {
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// Text.
    Text(String),
    /// An array.
    List,
    /// A table.
    Table,
    /// Something else.
    Other(String),
}

impl Fault {
    fn new(reason: Reason) -> Self {
        Self(Box::new(Inner {
            reason,
            steps: Vec::new(),
        }))
    }

    /// The same, found below `step`.
    pub(crate) fn below(mut self, step: Step) -> Self {
        self.0.steps.push(step);
        self
    }

    /// The way from the root to the value, and the reason.
    pub(crate) fn into_parts(self) -> (Vec<Step>, Reason) {
        let Inner { reason, mut steps } = *self.0;
        steps.reverse();
        (steps, reason)
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.0.reason, None))
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(Reason::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Reason::Unfit {
            found: found.into(),
            expected: expected.to_string(),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownWord {
            word: word.to_owned(),
            known,
        })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownKey {
            key: key.to_owned(),
            known,
        })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Reason::Missing(key))
    }
}

impl From<Unexpected<'_>> for Found {
    fn from(found: Unexpected<'_>) -> Self {
        match found {
            Unexpected::Bool(flag) => Self::Bool(flag),
            Unexpected::Unsigned(number) => Self::Number(number.to_string()),
            Unexpected::Signed(number) => Self::Number(number.to_string()),
            Unexpected::Float(number) => Self::Number(format!("{number:?}")),
            Unexpected::Str(text) => Self::Text(text.to_owned()),
            Unexpected::Char(text) => Self::Text(text.to_string()),
            Unexpected::Seq => Self::List,
            Unexpected::Map => Self::Table,
            other => Self::Other(other.to_string()),
        }
    }
}

/// The reason in words. `node` is the value it is about, where there is one.
pub(crate) fn words(reason: &Reason, node: Option<&Node>) -> String {
    match reason {
        Reason::UnknownKey { key, known } => match suggestion(key, known.iter().copied()) {
            Some(close) => format!("unknown key; did you mean `{close}`?"),
            None if known.is_empty() => "unknown key; this table has no options".to_owned(),
            None => format!("unknown key; {}", list("valid keys are", known)),
        },
        Reason::UnknownWord { word, known } => {
            let start = format!("`{word}` is not valid here");
            match suggestion(word, known.iter().copied()) {
                Some(close) => format!("{start}; did you mean `{close}`?"),
                None => format!("{start}; {}", list("choose from", known)),
            }
        }
        Reason::Missing(key) => format!("`{key}` is required"),
        // serde's own words for a value of several possible types name one of Rust's.
        Reason::Other(message) if message.contains("of untagged enum") => {
            "this kind of value is not valid here".to_owned()
        }
        Reason::Other(message) => message.clone(),
        Reason::Unfit { found, expected } => unfit(found, expected, node),
    }
}

fn unfit(found: &Found, expected: &str, node: Option<&Node>) -> String {
    let wanted = plain_words(expected);
    let mut message = format!("expected {wanted}, found {found}");
    if let Some(Value::Given(given)) = node.map(|node| &node.value)
        && !given.written.is_empty()
    {
        message = format!("{message} (from `{}`)", given.written);
    }
    let hint = match found {
        Found::Number(number) if wanted == TEXT => format!("put it in quotes: `\"{number}\"`"),
        Found::Bool(flag) if wanted == TEXT => format!("put it in quotes: `\"{flag}\"`"),
        Found::Text(text) if wanted == FLAG && matches!(text.as_str(), "true" | "false") => {
            format!("write `{text}` without quotes")
        }
        Found::Text(text) if wanted.contains("number") && text.parse::<f64>().is_ok() => {
            format!("write `{text}` without quotes")
        }
        Found::Text(text) if wanted == LIST => format!("write `[\"{text}\"]`"),
        _ => return message,
    };
    format!("{message}; {hint}")
}

const TEXT: &str = "text in quotes";
const FLAG: &str = "`true` or `false`";
const LIST: &str = "an array";

/// serde's word for a type in words that somebody who does not know Rust understands.
fn plain_words(expected: &str) -> String {
    let words = match expected {
        "a string" | "string" | "a character" => TEXT,
        "a boolean" => FLAG,
        "a sequence" => LIST,
        "a map" => "a table",
        "string or map" => "a word in quotes or a table",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" | "u128" => "a whole number, 0 or more",
        "a nonzero u8" => "a whole number from 1 to 255",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number, 1 or more",
        "i8" => "a whole number from -128 to 127",
        "i16" => "a whole number from -32768 to 32767",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" | "isize" | "i128" => "a whole number",
        "f32" | "f64" => "a number",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    words.to_owned()
}

impl Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(flag) => write!(f, "`{flag}`"),
            Self::Number(number) => write!(f, "the number `{number}`"),
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::List => f.write_str("an array"),
            Self::Table => f.write_str("a table"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Past this many there is no point in listing them.
const LISTED_MAX: usize = 24;

/// `valid keys are: a, b, c`.
pub(crate) fn list(start: &str, words: &[&str]) -> String {
    if words.is_empty() {
        return format!("{start}: none");
    }
    let shown: Vec<&str> = words.iter().copied().take(LISTED_MAX).collect();
    let more = if words.len() > LISTED_MAX {
        ", …"
    } else {
        ""
    };
    format!("{start}: {}{more}", shown.join(", "))
}

/// The one of `known` that was probably meant by `word`: at most a third of its letters differ, or one is how
/// the other starts.
pub(crate) fn suggestion<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let normal = |text: &str| text.to_lowercase().replace('-', "_");
    let word = normal(word);
    if word.len() > SUGGESTED_LENGTH_MAX {
        return None;
    }
    known
        .into_iter()
        .filter_map(|candidate| {
            let normal = normal(candidate);
            let distance = strsim::damerau_levenshtein(&word, &normal);
            let close = distance <= candidate.chars().count().max(3) / 3;
            let shorter = word.len().min(normal.len());
            let start = shorter >= START_LENGTH_MIN
                && (normal.starts_with(&word) || word.starts_with(&normal));
            (close || start).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A shorter word is the start of too much.
const START_LENGTH_MIN: usize = 4;

/// A longer word is no slip of the finger, and comparing takes time with the square of it.
const SUGGESTED_LENGTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_gives_a_suggestion() {
        let known = ["endpoint", "timeout", "sending_queue", "ttl", "tls"];
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(suggestion(word, known), expected, "{word}")
        };
        check("endpont", Some("endpoint"));
        check("Endpoint", Some("endpoint"));
        check("sending-queue", Some("sending_queue"));
        check("timout", Some("timeout"));
        check("tlss", Some("tls"));
        check("end", None);
        check("send", Some("sending_queue"));
        check("timeouts_ms", Some("timeout"));
        check("database", None);
        check("", None);
        check(&"x".repeat(10_000), None);
    }
}

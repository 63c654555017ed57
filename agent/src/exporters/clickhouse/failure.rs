//! What went wrong with a statement, and whose turn it is: the class decides what happens to the batch.

use std::fmt;
use std::time::Duration;

use clickhouse::error::Error;

/// What can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The way to the server: another one may do.
    Unreachable,
    /// The server cannot now.
    Unavailable,
    /// The tables are not what they were thought to be: look again.
    Schema,
    /// The server does not let us in: an operator has to act. The data is kept.
    Denied,
    /// The server takes less at once.
    TooLarge,
    /// The server will never take this data.
    Rejected,
}

/// A failed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What can be done about it.
    pub(crate) class: Class,
    /// What the server or the way to it said.
    pub(crate) message: String,
    /// Whether the statement may have been carried out nevertheless: the server did not say that it was not.
    pub(crate) outcome_unknown: bool,
    /// When the server, or a proxy before it, wants to be asked again.
    pub(crate) after: Option<Duration>,
}

impl Failure {
    /// A schema that does not fit.
    pub(crate) fn schema(message: String) -> Self {
        Self {
            class: Class::Schema,
            message,
            outcome_unknown: false,
            after: None,
        }
    }

    /// What a server said: its exception, or a proxy's page, or a bare status.
    pub(super) fn said(text: &str) -> Self {
        let class = classify_response(text);
        Self {
            class,
            message: cut(format!("bad response: {text}")),
            // A proxy that has lost the server does not know what it did.
            outcome_unknown: class == Class::Unreachable
                || exception_code(text) == Some(UNKNOWN_STATUS_OF_INSERT),
            after: None,
        }
    }

    /// A success with words in it that are no exception: whoever said them is not the server that was meant.
    pub(super) fn nonsense(text: &str) -> Self {
        Self {
            class: Class::Unreachable,
            message: cut(format!("the answer to an insert is not empty: {text}")),
            outcome_unknown: true,
            after: None,
        }
    }

    /// The way to the server failed, before anything was sent.
    pub(super) fn unsent(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            outcome_unknown: false,
            ..Self::unreachable(error)
        }
    }

    /// The way to the server failed, or the way back.
    pub(super) fn unreachable(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            class: Class::Unreachable,
            message: cut(format!("network error: {}", describe(error))),
            outcome_unknown: true,
            after: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A replicated table that lost its Keeper in the middle.
const UNKNOWN_STATUS_OF_INSERT: u32 = 319;

/// Messages are cut here: some servers answer with a stack trace or the whole statement.
const MESSAGE_MAX: usize = 600;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let class = match &error {
            Error::Network(_) | Error::TimedOut => Class::Unreachable,
            Error::BadResponse(text) => classify_response(text),
            _ => Class::Unavailable,
        };
        Self {
            class,
            message: cut(describe(&error)),
            // No data goes this way.
            outcome_unknown: false,
            after: None,
        }
    }
}

fn cut(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_MAX) {
        message.truncate(end);
    }
    message
}

/// The error and the causes that its own text leaves out.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

fn classify_response(text: &str) -> Class {
    match exception_code(text) {
        Some(code) => classify_code(code, text),
        // A proxy's page or a bare status: the client keeps the status only of answers without a body.
        None if text.starts_with("413 ") => Class::TooLarge,
        None if text.starts_with("400 ") => Class::Rejected,
        None if text.starts_with("401 ") || text.starts_with("403 ") => Class::Denied,
        None => Class::Unreachable,
    }
}

/// The number in `Code: 60. DB::Exception: …`.
fn exception_code(text: &str) -> Option<u32> {
    let (_, after) = text.split_once("Code: ")?;
    let digits = after
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?;
    digits.parse().ok()
}

/// Codes as in ClickHouse's `ErrorCodes.cpp`. What is not listed may pass: memory limits, too many parts or
/// queries, read-only replicas, a missing Keeper, time-outs.
fn classify_code(code: u32, text: &str) -> Class {
    match code {
        // THERE_IS_NO_COLUMN, NOT_FOUND_COLUMN_IN_BLOCK, NO_SUCH_COLUMN_IN_TABLE, NUMBER_OF_COLUMNS_DOESNT_MATCH,
        // ILLEGAL_TYPE_OF_ARGUMENT, ILLEGAL_COLUMN, UNKNOWN_IDENTIFIER, TYPE_MISMATCH, UNKNOWN_TABLE,
        // CANNOT_CONVERT_TYPE, UNKNOWN_DATABASE, INCOMPATIBLE_COLUMNS
        8 | 10 | 16 | 20 | 43 | 44 | 47 | 53 | 60 | 70 | 81 | 122 => Class::Schema,
        // INCORRECT_DATA when a type of the block does not fit the table's
        117 if text.contains("Unknown column") => Class::Schema,
        // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, IP_ADDRESS_NOT_ALLOWED, DATABASE_ACCESS_DENIED,
        // ACCESS_DENIED, AUTHENTICATION_FAILED
        192..=195 | 291 | 497 | 516 => Class::Denied,
        // TOO_MANY_ROWS, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
        158 | 307 | 396 => Class::TooLarge,
        // CANNOT_PARSE_TEXT, CANNOT_PARSE_NUMBER, INCORRECT_DATA, TOO_LARGE_ARRAY_SIZE, TOO_LARGE_STRING_SIZE,
        // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE, VIOLATED_CONSTRAINT
        6 | 72 | 117 | 128 | 131 | 321 | 469 => Class::Rejected,
        _ => Class::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_have_their_class() {
        let check = |text: &str, expected| {
            let failure = Failure::from(Error::BadResponse(text.to_owned()));
            assert_eq!(failure.class, expected, "{text}");
        };
        check(
            "Code: 60. DB::Exception: Table a.b does not exist. (UNKNOWN_TABLE)",
            Class::Schema,
        );
        check(
            "Code: 16. DB::Exception: No such column x in table",
            Class::Schema,
        );
        check(
            "Code: 81. DB::Exception: Database x does not exist",
            Class::Schema,
        );
        check(
            "Code: 252. DB::Exception: Too many parts",
            Class::Unavailable,
        );
        check(
            "Code: 241. DB::Exception: Memory limit exceeded",
            Class::Unavailable,
        );
        check(
            "Code: 242. DB::Exception: Table is in readonly mode",
            Class::Unavailable,
        );
        check(
            "Code: 999. Coordination::Exception: Connection loss",
            Class::Unavailable,
        );
        check(
            "Code: 516. DB::Exception: default: Authentication failed",
            Class::Denied,
        );
        check(
            "Code: 497. DB::Exception: Not enough privileges",
            Class::Denied,
        );
        check("Code: 117. DB::Exception: Incorrect data", Class::Rejected);
        check(
            "Code: 469. DB::Exception: Constraint violated",
            Class::Rejected,
        );
        check("<html>502 Bad Gateway</html>", Class::Unreachable);
        check("503 Service Unavailable", Class::Unreachable);
        check("403 Forbidden", Class::Denied);
        check("413 Payload Too Large", Class::TooLarge);
        check("Code: 307. DB::Exception: Limit for bytes", Class::TooLarge);
    }

    #[test]
    fn what_the_server_did_not_deny_may_have_been_stored() {
        let check = |failure: Failure, expected| {
            assert_eq!(failure.outcome_unknown, expected, "{failure}");
        };
        check(Failure::said("502 Bad Gateway"), true);
        check(
            Failure::said("Code: 319. DB::Exception: Unknown status"),
            true,
        );
        check(
            Failure::said("Code: 241. DB::Exception: Memory limit"),
            false,
        );
        check(Failure::said("Code: 60. DB::Exception: No table"), false);
        check(Failure::said("413 Payload Too Large"), false);
        check(Failure::nonsense("<html>"), true);
        check(Failure::unreachable(&std::io::Error::other("reset")), true);
        check(Failure::unsent(&std::io::Error::other("refused")), false);
    }

    #[test]
    fn messages_are_cut() {
        let failure = Failure::from(Error::BadResponse("é".repeat(10_000)));
        assert_eq!(failure.message.chars().count(), MESSAGE_MAX);
    }
}

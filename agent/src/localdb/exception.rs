//! ClickHouse exceptions: read from the engine's text, made here, and mapped to HTTP as ClickHouse does.

use std::fmt;
use std::io;

use http::StatusCode;

/// An error with ClickHouse's number and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    /// ClickHouse's error number.
    pub(super) code: u16,
    /// ClickHouse's name for the number, such as `UNKNOWN_TABLE`.
    pub(super) name: String,
    /// What went wrong, without number, name and version.
    pub(super) message: String,
}

/// Number and name of the exceptions that do not come from the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(u16, &'static str);

pub(super) const CANNOT_READ_ALL_DATA: Kind = Kind(33, "CANNOT_READ_ALL_DATA");
pub(super) const BAD_ARGUMENTS: Kind = Kind(36, "BAD_ARGUMENTS");
pub(super) const CHECKSUM_DOESNT_MATCH: Kind = Kind(40, "CHECKSUM_DOESNT_MATCH");
pub(super) const NOT_IMPLEMENTED: Kind = Kind(48, "NOT_IMPLEMENTED");
pub(super) const SYNTAX_ERROR: Kind = Kind(62, "SYNTAX_ERROR");
pub(super) const UNKNOWN_COMPRESSION_METHOD: Kind = Kind(89, "UNKNOWN_COMPRESSION_METHOD");
pub(super) const READONLY: Kind = Kind(164, "READONLY");
pub(super) const TOO_MANY_SIMULTANEOUS_QUERIES: Kind = Kind(202, "TOO_MANY_SIMULTANEOUS_QUERIES");
pub(super) const CANNOT_DECOMPRESS: Kind = Kind(271, "CANNOT_DECOMPRESS");
pub(super) const INTO_OUTFILE_NOT_ALLOWED: Kind = Kind(358, "INTO_OUTFILE_NOT_ALLOWED");
pub(super) const SESSION_NOT_FOUND: Kind = Kind(372, "SESSION_NOT_FOUND");
pub(super) const SESSION_IS_LOCKED: Kind = Kind(373, "SESSION_IS_LOCKED");
pub(super) const INVALID_SESSION_TIMEOUT: Kind = Kind(374, "INVALID_SESSION_TIMEOUT");
pub(super) const AUTHENTICATION_FAILED: Kind = Kind(516, "AUTHENTICATION_FAILED");
pub(super) const UNKNOWN_EXCEPTION: Kind = Kind(1002, "UNKNOWN_EXCEPTION");

impl Exception {
    /// An exception of our own.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            code: kind.0,
            name: kind.1.to_owned(),
            message: message.into(),
        }
    }

    /// Reads the engine's text: `Code: 60. DB::Exception: ... (UNKNOWN_TABLE) (version ...)`. The engine
    /// sometimes wraps the same text twice; one layer is kept.
    pub(super) fn parse(text: &str) -> Self {
        let mut code = UNKNOWN_EXCEPTION.0;
        let mut rest = text.trim();
        while let Some((number, after)) = strip_prefix(rest) {
            code = number;
            rest = after;
        }
        let mut name = None;
        while let Some((before, found)) = strip_suffix(rest) {
            rest = before;
            if let Some(found) = found {
                name.get_or_insert(found);
            }
        }
        let name = name.unwrap_or(UNKNOWN_EXCEPTION.1).to_owned();
        Self {
            code,
            name,
            message: rest.to_owned(),
        }
    }

    /// Whether the engine could not parse the statement.
    pub(super) fn is_syntax_error(&self) -> bool {
        self.code == SYNTAX_ERROR.0
    }

    /// The status ClickHouse answers with.
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167
            | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => {
                StatusCode::NOT_FOUND
            }
            48 => StatusCode::NOT_IMPLEMENTED,
            76 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            159 => StatusCode::REQUEST_TIMEOUT,
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            381 => StatusCode::LENGTH_REQUIRED,
            779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The line a client reads.
    pub(super) fn render(&self, version: &str) -> String {
        let Self {
            code,
            name,
            message,
        } = self;
        format!("Code: {code}. DB::Exception: {message} ({name}) (version {version})\n")
    }
}

/// `Code: 60. DB::Exception: rest` → `(60, rest)`.
fn strip_prefix(text: &str) -> Option<(u16, &str)> {
    let (number, rest) = text.strip_prefix("Code: ")?.split_once(". ")?;
    let (class, rest) = rest.split_once(": ")?;
    let class_fits = class.starts_with("DB::") && class.ends_with("Exception");
    Some((number.parse().ok()?, rest)).filter(|_| class_fits)
}

/// Cuts one trailing `(version ...)` or `(SOME_NAME)`; the name, if it was one.
fn strip_suffix(text: &str) -> Option<(&str, Option<&str>)> {
    let text = text.trim_end();
    // The engine ends a wrapped text with a full stop of its own.
    let body = text.strip_suffix(").").or_else(|| text.strip_suffix(')'))?;
    if let Some((before, _)) = body.rsplit_once(" (version ") {
        return Some((before.trim_end(), None));
    }
    let (before, name) = body.rsplit_once(" (")?;
    let is_name = name.len() > 2
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then(|| (before.trim_end(), Some(name)))
}

impl fmt::Display for Exception {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Code: {}. DB::Exception: {} ({})",
            self.code, self.message, self.name
        )
    }
}

impl std::error::Error for Exception {}

impl From<Exception> for io::Error {
    fn from(exception: Exception) -> Self {
        Self::other(exception)
    }
}

/// What a failed read of a request's body means.
impl From<io::Error> for Exception {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(exception) => exception,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::new(
                CANNOT_READ_ALL_DATA,
                format!("The request's body ends too early: {error}."),
            ),
            Err(error) => Self::new(
                CANNOT_DECOMPRESS,
                format!("Cannot read the request's body: {error}."),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: u16, name: &str, message: &str) {
        let expected = Exception {
            code,
            name: name.to_owned(),
            message: message.to_owned(),
        };
        assert_eq!(Exception::parse(text), expected, "{text}");
    }

    #[test]
    fn engine_texts_are_taken_apart() {
        check(
            "Code: 60. DB::Exception: No x. (UNKNOWN_TABLE)",
            60,
            "UNKNOWN_TABLE",
            "No x.",
        );
        check(
            "Code: 115. DB::Exception: Code: 115. DB::Exception: Unknown setting 'b'. (UNKNOWN_SETTING) (version 26.7.2.1). (UNKNOWN_SETTING)",
            115,
            "UNKNOWN_SETTING",
            "Unknown setting 'b'.",
        );
        check(
            "Code: 117. DB::Exception: a: (at row 3)\n: While executing CSV. (INCORRECT_DATA) (version 26.7.2.1)",
            117,
            "INCORRECT_DATA",
            "a: (at row 3)\n: While executing CSV.",
        );
        check(
            "Code: 27. DB::ParsingException: bad (at row 1). (CANNOT_PARSE_INPUT)",
            27,
            "CANNOT_PARSE_INPUT",
            "bad (at row 1).",
        );
        check(
            "std::bad_alloc",
            1002,
            "UNKNOWN_EXCEPTION",
            "std::bad_alloc",
        );
        check("", 1002, "UNKNOWN_EXCEPTION", "");
        check(
            "Code: x. DB::Exception: y",
            1002,
            "UNKNOWN_EXCEPTION",
            "Code: x. DB::Exception: y",
        );
    }

    #[test]
    fn statuses_are_clickhouse_s() {
        for (code, status) in [
            (60, 404),
            (62, 400),
            (81, 404),
            (115, 404),
            (164, 500),
            (241, 500),
            (395, 500),
            (48, 501),
            (516, 403),
            (194, 401),
            (159, 408),
        ] {
            let exception = Exception {
                code,
                name: String::new(),
                message: String::new(),
            };
            assert_eq!(exception.status().as_u16(), status, "{code}");
        }
    }

    #[test]
    fn body_errors_keep_the_exception_inside() {
        let inner = Exception::new(CHECKSUM_DOESNT_MATCH, "x");
        assert_eq!(Exception::from(io::Error::from(inner.clone())), inner);
        assert_eq!(
            Exception::from(io::Error::from(io::ErrorKind::UnexpectedEof)).code,
            33
        );
        assert_eq!(Exception::from(io::Error::other("x")).code, 271);
    }

    #[test]
    fn rendering_ends_with_name_version_and_newline() {
        let text = Exception::new(SYNTAX_ERROR, "Bad.").render("26.7");
        assert_eq!(
            text,
            "Code: 62. DB::Exception: Bad. (SYNTAX_ERROR) (version 26.7)\n"
        );
    }
}

//! A request's URL parameters and ClickHouse headers, parsed once.

use http::HeaderMap;

use super::exception::{BAD_ARGUMENTS, Exception, INVALID_SESSION_TIMEOUT};
use super::ffi::QueryParameter;
use super::form;

/// Everything the URL and the headers say about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// The query's text in the URL, in front of the body.
    pub(super) query: Vec<u8>,
    /// The database that unqualified names are looked up in.
    pub(super) database: Option<String>,
    /// The format of an answer whose query names none.
    pub(super) default_format: Option<String>,
    pub(super) query_id: Option<String>,
    pub(super) session: Option<SessionParameters>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// Answer in ClickHouse's compressed blocks.
    pub(super) compress: bool,
    /// The body is in ClickHouse's compressed blocks.
    pub(super) decompress: bool,
    /// Hold the answer back until the query has ended.
    pub(super) wait_end_of_query: bool,
    /// How much of an answer to hold back, in bytes.
    pub(super) buffer_size: Option<usize>,
    /// The revision that the client reads Native blocks in; 0 for the plain layout.
    pub(super) client_protocol_version: u32,
    /// Values for `{name:Type}` placeholders.
    pub(super) placeholders: Vec<QueryParameter>,
    /// Settings of the engine, in the order given.
    pub(super) settings: Vec<(String, String)>,
}

/// A request's wish to share state with other requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionParameters {
    pub(super) id: String,
    /// How long the session outlives the request, in seconds.
    pub(super) timeout_seconds: u64,
    /// Refuse to begin a session; only go on with one.
    pub(super) must_exist: bool,
}

/// ClickHouse's bound on `session_timeout`.
const SESSION_TIMEOUT_SECONDS_MAX: u64 = 3600;
const SESSION_TIMEOUT_SECONDS_DEFAULT: u64 = 60;

impl Parameters {
    /// Reads the part of the URL after `?` and the headers. Headers yield to the URL, as in ClickHouse.
    ///
    /// # Errors
    /// A parameter that is no number where a number is due.
    pub(super) fn parse(url_query: &str, headers: &HeaderMap) -> Result<Self, Exception> {
        let mut parameters = Self::default();
        let mut session = SessionParameters {
            id: String::new(),
            timeout_seconds: SESSION_TIMEOUT_SECONDS_DEFAULT,
            must_exist: false,
        };
        for pair in url_query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = String::from_utf8_lossy(&decode(name)).into_owned();
            parameters.set(&mut session, name, decode(value))?;
        }
        if !session.id.is_empty() {
            parameters.session = Some(session);
        }
        parameters.read_headers(headers);
        Ok(parameters)
    }

    /// Takes one named value.
    fn set(
        &mut self,
        session: &mut SessionParameters,
        name: String,
        value: Vec<u8>,
    ) -> Result<(), Exception> {
        let text = || String::from_utf8_lossy(&value).into_owned();
        match name.as_str() {
            "query" => self.query.extend_from_slice(&value),
            "database" => self.database = Some(text()).filter(|name| !name.is_empty()),
            "default_format" => self.default_format = Some(text()).filter(|name| !name.is_empty()),
            "query_id" => self.query_id = Some(text()).filter(|id| !id.is_empty()),
            "user" => self.user = Some(text()),
            "password" => self.password = Some(text()),
            "compress" => self.compress = flag(&name, &text())?,
            "decompress" => self.decompress = flag(&name, &text())?,
            "wait_end_of_query" => self.wait_end_of_query = flag(&name, &text())?,
            "buffer_size" => self.buffer_size = Some(number(&name, &text())?),
            "client_protocol_version" => self.client_protocol_version = number(&name, &text())?,
            "session_id" => session.id = text(),
            "session_check" => session.must_exist = flag(&name, &text())?,
            "session_timeout" => {
                let seconds: u64 = number(&name, &text())?;
                if seconds > SESSION_TIMEOUT_SECONDS_MAX {
                    return Err(Exception::new(
                        INVALID_SESSION_TIMEOUT,
                        format!(
                            "Session timeout '{seconds}' is larger than max_session_timeout: {SESSION_TIMEOUT_SECONDS_MAX}."
                        ),
                    ));
                }
                session.timeout_seconds = seconds;
            }
            // Understood by ClickHouse, without a meaning for one user of one process.
            "quota_key" | "stacktrace" | "role" | "close_session" => {}
            _ => match name.strip_prefix("param_") {
                Some(placeholder) => self.placeholders.push((placeholder.to_owned(), value)),
                None => {
                    let text = text();
                    self.settings.push((name, text));
                }
            },
        }
        Ok(())
    }

    fn read_headers(&mut self, headers: &HeaderMap) {
        let header = |name: &str| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        self.database = self
            .database
            .take()
            .or_else(|| header("x-clickhouse-database"));
        self.default_format = self
            .default_format
            .take()
            .or_else(|| header("x-clickhouse-format"));
        self.user = self.user.take().or_else(|| header("x-clickhouse-user"));
        self.password = self.password.take().or_else(|| header("x-clickhouse-key"));
        if self.user.is_none()
            && let Some((user, password)) = header("authorization")
                .as_deref()
                .and_then(basic_credentials)
        {
            self.user = Some(user);
            self.password = Some(password);
        }
    }

    /// Takes the fields of a form, which mean what they mean in a URL.
    ///
    /// # Errors
    /// As [`Parameters::parse`].
    pub(super) fn add_form(&mut self, fields: Vec<form::Field>) -> Result<(), Exception> {
        // A session is taken before the body is read.
        let mut unused = SessionParameters {
            id: String::new(),
            timeout_seconds: 0,
            must_exist: false,
        };
        fields
            .into_iter()
            .try_for_each(|(name, value)| self.set(&mut unused, name, value))
    }

    /// A setting of this request, if given.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .rev()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Exception> {
    let complain = |_| {
        Exception::new(
            BAD_ARGUMENTS,
            format!("Parameter {name} is no number: '{text}'."),
        )
    };
    text.parse().map_err(complain)
}

fn flag(name: &str, text: &str) -> Result<bool, Exception> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" | "" => Ok(false),
        _ => Err(Exception::new(
            BAD_ARGUMENTS,
            format!("Parameter {name} is neither 0 nor 1: '{text}'."),
        )),
    }
}

/// Undoes `%41` and `+`; what is no valid escape stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => match after.first_chunk::<2>().and_then(hex_pair) {
                Some(value) => {
                    decoded.push(value);
                    rest = &after[2..];
                }
                None => decoded.push(b'%'),
            },
            _ => decoded.push(byte),
        }
    }
    decoded
}

/// The byte that two hex digits stand for.
pub(super) fn hex_pair(digits: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// `Basic dXNlcjpwdw==` → user and password.
fn basic_credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64(encoded.trim())?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// RFC 4648 base64, padding optional.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, headers: &[(&'static str, &str)]) -> Result<Parameters, Exception> {
        let headers = headers.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                http::HeaderValue::from_str(value).unwrap(),
            )
        });
        Parameters::parse(query, &headers.collect())
    }

    #[test]
    fn reserved_names_settings_and_placeholders_are_told_apart() {
        let found = parse(
            "query=SELECT+%7Bx:UInt8%7D&database=d&default_format=JSON&param_x=a%00b&max_threads=2&compress=1&\
             query_id=q&session_id=s&session_timeout=3600&session_check=1&wait_end_of_query=1&quota_key=k&",
            &[],
        );
        let expected = Parameters {
            query: b"SELECT {x:UInt8}".to_vec(),
            database: Some("d".into()),
            default_format: Some("JSON".into()),
            query_id: Some("q".into()),
            session: Some(SessionParameters {
                id: "s".into(),
                timeout_seconds: 3600,
                must_exist: true,
            }),
            compress: true,
            wait_end_of_query: true,
            placeholders: vec![("x".into(), b"a\0b".to_vec())],
            settings: vec![("max_threads".into(), "2".into())],
            ..Parameters::default()
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn escapes_are_undone_once() {
        for (text, expected) in [
            ("a%20b+c", "a b c"),
            ("%2B%25", "+%"),
            ("%zz%4", "%zz%4"),
            ("", ""),
            ("%C3%BC", "ü"),
            ("%+1", "% 1"),
        ] {
            assert_eq!(decode(text), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn credentials_come_from_url_headers_or_basic() {
        for (query, headers, user, password) in [
            ("user=u&password=p", vec![], Some("u"), Some("p")),
            (
                "",
                vec![("x-clickhouse-user", "u"), ("x-clickhouse-key", "p")],
                Some("u"),
                Some("p"),
            ),
            (
                "",
                vec![("authorization", "Basic dTpwOnE=")],
                Some("u"),
                Some("p:q"),
            ),
            ("", vec![("authorization", "Bearer x")], None, None),
            (
                "user=a",
                vec![("x-clickhouse-user", "b"), ("authorization", "Basic dTpw")],
                Some("a"),
                None,
            ),
        ] {
            let found = parse(query, &headers).unwrap();
            assert_eq!(
                (found.user.as_deref(), found.password.as_deref()),
                (user, password),
                "{query} {headers:?}"
            );
        }
    }

    #[test]
    fn numbers_and_flags_are_checked() {
        for query in [
            "compress=x",
            "buffer_size=-1",
            "session_timeout=abc",
            "client_protocol_version=1.5",
        ] {
            assert_eq!(parse(query, &[]).unwrap_err().code, 36, "{query}");
        }
    }

    #[test]
    fn a_session_that_would_not_end_is_refused() {
        let code = |seconds: &str| {
            parse(&format!("session_id=s&session_timeout={seconds}"), &[])
                .err()
                .map(|error| error.code)
        };
        assert_eq!(code("3600"), None);
        assert_eq!(code("3601"), Some(374));
        assert_eq!(code("18446744073709551615"), Some(374));
    }

    #[test]
    fn the_last_value_of_a_setting_counts() {
        let found = parse("a=1&b=2&a=3", &[]).unwrap();
        assert_eq!(
            (found.setting("a"), found.setting("b"), found.setting("c")),
            (Some("3"), Some("2"), None)
        );
    }
}

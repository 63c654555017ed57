//! Form bodies (`multipart/form-data`, RFC 7578): the query and its parameters, sent where a URL would be long.

use super::exception::{BAD_ARGUMENTS, Exception, NOT_IMPLEMENTED};

/// A form's field and its value.
pub(super) type Field = (String, Vec<u8>);

/// The boundary that a `Content-Type` names; `None` if it is no form's.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary")
}

/// Takes a form apart.
///
/// # Errors
/// A body that is no such form, or one with files: external tables, which the embedded engine cannot take.
pub(super) fn parse(body: &[u8], boundary: &str) -> Result<Vec<Field>, Exception> {
    let malformed = || {
        Exception::new(
            BAD_ARGUMENTS,
            "The form in the request's body is malformed.",
        )
    };
    let delimiter = format!("--{boundary}");
    let mut rest = body
        .strip_prefix(delimiter.as_bytes())
        .ok_or_else(malformed)?;
    let delimiter = format!("\r\n{delimiter}");
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        let part = rest.strip_prefix(b"\r\n").ok_or_else(malformed)?;
        let (head, after) = split_at(part, b"\r\n\r\n").ok_or_else(malformed)?;
        let (value, after) = split_at(after, delimiter.as_bytes()).ok_or_else(malformed)?;
        let head = String::from_utf8_lossy(head);
        let disposition = head.lines().find_map(disposition).ok_or_else(malformed)?;
        let name = parameter(disposition, "name").ok_or_else(malformed)?;
        if parameter(disposition, "filename").is_some() {
            let message = format!(
                "External tables, such as '{name}', are not available in the embedded engine."
            );
            return Err(Exception::new(NOT_IMPLEMENTED, message));
        }
        fields.push((name, value.to_vec()));
        rest = after;
    }
    Ok(fields)
}

/// What stands before and after the first `separator`.
fn split_at<'body>(body: &'body [u8], separator: &[u8]) -> Option<(&'body [u8], &'body [u8])> {
    let at = body
        .windows(separator.len())
        .position(|window| window == separator)?;
    Some((&body[..at], &body[at + separator.len()..]))
}

/// The parameters of a Content-Disposition header.
fn disposition(line: &str) -> Option<&str> {
    let (name, value) = line.split_once(':')?;
    let (_, parameters) = value.split_once(';')?;
    name.trim()
        .eq_ignore_ascii_case("content-disposition")
        .then_some(parameters)
}

/// A parameter of a header, with or without quotes.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    parameters.split(';').find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        found
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_read() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            (
                "Multipart/Form-Data;charset=x; Boundary=\"a b\"",
                Some("a b"),
            ),
            ("text/plain; boundary=abc", None),
            ("multipart/form-data", None),
        ] {
            assert_eq!(
                boundary(content_type).as_deref(),
                expected,
                "{content_type}"
            );
        }
    }

    #[test]
    fn fields_are_taken_apart() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n--b\r\n\
                     Content-Type: text/plain\r\ncontent-disposition: form-data; name=param_x\r\n\r\n\r\n--b--\r\n";
        let expected = vec![
            ("query".to_owned(), b"SELECT\r\n1".to_vec()),
            ("param_x".to_owned(), vec![]),
        ];
        assert_eq!(parse(body, "b"), Ok(expected));
        assert_eq!(parse(b"--b--", "b"), Ok(vec![]));
    }

    #[test]
    fn broken_forms_and_files_are_refused() {
        let file =
            b"--b\r\nContent-Disposition: form-data; name=\"t\"; filename=\"t\"\r\n\r\n1\r\n--b--"
                .as_slice();
        for (body, code) in [
            (file, 48),
            (b"".as_slice(), 36),
            (b"--b", 36),
            (
                b"--b\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\nno end",
                36,
            ),
            (
                b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--",
                36,
            ),
            (b"--b\r\n\r\n1\r\n--b--", 36),
        ] {
            assert_eq!(
                parse(body, "b").unwrap_err().code,
                code,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }
}

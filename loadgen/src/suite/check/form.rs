//! What a text has to be once it is filled in.

use http::Uri;

use super::super::walk::Form;
use crate::cli::parse_duration;
use crate::faults::fault::Rule;

/// What is wrong with a text that is to be of this form.
pub(super) fn problem(form: Form, text: &str) -> Option<String> {
    match form {
        Form::Duration => parse_duration(text).err().map(|it| format!("{it:#}")),
        Form::Whole => {
            let wrong = text.trim().parse::<u32>().is_err();
            wrong.then(|| format!("`{text}` is no whole number"))
        }
        Form::Interval => match parse_duration(text) {
            Ok(interval) if interval.is_zero() => Some("it must be more than 0".to_owned()),
            other => other.err().map(|it| format!("{it:#}")),
        },
        Form::Fault => Rule::parse(text).err().map(|it| format!("{it:#}")),
        Form::Query => has_format(text).then(|| "write it without `FORMAT`".to_owned()),
        Form::Url => no_url(text),
        Form::Pointer => no_pointer(text),
        Form::Template | Form::Condition | Form::Expression | Form::Summary => None,
    }
}

/// Everything that a suite asks, it asks over plain HTTP.
fn no_url(text: &str) -> Option<String> {
    let has_host = |uri: &Uri| uri.host().is_some_and(|it| !it.is_empty());
    match text.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && has_host(&uri) => None,
        Ok(uri) if uri.scheme_str() == Some("https") => {
            Some(format!("`{text}`: suites ask over http:// only"))
        }
        _ => Some(format!("`{text}` is no URL: write `http://HOST:PORT/…`")),
    }
}

/// Whether the query ends in `FORMAT name`.
fn has_format(sql: &str) -> bool {
    let mut words = sql
        .trim_end_matches([';', ' ', '\n'])
        .split_ascii_whitespace();
    let before_last = words.by_ref().rev().nth(1);
    before_last.is_some_and(|it| it.eq_ignore_ascii_case("format"))
}

/// As RFC 6901 has them; the empty one is the whole answer.
fn no_pointer(text: &str) -> Option<String> {
    if text.is_empty() || text.starts_with('/') {
        return None;
    }
    let meant = text.trim_start_matches('$').replace('.', "/");
    let meant = meant.trim_start_matches('/');
    Some(format!(
        "`{text}` is no JSON pointer: write `/{meant}`, with a `/` before every key"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_asked_is_a_url() {
        let check = |text: &str, expected: bool| {
            assert_eq!(no_url(text).is_none(), expected, "{text}");
        };
        check("http://127.0.0.1:8080/a?b=c", true);
        check("http://localhost", true);
        for wrong in [
            "",
            "nourl",
            "localhost:80",
            "/path",
            "https://a",
            "http://",
            "http://a b",
        ] {
            check(wrong, false);
        }
    }

    #[test]
    fn pointers_begin_with_a_slash_and_the_right_one_is_told() {
        assert_eq!(no_pointer("/tables/*/items"), None);
        assert_eq!(no_pointer(""), None);
        for (wrong, right) in [("answered", "`/answered`"), ("$.a.b", "`/a/b`")] {
            let told = no_pointer(wrong).unwrap();
            assert!(told.contains(right), "{told}");
        }
    }
}

//! What a run was asked to do, kept beside its figures, without secrets.

use serde::{Deserialize, Serialize};

/// What stands in place of a secret.
const REDACTED: &str = "***";
/// Parts of names whose values are nobody's business.
const SECRET_NAMES: [&str; 7] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
];

/// A scenario, suite, rendered configuration or command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Input {
    /// What the command line is called among the inputs.
    pub(crate) const COMMAND_LINE: &str = "command line";

    /// Keeps `text` without the secrets in it.
    pub(crate) fn new(name: impl Into<String>, text: &str) -> Self {
        let lines: Vec<_> = text.lines().map(redacted_line).collect();
        Self {
            name: name.into(),
            text: lines.join("\n"),
        }
    }

    /// The command line of this process.
    pub(crate) fn command_line() -> Self {
        let arguments: Vec<_> = std::env::args_os()
            .skip(1)
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        Self {
            name: Self::COMMAND_LINE.to_owned(),
            text: format!("loadgen {}", redacted_arguments(&arguments).join(" ")),
        }
    }
}

/// Arguments as a shell would take them, without the values of `--password` and its like.
fn redacted_arguments(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut value_is_secret = false;
    for argument in arguments {
        let is_option = argument.starts_with("--");
        shown.push(match (value_is_secret, is_option) {
            (true, false) => REDACTED.to_owned(),
            _ => quoted(&redacted_line(argument)),
        });
        value_is_secret = is_option && !argument.contains('=') && is_secret(argument);
    }
    shown
}

fn quoted(argument: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_=+:,./@%*".contains(it);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// The line without the user of a URL, and without the value of a `name = value`, `name: value` or
/// `"name": "value"` whose name says that it is secret. References to variables stay.
fn redacted_line(line: &str) -> String {
    let line = redacted_urls(line);
    let Some(place) = line.find(['=', ':']) else {
        return line;
    };
    let (name, rest) = line.split_at(place);
    let (separator, value) = rest.split_at(1);
    let value_text = value.trim().trim_matches(['"', '\'', ',']);
    if !is_secret(name) || value_text.is_empty() || value_text.starts_with("${") {
        return line;
    }
    let space = if value.starts_with(' ') { " " } else { "" };
    let quote = if value.trim_start().starts_with('"') {
        "\""
    } else {
        ""
    };
    format!("{name}{separator}{space}{quote}{REDACTED}{quote}")
}

/// `scheme://user:password@host` becomes `scheme://***@host`, wherever it stands.
fn redacted_urls(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after
            .find(|it: char| "/?# \"'".contains(it))
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                shown.push_str(REDACTED);
                shown.push('@');
                shown.push_str(host);
            }
            None => shown.push_str(authority),
        }
        rest = tail;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_stay_in_texts() {
        let check = |line: &str, expected: &str| {
            assert_eq!(Input::new("a", line).text, expected);
        };
        check("password = \"hunter2\"", "password = \"***\"");
        check("api-key: abc", "api-key: ***");
        check("Authorization: Bearer abc", "Authorization: ***");
        check(
            "password = \"${env:PASSWORD}\"",
            "password = \"${env:PASSWORD}\"",
        );
        check(
            "url = \"http://me:pw@h:1/x@y\"",
            "url = \"http://***@h:1/x@y\"",
        );
        check("endpoint = \"http://h:1\"", "endpoint = \"http://h:1\"");
        check("rate = 5\npasswd=x", "rate = 5\npasswd=***");
    }

    #[test]
    fn secrets_do_not_stay_in_command_lines() {
        let check = |line: &str, expected: &str| {
            let arguments: Vec<_> = line.split('|').map(str::to_owned).collect();
            assert_eq!(redacted_arguments(&arguments).join(" "), expected);
        };
        check(
            "http|--password|x|--user|me",
            "http --password *** --user me",
        );
        check("--password=x", "--password=***");
        check("-H|Authorization: Bearer x", "-H 'Authorization: ***'");
        check("http://a:b@c/|it's", r"http://***@c/ 'it'\''s'");
        check("--token|--json|f", "--token --json f");
    }
}

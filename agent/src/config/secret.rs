//! Which values are secrets, and the configuration without them.

use super::tree::{Node, Table, Value};

/// What stands in for a secret.
pub(crate) const REDACTED: &str = "[REDACTED]";

/// Words in a key that say that its value is a secret. A key that ends in `_file` or `_path` names a place.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "hash_key",
    "signing_key",
    "encryption_key",
    "key_pem",
];

/// Tables of headers: there also a key that only ends in `key` is a secret, such as `X-ClickHouse-Key`.
const HEADER_TABLES: &[&str] = &["headers", "metadata", "auth"];

/// Tables whose keys are names that somebody gave.
const NAMED_TABLES: &[&str] = &["receivers", "processors", "exporters", "extensions"];

/// Whether the values of a key are secrets. `parent` is the key of the table it is in.
pub(crate) fn is_secret_key(parent: &str, key: &str) -> bool {
    if NAMED_TABLES.contains(&parent) || key == "htpasswd" {
        return false;
    }
    if parent == "htpasswd" && key == "inline" {
        return true;
    }
    let key = key.to_lowercase().replace('-', "_");
    if ["_file", "_path"].iter().any(|end| key.ends_with(end)) {
        return false;
    }
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || (HEADER_TABLES.contains(&parent) && (key.ends_with("key") || key.ends_with("auth")))
}

/// Whether the values of a key are not shown: those of secret keys, and every header that is sent. Vendors name the one with their
/// key as they like (`x-honeycomb-team`); the Collector hides them all, too (`configopaque.MapList`).
pub(crate) fn is_hidden_key(parent: &str, key: &str) -> bool {
    parent == "headers" || is_secret_key(parent, key)
}

/// Whether the parameter of a URL's query is a secret.
fn is_secret_parameter(key: &str) -> bool {
    let lower = key.to_lowercase();
    is_secret_key("headers", key)
        || lower.ends_with("signature")
        || ["sig", "pwd", "pass"].contains(&lower.as_str())
}

/// Whether a line has the key `headers`, or is the heading of such a table: not `allowed_headers`, which are names.
fn names_headers(line: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .any(|word| word == "headers")
}

/// Whether a secret may stand on a line of a configuration, after what comes `before` it.
pub(crate) fn mentions_secret(before: &str, line: &str) -> bool {
    let heading = before
        .lines()
        .rfind(|line| line.trim_start().starts_with('['));
    let lower = line.to_lowercase().replace('-', "_");
    heading.is_some_and(names_headers)
        || names_headers(&lower)
        || SECRET_WORDS.iter().any(|word| lower.contains(word))
        || without_userinfo(line) != line
}

/// The text with the userinfo of every URL in it taken out, and the secret parameters of its query.
pub(crate) fn without_userinfo(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, tail) = rest.split_at(at + "://".len());
        out.push_str(before);
        let end = tail
            .find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace())
            .unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        match authority.rfind('@') {
            Some(at) => {
                out.push_str(REDACTED);
                out.push_str(authority.split_at(at).1);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    without_parameters(&out)
}

/// The text with the values of secret query parameters taken out.
fn without_parameters(text: &str) -> String {
    let Some((start, query)) = text.split_once('?') else {
        return text.to_owned();
    };
    let parameters: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((key, _)) if is_secret_parameter(key) => format!("{key}={REDACTED}"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{start}?{}", parameters.join("&"))
}

/// The tree without secrets: values of secret keys, contents of files, credentials in URLs, and wherever else the text
/// of one of them stands.
pub(crate) fn redacted(root: &Node) -> Node {
    let known = Secrets::of(root);
    let mut root = root.clone();
    redact(&mut root, "", "", false, &known);
    root
}

/// The texts of a configuration that are secrets: values of secret keys, and contents of files.
#[derive(Debug)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn of(root: &Node) -> Self {
        let mut known = Vec::new();
        collect(root, "", false, &mut known);
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        known.dedup();
        Self(known)
    }

    /// The text without them, and without credentials in URLs.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut clean = without_userinfo(text);
        for secret in &self.0 {
            clean = clean.replace(secret.as_str(), REDACTED);
        }
        clean
    }
}

/// A shorter secret may be part of any word.
const KNOWN_LENGTH_MIN: usize = 6;

/// Collects the texts of secrets.
fn collect(node: &Node, parent: &str, secret: bool, known: &mut Vec<String>) {
    match &node.value {
        Value::Text(text) if secret => keep(text, known),
        Value::Given(given) if secret || given.from_file => {
            keep(&given.text, known);
            given.parts.iter().for_each(|part| keep(part, known));
        }
        Value::List(items) => items
            .iter()
            .for_each(|item| collect(item, parent, secret, known)),
        Value::Table(Table(entries)) => {
            for entry in entries {
                let secret = secret || is_secret_key(parent, &entry.key);
                collect(&entry.node, &entry.key, secret, known);
            }
        }
        _ => {}
    }
}

fn keep(text: &str, known: &mut Vec<String>) {
    if text.len() >= KNOWN_LENGTH_MIN {
        known.push(text.to_owned());
    }
}

fn redact(node: &mut Node, parent: &str, key: &str, secret: bool, known: &Secrets) {
    let secret = secret || is_hidden_key(parent, key);
    match &mut node.value {
        Value::List(items) => {
            for item in items {
                redact(item, parent, key, secret, known);
            }
        }
        Value::Table(Table(entries)) => {
            for entry in entries {
                redact(&mut entry.node, key, &entry.key, secret, known);
            }
        }
        // An empty value hides nothing, and that it is empty may be the fault that somebody looks for.
        Value::Text(text) if text.is_empty() => {}
        value if secret => *value = Value::Text(REDACTED.to_owned()),
        Value::Given(given) if given.from_file => {
            node.value = Value::Text(REDACTED.to_owned());
        }
        Value::Text(text) => *text = known.scrub(text),
        Value::Given(given) => {
            let clean = known.scrub(&given.text);
            if clean != given.text {
                node.value = Value::Text(clean);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_secrets_are_known_by_their_words() {
        let check =
            |parent, key, expected| assert_eq!(is_secret_key(parent, key), expected, "{key}");
        check("clickhouse", "password", true);
        check("tls", "key_pem", true);
        check("tls", "key_file", false);
        check("headers", "Authorization", true);
        check("headers", "X-ClickHouse-Key", true);
        check("headers", "x-scope", false);
        check("auth", "bearer_token", true);
        check("sending_queue", "queue_size", false);
        check("clickhouse", "traces_table_name", false);
        check("clickhouse", "password_file", false);
        check("extensions", "bearertokenauth", false);
        check("bearertokenauth", "token", true);
        check("bearertokenauth", "tokens", true);
        check("bearertokenauth", "filename", false);
        check("auth", "authenticator", false);
        check("basicauth", "htpasswd", false);
        check("htpasswd", "inline", true);
        check("htpasswd", "file", false);
        check("client_auth", "password", true);
        check("client_auth", "username", false);
    }

    #[test]
    fn no_header_that_is_sent_is_shown() {
        assert!(is_hidden_key("headers", "x-honeycomb-team"));
        assert!(!is_hidden_key("response_headers", "x-frame-options"));
        let check = |before, line, expected| {
            assert_eq!(mentions_secret(before, line), expected, "{before}{line}");
        };
        check("", "headers = { x-honeycomb-team = 1 }", true);
        check("", "cors.allowed_headers = [1]", false);
        let table = "[exporters.otlp_http.headers]\nuser-agent = 'a'\n";
        check(table, "x-honeycomb-team = 1", true);
        check(
            &format!("{table}[processors.batch]\n"),
            "timeout = 1",
            false,
        );
    }

    #[test]
    fn urls_lose_their_credentials() {
        let check =
            |text: &str, expected: &str| assert_eq!(without_userinfo(text), expected, "{text}");
        check("http://u:p@h:1/x", "http://[REDACTED]@h:1/x");
        check("http://h:1/x@y", "http://h:1/x@y");
        check(
            "tcp://h/db?username=u&password=p&a=b",
            "tcp://h/db?username=u&password=[REDACTED]&a=b",
        );
        check(
            "http://h/?sig=a&X-Amz-Signature=b&license_key=c&database=d",
            "http://h/?sig=[REDACTED]&X-Amz-Signature=[REDACTED]&license_key=[REDACTED]&database=d",
        );
        check(
            "a http://u@h b https://v:w@i",
            "a http://[REDACTED]@h b https://[REDACTED]@i",
        );
        check("mail@host", "mail@host");
    }
}

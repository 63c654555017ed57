//! Substitution in values: `${env:NAME}`, `${env:NAME:-default}`, `${NAME}`, `${file:path}`, `${credential:NAME}` and `$$`.
//!
//! What is substituted is text and nothing else: it is never searched for further substitutions, so a variable cannot
//! pull in another, and the work is linear in the text. Only the name, path and default written in the configuration
//! itself may contain substitutions. Bounds: [`NESTING_MAX`] levels, [`BYTES_MAX`] bytes in all.

use std::path::Path;
use std::sync::Arc;

use super::environment::{self, BYTES_MAX, Environment};
use super::parse;
use super::text::Texts;
use super::tree::{Given, KeyPath, Node, Step, Value};

/// How deep substitutions may be nested.
const NESTING_MAX: usize = 16;

/// A value that could not be expanded: its path and why.
pub(crate) type Problem = (KeyPath, String);

/// Expands every text in the tree, in place. A value with a problem becomes a hole.
pub(crate) fn expand(
    root: &mut Node,
    texts: &Texts,
    environment: &dyn Environment,
) -> Vec<Problem> {
    let mut walk = Walk {
        texts,
        environment,
        budget: usize::try_from(BYTES_MAX).unwrap_or(usize::MAX),
        path: KeyPath::default(),
        problems: Vec::new(),
    };
    walk.node(root);
    walk.problems
}

struct Walk<'a> {
    texts: &'a Texts,
    environment: &'a dyn Environment,
    /// Bytes that may still be substituted.
    budget: usize,
    path: KeyPath,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Table(table) => {
                for entry in &mut table.0 {
                    self.path.0.push(Step::Key(entry.key.clone()));
                    self.node(&mut entry.node);
                    self.path.0.pop();
                }
            }
            Value::List(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.path.0.push(Step::Index(at));
                    self.node(item);
                    self.path.0.pop();
                }
            }
            Value::Text(text) if text.contains('$') => {
                let written = std::mem::take(text);
                node.value = self.text(written, node.span);
            }
            Value::Given(given) if given.text.contains('$') => {
                let written = std::mem::take(&mut given.text);
                node.value = self.text(written, node.span);
            }
            _ => {}
        }
    }

    fn text(&mut self, written: String, span: super::text::Span) -> Value {
        let mut template = Template {
            environment: self.environment,
            folder: self.texts.folder(span.text),
            budget: &mut self.budget,
            parts: Vec::new(),
            from_file: false,
            problems: Vec::new(),
        };
        let text = template.expand(&written, 0);
        let Template {
            parts,
            from_file,
            problems,
            ..
        } = template;
        if !problems.is_empty() {
            let path = &self.path;
            self.problems
                .extend(problems.into_iter().map(|problem| (path.clone(), problem)));
            return Value::Hole;
        }
        if parts.is_empty() {
            return Value::Text(text);
        }
        Value::Given(Given {
            typed: typed(&text, span).filter(|_| is_one_expression(&written)),
            text,
            wanted_as_text: Arc::default(),
            written,
            parts,
            from_file,
        })
    }
}

/// What a text is when it is not text: a number, a boolean, an array or a table.
pub(crate) fn typed(text: &str, span: super::text::Span) -> Option<Box<Value>> {
    match parse::value(text.trim(), span)? {
        Value::Text(_) | Value::Datetime(_) => None,
        value => Some(Box::new(value)),
    }
}

/// Whether a text is exactly one `${…}`.
fn is_one_expression(text: &str) -> bool {
    text.strip_prefix("${")
        .is_some_and(|rest| closing(rest) == Some(rest.len() - 1))
}

/// The position of the `}` that closes what `rest` is the inside of.
fn closing(rest: &str) -> Option<usize> {
    find_outside(rest, "}")
}

/// Splits `name:-default`.
fn split_default(body: &str) -> (&str, Option<&str>) {
    let Some(at) = find_outside(body, ":-") else {
        return (body, None);
    };
    let (name, tail) = body.split_at(at);
    (name, tail.strip_prefix(":-"))
}

/// Where `wanted` first stands outside of nested substitutions.
fn find_outside(text: &str, wanted: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if depth == 0
            && bytes
                .get(at..)
                .is_some_and(|rest| rest.starts_with(wanted.as_bytes()))
        {
            return Some(at);
        }
        match (byte, bytes.get(at + 1)) {
            (b'$', Some(b'$')) => at += 1,
            (b'$', Some(b'{')) => {
                depth += 1;
                at += 1;
            }
            (b'}', _) => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// One text under expansion.
struct Template<'a> {
    environment: &'a dyn Environment,
    folder: Option<&'a Path>,
    budget: &'a mut usize,
    parts: Vec<String>,
    from_file: bool,
    problems: Vec<String>,
}

impl Template<'_> {
    fn expand(&mut self, mut rest: &str, depth: usize) -> String {
        let mut out = String::new();
        while let Some(at) = rest.find('$') {
            let (before, tail) = rest.split_at(at);
            out.push_str(before);
            if let Some(after) = tail.strip_prefix("$$") {
                out.push('$');
                rest = after;
            } else if let Some(inside) = tail.strip_prefix("${") {
                let Some(end) = closing(inside) else {
                    self.problems.push(format!(
                        "`{tail}` has no closing `}}`; write `$$` for a plain `$`"
                    ));
                    return out;
                };
                let (body, after) = inside.split_at(end);
                out.push_str(&self.expression(body, depth));
                rest = after.strip_prefix('}').unwrap_or(after);
            } else {
                out.push('$');
                rest = tail.strip_prefix('$').unwrap_or(tail);
            }
        }
        out.push_str(rest);
        out
    }

    /// What one `${body}` stands for; with a problem, nothing.
    fn expression(&mut self, body: &str, depth: usize) -> String {
        if depth == NESTING_MAX {
            self.problems.push(format!(
                "substitutions are nested more than {NESTING_MAX} levels deep"
            ));
            return String::new();
        }
        let known = self.problems.len();
        let value = match body.split_once(':') {
            Some(("env", rest)) => self.variable(rest, depth),
            Some(("file", path)) => self.file(path, depth),
            Some(("credential", rest)) => self.credential(rest, depth),
            Some((scheme, rest)) if !rest.starts_with('-') && is_scheme(scheme) => Err(format!(
                "`${{{scheme}:…}}` is not supported: use `${{env:NAME}}`, `${{file:path}}` or `${{credential:NAME}}`"
            )),
            _ => self.variable(body, depth),
        };
        match value {
            // A problem inside a name makes every complaint about that name beside the point.
            _ if self.problems.len() > known => String::new(),
            Err(problem) => {
                self.problems.push(problem);
                String::new()
            }
            Ok(value) if value.len() > *self.budget => {
                self.problems.push(format!(
                    "the substituted text of the configuration is larger than {} MiB",
                    BYTES_MAX >> 20
                ));
                String::new()
            }
            Ok(value) => {
                *self.budget -= value.len();
                self.parts.push(value.clone());
                value
            }
        }
    }

    fn variable(&mut self, body: &str, depth: usize) -> Result<String, String> {
        let (name, default) = split_default(body);
        let name = self.expand(name, depth + 1);
        if !is_variable_name(&name) {
            return Err(format!(
                "`{name}` is not the name of a variable: letters, digits and `_`, not starting with a digit"
            ));
        }
        match self.environment.variable(&name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => default
                .map(|default| self.expand(default, depth + 1))
                .ok_or_else(|| {
                    format!(
                        "the environment variable {name} is not set; set it, or give a default: `${{env:{name}:-default}}`"
                    )
                }),
            Err(problem) => Err(format!("the environment variable {name} {problem}")),
        }
    }

    fn file(&mut self, path: &str, depth: usize) -> Result<String, String> {
        let path = self.expand(path, depth + 1);
        self.from_file = true;
        if path.is_empty() {
            return Err("`${file:}` names no file".to_owned());
        }
        let path = self
            .folder
            .map_or_else(|| Path::new(&path).to_owned(), |folder| folder.join(&path));
        let content = self
            .environment
            .file(&path)
            .map_err(|problem| format!("the file {} {problem}", path.display()))?;
        Ok(without_line_end(&content))
    }

    /// What the service manager has put into the service's folder for credentials.
    fn credential(&mut self, body: &str, depth: usize) -> Result<String, String> {
        let (name, default) = split_default(body);
        let name = self.expand(name, depth + 1);
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(format!("`{name}` is not the name of a credential"));
        }
        let folder = self.environment.variable(CREDENTIALS)?;
        for candidate in [name.clone(), format!("{FOLDER_ID}_{name}")] {
            let Some(folder) = &folder else { break };
            let path = Path::new(folder).join(candidate);
            match self.environment.file(&path) {
                Ok(content) => {
                    self.from_file = true;
                    return Ok(without_line_end(&content));
                }
                Err(problem) if problem == environment::NO_SUCH_FILE => {}
                Err(problem) => {
                    return Err(format!("the credential {} {problem}", path.display()));
                }
            }
        }
        match (default, folder) {
            (Some(default), _) => Ok(self.expand(default, depth + 1)),
            (None, Some(folder)) => Err(format!(
                "there is no credential {name} in {folder}; hand it over with `LoadCredential=` in the unit, or give a default: `${{credential:{name}:-default}}`"
            )),
            (None, None) => Err(format!(
                "the credential {name} cannot be had: {CREDENTIALS} is not set, as it is in a systemd service with credentials; to try it elsewhere, set it to a folder that has the file {name}"
            )),
        }
    }
}

/// Where systemd puts a service's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where a unit has a whole folder loaded, systemd puts the folder's id before the names of its files; this is the one of
/// the package's unit.
const FOLDER_ID: &str = "tidegate";

fn without_line_end(content: &str) -> String {
    let content = content.strip_suffix('\n').unwrap_or(content);
    content.strip_suffix('\r').unwrap_or(content).to_owned()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'))
}

fn is_variable_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::super::text::Span;
    use super::super::tree::Table;
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let environment = Fake::default()
            .variable("HOST", "db")
            .variable("EMPTY", "")
            .variable("NAME", "HOST")
            .variable("SLY", "${env:HOST}")
            .variable("PORT", "9000")
            .file("/etc/secret", "pass\nword\n")
            .file("/conf/here", "near\r\n")
            .variable("CREDENTIALS_DIRECTORY", "/run/credentials")
            .file("/run/credentials/token", "t0k3n\n")
            .file("/run/credentials/tidegate_password", "hunter2");
        let mut texts = Texts::default();
        texts.add("t", Some(Path::new("/conf")), String::new());
        let mut node = Node::new(Value::Text(text.to_owned()), Span::default());
        let problems = expand(&mut node, &texts, &environment);
        match (node.value, problems.into_iter().next()) {
            (_, Some((_, problem))) => Err(problem),
            (Value::Text(text) | Value::Given(Given { text, .. }), None) => Ok(text),
            (other, None) => panic!("{other:?}"),
        }
    }

    #[test]
    fn substitutions_give_text() {
        let check = |text: &str, expected: &str| {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}")
        };
        check("plain", "plain");
        check("${env:HOST}", "db");
        check("${HOST}", "db");
        check("http://${env:HOST}:${env:PORT}/", "http://db:9000/");
        check("${env:NONE:-else}", "else");
        check("${NONE:-}", "");
        check("${env:EMPTY:-else}", "");
        check("${env:${env:NAME}}", "db");
        check("${env:NONE:-${env:HOST}:1}", "db:1");
        check("${env:HOST:-${env:NONE}}", "db");
        check("$${env:HOST}", "${env:HOST}");
        check("$$${env:HOST}$$", "$db$");
        check("a$b $ $1", "a$b $ $1");
        check("${env:SLY}", "${env:HOST}");
        check("${file:/etc/secret}", "pass\nword");
        check("${file:here}", "near");
        check("${file:/etc/${env:NONE:-secret}}", "pass\nword");
        check("${env:NONE:-a$${b}", "a${b");
        check("${credential:token}", "t0k3n");
        check("${credential:password}", "hunter2");
        check("${credential:tidegate_password}", "hunter2");
        check("${credential:none:-else}", "else");
        check("${credential:token:-else}", "t0k3n");
    }

    #[test]
    fn what_cannot_be_substituted_says_why() {
        let check = |text: &str, expected: &str| {
            let problem = expanded(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        };
        check("${env:NONE}", "NONE is not set");
        check("${env:${env:NONE}}", "NONE is not set");
        check("${env:1X}", "`1X` is not the name of a variable");
        check("${}", "`` is not the name of a variable");
        check("${yaml:a}", "`${yaml:…}` is not supported");
        check("${http://x}", "`${http:…}` is not supported");
        check("${env:HOST", "no closing `}`");
        check(
            "${file:/none}",
            "the file /none cannot be read: no such file",
        );
        check("${file:}", "names no file");
        check(
            "${credential:none}",
            "no credential none in /run/credentials; hand it over with `LoadCredential=`",
        );
        check(
            "${credential:../../etc/passwd}",
            "is not the name of a credential",
        );
        check("${credential:}", "is not the name of a credential");
        let bomb = format!("{}X{}", "${env:".repeat(40), "}".repeat(40));
        check(&bomb, "nested more than 16 levels");
        check(&"${env:A:-".repeat(50_000), "no closing `}`");
    }

    #[test]
    fn only_a_single_substitution_takes_the_type_of_its_text() {
        let check =
            |text: &str, expected: bool| assert_eq!(is_one_expression(text), expected, "{text}");
        check("${env:A}", true);
        check("${env:${env:A}}", true);
        check("${env:A}${env:B}", false);
        check("${env:A} ", false);
        check("$${env:A}", false);
        check("${env:A", false);
    }

    #[test]
    fn everything_substituted_together_is_bounded() {
        let big = "x".repeat(1 << 20);
        let environment = Fake::default().variable("BIG", &big);
        let mut root = Node::new(Value::Table(Table::default()), Span::default());
        let items = (0..8)
            .map(|_| Node::new(Value::Text("${env:BIG}".to_owned()), Span::default()))
            .collect();
        root.value = Value::List(items);
        let problems = expand(&mut root, &Texts::default(), &environment);
        assert_eq!(problems.len(), 4);
    }
}

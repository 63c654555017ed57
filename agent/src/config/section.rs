//! One component's table of the configuration, as its factory sees it.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::decode::{decode, holes};
use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::fault::{self, Reason};
use super::parse;
use super::secret::{REDACTED, is_hidden_key, without_userinfo};
use super::text::{Place, Span, Texts};
use super::tree::{KeyPath, Node, Step, Table, Value, split_dotted};

/// A component's table: decodes into its options and takes its complaints.
#[derive(Debug)]
pub struct Section<'a> {
    path: KeyPath,
    node: Node,
    texts: Arc<Texts>,
    found: &'a mut Diagnostics,
    faults: Vec<Fault>,
}

/// What is known to be wrong in the table: what is said of it afterwards is about what stands in for it.
#[derive(Debug)]
struct Fault {
    steps: Vec<Step>,
    /// The key whose value is not what was meant.
    key: Option<String>,
}

impl Fault {
    fn at(steps: Vec<Step>) -> Self {
        let key = steps.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.clone()),
            Step::Index(_) => None,
        });
        Self { steps, key }
    }

    fn of(steps: &[Step], reason: &Reason) -> Self {
        let beside = |key: &str| {
            let parent = steps.split_last().map_or(&[][..], |(_, parent)| parent);
            Self::at(with_key(parent, key))
        };
        match reason {
            Reason::Missing(key) => Self::at(with_key(steps, key)),
            Reason::UnknownKey { key, known } => {
                match fault::suggestion(key, known.iter().copied()) {
                    Some(meant) => beside(meant),
                    None => Self {
                        steps: steps.to_vec(),
                        key: None,
                    },
                }
            }
            _ => Self::at(steps.to_vec()),
        }
    }

    /// Whether a complaint at `steps` may only be the consequence of this.
    fn explains(&self, steps: &[Step], message: &str) -> bool {
        let about_it = self.steps.starts_with(steps) || steps.starts_with(&self.steps);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = |key: &str| message.split(|c| !plain(c)).any(|word| word == key);
        about_it || self.key.as_deref().is_some_and(named)
    }
}

fn with_key(steps: &[Step], key: &str) -> Vec<Step> {
    let key = Step::Key(key.to_owned());
    steps.iter().cloned().chain([key]).collect()
}

impl<'a> Section<'a> {
    /// The section of `node`, found at `path`.
    pub(crate) fn new(
        path: KeyPath,
        node: &Node,
        texts: &Arc<Texts>,
        found: &'a mut Diagnostics,
    ) -> Self {
        Self {
            path,
            node: node.clone(),
            texts: Arc::clone(texts),
            found,
            faults: Vec::new(),
        }
    }

    /// A section from TOML text, for tests of one component.
    pub fn from_text(path: &str, text: &str, found: &'a mut Diagnostics) -> Option<Self> {
        Self::of_file(path, path, text, found)
    }

    /// The section at `path` that stands alone in a file whose content is `text`; what is said of it names `file`.
    pub(crate) fn of_file(
        file: &str,
        path: &str,
        text: &str,
        found: &'a mut Diagnostics,
    ) -> Option<Self> {
        let mut texts = Texts::default();
        let (table, errors) = {
            let number = texts.add(file, None, text.to_owned());
            parse::document(number, text)
        };
        let sound = errors.is_empty();
        for error in errors {
            found.push(Diagnostic {
                severity: Severity::Error,
                place: texts.place(error.span),
                key: path.to_owned(),
                message: error.message,
            });
        }
        sound.then(|| Self {
            path: path_of(path),
            node: Node::new(Value::Table(table), Span::default()),
            texts: Arc::new(texts),
            found,
            faults: Vec::new(),
        })
    }

    /// Runs `work` with an empty section, for defaults that are validated like anything else.
    pub fn empty<T>(
        path: &str,
        found: &mut Diagnostics,
        work: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        work(&mut Section {
            path: path_of(path),
            node: Node::new(Value::Table(Table::default()), Span::default()),
            texts: Arc::default(),
            found,
            faults: Vec::new(),
        })
    }

    /// Decodes the table. Problems are reported, all of them; what they are about is at its default in the result, so
    /// that the rest can be validated, and complaints that may only follow from them are not reported any more. `None`
    /// if nothing can be made of the table.
    pub fn options<T: DeserializeOwned>(&mut self) -> Option<T> {
        let Self {
            path,
            node,
            texts,
            found,
            faults,
        } = self;
        faults.extend(holes(node).into_iter().map(Fault::at));
        decode(node, |steps, reason, at| {
            let of_key = matches!(reason, Reason::UnknownKey { .. });
            let message = fault::words(reason, at);
            faults.push(Fault::of(steps, reason));
            found.push(describe(
                Severity::Error,
                path,
                node,
                texts,
                steps,
                of_key,
                message,
            ));
        })
    }

    /// Reports an error at `key`, a dotted path below this table; empty for the table itself.
    pub fn error(&mut self, key: &str, message: impl Into<String>) {
        self.report(Severity::Error, key, message.into());
    }

    /// Reports a warning at `key`.
    pub fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.report(Severity::Warning, key, message.into());
    }

    fn report(&mut self, severity: Severity, key: &str, message: String) {
        let steps = match key {
            "" => KeyPath::default(),
            key => KeyPath::parse(key, &self.node),
        };
        if self
            .faults
            .iter()
            .any(|fault| fault.explains(&steps.0, &message))
        {
            return;
        }
        self.found.push(describe(
            severity,
            &self.path,
            &self.node,
            &self.texts,
            &steps.0,
            false,
            message,
        ));
    }
}

fn path_of(dotted: &str) -> KeyPath {
    KeyPath(split_dotted(dotted).into_iter().map(Step::Key).collect())
}

/// The problem at `steps` below `node`, which is at `path`; at the key itself or at its value.
fn describe(
    severity: Severity,
    path: &KeyPath,
    node: &Node,
    texts: &Texts,
    steps: &[Step],
    of_key: bool,
    message: String,
) -> Diagnostic {
    let span = if of_key {
        node.key_span(steps)
    } else {
        node.value_span(steps)
    };
    let path = path.join(steps);
    let (message, place) = match is_secret(&path) {
        true => (
            without_value(message, node.at(steps)),
            texts.place(span).map(Place::without_excerpt),
        ),
        false => (message, texts.place(span)),
    };
    Diagnostic {
        severity,
        place,
        key: path.to_string(),
        message: without_userinfo(&message),
    }
}

fn is_secret(path: &KeyPath) -> bool {
    let mut parent = "";
    path.0.iter().any(|step| match step {
        Step::Index(_) => false,
        Step::Key(key) => {
            let secret = is_hidden_key(parent, key);
            parent = key;
            secret
        }
    })
}

/// The message without the value it is about.
fn without_value(message: String, node: Option<&Node>) -> String {
    let text = match node.map(|node| &node.value) {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Given(given)) => given.text.clone(),
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Float(number)) => format!("{number:?}"),
        _ => return message,
    };
    let quoted = message
        .replace(&format!("{text:?}"), REDACTED)
        .replace(&format!("`{text}`"), REDACTED);
    // Shorter than this, a text is part of too many words.
    match text.len() {
        0..4 => quoted,
        _ => quoted.replace(&text, REDACTED),
    }
}

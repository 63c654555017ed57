//! From a Collector's YAML to a configuration of ours, with the comments, and with a list of what has no counterpart.
//!
//! What a field may be is asked of the schema, and what is wrong of the validator: whatever it refuses is left out, with
//! its reason, until it refuses nothing. So the conversion needs to know only what is named or written differently.

mod advice;
mod comments;
mod components;
mod draft;
mod render;
mod rules;
mod service;
mod substitution;
#[cfg(test)]
mod tests;
mod values;
mod verify;
mod yaml;

use std::fmt;

use thiserror::Error;

use self::draft::{State, Table, Value};
use self::render::Frame;
use self::yaml::{At, Node};

/// A converted configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// TOML.
    pub text: String,
    /// What has no counterpart, and what else to know, in the order of the YAML document.
    pub findings: Vec<Finding>,
}

/// Something that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line in the YAML document, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
    /// The key: `exporters.kafka`.
    pub key: String,
    /// What happened to it, and what to do.
    pub message: String,
    /// Whether something is lost.
    pub weight: Weight,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It is done differently here, or was not needed.
    Note,
    /// It has no counterpart, and is left out.
    Lost,
}

/// A document that cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{line}:{column}: {problem}")]
pub struct ConvertError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
    /// What is wrong, about the document or what stands there.
    pub problem: String,
}

impl ConvertError {
    fn at(at: At, problem: String) -> Self {
        Self {
            line: at.line.max(1),
            column: at.column.max(1),
            problem,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Note => "note",
            Weight::Lost => "not converted",
        };
        let Self {
            line,
            column,
            key,
            message,
            ..
        } = self;
        write!(f, "{line}:{column}: {weight}: {key}: {message}")
    }
}

impl Converted {
    /// Whether anything has no counterpart.
    pub fn is_lossy(&self) -> bool {
        self.findings
            .iter()
            .any(|found| found.weight == Weight::Lost)
    }
}

/// Converts the first document of `text`; `name` is what it is called in the result.
///
/// # Errors
/// Where the text is not YAML, is too large, or is no configuration.
pub fn convert(name: &str, text: &str) -> Result<Converted, ConvertError> {
    let document = yaml::parse(text)?;
    let root = configuration(&document.root)?;
    let mut draft = components::convert(root);
    let rest = verify::verify(&mut draft);
    let mut findings = findings(&draft);
    findings.extend(rest);
    findings.extend(document.further.iter().map(|at| Finding {
        line: at.line,
        column: at.column,
        key: "---".to_owned(),
        message: "only the first document is read, as by the Collector; convert the others one by one".to_owned(),
        weight: Weight::Lost,
    }));
    findings.sort_by_key(|found| (found.line, found.column));
    let frame = Frame {
        head: head(name, &findings),
        foot: &document.foot,
        source: text.lines().collect(),
    };
    Ok(Converted {
        text: render::render(&draft, &frame),
        findings,
    })
}

/// The Collector's configuration: the document, or what the Kubernetes operator's resource holds.
fn configuration(root: &Node) -> Result<&Node, ConvertError> {
    let problem = |problem: &str| ConvertError::at(root.at, problem.to_owned());
    let kind = root.get("kind").and_then(Node::text);
    let found = match kind {
        Some("OpenTelemetryCollector") => root.get("spec").and_then(|spec| spec.get("config")),
        Some("ConfigMap") => {
            return Err(problem(
                "is a ConfigMap: convert what is under its `data`, such as by `kubectl get configmap NAME -o \
                 jsonpath='{.data.relay}' | tidegate convert -`",
            ));
        }
        _ => Some(root),
    };
    match found {
        Some(found) if found.table().is_some() => Ok(found),
        Some(found) if found.text().is_some() && kind.is_some() => Err(problem(
            "holds its configuration as text in `spec.config`: convert that text",
        )),
        _ => Err(problem(
            "is no configuration of a Collector: a mapping with `receivers`, `exporters` and `service`",
        )),
    }
}

fn head(name: &str, findings: &[Finding]) -> Vec<String> {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let lost = findings
        .iter()
        .filter(|found| found.weight == Weight::Lost)
        .count();
    let mut head = vec![format!("# Converted from {name} by `tidegate convert`.")];
    head.push(match lost {
        0 => "# Everything in it has a counterpart.".to_owned(),
        1 => "# One thing has no counterpart; look for `not converted`.".to_owned(),
        _ => format!("# {lost} things have no counterpart; look for `not converted`."),
    });
    head
}

/// What a draft says to its reader.
fn findings(draft: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    collect(draft, "", &mut findings);
    findings
}

fn collect(table: &Table, path: &str, findings: &mut Vec<Finding>) {
    for item in &table.0 {
        let key = match path {
            "" => render::key_text(&item.key),
            path => format!("{path}.{}", render::key_text(&item.key)),
        };
        let mut add = |message: &String, weight| {
            findings.push(Finding {
                line: item.at.line,
                column: item.at.column,
                key: key.clone(),
                message: message.clone(),
                weight,
            });
        };
        for note in &item.notes {
            add(note, Weight::Note);
        }
        match &item.state {
            State::Off(reason) => add(reason, Weight::Lost),
            State::Gone(reason) => add(reason, Weight::Note),
            State::On(Value::Table(inner)) => collect(inner, &key, findings),
            State::On(_) => {}
        }
    }
}

/// Converts arbitrary text: for the fuzzer, which looks for panics and endless work. What comes out is TOML, and nothing
/// that depends on the text alone is wrong with it.
///
/// # Panics
/// Where it is not.
pub fn fuzz_convert(text: &str) {
    let Ok(converted) = convert("fuzz.yaml", text) else {
        return;
    };
    let parsed = converted.text.parse::<toml::Table>();
    assert!(parsed.is_ok(), "{parsed:?}\n{}", converted.text);
    verify::check_result(&converted);
}

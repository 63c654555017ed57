//! What came of reading the configuration again: for whoever asked, the log, the health page and the metrics.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Difference;
use crate::config::{Diagnostic, Diagnostics, Severity};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The agent runs as the configuration says now.
    Reloaded,
    /// It did so before.
    Unchanged,
    /// It would: nothing was changed, as asked for.
    Valid,
    /// The configuration is wrong, or something in it cannot be had: the agent runs as before.
    Refused,
}

impl Outcome {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reloaded => "reloaded",
            Self::Unchanged => "unchanged",
            Self::Valid => "valid",
            Self::Refused => "refused",
        }
    }
}

/// One problem with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `error` or `warning`.
    pub severity: String,
    /// The file it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The dotted key; empty where it is about something else.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<&Diagnostic> for Problem {
    fn from(found: &Diagnostic) -> Self {
        let place = found.place.as_ref();
        Self {
            severity: match found.severity {
                Severity::Error => "error".to_owned(),
                Severity::Warning => "warning".to_owned(),
            },
            file: place.map(|place| place.file.to_string()),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            key: found.key.clone(),
            message: found.message.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(file), Some(line), Some(column)) = (&self.file, self.line, self.column) {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// What came of reading the configuration again, with everything that there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What came of it.
    pub outcome: Outcome,
    /// What it changed or would change; `None` where that could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// What is wrong, or what the operator should know.
    pub problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(outcome: Outcome, difference: Difference, warnings: &Diagnostics) -> Self {
        Self {
            outcome,
            difference: Some(difference),
            problems: problems(warnings),
        }
    }

    /// The configuration is wrong.
    pub(crate) fn wrong(found: &Diagnostics) -> Self {
        Self {
            outcome: Outcome::Refused,
            difference: None,
            problems: problems(found),
        }
    }

    /// It cannot be had.
    pub(crate) fn failed(difference: Difference, found: &Diagnostics) -> Self {
        Self {
            outcome: Outcome::Refused,
            difference: Some(difference),
            problems: problems(found),
        }
    }
}

fn problems(found: &Diagnostics) -> Vec<Problem> {
    found.0.iter().map(Problem::from).collect()
}

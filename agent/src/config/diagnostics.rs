//! What is wrong with a configuration: every problem, each with its place.

use std::fmt;

use super::load::Tree;
use super::secret::Secrets;
use super::text::Place;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot run.
    Error,
    /// It runs, and the operator should know.
    Warning,
}

/// One problem. Displays as `file:line:column: error: key: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it was written; `None` for what has no place, such as a missing file.
    pub place: Option<Place>,
    /// The dotted key path, such as `exporters.clickhouse.timeout`; empty for the configuration as a whole.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{severity}: ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Problems found so far. Displays as one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

/// Past this many problems nobody reads on.
const PROBLEMS_MAX: usize = 200;

impl Diagnostics {
    /// Whether any is an error.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many are this bad.
    pub fn count(&self, severity: Severity) -> usize {
        self.0
            .iter()
            .filter(|found| found.severity == severity)
            .count()
    }

    /// The same without what is secret in the configuration that they are about.
    pub(crate) fn without_secrets(mut self, tree: &Tree) -> Self {
        if !self.0.is_empty() {
            let secrets = Secrets::of(&tree.root);
            for found in &mut self.0 {
                found.message = secrets.scrub(&found.message);
            }
        }
        self
    }

    /// Takes a problem, unless it was reported before or there are too many already.
    pub(crate) fn push(&mut self, found: Diagnostic) {
        if self.is_full() || self.0.contains(&found) {
            return;
        }
        self.0.push(found);
    }

    /// Whether further problems are left out.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= PROBLEMS_MAX
    }

    /// Brings them into the order in which the configuration was read. What has no place comes first.
    pub(crate) fn sort(&mut self) {
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
    }

    /// How many errors and warnings there are, in words.
    pub fn summary(&self) -> String {
        let words = |count, word: &str| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let mut summary = words(self.count(Severity::Error), "error");
        let warnings = self.count(Severity::Warning);
        if warnings > 0 {
            summary = format!("{summary}, {}", words(warnings, "warning"));
        }
        if self.is_full() {
            summary.push_str("; further ones are not shown");
        }
        summary
    }

    /// All of them for a terminal: each with the line it is about and a mark under the words meant.
    pub fn with_excerpts(&self) -> String {
        self.0.iter().map(with_excerpt).collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|found| writeln!(f, "{found}"))
    }
}

/// The most characters of a line that an excerpt shows.
const EXCERPT_MAX: usize = 160;

fn with_excerpt(found: &Diagnostic) -> String {
    let Some(place) = &found.place else {
        return format!("{found}\n");
    };
    if place.excerpt.is_empty() || place.column > EXCERPT_MAX {
        return format!("{found}\n");
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = place
        .excerpt
        .chars()
        .take(EXCERPT_MAX)
        .map(printable)
        .collect();
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(place.column - 1);
    let width = place.width.min(EXCERPT_MAX + 1 - place.column);
    let mark = "^".repeat(width);
    format!("{found}\n{margin} |\n{number} | {line}\n{margin} | {indent}{mark}\n")
}

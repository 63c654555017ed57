//! Asks the validator about a draft, and leaves out what it refuses, with its reason.

use std::path::{Path, PathBuf};

use super::draft::{State, Table};
use super::render::{Frame, render};
use super::service::prune;
use super::{Converted, Finding, Weight};
use crate::config::{self, Diagnostic, Environment, Registries, Severity, Source, split_dotted};

/// The most times that a draft is looked at: each time up to 200 problems are left out, which may show others. A
/// configuration that needs more is told what is left.
const ROUNDS_MAX: usize = 20;

/// An environment in which nothing is set: what depends on it is not looked at.
struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn file(&self, _: &Path) -> Result<String, String> {
        Err("is not read".to_owned())
    }

    fn folder(&self, _: &Path) -> Result<Option<Vec<PathBuf>>, String> {
        Ok(None)
    }

    fn stdin(&self) -> Result<String, String> {
        Ok(String::new())
    }
}

/// Leaves out what the validator refuses, and what depends on it. What is wrong with the whole is given back.
pub(super) fn verify(draft: &mut Table) -> Vec<Finding> {
    for _ in 0..ROUNDS_MAX {
        prune(draft);
        let mut rest = Vec::new();
        let mut changed = false;
        for problem in problems(&text_of(draft)) {
            match leave_out(draft, &problem) {
                Verdict::LeftOut => changed = true,
                Verdict::NotToTell => {}
                Verdict::Stays => rest.push(finding(problem)),
            }
        }
        if !changed {
            return rest;
        }
    }
    prune(draft);
    problems(&text_of(draft)).into_iter().map(finding).collect()
}

fn finding(problem: Diagnostic) -> Finding {
    let key = match problem.key.as_str() {
        "" => "the whole".to_owned(),
        key => key.to_owned(),
    };
    Finding {
        line: 1,
        column: 1,
        key,
        message: problem.message,
        weight: Weight::Lost,
    }
}

fn text_of(draft: &Table) -> String {
    let frame = Frame {
        head: Vec::new(),
        foot: &[],
        source: Vec::new(),
    };
    render(draft, &frame)
}

fn problems(text: &str) -> Vec<Diagnostic> {
    let source = Source::Text {
        name: "converted.toml".to_owned(),
        content: text.to_owned(),
    };
    let (tree, found) = config::load(&[source], &[], &Nothing);
    let found = match config::settings_of(&tree, found, &Registries::BUILT_IN) {
        Ok((_, found)) | Err(found) => found,
    };
    let errors = found.0.into_iter();
    errors
        .filter(|found| found.severity == Severity::Error)
        .collect()
}

enum Verdict {
    /// What it is about is left out.
    LeftOut,
    /// It is about a value that the environment gives.
    NotToTell,
    /// There is nothing to leave out.
    Stays,
}

/// What is wrong with one part of a component is left out; what is wrong with the whole takes the component with it.
fn leave_out(draft: &mut Table, problem: &Diagnostic) -> Verdict {
    let keys = split_dotted(&problem.key);
    let Some((item, depth)) = draft.deepest_mut(&keys) else {
        return match is_out(draft, &keys) {
            true => Verdict::LeftOut,
            false => Verdict::Stays,
        };
    };
    let least = match keys.as_slice() {
        [first, second, ..] if first == "service" && second == "pipelines" => 3,
        _ => 2,
    };
    if depth < least {
        return match is_out(draft, &keys) {
            true => Verdict::LeftOut,
            false => Verdict::Stays,
        };
    }
    let State::On(value) = &item.state else {
        return Verdict::LeftOut;
    };
    if item.table().is_none() && value.is_substituted() {
        return Verdict::NotToTell;
    }
    // What is missing now may have been left out before: then that is why.
    let missing = keys.get(depth).and_then(|key| {
        let inner = item.table()?.0.iter().find(|inner| inner.key == *key)?;
        match &inner.state {
            State::Off(reason) => Some(format!("{key}: {reason}")),
            _ => None,
        }
    });
    item.state = State::Off(missing.unwrap_or_else(|| problem.message.clone()));
    Verdict::LeftOut
}

/// Whether the component or field was left out in the same round, because of another problem.
fn is_out(draft: &Table, keys: &[String]) -> bool {
    let mut table = draft;
    for key in keys {
        let found = table.0.iter().find(|item| item.key == *key);
        match found.map(|item| (item.is_on(), item.table())) {
            Some((false, _)) => return true,
            Some((true, Some(inner))) => table = inner,
            _ => return false,
        }
    }
    false
}

/// Whether what was converted is what it says: valid, but for what the environment gives and what is told as lost.
pub(super) fn check_result(converted: &Converted) {
    for problem in problems(&converted.text) {
        let told = converted
            .findings
            .iter()
            .any(|found| found.weight == Weight::Lost && found.message == problem.message);
        let excerpt = problem.place.as_ref().map(ToString::to_string);
        let substituted = converted.text.contains("${");
        assert!(
            told || substituted,
            "{problem} at {excerpt:?}\n{}",
            converted.text
        );
    }
}

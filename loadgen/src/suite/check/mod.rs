//! What can be known to be wrong with a suite before anything starts.

mod arguments;
mod asked;
mod form;
mod names;
mod programs;
mod script;
mod variant;

pub(crate) use programs::missing_program;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::model::{Configuration, ConfigurationSource, Place, Suite, Text};
use super::template::Templates;
use super::variables::{Scope, Variant, words};
use crate::document::{Mistake, nearest};

/// What the check has found out that the run needs.
#[derive(Debug)]
pub(crate) struct Checked {
    /// How often everything is done.
    pub(crate) repeat: u32,
    /// Names of ports that are asked for anywhere.
    pub(crate) ports: BTreeSet<String>,
    /// Why some variants cannot run here.
    pub(crate) skipped: Vec<Skipped>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Skipped {
    pub(crate) variant: Variant,
    pub(crate) why: String,
}

/// Repetitions of a suite; more would run for weeks.
const REPEAT_MAX: u32 = 1000;

impl Checked {
    pub(crate) fn new() -> Self {
        Self {
            repeat: 1,
            ports: BTreeSet::new(),
            skipped: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn skips(&self, variant: &Variant) -> bool {
        let is_it = |skipped: &Skipped| words(&skipped.variant) == words(variant);
        self.skipped.iter().any(is_it)
    }
}

/// Looks at everything, in every variant.
pub(crate) struct Checker<'s> {
    pub(super) suite: &'s Suite,
    pub(super) templates: &'s Templates,
    pub(super) mistakes: BTreeSet<Mistake>,
    /// Where names are wrong: what else is wrong there is a consequence.
    known: Vec<Place>,
    pub(super) checked: Checked,
    pub(super) cores: usize,
    /// A step runs a command somewhere, which may make what is not there.
    suite_runs: bool,
}

/// All mistakes there are, or what was found out; `tests` are those that will run.
pub(crate) fn check(
    suite: &Suite,
    variants: &[Variant],
    tests: &[String],
    templates: &Templates,
    cores: usize,
) -> Result<Checked, Vec<Mistake>> {
    let mut checker = Checker {
        suite,
        templates,
        mistakes: BTreeSet::new(),
        known: Vec::new(),
        checked: Checked::new(),
        cores,
        suite_runs: programs::runs_commands(suite),
    };
    checker.names();
    let places = checker.mistakes.iter().map(|it| it.place.clone());
    checker.known = places.collect();
    checker.summary();
    checker.repeat();
    for variant in variants {
        checker.variant(variant, tests);
    }
    checker.hooks_of_suite();
    match checker.mistakes.is_empty() {
        true => Ok(checker.checked),
        false => Err(checker.mistakes.into_iter().collect()),
    }
}

impl Checker<'_> {
    pub(super) fn wrong(&mut self, place: &Place, message: impl Into<String>) {
        // Without a place it stands for something missing, which has been told.
        if place.line == 0 || self.known.contains(place) {
            return;
        }
        self.mistakes.insert(Mistake {
            place: place.clone(),
            message: message.into(),
        });
    }
}

impl Checker<'_> {
    fn repeat(&mut self) {
        let Some(text) = &self.suite.repeat else {
            return;
        };
        let value = Scope::new(self.suite, &Variant::new()).value();
        let Some(given) = self.rendered(text, &value) else {
            return;
        };
        match given.trim().parse() {
            Ok(repeat) if (1..=REPEAT_MAX).contains(&repeat) => self.checked.repeat = repeat,
            _ => {
                let message = format!("`{given}` is no whole number from 1 to {REPEAT_MAX}");
                self.wrong(&text.place, message);
            }
        }
    }

    /// It is for all variants together, so that it cannot know the names of the matrix.
    fn summary(&mut self) {
        let Some(summary) = &self.suite.summary else {
            return;
        };
        let value = super::summary_scope(self.suite, Ledger::total([]));
        if let Err(error) = self.templates.render(&summary.text, &value) {
            self.wrong(&summary.place, error.to_string());
        }
    }

    /// Whether something in this file is wrong.
    pub(super) fn is_known_of(&self, file: &Path) -> bool {
        let file = file.display().to_string();
        self.known.iter().any(|place| *place.file == *file)
    }
}

/// The files of configurations that are templates themselves, where their paths do not depend on anything.
pub(super) fn template_file(configuration: &Configuration, folder: &Path) -> Option<PathBuf> {
    match &configuration.source {
        ConfigurationSource::Template(Text { text, .. }) if !text.contains("{{") => {
            Some(folder.join(text))
        }
        _ => None,
    }
}

/// That there is no such thing, and what there is to choose from.
fn unknown<'n>(what: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("there are {}", named(&known)),
    };
    format!("there is no {what} `{name}`; {help}")
}

/// Names one after the other, each once.
fn named(names: &[&str]) -> String {
    let names: BTreeSet<&str> = names.iter().copied().collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

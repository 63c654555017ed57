//! Names in templates and expressions: each must stand for something, and each variable for somebody.

use std::collections::BTreeSet;

use super::super::ledger;
use super::super::model::{Action, Component, Configuration, Place, Step, Text};
use super::super::variables::{BUILT_IN, RESULTS};
use super::super::walk::{self, Form};
use super::{Checker, template_file};
use crate::document::nearest;

impl Checker<'_> {
    /// Everything about names.
    pub(super) fn names(&mut self) {
        let mut texts = Vec::new();
        walk::suite(self.suite, &mut |text, form| {
            texts.push((text.clone(), form))
        });
        let mut used = BTreeSet::new();
        for (text, form) in &texts {
            self.names_in(text, *form, &mut used);
        }
        self.template_files(&mut used);
        self.set_in_steps(&mut used);
        self.variables(&used);
        self.components_twice();
    }

    fn names_in(&mut self, text: &Text, form: Form, used: &mut BTreeSet<String>) {
        let names = match form {
            Form::Condition | Form::Expression => self.templates.names_of_expression(&text.text),
            Form::Template | Form::Duration | Form::Whole | Form::Summary => {
                self.templates.names(&text.text)
            }
        };
        match names {
            Ok(names) => {
                for name in names {
                    let results = matches!(form, Form::Expression | Form::Summary);
                    self.name(&text.place, &name, results, used);
                }
            }
            Err(flaw) => self.wrong(&text.place, flaw.message),
        }
    }

    /// A template's file is looked at as if it stood in the suite.
    fn template_files(&mut self, used: &mut BTreeSet<String>) {
        for (place, configuration) in self.configurations() {
            let Some(path) = template_file(&configuration, &self.suite.folder) else {
                continue;
            };
            let Ok(text) = std::fs::read_to_string(&path) else {
                // Reported where the files are looked for.
                continue;
            };
            let at = |line| Place {
                file: path.display().to_string().into(),
                line,
                column: 1,
                key: place.key.clone(),
            };
            match self.templates.names(&text) {
                Ok(names) => {
                    for name in names {
                        let last = name.rsplit('.').next().unwrap_or(&name);
                        let line = text.lines().position(|line| line.contains(last));
                        self.name(&at(line.unwrap_or(0) + 1), &name, false, used);
                    }
                }
                Err(flaw) => self.wrong(&at(flaw.line), flaw.message),
            }
        }
    }

    /// All configurations with where they are given.
    pub(super) fn configurations(&self) -> Vec<(Place, Configuration)> {
        let of = |component: &Component| {
            let configuration = component.configuration.clone()?;
            Some((component.name.place.clone(), configuration))
        };
        let mut found: Vec<_> = self.suite.components.iter().filter_map(of).collect();
        for step in self.steps() {
            if let Action::Reconfigure(reconfigure) = &step.action
                && let Some(configuration) = &reconfigure.configuration
            {
                found.push((step.place.clone(), configuration.clone()));
            }
        }
        found
    }

    pub(super) fn steps(&self) -> Vec<&Step> {
        let mut steps = Vec::new();
        for test in &self.suite.tests {
            walk::steps_of(test, &mut steps);
        }
        steps
    }

    /// One name, such as `port.otlp` or `ledger.lost`.
    fn name(&mut self, place: &Place, name: &str, results: bool, used: &mut BTreeSet<String>) {
        let mut parts = name.split('.');
        let root = parts.next().unwrap_or(name).to_owned();
        let second = parts.next();
        used.insert(root.clone());
        match (root.as_str(), second) {
            ("port", Some(port)) => {
                self.checked.ports.insert(port.to_owned());
            }
            ("port", None) => self.wrong(place, "ports have names: `port.NAME`"),
            ("component", Some(component)) => {
                let known = self.suite.components.iter();
                let known: Vec<_> = known.map(|it| it.name.text.clone()).collect();
                self.one_of(place, "component", component, &known);
            }
            ("ledger", Some(field)) if results => {
                let known: Vec<_> = ledger::FIELDS.iter().map(|&it| it.to_owned()).collect();
                self.one_of(place, "field of the ledger", field, &known);
            }
            (root, _) => {
                let suite = self.suite;
                let variables = suite.variables.iter().map(|it| it.name.clone());
                let dimensions = suite.matrix.iter().map(|it| it.name.clone());
                let mut known: Vec<_> = variables.chain(dimensions).collect();
                known.extend(BUILT_IN.map(str::to_owned));
                if results {
                    known.extend(RESULTS.map(str::to_owned));
                }
                self.one_of(place, "variable", root, &known);
            }
        }
    }

    fn one_of(&mut self, place: &Place, what: &str, name: &str, known: &[String]) {
        if known.iter().any(|it| it == name) {
            return;
        }
        let help = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "there is none".to_owned(),
            None => format!("there are {}", known.join(", ")),
        };
        self.wrong(place, format!("there is no {what} `{name}`; {help}"));
    }

    /// Steps may give variables other values, not make new ones.
    fn set_in_steps(&mut self, used: &mut BTreeSet<String>) {
        let suite = self.suite;
        let known: Vec<_> = suite.variables.iter().map(|it| it.name.clone()).collect();
        let set: Vec<_> = self.steps().iter().flat_map(|it| it.set.clone()).collect();
        for variable in set {
            self.one_of(&variable.place, "variable", &variable.name, &known);
            used.insert(variable.name);
        }
    }

    fn variables(&mut self, used: &BTreeSet<String>) {
        let suite = self.suite;
        for dimension in &suite.matrix {
            if suite.variables.iter().any(|it| it.name == dimension.name) {
                self.wrong(&dimension.place, "a variable has this name, too");
            }
        }
        let variables = suite.variables.iter().filter(|it| !it.included);
        let variables = variables.map(|it| (&it.name, &it.place));
        let dimensions = suite.matrix.iter().map(|it| (&it.name, &it.place));
        for (name, place) in variables.chain(dimensions) {
            let is_ours = BUILT_IN.iter().chain(&RESULTS).any(|it| it == name);
            if is_ours {
                self.wrong(place, format!("`{name}` has a meaning already"));
            } else if !used.contains(name) {
                self.wrong(place, "nothing refers to it: use it, or take it out");
            }
        }
    }

    /// The same name is for components of which each variant has one at most.
    fn components_twice(&mut self) {
        let suite = self.suite;
        for (at, component) in suite.components.iter().enumerate() {
            let is_same = |other: &&Component| other.name.text == component.name.text;
            let earlier = suite.components.iter().take(at).find(is_same);
            if earlier.is_some_and(|other| other.when.is_none() || component.when.is_none()) {
                self.wrong(
                    &component.name.place,
                    "there is another one of this name; both need a `when`",
                );
            }
        }
        for (at, test) in suite.tests.iter().enumerate() {
            let mut earlier = suite.tests.iter().take(at);
            if earlier.any(|other| other.name.text == test.name.text) {
                self.wrong(&test.name.place, "there is another test of this name");
            }
        }
    }
}

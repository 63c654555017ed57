//! Names in templates and expressions: each must stand for something, and each variable for somebody.

use std::collections::BTreeSet;

use super::super::ledger;
use super::super::model::{Action, Component, Configuration, Deployment, Place, Step, Text};
use super::super::variables::{BUILT_IN, RESULTS};
use super::super::walk::{self, Form};
use super::{Checker, template_file, unknown};

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
        self.folders();
    }

    fn names_in(&mut self, text: &Text, form: Form, used: &mut BTreeSet<String>) {
        let names = match form {
            Form::Condition | Form::Expression => self.templates.names_of_expression(&text.text),
            _ => self.templates.names(&text.text),
        };
        match names {
            Ok(names) => {
                for name in names {
                    let results = matches!(form, Form::Expression | Form::Summary);
                    // Half of a name such as that of load `warm-up`.
                    if results
                        && text.text.contains(&format!("-{name}"))
                        && !self.is_variable(&name)
                    {
                        let message = format!(
                            "there is no variable `{name}`; a name with `-` is written as in `load[\"a-b\"]`"
                        );
                        self.wrong(&text.place, message);
                        continue;
                    }
                    self.name(&text.place, &name, results, used);
                }
            }
            Err(flaw) if form == Form::Template => self.wrong(&text.place, flaw.message),
            Err(flaw) => {
                let help = operator(&text.text);
                self.wrong(&text.place, format!("{}{help}", flaw.message));
            }
        }
    }

    fn is_variable(&self, name: &str) -> bool {
        let variables = self.suite.variables.iter().map(|it| it.name.as_str());
        let dimensions = self.suite.matrix.iter().map(|it| it.name.as_str());
        let root = name.split('.').next().unwrap_or(name);
        let ours = BUILT_IN.into_iter().chain(RESULTS);
        variables.chain(dimensions).chain(ours).any(|it| it == root)
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
            ("component", Some(component)) => self.of_component(place, component, parts.next()),
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
                } else if RESULTS.contains(&root) {
                    let message = format!(
                        "what has been measured is not known here: `{root}` is for `that`, `until`, `steady` and `value`"
                    );
                    return self.wrong(place, message);
                }
                self.one_of(place, "variable", root, &known);
            }
        }
    }

    /// `component.NAME`, and what of it.
    fn of_component(&mut self, place: &Place, name: &str, what: Option<&str>) {
        const PARTS: [&str; 4] = ["dir", "config", "address", "pid"];
        let suite = self.suite;
        let mut same = suite.components.iter().filter(|it| it.name.text == name);
        let has_address = |it: &Component| matches!(it.deployment, Some(Deployment::Existing(_)));
        match what {
            _ if same.clone().next().is_none() => {
                let known = suite.components.iter().map(|it| it.name.text.as_str());
                self.wrong(place, unknown("component", name, known));
            }
            Some("address") if !same.any(has_address) => {
                let message = format!(
                    "`{name}` has no address: only what somebody else runs has one; write `127.0.0.1:{{{{ port.NAME }}}}`"
                );
                self.wrong(place, message);
            }
            Some(what) if !PARTS.contains(&what) => {
                self.wrong(
                    place,
                    unknown(&format!("part of `component.{name}`"), what, PARTS),
                );
            }
            _ => {}
        }
    }

    fn one_of(&mut self, place: &Place, what: &str, name: &str, known: &[String]) {
        if known.iter().any(|it| it == name) {
            return;
        }
        let known = known.iter().map(String::as_str);
        self.wrong(place, unknown(what, name, known));
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

    /// Folders are called by these names.
    fn folders(&mut self) {
        let suite = self.suite;
        let components = suite.components.iter().map(|it| &it.name);
        let tests = suite.tests.iter().map(|it| &it.name);
        for name in components.clone().chain(tests) {
            if name.text.contains("{{") {
                self.wrong(&name.place, "a name is no template");
            }
        }
        for name in components.chain([&suite.name]) {
            let is_folder =
                !name.text.contains('/') && !["", ".", ".."].contains(&name.text.trim());
            if !is_folder {
                let message = format!("`{}` cannot be the name of a folder", name.text);
                self.wrong(&name.place, message);
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

/// What to write in place of an operator that other languages have.
fn operator(expression: &str) -> &'static str {
    if expression.contains("&&") {
        return "; write `and`";
    }
    if expression.contains("||") {
        return "; write `or`";
    }
    let without = ["==", "<=", ">=", "!="]
        .iter()
        .fold(expression.to_owned(), |text, it| text.replace(it, ""));
    match without.contains('=') {
        true => "; equality is written `==`",
        false => "",
    }
}

//! One variant of a suite: everything that will be filled in is filled in, and everything that will be started is looked for.

use std::path::Path;

use minijinja::Value;

use super::super::container;
use super::super::model::{
    Component, Configuration, ConfigurationSource, CounterSource, Deployment, Hooks, Monitoring,
    Reconfigure, Test, Text,
};
use super::super::variables::{Scope, Variant};
use super::super::walk::{self, Form};
use super::programs::{RUN_FOLDER, is_of_the_run, missing_program, runs_commands_before_the_end};
use super::{Checker, Skipped, form, script};

/// Stands for every port until real ones are chosen.
const SOME_PORT: u16 = 20_000;

impl<'s> Checker<'s> {
    pub(super) fn variant(&mut self, variant: &Variant, tests: &[String]) {
        let scope = self.scope(variant);
        let value = scope.value();
        let components = self.taking_part(&value);
        if let Some(why) = self.cannot_run(&components, &value) {
            let variant = variant.clone();
            self.checked.skipped.push(Skipped { variant, why });
            return;
        }
        for component in &components {
            let mut texts = Vec::new();
            walk::component(component, &mut |text, form| {
                texts.push((text.clone(), form))
            });
            self.fill_in(&texts, &value);
            self.strategies(component, &value);
        }
        let suite = self.suite;
        for test in &suite.tests {
            let name = self.rendered(&test.name, &value).unwrap_or_default();
            if tests.is_empty() || tests.contains(&name) {
                self.test(test, &components, &scope, variant);
            }
        }
    }

    /// Hooks of the suite are before and after all variants, and know no names of the matrix.
    pub(super) fn hooks_of_suite(&mut self) {
        let suite = self.suite;
        let Hooks { before, after } = &suite.hooks;
        if before.is_empty() && after.is_empty() {
            return;
        }
        let scope = self.scope(&Variant::new());
        let value = scope.value();
        let components = self.taking_part(&value);
        let mut texts = Vec::new();
        let mut visit = |text: &Text, form| texts.push((text.clone(), form));
        before
            .iter()
            .chain(after)
            .for_each(|it| walk::step(it, &mut visit));
        self.fill_in(&texts, &value);
        script::check_hooks(self, before, &components, &scope, false);
        let may_be_made = runs_commands_before_the_end(suite);
        script::check_hooks(self, after, &components, &scope, may_be_made);
    }

    /// Everything that templates can ask for, with made-up ports and places.
    fn scope(&self, variant: &Variant) -> Scope {
        let mut scope = Scope::new(self.suite, variant);
        let ports = self.checked.ports.iter();
        let ports = ports.map(|name| (name.clone(), Value::from(SOME_PORT)));
        scope.set("port", Value::from_pairs(ports));
        for place in ["run_dir", "dir", "config"] {
            scope.set_path(place, Path::new(RUN_FOLDER));
        }
        let value = scope.value();
        let address = |component: &Component| match &component.deployment {
            Some(Deployment::Existing(existing)) => {
                let address = self.templates.render(&existing.address.text, &value);
                address.unwrap_or_default()
            }
            _ => String::new(),
        };
        let components = self.suite.components.iter().map(|component| {
            let parts = [
                ("dir", Value::from(RUN_FOLDER)),
                ("config", Value::from(format!("{RUN_FOLDER}/config"))),
                ("address", Value::from(address(component))),
                ("pid", Value::from(1)),
            ];
            (component.name.text.clone(), Value::from_pairs(parts))
        });
        let components = Value::from_pairs(components);
        scope.set("component", components);
        scope.set("repetition", Value::from(1));
        scope.set("test", Value::from("test"));
        scope
    }

    /// The components of a variant, each name once.
    fn taking_part(&mut self, value: &Value) -> Vec<&'s Component> {
        let mut found: Vec<&Component> = Vec::new();
        for component in &self.suite.components {
            if !self.holds(component.when.as_ref(), value) {
                continue;
            }
            if found.iter().any(|it| it.name.text == component.name.text) {
                let message = "in one of the variants there are two of this name";
                self.wrong(&component.name.place, message);
                continue;
            }
            found.push(component);
        }
        found
    }

    pub(super) fn holds(&mut self, condition: Option<&Text>, value: &Value) -> bool {
        let Some(condition) = condition else {
            return true;
        };
        match self.templates.evaluate(&condition.text, value) {
            Ok(holds) => holds.is_true(),
            Err(error) => {
                self.wrong(&condition.place, error.to_string());
                false
            }
        }
    }

    pub(super) fn rendered(&mut self, text: &Text, value: &Value) -> Option<String> {
        match self.templates.render(&text.text, value) {
            Ok(rendered) => Some(rendered),
            Err(error) => {
                self.wrong(&text.place, error.to_string());
                None
            }
        }
    }

    fn fill_in(&mut self, texts: &[(Text, Form)], value: &Value) {
        for (text, form) in texts {
            if matches!(form, Form::Condition | Form::Expression) {
                continue;
            }
            let Some(rendered) = self.rendered(text, value) else {
                continue;
            };
            if let Some(problem) = form::problem(*form, &rendered) {
                self.wrong(&text.place, problem);
            }
        }
    }

    /// Why a variant cannot run here, for lack of what an optional component needs.
    fn cannot_run(&mut self, components: &[&Component], value: &Value) -> Option<String> {
        for component in components.iter().filter(|it| it.optional) {
            let name = &component.name.text;
            if let Some(problem) = self.missing_starter(component, value) {
                return Some(format!("{name}: {problem}"));
            }
            for path in &component.requires {
                if let Some(problem) = self.missing_file(path, value) {
                    return Some(format!("{name}: {problem}"));
                }
            }
        }
        None
    }

    /// What is not there that starts a component.
    fn missing_starter(&mut self, component: &Component, value: &Value) -> Option<String> {
        match &component.deployment {
            Some(Deployment::Process(program)) => {
                let program = self.rendered(program.command.first()?, value)?;
                missing_program(&program, &self.suite.folder)
            }
            Some(Deployment::Container(_)) => container::engine().err(),
            Some(Deployment::Existing(_)) | None => None,
        }
    }

    fn missing_file(&mut self, path: &Text, value: &Value) -> Option<String> {
        let rendered = self.rendered(path, value)?;
        let path = self.suite.folder.join(&rendered);
        (!path.exists() && !is_of_the_run(&rendered))
            .then(|| format!("there is no {}", path.display()))
    }

    fn strategies(&mut self, component: &Component, value: &Value) {
        for path in &component.requires {
            if let Some(problem) = self.missing_file(path, value) {
                self.wrong(&path.place, problem);
            }
        }
        if let Some(configuration) = &component.configuration {
            self.configuration(configuration, value);
        }
        if let Some(deployment) = &component.deployment {
            self.deployment(component, deployment, value);
        }
        if let Some(execution) = &component.execution {
            self.execution(execution, value);
        }
        self.monitoring(&component.monitoring, value);
    }

    /// Commands that print counts.
    fn monitoring(&mut self, monitoring: &Monitoring, value: &Value) {
        for counter in &monitoring.counters {
            if let CounterSource::Command(words) = &counter.source {
                self.command(words, value);
            }
        }
    }

    fn configuration(&mut self, configuration: &Configuration, value: &Value) {
        let (path, is_template) = match &configuration.source {
            ConfigurationSource::Template(path) => (path, true),
            ConfigurationSource::File(path) => (path, false),
            ConfigurationSource::Inline(_) => return,
            ConfigurationSource::Command(words) => return self.command(words, value),
        };
        let Some(rendered) = self.rendered(path, value) else {
            return;
        };
        let file = self.suite.folder.join(&rendered);
        match std::fs::read_to_string(&file) {
            // A step makes it, or may.
            Err(_) if is_of_the_run(&rendered) || self.suite_runs => {}
            Err(error) => {
                let message = format!("cannot read {}: {error}", file.display());
                self.wrong(&path.place, message);
            }
            Ok(text) if is_template && !self.is_known_of(&file) => {
                if let Err(error) = self.templates.render(&text, value) {
                    self.wrong(&path.place, format!("{}: {error}", file.display()));
                }
            }
            Ok(_) => {}
        }
    }

    fn deployment(&mut self, component: &Component, deployment: &Deployment, value: &Value) {
        let (run, words) = match deployment {
            Deployment::Process(program) => (&program.run, program.command.as_slice()),
            Deployment::Container(container) => (&container.run, [].as_slice()),
            Deployment::Existing(_) => return,
        };
        self.command(words, value);
        if let Deployment::Container(container) = deployment
            && let Err(problem) = container::engine()
        {
            let message = format!("containers need an engine: {problem}");
            self.wrong(&container.image.place, message);
        }
        for port in &run.ready.ports {
            let known = self.checked.ports.clone();
            let Some(name) = self.rendered(port, value) else {
                continue;
            };
            if !known.contains(&name) {
                let message = format!("nothing refers to `port.{name}`");
                self.wrong(&port.place, message);
            }
        }
        self.pin(&component.name, &run.pin);
    }

    fn pin(&mut self, name: &Text, pin: &[usize]) {
        if pin.iter().any(|core| *core >= self.cores) {
            let cores = self.cores;
            let note = format!(
                "{}: not pinned to {pin:?}, there are {cores} cores",
                name.text
            );
            if !self.checked.notes.contains(&note) {
                self.checked.notes.push(note);
            }
        }
    }

    fn test(&mut self, test: &Test, components: &[&Component], scope: &Scope, variant: &Variant) {
        let value = scope.value();
        if !self.holds(test.when.as_ref(), &value) {
            return;
        }
        let mut texts = Vec::new();
        walk::test(test, &mut |text, form| texts.push((text.clone(), form)));
        self.fill_in(&texts, &value);
        script::check(self, test, components, scope, variant);
    }

    /// What a component has from a step on.
    pub(super) fn strategies_of(&mut self, step: &Reconfigure, value: &Value) {
        if let Some(configuration) = &step.configuration {
            self.configuration(configuration, value);
        }
        if let Some(Deployment::Process(program)) = &step.deployment {
            self.command(&program.command, value);
        }
        if let Some(execution) = &step.execution {
            self.execution(execution, value);
        }
        if let Some(monitoring) = &step.monitoring {
            self.monitoring(monitoring, value);
        }
    }
}

//! One variant of a suite: everything that will be filled in is filled in, and everything that will be started is looked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Parser as _;
use minijinja::Value;

use super::super::container;
use super::super::model::{
    Action, Component, Configuration, ConfigurationSource, Deployment, Execution, ExecutionKind,
    FaultKind, Step, Test, Text,
};
use super::super::variables::{Scope, Variant, words};
use super::super::walk::{self, Form};
use super::{Checker, Skipped};
use crate::cli::{Cli, parse_duration};
use crate::document::nearest;

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
                self.test(test, &components, &value, variant);
            }
        }
    }

    /// Everything that templates can ask for, with made-up ports and places.
    fn scope(&self, variant: &Variant) -> Scope {
        let mut scope = Scope::new(self.suite, variant);
        let ports = self.checked.ports.iter();
        let ports = ports.map(|name| (name.clone(), Value::from(SOME_PORT)));
        scope.set("port", Value::from_pairs(ports));
        for place in ["run_dir", "dir", "config"] {
            scope.set_path(place, Path::new("/nonexistent"));
        }
        let components = self.suite.components.iter().map(|component| {
            let parts = [
                ("dir", Value::from("/nonexistent")),
                ("config", Value::from("/nonexistent/config")),
                ("address", Value::from("http://127.0.0.1:20000")),
                ("pid", Value::from(1)),
            ];
            (component.name.text.clone(), Value::from_pairs(parts))
        });
        scope.set("component", Value::from_pairs(components));
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

    fn holds(&mut self, condition: Option<&Text>, value: &Value) -> bool {
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

    fn rendered(&mut self, text: &Text, value: &Value) -> Option<String> {
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
            let problem = match form {
                Form::Duration => parse_duration(&rendered).err().map(|it| it.to_string()),
                Form::Whole => {
                    let wrong = rendered.trim().parse::<u32>().is_err();
                    wrong.then(|| format!("`{rendered}` is no whole number"))
                }
                _ => None,
            };
            if let Some(problem) = problem {
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
        let path = self.suite.folder.join(self.rendered(path, value)?);
        (!path.exists()).then(|| format!("there is no {}", path.display()))
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

    fn command(&mut self, words: &[Text], value: &Value) {
        let Some(first) = words.first() else {
            return;
        };
        if let Some(program) = self.rendered(first, value)
            && let Some(problem) = missing_program(&program, &self.suite.folder)
        {
            self.wrong(&first.place, problem);
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

    /// Arguments of loadgen's own commands are read as it will read them.
    fn execution(&mut self, execution: &Execution, value: &Value) {
        let command = match execution.kind {
            ExecutionKind::Otlp => "otlp",
            ExecutionKind::Http => "http",
            ExecutionKind::Command => return self.command(&execution.arguments, value),
        };
        let Some(first) = execution.arguments.first() else {
            return;
        };
        let mut arguments = vec!["loadgen".to_owned(), command.to_owned()];
        for argument in &execution.arguments {
            let rendered = self.rendered(argument, value);
            arguments.extend(rendered.filter(|it| !it.is_empty()));
        }
        if let Err(error) = Cli::try_parse_from(arguments) {
            let words = error.to_string();
            let words = words.lines().next().unwrap_or("").trim();
            let words = words.trim_start_matches("error: ");
            self.wrong(&first.place, format!("loadgen {command}: {words}"));
        }
    }

    fn test(&mut self, test: &Test, components: &[&Component], value: &Value, variant: &Variant) {
        if !self.holds(test.when.as_ref(), value) {
            return;
        }
        let mut texts = Vec::new();
        walk::test(test, &mut |text, form| texts.push((text.clone(), form)));
        self.fill_in(&texts, value);
        let mut steps = Vec::new();
        walk::steps_of(test, &mut steps);
        let mut drained = false;
        for step in steps {
            if !self.holds(step.when.as_ref(), value) {
                continue;
            }
            self.targets(step, components, value, variant);
            drained |= matches!(step.action, Action::Drain(_));
            if let Action::Assert(expressions) = &step.action {
                for expression in expressions.iter().filter(|_| !drained) {
                    let names = self.templates.names_of_expression(&expression.text);
                    if names.is_ok_and(|names| names.iter().any(|it| it.starts_with("ledger"))) {
                        let message = "the ledger is made by a step `drain`, and none comes before";
                        self.wrong(&expression.place, message);
                    }
                }
            }
        }
    }

    /// Whom a step is done to must take part, and have what is asked of it.
    fn targets(
        &mut self,
        step: &Step,
        components: &[&Component],
        value: &Value,
        variant: &Variant,
    ) {
        let has = |component: &Component, what: &str| match what {
            "deployment" => component.deployment.is_some(),
            "execution" => component.execution.is_some(),
            "configuration" => component.configuration.is_some(),
            "control" => matches!(&component.deployment,
                Some(Deployment::Process(program)) if program.run.control.is_some()),
            _ => true,
        };
        let (targets, needed): (Vec<&Text>, &str) = match &step.action {
            Action::Up(targets)
            | Action::Down(targets)
            | Action::Deploy(targets)
            | Action::Start(targets)
            | Action::Stop(targets)
            | Action::Destroy(targets) => (targets.iter().collect(), "deployment"),
            Action::Configure(targets) => (targets.iter().collect(), "configuration"),
            Action::MonitorStart(targets) | Action::MonitorStop(targets) => {
                (targets.iter().collect(), "")
            }
            Action::Load(load) => (vec![&load.target], "execution"),
            Action::Reconfigure(step) => (vec![&step.target], ""),
            Action::Fault(fault) => match fault.kind {
                FaultKind::Proxy(_) => (vec![&fault.target], "control"),
                _ => (vec![&fault.target], "deployment"),
            },
            _ => return,
        };
        if let Action::Reconfigure(reconfigure) = &step.action {
            self.reconfigure_files(reconfigure, value);
        }
        for target in targets {
            let Some(name) = self.rendered(target, value) else {
                continue;
            };
            let found = components.iter().find(|it| it.name.text == name);
            match found {
                Some(component) if has(component, needed) => {}
                Some(_) => self.wrong(&target.place, format!("`{name}` has no `{needed}`")),
                None => {
                    let known = components.iter().map(|it| it.name.text.as_str());
                    let help = match nearest(&name, known.clone()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
                    };
                    let of = match variant.is_empty() {
                        true => String::new(),
                        false => format!(" with {}", words(variant)),
                    };
                    self.wrong(
                        &target.place,
                        format!("there is no component `{name}`{of}; {help}"),
                    );
                }
            }
        }
    }

    fn reconfigure_files(&mut self, step: &super::super::model::Reconfigure, value: &Value) {
        if let Some(configuration) = &step.configuration {
            self.configuration(configuration, value);
        }
        if let Some(Deployment::Process(program)) = &step.deployment {
            self.command(&program.command, value);
        }
        if let Some(execution) = &step.execution {
            self.execution(execution, value);
        }
    }
}

/// What is wrong with a program's name, if it cannot be started.
pub(crate) fn missing_program(program: &str, folder: &Path) -> Option<String> {
    let is_program = |path: &Path| {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let path = folder.join(program);
        let message = || format!("there is no program {}", path.display());
        return (!is_program(&path)).then(message);
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| is_program(&folder.join(program)));
    (!found).then(|| format!("there is no program `{program}` on the PATH"))
}

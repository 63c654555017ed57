//! Programs and files that must be there before a run, unless the run makes them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use minijinja::Value;

use super::super::model::{Action, Component, Hooks, Step, Suite, Test, Text};
use super::Checker;

/// Stands for the folders of a run, which are not there yet, and neither is what will be in them.
pub(super) const RUN_FOLDER: &str = "/folder-of-the-run";

impl Checker<'_> {
    /// A command whose program must be there now, if it is no path to what a step may make.
    pub(super) fn command(&mut self, words: &[Text], value: &Value) {
        self.program(words, value, self.suite_runs);
    }

    /// The same; `may_be_made` where a command has gone before that may have made it.
    pub(super) fn program(&mut self, words: &[Text], value: &Value, may_be_made: bool) {
        let Some(first) = words.first() else {
            return;
        };
        let Some(program) = self.rendered(first, value) else {
            return;
        };
        if program.contains('/') && may_be_made {
            return;
        }
        if let Some(problem) = missing_program(&program, &self.suite.folder) {
            self.wrong(&first.place, problem);
        }
    }
}

/// What is wrong with a program's name, if it cannot be started.
pub(crate) fn missing_program(program: &str, folder: &Path) -> Option<String> {
    let is_program = |path: &Path| {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if is_of_the_run(program) {
        return None;
    }
    if program.trim().is_empty() {
        return Some("a program is missing".to_owned());
    }
    if program.contains('/') {
        let path = folder.join(program);
        if is_program(&path) {
            return None;
        }
        let path = path.display();
        return Some(match folder.join(program).exists() {
            true => format!("{path} is no program that may be executed"),
            false => format!("there is no program {path}"),
        });
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| is_program(&folder.join(program)));
    (!found).then(|| match program.split_once(' ') {
        Some((name, _)) if !name.is_empty() => {
            format!(
                "there is no program `{program}`: each word is a text of its own, `[\"{name}\", …]`"
            )
        }
        _ => format!("there is no program `{program}` on the PATH"),
    })
}

/// Whether it will be in a folder that the run makes.
pub(super) fn is_of_the_run(path: &str) -> bool {
    path.starts_with(RUN_FOLDER)
}

/// Whether any step runs a command, which may make programs and files.
pub(super) fn runs_commands(suite: &Suite) -> bool {
    runs_commands_before_the_end(suite) || in_steps(&suite.hooks.after)
}

/// The same, without what comes after all tests.
pub(super) fn runs_commands_before_the_end(suite: &Suite) -> bool {
    let of_test = |test: &Test| in_hooks(&test.hooks) || in_steps(&test.steps);
    let of_component = |component: &Component| component.hooks.values().any(in_hooks);
    in_steps(&suite.hooks.before)
        || suite.tests.iter().any(of_test)
        || suite.components.iter().any(of_component)
}

fn in_hooks(hooks: &Hooks) -> bool {
    in_steps(&hooks.before) || in_steps(&hooks.after)
}

pub(super) fn in_steps(steps: &[Step]) -> bool {
    let runs = |step: &Step| matches!(step.action, Action::Run(_)) || in_hooks(&step.hooks);
    steps.iter().any(runs)
}

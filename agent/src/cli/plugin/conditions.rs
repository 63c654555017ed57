//! What a plugin gets when a command runs it: its configuration, and what an operator would grant it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::read;
use crate::processors::wasm::Grant;
use crate::processors::wasm::workbench::Conditions;

/// What an author says on the command line. As in the agent, a plugin has nothing that is not given to it.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the plugin gets")]
pub struct ConditionArgs {
    /// A TOML file with the plugin's configuration, as it stands under `[processors.wasm.config]`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A TOML file with what stands under `[processors.wasm]`: `config`, `grant`, `environment`, `files`, limits. Its
    /// `path` and `on_error` do not count here.
    #[arg(long, value_name = "FILE")]
    processor: Option<PathBuf>,
    /// What it may have of the system. Without it, clocks stand at 0 and random numbers are the same at every start.
    #[arg(long, value_name = "WHAT")]
    grant: Vec<Grant>,
    /// A variable of the environment, or one with this value.
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// A file that it may read, by the name under which it asks for it.
    #[arg(long = "file", value_name = "NAME=PATH", value_parser = file)]
    files: Vec<(String, PathBuf)>,
}

impl ConditionArgs {
    /// What there is to give.
    ///
    /// # Errors
    /// When a file cannot be read, or is no TOML.
    pub(super) fn read(&self) -> Result<Conditions, String> {
        self.read_beside(None, None)
    }

    /// What may be missing when a plugin declines what it is given, as a hint behind the problem.
    pub(super) fn hint(&self) -> &'static str {
        match (&self.config, &self.processor) {
            (None, None) => {
                " (it was given no configuration: --config FILE, such as tests/cases/config.toml)"
            }
            _ => "",
        }
    }

    /// The same, with the files that a case has for what is not given.
    pub(super) fn read_beside(
        &self,
        processor: Option<&Path>,
        config: Option<&Path>,
    ) -> Result<Conditions, String> {
        let mut conditions = Conditions {
            grants: self.grant.clone(),
            environment: self.environment.clone(),
            files: self.files.clone(),
            ..Conditions::default()
        };
        if let Some(path) = self.processor.as_deref().or(processor) {
            conditions.table = Some((path.display().to_string(), read(path)?));
        }
        if let Some(path) = self.config.as_deref().or(config) {
            let table = toml::from_str(&read(path)?);
            let table = table.map_err(|error| format!("{}: {error}", path.display()))?;
            conditions.config = Some(table);
        }
        Ok(conditions)
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("there is no name before `=`".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => std::env::var(text)
            .map(|value| (text.to_owned(), value))
            .map_err(|_| format!("the variable is not set; write {text}=VALUE")),
    }
}

fn file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("write the name under which the plugin asks for it, `=` and the path".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_has_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(variable("=b").is_err());
        let unset = variable("TIDEGATE_TEST_NOBODY_SETS").unwrap_err();
        assert!(unset.contains("TIDEGATE_TEST_NOBODY_SETS=VALUE"), "{unset}");
        assert_eq!(
            file("table=a/b=c.csv"),
            Ok(("table".to_owned(), "a/b=c.csv".into()))
        );
        for wrong in ["table", "=x", "table="] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
    }
}

//! One component's table of the configuration, as its factory sees it.

use serde::de::DeserializeOwned;

use super::diagnostics::{Diagnostic, Diagnostics, Severity};

/// A component's table: decodes into its options and takes its complaints.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    value: toml::Value,
    found: &'a mut Diagnostics,
}

impl<'a> Section<'a> {
    /// A section from TOML text, for tests of one component.
    pub fn from_text(path: &str, text: &str, found: &'a mut Diagnostics) -> Option<Self> {
        match text.parse::<toml::Table>() {
            Ok(table) => Some(Self {
                path: path.to_owned(),
                value: toml::Value::Table(table),
                found,
            }),
            Err(error) => {
                found.0.push(Diagnostic {
                    severity: Severity::Error,
                    place: None,
                    key: path.to_owned(),
                    message: error.to_string(),
                });
                None
            }
        }
    }

    /// Runs `work` with an empty section, for defaults that are validated like anything else.
    pub fn empty<T>(
        path: &str,
        found: &mut Diagnostics,
        work: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        work(&mut Section {
            path: path.to_owned(),
            value: toml::Value::Table(toml::Table::new()),
            found,
        })
    }

    /// Decodes the table. Problems are reported, all of them, and give `None`.
    pub fn options<T: DeserializeOwned>(&mut self) -> Option<T> {
        match self.value.clone().try_into() {
            Ok(options) => Some(options),
            Err(error) => {
                self.error("", error.to_string());
                None
            }
        }
    }

    /// Reports an error at `key`, a dotted path below this table; empty for the table itself.
    pub fn error(&mut self, key: &str, message: impl Into<String>) {
        self.report(Severity::Error, key, message.into());
    }

    /// Reports a warning at `key`.
    pub fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.report(Severity::Warning, key, message.into());
    }

    fn report(&mut self, severity: Severity, key: &str, message: String) {
        let key = if key.is_empty() {
            self.path.clone()
        } else {
            format!("{}.{key}", self.path)
        };
        self.found.0.push(Diagnostic {
            severity,
            place: None,
            key,
            message,
        });
    }
}

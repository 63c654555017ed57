//! What tests of the configuration share: an environment that is given and not found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::environment::Environment;

/// Variables and files by name.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
}

impl Fake {
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.into(), content.to_owned());
        self
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        Ok(self.variables.get(name).cloned())
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| "cannot be read: no such file".to_owned())
    }

    fn folder(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, String> {
        let inside: Vec<_> = self
            .files
            .keys()
            .filter(|file| file.parent() == Some(path))
            .cloned()
            .collect();
        Ok((!inside.is_empty()).then_some(inside))
    }

    fn stdin(&self) -> Result<String, String> {
        Ok("[service]\n".to_owned())
    }
}

//! What files hold that a configuration refers to, so that a change of content is a change of settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

/// The content of files, each as a number; `None` where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Fingerprints {
    /// Of no file.
    pub const NONE: &'static Self = &Self(BTreeMap::new());

    /// Reads `files`.
    pub fn read(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let print = |path: PathBuf| {
            let content = std::fs::read(&path).ok();
            let print = content.map(|content| digest(&SHA256, &content).as_ref().to_vec());
            (path, print)
        };
        Self(files.into_iter().map(print).collect())
    }

    /// That of one file; `None` where it cannot be read or was not asked for.
    pub fn of(&self, file: &Path) -> Option<&[u8]> {
        self.0.get(file)?.as_deref()
    }

    /// Whether this file was asked for.
    pub fn has(&self, file: &Path) -> bool {
        self.0.contains_key(file)
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

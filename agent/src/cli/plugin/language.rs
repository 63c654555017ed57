//! What plugins are written in: how a project is recognized, and where what it builds lies.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// A language that this command knows how to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// With the SDK: the fastest, and the least to write.
    Rust,
    /// With clang: small and fast.
    C,
    /// With componentize-js: forty times slower.
    Javascript,
}

/// Where cargo puts plugins.
const OF_CARGO: &str = "target/wasm32-wasip2/release";

/// Where everybody else puts theirs.
const OF_OTHERS: &str = "plugin.wasm";

impl Language {
    /// The language of the project in `folder`, by the file that it is built with.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let known = [
            ("Cargo.toml", Self::Rust),
            ("package.json", Self::Javascript),
            ("Makefile", Self::C),
        ];
        let found = known.iter().find(|(file, _)| folder.join(file).is_file());
        found.map(|(_, language)| *language)
    }

    /// The plugin that was built in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is not clear which.
    pub(super) fn built(self, folder: &Path) -> Result<PathBuf, String> {
        let nothing = |place: &str| {
            format!(
                "name a plugin, or build one first (tidegate plugin build): there is no {place}"
            )
        };
        if self != Self::Rust {
            let path = folder.join(OF_OTHERS);
            return path
                .is_file()
                .then_some(path)
                .ok_or_else(|| nothing(OF_OTHERS));
        }
        let entries = std::fs::read_dir(folder.join(OF_CARGO)).map_err(|_| nothing(OF_CARGO))?;
        let is_plugin = |path: &PathBuf| path.extension().is_some_and(|it| it == "wasm");
        let paths = entries.flatten().map(|entry| entry.path());
        let found: Vec<PathBuf> = paths.filter(is_plugin).collect();
        match found.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(format!("name a plugin: there is none in {OF_CARGO}")),
            _ => Err(format!("name a plugin: there are several in {OF_CARGO}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_project_is_known_by_its_files_and_its_plugin_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(Language::of(folder), None);
        // A project in Rust or JavaScript may have a Makefile too.
        for (file, language) in [
            ("Makefile", Language::C),
            ("package.json", Language::Javascript),
            ("Cargo.toml", Language::Rust),
        ] {
            fs::write(folder.join(file), "").unwrap();
            assert_eq!(Language::of(folder), Some(language));
            let problem = language.built(folder).unwrap_err();
            assert!(problem.contains("tidegate plugin build"), "{problem}");
        }
        fs::write(folder.join("plugin.wasm"), "").unwrap();
        assert_eq!(Language::C.built(folder), Ok(folder.join("plugin.wasm")));
        let release = folder.join(OF_CARGO);
        fs::create_dir_all(&release).unwrap();
        assert!(Language::Rust.built(folder).is_err());
        fs::write(release.join("a.wasm"), "").unwrap();
        assert_eq!(Language::Rust.built(folder), Ok(release.join("a.wasm")));
        fs::write(release.join("b.wasm"), "").unwrap();
        assert!(
            Language::Rust
                .built(folder)
                .unwrap_err()
                .contains("several")
        );
    }
}

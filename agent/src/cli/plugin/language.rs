//! What plugins are written in: how a project is recognized, and where what it builds lies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use clap::ValueEnum;
use serde::Deserialize;

/// A language that this command knows how to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// With the SDK: the fastest, and the least to write.
    Rust,
    /// With clang: small and fast.
    C,
    /// With componentize-js: the slowest by far.
    Javascript,
}

/// What cargo builds plugins for.
pub(super) const TARGET: &str = "wasm32-wasip2";

/// Where everybody but cargo puts plugins.
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
        let path = match self {
            Self::Rust => of_cargo(folder)?,
            Self::C | Self::Javascript => folder.join(OF_OTHERS),
        };
        if path.is_file() {
            return Ok(path);
        }
        let place = path.strip_prefix(".").unwrap_or(&path).display();
        Err(format!(
            "name a plugin, or build one first (tidegate plugin build): there is no {place}"
        ))
    }

    /// A source in `folder` that has changed since `plugin` was built, if there is one. What cannot be read has not.
    pub(super) fn newer_source(self, folder: &Path, plugin: &Path) -> Option<PathBuf> {
        let endings: &[&str] = match self {
            // Not Cargo.toml: of a comment there, cargo makes nothing new.
            Self::Rust => &["rs"],
            Self::C => &["c", "h"],
            Self::Javascript => &["js", "mjs", "ts", "json"],
        };
        let built = changed(plugin)?;
        // Of the folders below, those with sources: not what is built, installed or expected.
        let below: &[&str] = match self {
            Self::Rust | Self::Javascript => &["", "src"],
            Self::C => &["", "src", "include"],
        };
        let files = below
            .iter()
            .filter_map(|name| std::fs::read_dir(folder.join(name)).ok())
            .flat_map(Iterator::flatten)
            .map(|entry| entry.path());
        let is_source = |path: &PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| endings.contains(&ending))
        };
        files
            .filter(is_source)
            .find(|path| changed(path).is_some_and(|time| time > built))
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// What `cargo metadata` says of a project, as far as it is of use here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    targets: Vec<Artifact>,
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    crate_types: Vec<String>,
}

/// Where cargo puts the plugin of the project in `folder`. Only cargo knows: `CARGO_TARGET_DIR`, its configuration and
/// the workspace decide.
fn of_cargo(folder: &Path) -> Result<PathBuf, String> {
    let metadata = metadata(folder)?;
    let home =
        std::fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let own = |package: &&Package| package.manifest_path.parent() == Some(home.as_path());
    // A folder that is a workspace and no crate stands for all crates in it.
    let packages = match metadata.packages.iter().find(own) {
        Some(package) => std::slice::from_ref(package),
        None => metadata.packages.as_slice(),
    };
    let artifacts = packages.iter().flat_map(|package| &package.targets);
    let plugins = artifacts.filter(|artifact| artifact.crate_types.iter().any(|it| it == "cdylib"));
    let release = metadata.target_directory.join(TARGET).join("release");
    let files: Vec<PathBuf> = plugins
        .map(|plugin| release.join(format!("{}.wasm", plugin.name.replace('-', "_"))))
        .collect();
    match files.as_slice() {
        [only] => Ok(only.strip_prefix(&home).map_or_else(
            |_| only.clone(),
            |below| folder.join(below),
        )),
        [] => Err(
            "name a plugin: this crate makes none; it needs `crate-type = [\"cdylib\"]` under [lib]"
                .to_owned(),
        ),
        _ => {
            let names = files.iter().filter_map(|path| path.file_name()?.to_str());
            let names = names.collect::<Vec<_>>().join(", ");
            Err(format!("name a plugin: there are several in {}: {names}", release.display()))
        }
    }
}

fn metadata(folder: &Path) -> Result<Metadata, String> {
    let asked = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(folder)
        .output()
        .map_err(|error| format!("ask cargo where it puts the plugin: {error}"))?;
    if !asked.status.success() {
        let said = String::from_utf8_lossy(&asked.stderr);
        return Err(format!(
            "ask cargo where it puts the plugin: {}",
            said.trim()
        ));
    }
    serde_json::from_slice(&asked.stdout).map_err(|error| format!("read what cargo says: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_project_is_known_by_its_files() {
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
        }
        let problem = Language::C.built(folder).unwrap_err();
        assert!(problem.contains("tidegate plugin build"), "{problem}");
        fs::write(folder.join("plugin.wasm"), "").unwrap();
        assert_eq!(Language::C.built(folder), Ok(folder.join("plugin.wasm")));
    }

    #[test]
    fn a_source_that_is_newer_than_the_plugin_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let write = |name: &str, seconds: u64| {
            let path = folder.join(name);
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(&path).unwrap().set_modified(time).unwrap();
            path
        };
        let plugin = write("plugin.wasm", 100);
        write("src/edit.c", 99);
        write("tests/cases/basic.input.json", 101);
        write("README.md", 101);
        assert_eq!(Language::C.newer_source(folder, &plugin), None);
        let source = write("src/edit.c", 101);
        assert_eq!(Language::C.newer_source(folder, &plugin), Some(source));
        assert_eq!(Language::Javascript.newer_source(folder, &plugin), None);
        let missing = folder.join("none");
        assert_eq!(Language::C.newer_source(folder, &missing), None);
    }

    /// A crate that makes a plugin.
    fn write_crate(folder: &Path, name: &str, more: &str) {
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("src/lib.rs"), "").unwrap();
        let manifest = format!(
            "[package]\nname = '{name}'\nedition = '2024'\n[lib]\ncrate-type = ['cdylib']\n{more}"
        );
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    }

    #[test]
    fn cargo_says_where_a_plugin_lies() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let elsewhere = elsewhere.path();
        write_crate(&folder, "shop-tags", "[workspace]");
        fs::create_dir(folder.join(".cargo")).unwrap();
        let config = format!("[build]\ntarget-dir = '{}'", elsewhere.display());
        fs::write(folder.join(".cargo/config.toml"), config).unwrap();
        let release = elsewhere.join(TARGET).join("release");
        let problem = Language::Rust.built(&folder).unwrap_err();
        assert!(problem.contains("tidegate plugin build"), "{problem}");
        fs::create_dir_all(&release).unwrap();
        // What others have put there is none of this project's.
        fs::write(release.join("other.wasm"), "").unwrap();
        assert!(Language::Rust.built(&folder).is_err());
        let plugin = release.join("shop_tags.wasm");
        fs::write(&plugin, "").unwrap();
        assert_eq!(Language::Rust.built(&folder), Ok(plugin));
    }

    #[test]
    fn each_crate_of_a_workspace_has_its_own_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let config = "[workspace]\nresolver = '3'\nmembers = ['a', 'b']\n";
        fs::write(folder.join("Cargo.toml"), config).unwrap();
        for name in ["a", "b"] {
            write_crate(&folder.join(name), name, "");
        }
        for name in ["a", "b"] {
            let problem = Language::Rust.built(&folder.join(name)).unwrap_err();
            assert!(
                problem.contains(&format!("release/{name}.wasm")),
                "{problem}"
            );
        }
        let problem = Language::Rust.built(&folder).unwrap_err();
        assert!(
            problem.contains("several") && problem.contains("a.wasm, b.wasm"),
            "{problem}"
        );
    }
}

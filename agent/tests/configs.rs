//! The examples under `configs/agent`, and what the package installs: each one loads, and each component is in one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::component::Factory;
use tidegate::config::{
    Diagnostics, Environment, ProcessEnvironment, Registries, Section, Severity, Source, load,
    settings_of,
};

/// Files as they are, and every variable without a default as `example`.
struct Example;

impl Environment for Example {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        Ok(name.ends_with("PASSWORD").then(|| "example".to_owned()))
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        ProcessEnvironment.file(path)
    }

    fn folder(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, String> {
        ProcessEnvironment.folder(path)
    }

    fn stdin(&self) -> Result<String, String> {
        Err("is not read".to_owned())
    }
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/agent");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/agent.toml")])
        .collect();
    files.sort();
    files
}

#[test]
fn every_example_loads_without_a_problem() {
    let examples = examples();
    assert!(!examples.is_empty());
    for file in examples {
        let (tree, found) = load(&[Source::Path(file.clone())], &[], &Example);
        match settings_of(&tree, found, &Registries::BUILT_IN) {
            // That an example listens on every network, say, is its own affair.
            Ok((_, found)) => assert_eq!(found.count(Severity::Error), 0),
            Err(found) => panic!("{}\n{}", file.display(), found.with_excerpts()),
        }
    }
}

#[test]
fn every_component_is_in_an_example() {
    let mut used = std::collections::BTreeSet::new();
    for file in examples() {
        let (tree, _) = load(&[Source::Path(file)], &[], &Example);
        let text = tidegate::config::render(&tree, tidegate::config::Format::Json, true).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        for table in ["receivers", "processors", "exporters", "extensions"] {
            for id in document[table].as_object().into_iter().flatten() {
                let kind = id.0.split('/').next().unwrap();
                used.insert(format!("{table}.{kind}"));
            }
        }
    }
    let missing: Vec<_> = every_kind()
        .into_iter()
        .filter(|kind| !used.contains(kind))
        .collect();
    assert!(
        missing.is_empty(),
        "no file under configs/agent uses {missing:?}"
    );
}

fn every_kind() -> Vec<String> {
    fn kinds<S: ?Sized>(table: &str, registry: &'static [Factory<S>]) -> Vec<String> {
        registry
            .iter()
            .map(|factory| format!("{table}.{}", factory.kind))
            .collect()
    }
    let registries = Registries::BUILT_IN;
    [
        kinds("receivers", registries.receivers),
        kinds("processors", registries.processors),
        kinds("exporters", registries.exporters),
        kinds("extensions", registries.extensions),
    ]
    .concat()
}

/// A key that no component has is an error that names it, and no component panics over nonsense.
#[test]
fn every_component_refuses_unknown_keys() {
    fn check<S: ?Sized>(registry: &'static [Factory<S>]) {
        for factory in registry {
            let mut found = Diagnostics::default();
            let text = "surely_unknown = 1\n[surely.unknown]\nx = 1";
            let mut section = Section::from_text(factory.kind, text, &mut found).unwrap();
            // What it gives then counts for nothing.
            drop((factory.parse)(&mut section));
            assert!(found.has_errors(), "{}", factory.kind);
            let text = found.to_string();
            for key in ["surely_unknown: ", "surely: "] {
                let expected = format!("{}.{key}unknown key", factory.kind);
                assert!(text.contains(&expected), "{expected} not in\n{text}");
            }
        }
    }
    let registries = Registries::BUILT_IN;
    check(registries.receivers);
    check(registries.processors);
    check(registries.exporters);
    check(registries.extensions);
}

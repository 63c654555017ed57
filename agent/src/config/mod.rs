//! Configuration: from TOML text to what components trust.
//!
//! [`load()`] reads, merges and expands; every key and value keeps the place where it was written. [`settings_of`] then
//! understands the tree as a whole. Neither stops at a problem: all of them are reported, each with file, line, column,
//! key, and what to do.

mod compare;
mod components;
mod decode;
mod diagnostics;
mod environment;
mod expand;
mod fault;
mod load;
mod merge;
mod parse;
mod print;
mod reference;
mod resolve;
mod schema;
mod secret;
mod section;
mod settings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod unsupported;

use std::path::PathBuf;

use environment::Recording;

pub use compare::changed_keys;
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use environment::{Environment, ProcessEnvironment};
pub use load::{Source, Tree, fuzz_load, load};
pub use print::{Format, render};
pub use reference::{Page, reference};
pub use resolve::Registries;
pub(crate) use resolve::runtime_socket;
pub use schema::{Coverage, json_schema, options_schemas, service_schema};
pub use section::Section;
pub use settings::{
    Components, LogEncoding, LogLevel, LogSettings, MetricsLevel, ReloadSettings, Settings,
    TelemetrySettings,
};
pub use text::Place;
pub(crate) use tree::{KeyPath, quoted, split_dotted};
pub use unsupported::Unsupported;

/// What a command line says about the configuration; enough to read it again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigSources {
    /// Files in the order in which they are merged.
    pub sources: Vec<Source>,
    /// `--set`: `a.b.c=value`, which win over all files.
    pub sets: Vec<String>,
}

/// Reads and understands the configuration. With settings come the warnings.
///
/// # Errors
/// Everything that is wrong.
pub fn load_settings(from: &ConfigSources) -> Result<(Settings, Diagnostics), Diagnostics> {
    let (tree, found) = load(&from.sources, &from.sets, &ProcessEnvironment);
    settings_of(&tree, found, &Registries::BUILT_IN)
}

/// A configuration without errors, with all that there is to know about where it came from.
#[derive(Debug)]
pub struct Configuration {
    /// What it means.
    pub settings: Settings,
    /// What was written.
    pub tree: Tree,
    /// What the operator should know.
    pub warnings: Diagnostics,
    /// Every file and folder that it was read from, those of `${file:…}` included.
    pub files: Vec<PathBuf>,
}

/// Reads and understands the configuration.
///
/// # Errors
/// Everything that is wrong.
pub fn load_configuration(from: &ConfigSources) -> Result<Configuration, Diagnostics> {
    let environment = Recording::new(&ProcessEnvironment);
    let (tree, found) = load(&from.sources, &from.sets, &environment);
    let (settings, warnings) = settings_of(&tree, found, &Registries::BUILT_IN)?;
    let mut files = environment.into_files();
    files.extend(tree.paths.iter().cloned());
    Ok(Configuration {
        settings,
        tree,
        warnings,
        files,
    })
}

/// Whether `text` is an assignment as `--set` wants one: `key.path=value`. Gives it back.
///
/// # Errors
/// What is wrong with its form.
pub fn check_assignment(text: &str) -> Result<String, String> {
    merge::set(0, text).map(|_| text.to_owned())
}

/// Understands a tree that was loaded with the problems `found`.
///
/// # Errors
/// Everything that is wrong.
pub fn settings_of(
    tree: &Tree,
    mut found: Diagnostics,
    registries: &Registries,
) -> Result<(Settings, Diagnostics), Diagnostics> {
    if tree.incomplete {
        found.sort();
        return Err(found.without_secrets(tree));
    }
    let settings = resolve::resolve(tree, registries, &mut found);
    let found = found.without_secrets(tree);
    match settings {
        Some(settings) => Ok((settings, found)),
        None => Err(found),
    }
}

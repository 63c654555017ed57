//! What a new configuration would start, change, keep and remove.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::admin::Lock;
use crate::config::{self, Components, Configuration, Format, Settings, changed_keys};
use crate::fingerprint::Fingerprints;
use crate::pipeline::{Change, Plan};
use ring::digest::{SHA256, digest};

/// Metrics are floating-point numbers to most who read them: no more bits than those can hold.
const HASH_BYTES: usize = 6;

/// A configuration and what the files hold that its components read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) configuration: Configuration,
    pub(crate) files: Fingerprints,
}

impl Loaded {
    /// Reads the files that `configuration` refers to.
    pub(crate) fn new(configuration: Configuration) -> Self {
        let settings = &configuration.settings;
        let receivers = settings.receivers.iter().flat_map(|(_, of)| of.files());
        let processors = settings.processors.iter().flat_map(|(_, of)| of.files());
        let exporters = settings.exporters.iter().flat_map(|(_, of)| of.files());
        let extensions = settings.extensions.iter().flat_map(|(_, of)| of.files());
        let own = [&settings.admin_lock, &settings.telemetry.metrics_lock];
        let own = own.into_iter().flat_map(Lock::files);
        let files = receivers
            .chain(processors)
            .chain(exporters)
            .chain(extensions)
            .chain(own);
        Self {
            files: Fingerprints::read(files),
            configuration,
        }
    }

    /// A number that two configurations have in common only if they are the same.
    pub(crate) fn hash(&self) -> i64 {
        let text = config::render(&self.configuration.tree, Format::Json, false);
        let print = digest(&SHA256, text.unwrap_or_default().as_bytes());
        let first = print.as_ref().iter().take(HASH_BYTES);
        first.fold(0, |hash, byte| hash << 8 | i64::from(*byte))
    }

    /// Whether `files` hold what they held for `old`.
    pub(crate) fn same_files(&self, old: &Self, files: Vec<PathBuf>) -> bool {
        let mut files = files.iter();
        files.all(|file| self.files.of(file) == old.files.of(file))
    }

    /// Those of `files` that `old` refers to, too, and that hold something else now.
    fn edited(&self, old: &Self, files: Vec<PathBuf>) -> Vec<PathBuf> {
        let is_edited = |file: &PathBuf| {
            old.files.has(file) && self.files.has(file) && self.files.of(file) != old.files.of(file)
        };
        files.into_iter().filter(is_edited).collect()
    }

    /// The files of the component with this id in one of the four tables.
    fn files_of(&self, table: &str, id: &str) -> Vec<PathBuf> {
        let settings = self.settings();
        let files = match table {
            "receivers" => find(&settings.receivers, id).map(|of| of.files()),
            "processors" => find(&settings.processors, id).map(|of| of.files()),
            "exporters" => find(&settings.exporters, id).map(|of| of.files()),
            "extensions" => find(&settings.extensions, id).map(|of| of.files()),
            _ => None,
        };
        files.unwrap_or_default()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.configuration.settings
    }

    /// What is to run; `held_max` is the most bytes of telemetry to hold.
    pub(crate) fn plan(&self, held_max: usize) -> Plan<'_> {
        let settings = self.settings();
        Plan {
            receivers: by_id(&settings.receivers),
            processors: by_id(&settings.processors),
            exporters: by_id(&settings.exporters),
            pipelines: &settings.pipelines,
            held_max,
            files: &self.files,
        }
    }
}

fn by_id<S: ?Sized>(components: &Components<S>) -> BTreeMap<&str, &S> {
    components
        .iter()
        .map(|(id, settings)| (id.as_str(), settings.as_ref()))
        .collect()
}

/// What becomes of an extension.
pub(crate) fn extension(old: &Loaded, new: &Loaded, id: &str) -> Change {
    let (before, now) = (&old.settings().extensions, &new.settings().extensions);
    match (find(before, id), find(now, id)) {
        (None, _) => Change::Started,
        (Some(_), None) => Change::Removed,
        (Some(before), Some(now))
            if before.is_same(now.as_any()) && new.same_files(old, now.files()) =>
        {
            Change::Kept
        }
        _ => Change::Changed,
    }
}

fn find<'a, S: ?Sized>(components: &'a Components<S>, id: &str) -> Option<&'a S> {
    let mut components = components.iter();
    let (_, found) = components.find(|(found, _)| found == id)?;
    Some(found.as_ref())
}

/// What becomes of a component or pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `exporters.clickhouse`.
    pub name: String,
    /// What becomes of it.
    pub change: Change,
    /// Its keys whose values differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Its files, such as certificates and plugins, that hold something else under the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

impl Entry {
    /// Why it changes, in words.
    fn reason(&self) -> Option<String> {
        let files: Vec<_> = self
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let files = match files.is_empty() {
            true => None,
            false => Some(format!("its files changed: {}", files.join(", "))),
        };
        match (self.keys.is_empty(), files) {
            (true, files) => files,
            (false, None) => Some(self.keys.join(", ")),
            (false, Some(files)) => Some(format!("{}; {files}", self.keys.join(", "))),
        }
    }
}

/// Everything that a new configuration does to what runs. Displays as a list for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Components and pipelines, those included that are kept.
    pub parts: Vec<Entry>,
    /// Keys of `[service]` besides its pipelines and extensions whose values differ.
    pub service: Vec<String>,
}

impl Difference {
    pub(crate) fn between(old: &Loaded, new: &Loaded) -> Self {
        let (before, now) = (old.plan(0), new.plan(0));
        let trees = (&old.configuration.tree, &new.configuration.tree);
        let mut parts = Vec::new();
        let mut add = |table: &[&str], ids: BTreeSet<&str>, change: &dyn Fn(&str) -> Change| {
            for id in ids {
                let change = change(id);
                let path: Vec<&str> = table.iter().copied().chain([id]).collect();
                let (keys, files) = match (change, table) {
                    (Change::Changed, [table, ..]) => (
                        changed_keys(trees.0, trees.1, &path),
                        new.edited(old, new.files_of(table, id)),
                    ),
                    _ => Default::default(),
                };
                parts.push(Entry {
                    name: path.join("."),
                    change,
                    keys,
                    files,
                });
            }
        };
        add(
            &["receivers"],
            either(before.receivers.keys(), now.receivers.keys()),
            &|id| now.receiver(&before, id),
        );
        add(
            &["processors"],
            either(before.processors.keys(), now.processors.keys()),
            &|id| now.processor(&before, id),
        );
        add(
            &["exporters"],
            either(before.exporters.keys(), now.exporters.keys()),
            &|id| now.exporter(&before, id),
        );
        let ids = |loaded| extension_ids(Loaded::settings(loaded));
        add(
            &["extensions"],
            ids(old).union(&ids(new)).copied().collect(),
            &|id| extension(old, new, id),
        );
        let ids = |plan: &Plan<'_>| -> BTreeSet<String> {
            plan.pipelines.iter().map(|node| node.id.clone()).collect()
        };
        let (old_ids, new_ids) = (ids(&before), ids(&now));
        add(
            &["service", "pipelines"],
            old_ids.union(&new_ids).map(String::as_str).collect(),
            &|id| now.pipeline(&before, id),
        );
        let service = changed_keys(trees.0, trees.1, &["service"]);
        let own = |key: &String| {
            let table = key.split(['.', '[']).next().unwrap_or_default();
            table != "pipelines" && table != "extensions" && !table.is_empty()
        };
        let mut service: Vec<_> = service.into_iter().filter(own).collect();
        let (admin, metrics) = (
            new.settings().admin_lock.files(),
            new.settings().telemetry.metrics_lock.files(),
        );
        for (key, files) in [("admin.tls", admin), ("telemetry.metrics.tls", metrics)] {
            // What the files hold is a part of it, too.
            let is_known = service.iter().any(|changed| changed.starts_with(key));
            if !is_known && !new.same_files(old, files) {
                service.push(key.to_owned());
            }
        }
        Self { parts, service }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.service.is_empty() && self.parts.iter().all(|part| part.change == Change::Kept)
    }

    /// The names of what changes in this way, in words for a log.
    pub(crate) fn names(&self, change: Change) -> String {
        let parts = self.parts.iter().filter(|part| part.change == change);
        let names: Vec<_> = parts.map(|part| part.name.as_str()).collect();
        names.join(" ")
    }
}

fn either<'a>(
    old: impl Iterator<Item = &'a &'a str>,
    new: impl Iterator<Item = &'a &'a str>,
) -> BTreeSet<&'a str> {
    old.chain(new).copied().collect()
}

fn extension_ids(settings: &Settings) -> BTreeSet<&str> {
    let extensions = settings.extensions.iter();
    extensions.map(|(id, _)| id.as_str()).collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let Entry { name, change, .. } = part;
            let word = match change {
                Change::Started => "started",
                Change::Changed => "changed",
                Change::Kept => "kept",
                Change::Removed => "removed",
            };
            match part.reason() {
                None => writeln!(f, "{word:<8} {name}")?,
                Some(reason) => writeln!(f, "{word:<8} {name}: {reason}")?,
            }
        }
        for key in &self.service {
            writeln!(f, "changed  service.{key}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{ConfigSources, Source, load_configuration};

    fn loaded(text: &str) -> Loaded {
        let content = text.to_owned();
        let name = "agent.toml".to_owned();
        let from = ConfigSources {
            sources: vec![Source::Text { name, content }],
            sets: Vec::new(),
        };
        Loaded::new(load_configuration(&from).unwrap())
    }

    #[test]
    fn what_changes_in_a_file_only_is_told_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("token"), folder.path().join("other"));
        fs::write(&file, "hunter2").unwrap();
        fs::write(&other, "hunter2").unwrap();
        let text = |file: &std::path::Path, scheme: &str| {
            let file = file.display();
            format!(
                "receivers.otlp.protocols.http = {{}}\nexporters.debug = {{}}\n\
                 extensions.bearertokenauth = {{ filename = '{file}', scheme = '{scheme}' }}\n\
                 service.extensions = ['bearertokenauth']\n\
                 service.pipelines.logs = {{ receivers = ['otlp'], exporters = ['debug'] }}\n"
            )
        };
        let change = |old: &Loaded, new: &Loaded| {
            let shown = Difference::between(old, new).to_string();
            let mut lines = shown.lines().map(str::to_owned);
            lines.find(|line| line.contains("bearertokenauth")).unwrap()
        };
        let old = loaded(&text(&file, "Bearer"));
        let kept = change(&old, &loaded(&text(&file, "Bearer")));
        assert_eq!(kept, "kept     extensions.bearertokenauth");
        let moved = change(&old, &loaded(&text(&other, "Bearer")));
        assert_eq!(moved, "changed  extensions.bearertokenauth: filename");
        fs::write(&file, "hunter3").unwrap();
        let files = format!("its files changed: {}", file.display());
        let edited = change(&old, &loaded(&text(&file, "Bearer")));
        assert_eq!(
            edited,
            format!("changed  extensions.bearertokenauth: {files}")
        );
        let both = change(&old, &loaded(&text(&file, "Token")));
        let expected = format!("changed  extensions.bearertokenauth: scheme; {files}");
        assert_eq!(both, expected);
    }
}

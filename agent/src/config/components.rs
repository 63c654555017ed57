//! The components that a configuration defines: ids, kinds, settings, and which of them are used.

use super::diagnostics::{Diagnostics, Severity};
use super::fault::{list, suggestion};
use super::load::Tree;
use super::resolve::report;
use super::section::Section;
use super::settings::Components;
use super::tree::{KeyPath, Step, Value, quoted};
use crate::auth::{Reference, Side};
use crate::claim::Claim;
use crate::component::{ExtensionSettings, Factory};
use crate::signal::Signal;

/// The longest name of an instance, in bytes.
const NAME_LENGTH_MAX: usize = 1024;

/// The components of one kind that are defined.
pub(super) struct Group<S: ?Sized + 'static> {
    /// The table they stand in: `receivers`.
    table: &'static str,
    /// What one is called: `receiver`.
    noun: &'static str,
    defined: Vec<Defined<S>>,
    kinds: Vec<&'static str>,
}

struct Defined<S: ?Sized + 'static> {
    id: String,
    factory: Option<&'static Factory<S>>,
    settings: Option<Box<S>>,
    used: bool,
}

impl<S: ?Sized + 'static> Group<S> {
    /// Reads the table of one kind. Every component in it is decoded, used or not.
    pub(super) fn read(
        table: &'static str,
        noun: &'static str,
        registry: &'static [Factory<S>],
        tree: &Tree,
        found: &mut Diagnostics,
    ) -> Self {
        let mut group = Self {
            table,
            noun,
            defined: Vec::new(),
            kinds: registry.iter().map(|factory| factory.kind).collect(),
        };
        let path = KeyPath::of(&[table]);
        let Some(node) = tree.root.at(&path.0) else {
            return group;
        };
        let Some(entries) = node.table() else {
            if !matches!(node.value, Value::Hole) {
                let message = format!("expected a table with one table per {noun}");
                report(tree, found, Severity::Error, &path, message);
            }
            return group;
        };
        for entry in &entries.0 {
            let path = path.key(&entry.key);
            let factory = group.factory(&entry.key, registry, &path, tree, found);
            let before = found.count(Severity::Error);
            let settings = factory.and_then(|factory| {
                let mut section = Section::new(path.clone(), &entry.node, &tree.texts, found);
                (factory.parse)(&mut section)
            });
            // With a problem, some of it is not what was written.
            let settings = settings.filter(|_| found.count(Severity::Error) == before);
            group.defined.push(Defined {
                id: entry.key.clone(),
                factory,
                settings,
                used: false,
            });
        }
        group
    }

    /// The factory of an id such as `clickhouse/archive`, or the reason why there is none.
    fn factory(
        &self,
        id: &str,
        registry: &'static [Factory<S>],
        path: &KeyPath,
        tree: &Tree,
        found: &mut Diagnostics,
    ) -> Option<&'static Factory<S>> {
        if let Err(problem) = check_name(id) {
            report(tree, found, Severity::Error, path, problem);
            return None;
        }
        let kind = kind_of(id);
        let factory = registry.iter().find(|factory| factory.kind == kind);
        if factory.is_none() {
            let noun = self.noun;
            let hint = match suggestion(kind, self.kinds.iter().copied()) {
                Some(close) => format!("did you mean `{close}`?"),
                None => list("kinds are", &self.kinds),
            };
            let message = format!("there is no {noun} of the kind `{kind}`; {hint}");
            report(tree, found, Severity::Error, path, message);
        }
        factory
    }

    /// Takes note that the component is used at `path`, for `signal` where it is a pipeline that uses it. Reports it
    /// where it is not defined or does not work for the signal.
    pub(super) fn reference(
        &mut self,
        id: &str,
        signal: Option<Signal>,
        path: &KeyPath,
        tree: &Tree,
        found: &mut Diagnostics,
    ) {
        let Some(defined) = self.defined.iter_mut().find(|defined| defined.id == id) else {
            let message = self.undefined(id, tree);
            self.use_what_was_meant(id);
            report(tree, found, Severity::Error, path, message);
            return;
        };
        defined.used = true;
        let (Some(factory), Some(signal)) = (defined.factory, signal) else {
            return;
        };
        if !factory.signals.contains(&signal) {
            let signals: Vec<_> = factory.signals.iter().map(|signal| signal.name()).collect();
            let message = format!(
                "the {} `{id}` does not work for {signal}, only for {}",
                self.noun,
                signals.join(" and ")
            );
            report(tree, found, Severity::Error, path, message);
        }
    }

    /// A component whose name was misspelt where it is used is not unused.
    fn use_what_was_meant(&mut self, id: &str) {
        let meant = suggestion(id, self.ids()).map(str::to_owned);
        for defined in &mut self.defined {
            defined.used |= Some(&defined.id) == meant.as_ref();
        }
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.defined.iter().map(|defined| defined.id.as_str())
    }

    fn undefined(&self, id: &str, tree: &Tree) -> String {
        let (noun, table) = (self.noun, self.table);
        let elsewhere = ["receivers", "processors", "exporters", "extensions"]
            .into_iter()
            .filter(|other| *other != table)
            .find(|other| tree.root.at(&KeyPath::of(&[other, id]).0).is_some());
        let hint = match suggestion(id, self.ids()) {
            Some(close) => format!("did you mean `{close}`?"),
            None if let Some(elsewhere) = elsewhere => {
                format!("it is defined under `[{elsewhere}]`")
            }
            None => match self.kinds.contains(&kind_of(id)) {
                true => format!("add a table `[{table}.{}]`", quoted(id)),
                false => match suggestion(kind_of(id), self.kinds.iter().copied()) {
                    Some(close) => format!("did you mean `{close}`? Then add `[{table}.{close}]`"),
                    None => list("kinds are", &self.kinds),
                },
            },
        };
        format!("the {noun} `{id}` is not defined; {hint}")
    }

    /// Warns of every component that nothing uses, unless more is wrong with it.
    pub(super) fn warn_of_unused(&self, tree: &Tree, found: &mut Diagnostics) {
        let unused = |defined: &&Defined<S>| !defined.used && defined.factory.is_some();
        for defined in self.defined.iter().filter(unused) {
            let path = KeyPath::of(&[self.table, &defined.id]);
            let message = match self.table {
                "extensions" => "not listed in `service.extensions`, so it does not run",
                _ => "no pipeline uses it, so it does not run",
            };
            report(tree, found, Severity::Warning, &path, message.to_owned());
        }
    }

    /// What the components that are used take for themselves, each with its place.
    pub(super) fn claims(&self, of: impl Fn(&S) -> Vec<Claim>) -> Vec<(KeyPath, Claim)> {
        let used = self.defined.iter().filter(|defined| defined.used);
        used.filter_map(|defined| Some((&defined.id, defined.settings.as_deref()?)))
            .flat_map(|(id, settings)| {
                let component = KeyPath::of(&[self.table, id]);
                of(settings).into_iter().map(move |claim| {
                    let path = claim.key.split('.');
                    let path = path.fold(component.clone(), |path, key| path.key(key));
                    (path, claim)
                })
            })
            .collect()
    }

    /// The authenticators that components in use ask for, each with its place.
    pub(super) fn authenticators(
        &self,
        of: impl Fn(&S) -> Vec<Reference>,
    ) -> Vec<(KeyPath, Reference)> {
        let used = self.defined.iter().filter(|defined| defined.used);
        used.filter_map(|defined| Some((&defined.id, defined.settings.as_deref()?)))
            .flat_map(|(id, settings)| {
                let component = KeyPath::of(&[self.table, id]);
                of(settings)
                    .into_iter()
                    .map(move |wanted| (wanted.path_below(component.clone()), wanted))
            })
            .collect()
    }

    /// What is used, in the order of the configuration.
    pub(super) fn into_used(self) -> Components<S> {
        self.defined
            .into_iter()
            .filter(|defined| defined.used)
            .filter_map(|defined| Some((defined.id, defined.settings?)))
            .collect()
    }
}

impl Group<dyn ExtensionSettings> {
    /// Whether there is the authenticator that is `wanted`.
    ///
    /// # Errors
    /// What is wrong, in words for the operator.
    pub(super) fn authenticates(&self, wanted: &Reference, tree: &Tree) -> Result<(), String> {
        let id = &wanted.authenticator;
        let Some(defined) = self.defined.iter().find(|defined| defined.id == *id) else {
            return Err(self.undefined(id, tree));
        };
        // What is wrong with it was reported where it is.
        let Some(settings) = &defined.settings else {
            return Ok(());
        };
        let sides = settings.authenticates();
        if sides.is_empty() {
            return Err(format!("the extension `{id}` is no authenticator"));
        }
        if !sides.contains(&wanted.side) {
            return Err(match wanted.side {
                Side::Server => format!("`{id}` is for clients only: it has nothing to check with"),
                Side::Client => format!("`{id}` is for servers only: it has nothing to show"),
            });
        }
        if !defined.used {
            return Err(format!(
                "`{id}` does not run: list it in `service.extensions`"
            ));
        }
        Ok(())
    }
}

impl Reference {
    /// Where it stands, if its component is at `component`.
    pub(super) fn path_below(&self, component: KeyPath) -> KeyPath {
        self.key
            .split('.')
            .fold(component, |path, key| path.key(key))
    }
}

/// `clickhouse` of `clickhouse/archive`.
fn kind_of(id: &str) -> &str {
    id.split_once('/').map_or(id, |(kind, _)| kind)
}

/// Whether an id is `kind` or `kind/name`.
pub(super) fn check_name(id: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (kind, name) = match id.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (id, None),
    };
    if !kind.starts_with(|c: char| c.is_ascii_alphabetic()) || !kind.chars().all(plain) {
        return Err(format!(
            "`{id}` is not a valid id: write `kind` or `kind/name`, the kind in letters, digits and `_`"
        ));
    }
    match name {
        Some("") => Err(format!("`{id}` has no name after the `/`")),
        Some(name) if name.len() > NAME_LENGTH_MAX => {
            Err(format!("the name is longer than {NAME_LENGTH_MAX} bytes"))
        }
        Some(name) if name.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err(format!("`{id}` has a blank in its name"))
        }
        _ => Ok(()),
    }
}

/// The words in the array at `path`, each with its own path. What is no text was reported elsewhere.
pub(super) fn words_at(tree: &Tree, path: &KeyPath) -> Vec<(String, KeyPath)> {
    let Some(node) = tree.root.at(&path.0) else {
        return Vec::new();
    };
    let items = match &node.value {
        Value::List(items) => items,
        Value::Given(given) => match given.typed.as_deref() {
            Some(Value::List(items)) => items,
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    items
        .iter()
        .enumerate()
        .filter_map(|(at, item)| match &item.value {
            Value::Text(word) => Some((word.clone(), path.join(&[Step::Index(at)]))),
            Value::Given(given) => Some((given.text.clone(), path.join(&[Step::Index(at)]))),
            _ => None,
        })
        .collect()
}

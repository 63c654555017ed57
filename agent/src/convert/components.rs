//! The components: which kinds have a counterpart, what they are called here, and their fields.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value as Schema;

use super::draft::{Item, State, Table, Value};
use super::values::{item, value};
use super::yaml::{Entry, Node, Value as Yaml};
use super::{advice, rules, service};
use crate::config::{self, Registries};

/// The tables of components.
pub(super) const TABLES: [&str; 4] = ["receivers", "processors", "exporters", "extensions"];

/// What may be written in the table of each kind: `exporters.file`.
static SCHEMAS: LazyLock<BTreeMap<String, Schema>> =
    LazyLock::new(|| config::options_schemas(&Registries::BUILT_IN));

/// What is known of the whole configuration while its parts are converted.
pub(super) struct Context<'a> {
    /// The YAML document.
    pub root: &'a Node,
    /// The ids that components have here, by table and their ids there.
    pub ids: BTreeMap<(&'static str, &'a str), String>,
}

impl Context<'_> {
    /// The settings of an extension.
    pub(super) fn extension(&self, id: &str) -> Option<&Node> {
        self.root.get("extensions")?.get(id)
    }

    /// Whether a component that is defined is of a kind that there is here.
    pub(super) fn has_counterpart(&self, table: &str, id: &str) -> bool {
        let kind = kind_here(table, parts(id).0);
        let is_defined = self
            .root
            .get(table)
            .is_some_and(|all| all.get(id).is_some());
        is_defined && SCHEMAS.contains_key(&format!("{table}.{kind}"))
    }

    /// The id here of a component there.
    pub(super) fn id_of(&self, table: &'static str, id: &str) -> String {
        let found = self.ids.get(&(table, id));
        found.map_or_else(|| id.to_owned(), Clone::clone)
    }
}

/// The component whose fields are converted.
pub(super) struct Place<'a> {
    pub table: &'static str,
    /// Its kind here.
    pub kind: &'a str,
    /// The tables in its table that lead to the fields, joined by dots.
    pub path: String,
}

/// A draft of the whole configuration.
pub(super) fn convert(root: &Node) -> Table {
    let mut context = Context {
        root,
        ids: BTreeMap::new(),
    };
    let entries = root.table().unwrap_or_default();
    for table in TABLES {
        name(table, &mut context);
    }
    let mut draft = Table::default();
    for entry in entries {
        if entry.node.is_null() {
            continue;
        }
        let table = TABLES.into_iter().find(|table| *table == entry.key);
        let made = match (table, entry.key.as_str()) {
            (Some(table), _) => group(table, entry, &context),
            (None, "connectors") => connectors(entry),
            (None, "service") => service::convert(entry, &context),
            (None, key) if key.starts_with("x-") => {
                let reason = "not needed: what is anchored in it stands where it was used";
                item(entry, State::Gone(reason.to_owned()))
            }
            (None, _) => {
                let reason = "a configuration has no such part, here or in the Collector";
                item(entry, State::Off(reason.to_owned()))
            }
        };
        draft.add(made);
    }
    draft
}

/// `kind` and `name` of an id.
pub(super) fn parts(id: &str) -> (&str, Option<&str>) {
    match id.split_once('/') {
        Some((kind, name)) => (kind.trim(), Some(name.trim())),
        None => (id.trim(), None),
    }
}

/// Kinds that are called otherwise here.
const RENAMED: [(&str, &str, &str); 4] = [
    ("exporters", "otlp", "otlp_grpc"),
    ("exporters", "otlphttp", "otlp_http"),
    ("exporters", "logging", "debug"),
    ("extensions", "healthcheckv2", "health_check"),
];

fn kind_here<'a>(table: &str, kind: &'a str) -> &'a str {
    let renamed = RENAMED
        .iter()
        .find(|(of, there, _)| *of == table && *there == kind);
    renamed.map_or(kind, |(_, _, here)| here)
}

/// Gives every component of a table its id here.
fn name<'a>(table: &'static str, context: &mut Context<'a>) {
    let root = context.root;
    let entries = root.get(table).and_then(Node::table).unwrap_or_default();
    let theirs: BTreeSet<&str> = entries.iter().map(|entry| entry.key.trim()).collect();
    for entry in entries {
        let (kind, name) = parts(&entry.key);
        let here = kind_here(table, kind);
        let mut id = match name {
            Some(name) => format!("{here}/{name}"),
            None => here.to_owned(),
        };
        if here != kind && theirs.contains(id.as_str()) {
            let name = name.map_or_else(String::new, |name| format!("-{name}"));
            id = format!("{here}/{kind}{name}");
        }
        context.ids.insert((table, entry.key.as_str()), id);
    }
}

fn group(table: &'static str, entry: &Entry, context: &Context<'_>) -> Item {
    let Some(entries) = entry.node.table() else {
        let reason = format!("is no mapping of {table}");
        return item(entry, State::Off(reason));
    };
    let mut components = Table::default();
    for entry in entries {
        components.add(component(table, entry, context));
    }
    item(entry, State::On(Value::Table(components)))
}

fn connectors(entry: &Entry) -> Item {
    let Some(entries) = entry.node.table() else {
        return item(entry, State::Off(advice::CONNECTOR.to_owned()));
    };
    let off = entries.iter().map(|entry| {
        let reason = advice::connector(parts(&entry.key).0);
        item(entry, State::Off(reason.to_owned()))
    });
    item(entry, State::On(Value::Table(Table(off.collect()))))
}

fn component(table: &'static str, entry: &Entry, context: &Context<'_>) -> Item {
    let there = parts(&entry.key).0;
    let kind = kind_here(table, there);
    let Some(schema) = SCHEMAS.get(&format!("{table}.{kind}")) else {
        let state = match (table, kind) {
            ("extensions", "file_storage") => State::Gone(advice::STORAGE.to_owned()),
            ("extensions", "memory_ballast") => State::Gone(advice::GARBAGE.to_owned()),
            _ => State::Off(advice::kind(table, kind)),
        };
        return item(entry, state);
    };
    let place = Place {
        table,
        kind,
        path: String::new(),
    };
    let mut fields_here = Table::default();
    match &entry.node.value {
        Yaml::Table(entries) => {
            fields(schema, entries, &place, context, &mut fields_here);
        }
        _ if entry.node.is_null() => {}
        _ => {
            let reason = "its settings are no mapping";
            return item(entry, State::Off(reason.to_owned()));
        }
    }
    let id = context.id_of(table, &entry.key);
    let mut made = item(entry, State::On(Value::Table(fields_here)));
    if there != kind {
        made.notes
            .push(format!("`{}` is called `{id}` here", entry.key));
    }
    made.key = id;
    made
}

/// Converts the fields of a table that has a schema.
pub(super) fn fields(
    schema: &Schema,
    entries: &[Entry],
    place: &Place<'_>,
    context: &Context<'_>,
    made: &mut Table,
) {
    for entry in entries {
        if rules::apply(entry, place, context, made) {
            continue;
        }
        let field = schema.get("properties").and_then(|all| all.get(&entry.key));
        let Some(field) = field else {
            let reason = advice::field(place, &entry.key);
            made.add(item(entry, State::Off(reason)));
            continue;
        };
        if field.get("properties").is_none() {
            if let Some(item) = value(field, &entry.node).into_item(entry) {
                made.add(item);
            }
            continue;
        }
        let mut inner = Table::default();
        match &entry.node.value {
            Yaml::Table(entries) => {
                let path = match place.path.as_str() {
                    "" => entry.key.clone(),
                    path => format!("{path}.{}", entry.key),
                };
                let place = Place { path, ..*place };
                fields(field, entries, &place, context, &mut inner);
            }
            _ if entry.node.is_null() => {}
            _ => {
                let reason = "one value, where Tidegate takes a table".to_owned();
                made.add(item(entry, State::Off(reason)));
                continue;
            }
        }
        made.add(item(entry, State::On(Value::Table(inner))));
    }
}

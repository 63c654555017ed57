//! `service`: pipelines, the order of extensions, and what the agent tells about itself.

use std::sync::LazyLock;

use serde_json::Value as Schema;

use super::advice;
use super::components::{Context, Place, TABLES, fields, parts};
use super::draft::{Element, Item, State, Table, Value};
use super::substitution::translate;
use super::values::item;
use super::yaml::{Entry, Node, Plain, Value as Yaml};
use crate::config;
use crate::signal::Signal;

static SCHEMA: LazyLock<Schema> = LazyLock::new(config::service_schema);

/// The whole table.
pub(super) fn convert(entry: &Entry, context: &Context<'_>) -> Item {
    let Some(entries) = entry.node.table() else {
        return item(entry, State::Off("is no mapping".to_owned()));
    };
    let mut made = Table::default();
    for entry in entries.iter().filter(|entry| !entry.node.is_null()) {
        made.add(match entry.key.as_str() {
            "extensions" => ids(entry, "extensions", context),
            "pipelines" => pipelines(entry, context),
            "telemetry" => telemetry(entry, context),
            _ => item(
                entry,
                State::Off("`service` has no such field here".to_owned()),
            ),
        });
    }
    item(entry, State::On(Value::Table(made)))
}

/// A list of components, by the ids that they have here.
fn ids(entry: &Entry, table: &'static str, context: &Context<'_>) -> Item {
    let list;
    let nodes = match &entry.node.value {
        Yaml::List(items) => items.as_slice(),
        Yaml::Scalar { .. } => {
            list = [entry.node.clone()];
            list.as_slice()
        }
        Yaml::Table(_) => &[],
    };
    let elements = nodes.iter().filter_map(|node| {
        let id = node.text().filter(|_| !node.is_null())?.trim();
        Some(Element {
            value: Value::text(context.id_of(table, id)),
            remarks: node.remarks.clone(),
        })
    });
    item(entry, State::On(Value::List(elements.collect())))
}

fn pipelines(entry: &Entry, context: &Context<'_>) -> Item {
    let Some(entries) = entry.node.table() else {
        return item(entry, State::Off("is no mapping of pipelines".to_owned()));
    };
    let mut made = Table::default();
    for entry in entries {
        let signal = parts(&entry.key).0;
        let known = Signal::ALL.iter().any(|known| known.name() == signal);
        made.add(match entry.node.table() {
            Some(lists) if known => pipeline(entry, lists, context),
            Some(_) => item(entry, State::Off(advice::signal(signal))),
            None => item(
                entry,
                State::Off("is no mapping with `receivers` and `exporters`".to_owned()),
            ),
        });
    }
    item(entry, State::On(Value::Table(made)))
}

fn pipeline(entry: &Entry, lists: &[Entry], context: &Context<'_>) -> Item {
    let mut made = Table::default();
    for list in lists.iter().filter(|list| !list.node.is_null()) {
        let table = TABLES.into_iter().take(3).find(|table| *table == list.key);
        made.add(match table {
            Some(table) => ids(list, table, context),
            None => item(list, State::Off("a pipeline has no such field".to_owned())),
        });
    }
    let mut made = item(entry, State::On(Value::Table(made)));
    made.key = made.key.trim().to_owned();
    made
}

/// Leaves out of pipelines and of `service.extensions` what has no counterpart, and says so; a pipeline without an end
/// is left out itself.
pub(super) fn prune(draft: &mut Table) {
    let there: Vec<(&str, Vec<String>)> = TABLES
        .into_iter()
        .map(|table| {
            let components = draft.get(table).and_then(Item::table);
            let on = components
                .into_iter()
                .flat_map(|table| &table.0)
                .filter(|item| item.is_on());
            (table, on.map(|item| item.key.clone()).collect())
        })
        .collect();
    let is_there = |table: &str, id: &str| {
        there
            .iter()
            .any(|(of, ids)| *of == table && ids.iter().any(|found| found == id))
    };
    let Some(service) = draft.get_mut("service").and_then(Item::table_mut) else {
        return;
    };
    if let Some(extensions) = service.get_mut("extensions") {
        prune_list(extensions, |id| is_there("extensions", id));
    }
    let pipelines = service.get_mut("pipelines").and_then(Item::table_mut);
    for pipeline in pipelines.into_iter().flat_map(|pipelines| &mut pipelines.0) {
        let Some(lists) = pipeline.table_mut() else {
            continue;
        };
        for list in &mut lists.0 {
            let table = list.key.clone();
            prune_list(list, |id| is_there(&table, id));
        }
        let ends = ["receivers", "exporters"];
        let empty = ends
            .into_iter()
            .find(|end| !lists.get(end).is_some_and(has_elements));
        if let Some(end) = empty {
            pipeline.state = State::Off(format!("none of its {end} is left"));
        }
    }
}

fn has_elements(list: &Item) -> bool {
    match &list.state {
        State::On(Value::List(elements)) => !elements.is_empty(),
        State::On(value) => value.is_substituted(),
        _ => false,
    }
}

fn prune_list(list: &mut Item, is_there: impl Fn(&str) -> bool) {
    let State::On(Value::List(elements)) = &mut list.state else {
        return;
    };
    let mut gone = Vec::new();
    elements.retain(|element| match &element.value {
        Value::Scalar(toml::Value::String(id)) if !is_there(id) => {
            gone.push(format!("`{id}`"));
            false
        }
        _ => true,
    });
    if !gone.is_empty() {
        let gone = gone.join(", ");
        list.notes
            .push(format!("without {gone}: not converted, or not needed"));
    }
}

// === Telemetry ===

fn telemetry(entry: &Entry, context: &Context<'_>) -> Item {
    let Some(entries) = entry.node.table() else {
        return item(entry, State::Off("is no mapping".to_owned()));
    };
    let mut made = Table::default();
    for entry in entries.iter().filter(|entry| !entry.node.is_null()) {
        let schema = SCHEMA.pointer(&format!("/properties/telemetry/properties/{}", entry.key));
        made.add(match (schema, entry.node.table()) {
            (Some(schema), Some(fields)) => part(entry, schema, fields, context),
            _ => item(entry, State::Off(advice::telemetry(&entry.key))),
        });
    }
    item(entry, State::On(Value::Table(made)))
}

/// `logs` or `metrics`.
fn part(entry: &Entry, schema: &Schema, entries: &[Entry], context: &Context<'_>) -> Item {
    let mut made = Table::default();
    let place = Place {
        table: "service",
        kind: "telemetry",
        path: entry.key.clone(),
    };
    for field in entries.iter().filter(|field| !field.node.is_null()) {
        match (entry.key.as_str(), field.key.as_str()) {
            ("metrics", "readers") => readers(field, &mut made),
            ("metrics", "address") => address(field, &mut made),
            ("logs", "level") => level(field, &mut made),
            ("logs", "output_paths" | "error_output_paths") if is_stderr(&field.node) => {
                let reason = "the agent's log goes to standard error always";
                made.add(item(field, State::Gone(reason.to_owned())));
            }
            _ => {
                let one = std::slice::from_ref(field);
                fields(schema, one, &place, context, &mut made);
            }
        }
    }
    item(entry, State::On(Value::Table(made)))
}

fn is_stderr(node: &Node) -> bool {
    match &node.value {
        Yaml::List(items) => items.iter().all(|item| item.text() == Some("stderr")),
        _ => node.text() == Some("stderr"),
    }
}

fn level(field: &Entry, made: &mut Table) {
    let Some(Ok(text)) = field.node.text().map(translate) else {
        return made.add(item(field, State::Off("is no level".to_owned())));
    };
    let level = match text.to_lowercase().as_str() {
        "dpanic" | "panic" | "fatal" => "error".to_owned(),
        "warning" => "warn".to_owned(),
        known @ ("trace" | "debug" | "info" | "warn" | "error") => known.to_owned(),
        _ => text,
    };
    made.add(item(field, State::On(Value::text(level))));
}

/// A port alone is one on every address.
fn address(field: &Entry, made: &mut Table) {
    let Some(Ok(text)) = field.node.text().map(translate) else {
        return made.add(item(field, State::Off("is no address".to_owned())));
    };
    let text = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text,
    };
    made.add(item(field, State::On(Value::text(text))));
}

/// A reader that is asked by Prometheus is an address here; there are no others.
fn readers(field: &Entry, made: &mut Table) {
    let Yaml::List(readers) = &field.node.value else {
        return made.add(item(field, State::Off(advice::READER.to_owned())));
    };
    for reader in readers {
        let prometheus = reader
            .get("pull")
            .and_then(|pull| pull.get("exporter"))
            .and_then(|exporter| exporter.get("prometheus"));
        let address = prometheus.and_then(listens);
        let state = match address {
            Some(address) if made.get("address").is_none() => State::On(Value::text(address)),
            Some(_) => State::Off("the metrics are served at one address".to_owned()),
            None => State::Off(advice::READER.to_owned()),
        };
        let key = if matches!(state, State::On(_)) {
            "address"
        } else {
            "readers"
        };
        made.add(Item {
            key: key.to_owned(),
            at: reader.at,
            last_line: reader.last_line,
            remarks: reader.remarks.clone(),
            notes: Vec::new(),
            state,
        });
    }
}

fn listens(prometheus: &Node) -> Option<String> {
    let text = |key: &str, default: &str| {
        let node = prometheus
            .get(key)
            .filter(|node| node.plain() != Some(Plain::Null));
        let text = node.map_or(Some(default), Node::text)?;
        translate(text).ok()
    };
    Some(format!(
        "{}:{}",
        text("host", "localhost")?,
        text("port", "8888")?
    ))
}

//! The reference of every field, made from the schema: the pages under `docs/reference`.

use std::fmt::Write as _;

use serde_json::Value;

use super::resolve::Registries;
use super::schema::{Group, Kind, groups, service_schema};

/// A page of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The file's name: `exporters-clickhouse.md`.
    pub name: String,
    /// Markdown.
    pub text: String,
}

/// All pages: one for each component, one for the service, and a table of contents.
pub fn reference(registries: &Registries) -> Vec<Page> {
    let groups = groups(registries);
    let mut pages = vec![contents(&groups), service_page()];
    for group in &groups {
        let kinds = group.kinds.iter();
        let own = kinds.filter(|kind| group.same_as(kind).is_none());
        pages.extend(own.map(|kind| component_page(group, kind)));
    }
    pages
}

const NOTE: &str = "<!-- Made from the options in agent/src; `tidegate schema --pages docs/reference` writes it anew. -->";

impl Group {
    /// The kind before this one that has the same options: this one is another name for it.
    fn same_as(&self, kind: &Kind) -> Option<&Kind> {
        let options = |kind: &Kind| kind.schema.get("properties").cloned();
        self.kinds
            .iter()
            .take_while(|other| other.name != kind.name)
            .find(|other| options(other) == options(kind))
    }

    fn page_of(&self, kind: &Kind) -> String {
        let kind = self.same_as(kind).unwrap_or(kind);
        format!("{}-{}.md", self.table, kind.name)
    }
}

fn contents(groups: &[Group]) -> Page {
    let mut text = format!(
        "{NOTE}\n# Reference of the configuration\n\n\
         Every field of every component, with its type, its default and its bounds. [configuration.md](../configuration.md) says how\n\
         files are written, merged and checked; `tidegate schema` prints the same as a JSON Schema, for editors.\n\n\
         | | works for | what it does |\n|---|---|---|\n\
         | [`service`](service.md) | | The pipelines, and what the agent tells about itself. |\n"
    );
    for group in groups {
        for kind in &group.kinds {
            let (table, name, page) = (group.table, kind.name, group.page_of(kind));
            let signals = kind.signals.join(", ");
            line(
                &mut text,
                format_args!(
                    "| [`{table}.{name}`]({page}) | {signals} | {} |",
                    kind.summary
                ),
            );
        }
    }
    text += TYPES;
    Page {
        name: "README.md".to_owned(),
        text,
    }
}

const TYPES: &str = "
## Types

| type | how it is written |
|---|---|
| text | `\"…\"`; parts may be substituted: `\"http://${env:HOST}:8123\"` |
| secret | text that no message, log or page shows; best `\"${env:NAME}\"` or `\"${file:path}\"` |
| integer, number, boolean | `10`, `0.5`, `true`; or one substitution, `\"${env:NAME}\"` |
| duration | text with a unit, `ns`, `us`, `ms`, `s`, `m`, `h`: `\"200ms\"`, `\"1m30s\"`; a bare `0` |
| size | bytes as an integer, or text with a unit, `B`, `KB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`, `TiB`: `\"20MiB\"` |
| list of … | `[\"a\", \"b\"]` |
| table of … | keys of your own: `{ key = \"value\" }` or a table of its own |

A dash as the default stands for nothing: the field is off, or what its description says.
";

fn service_page() -> Page {
    let mut text = format!("{NOTE}\n# service\n");
    let schema = service_schema();
    tables(&mut text, "service", &schema, Some(description(&schema)));
    Page {
        name: "service.md".to_owned(),
        text,
    }
}

fn component_page(group: &Group, kind: &Kind) -> Page {
    let (table, name) = (group.table, kind.name);
    let mut text = format!("{NOTE}\n# {table}.{name}\n\n{}\n", kind.summary);
    if !kind.signals.is_empty() {
        line(
            &mut text,
            format_args!("\nWorks for {}.", kind.signals.join(", ")),
        );
    }
    let others = group
        .kinds
        .iter()
        .filter(|other| group.same_as(other).is_some_and(|same| same.name == name));
    for other in others {
        line(
            &mut text,
            format_args!("`{}` is an older name of it.", other.name),
        );
    }
    line(
        &mut text,
        format_args!(
            "\nAn example with comments: [`{name}.toml`](../../configs/agent/{name}.toml)."
        ),
    );
    tables(&mut text, &format!("{table}.{name}"), &kind.schema, None);
    Page {
        name: group.page_of(kind),
        text,
    }
}

/// The fields of the table at `path`, then those of the tables in it.
fn tables(text: &mut String, path: &str, schema: &Value, about: Option<&str>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    line(text, format_args!("\n## `[{path}]`"));
    if let Some(about) = about {
        line(text, format_args!("\n{about}"));
    }
    let (unsupported, supported): (Vec<_>, Vec<_>) = properties
        .iter()
        .partition(|(_, field)| is_unsupported(field));
    let (tables_in, fields): (Vec<_>, Vec<_>) = supported
        .into_iter()
        .partition(|(_, field)| table_of(field).is_some());
    if !fields.is_empty() {
        *text += "\n| field | type | default | bounds | |\n|---|---|---|---|---|\n";
        for (key, field) in &fields {
            *text += &row(key, field, is_required(schema, key));
        }
    }
    if !unsupported.is_empty() {
        *text +=
            "\nFields of the Collector that are recognised, to say so:\n\n| field | |\n|---|---|\n";
        for (key, field) in &unsupported {
            line(text, format_args!("| `{key}` | {} |", description(field)));
        }
    }
    for (key, field) in &tables_in {
        let (inner, step) = table_of(field).unwrap_or((field, ""));
        tables(
            text,
            &format!("{path}.{key}{step}"),
            inner,
            Some(description(field)),
        );
    }
}

/// The table that a field is, and what its path has more: a table of pipelines has one for each.
fn table_of(field: &Value) -> Option<(&Value, &'static str)> {
    match field.get("patternProperties") {
        Some(Value::Object(patterns)) => Some((patterns.values().next()?, ".<signal>")),
        _ => field.get("properties").map(|_| (field, "")),
    }
}

fn row(key: &str, field: &Value, required: bool) -> String {
    let default = match field.get("default") {
        None if required => "**required**".to_owned(),
        None => "–".to_owned(),
        Some(default) if required => {
            format!("`{}`; **required** in its table", default_text(default))
        }
        Some(default) => format!("`{}`", default_text(default)),
    };
    let words = field.get("enum").and_then(Value::as_array);
    let meanings = words
        .map(|words| meanings(field, words))
        .unwrap_or_default();
    let (kind, bounds, about) = (kind(field), bounds(field), description(field));
    format!("| `{key}` | {kind} | {default} | {bounds} | {about}{meanings} |\n")
}

/// What the words of a choice mean.
fn meanings(field: &Value, words: &[Value]) -> String {
    let docs = field.pointer("/x-taplo/docs/enumValues");
    let docs = docs
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let each = words.iter().zip(docs).filter_map(|(word, about)| {
        let about = about.as_str()?.trim_end_matches('.');
        Some(format!("<br>`{}`: {about}", word.as_str()?))
    });
    each.collect()
}

fn default_text(default: &Value) -> String {
    match default {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(default_text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        other => other.to_string(),
    }
}

fn kind(field: &Value) -> String {
    let text = |key: &str| field.get(key).and_then(Value::as_str);
    if field.get("enum").is_some() {
        return "word".to_owned();
    }
    if let Some(choices) = field.get("anyOf").and_then(Value::as_array) {
        let kinds: Vec<_> = choices.iter().map(kind).collect();
        return kinds.join(" or ");
    }
    match text("x-unit") {
        Some("bytes") => return "size".to_owned(),
        Some(unit) => return unit.to_owned(),
        None => {}
    }
    match text("type") {
        Some("string") if text("format") == Some("password") => "secret".to_owned(),
        Some("string") => "text".to_owned(),
        Some("array") => format!(
            "list of {}",
            field.get("items").map(kind).unwrap_or_default()
        ),
        Some("object") => {
            let inner = field.get("additionalProperties").map(kind);
            format!("table of {}", inner.unwrap_or_default())
        }
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

fn bounds(field: &Value) -> String {
    let text = |key: &str| field.get(key).and_then(Value::as_str);
    // Of durations, the numeric bounds say that a bare number can only be 0.
    let number = |key: &str| field.get(key).filter(|_| text("x-unit").is_none());
    let mut bounds = Vec::new();
    if let Some(least) = number("minimum").filter(|least| least.as_f64() != Some(0.0)) {
        bounds.push(format!("at least {least}"));
    }
    if let Some(most) = number("maximum") {
        bounds.push(format!("at most {most}"));
    }
    if let Some(least) = text("x-at-least") {
        bounds.push(format!("at least {least}"));
    }
    if let Some(less) = text("x-more-than") {
        bounds.push(format!("more than {less}"));
    }
    if let Some(least) = field.get("minItems") {
        bounds.push(format!("at least {least}"));
    }
    if let Some(pattern) = text("pattern").filter(|_| text("x-unit").is_none()) {
        bounds.push(format!("`{}`", pattern.replace('|', "\\|")));
    }
    bounds.join(", ")
}

/// Whether the field is one of the Collector's that does nothing here.
pub(super) fn is_unsupported(field: &Value) -> bool {
    field.get("deprecated").is_some()
}

pub(super) fn is_required(schema: &Value, key: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|required| required.iter().any(|name| name == key))
}

fn description(field: &Value) -> &str {
    field
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or("")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a String takes everything");
}

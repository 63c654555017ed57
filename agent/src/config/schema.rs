//! A JSON Schema of the whole configuration, made from the options of the components: for editors, the reference pages
//! and the conversion of Collector configurations.
//!
//! It is draft-07, without references inside of a component: what editors of TOML read best, and each default stands
//! where it holds.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::resolve::{Registries, ServiceOptions};
use crate::component::Factory;

/// Which files a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// A file that is a configuration.
    Whole,
    /// A file that others complete: nothing in it is required.
    Part,
}

/// The schema of a configuration file.
pub fn json_schema(registries: &Registries, coverage: Coverage) -> Value {
    let mut definitions = Map::new();
    let mut properties = Map::new();
    for group in groups(registries) {
        properties.insert(group.table.to_owned(), group.schema());
        for kind in group.kinds {
            definitions.insert(format!("{}.{}", group.table, kind.name), kind.schema);
        }
    }
    properties.insert("service".to_owned(), service_schema());
    for schema in definitions.values_mut().chain(properties.values_mut()) {
        allow_substitution(schema);
        if coverage == Coverage::Part {
            require_nothing(schema);
        }
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Tidegate's configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "definitions": definitions,
    })
}

/// The schema of each component's table, without substitutions, by its key: `exporters.file`.
pub fn options_schemas(registries: &Registries) -> BTreeMap<String, Value> {
    let kinds = |group: Group| {
        let table = group.table;
        let kinds = group.kinds.into_iter();
        kinds.map(move |kind| (format!("{table}.{}", kind.name), kind.schema))
    };
    groups(registries).into_iter().flat_map(kinds).collect()
}

/// The components of one kind.
pub(super) struct Group {
    /// The table that they stand in: `receivers`.
    pub table: &'static str,
    /// What there is.
    pub kinds: Vec<Kind>,
}

/// A kind of component.
pub(super) struct Kind {
    pub name: &'static str,
    pub summary: &'static str,
    pub signals: Vec<&'static str>,
    pub schema: Value,
}

/// Everything that a configuration can name.
pub(super) fn groups(registries: &Registries) -> [Group; 4] {
    [
        group("receivers", registries.receivers),
        group("processors", registries.processors),
        group("exporters", registries.exporters),
        group("extensions", registries.extensions),
    ]
}

fn group<S: ?Sized>(table: &'static str, registry: &'static [Factory<S>]) -> Group {
    let kinds = registry.iter().map(|factory| Kind {
        name: factory.kind,
        summary: factory.summary,
        signals: factory.signals.iter().map(|signal| signal.name()).collect(),
        schema: {
            let mut schema = made_by(factory.schema);
            insert(&mut schema, "description", json!(factory.summary));
            schema
        },
    });
    Group {
        table,
        kinds: kinds.collect(),
    }
}

impl Group {
    /// The table of all components of the kind: `kind` and `kind/name`.
    fn schema(&self) -> Value {
        let reference =
            |kind: &Kind| json!({"$ref": format!("#/definitions/{}.{}", self.table, kind.name)});
        let plain: Map<_, _> = self
            .kinds
            .iter()
            .map(|kind| (kind.name.to_owned(), reference(kind)))
            .collect();
        let named: Map<_, _> = self
            .kinds
            .iter()
            .map(|kind| (format!("^{}/{NAME}$", kind.name), reference(kind)))
            .collect();
        json!({
            "type": "object",
            "properties": plain,
            "patternProperties": named,
            "additionalProperties": false,
        })
    }
}

/// The name of an instance.
const NAME: &str = r"[^\s]+";

/// The schema of `[service]`, without substitutions.
pub fn service_schema() -> Value {
    let mut schema = made_by(SchemaGenerator::subschema_for::<ServiceOptions>);
    let pipelines = schema.pointer_mut("/properties/pipelines");
    if let Some(Value::Object(pipelines)) = pipelines {
        let pipeline = pipelines.remove("additionalProperties").unwrap_or_default();
        let signals = ["traces", "metrics", "logs"];
        let plain = signals.map(|signal| (signal.to_owned(), pipeline.clone()));
        pipelines.insert("properties".to_owned(), plain.into_iter().collect());
        let named = format!("^({})/{NAME}$", signals.join("|"));
        pipelines.insert("patternProperties".to_owned(), json!({named: pipeline}));
        pipelines.insert("additionalProperties".to_owned(), json!(false));
    }
    schema
}

fn made_by(make: fn(&mut SchemaGenerator) -> Schema) -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = make(&mut settings.into_generator()).to_value();
    settle(&mut schema, None);
    schema
}

fn insert(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(schema) = schema {
        schema.insert(key.to_owned(), value);
    }
}

/// Makes a schema what the file says: without null, which TOML does not have, and with the default that holds here.
fn settle(schema: &mut Value, default_here: Option<&Value>) {
    let Value::Object(object) = schema else {
        return;
    };
    drop_null(object);
    words_of(object);
    // Names of types and of how they are stored say nothing to an operator.
    object.remove("title");
    if object.get("format").and_then(Value::as_str) != Some("password") {
        object.remove("format");
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    let default = default_here.cloned().or_else(|| object.remove("default"));
    object.remove("default");
    let marked = require_marked(object);
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for (key, property) in properties {
            settle(
                property,
                default.as_ref().and_then(|default| default.get(key)),
            );
            // Its default is refused.
            if marked.contains(key)
                && let Value::Object(property) = property
            {
                property.remove("default");
            }
        }
    } else if let Some(default) = default.filter(|default| !default.is_null()) {
        object.insert("default".to_owned(), default);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            settle(inner, None);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.iter_mut().for_each(|choice| settle(choice, None));
    }
}

/// Takes `null` out of what may be written.
fn drop_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
    if choices.len() == 1
        && let Some(Value::Object(only)) = choices.pop()
    {
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// Words that are documented one by one, as a list and as editors show them.
fn words_of(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.remove("oneOf") else {
        return;
    };
    let text = |choice: &Value, key: &str| choice.get(key).cloned().unwrap_or_default();
    let mut words = Vec::new();
    let mut meanings = Vec::new();
    for choice in &choices {
        match choice.get("enum").and_then(Value::as_array) {
            Some(several) => {
                meanings.extend(several.iter().map(|_| Value::Null));
                words.extend(several.iter().cloned());
            }
            None => {
                words.push(text(choice, "const"));
                meanings.push(text(choice, "description"));
            }
        }
    }
    object.insert("type".to_owned(), json!("string"));
    object.insert("enum".to_owned(), Value::Array(words));
    object.insert(
        "x-taplo".to_owned(),
        json!({"docs": {"enumValues": meanings}}),
    );
}

/// Requires the keys without which their component is refused, besides those that serde requires, and tells them.
fn require_marked(object: &mut Map<String, Value>) -> Vec<String> {
    let Some(Value::Object(properties)) = object.get_mut("properties") else {
        return Vec::new();
    };
    let mut marked = Vec::new();
    for (key, property) in properties {
        let mark = property
            .as_object_mut()
            .and_then(|property| property.remove("x-required"));
        if mark.is_some() {
            marked.push(key.clone());
        }
    }
    if !marked.is_empty() {
        let required = object.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            required.extend(marked.iter().map(|key| json!(key)));
        }
    }
    marked
}

/// A value that is one substitution and nothing else takes the type that its option wants.
const ONE_SUBSTITUTION: &str = r"^\$\{.+\}$";

/// Allows `${env:NAME}` and `${file:path}` where something else than any text is wanted.
fn allow_substitution(schema: &mut Value) {
    let Value::Object(object) = schema else {
        return;
    };
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = object.get_mut(key) {
            properties.values_mut().for_each(allow_substitution);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            allow_substitution(inner);
        }
    }
    if object.contains_key("properties") || object.contains_key("anyOf") {
        return;
    }
    if let Some(words) = object.remove("enum") {
        let kind = object.remove("type").unwrap_or_default();
        let mut choice = json!({"type": kind, "enum": words});
        if let Some(docs) = object.remove("x-taplo") {
            insert(&mut choice, "x-taplo", docs);
        }
        let substitution = json!({"type": "string", "pattern": r"\$\{"});
        object.insert("anyOf".to_owned(), json!([choice, substitution]));
        return;
    }
    let types: Vec<Value> = match object.get("type") {
        Some(Value::Array(types)) => types.clone(),
        Some(one) => vec![one.clone()],
        None => return,
    };
    let takes_text = types.iter().any(|name| name == "string");
    match object.get("pattern").and_then(Value::as_str) {
        Some(pattern) => {
            let pattern = format!(r"{pattern}|\$\{{");
            object.insert("pattern".to_owned(), json!(pattern));
        }
        None if takes_text => {}
        None => {
            let types: Vec<Value> = types.into_iter().chain([json!("string")]).collect();
            object.insert("type".to_owned(), json!(types));
            object.insert("pattern".to_owned(), json!(ONE_SUBSTITUTION));
        }
    }
}

fn require_nothing(schema: &mut Value) {
    let Value::Object(object) = schema else {
        return;
    };
    object.remove("required");
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = object.get_mut(key) {
            properties.values_mut().for_each(require_nothing);
        }
    }
}

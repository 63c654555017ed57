//! The schema and the reference against what the agent takes: examples fit, mistakes do not, every bound is enforced.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::checker::check;
use super::stand_ins;
use crate::component::Factory;
use crate::config::{
    Coverage, Diagnostics, Registries, Section, json_schema, options_schemas, reference,
    schema as made,
};

fn schema() -> Value {
    json_schema(&Registries::BUILT_IN, Coverage::Whole)
}

fn document(text: &str) -> Option<Value> {
    let table: toml::Table = text.parse().ok()?;
    Some(serde_json::to_value(table).unwrap())
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn every_example_fits_the_schema() {
    let schema = schema();
    for file in files("configs/agent", "toml") {
        let document = document(&fs::read_to_string(&file).unwrap()).unwrap();
        let wrong = check(&schema, &document);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", file.display());
    }
}

/// What a schema cannot see: text that is no TOML, what is not there although nothing names it, names that lead nowhere,
/// and what the environment gives.
const OUT_OF_SIGHT: &[&str] = &[
    "duplicate-key",
    "empty",
    "no-pipelines",
    "substitution",
    "syntax",
    "unused",
    "yaml",
];

#[test]
fn mistakes_do_not_fit_the_schema() {
    let schema = json_schema(&stand_ins::REGISTRIES, Coverage::Whole);
    for file in files("configs/invalid", "toml") {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let Some(document) = document(&fs::read_to_string(&file).unwrap()) else {
            assert!(OUT_OF_SIGHT.contains(&&*name), "{name} is no TOML");
            continue;
        };
        let wrong = check(&schema, &document);
        let expected = !OUT_OF_SIGHT.contains(&&*name);
        assert_eq!(!wrong.is_empty(), expected, "{name}: {wrong:#?}");
    }
}

#[test]
fn the_schema_sees_each_kind_of_mistake() {
    let schema = schema();
    let check_one = |text: &str, expected: &str| {
        let wrong = check(&schema, &document(text).unwrap());
        let found: Vec<&str> = wrong.iter().map(String::as_str).collect();
        match expected {
            "" => assert!(found.is_empty(), "{text}: {found:#?}"),
            expected => assert!(
                found.iter().any(|problem| problem.starts_with(expected)),
                "{text}: {found:#?}"
            ),
        }
    };
    check_one("[processors.batch]\ntimeout = '1m30s'", "");
    check_one("[processors.'batch/small']\ntimeout = 0", "");
    check_one("[processors.batch]\ntimeout = '${env:TIMEOUT:-1s}'", "");
    check_one("[processors.batch]\nsend_batch_size = '${env:SIZE}'", "");
    check_one("[exporters.debug]\nverbosity = '${env:VERBOSITY}'", "");
    check_one(
        "[processors.batch]\ntimeout = 5",
        "/processors/batch/timeout: ",
    );
    check_one(
        "[processors.batch]\ntimeout = '5 s'",
        "/processors/batch/timeout: ",
    );
    check_one(
        "[processors.batch]\nsend_batch_size = 'x'",
        "/processors/batch/send_batch_size: ",
    );
    check_one(
        "[processors.batch]\nsend_batch_size = -1",
        "/processors/batch/send_batch_size: ",
    );
    check_one(
        "[processors.batch]\nsize = 1",
        "/processors/batch/size: nothing",
    );
    check_one("[processors.'batch/']", "/processors/batch/: nothing");
    check_one("[processors.batsh]", "/processors/batsh: nothing");
    check_one(
        "[exporters.debug]\nverbosity = 'all'",
        "/exporters/debug/verbosity: ",
    );
    check_one("[exporters.file]", "/exporters/file: path is missing");
    check_one("[connectors.x]", "/connectors: nothing");
    check_one(
        "[service.pipelines.trace]",
        "/service/pipelines/trace: nothing",
    );
    check_one(
        "[service.pipelines.traces]",
        "/service/pipelines/traces: receivers is missing",
    );
    let size = "[receivers.otlp.protocols.http]\nmax_request_body_size = ";
    let at = "/receivers/otlp/protocols/http/max_request_body_size: ";
    for (value, expected) in [
        ("1000", ""),
        ("'20 MiB'", ""),
        ("'${env:SIZE}'", ""),
        ("-1", at),
        ("1.5", at),
        ("'20 megs'", at),
    ] {
        check_one(&format!("{size}{value}"), expected);
    }
}

#[test]
fn in_a_part_nothing_is_required() {
    let part = json_schema(&Registries::BUILT_IN, Coverage::Part);
    let text =
        "[exporters.file]\nformat = 'proto'\n[service.pipelines.traces]\nexporters = ['file']";
    let text = document(text).unwrap();
    assert_eq!(check(&part, &text), BTreeSet::new());
    assert_eq!(check(&schema(), &text).len(), 2);
}

// === Every field ===

/// A field of a component: where it is, its schema, and whether it is required.
struct Field {
    component: String,
    path: Vec<String>,
    schema: Value,
    required: bool,
}

fn fields_below(component: &str, path: &[String], schema: &Value, fields: &mut Vec<Field>) {
    for (key, field) in schema["properties"].as_object().into_iter().flatten() {
        let path: Vec<String> = path.iter().cloned().chain([key.clone()]).collect();
        fields.push(Field {
            component: component.to_owned(),
            path: path.clone(),
            schema: field.clone(),
            required: reference::is_required(schema, key),
        });
        fields_below(component, &path, field, fields);
    }
}

fn every_field() -> Vec<Field> {
    let mut fields = Vec::new();
    for group in made::groups(&Registries::BUILT_IN) {
        for kind in &group.kinds {
            let component = format!("{}.{}", group.table, kind.name);
            fields_below(&component, &[], &kind.schema, &mut fields);
        }
    }
    let service = made::service_schema();
    fields_below("service", &[], &service, &mut fields);
    fields
}

/// Fields that are off, or somebody else's affair, until they are written.
const WITHOUT_DEFAULT: &[&str] = &[
    "ca_file",
    "ca_pem",
    "cert_file",
    "cert_pem",
    "client_ca_file",
    "compression_algorithms",
    "directory",
    "endpoint",
    "key_file",
    "key_pem",
    "max_version",
    "min_version",
];

#[test]
fn every_field_is_described_and_has_a_default_or_is_required() {
    let mut without = BTreeSet::new();
    let fields = every_field();
    assert!(fields.len() > 200);
    for field in &fields {
        let name = format!("{}.{}", field.component, field.path.join("."));
        let about = field.schema["description"].as_str().unwrap_or_default();
        assert!(about.ends_with('.'), "{name} is described by {about:?}");
        let is_table = field.schema.get("properties").is_some();
        let is_foreign = reference::is_unsupported(&field.schema);
        if !is_table && !is_foreign && !field.required && field.schema.get("default").is_none() {
            without.insert(field.path.last().unwrap().clone());
        }
    }
    let expected: BTreeSet<String> = WITHOUT_DEFAULT
        .iter()
        .map(|key| (*key).to_owned())
        .collect();
    assert_eq!(without, expected);
}

/// The complaints about a component with `value` at `path`.
type Complaints<'a> = &'a dyn Fn(&[String], &Value) -> Vec<String>;

fn complaints<S: ?Sized>(factory: &Factory<S>, path: &[String], value: &Value) -> Vec<String> {
    let mut table = json!({});
    let mut at = &mut table;
    for (depth, key) in path.iter().enumerate() {
        // What only counts in a log.
        if depth > 0 && path[depth - 1] == "sending_queue" {
            at["storage"] = json!("wal");
            at["directory"] = json!("/nowhere");
        }
        at = &mut at[key.as_str()];
    }
    *at = value.clone();
    let text = toml::to_string(&table).unwrap();
    let mut found = Diagnostics::default();
    let mut section = Section::from_text("c", &text, &mut found).unwrap();
    // What it gives then counts for nothing.
    drop((factory.parse)(&mut section));
    let key = format!("c.{}", path.join("."));
    let about = found.0.iter().filter(|found| found.key == key);
    about.map(|found| found.message.clone()).collect()
}

fn check_bounds(name: &str, schema: &Value, path: &[String], complaints: Complaints<'_>) {
    for (key, field) in schema["properties"].as_object().into_iter().flatten() {
        let path: Vec<String> = path.iter().cloned().chain([key.clone()]).collect();
        let name = format!("{name}.{key}");
        check_bounds(&name, field, &path, complaints);
        let refuse = |value: Value| {
            assert!(
                !complaints(&path, &value).is_empty(),
                "{name} = {value} is taken"
            );
        };
        let take = |value: &Value| {
            assert_eq!(
                complaints(&path, value),
                [""; 0],
                "{name} = {value} is refused"
            );
        };
        let whole = |value: &Value, more: i64| match value.as_f64() {
            Some(value) if field["type"] == "number" => json!(value + more as f64),
            Some(value) => json!(value as i64 + more),
            None => panic!("{name}: {value}"),
        };
        if let Some(least) = field.get("minimum") {
            refuse(whole(least, -1));
            if field.get("x-unit").is_none() {
                take(least);
            }
        }
        if let Some(most) = field.get("maximum") {
            refuse(whole(most, 1));
            if field.get("x-unit").is_none() {
                take(most);
            }
        }
        if field.get("x-more-than").is_some() {
            refuse(json!("0s"));
            take(&json!("10h"));
        }
        if let Some(least) = field.get("x-at-least") {
            assert_eq!(least, "1MiB");
            refuse(json!((1 << 20) - 1));
            take(&json!(1 << 20));
        }
        if field.get("pattern").is_some() || field.get("enum").is_some() {
            refuse(json!("?"));
        }
        // Of durations the longest: a shorter one may contradict the defaults beside it.
        if let Some(example) = field["examples"].as_array().and_then(|all| all.last()) {
            take(example);
        }
        for word in field["enum"].as_array().into_iter().flatten() {
            assert!(field["type"] == "string" && word.is_string(), "{name}");
        }
    }
}

#[test]
fn every_bound_is_enforced_and_no_other() {
    fn check_all<S: ?Sized>(table: &str, registry: &'static [Factory<S>]) {
        for factory in registry {
            let schema = options_schemas(&Registries::BUILT_IN)
                .remove(&format!("{table}.{}", factory.kind))
                .unwrap();
            let complaints = |path: &[String], value: &Value| complaints(factory, path, value);
            check_bounds(factory.kind, &schema, &[], &complaints);
        }
    }
    let registries = Registries::BUILT_IN;
    check_all("receivers", registries.receivers);
    check_all("processors", registries.processors);
    check_all("exporters", registries.exporters);
    check_all("extensions", registries.extensions);
}

// === The reference ===

/// With `UPDATE_DOCS` set it writes the files first.
#[test]
fn the_reference_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let pages = reference(&Registries::BUILT_IN);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for file in files("docs/reference", "md") {
            fs::remove_file(file).unwrap();
        }
        for page in &pages {
            fs::write(folder.join(&page.name), &page.text).unwrap();
        }
    }
    const REMEDY: &str = "UPDATE_DOCS=1 cargo test -p tidegate --lib reference";
    for page in &pages {
        let found = fs::read_to_string(folder.join(&page.name)).unwrap_or_default();
        assert!(
            found == page.text,
            "docs/reference/{} is out of date: {REMEDY}",
            page.name
        );
    }
    let there = files("docs/reference", "md").len();
    assert_eq!(
        there,
        pages.len(),
        "docs/reference has other files: {REMEDY}"
    );
}

#[test]
fn every_field_is_on_its_page() {
    let pages = reference(&Registries::BUILT_IN);
    for field in every_field() {
        let key = field.path.last().unwrap();
        let page = format!("{}.md", field.component.replace('.', "-"));
        let Some(page) = pages.iter().find(|found| found.name == page) else {
            let contents = &pages[0].text;
            assert!(contents.contains(&format!("| [`{}`](", field.component)));
            continue;
        };
        let row = format!("| `{key}` | ");
        let heading = match field.path.as_slice() {
            [pipelines, _signal] if pipelines == "pipelines" => ".<signal>]".to_owned(),
            _ => format!(".{key}"),
        };
        assert!(
            page.text.contains(&row) || page.text.contains(&heading),
            "{key} is not in {}",
            page.name
        );
        assert!(
            !page.text.contains("||"),
            "{}: a cell breaks the table",
            page.name
        );
    }
}

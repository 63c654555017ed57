//! A suite's file to a [`Suite`]: every key is known and has the right form, or it is a mistake.

mod component;
mod step;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::model::{
    Component, Dimension, EventWindow, Hooks, OnError, Suite, Test, Text, Variable,
};
use crate::document::{Document, Item, Mistake, Table};

/// Reads a suite. Its mistakes come with what could be made of the rest, so that the rest is checked, too.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn suite(path: &Path) -> anyhow::Result<(Suite, Vec<Mistake>)> {
    let source = std::fs::read_to_string(path);
    let source = source.with_context(|| format!("cannot read {}", path.display()))?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let folder = folder.canonicalize();
    let folder = folder.with_context(|| format!("cannot find the folder of {}", path.display()))?;
    Ok(parse(&path.display().to_string(), folder, source))
}

/// The same from a text.
pub(crate) fn parse(file: &str, folder: PathBuf, source: String) -> (Suite, Vec<Mistake>) {
    let document = Document::new(file, source.clone());
    let mut root = document.root();
    let includes = root.texts("include");
    let mut suite = Suite {
        name: root.need("name"),
        description: root.text("description").unwrap_or_default().text,
        summary: root.text("summary"),
        sources: vec![("suite".to_owned(), source)],
        folder,
        variables: root.table("variables").map(variables).unwrap_or_default(),
        matrix: root.table("matrix").map(matrix).unwrap_or_default(),
        repeat: root.text("repeat"),
        components: components(&mut root),
        hooks: hooks(&mut root),
        tests: root.tables("test").into_iter().map(test).collect(),
        on_error: on_error(&mut root),
    };
    if suite.tests.is_empty() {
        root.missing("test");
    }
    let mut mistakes = Vec::new();
    let mut included = Vec::new();
    for text in includes {
        if included.contains(&text.text) {
            root.wrong(&text.place, "it is included already");
            continue;
        }
        included.push(text.text.clone());
        match std::fs::read_to_string(suite.folder.join(&text.text)) {
            Ok(source) => mistakes.extend(include(&mut suite, &text.text, source)),
            Err(error) => root.wrong(&text.place, format!("cannot read {}: {error}", text.text)),
        }
    }
    root.finish();
    mistakes.extend(document.mistakes());
    (suite, mistakes)
}

/// Components and variables of a file that several suites share. What the suite says itself goes before.
fn include(suite: &mut Suite, file: &str, source: String) -> Vec<Mistake> {
    let document = Document::new(file, source.clone());
    let mut root = document.root();
    let known: Vec<_> = suite.variables.iter().map(|it| it.name.clone()).collect();
    let in_matrix: Vec<_> = suite.matrix.iter().map(|it| it.name.clone()).collect();
    for mut variable in root.table("variables").map(variables).unwrap_or_default() {
        variable.included = true;
        if !known.contains(&variable.name) && !in_matrix.contains(&variable.name) {
            suite.variables.push(variable);
        }
    }
    let own: Vec<_> = suite
        .components
        .iter()
        .map(|it| it.name.text.clone())
        .collect();
    for component in components(&mut root) {
        if !own.contains(&component.name.text) {
            suite.components.push(component);
        }
    }
    for key in ["include", "name", "test"] {
        if let Some(item) = root.take(key) {
            item.wrong("only a suite has it; what is included has `variables` and `component`");
        }
    }
    root.finish();
    suite.sources.push((file.to_owned(), source));
    document.mistakes()
}

fn components(root: &mut Table) -> Vec<Component> {
    let tables = root.tables("component").into_iter();
    tables.map(component::component).collect()
}

fn test(mut table: Table) -> Test {
    let test = Test {
        name: table.need("name"),
        when: table.text("when"),
        steps: table.tables("step").into_iter().map(step::step).collect(),
        windows: table
            .tables("window")
            .into_iter()
            .map(event_window)
            .collect(),
        hooks: hooks(&mut table),
        on_error: on_error(&mut table),
    };
    if test.steps.is_empty() {
        table.missing("step");
    }
    table.finish();
    test
}

fn event_window(mut table: Table) -> EventWindow {
    let window = EventWindow {
        name: table.need("name"),
        from: table.need("from"),
        to: table.need("to"),
    };
    table.finish();
    window
}

fn hooks(table: &mut Table) -> Hooks {
    let mut steps = |key| table.tables(key).into_iter().map(step::step).collect();
    Hooks {
        before: steps("before"),
        after: steps("after"),
    }
}

fn on_error(table: &mut Table) -> OnError {
    let Some(mut table) = table.table("on_error") else {
        return OnError::default();
    };
    let on_error = OnError {
        retries: table.text("retries"),
        retry_delay: table.text("retry_delay"),
        goes_on: table.flag("continue", false),
    };
    table.finish();
    on_error
}

/// Values, or tables of a `default` and the name of a variable of the environment, `env`.
fn variables(table: Table) -> Vec<Variable> {
    let entries = table.rest().into_iter();
    entries
        .map(|(name, place, item)| {
            let value = match item.is_table() {
                true => item.table().and_then(with_environment),
                false => value(item),
            };
            Variable {
                name,
                // Told; that it is there, but without a value, would be told of everything that refers to it.
                value: value.unwrap_or_else(|| minijinja::Value::from(1)),
                place,
                included: false,
            }
        })
        .collect()
}

fn with_environment(mut table: Table) -> Option<minijinja::Value> {
    let name = table.need("env").text;
    let default = table.take("default").and_then(value);
    let place = table.place.clone();
    let value = match std::env::var(name) {
        Ok(text) => Some(super::variables::typed(&text)),
        Err(_) => default,
    };
    if value.is_none() {
        table.wrong(&place, "`default` is missing");
    }
    table.finish();
    value
}

fn matrix(table: Table) -> Vec<Dimension> {
    let entries = table.rest().into_iter();
    entries
        .map(|(name, place, item)| {
            let values = match item.is_table() {
                true => {
                    item.wrong("a list of values is expected");
                    // Told; that there are none would be told, too.
                    vec![minijinja::Value::from(1)]
                }
                false => values(item),
            };
            Dimension {
                name,
                values,
                place,
            }
        })
        .collect()
}

/// A text, number or boolean as templates have it.
fn value(item: Item) -> Option<minijinja::Value> {
    if item.is_list() || item.is_table() {
        item.wrong("text, a number or a boolean is expected");
        return None;
    }
    Some(match item.json()? {
        serde_json::Value::Bool(value) => minijinja::Value::from(value),
        serde_json::Value::String(text) => minijinja::Value::from(text),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => minijinja::Value::from(number),
            None => minijinja::Value::from(number.as_f64()?),
        },
        _ => return None,
    })
}

/// A list of values; one alone is a list of one.
fn values(item: Item) -> Vec<minijinja::Value> {
    if item.is_list() {
        return item.items().into_iter().filter_map(value).collect();
    }
    value(item).into_iter().collect()
}

/// Texts by their names, in order.
fn named_texts(table: Option<Table>) -> Vec<(String, Text)> {
    let entries = table.map(Table::rest).unwrap_or_default().into_iter();
    entries
        .filter_map(|(name, _, item)| Some((name, item.text()?)))
        .collect()
}

/// Which of the cores we may use.
fn pins(table: &mut Table) -> Vec<usize> {
    let place = table.place.clone();
    let numbers = table.integers("pin").into_iter();
    let pins: Vec<_> = numbers.map(usize::try_from).collect();
    if pins.iter().any(Result::is_err) {
        table.wrong(&place, "`pin` counts cores from 0");
    }
    pins.into_iter().filter_map(Result::ok).collect()
}

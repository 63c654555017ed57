//! Components and their strategies.

use std::collections::BTreeMap;

use super::super::model::{
    Component, Configuration, ConfigurationSource, Container, Counter, CounterSource, Deployment,
    Execution, ExecutionKind, Existing, Hooks, Monitoring, Phase, Program, Prometheus, Ready,
    RunOptions, StopSignal, Text,
};
use super::{named_texts, on_error, pins, step};
use crate::document::Table;

pub(super) fn component(mut table: Table) -> Component {
    let does_something = table.has("deployment") || table.has("execution");
    let component = Component {
        name: table.need("name"),
        when: table.text("when"),
        optional: table.flag("optional", false),
        requires: table.texts("requires"),
        configuration: table.table("configuration").map(configuration),
        deployment: table.table("deployment").and_then(deployment),
        execution: table.table("execution").and_then(execution),
        monitoring: match table.table("monitoring") {
            Some(table) => monitoring(table),
            None => Monitoring {
                process: true,
                ..Monitoring::default()
            },
        },
        hooks: phase_hooks(&mut table),
        on_error: on_error(&mut table),
    };
    if !does_something {
        let place = table.place.clone();
        table.wrong(
            &place,
            "a component has a `deployment`, an `execution` or both",
        );
    }
    table.finish();
    component
}

/// `[component.before]` and `[component.after]`, by phase.
fn phase_hooks(table: &mut Table) -> BTreeMap<Phase, Hooks> {
    let mut hooks: BTreeMap<Phase, Hooks> = BTreeMap::new();
    for (key, is_before) in [("before", true), ("after", false)] {
        let Some(mut phases) = table.table(key) else {
            continue;
        };
        for (name, phase) in Phase::ALL {
            let steps = phases.tables(name).into_iter().map(step::step);
            let hooks = hooks.entry(phase).or_default();
            match is_before {
                true => hooks.before.extend(steps),
                false => hooks.after.extend(steps),
            }
        }
        phases.finish();
    }
    hooks
}

pub(super) fn configuration(mut table: Table) -> Configuration {
    const SOURCES: [&str; 4] = ["inline", "template", "file", "command"];
    let given = SOURCES.iter().filter(|key| table.has(key)).count();
    if given != 1 {
        let place = table.place.clone();
        table.wrong(&place, format!("one of {} is expected", SOURCES.join(", ")));
    }
    let (inline, template) = (table.text("inline"), table.text("template"));
    let is_command = table.has("command");
    let (file, command) = (table.text("file"), table.texts("command"));
    if is_command && command.is_empty() {
        let place = table.place.clone();
        table.wrong(&place, "`command` is empty");
    }
    let configuration = Configuration {
        source: match (inline, template, file) {
            (Some(text), _, _) => ConfigurationSource::Inline(text),
            (_, Some(path), _) => ConfigurationSource::Template(path),
            (_, _, Some(path)) => ConfigurationSource::File(path),
            _ => ConfigurationSource::Command(command),
        },
        name: table.text("name").unwrap_or_else(|| Text {
            text: "config.toml".to_owned(),
            place: table.place.clone(),
        }),
    };
    table.finish();
    configuration
}

pub(super) fn deployment(mut table: Table) -> Option<Deployment> {
    const KINDS: [&str; 3] = ["command", "image", "address"];
    let given = KINDS.iter().filter(|key| table.has(key)).count();
    if given != 1 {
        let place = table.place.clone();
        table.wrong(&place, format!("one of {} is expected", KINDS.join(", ")));
        // Whose keys the others are is not known, but whether there are such.
        for key in KINDS.into_iter().chain(["arguments", "options", "publish"]) {
            drop(table.take(key));
        }
        drop(run_options(&mut table));
        table.finish();
        return None;
    }
    let is_command = table.has("command");
    let command = table.texts("command");
    if is_command && command.is_empty() {
        let place = table.place.clone();
        table.wrong(&place, "`command` is empty");
    }
    let (image, address) = (table.text("image"), table.text("address"));
    let deployment = match (image, address) {
        (Some(image), _) => Deployment::Container(Box::new(Container {
            image,
            arguments: table.texts("arguments"),
            options: table.texts("options"),
            publish: table.texts("publish"),
            run: run_options(&mut table),
        })),
        (_, Some(address)) => Deployment::Existing(Existing {
            address,
            ready: ready(&mut table),
        }),
        _ => Deployment::Process(Program {
            command,
            run: run_options(&mut table),
        }),
    };
    table.finish();
    Some(deployment)
}

fn run_options(table: &mut Table) -> RunOptions {
    let stop_signal = match table.text("stop_signal") {
        None => StopSignal::Terminate,
        Some(text) => match text.text.as_str() {
            "TERM" => StopSignal::Terminate,
            "INT" => StopSignal::Interrupt,
            _ => {
                table.wrong(&text.place, "TERM or INT is expected");
                StopSignal::Terminate
            }
        },
    };
    let statuses = table.integers("exit_statuses").into_iter();
    RunOptions {
        environment: named_texts(table.table("environment")),
        pin: pins(table),
        ready: ready(table),
        stop_timeout: table.text("stop_timeout"),
        stop_signal,
        exit_statuses: statuses.filter_map(|it| i32::try_from(it).ok()).collect(),
        control: table.text("control"),
    }
}

fn ready(table: &mut Table) -> Ready {
    Ready {
        url: table.text("ready_url"),
        ports: table.texts("ready_ports"),
        timeout: table.text("ready_timeout"),
    }
}

pub(super) fn execution(mut table: Table) -> Option<Execution> {
    const KINDS: [(&str, ExecutionKind); 3] = [
        ("otlp", ExecutionKind::Otlp),
        ("http", ExecutionKind::Http),
        ("command", ExecutionKind::Command),
    ];
    let mut found = None;
    for (key, kind) in KINDS {
        let arguments = table.has(key).then(|| table.texts(key));
        match (arguments, &found) {
            (Some(arguments), None) => found = Some((kind, arguments)),
            (Some(_), Some(_)) => {
                let place = table.place.clone();
                table.wrong(&place, "one of otlp, http, command is expected");
            }
            (None, _) => drop(table.take(key)),
        }
    }
    let execution = found.map(|(kind, arguments)| Execution {
        kind,
        arguments,
        place: table.place.clone(),
        environment: named_texts(table.table("environment")),
        pin: pins(&mut table),
    });
    if execution.is_none() {
        let place = table.place.clone();
        table.wrong(&place, "one of otlp, http, command is expected");
    }
    table.finish();
    execution
}

pub(super) fn monitoring(mut table: Table) -> Monitoring {
    let monitoring = Monitoring {
        process: table.flag("process", true),
        interval: table.text("interval"),
        prometheus: table.table("prometheus").map(prometheus),
        counters: table.table("counter").map(counters).unwrap_or_default(),
    };
    table.finish();
    monitoring
}

fn prometheus(mut table: Table) -> Prometheus {
    let prometheus = Prometheus {
        url: table.need("url"),
        include: table.strings("include"),
        exclude: table.strings("exclude"),
    };
    table.finish();
    prometheus
}

fn counters(table: Table) -> Vec<Counter> {
    let entries = table.rest().into_iter();
    entries
        .filter_map(|(name, _, item)| {
            let mut table = item.table()?;
            let sampled = table.flag("sampled", false);
            let source = counter_source(&mut table)?;
            table.finish();
            Some(Counter {
                name,
                source,
                sampled,
            })
        })
        .collect()
}

fn counter_source(table: &mut Table) -> Option<CounterSource> {
    const KINDS: [&str; 6] = ["url", "file", "pointer", "sql", "metric", "command"];
    let given: Vec<_> = KINDS.iter().filter(|key| table.has(key)).copied().collect();
    let (url, file) = (table.text("url"), table.text("file"));
    let pointers = table.texts("pointer");
    let (sql, metric) = (table.text("sql"), table.text("metric"));
    let command = table.texts("command");
    for (key, is_empty) in [
        ("pointer", pointers.is_empty()),
        ("command", command.is_empty()),
    ] {
        if given.contains(&key) && is_empty {
            let place = table.place.clone();
            table.wrong(&place, format!("`{key}` is empty"));
            return None;
        }
    }
    let source = match given.as_slice() {
        ["url", "pointer"] => CounterSource::Url {
            url: url?,
            pointers,
        },
        ["file", "pointer"] => CounterSource::File {
            file: file?,
            pointers,
        },
        ["url", "sql"] => CounterSource::ClickHouse {
            url: url?,
            sql: sql?,
        },
        ["url", "metric"] => CounterSource::Prometheus {
            url: url?,
            metric: metric?,
        },
        ["command"] => CounterSource::Command(command),
        _ => {
            let place = table.place.clone();
            let there = match given.as_slice() {
                [] => "there is none of these".to_owned(),
                given => format!("there is `{}`", given.join("`, `")),
            };
            table.wrong(
                &place,
                format!("a counter is `url` with one of `pointer`, `sql` and `metric`, `file` with `pointer`, or `command`; {there}"),
            );
            return None;
        }
    };
    Some(source)
}

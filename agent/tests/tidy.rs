//! Holds the source to `docs/architecture.md`: module docs, file length, and what each part must not know.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Past this many lines there is a seam.
const LINES_MAX: usize = 800;

/// A part (a path prefix below `src`), and the words its code must not contain.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    (
        "otlp",
        &[
            "tokio",
            "crate::config",
            "crate::telemetry",
            "tracing::",
            "std::fs",
            "unsafe ",
        ],
    ),
    ("signal.rs", &["crate::"]),
    ("units.rs", &["crate::"]),
    ("memory.rs", &["crate::component"]),
    ("ack.rs", &["crate::component"]),
    ("batch.rs", &["crate::component"]),
    (
        "receivers",
        &[
            "crate::pipeline",
            "crate::exporters",
            "crate::processors",
            "crate::app",
        ],
    ),
    (
        "processors",
        &[
            "crate::pipeline",
            "crate::exporters",
            "crate::receivers",
            "crate::app",
        ],
    ),
    (
        "exporters",
        &[
            "crate::pipeline",
            "crate::receivers",
            "crate::processors",
            "crate::app",
        ],
    ),
    (
        "extensions",
        &[
            "crate::pipeline",
            "crate::exporters",
            "crate::receivers",
            "crate::app",
        ],
    ),
    (
        "convert",
        &[
            "crate::component",
            "crate::exporters",
            "crate::receivers",
            "std::fs",
            "tokio",
        ],
    ),
    ("pipeline", &["crate::app", "crate::cli"]),
    ("progress.rs", &["crate::"]),
    (
        "systemd",
        &[
            "crate::component",
            "crate::pipeline",
            "crate::config",
            "crate::net",
        ],
    ),
    (
        "localdb",
        &[
            "crate::pipeline",
            "crate::component",
            "crate::otlp",
            "crate::config",
        ],
    ),
];

/// Only the telemetry module names metrics, apart from tests that read them.
const METRIC_PREFIXES: &[&str] = &["\"otelcol_", "\"tidegate_"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file: its path below `src`, its text, and its text without tests and comments.
fn sources() -> Vec<(String, String, String)> {
    let root = source();
    let mut paths = Vec::new();
    files_below(&root, &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = if is_test_file(&name) {
                String::new()
            } else {
                code_of(&text)
            };
            (name, text, code)
        })
        .collect()
}

fn is_test_file(name: &str) -> bool {
    name.split('/').any(|part| {
        let part = part.trim_end_matches(".rs");
        matches!(part, "tests" | "testing" | "oracle") || part.ends_with("_tests")
    })
}

fn code_of(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let tests_begin = |line: &str, next: Option<&&str>| {
        line.starts_with("#[cfg(test)]") && next.is_some_and(|next| next.ends_with('{'))
    };
    let mut code = Vec::new();
    while let Some(line) = lines.next() {
        if tests_begin(line, lines.peek()) {
            break;
        }
        code.push(line);
    }
    code.into_iter()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_its_one_reason_first() {
    let problems: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text, _)| !text.starts_with("//! "))
        .map(|(name, ..)| format!("{name}: the first line is not `//! …`"))
        .collect();
    report(&problems);
}

#[test]
fn no_file_is_longer_than_its_seam() {
    let problems: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text, _)| text.lines().count() > LINES_MAX)
        .map(|(name, text, _)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    report(&problems);
}

#[test]
fn parts_do_not_know_what_they_must_not() {
    let mut problems = Vec::new();
    for (name, _, code) in sources() {
        for (part, words) in MUST_NOT_KNOW {
            let inside = name == *part
                || name.starts_with(&format!("{part}/"))
                || name == format!("{part}.rs");
            if !inside {
                continue;
            }
            for word in words.iter().filter(|word| code.contains(**word)) {
                problems.push(format!("{name}: `{word}` does not belong in `{part}`"));
            }
        }
    }
    report(&problems);
}

#[test]
fn only_telemetry_names_metrics() {
    let mut problems = Vec::new();
    for (name, _, code) in sources() {
        if name.starts_with("telemetry/") {
            continue;
        }
        for prefix in METRIC_PREFIXES
            .iter()
            .filter(|prefix| code.contains(**prefix))
        {
            problems.push(format!("{name}: names a metric ({prefix}…\")"));
        }
    }
    report(&problems);
}

/// A name in the table that no code asks for would be documented and never served.
#[test]
fn every_metric_that_is_named_is_served() {
    let sources = sources();
    let (_, _, table) = sources
        .iter()
        .find(|(name, ..)| name == "telemetry/names.rs")
        .unwrap();
    let problems: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(" = "))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .filter(|name| {
            let plain = |c: char| c.is_ascii_uppercase() || c == '_';
            let serves = |code: &str| {
                code.split("names::")
                    .skip(1)
                    .any(|after| after.split(|c| !plain(c)).next() == Some(name))
            };
            !sources.iter().any(|(_, _, code)| serves(code))
        })
        .map(|name| format!("{name}: nothing serves it"))
        .collect();
    report(&problems);
}

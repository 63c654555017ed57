//! Whole configurations against what they become, and the bounds.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::{Environment, Registries, Severity, Source, load, settings_of};

/// Variables as an operator might set them, and no files.
struct Operator;

impl Environment for Operator {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        let value = match name {
            "MY_POD_IP" => "10.0.0.7",
            "WAIT" => "7s",
            "CLICKHOUSE_ENDPOINT" => "http://clickhouse:8123",
            _ => "example",
        };
        Ok(Some(value.to_owned()))
    }

    fn file(&self, _: &Path) -> Result<String, String> {
        Ok("from-a-file".to_owned())
    }

    fn folder(&self, _: &Path) -> Result<Option<Vec<PathBuf>>, String> {
        Ok(None)
    }

    fn stdin(&self) -> Result<String, String> {
        Err("is not read".to_owned())
    }
}

fn validate(name: &str, text: &str) -> Result<usize, String> {
    let source = Source::Text {
        name: name.to_owned(),
        content: text.to_owned(),
    };
    let (tree, found) = load(&[source], &[], &Operator);
    match settings_of(&tree, found, &Registries::BUILT_IN) {
        Ok((settings, found)) => {
            assert_eq!(found.count(Severity::Error), 0);
            Ok(settings.pipelines.len())
        }
        Err(found) => Err(found.with_excerpts()),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert")
}

fn examples() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 10);
    files
}

/// Every `*.yaml` under `tests/convert` becomes the `*.toml` beside it, and tells what the `*.findings` say. With `UPDATE=1`
/// in the environment, those are written anew.
#[test]
fn collector_configurations_become_what_is_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for file in examples() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let converted = convert(&name, &fs::read_to_string(&file).unwrap()).unwrap();
        let findings: String = converted
            .findings
            .iter()
            .map(|found| format!("{found}\n"))
            .collect();
        for (extension, text) in [("toml", &converted.text), ("findings", &findings)] {
            let expected = file.with_extension(extension);
            if update {
                fs::write(&expected, text).unwrap();
            } else if fs::read_to_string(&expected).unwrap_or_default() != *text {
                wrong.push(format!("{}:\n{text}", expected.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE=1 writes these:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn what_is_converted_is_valid() {
    for file in examples() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let converted = convert(&name, &fs::read_to_string(&file).unwrap()).unwrap();
        match (validate(&name, &converted.text), name.as_str()) {
            (Err(problem), "nothing-left.yaml") => {
                assert!(problem.contains("there is no pipeline"), "{problem}");
            }
            (Ok(pipelines), _) => assert!(pipelines > 0),
            (Err(problem), _) => panic!("{name}:\n{problem}\n{}", converted.text),
        }
        // The same text converts to the same.
        assert_eq!(
            convert(&name, &fs::read_to_string(&file).unwrap()),
            Ok(converted)
        );
    }
}

#[test]
fn no_comment_is_lost() {
    let text = fs::read_to_string(folder().join("comments.yaml")).unwrap();
    let converted = convert("comments.yaml", &text).unwrap().text;
    for line in text.lines() {
        let Some((_, comment)) = line.split_once("# ") else {
            continue;
        };
        assert!(
            converted.contains(comment),
            "{comment:?} is not in\n{converted}"
        );
    }
}

const BASE: &str = "
service: {pipelines: {traces: {receivers: [otlp], exporters: [e]}}}
receivers: {otlp: {protocols: {grpc: }}}
exporters: {e: {}}
";

/// One exporter's or other component's lines.
fn check(yaml: &str, expected: &[&str], findings: &[&str]) {
    let converted = convert("test.yaml", yaml).unwrap();
    for line in expected {
        assert!(
            converted.text.contains(line),
            "{line}\nnot in\n{}",
            converted.text
        );
    }
    let found: Vec<String> = converted.findings.iter().map(ToString::to_string).collect();
    for finding in findings {
        assert!(
            found.iter().any(|found| found.contains(finding)),
            "{finding}\nnot in\n{found:#?}"
        );
    }
    assert_eq!(findings.is_empty(), found.is_empty(), "{found:#?}");
    validate("test.toml", &converted.text)
        .unwrap_or_else(|problem| panic!("{problem}\n{}", converted.text));
}

fn with_exporter(kind: &str, settings: &str) -> String {
    BASE.replace("exporters: [e]", &format!("exporters: [{kind}]"))
        .replace("e: {}", &format!("{kind}: {settings}"))
}

#[test]
fn values_take_the_types_of_their_fields() {
    let one = |settings: &str, expected: &str| {
        let yaml = with_exporter("otlp_grpc", &format!("{{endpoint: h:1, {settings}}}"));
        check(&yaml, &[expected], &[]);
    };
    one("timeout: 1h30m", "timeout = \"1h30m\"");
    one("timeout: 0", "timeout = \"0s\"");
    one(
        "timeout: '${env:WAIT:-5s}'",
        "timeout = \"${env:WAIT:-5s}\"",
    );
    one(
        "headers: {a: 1, b: true, c: null, d: 0x1F}",
        "a = \"1\"\nb = \"true\"\nd = \"0x1F\"",
    );
    one("wait_for_ready: off", "wait_for_ready = false");
    one("wait_for_ready: 'no'", "wait_for_ready = false");
    one("sending_queue: {queue_size: '10'}", "queue_size = 10");
    one("sending_queue: {queue_size: 1e3}", "queue_size = 1000");
    one("retry_on_failure: {multiplier: 2}", "multiplier = 2.0");
    one("compression: GZIP", "compression = \"gzip\"");
}

#[test]
fn what_has_no_counterpart_is_told_with_its_line() {
    let one = |kind: &str, settings: &str, finding: &str| {
        check(
            &with_exporter(kind, settings),
            &["# tidegate: not converted: "],
            &[finding],
        );
    };
    one(
        "otlp_grpc",
        "{endpoint: h:1, nonsense: 1}",
        "4:40: not converted: exporters.otlp_grpc.nonsense: `exporters.otlp_grpc` has no such field here",
    );
    one(
        "otlp_grpc",
        "{endpoint: h:1, timeout: [1]}",
        "a list, where Tidegate takes one value",
    );
    one(
        "otlp_grpc",
        "{endpoint: h:1, timeout: {a: 1}}",
        "a mapping, where Tidegate takes one value",
    );
    one(
        "otlp_grpc",
        "{endpoint: h:1, tls: true}",
        "one value, where Tidegate takes a table",
    );
    one(
        "otlp_grpc",
        "{endpoint: h:1, timeout: -5s}",
        "`-5s` is not a duration",
    );
    one(
        "otlp_grpc",
        "{endpoint: h:1, headers: {a: '${yaml:x}'}}",
        "there is no `${yaml:…}`",
    );
    one(
        "clickhouse",
        "{endpoint: 'http://h', auth: {authenticator: x}}",
        "there is no such authenticator",
    );
}

#[test]
fn a_component_is_left_out_for_what_is_wrong_in_it() {
    let yaml = with_exporter("clickhouse", "{endpoint: 'ftp://host'}");
    let converted = convert("test.yaml", &yaml).unwrap();
    let exporter = converted
        .findings
        .iter()
        .find(|found| found.key == "exporters.clickhouse");
    let message = &exporter.unwrap().message;
    assert!(
        message.starts_with("endpoint: `ftp` is not a scheme"),
        "{message}"
    );
    let yaml = with_exporter("otlp_grpc", "{}");
    let converted = convert("test.yaml", &yaml).unwrap();
    assert!(
        converted.text.contains("exporters.otlp_grpc: is required"),
        "{}",
        converted.text
    );
    assert!(
        converted
            .findings
            .iter()
            .any(|found| found.message.starts_with("there is no pipeline"))
    );
}

#[test]
fn a_duration_without_a_unit_is_asked_about() {
    let yaml = with_exporter("otlp_grpc", "{endpoint: h:1, timeout: 5}");
    check(
        &yaml,
        &["timeout = \"5ns\""],
        &["`5` without a unit is nanoseconds"],
    );
}

#[test]
fn what_is_no_configuration_is_an_error_with_its_place() {
    let check = |yaml: &str, expected: &str| {
        let found = convert("test.yaml", yaml).unwrap_err().to_string();
        assert!(found.contains(expected), "{yaml}: {found}");
    };
    check("", "1:1: is empty");
    check("# nothing\n", "is empty");
    check("- a\n- b", "1:1: is no configuration");
    check("a: [1, 2", "is not YAML: ");
    check("a:\n  b: 1\n c: 2", "3:2: is not YAML: ");
    check("a: 1\na: 2", "2:1: is a second `a`");
    check("a: *b", "1:4: is not YAML: ");
    check(
        "a: &a [*a]",
        "is an alias of something that it is a part of",
    );
    check("? [a]\n: b", "is a key that is not text");
    check("a:\n  <<: 5", "merges mappings");
    check("kind: ConfigMap\ndata: {}", "is a ConfigMap");
    check(
        "kind: OpenTelemetryCollector\nspec: {config: 'a: b'}",
        "holds its configuration as text",
    );
    check("kind: OpenTelemetryCollector", "is no configuration");
}

#[test]
fn what_is_too_much_is_refused() {
    let check = |yaml: &str, expected: &str| {
        let found = convert("test.yaml", yaml).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    };
    check(&"[".repeat(100_000), "is n");
    check(
        &format!("a: {}1{}", "[".repeat(80), "]".repeat(80)),
        "deeper than 64",
    );
    let deep: String = (0..80)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    check(&deep, "deeper than 64");
    check(&"a".repeat(5 << 20), "larger than 4 MiB");
    let mut laughs = "a: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n".to_owned();
    for level in 1..20 {
        let before = format!("*a{}", level - 1);
        laughs += &format!("b{level}: &a{level} [{}]\n", vec![before; 9].join(", "));
    }
    check(&laughs, "more than 20000 values");
    let wide: String = (0..30_000)
        .map(|number| format!("k{number}: 1\n"))
        .collect();
    check(&wide, "more than 20000 values");
}

#[test]
fn the_clickhouse_exporters_own_example_needs_nothing_left_out() {
    let yaml = with_exporter(
        "clickhouse",
        "{endpoint: 'tcp://h1:9440,tcp://h2?secure=true', async_insert: true, ttl_days: 3}",
    );
    let converted = convert("test.yaml", &yaml).unwrap();
    assert!(!converted.is_lossy(), "{:#?}", converted.findings);
    let endpoint = "endpoint = \"https://h1:8443,h2?secure=true\"";
    assert!(converted.text.contains(endpoint), "{}", converted.text);
    validate("test.toml", &converted.text).unwrap();
}

#[test]
fn a_receiver_that_loses_its_lock_is_shouted_about() {
    let yaml = BASE.replace("{grpc: }", "{grpc: {auth: {authenticator: basicauth}}}");
    let yaml = yaml.replace("e: {}", "debug: {}").replace("[e]", "[debug]");
    check(&yaml, &["ANYBODY WHO REACHES"], &["ANYBODY WHO REACHES"]);
}

#[test]
fn no_comment_breaks_the_document() {
    let yaml = BASE
        .replace("{e: {}}", "{debug: {}} # a\u{7f}b")
        .replace("[e]", "[debug]");
    check(
        &format!("# c\u{7f}d{yaml}# e\u{7f}f"),
        &["# c d", "# a b", "# e f"],
        &[],
    );
}

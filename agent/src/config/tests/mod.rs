//! The configuration as a whole, from texts to settings.

mod checker;
mod schema;
mod stand_ins;
mod types;

use std::fs;
use std::path::{Path, PathBuf};

use self::stand_ins::REGISTRIES;
use super::testing::Fake;
use super::*;
use crate::signal::Signal;

// === What is wrong is reported, all of it ===

fn environment() -> Fake {
    Fake::default()
        .variable("PORT", "9000")
        .variable("WORD", "many")
        .variable("FLAG", "true")
        .variable("SECRET", "hunter2hunter2")
        .variable("SPAN_LIST", "[\"otlp\"]")
        .file("secrets/password", "s3cret-from-file\n")
}

fn settings(text: &str, sets: &[&str]) -> Result<(Settings, Diagnostics), Diagnostics> {
    let source = Source::Text {
        name: "test.toml".to_owned(),
        content: text.to_owned(),
    };
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let (tree, found) = load(&[source], &sets, &environment());
    settings_of(&tree, found, &REGISTRIES)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/invalid")
}

/// Every file under `configs/invalid` gives what the file with the extension `expected` beside it says. With `UPDATE=1`
/// in the environment, those are written anew.
#[test]
fn invalid_configurations_are_explained() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(files.len() > 10);
    let mut wrong = Vec::new();
    for file in files {
        let source = Source::Text {
            name: file.file_name().unwrap().to_string_lossy().into_owned(),
            content: fs::read_to_string(&file).unwrap(),
        };
        let (tree, found) = load(&[source], &[], &environment());
        let found = match settings_of(&tree, found, &REGISTRIES) {
            Ok((_, found)) | Err(found) => found,
        };
        let text = format!("{}\n{}\n", found.with_excerpts(), found.summary());
        let expected = file.with_extension("expected");
        if update {
            fs::write(&expected, &text).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const VALID: &str = r#"
[receivers.otlp.protocols.grpc]
endpoint = "127.0.0.1:4317"
[processors.batch]
[exporters.clickhouse]
endpoint = "http://127.0.0.1:8123"
database = "otel"
[exporters."clickhouse/archive"]
endpoint = ["http://a:8123", "http://b:8123"]
database = "archive"
[extensions.pprof]
[extensions.health_check]
[service]
extensions = ["health_check", "pprof"]
[service.pipelines.traces]
receivers = ["otlp"]
processors = ["batch"]
exporters = ["clickhouse/archive", "clickhouse"]
[service.pipelines."logs/audit"]
receivers = ["otlp"]
exporters = ["clickhouse"]
"#;

#[test]
fn settings_have_what_the_configuration_says() {
    let (settings, found) = settings(VALID, &[]).unwrap();
    assert_eq!(found, Diagnostics::default());
    let ids = |pipeline: usize| &settings.pipelines[pipeline];
    assert_eq!(ids(0).id, "traces");
    assert_eq!(ids(0).signal, Signal::Traces);
    assert_eq!(ids(0).exporters, ["clickhouse/archive", "clickhouse"]);
    assert_eq!(ids(1).id, "logs/audit");
    assert!(ids(1).processors.is_empty());
    let exporters: Vec<_> = settings
        .exporters
        .iter()
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(exporters, ["clickhouse", "clickhouse/archive"]);
    let extensions: Vec<_> = settings
        .extensions
        .iter()
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(extensions, ["health_check", "pprof"]);
    assert_eq!(settings.drain_timeout.as_secs(), 30);
    assert_eq!(settings.telemetry.logs, LogSettings::default());
    let address = settings.telemetry.metrics_address.unwrap();
    assert_eq!(address.to_string(), "127.0.0.1:8888");
}

#[test]
fn set_reaches_every_setting() {
    let (settings, _) = settings(
        VALID,
        &[
            "service.drain_timeout=5s",
            "service.telemetry.logs.level=debug",
            "service.telemetry.logs.encoding=json",
            "service.telemetry.metrics.address=localhost:0",
            "service.pipelines.traces.exporters=[\"clickhouse\"]",
            "exporters.clickhouse.database=7",
            "exporters.clickhouse/archive.database=7",
        ],
    )
    .unwrap();
    assert_eq!(settings.drain_timeout.as_secs(), 5);
    assert_eq!(settings.telemetry.logs.level, LogLevel::Debug);
    assert_eq!(settings.telemetry.logs.encoding, LogEncoding::Json);
    let address = settings.telemetry.metrics_address.unwrap();
    assert_eq!(address.to_string(), "127.0.0.1:0");
    assert_eq!(settings.pipelines[0].exporters, ["clickhouse"]);
    assert_eq!(settings.exporters.len(), 1, "what is unused is not built");
}

#[test]
fn only_level_none_turns_metrics_off() {
    let telemetry = |level: &str| {
        let level = format!("service.telemetry.metrics.level={level}");
        settings(VALID, &[&level]).unwrap().0.telemetry
    };
    assert_eq!(telemetry("none").metrics_address, None);
    assert!(telemetry("normal").metrics_address.is_some());
    assert_eq!(telemetry("basic"), telemetry("normal"));
    assert_eq!(telemetry("detailed"), telemetry("normal"));
}

// === Sources ===

#[test]
fn folders_and_standard_input_are_read() {
    let environment = Fake::default()
        .file("conf/10-a.toml", "[a]\nx = 1\ny = 1")
        .file("conf/20-b.toml", "[a]\ny = 2");
    let sources = [Source::from_argument("conf"), Source::from_argument("-")];
    let (tree, found) = load(&sources, &[], &environment);
    assert_eq!(found, Diagnostics::default());
    let text = render(&tree, Format::Toml, true).unwrap();
    assert_eq!(text, "[a]\nx = 1\ny = 2\n\n[service]\n");
    assert_eq!(tree.paths, [PathBuf::from("conf")]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let (tree, found) = load(&[Source::from_argument("none.toml")], &[], &environment());
    assert!(settings_of(&tree, found.clone(), &REGISTRIES).is_err());
    assert_eq!(
        found.to_string(),
        "error: the file none.toml cannot be read: no such file\n"
    );
    let (_, found) = load(&[], &[], &environment());
    assert!(found.has_errors());
}

#[test]
fn later_files_and_set_win_and_keep_their_places() {
    let text = |name: &str, content: &str| Source::Text {
        name: name.to_owned(),
        content: content.to_owned(),
    };
    let sources = [
        text("a.toml", VALID),
        text("b.toml", "\n[processors.batch]\ntimeout = 5\n"),
    ];
    let sets = ["processors.batch.send_batch_size=x".to_owned()];
    let (tree, found) = load(&sources, &sets, &environment());
    let found = settings_of(&tree, found, &REGISTRIES).unwrap_err();
    let lines = found.to_string();
    assert!(
        lines.starts_with("b.toml:3:11: error: processors.batch.timeout:"),
        "{lines}"
    );
    assert!(
        lines.contains("\n--set processors.batch.send_batch_size:1:34: error:"),
        "{lines}"
    );
}

#[test]
fn an_unset_variable_that_was_overridden_does_not_matter() {
    let (_, found) = settings(
        &VALID.replace("\"otel\"", "\"${env:NONE}\""),
        &["exporters.clickhouse.database=x"],
    )
    .unwrap();
    assert_eq!(found, Diagnostics::default());
}

// === print-config ===

#[test]
fn printing_redacts_secrets_and_nothing_else() {
    let text = r#"
[exporters.x]
endpoint = "http://u:p@h:8123/?password=abc&a=b"
password = "${env:SECRET}"
again = "x-${env:SECRET}-y"
from_file = "${file:secrets/password}"
port = "${env:PORT}"
empty = { password = "" }
tokens = ["a", { deep = "b" }]
key_file = "/etc/key"
[exporters.x.headers]
Authorization = "Basic abc"
X-ClickHouse-Key = "k"
X-Other = "[REDACTED]"
"#;
    let source = Source::Text {
        name: "t".to_owned(),
        content: text.to_owned(),
    };
    let (tree, found) = load(&[source], &[], &environment());
    assert_eq!(found, Diagnostics::default());
    let expected = r#"[exporters.x]
endpoint = "http://[REDACTED]@h:8123/?password=[REDACTED]&a=b"
password = "[REDACTED]"
again = "x-[REDACTED]-y"
from_file = "[REDACTED]"
port = 9000
tokens = ["[REDACTED]", { deep = "[REDACTED]" }]
key_file = "/etc/key"

[exporters.x.empty]
password = ""

[exporters.x.headers]
Authorization = "[REDACTED]"
X-ClickHouse-Key = "[REDACTED]"
X-Other = "[REDACTED]"
"#;
    assert_eq!(render(&tree, Format::Toml, true).unwrap(), expected);
    let open = render(&tree, Format::Json, false).unwrap();
    let open: serde_json::Value = serde_json::from_str(&open).unwrap();
    assert_eq!(open["exporters"]["x"]["password"], "hunter2hunter2");
    assert_eq!(open["exporters"]["x"]["from_file"], "s3cret-from-file");
}

#[test]
fn messages_do_not_show_what_came_from_a_file() {
    let source = Source::Text {
        name: "t".to_owned(),
        content: "[receivers.otlp.protocols.http]\n[exporters.debug]\nverbosity = \"${file:secrets/password}\"\n\
                  [service.pipelines.traces]\nreceivers = [\"otlp\"]\nexporters = [\"debug\"]\n"
            .to_owned(),
    };
    let (tree, found) = load(&[source], &[], &environment());
    let problems = settings_of(&tree, found, &Registries::BUILT_IN).unwrap_err();
    let told = problems.to_string();
    assert!(
        told.contains("exporters.debug.verbosity: `[REDACTED]`"),
        "{told}"
    );
    assert!(!told.contains("s3cret"), "{told}");
}

#[test]
fn a_substitution_is_printed_with_the_type_that_its_option_took() {
    let text = VALID
        .replace("\"otel\"", "\"${env:PORT}\"\nworkers = \"${env:PORT}\"")
        .replace("\"archive\"", "\"plain\"");
    let source = Source::Text {
        name: "t".to_owned(),
        content: text,
    };
    let (tree, found) = load(&[source], &[], &environment());
    settings_of(&tree, found, &REGISTRIES).unwrap();
    let printed = render(&tree, Format::Toml, true).unwrap();
    assert!(
        printed.contains("database = \"9000\"\nworkers = 9000\n"),
        "{printed}"
    );
}

// === Hostile input ===

#[test]
fn a_hopeless_configuration_is_given_up_soon() {
    let keys: String = (0..20_000).map(|at| format!("k{at} = 1\n")).collect();
    let text = format!(
        "[processors.batch]\n{keys}\n[x]\n{}",
        keys.replace('k', "m")
    );
    let found = settings(&text, &[]).unwrap_err();
    assert_eq!(found.0.len(), 200);
    assert!(found.summary().ends_with("further ones are not shown"));
}

#[test]
fn no_text_makes_it_panic() {
    for text in [
        "",
        "=",
        "\u{feff}a=1",
        "[service]\n[service.pipelines]\n",
        "service = 5\nreceivers = []\nexporters = {otlp = 5}",
        "[service]\npipelines = {traces = {receivers = '${X:-[1]}'}}",
        "a='${'",
        "a = \"${env:A:-${env:${b}}}\"",
        "[receivers.\"\"]\n[receivers.\"/\"]\n[receivers.\"batch/\"]",
        "service.pipelines.traces.receivers = [[], {}, 5, 'x']",
        "é = 'ü'\n[ä",
    ] {
        for padding in 0..4 {
            fuzz_load(&format!("{text}{}", " ".repeat(padding)));
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]
    #[test]
    fn no_random_text_makes_it_panic(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "[", "]", "{", "}", "=", "\"", "'", ".", ",", "\n", " ", "${", "env:", "file:", ":-", "$$", "a", "1", "#",
                "[service]\n", "[service.pipelines.traces]\n", "receivers = ", "[\"otlp\"]\n", "exporters", "batch",
                "[processors.batch]\n", "timeout = ", "\"5s\"\n", "é", "\u{0}", "-", "/", "\\", "true", "extensions",
            ]),
            0..60,
        )
    ) {
        fuzz_load(&parts.concat());
    }
}

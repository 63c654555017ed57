//! The configuration as a whole, with a few components that stand in for the real ones, so that what is expected does not
//! change with every option that those gain.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::testing::Fake;
use super::*;
use crate::component::{
    ComponentError, ExporterContext, ExporterSettings, ExtensionContext, ExtensionSettings,
    Factory, Processor, ProcessorContext, ProcessorSettings, Receiver, ReceiverContext,
    ReceiverSettings, Sender,
};
use crate::signal::Signal;
use crate::units::{ByteSize, HumanDuration};

// === Components that stand in ===

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OtlpOptions {
    protocols: Protocols,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Protocols {
    grpc: Option<ServerOptions>,
    http: Option<ServerOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServerOptions {
    endpoint: String,
    max_request_body_size: ByteSize,
    include_metadata: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct ClickhouseOptions {
    endpoint: Endpoints,
    database: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    ttl: HumanDuration,
    #[serde(default)]
    compress: Compression,
    #[serde(default)]
    async_insert: bool,
    #[serde(default)]
    workers: u16,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Endpoints {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compression {
    #[default]
    Lz4,
    Zstd,
    None,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BatchOptions {
    timeout: HumanDuration,
    send_batch_size: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NoOptions {}

#[derive(Debug)]
struct Inert;

fn nothing() -> ComponentError {
    ComponentError::new("build", "it only stands in")
}

impl ReceiverSettings for Inert {
    fn build(&self, _: ReceiverContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Err(nothing())
    }
}

impl ProcessorSettings for Inert {
    fn build(&self, _: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError> {
        Err(nothing())
    }
}

impl ExporterSettings for Inert {
    fn build(&self, _: &ExporterContext) -> Result<Vec<Sender>, ComponentError> {
        Err(nothing())
    }
}

impl ExtensionSettings for Inert {
    fn build(&self, _: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Err(nothing())
    }
}

fn parse_otlp(section: &mut Section<'_>) -> Option<Box<dyn ReceiverSettings>> {
    let options: OtlpOptions = section.options()?;
    let Protocols { grpc, http } = options.protocols;
    for (name, server) in [("grpc", grpc), ("http", http)] {
        if server.is_some_and(|server| server.endpoint.starts_with("0.0.0.0:")) {
            section.warning(
                &format!("protocols.{name}.endpoint"),
                "listens to every network",
            );
        }
    }
    Some(Box::new(Inert))
}

fn parse_clickhouse(section: &mut Section<'_>) -> Option<Box<dyn ExporterSettings>> {
    let options: ClickhouseOptions = section.options()?;
    let endpoints = match options.endpoint {
        Endpoints::One(one) => vec![("endpoint".to_owned(), one)],
        Endpoints::Several(all) => all
            .into_iter()
            .enumerate()
            .map(|(at, one)| (format!("endpoint[{at}]"), one))
            .collect(),
    };
    for (key, endpoint) in endpoints {
        if !endpoint.starts_with("http") {
            section.error(&key, "write a URL such as `http://127.0.0.1:8123`");
        }
    }
    Some(Box::new(Inert))
}

fn parse_batch(section: &mut Section<'_>) -> Option<Box<dyn ProcessorSettings>> {
    section
        .options::<BatchOptions>()
        .map(|_| Box::new(Inert) as _)
}

const REGISTRIES: Registries = Registries {
    receivers: &[Factory {
        kind: "otlp",
        summary: "",
        signals: &Signal::ALL,
        parse: parse_otlp,
    }],
    processors: &[Factory {
        kind: "batch",
        summary: "",
        signals: &Signal::ALL,
        parse: parse_batch,
    }],
    exporters: &[
        Factory {
            kind: "clickhouse",
            summary: "",
            signals: &Signal::ALL,
            parse: parse_clickhouse,
        },
        Factory {
            kind: "spans_only",
            summary: "",
            signals: &[Signal::Traces],
            parse: |section| section.options::<NoOptions>().map(|_| Box::new(Inert) as _),
        },
    ],
    extensions: &[
        Factory {
            kind: "health_check",
            summary: "",
            signals: &[],
            parse: |section| section.options::<NoOptions>().map(|_| Box::new(Inert) as _),
        },
        Factory {
            kind: "pprof",
            summary: "",
            signals: &[],
            parse: |section| section.options::<NoOptions>().map(|_| Box::new(Inert) as _),
        },
    ],
};

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
fn metrics_at_level_none_have_no_address() {
    let (settings, _) = settings(VALID, &["service.telemetry.metrics.level=none"]).unwrap();
    assert_eq!(settings.telemetry.metrics_address, None);
}

// === Types ===

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Kinds {
    text: String,
    number: u16,
    signed: i64,
    float: f64,
    flag: bool,
    list: Vec<String>,
    size: ByteSize,
    wait: HumanDuration,
    maybe: Option<u8>,
    word: Word,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Word {
    #[default]
    Off,
    Level {
        level: u8,
    },
    Named(String),
}

fn kinds(text: &str) -> Result<Kinds, String> {
    let source = Source::Text {
        name: "t".to_owned(),
        content: text.to_owned(),
    };
    let (tree, mut found) = load(&[source], &[], &environment());
    let path = tree::KeyPath::default();
    let options = Section::new(path, &tree.root, &tree.texts, &mut found).options();
    match options {
        Some(kinds) if found == Diagnostics::default() => Ok(kinds),
        Some(_) => Err(format!("decoded in spite of\n{found}")),
        None => Err(found.to_string()),
    }
}

#[test]
fn a_substitution_takes_the_type_that_is_wanted() {
    let check = |text: &str, change: fn(&mut Kinds)| {
        let mut expected = Kinds::default();
        change(&mut expected);
        assert_eq!(kinds(text), Ok(expected), "{text}");
    };
    check("number = '${env:PORT}'", |kinds| kinds.number = 9000);
    check("text = '${env:PORT}'", |kinds| {
        kinds.text = "9000".to_owned()
    });
    check("float = '${env:PORT}'", |kinds| kinds.float = 9000.0);
    check("flag = '${env:FLAG}'", |kinds| kinds.flag = true);
    check("text = '${env:FLAG}'", |kinds| {
        kinds.text = "true".to_owned()
    });
    check("size = '${env:PORT}'", |kinds| kinds.size = ByteSize(9000));
    check("maybe = '${env:NONE:-7}'", |kinds| kinds.maybe = Some(7));
    check("list = '${env:SPAN_LIST}'", |kinds| {
        kinds.list = vec!["otlp".to_owned()]
    });
    check("list = ['${env:PORT}']", |kinds| {
        kinds.list = vec!["9000".to_owned()]
    });
    check("word = '${env:NONE:-off}'", |_| {});
    check("word = {level = {level = 3}}", |kinds| {
        kinds.word = Word::Level { level: 3 }
    });
    check("word = {named = '${env:PORT}'}", |kinds| {
        kinds.word = Word::Named("9000".to_owned())
    });
    check("wait = '${env:NONE:-5s}'", |kinds| {
        kinds.wait = HumanDuration::from_secs(5)
    });
}

#[test]
fn what_does_not_fit_is_explained() {
    let check = |text: &str, expected: &[&str]| {
        let problems = kinds(text).unwrap_err();
        for expected in expected {
            assert!(
                problems.contains(expected),
                "{text}: {expected} not in\n{problems}"
            );
        }
        assert_eq!(
            problems.lines().count(),
            expected.len(),
            "{text}:\n{problems}"
        );
    };
    check(
        "number = '5'",
        &[
            "expected a whole number from 0 to 65535, found the text \"5\"; write `5` without quotes",
        ],
    );
    check("number = 70000", &["found the number `70000`"]);
    check(
        "number = -1",
        &["t:1:10: error: number: expected a whole number from 0 to 65535"],
    );
    check(
        "signed = 99999999999999999999",
        &["expected a whole number, found"],
    );
    check("text = 5", &["put it in quotes: `\"5\"`"]);
    check("flag = 'true'", &["write `true` without quotes"]);
    check(
        "flag = '${env:WORD}'",
        &["found the text \"many\" (from `${env:WORD}`)"],
    );
    check(
        "list = 'a'",
        &["expected an array, found the text \"a\"; write `[\"a\"]`"],
    );
    check("list = [1, 'b', 2]", &["list[0]", "list[2]"]);
    check("size = true", &["expected a size in bytes"]);
    check("word = 'of'", &["did you mean `off`?"]);
    check("word = {levl = 1}", &["did you mean `level`?"]);
    check(
        "word = {level = {leve = 1}}",
        &["word.level.leve: unknown key", "`level` is required"],
    );
    check("maybe = 300", &["from 0 to 255"]);
    check(
        "nmber = 1\nflg = true\ntext = 1\nwait = 1",
        &["`number`", "`flag`", "text:", "needs a unit"],
    );
    check(
        "text = '${env:NONE}'\nnumber = 'x'",
        &["NONE is not set", "number:"],
    );
    check(
        "number = []\nfloat = {}",
        &["found an array", "found a table"],
    );
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct Required {
    a: String,
    b: HumanDuration,
    c: Vec<u8>,
    d: Compression,
    e: NoOptions,
    f: std::net::SocketAddr,
}

#[test]
fn every_required_key_that_is_missing_is_reported() {
    let mut found = Diagnostics::default();
    let mut section = Section::from_text("x", "a = 5\nz = 1", &mut found).unwrap();
    assert!(section.options::<Required>().is_none());
    let keys: Vec<_> = found.0.iter().map(|found| found.to_string()).collect();
    for key in [
        "x.a:", "x.z:", "`b` is", "`c` is", "`d` is", "`e` is", "`f` is",
    ] {
        assert!(
            keys.iter().any(|line| line.contains(key)),
            "{key} not in {keys:?}"
        );
    }
    assert_eq!(keys.len(), 7, "{keys:?}");
}

#[test]
fn secrets_are_not_in_messages() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    struct Login {
        password: u8,
    }
    let mut found = Diagnostics::default();
    let text = "password = 'hunter2'";
    let mut section = Section::from_text("x", text, &mut found).unwrap();
    assert!(section.options::<Login>().is_none());
    section.error("password", "`hunter2` is too short");
    let shown = found.with_excerpts();
    assert!(
        !shown.contains("hunter2") && shown.contains("[REDACTED]"),
        "{shown}"
    );
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
X-Other = "v"
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
X-Other = "v"
"#;
    assert_eq!(render(&tree, Format::Toml, true).unwrap(), expected);
    let open = render(&tree, Format::Json, false).unwrap();
    let open: serde_json::Value = serde_json::from_str(&open).unwrap();
    assert_eq!(open["exporters"]["x"]["password"], "hunter2hunter2");
    assert_eq!(open["exporters"]["x"]["from_file"], "s3cret-from-file");
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
        fuzz_load(text);
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

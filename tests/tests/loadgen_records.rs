//! Records of runs in the real ClickHouse engine: saved, listed, and exported by their id.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{LocalDb, Service, binary};
use serde_json::Value;

/// A sink for OTLP over HTTP, and its address.
fn sink(folder: &Path) -> (Service, String) {
    let mut command = Command::new(binary("loadgen"));
    command.args(["sink", "--otlp-http", "127.0.0.1:0"]);
    let mut sink = Service::start("sink", &mut command, folder);
    let address = sink.address(&["\"otlp_http\":\""]);
    (sink, address.to_string())
}

fn loadgen(args: &[&str]) -> String {
    let mut command = Command::new(binary("loadgen"));
    let output = command
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn saved_records_are_listed_and_exported_by_their_id() {
    let folder = tempfile::tempdir().unwrap();
    let database = LocalDb::start(folder.path());
    let (_sink, address) = sink(folder.path());
    let at = ["--clickhouse", database.url.as_str()];
    for signal in ["traces", "logs"] {
        let send = ["otlp", &address, "-s", signal, "-n", "5000", "--save"];
        loadgen(&[send.as_slice(), &at].concat());
    }

    let history = loadgen(&[["history", "--kind", "otlp"].as_slice(), &at].concat());
    assert_eq!(history.lines().count(), 3, "{history}");
    let newest = history.lines().nth(1).unwrap();
    assert!(
        newest.contains("logs to") && newest.contains("items/s"),
        "{history}"
    );
    let id = newest.split_whitespace().next_back().unwrap();

    let export = ["export", id, "--format", "json"];
    let record: Value = serde_json::from_str(&loadgen(&[export.as_slice(), &at].concat())).unwrap();
    assert!(record["run_id"].as_str().unwrap().starts_with(id));
    assert_eq!(record["kind"], "otlp");
    let sent = database.query(
        "SELECT count(), sum(value) FROM loadgen_metrics WHERE metric = 'items_sent' FORMAT TSV",
    );
    assert_eq!(sent, "2\t10000");
}

#[test]
fn a_saved_http_run_is_one_run_in_both_tables() {
    let folder = tempfile::tempdir().unwrap();
    let database = LocalDb::start(folder.path());
    let ping = format!("{}/ping", database.url);
    loadgen(&[
        "http",
        &ping,
        "-n",
        "50",
        "--save",
        "--clickhouse",
        &database.url,
    ]);
    let history = loadgen(&["history", "--clickhouse", &database.url]);
    assert_eq!(history.lines().count(), 2, "{history}");
    let ids = "SELECT count() FROM benchmark_results JOIN loadgen_runs USING (run_id) FORMAT TSV";
    assert_eq!(database.query(ids), "1");
}

/// The tables as they were before runs could have no verdict, with such a run.
const OLD_TABLES: [&str; 3] = [
    "CREATE TABLE loadgen_runs (run_id String, kind String, name String, started DateTime64(3, 'UTC'), \
     seconds Float64, passed UInt8, interrupted UInt8, host String, version String, record String CODEC(ZSTD(3))) \
     ENGINE = MergeTree ORDER BY (started, run_id)",
    "CREATE TABLE loadgen_metrics (run_id String, kind String, name String, started DateTime64(3, 'UTC'), \
     metric String, labels Map(String, String), unit String, better String, repetition UInt32, value Float64) \
     ENGINE = MergeTree ORDER BY (metric, started, run_id)",
    "INSERT INTO loadgen_runs VALUES \
     ('aaaaaaaaaaaa', 'http', 'failed', '2020-01-01 00:00:00', 1, 0, 0, '', '', '{\"passed\":false}'), \
     ('bbbbbbbbbbbb', 'http', 'busy', '2020-01-02 00:00:00', 1, 0, 0, '', '', '{\"no_verdict\":\"it was full\"}')",
];

#[test]
fn a_run_without_a_verdict_has_not_failed_whatever_version_made_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let database = LocalDb::start(folder.path());
    let at = ["--clickhouse", database.url.as_str()];
    for sql in OLD_TABLES {
        database.query(sql);
    }
    let history = || loadgen(&[["history"].as_slice(), &at].concat());
    let check_old = |history: &str| {
        let of = |name: &str| {
            let mut lines = history.lines();
            let line = lines.find(|it| it.contains(&format!("  {name}  ")));
            line.unwrap_or_else(|| panic!("no {name}: {history}"))
        };
        assert!(of("busy").contains("  no verdict  "), "{history}");
        assert!(of("failed").matches("failed").count() == 2, "{history}");
    };
    check_old(&history());

    // The first run that is saved extends the table; this one is interrupted.
    let ping = format!("{}/ping", database.url);
    let mut command = Command::new(binary("loadgen"));
    command
        .args(["http", &ping, "--duration", "10m", "--workers", "1"])
        .args(["--progress", "--save"])
        .args(at);
    let mut run = Service::start("loadgen", &mut command, folder.path());
    run.wait_for(&[" requests  "]);
    run.signal("INT");
    assert_eq!(run.wait().code(), Some(1), "{}", run.output());
    let extended = history();
    check_old(&extended);
    let row = extended.lines().find(|it| it.contains("/ping")).unwrap();
    assert!(row.contains("  interrupted  "), "{extended}");
    let why = "SELECT run_id, no_verdict FROM loadgen_runs WHERE no_verdict != '' ORDER BY started";
    assert_eq!(
        database.query(&format!("{why} LIMIT 1 FORMAT TSV")),
        "bbbbbbbbbbbb\tit was full"
    );
}

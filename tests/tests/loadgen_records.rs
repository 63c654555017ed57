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

//! `loadgen http --save` and `loadgen history` against the real ClickHouse engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use e2e::{LocalDb, Service, binary};
use serde_json::Value;

/// The service to be put under load; its telemetry goes nowhere.
fn target(folder: &Path) -> (Service, String) {
    let mut command = Command::new(binary("target-svc"));
    command.args(["--listen", "127.0.0.1:0", "--shutdown-timeout-ms", "100"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let mut service = Service::start("target-svc", &mut command, folder);
    let address = service.address(&["listening on"]);
    (service, format!("http://{address}/api/vector/add"))
}

fn loadgen(args: &[&str]) -> Output {
    Command::new(binary("loadgen")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a load that must succeed and saves it in `database`.
fn run_and_save(url: &str, database: &LocalDb, args: &[&str]) {
    let fixed = [
        "http",
        url,
        "--vector-size",
        "4",
        "--save",
        "--clickhouse",
        &database.url,
    ];
    let output = loadgen(&[&fixed, args].concat());
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn saved_runs_appear_in_the_table_and_in_history() {
    let folder = tempfile::tempdir().unwrap();
    let database = LocalDb::start(folder.path());
    let (_service, url) = target(folder.path());

    let empty = loadgen(&["history", "--clickhouse", &database.url]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(
        text(&empty.stderr).contains("no run has been saved"),
        "{}",
        text(&empty.stderr)
    );

    run_and_save(&url, &database, &["--requests", "200", "--workers", "2"]);
    run_and_save(
        &url,
        &database,
        &["--rate", "100", "--duration", "1s", "--max-error-rate", "1"],
    );

    let row = database.query(
        "SELECT endpoint, total_requests, errors, statuses['200'], workers, \
         min_latency <= avg_latency AND avg_latency <= max_latency AND p95_latency <= p99_latency \
         AND p99_latency <= max_latency AND min_latency > 0, abs(timestamp - now()) < 300 \
         FROM benchmark_results WHERE mode = 'closed' FORMAT TSV",
    );
    assert_eq!(row, format!("{url}\t200\t0\t200\t2\t1\t1"));
    let open = database.query(
        "SELECT total_requests + unsent, target_rate, service_max_latency <= max_latency \
         FROM benchmark_results WHERE mode = 'open' FORMAT TSV",
    );
    assert_eq!(open, "100\t100\t1");

    let history = loadgen(&["history", "--clickhouse", &database.url]);
    let table = text(&history.stdout);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.lines().nth(1).unwrap().contains("open 100/s"),
        "the newest comes first:\n{table}"
    );
    let last = loadgen(&[
        "history",
        "--clickhouse",
        &database.url,
        "--last",
        "1",
        "--json",
    ]);
    let last: Value = serde_json::from_slice(&last.stdout).unwrap();
    assert_eq!(
        (&last["mode"], &last["endpoint"]),
        (&"open".into(), &url.as_str().into())
    );
    // Nobody has to read to the end.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(binary("loadgen"));
    command.args(["history", "--clickhouse", &database.url]);
    let unread = command.stdout(writer).stderr(Stdio::piped()).spawn();
    let unread = unread.unwrap().wait_with_output().unwrap();
    assert_eq!(
        (unread.status.code(), text(&unread.stderr)),
        (Some(0), String::new())
    );
    let other = loadgen(&[
        "history",
        "--clickhouse",
        &database.url,
        "--endpoint",
        "/other",
    ]);
    assert_eq!(text(&other.stdout), "no runs\n");
}

#[test]
fn a_table_of_the_original_columns_is_extended() {
    let folder = tempfile::tempdir().unwrap();
    let database = LocalDb::start(folder.path());
    let (_service, url) = target(folder.path());
    database.query(
        "CREATE TABLE benchmark_results (timestamp DateTime64(3, 'UTC'), endpoint String, avg_latency Float64, \
         p95_latency Float64, p99_latency Float64, min_latency Float64, max_latency Float64, \
         total_requests UInt64) ENGINE = MergeTree ORDER BY timestamp",
    );
    database.query(
        "INSERT INTO benchmark_results VALUES ('2020-01-01 00:00:00', '/old', 1, 2, 3, 0.5, 4, 7)",
    );
    run_and_save(&url, &database, &["--requests", "10"]);

    let history = text(&loadgen(&["history", "--clickhouse", &database.url]).stdout);
    assert_eq!(history.lines().count(), 3, "{history}");
    let old = history.lines().nth(2).unwrap();
    assert!(
        old.contains("/old") && old.contains("2020-01-01 00:00:00"),
        "{history}"
    );
}

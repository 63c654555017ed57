//! Rows that a table refuses: they alone become dead letters, and are stored once when the table takes them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Agent, LocalDb, binary, eventually, post};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;

/// 2026-01-01T00:00:00Z in nanoseconds.
const EPOCH: u64 = 1_767_225_600_000_000_000;

fn logs(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let record = |number: u64| LogRecord {
        time_unix_nano: EPOCH + number,
        body: Some(AnyValue {
            value: Some(Value::StringValue(format!("order {number}"))),
        }),
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: numbers.map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

fn config(url: &str, folder: &Path, queue: &str) -> String {
    let pipelines: String = ["metrics", "logs"]
        .iter()
        .map(|signal| {
            format!(
                "[service.pipelines.{signal}]\nreceivers = [\"otlp\"]\nexporters = [\"clickhouse\"]\n"
            )
        })
        .collect();
    let folder = folder.display();
    let queue = queue.replace("FOLDER", &folder.to_string());
    format!(
        "[receivers.otlp.protocols.http]\nendpoint = \"127.0.0.1:0\"\n\
         [exporters.clickhouse]\nendpoint = \"{url}\"\n[exporters.clickhouse.sending_queue]\n{queue}\n\
         [service.telemetry.metrics]\naddress = \"127.0.0.1:0\"\n{pipelines}"
    )
}

const DURABLE: &str = "storage = \"wal\"\ndirectory = \"FOLDER/queue\"";
const MEMORY: &str = "dead_letter = { directory = \"FOLDER/letters\" }";

fn send(agent: &mut Agent, path: &str, body: &[u8]) {
    let url = format!("{}{path}", agent.otlp_http());
    let headers = [("content-type", "application/x-protobuf")];
    assert_eq!(post(&url, &headers, body).unwrap().status, 200);
}

/// The sum of a ledger's column over all lines that contain `with`.
fn ledger(agent: &mut Agent, column: &str, with: &str) -> u64 {
    let start = format!("tidegate_ledger_{column}_items{{");
    agent
        .metrics()
        .lines()
        .filter(|line| line.starts_with(&start) && line.contains(with))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Waits until that many items are delivered and that many in dead letters.
fn settled(agent: &mut Agent, delivered: u64, dead: u64) {
    eventually("everything to be settled", || {
        let found = (
            ledger(agent, "delivered", ""),
            ledger(agent, "dropped", "reason=\"dead_letter\""),
        );
        (found == (delivered, dead)).then_some(())
    });
    assert_eq!(ledger(agent, "queued", ""), 0);
    assert_eq!(ledger(agent, "accepted", ""), delivered + dead);
}

/// Exit code, standard output, standard error of `tidegate dead-letter …` in `folder`.
fn dead_letter(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(binary("tidegate"))
        .arg("dead-letter")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn listed(folder: &Path) -> Vec<serde_json::Value> {
    let (code, out, err) = dead_letter(folder, &["list", "--config", "agent.toml", "--json"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

fn check_a_bad_row(queue: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let db = LocalDb::start(folder);
    let mut agent = Agent::start(folder, &config(&db.url, folder, queue));
    // The exporter makes the table.
    send(&mut agent, "/v1/logs", &logs(0..1));
    settled(&mut agent, 1, 0);
    db.query("ALTER TABLE otel_logs ADD CONSTRAINT no_poison CHECK Body != 'order 333'");
    send(&mut agent, "/v1/logs", &logs(1..1001));
    settled(&mut agent, 1000, 1);
    let all = "SELECT count(), uniqExact(Body) FROM otel_logs";
    assert_eq!(db.query(all), "1000\t1000");

    let letters = listed(folder);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    for (key, expected) in [
        ("exporter", "clickhouse".into()),
        ("signal", "logs".into()),
        ("reason", "rejected".into()),
        ("items", 1.into()),
        ("rejected", 1.into()),
        ("pipelines", serde_json::json!(["logs"])),
    ] {
        assert_eq!(letter[key], expected, "{key}: {letter}");
    }
    let file = PathBuf::from(letter["file"].as_str().unwrap());
    let path = file.to_str().unwrap();
    let (code, out, err) = dead_letter(folder, &["list", "--config", "agent.toml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("no_poison") && out.contains("1 dead letter, 1 rejected item"),
        "{out}"
    );
    let (code, out, _) = dead_letter(folder, &["show", path]);
    assert_eq!(code, 0);
    assert!(
        out.contains("no_poison") && out.contains("\"stringValue\": \"order 333\""),
        "{out}"
    );

    let replay = ["replay", "--config", "agent.toml"];
    let (code, _, err) = dead_letter(folder, &replay);
    assert_eq!(code, 1);
    assert!(
        err.contains("still rejected") && err.contains("no_poison"),
        "{err}"
    );
    assert!(file.exists());

    db.query("ALTER TABLE otel_logs DROP CONSTRAINT no_poison");
    let copy = folder.join("copy.letter");
    std::fs::copy(&file, &copy).unwrap();
    // The agent runs meanwhile.
    let (code, out, err) = dead_letter(folder, &replay);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("sent"), "{out}");
    assert_eq!(db.query(all), "1001\t1001");
    assert!(!file.exists());
    assert!(listed(folder).is_empty());
    // The name is the batch's: what was stored is recognised.
    let (code, _, err) = dead_letter(
        folder,
        &["replay", "--config", "agent.toml", "copy.letter", "--keep"],
    );
    assert_eq!(code, 0, "{err}");
    assert_eq!(db.query(all), "1001\t1001");
    assert!(folder.join("replayed/copy.letter").exists());
    assert!(agent.service().terminate().success());
}

#[test]
fn of_a_batch_in_a_log_only_the_bad_row_is_a_dead_letter() {
    check_a_bad_row(DURABLE);
}

#[test]
fn of_a_batch_in_memory_only_the_bad_row_is_a_dead_letter() {
    check_a_bad_row(MEMORY);
}

#[test]
fn of_five_tables_only_the_one_that_refused_is_filled_by_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let db = LocalDb::start(folder);
    let mut agent = Agent::start(folder, &config(&db.url, folder, DURABLE));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/tests/golden/metrics.pb");
    let golden = std::fs::read(golden).unwrap();
    send(&mut agent, "/v1/metrics", &golden);
    let tables = [
        "gauge",
        "sum",
        "histogram",
        "summary",
        "exponential_histogram",
    ];
    let rows = |db: &LocalDb| {
        tables.map(|table| {
            let sql = format!("SELECT count() FROM otel_metrics_{table}");
            db.query(&sql).parse::<u64>().unwrap()
        })
    };
    eventually("the first request", || {
        (ledger(&mut agent, "queued", "") == 0 && ledger(&mut agent, "delivered", "") > 0)
            .then_some(())
    });
    let once = rows(&db);
    let total: u64 = once.iter().sum();
    db.query("ALTER TABLE otel_metrics_sum ADD CONSTRAINT closed CHECK MetricName = ''");
    send(&mut agent, "/v1/metrics", &golden);
    settled(&mut agent, 2 * total - once[1], once[1]);
    let letters = listed(folder);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["rejected"], once[1]);
    assert_eq!(letters[0]["items"], total);
    assert_eq!(letters[0]["parts_done"].as_array().unwrap().len(), 4);
    db.query("ALTER TABLE otel_metrics_sum DROP CONSTRAINT closed");
    let (code, _, err) = dead_letter(folder, &["replay", "--config", "agent.toml", "clickhouse"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(rows(&db), once.map(|count| 2 * count));
    assert!(listed(folder).is_empty());
    assert!(agent.service().terminate().success());
}

#[test]
fn a_replay_to_a_database_that_is_away_keeps_the_letter_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let db = LocalDb::start(folder);
    let mut agent = Agent::start(folder, &config(&db.url, folder, DURABLE));
    send(&mut agent, "/v1/logs", &logs(0..1));
    settled(&mut agent, 1, 0);
    db.query("ALTER TABLE otel_logs ADD CONSTRAINT closed CHECK Body = ''");
    send(&mut agent, "/v1/logs", &logs(1..2));
    settled(&mut agent, 1, 1);
    db.stop().unwrap();
    let replay = ["replay", "--config", "agent.toml", "--timeout", "1s"];
    let (code, out, err) = dead_letter(folder, &replay);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        err.contains("the destination does not take it now"),
        "{err}"
    );
    assert_eq!(listed(folder).len(), 1);
}

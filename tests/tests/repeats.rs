//! Inserts that are repeated because nobody knows what became of them: stored once, and counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use e2e::{Agent, LocalDb, Service, binary, eventually, post};

/// A proxy in front of `url` that hits one insert with `fault`; its address.
fn proxy(folder: &Path, url: &str, fault: &str) -> (Service, String) {
    let to = url.trim_start_matches("http://");
    let mut command = Command::new(binary("loadgen"));
    command.args(["faults", "127.0.0.1:0", "--to", to, "-f", fault]);
    let mut proxy = Service::start("proxy", &mut command, folder);
    let line = proxy.wait_for(&["\"listen\""]);
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = said["listen"].as_str().unwrap().to_owned();
    (proxy, format!("http://{address}"))
}

/// The value of a metric's only line with `label`; 0 if there is none.
fn metric(agent: &mut Agent, name: &str, label: &str) -> u64 {
    let metrics = agent.metrics();
    let start = format!("{name}{{");
    let mut lines = metrics
        .lines()
        .filter(|line| line.starts_with(&start) && line.contains(label));
    let line = lines.next();
    assert!(lines.next().is_none(), "{name} twice\n{metrics}");
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Sends a log record through a proxy with `fault`; the repeats that the agent counted, and the blocks that the database
/// skipped.
fn repeats_and_skips(fault: &str, timeout: &str) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let database = LocalDb::start(folder.path());
    let (_proxy, url) = proxy(folder.path(), &database.url, fault);
    let mut agent = Agent::start(
        folder.path(),
        &format!(
            "[receivers.otlp.protocols.http]\nendpoint = \"127.0.0.1:0\"\n\
             [exporters.clickhouse]\nendpoint = \"{url}\"\ntimeout = \"{timeout}\"\n\
             [exporters.clickhouse.retry_on_failure]\ninitial_interval = \"50ms\"\n\
             [service.telemetry.metrics]\naddress = \"127.0.0.1:0\"\n\
             [service.pipelines.logs]\nreceivers = [\"otlp\"]\nexporters = [\"clickhouse\"]\n"
        ),
    );
    let url = format!("{}/v1/logs", agent.otlp_http());
    let body = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1767225600000000000"}]}]}]}"#;
    let headers = [("content-type", "application/json")];
    assert_eq!(post(&url, &headers, body).unwrap().status, 200);
    eventually("delivery", || {
        (metric(&mut agent, "tidegate_ledger_delivered_items", "logs") == 1).then_some(())
    });
    assert!(metric(&mut agent, "tidegate_exporter_attempts", "retry") > 0);
    assert_eq!(database.query("SELECT count() FROM otel_logs"), "1");
    let skipped = database
        .query("SELECT sum(value) FROM system.events WHERE event = 'DuplicatedInsertedBlocks'");
    let name = "tidegate_clickhouse_repeated_inserts";
    (
        metric(&mut agent, name, "otel_logs"),
        skipped.parse().unwrap(),
    )
}

#[test]
fn an_insert_whose_answer_was_lost_is_counted_and_skipped() {
    let (repeats, skipped) = repeats_and_skips("cut-after:times=1", "30s");
    assert_eq!(repeats, 1);
    assert!(skipped > 0);
}

#[test]
fn an_insert_that_the_server_never_saw_is_a_repeat_too_for_nobody_knows() {
    // Only where there is no answer it is the timeout that ends the attempt.
    for (fault, timeout) in [
        ("cut-before:times=1", "30s"),
        ("black-hole:times=1", "5s"),
        ("status:code=504:times=1", "30s"),
    ] {
        assert_eq!(repeats_and_skips(fault, timeout), (1, 0), "{fault}");
    }
}

#[test]
fn an_insert_that_the_server_denied_is_no_repeat() {
    assert_eq!(repeats_and_skips("exception:times=1", "30s"), (0, 0));
}

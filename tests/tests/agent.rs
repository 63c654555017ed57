//! The agent as an operator meets it: start, stop, wrong configuration, a database that is away, and counts that agree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::Command;

use e2e::{Agent, LocalDb, Service, binary, eventually, post};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// 2026-01-01T00:00:00Z in nanoseconds.
const EPOCH: u64 = 1_767_225_600_000_000_000;

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: vec![text("service.name", "shop")],
        ..Resource::default()
    })
}

fn spans(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let span = |number: u64| Span {
        trace_id: u128::from(number + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: "checkout".to_owned(),
        start_time_unix_nano: EPOCH + number,
        end_time_unix_nano: EPOCH + number + 1_000_000,
        attributes: vec![text("item", &number.to_string())],
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(),
            scope_spans: vec![ScopeSpans {
                spans: numbers.map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

fn logs(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let record = |number: u64| LogRecord {
        time_unix_nano: EPOCH + number,
        body: Some(AnyValue {
            value: Some(Value::StringValue(format!("order {number}"))),
        }),
        attributes: vec![text("item", &number.to_string())],
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(),
            scope_logs: vec![ScopeLogs {
                log_records: numbers.map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

fn gauge(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let point = |number: u64| NumberDataPoint {
        time_unix_nano: EPOCH + number * 1_000_000_000,
        value: Some(number_data_point::Value::AsInt(7)),
        attributes: vec![text("item", &number.to_string())],
        ..NumberDataPoint::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(),
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![Metric {
                    name: "stock".to_owned(),
                    data: Some(metric::Data::Gauge(Gauge {
                        data_points: numbers.map(point).collect(),
                    })),
                    ..Metric::default()
                }],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
    .encode_to_vec()
}

fn send(agent: &mut Agent, path: &str, body: &[u8]) -> u16 {
    let url = format!("{}{path}", agent.otlp_http());
    post(&url, &[("content-type", "application/x-protobuf")], body)
        .unwrap()
        .status
}

/// All three signals from one receiver through the usual processors into `exporters`.
fn config(exporters: &str, names: &str) -> String {
    let pipelines: String = ["traces", "metrics", "logs"]
        .iter()
        .map(|signal| {
            format!(
                "[service.pipelines.{signal}]\nreceivers = [\"otlp\"]\nprocessors = [\"memory_limiter\", \"batch\"]\n\
                 exporters = [{names}]\n"
            )
        })
        .collect();
    format!(
        "[receivers.otlp.protocols.grpc]\nendpoint = \"127.0.0.1:0\"\n\
         [receivers.otlp.protocols.http]\nendpoint = \"127.0.0.1:0\"\n\
         [processors.memory_limiter]\nlimit_mib = 1024\n[processors.batch]\n{exporters}\n\
         [service.telemetry.metrics]\naddress = \"127.0.0.1:0\"\n{pipelines}"
    )
}

fn clickhouse(url: &str) -> String {
    config(
        &format!(
            "[exporters.clickhouse]\nendpoint = \"{url}\"\n\
             [exporters.clickhouse.retry_on_failure]\ninitial_interval = \"100ms\"\nmax_interval = \"500ms\"\n"
        ),
        "\"clickhouse\"",
    )
}

/// The value of the first metric line that starts with `start`.
fn metric_value(metrics: &str, start: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(start))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn every_signal_reaches_its_table_and_the_counts_agree() {
    let folder = tempfile::tempdir().unwrap();
    let db = LocalDb::start(folder.path());
    let mut agent = Agent::start(folder.path(), &clickhouse(&db.url));
    assert_eq!(send(&mut agent, "/v1/traces", &spans(0..100)), 200);
    assert_eq!(send(&mut agent, "/v1/logs", &logs(0..50)), 200);
    assert_eq!(send(&mut agent, "/v1/metrics", &gauge(0..25)), 200);
    assert_eq!(send(&mut agent, "/v1/traces", b"garbage"), 400);
    let metrics = eventually("everything to be delivered", || {
        let metrics = agent.metrics();
        let delivered = |signal: &str| {
            let labels = format!(
                "{{exporter=\"clickhouse\",otel_signal=\"{signal}\",pipeline=\"{signal}\"}}"
            );
            metric_value(
                &metrics,
                &format!("tidegate_ledger_delivered_items{labels}"),
            )
        };
        let all = ["traces", "logs", "metrics"].map(|signal| delivered(signal).unwrap_or(0.0));
        (all == [100.0, 50.0, 25.0]).then_some(metrics)
    });
    for (name, value) in [
        ("otelcol_receiver_accepted_spans{", 100.0),
        ("otelcol_receiver_accepted_log_records{", 50.0),
        ("otelcol_receiver_accepted_metric_points{", 25.0),
        (
            "otelcol_exporter_sent_spans{exporter=\"clickhouse\"}",
            100.0,
        ),
    ] {
        let found: f64 = metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum();
        assert!((found - value).abs() < 0.5, "{name}: {found}\n{metrics}");
    }
    assert_eq!(
        db.query("SELECT count(), uniqExact(SpanId) FROM otel_traces"),
        "100\t100"
    );
    assert_eq!(
        db.query("SELECT count() FROM otel_logs WHERE LogAttributes['item'] = '7'"),
        "1"
    );
    assert_eq!(
        db.query("SELECT sum(Value) FROM otel_metrics_gauge WHERE MetricName = 'stock'"),
        "175"
    );
    assert!(agent.service().terminate().success());
}

#[test]
fn what_is_accepted_while_the_database_is_away_arrives_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    // The database starts there later.
    let address = e2e::reserved_address().to_string();
    let mut agent = Agent::start(folder.path(), &clickhouse(&format!("http://{address}")));
    assert_eq!(send(&mut agent, "/v1/traces", &spans(0..10)), 200);
    agent.service().wait_for(&["will retry"]);
    let db = LocalDb::start_at(folder.path(), &address);
    eventually("the spans to arrive", || {
        (db.query("EXISTS TABLE otel_traces") == "1"
            && db.query("SELECT count() FROM otel_traces") == "10")
            .then_some(())
    });
    agent.service().wait_for(&["works again"]);
    assert!(agent.service().terminate().success());
}

#[test]
fn stopping_delivers_what_waits_for_the_batch_timer() {
    let folder = tempfile::tempdir().unwrap();
    let db = LocalDb::start(folder.path());
    let slow =
        clickhouse(&db.url).replace("[processors.batch]", "[processors.batch]\ntimeout = \"1h\"");
    let mut agent = Agent::start(folder.path(), &slow);
    assert_eq!(send(&mut agent, "/v1/logs", &logs(0..9)), 200);
    assert!(agent.service().terminate().success());
    assert_eq!(db.query("SELECT count() FROM otel_logs"), "9");
}

#[test]
fn what_cannot_be_delivered_before_the_end_is_an_error_with_its_count() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = e2e::reserved_address();
    let short = format!(
        "{}\n[service]\ndrain_timeout = \"300ms\"\n",
        clickhouse(&format!("http://{nowhere}"))
    );
    let mut agent = Agent::start(folder.path(), &short);
    assert_eq!(send(&mut agent, "/v1/logs", &logs(0..9)), 200);
    assert!(!agent.service().terminate().success());
    let output = agent.service().output();
    assert!(
        output.contains("not delivered before the drain time was over")
            && output.contains("items=9"),
        "{output}"
    );
}

#[test]
fn file_and_debug_have_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let exporters =
        "[exporters.file]\npath = \"out.jsonl\"\n[exporters.debug]\nverbosity = \"normal\"\n";
    let mut agent = Agent::start(folder.path(), &config(exporters, "\"file\", \"debug\""));
    assert_eq!(send(&mut agent, "/v1/logs", &logs(0..3)), 200);
    assert!(agent.service().terminate().success());
    let written = std::fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    let request: serde_json::Value = serde_json::from_str(written.trim_end()).unwrap();
    let records = &request["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    assert_eq!(records.as_array().unwrap().len(), 3);
    assert_eq!(records[2]["body"]["stringValue"], "order 2");
    assert!(agent.service().output().contains("order 2"));
}

/// Runs `tidegate` to its end with `config`; exit code and output.
fn run(command: &str, config: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, config).unwrap();
    let mut invocation = Command::new(binary("tidegate"));
    invocation.arg(command).arg("--config").arg(&path);
    let mut service = Service::start("tidegate", &mut invocation, folder.path());
    let status = service.wait();
    (status.code(), service.output())
}

#[test]
fn every_mistake_in_a_configuration_is_reported_at_once() {
    let wrong = "[receivers.otlp.protocols.htttp]\n[exporters.clikhouse]\nendpoint = 7\n\
                 [service.pipelines.traces]\nreceivers = [\"otlp\"]\nexporters = [\"nowhere\"]\n";
    for command in ["validate", "run"] {
        let (code, output) = run(command, wrong);
        assert_eq!(code, Some(78), "{output}");
        for expected in [
            "wrong.toml:1:",
            "wrong.toml:2:",
            "wrong.toml:6:",
            "`http`",
            "`clickhouse`",
            "nowhere",
        ] {
            assert!(output.contains(expected), "{expected} not in\n{output}");
        }
    }
}

#[test]
fn a_tap_on_what_is_not_there_says_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = config("[exporters.debug]\n", "\"debug\"");
    std::fs::write(folder.path().join("agent.toml"), text).unwrap();
    let mut command = Command::new(binary("tidegate"));
    command
        .args(["run", "--config", "agent.toml"])
        .env("RUNTIME_DIRECTORY", folder.path())
        .current_dir(folder.path());
    let mut agent = Service::start("agent", &mut command, folder.path());
    agent.wait_for(&["everything is ready"]);
    let check = |arguments: &[&str], expected: &str| {
        let mut tap = Command::new(binary("tidegate"));
        tap.args(["tap", "--endpoint", "unix:admin.sock"])
            .args(arguments)
            .current_dir(folder.path());
        let answer = tap.output().unwrap();
        let told = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(answer.status.code(), Some(1), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    check(&["nope"], "there is no pipeline `nope`: ");
    let exporters = ["traces", "--at", "exporters", "--exporter", "nope"];
    check(&exporters, "`traces` has no exporter `nope`: debug");
    assert!(agent.terminate().success());
}

#[test]
fn commands_at_a_locked_door_say_which_key_they_lack() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../agent/tests/otlp_receiver/certs"
    );
    std::fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    let text = config("[exporters.debug]\n", "\"debug\"")
        + &format!(
            "[extensions.bearertokenauth]\nfilename = 'token'\n[service]\nextensions = ['bearertokenauth']\n\
             [service.admin]\nendpoint = '127.0.0.1:0'\nauth = {{ authenticator = 'bearertokenauth' }}\n\
             tls = {{ cert_file = '{certificates}/server.crt', key_file = '{certificates}/server.key' }}\n"
        );
    std::fs::write(folder.path().join("agent.toml"), text).unwrap();
    let mut command = Command::new(binary("tidegate"));
    command
        .args(["run", "--config", "agent.toml"])
        .current_dir(folder.path());
    let mut agent = Service::start("agent", &mut command, folder.path());
    let address = agent.address(&["commands are taken"]).to_string();
    agent.wait_for(&["everything is ready"]);
    let check = |options: &[&str], code: i32, expected: &str| {
        let mut reload = Command::new(binary("tidegate"));
        reload
            .args(["reload", "--endpoint", &address])
            .args(options)
            .env_remove("TIDEGATE_TOKEN")
            .current_dir(folder.path());
        let answer = reload.output().unwrap();
        let told = String::from_utf8([answer.stdout, answer.stderr].concat()).unwrap();
        assert_eq!(answer.status.code(), Some(code), "{options:?}: {told}");
        assert!(told.contains(expected), "{options:?}: {told}");
    };
    let authority = format!("{certificates}/ca.crt");
    let token = ["--token-file", "token"];
    check(&token, 1, "does it speak TLS? Then --tls");
    check(&["--tls", token[0], token[1]], 1, "; --ca-file FILE has");
    let name = ["--ca-file", &authority, "--server-name", "elsewhere"];
    check(&name, 1, "; --server-name NAME says");
    check(&["--ca-file", &authority], 1, "401");
    let all = ["--ca-file", &authority, token[0], token[1]];
    check(&all, 0, "unchanged");
    assert!(agent.terminate().success());
}

/// In a user namespace of its own the agent has limits of its own.
fn reloads_at_the_limit(limit: &str, sysctl: &str) {
    let folder = tempfile::tempdir().unwrap();
    let text = config("[exporters.debug]\n", "\"debug\"");
    std::fs::write(folder.path().join("agent.toml"), &text).unwrap();
    let script = format!("echo 0 >/proc/sys/user/{limit} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", &script, "sh"])
        .arg(binary("tidegate"))
        .args(["run", "--config", "agent.toml"])
        .env("RUNTIME_DIRECTORY", folder.path())
        .current_dir(folder.path());
    let mut agent = Service::start("agent", &mut command, folder.path());
    agent.wait_for(&["WARN", "are not noticed", sysctl, "SIGHUP"]);
    agent.wait_for(&["everything is ready"]);
    let write = |time: &str| {
        let text = format!("{text}\n[service]\ndrain_timeout = '{time}'\n");
        std::fs::write(folder.path().join("agent.toml"), text).unwrap();
    };
    write("7s");
    agent.signal("HUP");
    agent.wait_for(&["configuration reloaded", "SIGHUP"]);
    write("8s");
    let mut ask = Command::new(binary("tidegate"));
    let ask = ask
        .args(["reload", "--endpoint", "unix:admin.sock"])
        .current_dir(folder.path());
    let answer = ask.output().unwrap();
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.contains("service.drain_timeout"), "{answer}");
    assert_eq!(agent.output().matches("are not noticed").count(), 1);
    assert!(agent.terminate().success());
}

#[test]
fn at_the_limits_of_inotify_reloads_work_when_asked_for() {
    let own = Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .status();
    if !own.is_ok_and(|status| status.success()) {
        // Not captured by the test runner, unlike `eprintln!`.
        let why = "SKIP: no user namespaces here: the limits of inotify were not tested";
        writeln!(std::io::stderr(), "{why}").unwrap();
        return;
    }
    reloads_at_the_limit("max_inotify_instances", "fs.inotify.max_user_instances");
    reloads_at_the_limit("max_inotify_watches", "fs.inotify.max_user_watches");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = config("[exporters.debug]\n", "\"debug\"").replacen("127.0.0.1:0", &address, 1);
    let (code, output) = run("run", &text);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&address), "{output}");
}

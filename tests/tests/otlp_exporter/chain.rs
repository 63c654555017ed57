//! Agents in a chain: what one refuses, the other keeps and sends again. Nothing is lost, nothing comes twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use e2e::{Agent, eventually, post};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;

/// Retries that come soon, so that tests are short.
const EAGER: &str = "retry_on_failure = { initial_interval = \"20ms\", max_interval = \"100ms\" }";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    const BOTH: [Self; 2] = [Self::Grpc, Self::Http];

    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

fn request(numbers: std::ops::Range<u32>) -> Vec<u8> {
    let record = |number: u32| LogRecord {
        time_unix_nano: 1,
        body: Some(AnyValue {
            value: Some(Value::StringValue(format!("item {number}"))),
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

/// Sends `count` requests of ten items each, from `first` on, over HTTP.
fn send(agent: &mut Agent, first: u32, count: u32) {
    let url = format!("{}/v1/logs", agent.otlp_http());
    for number in first..first + count {
        let body = request(number * 10..number * 10 + 10);
        let answer = post(&url, &[("content-type", "application/x-protobuf")], &body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// An agent in `folder/name` that takes logs and has them go to `exporters`, tables of TOML.
fn start(folder: &Path, name: &str, receiver: &str, processors: &str, exporter: &str) -> Agent {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    let (kind, table) = exporter.split_once('\n').unwrap();
    let names: Vec<_> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("[processors.")?.strip_suffix(']'))
        .map(|name| format!("\"{name}\""))
        .collect();
    let config = format!(
        "{receiver}\n{processors}\n[exporters.{kind}]\n{table}\n\
         [service]\ndrain_timeout = \"5s\"\n\
         [service.telemetry.metrics]\naddress = \"127.0.0.1:0\"\n\
         [service.pipelines.logs]\nreceivers = [\"otlp\"]\nprocessors = [{}]\nexporters = [\"{kind}\"]\n",
        names.join(", ")
    );
    Agent::start(&folder, &config)
}

fn receiver(protocol: Protocol, port: u16) -> String {
    format!(
        "[receivers.otlp.protocols.{}]\nendpoint = \"127.0.0.1:{port}\"",
        protocol.name()
    )
}

/// An exporter to an agent on `port`.
fn exporter(protocol: Protocol, port: u16, more: &str) -> String {
    format!(
        "otlp_{}\nendpoint = \"http://127.0.0.1:{port}\"\ntimeout = \"30s\"\n{EAGER}\n{more}",
        protocol.name()
    )
}

const TO_FILE: &str = "file\npath = \"out.jsonl\"";

/// The agent that clients send to.
fn first_agent(folder: &Path, protocol: Protocol, port: u16) -> Agent {
    let exporter = exporter(protocol, port, "");
    start(folder, "a", &receiver(Protocol::Http, 0), "", &exporter)
}

/// Waits until the file has `items` items, and checks that each came once.
fn verify(file: &Path, items: u32) {
    let seen = eventually(&format!("{items} items in {}", file.display()), || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for part in text.split("\"item ").skip(1) {
            let number = part.split('"').next().unwrap_or_default();
            *seen.entry(number.to_owned()).or_default() += 1;
        }
        (seen.len() >= items as usize).then_some(seen)
    });
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "came twice: {twice:?}");
    assert_eq!(seen.len(), items as usize);
}

/// What the agent has given up, which should be nothing.
fn dropped(agent: &mut Agent) -> Vec<String> {
    let metrics = agent.metrics();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("tidegate_ledger_dropped_items") && !line.ends_with(" 0"));
    lines.map(str::to_owned).collect()
}

/// Waits until something was refused.
fn eventually_retries(agent: &mut Agent) {
    eventually("a refusal", || {
        let metrics = agent.metrics();
        let retried = metrics.lines().any(|line| {
            line.starts_with("tidegate_exporter_attempts")
                && line.contains("retry")
                && !line.ends_with(" 0")
        });
        retried.then_some(())
    });
}

#[test]
fn an_agent_that_is_away_gets_everything_when_it_is_back() {
    for protocol in Protocol::BOTH {
        let folder = tempfile::tempdir().unwrap();
        let port = e2e::reserved_address().port();
        let mut first = first_agent(folder.path(), protocol, port);
        send(&mut first, 0, 30);
        let mut second = start(folder.path(), "b", &receiver(protocol, port), "", TO_FILE);
        send(&mut first, 30, 30);
        let file = folder.path().join("b/out.jsonl");
        verify(&file, 600);
        // And once more: it stops in order while data comes, and another takes its place.
        send(&mut first, 60, 10);
        assert!(second.service().terminate().success());
        send(&mut first, 70, 10);
        let _second = start(folder.path(), "b", &receiver(protocol, port), "", TO_FILE);
        verify(&file, 800);
        assert_eq!(dropped(&mut first), Vec::<String>::new());
        assert!(first.service().terminate().success());
    }
}

/// However the first agent ends, what it had taken is sent by its successor, once.
#[test]
fn a_queue_on_disk_outlives_every_end() {
    let folder = tempfile::tempdir().unwrap();
    let port = e2e::reserved_address().port();
    let queue = "sending_queue = { storage = \"wal\", directory = \"queue\" }";
    let first_agent = || {
        let exporter = exporter(Protocol::Http, port, queue);
        start(
            folder.path(),
            "a",
            &receiver(Protocol::Http, 0),
            "",
            &exporter,
        )
    };
    let mut ended = first_agent();
    send(&mut ended, 0, 10);
    let status = ended.service().terminate();
    let told = ended.service().output();
    assert!(status.success() && told.contains("stays"), "{told}");

    let mut ended = first_agent();
    send(&mut ended, 10, 10);
    ended.service().signal("TERM");
    ended.service().wait_for(&["stopping"]);
    ended.service().signal("TERM");
    ended.service().wait();
    let told = ended.service().output();
    assert!(told.contains("second signal"), "{told}");

    let mut ended = first_agent();
    send(&mut ended, 20, 10);
    ended.service().signal("KILL");
    ended.service().wait();

    let _second = start(
        folder.path(),
        "b",
        &receiver(Protocol::Http, port),
        "",
        TO_FILE,
    );
    let mut last = first_agent();
    send(&mut last, 30, 10);
    verify(&folder.path().join("b/out.jsonl"), 400);
    assert!(last.service().terminate().success());
}

#[test]
fn what_a_full_queue_refuses_is_kept_and_sent_again() {
    for protocol in Protocol::BOTH {
        let folder = tempfile::tempdir().unwrap();
        let (port, last_port) = (
            e2e::reserved_address().port(),
            e2e::reserved_address().port(),
        );
        // Its destination is away: it takes three batches and refuses the rest.
        let small = "sending_queue = { queue_size = 2, num_consumers = 1 }";
        let exporter = exporter(protocol, last_port, small);
        let mut second = start(folder.path(), "b", &receiver(protocol, port), "", &exporter);
        let mut first = first_agent(folder.path(), protocol, port);
        send(&mut first, 0, 40);
        eventually_retries(&mut first);
        let _last = start(
            folder.path(),
            "c",
            &receiver(protocol, last_port),
            "",
            TO_FILE,
        );
        verify(&folder.path().join("c/out.jsonl"), 400);
        assert_eq!(dropped(&mut first), Vec::<String>::new());
        assert_eq!(dropped(&mut second), Vec::<String>::new());
    }
}

#[test]
fn what_the_memory_limiter_refuses_is_kept_and_sent_again() {
    for protocol in Protocol::BOTH {
        let folder = tempfile::tempdir().unwrap();
        let port = e2e::reserved_address().port();
        let mut first = first_agent(folder.path(), protocol, port);
        // No process is that small: it refuses everything.
        let limiter = "[processors.memory_limiter]\ncheck_interval = \"50ms\"\nlimit_mib = 2";
        let receiver = receiver(protocol, port);
        let mut second = start(folder.path(), "b", &receiver, limiter, TO_FILE);
        send(&mut first, 0, 20);
        eventually_retries(&mut first);
        assert!(second.service().terminate().success());
        let _second = start(folder.path(), "b", &receiver, "", TO_FILE);
        verify(&folder.path().join("b/out.jsonl"), 200);
        assert_eq!(dropped(&mut first), Vec::<String>::new());
    }
}

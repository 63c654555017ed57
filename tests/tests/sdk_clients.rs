//! The official Python and JavaScript SDKs send to the agent unchanged: every signal, over every protocol they speak.
//!
//! Their packages are installed once under `target/sdk-clients`, in the versions that `tests/clients` pins.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::sdk::{clients, javascript, python, run};
use e2e::{Agent, eventually};
use serde_json::Value;

/// What each client sends.
const SPANS: usize = 20;
const RECORDS: usize = 15;

/// Every object anywhere in `value` that stands in an array named `name`.
fn items<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::Array(elements) if key == name => found.extend(elements),
                    _ => items(member, name, found),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|value| items(value, name, found)),
        _ => {}
    }
}

/// The lines of the file that carry this service's name.
fn lines_of(file: &Path, service: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    // The last line may still be being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter(|line| line.contains(&format!("\"{service}\"")))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn all<'v>(lines: &'v [Value], name: &str) -> Vec<&'v Value> {
    let mut found = Vec::new();
    lines.iter().for_each(|line| items(line, name, &mut found));
    found
}

fn verify(file: &Path, service: &str) {
    let lines = eventually(&format!("all of {service}"), || {
        let lines = lines_of(file, service);
        let complete = all(&lines, "spans").len() >= SPANS
            && all(&lines, "logRecords").len() >= RECORDS
            && all(&lines, "dataPoints").len() >= 2;
        complete.then_some(lines)
    });
    let names = |name: &str| -> Vec<String> {
        let found = all(&lines, name).into_iter();
        let mut names: Vec<_> = found
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut expected: Vec<_> = (0..SPANS).map(|number| format!("span {number}")).collect();
    expected.sort();
    assert_eq!(names("spans"), expected, "{service}");
    let metrics = names("metrics");
    assert!(metrics.contains(&"requests".to_owned()), "{metrics:?}");
    assert!(metrics.contains(&"duration".to_owned()), "{metrics:?}");
    let records = all(&lines, "logRecords");
    assert_eq!(records.len(), RECORDS, "{service}");
    let mut bodies: Vec<_> = records
        .iter()
        .map(|record| record["body"]["stringValue"].as_str().unwrap().to_owned())
        .collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), RECORDS, "{service}");
    let text = serde_json::to_string(&lines).unwrap();
    assert!(text.contains("grüße, 世界"), "{service}");
    for span in all(&lines, "spans") {
        assert_eq!(span["traceId"].as_str().unwrap().len(), 32, "{span}");
        assert_eq!(span["events"][0]["name"], "event", "{span}");
    }
}

struct Setup {
    agent: Agent,
    folder: tempfile::TempDir,
}

impl Setup {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = |signal: &str| {
            format!(
                "[service.pipelines.{signal}]\nreceivers = [\"otlp\"]\nexporters = [\"file\"]\n"
            )
        };
        let config = format!(
            "[receivers.otlp.protocols.grpc]\nendpoint = \"127.0.0.1:0\"\n\
             [receivers.otlp.protocols.http]\nendpoint = \"127.0.0.1:0\"\n\
             [exporters.file]\npath = \"out.jsonl\"\n\
             [service.telemetry.metrics]\naddress = \"127.0.0.1:0\"\n{}{}{}",
            pipeline("traces"),
            pipeline("metrics"),
            pipeline("logs")
        );
        let agent = Agent::start(folder.path(), &config);
        Self { agent, folder }
    }

    fn endpoint(&mut self, protocol: &str) -> String {
        match protocol {
            "grpc" => self.agent.otlp_grpc(),
            _ => self.agent.otlp_http(),
        }
    }

    fn verify(&self, service: &str) {
        verify(&self.folder.path().join("out.jsonl"), service);
    }
}

#[test]
fn the_python_sdk_sends_everything() {
    let python = python();
    let mut setup = Setup::start();
    for (protocol, compression) in [
        ("grpc", "none"),
        ("grpc", "gzip"),
        ("http", "none"),
        ("http", "gzip"),
    ] {
        let service = format!("python-{protocol}-{compression}");
        run(Command::new(&python)
            .arg(clients().join("python/send.py"))
            .args([protocol, &setup.endpoint(protocol), compression, &service]));
        setup.verify(&service);
    }
}

#[test]
fn the_javascript_sdk_sends_everything() {
    let packages = javascript();
    let mut setup = Setup::start();
    for protocol in ["grpc", "http/protobuf", "http/json"] {
        for compression in ["none", "gzip"] {
            let service = format!("js-{}-{compression}", protocol.replace('/', "-"));
            run(Command::new("node")
                .env("NODE_PATH", &packages)
                .arg(clients().join("js/send.js"))
                .args([protocol, &setup.endpoint(protocol), compression, &service]));
            setup.verify(&service);
        }
    }
}

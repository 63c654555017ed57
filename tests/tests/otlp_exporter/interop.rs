//! The official SDK sends to the agent, and the agent to a server of the official packages: gRPC's own, and Python's HTTP.

use std::process::Command;

use e2e::sdk::{clients, python, run};
use e2e::{Agent, Service, eventually};
use serde_json::Value;

const SPANS: usize = 20;
const RECORDS: usize = 15;

fn config(grpc: u64, http: u64, compression: &str) -> String {
    let eager = "retry_on_failure = { initial_interval = \"10ms\", max_interval = \"50ms\" }";
    let pipelines: String = ["traces", "metrics", "logs"]
        .map(|signal| {
            format!(
                "[service.pipelines.{signal}]\nreceivers = [\"otlp\"]\nprocessors = [\"batch\"]\n\
                 exporters = [\"otlp_grpc\", \"otlp_http\"]\n"
            )
        })
        .concat();
    format!(
        "[receivers.otlp.protocols.grpc]\nendpoint = \"127.0.0.1:0\"\n\
         [processors.batch]\n\
         [exporters.otlp_grpc]\nendpoint = \"http://127.0.0.1:{grpc}\"\ncompression = \"{compression}\"\n\
         headers = {{ x-tenant = \"a\" }}\n{eager}\n\
         [exporters.otlp_http]\nendpoint = \"http://127.0.0.1:{http}\"\ncompression = \"{compression}\"\n\
         headers = {{ x-tenant = \"a\" }}\n{eager}\n\
         [service.telemetry.metrics]\naddress = \"127.0.0.1:0\"\n{pipelines}"
    )
}

/// What arrived by `protocol`: the requests of `signal`, and their items in order.
fn arrived(output: &str, protocol: &str, signal: &str) -> (Vec<Value>, Vec<String>) {
    let lines = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let requests: Vec<Value> = lines
        .filter(|line| line["protocol"] == protocol && line["signal"] == signal)
        .collect();
    let names = requests
        .iter()
        .flat_map(|request| request["items"].as_array().unwrap());
    let mut names: Vec<String> = names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    names.sort();
    (requests, names)
}

#[test]
fn the_official_servers_get_everything_once() {
    let python = python();
    for compression in ["none", "gzip"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(&python);
        command.arg(clients().join("python/receive.py"));
        let mut server = Service::start("receiver", &mut command, folder.path());
        let ports: Value = serde_json::from_str(&server.wait_for(&["grpc", "http"])).unwrap();
        let (grpc, http) = (&ports["grpc"], &ports["http"]);
        let config = config(grpc.as_u64().unwrap(), http.as_u64().unwrap(), compression);
        let mut agent = Agent::start(folder.path(), &config);
        run(Command::new(&python)
            .arg(clients().join("python/send.py"))
            .args(["grpc", &agent.otlp_grpc(), "none", "interop"]));
        for protocol in ["grpc", "http"] {
            eventually("everything", || {
                let output = server.output();
                let count = |signal| arrived(&output, protocol, signal).1.len();
                let complete =
                    count("traces") >= SPANS && count("logs") >= RECORDS && count("metrics") >= 2;
                complete.then_some(())
            });
            let output = server.output();
            let (requests, spans) = arrived(&output, protocol, "traces");
            let mut expected: Vec<_> = (0..SPANS).map(|number| format!("span {number}")).collect();
            expected.sort();
            assert_eq!(spans, expected, "{protocol} {compression}");
            let (_, mut records) = arrived(&output, protocol, "logs");
            assert_eq!(records.len(), RECORDS);
            records.dedup();
            assert_eq!(records.len(), RECORDS);
            let (_, metrics) = arrived(&output, protocol, "metrics");
            assert!(metrics.contains(&"requests".to_owned()), "{metrics:?}");
            for request in requests {
                assert_eq!(request["tenant"], "a");
                assert_eq!(request["services"], serde_json::json!(["interop"]));
            }
        }
        // The first request of each kind was refused with a hint.
        let metrics = agent.metrics();
        let retries = metrics
            .lines()
            .filter(|line| line.starts_with("tidegate_exporter_attempts") && line.contains("retry"))
            .filter(|line| !line.ends_with(" 0"))
            .count();
        assert_eq!(retries, 6, "{metrics}");
        assert!(agent.service().terminate().success());
    }
}

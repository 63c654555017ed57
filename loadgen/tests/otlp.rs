//! `loadgen otlp` and `loadgen sink` as a user runs them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// A sink process, killed when dropped.
struct Sink {
    child: Child,
    out: BufReader<ChildStdout>,
    addresses: serde_json::Value,
}

impl Sink {
    fn start() -> Self {
        let mut command = Command::new(LOADGEN);
        command.args([
            "sink",
            "--count",
            "--otlp-http",
            "127.0.0.1:0",
            "--otlp-grpc",
            "127.0.0.1:0",
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        Self {
            child,
            out,
            addresses: serde_json::from_str(&line).unwrap(),
        }
    }

    fn address(&self, name: &str) -> String {
        self.addresses[name].as_str().unwrap().to_owned()
    }

    /// Asks it to stop and returns what it says at its end.
    fn stop(mut self) -> serde_json::Value {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("/bin/kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        serde_json::from_str(&rest).unwrap()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn what_is_sent_is_what_the_sink_reports() {
    let sink = Sink::start();
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("result.json");
    for (protocol, signal) in [("http", "traces"), ("grpc", "logs"), ("http", "metrics")] {
        let mut command = Command::new(LOADGEN);
        command.args([
            "otlp",
            &sink.address(&format!("otlp_{protocol}")),
            "-p",
            protocol,
            "-s",
            signal,
        ]);
        command
            .args(["-n", "1050", "-b", "100", "--pool", "8", "--json"])
            .arg(&json);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("accepted   1050") && text.contains("generator"),
            "{text}"
        );
        let result: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!(
            (&result["sent"]["items"], &result["sent"]["requests"]),
            (&1050.into(), &11.into())
        );
        assert_eq!(result["accepted"], result["sent"]);
        assert_eq!(result["payload"]["signal"], signal);
        assert!(result["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
    }
    let stats = sink.stop();
    for kind in ["traces over HTTP", "logs over gRPC", "metrics over HTTP"] {
        assert_eq!(stats["otlp"][kind]["items"], 1050, "{stats}");
    }
}

#[test]
fn nothing_accepted_is_a_failure() {
    let sink = Sink::start();
    let address = sink.address("otlp_http");
    drop(sink);
    let output = Command::new(LOADGEN)
        .args(["otlp", &address, "-n", "10", "-b", "10"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("failed     10 spans, 1 requests: connect"),
        "{text}"
    );
}

#[test]
fn unique_items_cannot_be_had_from_a_small_compressed_pool() {
    let output = Command::new(LOADGEN)
        .args(["otlp", "127.0.0.1:1", "-c", "gzip", "--unique", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("sent as built")
    );
}

#[test]
fn wrong_usage_is_told_at_once() {
    let check = |args: &[&str], part: &str| {
        let output = Command::new(LOADGEN)
            .arg("otlp")
            .args(args)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "`{part}` is missing in {stderr}");
    };
    check(&["nonsense"], "write host:port");
    check(&["ftp://127.0.0.1:1"], "only http and https");
    check(
        &["127.0.0.1:1", "-d", "0s"],
        "--duration must be more than 0",
    );
    check(
        &["127.0.0.1:1", "--timeout", "0s"],
        "--timeout must be more than 0",
    );
}

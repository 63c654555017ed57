//! `loadgen otlp` and `loadgen sink` as a user runs them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
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
    let progress = dir.path().join("progress.json");
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
            .args(["-n", "1050", "-b", "100", "--json"])
            .arg(&json)
            .arg("--progress")
            .arg(&progress);
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
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&progress).unwrap()).unwrap();
        assert_eq!(
            (&told["sent"], &told["accepted"]),
            (&1050.into(), &1050.into())
        );
        assert_eq!(result["payload"]["signal"], signal);
        // Not more than are sent, though the pool may have 64.
        assert_eq!(result["payload"]["requests"], 11);
        let in_time = result["accepted_in_time"]["items"].as_f64().unwrap();
        let rate = in_time / result["load_seconds"].as_f64().unwrap();
        let told = result["items_per_second"].as_f64().unwrap();
        assert!((rate / told - 1.0).abs() < 1e-6, "{result}");
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
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record.json");
    let output = Command::new(LOADGEN)
        .args(["otlp", &address, "-n", "10", "-b", "10", "--record"])
        .arg(&record)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    // What could not be sent was not sent, and has no latency.
    assert!(text.contains("sent       0 spans, 0 requests"), "{text}");
    assert!(
        text.contains("latency    none: nothing was accepted"),
        "{text}"
    );
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let metrics = record["metrics"].as_array().unwrap();
    let value = |name: &str| {
        let found = metrics.iter().find(|it| it["name"] == name);
        found.map(|it| it["values"][0].as_f64().unwrap())
    };
    assert_eq!(
        (
            value("items_sent"),
            value("items_unsent"),
            value("items_failed")
        ),
        (Some(0.0), Some(10.0), None)
    );
    assert_eq!(
        (value("requests_unsent"), value("error_rate")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(value("latency_p99"), None);
    assert!(
        text.contains("not sent   10 spans, 1 requests: connect: connection refused"),
        "{text}"
    );
}

/// Takes requests on one connection, whatever they are; asks the client with `signal` to end when the first has come.
fn take_and_interrupt(listener: &TcpListener, client: &Child, signal: &str) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut asked = false;
    loop {
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|it| it > 0) && line != "\r\n" {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if line.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        if !asked {
            asked = true;
            let pid = client.id().to_string();
            let kill = Command::new("/bin/kill").args([signal, &pid]).status();
            assert!(kill.unwrap().success());
        }
        // When the client is gone, nobody listens.
        drop((&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    }
}

#[test]
fn an_interrupted_run_has_no_verdict() {
    for signal in ["-INT", "-TERM"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("record.json");
        let child = Command::new(LOADGEN)
            .args([
                "otlp",
                &address,
                "-d",
                "600s",
                "-b",
                "5",
                "--connections",
                "1",
            ])
            .arg("--record")
            .arg(&record)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        take_and_interrupt(&listener, &child, signal);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("NO VERDICT: interrupted before its end"),
            "{text}"
        );
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        assert_eq!(record["passed"], false);
        assert_eq!(record["interrupted"], true);
        assert_eq!(record["no_verdict"], "interrupted before its end");
    }
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
    // Told before anything is built: this would take minutes.
    check(
        &["127.0.0.1:1", "--attribute-size", "1000000"],
        "use a smaller --batch-size or --attribute-size",
    );
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

//! Looking inside of a running agent: health of pipelines, pages, profiles, and what a reload makes of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{Agent, PATIENCE, eventually, get, post};
use prost::Message;
use serde_json::Value;

/// A destination that takes everything, or nothing.
struct Sink {
    address: SocketAddr,
    takes: Arc<AtomicBool>,
}

impl Sink {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let takes = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&takes);
        // Ends with the process: nobody can connect any more then.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let status = match told.load(Ordering::Relaxed) {
                    true => "200 OK",
                    false => "503 Service Unavailable",
                };
                // Who goes away before the answer has none.
                drop(answer(stream, status));
            }
        });
        Self { address, takes }
    }
}

fn answer(mut stream: TcpStream, status: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
        if read == 0 || is_complete(&request) {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    let body = request
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    request.len() >= body + length
}

fn config(sink: &Sink, also: &str) -> String {
    format!(
        r#"
[receivers.otlp.protocols.http]
endpoint = "127.0.0.1:0"
[exporters.otlp_http]
endpoint = "http://{}"
compression = "none"
headers = {{ authorization = "Bearer hunter2" }}
retry_on_failure = {{ initial_interval = "50ms", max_interval = "50ms" }}
[extensions.health_check]
use_v2 = true
http = {{ endpoint = "127.0.0.1:0", config.enabled = true }}
component_health = {{ include_recoverable_errors = true, recovery_duration = "300ms" }}
[extensions.zpages]
endpoint = "127.0.0.1:0"
[extensions.pprof]
endpoint = "127.0.0.1:0"
heap_sample_bytes = 1024
[service]
extensions = ["health_check", "zpages", "pprof"]
telemetry.metrics.address = "127.0.0.1:0"
[service.pipelines.logs]
receivers = ["otlp"]
exporters = ["otlp_http"]
{also}"#,
        sink.address
    )
}

const ALSO: &str = "[exporters.debug]\n[service.pipelines.traces]\nreceivers = [\"otlp\"]\nexporters = [\"debug\"]\n";

fn send(agent: &mut Agent, path: &str) -> u16 {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    let body = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![LogRecord::default()],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    let url = format!("{}{path}", agent.otlp_http());
    let headers = [("content-type", "application/x-protobuf")];
    post(&url, &headers, &body.encode_to_vec()).unwrap().status
}

struct Inside {
    agent: Agent,
    health: SocketAddr,
    pages: SocketAddr,
    profiles: SocketAddr,
}

fn start(folder: &Path, sink: &Sink) -> Inside {
    let mut agent = Agent::start(folder, &config(sink, ALSO));
    let service = agent.service();
    let health = service.address(&["health check listens"]);
    let pages = service.address(&["pages are served"]);
    let profiles = service.address(&["profiles are served"]);
    Inside {
        agent,
        health,
        pages,
        profiles,
    }
}

impl Inside {
    fn status(&self, query: &str) -> (u16, Value) {
        let found = get(&format!("http://{}/status{query}", self.health)).unwrap();
        let body = serde_json::from_str(&found.body).unwrap_or_default();
        (found.status, body)
    }

    fn page(&self, path: &str) -> String {
        let found = get(&format!("http://{}{path}", self.pages)).unwrap();
        assert_eq!(found.status, 200, "{path}");
        found.body
    }
}

#[test]
fn a_destination_that_goes_away_and_comes_back_shows_in_its_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut inside = start(folder.path(), &sink);
    assert_eq!(send(&mut inside.agent, "/v1/logs"), 200);
    let (code, body) = inside.status("?verbose");
    assert_eq!((code, &body["status"]), (200, &"StatusOK".into()), "{body}");
    sink.takes.store(false, Ordering::Relaxed);
    assert_eq!(send(&mut inside.agent, "/v1/logs"), 200);
    let body = eventually("the pipeline to be unhealthy", || {
        let (code, body) = inside.status("?pipeline=logs&verbose");
        (code == 500).then_some(body)
    });
    assert_eq!(body["status"], "StatusRecoverableError");
    let exporter = &body["components"]["exporter:otlp_http"];
    assert!(
        exporter["error"].as_str().unwrap().contains("503"),
        "{body}"
    );
    assert_eq!(body["components"]["receiver:otlp"]["healthy"], true);
    assert_eq!(inside.status("").0, 500);
    assert_eq!(inside.status("?pipeline=traces").0, 200);
    let page = inside.page("/debug/pipelinez");
    assert!(
        page.contains("RecoverableError") && page.contains("503"),
        "{page}"
    );
    let failed = inside.page("/debug/tracez?zspanname=exporter+otlp_http+logs+send&ztype=2");
    assert!(failed.contains("503"), "{failed}");
    sink.takes.store(true, Ordering::Relaxed);
    eventually("the pipeline to be healthy again", || {
        let (code, body) = inside.status("?pipeline=logs");
        (code == 200 && body["status"] == "StatusOK").then_some(())
    });
    assert!(inside.agent.service().terminate().success());
}

#[test]
fn what_a_reload_removes_is_gone_from_health_and_metrics_and_what_it_refuses_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut inside = start(folder.path(), &sink);
    assert!(inside.agent.metrics().contains("exporter=\"debug\""));
    assert!(inside.page("/debug/pipelinez").contains("<h2>traces</h2>"));
    let written = folder.path().join("agent.toml");
    fs::write(&written, config(&sink, "")).unwrap();
    inside.agent.service().signal("HUP");
    eventually("the metrics of the exporter to be gone", || {
        let metrics = inside.agent.metrics();
        let is_gone =
            !metrics.contains("exporter=\"debug\"") && !metrics.contains("pipeline=\"traces\"");
        (is_gone && metrics.contains("exporter=\"otlp_http\"")).then_some(())
    });
    let (code, body) = inside.status("?verbose");
    assert_eq!(
        (code, &body["last_reload"]["outcome"]),
        (200, &"reloaded".into()),
        "{body}"
    );
    assert!(body["components"]["pipeline:logs"].is_object(), "{body}");
    assert!(
        body["components"].get("pipeline:traces").is_none(),
        "{body}"
    );
    assert_eq!(inside.status("?pipeline=traces").0, 404);
    fs::write(&written, "[receivers.otlp]\nprotocol = 1\n").unwrap();
    inside.agent.service().signal("HUP");
    let problems = eventually("the reload to be refused", || {
        let (_, mut body) = inside.status("");
        let refused = body["last_reload"]["outcome"] == "refused";
        refused.then(|| body["last_reload"]["problems"].take())
    });
    assert!(!problems.as_array().unwrap().is_empty());
    assert_eq!(inside.status("").0, 200);
    assert!(inside.page("/debug/servicez").contains("refused"));
    // It runs as before, and its secrets stay with it.
    for text in [
        inside.page("/debug/configz"),
        get(&format!("http://{}/config", inside.health))
            .unwrap()
            .body,
    ] {
        assert!(
            text.contains("otlp_http") && !text.contains("hunter2"),
            "{text}"
        );
    }
    assert!(inside.agent.service().terminate().success());
}

/// A limit on the descriptors of a process, from outside, and the one before.
fn limit_descriptors(id: u32, limit: &str) {
    let set = Command::new("prlimit")
        .args(["--pid", &id.to_string(), &format!("--nofile={limit}:")])
        .status();
    assert!(set.unwrap().success());
}

/// The answer to a request on a connection that is there already.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !is_complete(&answer) {
        let read = stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_receiver_without_descriptors_for_connections_tells_so_until_it_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut inside = start(folder.path(), &sink);
    let receiver = inside.agent.otlp_http().replace("http://", "");
    let id = inside.agent.service().id();
    // Nobody can connect to the health check either, so who asks is there before.
    let mut health = TcpStream::connect(inside.health).unwrap();
    health.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(ask(&mut health, "/status").contains("StatusOK"));
    // None is free below the limit.
    limit_descriptors(id, "3");
    let mut waiting = TcpStream::connect(&receiver).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = eventually("the receiver to be unwell", || {
        let answer = ask(&mut health, "/status?pipeline=logs&verbose");
        answer.starts_with("HTTP/1.1 500").then_some(answer)
    });
    assert!(told.contains("connections are not accepted"), "{told}");
    let body: Value = serde_json::from_str(told.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body["components"]["receiver:otlp"]["status"], "StatusRecoverableError",
        "{body}"
    );
    assert_eq!(
        body["components"]["exporter:otlp_http"]["status"], "StatusOK",
        "{body}"
    );
    limit_descriptors(id, "1024");
    // Who waited is served, and the receiver is well again.
    let answer = ask(&mut waiting, "/nowhere");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    eventually("the receiver to be well again", || {
        let answer = ask(&mut health, "/status?pipeline=logs");
        answer.contains("StatusOK").then_some(())
    });
    let output = inside.agent.service().output();
    let logged = output.matches("connections are not accepted").count();
    assert_eq!(
        logged, 1,
        "once for each time, not for each attempt\n{output}"
    );
    assert!(
        output.contains("connections are accepted again"),
        "{output}"
    );
    assert!(inside.agent.service().terminate().success());
}

/// The part of pprof's format that is looked at.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(bytes, repeated, tag = "2")]
    samples: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
}

fn profile(at: SocketAddr, path: &str) -> Profile {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let body = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    let (head, body) = answer.split_at(body);
    assert!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(body)
        .read_to_end(&mut bytes)
        .unwrap();
    Profile::decode(bytes.as_slice()).unwrap()
}

#[test]
fn profiles_are_those_of_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut inside = start(folder.path(), &sink);
    assert_eq!(send(&mut inside.agent, "/v1/logs"), 200);
    let heap = profile(inside.profiles, "/debug/pprof/heap");
    assert!(!heap.samples.is_empty());
    let has = |found: &Profile, text: &str| found.strings.iter().any(|name| name.contains(text));
    assert!(
        has(&heap, "inuse_space") && has(&heap, "tidegate::"),
        "{:?}",
        heap.strings
    );
    assert!(
        !heap.strings.iter().any(|name| name == "0x0"),
        "a stack ends where its thread began"
    );
    let cpu = profile(inside.profiles, "/debug/pprof/profile?seconds=1");
    assert!(has(&cpu, "nanoseconds"));
    for (path, status) in [
        ("/debug/pprof/", 200),
        ("/debug/pprof/profile?seconds=0", 400),
        ("/debug/pprof/profile?seconds=100000", 400),
        ("/debug/pprof/goroutine", 404),
    ] {
        let found = get(&format!("http://{}{path}", inside.profiles)).unwrap();
        assert_eq!(found.status, status, "{path}");
    }
    assert!(inside.agent.service().terminate().success());
}

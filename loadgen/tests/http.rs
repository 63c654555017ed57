//! `loadgen http` against real servers, as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::Value as Json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::process::Command;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs `loadgen http` with a JSON result. `None` where it wrote none.
async fn loadgen(args: &[&str]) -> (Output, Option<Json>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("http")
        .args(args)
        .arg("--json")
        .arg(&path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, output)
        .await
        .unwrap()
        .unwrap();
    let result = std::fs::read_to_string(path)
        .ok()
        .map(|it| serde_json::from_str(&it).unwrap());
    (output, result)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// An address where nobody listens, and nobody else does while the socket is held.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_closed_loop_sends_exactly_its_requests() {
    let served = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&served);
    let app = Router::new().route(
        "/",
        get(move || async move {
            counter.fetch_add(1, Ordering::Relaxed);
            "hello"
        }),
    );
    let server = Server::start(app).await;
    let (output, result) = loadgen(&[&server.url("/"), "-n", "1000", "-w", "4"]).await;
    assert_eq!(code(&output), 0, "{output:?}");
    let result = result.unwrap();
    assert_eq!(served.load(Ordering::Relaxed), 1000);
    assert_eq!(
        (
            &result["requests"],
            &result["errors"],
            &result["statuses"]["200"]
        ),
        (&1000.into(), &0.into(), &1000.into())
    );
    assert_eq!(
        (&result["mode"], &result["method"]),
        (&"closed".into(), &"GET".into())
    );
    assert_eq!(result["bytes_received"], 5000);
    assert_eq!(result["per_worker"].as_array().unwrap().len(), 4);
    let histogram = result["histograms"]["service"].as_array().unwrap();
    assert_eq!(
        histogram
            .iter()
            .map(|it| it[1].as_u64().unwrap())
            .sum::<u64>(),
        1000
    );
    let text = stdout(&output);
    for part in ["requests", "1,000", "200: 1,000", "p99.9", "service"] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[tokio::test]
async fn connections_are_kept_and_each_request_has_a_trace_parent_of_its_own() {
    let seen = Arc::new(Mutex::new(Vec::<HeaderMap>::new()));
    let keep = Arc::clone(&seen);
    let app = Router::new().route(
        "/add",
        post(move |headers: HeaderMap, body: Bytes| async move {
            keep.lock().unwrap().push(headers);
            body
        }),
    );
    let server = Server::start(app).await;
    let url = server.url("/add");
    let (output, _) = loadgen(&[
        &url,
        "-n",
        "50",
        "-w",
        "2",
        "--vector-size",
        "3",
        "-H",
        "x-test: yes",
    ])
    .await;
    assert_eq!(code(&output), 0, "{output:?}");
    let headers = seen.lock().unwrap().clone();
    assert_eq!(headers.len(), 50);
    let mut parents: Vec<_> = headers
        .iter()
        .map(|it| it["traceparent"].to_str().unwrap().to_owned())
        .collect();
    assert!(
        parents
            .iter()
            .all(|it| it.starts_with("00-") && it.ends_with("-01") && it.len() == 55)
    );
    parents.sort();
    parents.dedup();
    assert_eq!(parents.len(), 50);
    assert!(
        headers
            .iter()
            .all(|it| it["x-test"] == "yes" && it["content-type"] == "application/json")
    );

    let (output, _) = loadgen(&[&url, "-n", "1", "--body", "x", "--trace-context=false"]).await;
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(
        !seen
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .contains_key("traceparent")
    );
}

#[tokio::test]
async fn an_open_loop_shows_a_stall_that_service_time_hides() {
    let start = Arc::new(Mutex::new(None::<Instant>));
    let app = Router::new().route(
        "/",
        get(move || async move {
            // From 300 to 800 ms after the first request nothing is answered.
            let elapsed = start
                .lock()
                .unwrap()
                .get_or_insert_with(Instant::now)
                .elapsed();
            let stall = Duration::from_millis(300)..Duration::from_millis(800);
            if stall.contains(&elapsed) {
                tokio::time::sleep(stall.end - elapsed).await;
            }
            "ok"
        }),
    );
    let server = Server::start(app).await;
    // A busy machine may leave some requests unsent, which is not the point here.
    let args = [
        &server.url("/"),
        "--rate",
        "100",
        "-d",
        "2s",
        "-w",
        "1",
        "--max-error-rate",
        "1",
    ];
    let (output, result) = loadgen(&args).await;
    assert_eq!(code(&output), 0, "{output:?}");
    let result = result.unwrap();
    let figure = |kind: &str, name: &str| result["latency"][kind][name].as_f64().unwrap();
    let count = |name: &str| result[name].as_u64().unwrap();
    assert_eq!(count("requests") + count("unsent"), 200);
    // One request in 200 was slow by itself; a quarter of them fell due in the stall.
    let difference = figure("corrected", "p90") - figure("service", "p90");
    assert!(difference > 100.0, "{result:#}");
    assert!(count("late") >= 30, "{result:#}");
    assert!(stdout(&output).contains("corrected"));
}

#[tokio::test]
async fn a_rate_beyond_the_service_leaves_requests_unsent_and_fails() {
    let app = Router::new().route(
        "/",
        get(|| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            "slow"
        }),
    );
    let server = Server::start(app).await;
    let (output, result) =
        loadgen(&[&server.url("/"), "--rate", "100", "-d", "1s", "-w", "2"]).await;
    assert_eq!(code(&output), 99, "{output:?}");
    let result = result.unwrap();
    let count = |name: &str| result[name].as_u64().unwrap();
    assert_eq!(count("requests") + count("unsent"), 100);
    assert!(count("unsent") >= 70, "{result:#}");
    assert!(stdout(&output).contains("FAILED"));
}

#[tokio::test]
async fn errors_are_tabulated_and_fail_the_run_above_the_limit() {
    let counter = Arc::new(AtomicU64::new(0));
    let app = Router::new().route(
        "/",
        get(move || async move {
            let fails = counter.fetch_add(1, Ordering::Relaxed).is_multiple_of(10);
            if fails {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            }
        }),
    );
    let server = Server::start(app).await;
    for (limit, expected) in [("0.05", 99), ("0.2", 0)] {
        let (output, result) =
            loadgen(&[&server.url("/"), "-n", "100", "--max-error-rate", limit]).await;
        assert_eq!(code(&output), expected, "{output:?}");
        let result = result.unwrap();
        assert_eq!(
            result["statuses"],
            serde_json::json!({"200": 90, "503": 10})
        );
        assert_eq!(
            (&result["errors"], &result["error_rate"]),
            (&10.into(), &0.1.into())
        );
    }
}

#[tokio::test]
async fn a_target_that_is_away_is_a_failure_of_each_request() {
    let (_socket, address) = refusing();
    let (output, result) = loadgen(&[
        &format!("http://{address}/"),
        "-n",
        "5",
        "--max-error-rate",
        "1",
    ])
    .await;
    assert_eq!(code(&output), 99, "nothing succeeded: {output:?}");
    let result = result.unwrap();
    assert_eq!(result["failures"]["connect"]["count"], 5);
    assert!(stdout(&output).contains("connect: 5"));
}

#[tokio::test]
async fn a_silent_target_runs_into_the_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (output, result) = loadgen(&[&url, "-n", "2", "-w", "2", "--timeout", "100ms"]).await;
    assert_eq!(code(&output), 99);
    let result = result.unwrap();
    assert_eq!(result["failures"]["timeout"]["count"], 2);
    assert!(
        result["latency"]["service"]["min"].as_f64().unwrap() >= 99.0,
        "{result:#}"
    );
}

#[tokio::test]
async fn connections_closed_by_the_target_are_remade() {
    let app = Router::new().route("/", get(|| async { ([("connection", "close")], "bye") }));
    let server = Server::start(app).await;
    let (output, result) = loadgen(&[&server.url("/"), "-n", "40", "-w", "2"]).await;
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(result.unwrap()["statuses"]["200"], 40);
}

#[tokio::test]
async fn http2_with_prior_knowledge_works() {
    let app = Router::new().route(
        "/",
        get(|request: axum::extract::Request| async move { format!("{:?}", request.version()) }),
    );
    let server = Server::start(app).await;
    let (output, result) = loadgen(&[&server.url("/"), "-n", "20", "--http2"]).await;
    assert_eq!(code(&output), 0, "{output:?}");
    let result = result.unwrap();
    assert_eq!(
        (&result["protocol"], &result["statuses"]["200"]),
        (&"HTTP/2".into(), &20.into())
    );
    assert_eq!(result["bytes_received"], 20 * "HTTP/2.0".len());
}

#[tokio::test]
async fn warm_up_is_sent_and_not_counted() {
    let served = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&served);
    let app = Router::new().route(
        "/",
        get(move || async move {
            counter.fetch_add(1, Ordering::Relaxed);
        }),
    );
    let server = Server::start(app).await;
    let url = server.url("/");
    let load = ["--rate", "200", "-d", "500ms", "--warm-up", "500ms"];
    let args = [
        &[url.as_str(), "--progress", "--max-error-rate", "1"],
        &load[..],
    ]
    .concat();
    let (output, result) = loadgen(&args).await;
    assert_eq!(code(&output), 0, "{output:?}");
    let result = result.unwrap();
    let count = |name: &str| result[name].as_u64().unwrap();
    assert_eq!(
        (
            count("requests") + count("unsent"),
            count("warm_up_requests")
        ),
        (100, 100)
    );
    assert_eq!(served.load(Ordering::Relaxed), count("requests") + 100);
}

#[tokio::test]
async fn an_interruption_still_prints_the_summary() {
    let app = Router::new().route("/", get(|| async { "ok" }));
    let server = Server::start(app).await;
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args([
            "http",
            &server.url("/"),
            "-d",
            "5m",
            "--rate",
            "100",
            "--progress",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.unwrap();
    let pid = child.id().unwrap().to_string();
    // The first progress line says that the load is under way.
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stderr.take().unwrap()));
    let line = tokio::time::timeout(DEADLINE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        line.contains("of 300 s") && line.contains("requests"),
        "{line}"
    );
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(code(&output), 1, "{output:?}");
    let stdout = stdout(&output);
    assert!(stdout.contains("corrected"), "{stdout}");
    assert!(
        stdout.ends_with("NO VERDICT: interrupted before its end\n"),
        "{stdout}"
    );
}

#[tokio::test]
async fn a_result_that_cannot_be_saved_is_printed_and_fails() {
    let app = Router::new().route("/", get(|| async { "ok" }));
    let server = Server::start(app).await;
    let (_socket, nowhere) = refusing();
    let clickhouse = format!("http://{nowhere}");
    let (output, result) = loadgen(&[
        &server.url("/"),
        "-n",
        "10",
        "--save",
        "--clickhouse",
        &clickhouse,
    ])
    .await;
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stdout(&output).contains("200: 10"));
    assert_eq!(result.unwrap()["requests"], 10);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot save the result in ClickHouse at"),
        "{stderr}"
    );
}

#[tokio::test]
async fn wrong_usage_is_explained() {
    for (args, part) in [
        (vec!["ftp://127.0.0.1/"], "must start with http://"),
        (vec!["nonsense"], "write `http://nonsense`"),
        (
            vec!["127.0.0.1:8080/a?b=c"],
            "write `http://127.0.0.1:8080/a?b=c`",
        ),
        (vec!["localhost:8080"], "write `http://localhost:8080`"),
        (vec!["/path"], "must start with http://"),
        (vec!["http://:80/"], "and a host"),
        (
            vec!["http://127.0.0.1/", "--duration", "0s"],
            "longer than 0",
        ),
        (
            vec!["http://127.0.0.1/", "--timeout", "0s"],
            "longer than 0",
        ),
        (vec!["http://127.0.0.1/", "--duration", "5"], "needs a unit"),
        (vec!["http://127.0.0.1/", "--rate", "0"], "between"),
        (
            vec!["http://127.0.0.1/", "--body", "x", "--vector-size", "3"],
            "cannot be used with",
        ),
        (
            vec!["http://127.0.0.1/", "--body-file", "/nonexistent/body"],
            "/nonexistent/body",
        ),
    ] {
        let (output, result) = loadgen(&args).await;
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(result.is_none());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(part), "`{part}` is missing in {stderr}");
    }
}

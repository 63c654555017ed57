//! `loadgen http --scenario` as a user runs it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, Version};
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde_json::Value as Json;
use tokio::net::TcpListener;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// Serves on a free port until the test ends; gives its URL.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

fn command(folder: &Path, scenario: &str) -> Command {
    let path = folder.join("scenario.toml");
    std::fs::write(&path, scenario).unwrap();
    let mut command = Command::new(LOADGEN);
    command
        .args(["http", "--scenario"])
        .arg(path)
        .arg("--record");
    command.arg(folder.join("record.json")).stdin(Stdio::null());
    command
}

/// Runs a scenario to its end. `None` where no record was written.
async fn run(scenario: String) -> (Output, Option<Json>) {
    run_with(scenario, &[]).await
}

async fn run_with(scenario: String, more: &'static [&'static str]) -> (Output, Option<Json>) {
    let running = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(folder.path(), &scenario);
        let output = command.args(more).output().unwrap();
        (output, record(folder.path()))
    });
    running.await.unwrap()
}

fn record(folder: &Path) -> Option<Json> {
    let text = std::fs::read_to_string(folder.join("record.json")).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// The value of a metric with exactly these labels.
fn metric(record: &Json, name: &str, labels: &[(&str, &str)]) -> f64 {
    let all = record["metrics"].as_array().unwrap();
    let labels: serde_json::Map<_, _> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Json::from(*value)))
        .collect();
    let found = all
        .iter()
        .find(|it| it["name"] == name && it["labels"] == Json::from(labels.clone()));
    let found = found.unwrap_or_else(|| panic!("no {name} with {labels:?} in {all:#?}"));
    found["values"][0].as_f64().unwrap()
}

#[tokio::test]
async fn a_flow_takes_values_from_data_and_from_answers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 16).await.unwrap();
            let header = parts
                .headers
                .get("x-order")
                .map(|it| it.to_str().unwrap().to_owned());
            let text = String::from_utf8(body.to_vec()).unwrap();
            log.lock()
                .unwrap()
                .push((parts.uri.to_string(), header, text));
            ([("location", "/o/7")], r#"{"order":{"id":42}}"#).into_response()
        }
    });
    let url = serve(app).await;
    let scenario = format!(
        r#"
target = "{url}"
data = {{ users = [{{ id = 1 }}, {{ id = 2 }}] }}
[[scenario]]
name = "buy"
executor = "closed"
workers = 1
requests = 2
[[scenario.step]]
name = "order"
path = "/u/${{users.id}}"
body = '{{"user": ${{users.id}}}}'
extract = {{ order = "/order/id", place = {{ header = "location" }} }}
checks = {{ status = 200, json = {{ "/order/id" = 42 }}, body_contains = "order" }}
[[scenario.step]]
name = "look"
path = "${{place}}/x"
headers = {{ x-order = "${{order}}" }}
checks = {{ status = 201 }}
[thresholds]
limits = ["checks >= 80%"]
"#
    )
    // A path from an answer begins with `/` already.
    .replace("path = \"${place}/x\"", "path = \"/x${place}\"");
    let (output, record) = run(scenario).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(99), "{text}{output:?}");
    let seen = seen.lock().unwrap().clone();
    let expected = |user: u32| {
        let order = (
            "/u/".to_owned() + &user.to_string(),
            None,
            format!("{{\"user\": {user}}}"),
        );
        let look = ("/x/o/7".to_owned(), Some("42".to_owned()), String::new());
        [order, look]
    };
    assert_eq!(seen, [expected(1), expected(2)].concat());
    let record = record.unwrap();
    assert_eq!(record["passed"], false);
    assert_eq!(record["thresholds"][0]["value"], 0.75, "{text}");
    let look = [("scenario", "buy"), ("endpoint", "look")];
    assert_eq!(metric(&record, "requests", &look), 2.0);
    // The check says that 201 is what is expected, so that 200 is a failure.
    assert_eq!(metric(&record, "errors", &look), 2.0);
}

#[tokio::test]
async fn what_is_never_sent_ends_a_run_early() {
    let answered = Arc::new(AtomicU64::new(0));
    let app = Router::new().fallback(move || {
        let is_answered = answered.fetch_add(1, Ordering::Relaxed) < 10;
        async move {
            if !is_answered {
                std::future::pending::<()>().await;
            }
        }
    });
    let url = serve(app).await;
    let scenario = format!(
        "target = '{url}'\n[[scenario]]\nname = 'a'\nexecutor = 'constant_rate'\nrate = 100\nduration = '30s'\n\
         workers = 2\n[[scenario.request]]\npath = '/'\n[thresholds]\nlimits = ['dropped{{scenario=a}} < 20%']\n\
         abort_on_fail = true\n"
    );
    let (output, record) = run(scenario).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(99), "{text}");
    let told = "ended early by the threshold `dropped{scenario=a} < 20%`";
    assert!(text.contains(told), "{text}");
    let record = record.unwrap();
    assert_eq!(
        (&record["passed"], &record["interrupted"]),
        (&false.into(), &false.into())
    );
    let threshold = &record["thresholds"][0];
    assert_eq!(
        (&threshold["unit"], &threshold["passed"]),
        (&"share".into(), &false.into())
    );
    let of = |name| metric(&record, name, &[("scenario", "a")]);
    assert_eq!(of("requests"), 10.0, "{text}");
    assert!(of("requests_unsent") > 0.0, "{text}");
}

#[tokio::test]
async fn what_is_set_on_the_command_line_is_run_and_recorded() {
    let url = serve(Router::new().fallback(|| async {})).await;
    let scenario = format!(
        "# long\ntarget = '{url}'\n[[scenario]]\nname = 'a'\nexecutor = 'closed'\nduration = '20s'\n\
         [[scenario.request]]\npath = '/'\n[defaults.headers]\nx-token = 'hidden'\n"
    );
    let more = &["--set", "scenario.a.requests=7", "--set", "name=short"];
    let (output, record) = run_with(scenario.clone(), more).await;
    assert!(output.status.success(), "{output:?}");
    let record = record.unwrap();
    assert_eq!(record["name"], "short");
    assert_eq!(metric(&record, "requests", &[("scenario", "a")]), 7.0);
    let input = |name: &str| {
        let mut inputs = record["inputs"].as_array().unwrap().iter();
        let input = inputs.find(|it| it["name"] == name);
        input.unwrap()["text"].as_str().unwrap()
    };
    assert!(input("scenario").contains("# long"));
    let rendered = input("scenario with --set");
    for line in ["name = \"short\"", "requests = 7", "duration = \"20s\""] {
        assert!(rendered.lines().any(|it| it == line), "{rendered}");
    }
    assert!(!rendered.contains("hidden"), "{rendered}");

    let more = &["--set", "scenario.b.requests=7"];
    let (output, record) = run_with(scenario, more).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), record), (Some(2), None), "{told}");
    assert!(told.contains("there is no `b` in `scenario`"), "{told}");
}

#[tokio::test]
async fn mistakes_are_all_told_and_nothing_is_sent() {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let app = Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async { "" }
    });
    let url = serve(app).await;
    let scenario = format!(
        "target = '{url}'\nx1 = 1\nx2 = 2\nx3 = 3\nx4 = 4\nx5 = 5\n[[scenario]]\nexecutor = 'closed'\nworkers = 0\n\
         duration = '1'\n[[scenario.request]]\npath = 'a'\nmethod = 'get'\nweight = -1\n"
    );
    let (output, record) = run(scenario).await;
    assert_eq!((output.status.code(), record), (Some(2), None));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("10 mistakes"), "{told}");
    let lines = told.lines().filter(|line| line.contains("scenario.toml:"));
    assert_eq!(lines.count(), 10, "{told}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn workers_share_http2_connections() {
    let addresses = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let log = Arc::clone(&addresses);
    let app = Router::new().route(
        "/",
        get(
            move |peer: axum::extract::ConnectInfo<std::net::SocketAddr>, request: Request| {
                log.lock().unwrap().insert(peer.0);
                async move {
                    match request.version() {
                        Version::HTTP_2 => StatusCode::OK,
                        _ => StatusCode::BAD_REQUEST,
                    }
                }
            },
        ),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    let scenario = format!(
        "target = '{url}'\n[defaults]\nhttp2 = true\nconnections = 2\n[[scenario]]\nname = 'a'\n\
         executor = 'closed'\nworkers = 10\nrequests = 200\n[[scenario.request]]\npath = '/'\n"
    );
    let (output, record) = run(scenario).await;
    assert!(output.status.success(), "{output:?}");
    let record = record.unwrap();
    assert_eq!(metric(&record, "requests", &[("scenario", "a")]), 200.0);
    assert_eq!(metric(&record, "errors", &[("scenario", "a")]), 0.0);
    assert_eq!(addresses.lock().unwrap().len(), 2);
}

/// Ends its process with SIGKILL when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended already is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_server_that_is_killed_is_told_truthfully() {
    let mut sink = Command::new(LOADGEN);
    sink.args(["sink", "--clickhouse", "127.0.0.1:0"])
        .stdout(Stdio::piped());
    let mut sink = sink.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(sink.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let sink = Killed(sink);
    let addresses: Json = serde_json::from_str(&line).unwrap();
    let address = addresses["clickhouse"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let scenario = format!(
        "target = 'http://{address}'\n[[scenario]]\nname = 'a'\nexecutor = 'constant_rate'\nrate = 100\n\
         duration = '4s'\nworkers = 4\n[[scenario.request]]\npath = '/ping'\n[thresholds]\nlimits = ['error_rate < 1%']\n"
    );
    let mut command = command(folder.path(), &scenario);
    command
        .arg("--no-tui")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Killed(command.spawn().unwrap());
    let mut progress = String::new();
    let mut errors = BufReader::new(running.0.stderr.take().unwrap());
    errors.read_line(&mut progress).unwrap();
    assert!(progress.contains("requests"), "{progress}");
    drop(sink);
    let text = std::io::read_to_string(running.0.stdout.take().unwrap()).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(99), "{text}");
    let record = record(folder.path()).unwrap();
    let of = |name| metric(&record, name, &[("scenario", "a")]);
    assert!(
        of("errors") > 0.0 && of("errors") < of("requests"),
        "{text}"
    );
    assert_eq!(of("requests") + of("requests_unsent"), 400.0, "{text}");
    assert!(
        text.contains("connect: ") && text.contains("CROSSED"),
        "{text}"
    );
    assert_eq!(record["thresholds"][0]["passed"], false);
}

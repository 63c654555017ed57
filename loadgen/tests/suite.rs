//! `loadgen run` over a service that is not a process of the suite.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use common::said;
use serde_json::Value as Json;
use tokio::net::TcpListener;

/// Answers `/work` with the status that its configuration says, which it reads when it is told to.
#[derive(Default)]
struct Service {
    status: Mutex<StatusCode>,
    answered: AtomicU64,
    told: Mutex<Vec<String>>,
}

async fn work(State(service): State<Arc<Service>>) -> StatusCode {
    service.answered.fetch_add(1, Ordering::Relaxed);
    *service.status.lock().unwrap()
}

async fn stats(State(service): State<Arc<Service>>) -> String {
    let answered = service.answered.load(Ordering::Relaxed);
    format!("{{\"answered\": {answered}}}")
}

async fn reload(State(service): State<Arc<Service>>, uri: Uri) -> StatusCode {
    let path = uri.query().and_then(|it| it.strip_prefix("config="));
    let text = std::fs::read_to_string(path.unwrap()).unwrap_or_default();
    service.told.lock().unwrap().push(text.clone());
    match text.parse() {
        Ok(status) => {
            *service.status.lock().unwrap() = status;
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

/// Serves until the test ends; gives its URL.
async fn serve(service: &Arc<Service>) -> String {
    let app = Router::new()
        .route("/health", get(|| async {}))
        .route("/work", get(work))
        .route("/stats", get(stats))
        .route("/reload", post(reload))
        .with_state(Arc::clone(service));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

/// The service, a client that sends 50 requests, and these steps after the service is up.
fn suite(url: &str, steps: &str) -> String {
    format!(
        r#"
name = "small"

[variables]
requests = 50
reload = "reload"

[[component]]
name = "service"

[component.configuration]
inline = "200"
name = "status"

[component.deployment]
address = "{url}"
ready_url = "{url}/health"

[component.monitoring.counter]
answered = {{ url = "{url}/stats", pointer = "/answered" }}

[[component]]
name = "client"

[component.execution]
http = ["{{{{ component.service.address }}}}/work", "--requests", "{{{{ requests }}}}", "--workers", "2", "--no-tui"]

[[test]]
name = "small"

[[test.step]]
action = "up"
target = "service"
{steps}"#
    )
}

/// Runs it in a folder of its own; its record, if it wrote one.
async fn run(suite: String) -> (Output, Option<Json>) {
    let running = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let output = common::run(folder.path(), &suite, &["--out", "out"]);
        (output, record(&folder.path().join("out")))
    });
    running.await.unwrap()
}

fn record(folder: &Path) -> Option<Json> {
    let text = std::fs::read_to_string(folder.join("record.json")).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

const LOAD: &str = r#"
[[test.step]]
action = "load"
target = "client"
label = "main"
window = "load"
"#;

/// The variable is used here only.
const RECONFIGURE: &str = r#"
[[test.step]]
action = "reconfigure"
target = "service"
apply = "{{ component.service.address }}/{{ reload }}?config={{ config }}"

[test.step.configuration]
inline = "503"
name = "status"
"#;

#[tokio::test]
async fn a_suite_drives_a_service_over_http_and_tells_it_of_its_configuration() {
    let service = Arc::new(Service::default());
    let url = serve(&service).await;
    let steps = format!(
        r#"{LOAD}
[[test.step]]
action = "assert"
that = [
    "load.main.requests == 50",
    "load.main.errors == 0",
    "load.main.latency_p99 > 0",
    "counter.service.answered == 50",
    "window.load.seconds > 0",
]
{RECONFIGURE}
[[test.step]]
action = "load"
target = "client"
label = "refused"
may_fail = true

[[test.step]]
action = "assert"
that = ["load.refused.errors == requests", "load.refused.error_rate == 1", "counter.service.answered == 100"]
"#
    );
    let (output, record) = run(suite(&url, &steps)).await;
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.lines().any(|it| it.starts_with("small: OK")), "{said}");
    assert_eq!(*service.told.lock().unwrap(), ["503"]);

    let record = record.unwrap();
    let thresholds = record["thresholds"].as_array().unwrap();
    let found = |expression: &str| {
        let mut thresholds = thresholds.iter();
        let is_it = |it: &&Json| it["expression"].as_str().unwrap().ends_with(expression);
        thresholds.find(is_it).unwrap()
    };
    assert_eq!(found("load.main.latency_p99 > 0")["unit"], "ms");
    assert_eq!(found("load.refused.error_rate == 1")["unit"], "share");
    // What a load may, is told and counts for nothing.
    let own = found("load refused: failed and unsent requests <= 0.01");
    assert_eq!(
        (&own["value"], &own["passed"]),
        (&1.0.into(), &false.into())
    );
    assert_eq!(record["passed"], true);
}

#[tokio::test]
async fn what_a_load_holds_against_the_service_is_a_crossed_limit() {
    let service = Arc::new(Service::default());
    let url = serve(&service).await;
    let (output, record) = run(suite(&url, &format!("{RECONFIGURE}{LOAD}"))).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(99), "{said}");
    let expected = "did not hold: small #1: load main: failed and unsent requests <= 0.01";
    assert!(said.contains(expected), "{said}");
    let record = record.unwrap();
    assert_eq!(record["passed"], false);
    assert!(
        record["events"].to_string().contains("limit crossed"),
        "{said}"
    );
}

#[tokio::test]
async fn a_service_that_refuses_its_configuration_fails_the_test() {
    let service = Arc::new(Service::default());
    let url = serve(&service).await;
    let steps = RECONFIGURE.replace("\"503\"", "\"many\"");
    let (output, record) = run(suite(&url, &steps)).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("400 Bad Request"), "{said}");
    assert_eq!(record.unwrap()["passed"], false);
    assert_eq!(*service.told.lock().unwrap(), ["many"]);
}

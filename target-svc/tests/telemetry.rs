//! What the service sends to the collector.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value as Json, json};
use support::{Collector, Service, attribute, hex};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID: &str = "b7ad6b7169203331";
const ADD: &str = r#"{"a":[1,2],"b":[3,4]}"#;

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|it| it.kind == kind as i32).collect()
}

/// Sends one request within a trace, and stops the service.
async fn one_request(collector: &Collector) -> (u16, support::Stopped) {
    let service = Service::start(&collector.endpoint, &[], &[]).await;
    let parent = format!("00-{TRACE_ID}-{PARENT_ID}-01");
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", parent.as_str()),
        ("tracestate", "vendor=x"),
        ("user-agent", "tester/1.0"),
    ];
    let mut client = service.client().await;
    let answer = client
        .send("POST", "/api/vector/add?q=1", &headers, ADD)
        .await;
    assert_eq!(answer.status, 200);
    let port = service.address.port();
    let stopped = service.stop().await;
    assert!(stopped.success);
    (port, stopped)
}

#[tokio::test]
async fn a_request_becomes_a_server_span_of_the_callers_trace() {
    let collector = Collector::start().await;
    let (port, _) = one_request(&collector).await;
    let spans = collector.spans();
    let servers = of_kind(&spans, SpanKind::Server);
    let [server] = servers.as_slice() else {
        panic!("one server span was expected in {spans:?}")
    };
    assert_eq!(server.name, "POST /api/vector/add");
    assert_eq!(hex(&server.trace_id), TRACE_ID);
    assert_eq!(hex(&server.parent_span_id), PARENT_ID);
    assert_eq!(server.trace_state, "vendor=x");
    assert_eq!(
        server.status.as_ref().map_or(0, |it| it.code),
        StatusCode::Unset as i32
    );
    let expected = [
        ("http.request.method", json!("POST")),
        ("http.request.method_original", Json::Null),
        ("http.route", json!("/api/vector/add")),
        ("http.response.status_code", json!(200)),
        ("url.path", json!("/api/vector/add")),
        ("url.query", json!("q=1")),
        ("url.scheme", json!("http")),
        ("server.address", json!("127.0.0.1")),
        ("server.port", json!(port)),
        ("client.address", json!("127.0.0.1")),
        ("network.protocol.version", json!("1.1")),
        ("user_agent.original", json!("tester/1.0")),
        ("error.type", Json::Null),
    ];
    for (key, value) in expected {
        assert_eq!(attribute(&server.attributes, key), value, "{key}");
    }
    assert!(attribute(&server.attributes, "client.port").is_i64());
    let keys: BTreeSet<_> = server.attributes.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys.len(), 12, "unexpected attributes in {keys:?}");
}

#[tokio::test]
async fn the_work_has_a_span_and_the_log_belongs_to_the_trace() {
    let collector = Collector::start().await;
    let (_, stopped) = one_request(&collector).await;
    let spans = collector.spans();
    let server = of_kind(&spans, SpanKind::Server)[0];
    let work = of_kind(&spans, SpanKind::Internal)[0];
    assert_eq!(
        (work.name.as_str(), &work.parent_span_id),
        ("vector.add", &server.span_id)
    );
    assert_eq!(work.trace_id, server.trace_id);
    assert_eq!(attribute(&work.attributes, "vector.length"), 2);
    assert!(
        spans.iter().all(|it| it.events.is_empty()),
        "logs are not repeated as span events"
    );

    let logs = collector.logs();
    let added: Vec<_> = logs
        .iter()
        .filter(|it| hex(&it.trace_id) == TRACE_ID)
        .collect();
    let [record] = added.as_slice() else {
        panic!("one log record was expected in {logs:?}")
    };
    assert_eq!(record.span_id, server.span_id);
    assert_eq!(
        support::to_json(record.body.as_ref().unwrap()),
        "vectors added"
    );
    assert_eq!(record.severity_text, "INFO");
    assert_eq!(attribute(&record.attributes, "vector.length"), 2);

    let line = stopped
        .log
        .iter()
        .find(|it| it["message"] == "vectors added")
        .unwrap();
    assert_eq!(line["trace_id"], TRACE_ID);
    assert_eq!(line["span_id"], hex(&server.span_id));
}

#[tokio::test]
async fn refusals_unknown_paths_and_methods_are_named_after_the_conventions() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &[], &[]).await;
    let mut client = service.client().await;
    client.add(r#"{"a":[1],"b":[]}"#).await;
    client.send("GET", "/nowhere", &[], "").await;
    client.send("BREW", "/health", &[], "").await;
    client.send("GET", "/health", &[], "").await;
    service.stop().await;

    let spans = collector.spans();
    let summary: Vec<_> = of_kind(&spans, SpanKind::Server)
        .iter()
        .map(|it| {
            let attribute = |key| attribute(&it.attributes, key);
            json!([
                it.name,
                attribute("http.response.status_code"),
                attribute("http.route"),
                attribute("http.request.method"),
                attribute("http.request.method_original"),
                it.status.as_ref().map_or(0, |it| it.code)
            ])
        })
        .collect();
    let expected = [
        json!([
            "POST /api/vector/add",
            422,
            "/api/vector/add",
            "POST",
            null,
            0
        ]),
        json!(["GET", 404, null, "GET", null, 0]),
        json!(["HTTP /health", 405, "/health", "_OTHER", "BREW", 0]),
        json!(["GET /health", 200, "/health", "GET", null, 0]),
    ];
    assert_eq!(summary, expected);
    let refused: Vec<_> = collector
        .logs()
        .into_iter()
        .filter(|it| it.severity_text == "WARN")
        .collect();
    assert_eq!(refused.len(), 3, "each refusal is logged");
    assert!(
        refused.iter().all(|it| it.trace_id.len() == 16),
        "and belongs to its trace"
    );
}

#[tokio::test]
async fn requests_are_measured() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &[], &[]).await;
    let mut client = service.client().await;
    for _ in 0..5 {
        client.add(ADD).await;
    }
    service.stop().await;

    let metrics = collector.metrics();
    let last = |name: &str| metrics.iter().rfind(|it| it.name == name).unwrap();
    let duration = last("http.server.request.duration");
    assert_eq!(duration.unit, "s");
    let Some(Data::Histogram(histogram)) = &duration.data else {
        panic!("not a histogram: {duration:?}")
    };
    let [point] = histogram.data_points.as_slice() else {
        panic!("one point was expected: {histogram:?}")
    };
    assert_eq!(point.count, 5);
    assert_eq!(
        point.explicit_bounds,
        [
            0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0
        ]
    );
    for (key, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/api/vector/add")),
        ("http.response.status_code", json!(200)),
        ("url.scheme", json!("http")),
        ("network.protocol.version", json!("1.1")),
    ] {
        assert_eq!(attribute(&point.attributes, key), value, "{key}");
    }
    let active = last("http.server.active_requests");
    let Some(Data::Sum(sum)) = &active.data else {
        panic!("not a sum: {active:?}")
    };
    assert_eq!(
        (active.unit.as_str(), sum.is_monotonic),
        ("{request}", false)
    );
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    assert!(
        sum.data_points
            .iter()
            .all(|it| it.value == Some(Value::AsInt(0))),
        "no request is left: {sum:?}"
    );
}

#[tokio::test]
async fn the_resource_names_service_instance_host_and_process() {
    let collector = Collector::start().await;
    let env = [
        ("OTEL_SERVICE_NAME", "renamed"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
    ];
    let service = Service::start(&collector.endpoint, &[], &env).await;
    service.client().await.add(ADD).await;
    let pid = service.pid();
    service.stop().await;

    let resources = collector.resources();
    assert!(resources.len() >= 3);
    let instances: BTreeSet<_> = resources
        .iter()
        .map(|it| attribute(it, "service.instance.id").to_string())
        .collect();
    assert_eq!(instances.len(), 1, "all signals come from one instance");
    for resource in resources {
        assert_eq!(attribute(&resource, "service.name"), "renamed");
        assert_eq!(
            attribute(&resource, "service.version"),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(attribute(&resource, "process.pid"), pid);
        assert_eq!(attribute(&resource, "deployment.environment.name"), "test");
        assert!(attribute(&resource, "host.name").is_string());
        assert_eq!(attribute(&resource, "telemetry.sdk.language"), "rust");
    }
}

#[tokio::test]
async fn the_counts_are_those_of_the_collector() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &[], &[]).await;
    let mut client = service.client().await;
    for _ in 0..500 {
        assert_eq!(client.add(ADD).await.status, 200);
    }
    let stopped = service.stop_by("INT").await;
    let whole = |count: usize| json!({"created": count, "exported": count, "failed": 0, "dropped": 0, "pending": 0});
    assert_eq!(collector.spans().len(), 1000);
    assert_eq!(stopped.counts["spans"], whole(1000));
    assert_eq!(
        stopped.counts["metric_data_points"],
        whole(collector.data_points())
    );
    assert_eq!(stopped.counts["log_records"], whole(collector.logs().len()));
    assert!(collector.logs().len() >= 500);
    let last = stopped.log.last().unwrap();
    assert_eq!(last["message"], "telemetry complete");
    let logged: Json = serde_json::from_str(last["counts"].as_str().unwrap()).unwrap();
    assert_eq!(logged, stopped.counts);
}

#[tokio::test]
async fn head_sampling_follows_the_environment() {
    let collector = Collector::start().await;
    let service = Service::start(
        &collector.endpoint,
        &[],
        &[("OTEL_TRACES_SAMPLER", "always_off")],
    )
    .await;
    service.client().await.add(ADD).await;
    let stopped = service.stop().await;
    assert_eq!(stopped.counts["spans"]["created"], 0);
    assert!(collector.spans().is_empty());
    assert!(!collector.logs().is_empty(), "logs are not sampled");
}

#[tokio::test]
async fn a_disabled_sdk_sends_nothing() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &[], &[("OTEL_SDK_DISABLED", "True")]).await;
    assert_eq!(service.client().await.add(ADD).await.status, 200);
    let stopped = service.stop().await;
    assert!(stopped.success);
    assert_eq!(collector.spans().len(), 0);
    for signal in ["spans", "log_records", "metric_data_points"] {
        assert_eq!(stopped.counts[signal]["created"], 0, "{}", stopped.counts);
    }
}

#[tokio::test]
async fn a_sampler_that_does_not_exist_is_warned_of() {
    let collector = Collector::start().await;
    let sampler = [("OTEL_TRACES_SAMPLER", "nope")];
    let service = Service::start(&collector.endpoint, &[], &sampler).await;
    let stopped = service.stop().await;
    let told = stopped.log.iter().any(|line| {
        line.to_string()
            .contains("OTEL_TRACES_SAMPLER=`nope` is ignored")
    });
    assert!(told, "{:?}", stopped.log);
}

#[test]
fn what_cannot_work_is_told_at_the_start() {
    let check = |args: &[&str], code: i32, part: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_target-svc"))
            .args(args)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    };
    check(&["--listen", "nonsense"], 2, "write HOST:PORT");
    let counts = [
        "--listen",
        "127.0.0.1:0",
        "--counts-file",
        "/no/such/folder/counts",
    ];
    check(&counts, 1, "cannot write /no/such/folder/counts");
}

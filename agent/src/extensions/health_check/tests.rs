//! Health as probes ask for it, in both forms.

use std::net::SocketAddr;

use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::*;
use crate::auth::Authenticators;
use crate::extensions::bearertokenauth;
use crate::health::{Health, Phase, Shown};
use crate::net::listen;
use crate::net::sockets::Key;
use crate::signal::Signal;
use crate::status::{Condition, Instance, Reporter, Statuses};
use crate::testing::{DEADLINE, http_get, parse};

const OWNER: &str = "extensions.health_check";

fn context() -> ExtensionContext {
    ExtensionContext::alone("health_check", Authenticators::default())
}

fn address(context: &ExtensionContext, owner: &str) -> SocketAddr {
    let endpoint = listen::Endpoint::parse("tcp", "127.0.0.1:0").unwrap();
    let listener = context
        .sockets
        .listen(&endpoint, &Key::new(&endpoint, owner));
    listener.unwrap().address().parse().unwrap()
}

async fn with_context(
    text: &str,
    context: &ExtensionContext,
    owner: &str,
    check: impl AsyncFnOnce(SocketAddr),
) {
    let settings = parse(&FACTORY, text).unwrap_or_else(|found| panic!("{found}"));
    let extension = settings.build(context.clone()).unwrap();
    let address = address(context, owner);
    let shutdown = Shutdown::default();
    let running = tokio::spawn(extension.run(shutdown.clone()));
    check(address).await;
    shutdown.trigger();
    let ended = tokio::time::timeout(DEADLINE, running).await;
    ended.unwrap().unwrap().unwrap();
}

/// Where the built extension listens, and its health.
async fn with_extension(text: &str, check: impl AsyncFnOnce(SocketAddr, Health)) {
    let text = format!("endpoint = \"127.0.0.1:0\"\n{text}");
    let context = context();
    let health = context.health.clone();
    with_context(&text, &context, OWNER, async |address| {
        check(address, health).await
    })
    .await;
}

/// Two pipelines, of which the exporter of one can fail.
fn graph(statuses: &Statuses) -> Reporter {
    let mut draft = statuses.draft();
    draft.begin(Instance::receiver("otlp"));
    let exporter = draft.begin(Instance::exporter("clickhouse", Signal::Traces));
    let failing = Instance::exporter("clickhouse", Signal::Traces);
    draft.pipeline("traces", vec![Instance::receiver("otlp"), failing]);
    draft.pipeline("logs", vec![Instance::receiver("otlp")]);
    statuses.adopt(draft);
    exporter
}

async fn status(address: SocketAddr, query: &str) -> (u16, serde_json::Value) {
    let (status, body) = http_get(address, &format!("/status{query}")).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

const SECOND_FORM: &str = "use_v2 = true\nhttp.endpoint = \"127.0.0.1:0\"\n";

#[tokio::test]
async fn the_second_form_tells_how_every_part_is() {
    let context = context();
    let text = format!("{SECOND_FORM}http.config.enabled = true");
    with_context(&text, &context, OWNER, async |address| {
        let (code, body) = status(address, "").await;
        assert_eq!((code, &body["status"]), (503, &"StatusStarting".into()));
        assert_eq!(http_get(address, "/config").await.0, 503);
        let exporter = graph(&context.statuses);
        context.health.show(Shown {
            toml: String::new(),
            json: "{}".to_owned(),
        });
        assert_eq!(http_get(address, "/config").await, (200, "{}".to_owned()));
        exporter.fails(Condition::Sending, "connection refused");
        let (code, body) = status(address, "").await;
        assert_eq!((code, &body["healthy"]), (200, &true.into()));
        assert_eq!(body["status"], "StatusRecoverableError");
        assert_eq!(body["error"], "connection refused");
        assert!(body["start_time"].is_string() && body["status_time"].is_string());
        assert!(body.get("components").is_none());
        let (_, body) = status(address, "?verbose").await;
        let traces = &body["components"]["pipeline:traces"];
        assert_eq!(traces["status"], "StatusRecoverableError");
        let failing = &traces["components"]["exporter:clickhouse"];
        assert_eq!(failing["error"], "connection refused");
        assert!(failing.get("start_time").is_none());
        assert_eq!(traces["components"]["receiver:otlp"]["status"], "StatusOK");
        let (code, body) = status(address, "?pipeline=logs&verbose").await;
        assert_eq!((code, &body["status"]), (200, &"StatusOK".into()));
        assert!(body["components"]["receiver:otlp"].is_object());
        assert_eq!(status(address, "?pipeline=metrics").await.0, 404);
        assert_eq!(http_get(address, "/").await.0, 404);
        context.statuses.receiver("otlp").unwrap().fatal("gone");
        assert_eq!(status(address, "?pipeline=logs").await.0, 500);
    })
    .await;
}

#[tokio::test]
async fn errors_count_if_the_operator_wants_it() {
    let context = context();
    let exporter = graph(&context.statuses);
    let text = format!(
        "{SECOND_FORM}component_health = {{ include_recoverable_errors = true, recovery_duration = \"1h\" }}"
    );
    with_context(&text, &context, OWNER, async |address| {
        exporter.fails(Condition::Sending, "away");
        exporter.fails(Condition::Rejected, "no such column");
        let (code, body) = status(address, "?pipeline=traces").await;
        // What counts is told first.
        assert_eq!((code, &body["error"]), (200, &"away".into()));
        assert_eq!(body["healthy"], true);
    })
    .await;
    let text = format!(
        "{SECOND_FORM}component_health = {{ include_recoverable_errors = true, recovery_duration = \"1ns\" }}"
    );
    with_context(&text, &context, OWNER, async |address| {
        let (code, body) = status(address, "?pipeline=traces").await;
        assert_eq!((code, &body["healthy"]), (500, &false.into()));
        assert_eq!(status(address, "?pipeline=logs").await.0, 200);
        exporter.works(Condition::Sending);
        assert_eq!(status(address, "").await.0, 200);
    })
    .await;
    let text = format!("{SECOND_FORM}component_health.include_permanent_errors = true");
    with_context(&text, &context, OWNER, async |address| {
        let (code, body) = status(address, "").await;
        assert_eq!((code, &body["error"]), (500, &"no such column".into()));
    })
    .await;
}

type Client = HealthClient<
    hyper_util::client::legacy::Client<
        hyper_util::client::legacy::connect::HttpConnector,
        tonic::body::Body,
    >,
>;

fn client(address: SocketAddr) -> Client {
    let executor = hyper_util::rt::TokioExecutor::new();
    let client = hyper_util::client::legacy::Client::builder(executor)
        .http2_only(true)
        .build_http();
    let origin = format!("http://{address}").parse().unwrap();
    HealthClient::with_origin(client, origin)
}

#[tokio::test]
async fn pipelines_are_checked_and_watched_over_grpc() {
    let context = context();
    let text = "use_v2 = true\ngrpc.endpoint = \"127.0.0.1:0\"\n\
                component_health = { include_recoverable_errors = true, recovery_duration = \"1ns\" }";
    let owner = format!("{OWNER} grpc");
    with_context(text, &context, &owner, async |address| {
        let mut client = client(address);
        let request = |service: &str| HealthCheckRequest {
            service: service.to_owned(),
        };
        let serving = |response: HealthCheckResponse| response.status();
        let unknown = client.check(request("traces")).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
        let first = client.check(request("")).await.unwrap().into_inner();
        assert_eq!(serving(first), ServingStatus::NotServing);
        let mut watched = client.watch(request("traces")).await.unwrap().into_inner();
        let next = watched.message().await.unwrap().unwrap();
        assert_eq!(serving(next), ServingStatus::ServiceUnknown);
        let exporter = graph(&context.statuses);
        let next = watched.message().await.unwrap().unwrap();
        assert_eq!(serving(next), ServingStatus::Serving);
        exporter.fails(Condition::Sending, "away");
        let next = watched.message().await.unwrap().unwrap();
        assert_eq!(serving(next), ServingStatus::NotServing);
        let logs = client.check(request("logs")).await.unwrap().into_inner();
        assert_eq!(serving(logs), ServingStatus::Serving);
        exporter.works(Condition::Sending);
        let next = watched.message().await.unwrap().unwrap();
        assert_eq!(serving(next), ServingStatus::Serving);
    })
    .await;
}

#[tokio::test]
async fn over_grpc_it_asks_who_it_is() {
    let context = context();
    let token = parse(&bearertokenauth::FACTORY, "token = \"hunter2\"").unwrap();
    let id = ExtensionContext::alone("bearertokenauth", context.authenticators.clone());
    // The call itself installs it.
    let installed = token.build(id).unwrap().run(Shutdown::default());
    let text = "use_v2 = true\n[grpc]\nendpoint = \"127.0.0.1:0\"\nauth.authenticator = \"bearertokenauth\"";
    let owner = format!("{OWNER} grpc");
    with_context(text, &context, &owner, async |address| {
        let mut client = client(address);
        for (shown, expected) in [
            (None, Err(tonic::Code::Unauthenticated)),
            (Some("Bearer hunter3"), Err(tonic::Code::Unauthenticated)),
            (Some("Bearer hunter2"), Ok(())),
        ] {
            let mut request = tonic::Request::new(HealthCheckRequest::default());
            if let Some(shown) = shown {
                let metadata = request.metadata_mut();
                metadata.insert("authorization", shown.parse().unwrap());
            }
            let answer = client.check(request).await;
            let found = answer.map(drop).map_err(|status| status.code());
            assert_eq!(found, expected, "{shown:?}");
        }
    })
    .await;
    drop(installed);
}

#[tokio::test]
async fn the_answer_follows_the_phase() {
    with_extension("", async |address, health: Health| {
        for (phase, expected) in [
            (Phase::Starting, 503),
            (Phase::Ready, 200),
            (Phase::Stopping, 503),
        ] {
            health.enter(phase);
            let (status, body) = http_get(address, "/").await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(status, expected);
            assert_eq!(body["status"] == "Server available", expected == 200);
            assert!(body["upSince"].as_str().unwrap().starts_with("20"));
            assert!(body["uptime"].as_str().unwrap().ends_with('s'));
        }
        // As the Collector's does: probes may be set to any path.
        let answers = [
            http_get(address, "/").await,
            http_get(address, "/healthz").await,
        ];
        assert_eq!(answers.map(|(status, _)| status), [503, 503]);
    })
    .await;
}

#[tokio::test]
async fn path_and_bodies_are_the_operators() {
    let text = "path = \"/healthz\"\nresponse_body = { healthy = \"fine\", unhealthy = \"ill\" }";
    with_extension(text, async |address, health: Health| {
        assert_eq!(http_get(address, "/healthz").await, (503, "ill".to_owned()));
        health.enter(Phase::Ready);
        assert_eq!(
            http_get(address, "/healthz").await,
            (200, "fine".to_owned())
        );
        for other in ["/", "/healthz/", "/healthzz"] {
            assert_eq!(http_get(address, other).await.0, 404, "{other}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_an_error_at_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = parse(&FACTORY, &format!("endpoint = \"{address}\"")).unwrap();
    let context = context();
    let error = settings.build(context).err().unwrap();
    let told = error.to_string();
    assert!(told.starts_with(&format!("bind {address}")), "{told}");
    assert_eq!(error.key, "endpoint");
}

#[test]
fn settings_are_validated() {
    let check = |text: &str, expected: &str| {
        let found = parse(&FACTORY, text).unwrap_err().to_string();
        assert!(found.contains(expected), "{text}: {found}");
    };
    check("endpoint = \"localhost\"", "an address and a port");
    check("endpoint = \"localhost:x\"", "an address and a port");
    check("path = \"health\"", "begin with");
    check("use_v2 = true", "a table `http` or `grpc`");
    check(
        "use_v2 = true\nhttp.endpoint = \"x\"",
        "an address and a port",
    );
    check("use_v2 = true\nhttp.status.path = \"x\"", "begin with");
    check(
        "use_v2 = true\nhttp.config = { enabled = true, path = \"/status\" }",
        "is the path of",
    );
    check(
        "use_v2 = true\ngrpc.transport = \"udp\"",
        "unknown transport",
    );
    check("use_v2 = true\ngrpc.endpoint = \"x\"", "host:port");
}

#[test]
fn the_example_holds_every_field() {
    let example = include_str!("../../../../configs/agent/health_check.toml");
    let example: toml::Table = example.parse().unwrap();
    let found = example["extensions"]["health_check"].as_table().unwrap();
    for (key, value) in &toml::Table::try_from(HealthCheckOptions::default()).unwrap() {
        let found = found.get(key).unwrap_or_else(|| panic!("{key} is missing"));
        for inner in value.as_table().into_iter().flat_map(toml::Table::keys) {
            assert!(found.get(inner).is_some(), "{key}.{inner} is missing");
        }
    }
}

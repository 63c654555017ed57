//! Who may send: asked before anything is read, over both protocols, and asked anew when the secret changes.

use tidegate::component::{ExtensionContext, Shutdown};
use tidegate::config::{Diagnostics, Section};
use tidegate::extensions::EXTENSIONS;

use crate::grpc::{TRACES, message};
use crate::support::{Grpc, Harness, JSON, PROTOBUF, RpcStatus, traces};

const BOTH: &str = "[protocols.grpc]\nendpoint = '127.0.0.1:0'\nauth = { authenticator = 'lock' }\n\
                    [protocols.http]\nendpoint = '127.0.0.1:0'\nauth = { authenticator = 'lock' }\n\
                    cors = { allowed_origins = ['https://app'] }";

/// Installs the extension of that kind as the authenticator `lock`.
fn install(harness: &Harness, kind: &str, text: &str) {
    let factory = EXTENSIONS
        .iter()
        .find(|factory| factory.kind == kind)
        .unwrap();
    let mut found = Diagnostics::default();
    let mut section = Section::from_text("extensions.lock", text, &mut found).unwrap();
    let settings = (factory.parse)(&mut section).unwrap();
    let context = ExtensionContext::alone("lock", harness.authenticators.clone());
    // The call itself installs it.
    drop(settings.build(context).unwrap().run(Shutdown::default()));
}

#[tokio::test]
async fn strangers_are_told_so_and_nothing_of_them_is_read() {
    let harness = Harness::start_with(BOTH, &tidegate::signal::Signal::ALL);
    install(&harness, "bearertokenauth", "token = 'hunter2'");
    let body = traces(3);
    let stranger = [
        ("content-type", PROTOBUF),
        ("authorization", "Bearer hunter3"),
    ];
    let answer = harness.post("/v1/traces", &stranger, &body).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"tidegate\"")
    );
    let status = RpcStatus::parse(&answer.body);
    assert_eq!(
        (status.code, status.message.as_str()),
        (16, "invalid credentials")
    );
    let answer = harness
        .post("/v1/traces", &[("content-type", JSON)], b"{}")
        .await;
    assert_eq!(answer.status, 401);
    assert!(
        answer.text().starts_with("{\"code\":16,"),
        "{}",
        answer.text()
    );
    let answer = harness.post("/elsewhere", &[], b"").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (401, Some("text/plain"))
    );
    let mut client = Grpc::connect(&harness).await;
    for headers in [&[][..], &[("authorization", "Bearer hunter3")]] {
        let reply = client
            .call(TRACES, headers, vec![message(false, &body)])
            .await;
        assert_eq!((reply.http, reply.code), (200, 16), "{}", reply.message);
        assert!(reply.header("www-authenticate").is_some());
    }
    assert_eq!(harness.largest_admission(), 0);
    assert!(harness.captured().is_empty() && harness.failures().is_empty());
    let friend = [
        ("content-type", PROTOBUF),
        ("authorization", "Bearer hunter2"),
    ];
    assert_eq!(harness.post("/v1/traces", &friend, &body).await.status, 200);
    let headers = [("authorization", "Bearer hunter2")];
    let reply = client
        .call(TRACES, &headers, vec![message(false, &body)])
        .await;
    assert_eq!(reply.code, 0, "{}", reply.message);
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn a_changed_secret_counts_on_connections_that_are_open() {
    let harness = Harness::start_with(BOTH, &tidegate::signal::Signal::ALL);
    let mut client = Grpc::connect(&harness).await;
    let mut ask = async |authorization: &str| {
        let headers = [("authorization", authorization)];
        client
            .call(TRACES, &headers, vec![message(false, &traces(1))])
            .await
            .code
    };
    // The door stays closed until its authenticator is there: the client is to come again.
    assert_eq!(ask("Bearer one").await, 14);
    install(&harness, "bearertokenauth", "token = 'one'");
    assert_eq!(ask("Bearer one").await, 0);
    install(&harness, "bearertokenauth", "tokens = ['two', 'three']");
    assert_eq!(ask("Bearer one").await, 16);
    assert_eq!(ask("Bearer three").await, 0);
    install(
        &harness,
        "basicauth",
        "htpasswd = { inline = 'me:hunter2' }",
    );
    assert_eq!(ask("Bearer three").await, 16);
    assert_eq!(ask("Basic bWU6aHVudGVyMg==").await, 0);
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn a_preflight_needs_no_credentials() {
    let harness = Harness::start_with(BOTH, &tidegate::signal::Signal::ALL);
    install(&harness, "bearertokenauth", "token = 'hunter2'");
    let preflight = "OPTIONS /v1/traces HTTP/1.1\r\nhost: a\r\norigin: https://app\r\n\
                     access-control-request-method: POST\r\ncontent-length: 0\r\n\r\n";
    let answer = harness.raw(preflight.as_bytes()).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app")
    );
    // And what is refused can be read by the page that asked.
    let headers = [("content-type", JSON), ("origin", "https://app")];
    let answer = harness.post("/v1/traces", &headers, b"{}").await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app")
    );
    harness.stop().await;
}

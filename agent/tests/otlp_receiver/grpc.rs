//! OTLP over gRPC: statuses, encodings, limits and hints.

use std::time::Duration;

use tidegate::ack::{Answer, Refusal, RefusalReason};
use tidegate::batch::Transport;
use tidegate::component::RequestFailure;
use tidegate::signal::Signal;

use crate::encodings::{gzip, snappy_framed, zstd};
use crate::support::{Grpc, Harness, RpcStatus, logs, metrics, traces};

pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(crate) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
pub(crate) const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// A message with its prefix.
pub(crate) fn message(compressed: bool, bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![u8::from(compressed)];
    framed.extend((bytes.len() as u32).to_be_bytes());
    framed.extend_from_slice(bytes);
    framed
}

#[tokio::test]
async fn every_signal_is_captured_byte_for_byte() {
    let harness = Harness::start("");
    let mut client = Grpc::connect(&harness).await;
    for (path, body) in [
        (TRACES, traces(3)),
        (METRICS, metrics(2)),
        (LOGS, logs(4)),
        (TRACES, traces(20_000)),
    ] {
        let reply = client.call(path, &[], vec![message(false, &body)]).await;
        assert_eq!(
            (reply.http, reply.code),
            (200, 0),
            "{path}: {}",
            reply.message
        );
        assert_eq!(reply.body, [0; 5]);
        assert!(harness.last().unwrap().2 == body, "{path}");
    }
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn messages_may_come_in_any_pieces() {
    let harness = Harness::start("");
    let mut client = Grpc::connect(&harness).await;
    let body = traces(30);
    for piece in [1, 2, 3, 7, 1000] {
        let pieces = message(false, &body)
            .chunks(piece)
            .map(<[u8]>::to_vec)
            .collect();
        let reply = client.call(TRACES, &[], pieces).await;
        assert_eq!(reply.code, 0, "{piece}: {}", reply.message);
        assert_eq!(harness.last().unwrap().2, body, "{piece}");
    }
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn compressed_messages_are_inflated() {
    let harness = Harness::start("");
    let mut client = Grpc::connect(&harness).await;
    let body = traces(200);
    let zlib = {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&body).unwrap();
        encoder.finish().unwrap()
    };
    for (name, compressed) in [
        ("gzip", gzip(&body)),
        ("zstd", zstd(&body)),
        ("snappy", snappy_framed(&body)),
        ("deflate", zlib),
    ] {
        let headers = [("grpc-encoding", name)];
        let reply = client
            .call(TRACES, &headers, vec![message(true, &compressed)])
            .await;
        assert_eq!(reply.code, 0, "{name}: {}", reply.message);
        assert_eq!(harness.last().unwrap().2, body, "{name}");
        // The header allows compression, the flag says whether this message has it.
        let reply = client
            .call(TRACES, &headers, vec![message(false, &body)])
            .await;
        assert_eq!(reply.code, 0, "{name}: {}", reply.message);
    }
    let reply = client
        .call(
            TRACES,
            &[("grpc-encoding", "br")],
            vec![message(true, b"x")],
        )
        .await;
    assert_eq!(reply.code, 12);
    assert_eq!(
        reply.header("grpc-accept-encoding"),
        Some("identity,gzip,zstd,snappy,deflate")
    );
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn wrong_calls_get_the_honest_code() {
    let harness = Harness::start_with(
        "[protocols.grpc]\nendpoint = \"127.0.0.1:0\"",
        &[Signal::Traces],
    );
    let mut client = Grpc::connect(&harness).await;
    let whole = message(false, &traces(1));
    let mut check = async |path: &str, pieces: Vec<Vec<u8>>, code: i32, text: &str| {
        let reply = client.call(path, &[], pieces).await;
        assert_eq!(
            (reply.http, reply.code),
            (200, code),
            "{path}: {}",
            reply.message
        );
        assert!(reply.message.contains(text), "{path}: {}", reply.message);
    };
    check(TRACES, vec![whole.clone()], 0, "").await;
    check(LOGS, vec![whole.clone()], 12, "unknown").await;
    check(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        vec![whole.clone()],
        12,
        "unknown",
    )
    .await;
    check(
        "/no.such.Service/Export",
        vec![whole.clone()],
        12,
        "unknown",
    )
    .await;
    check(TRACES, vec![message(false, b"garbage")], 3, "unmarshal").await;
    check(TRACES, vec![], 3, "ended before").await;
    check(TRACES, vec![whole[..3].to_vec()], 3, "ended before").await;
    check(
        TRACES,
        vec![whole[..whole.len() - 1].to_vec()],
        3,
        "ended before",
    )
    .await;
    check(
        TRACES,
        vec![whole.clone(), whole.clone()],
        3,
        "more than one",
    )
    .await;
    check(TRACES, vec![[&[2], &whole[1..]].concat()], 3, "flag").await;
    check(
        TRACES,
        vec![[&[1], &whole[1..]].concat()],
        3,
        "grpc-encoding",
    )
    .await;
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn requests_that_are_not_grpc_get_an_http_status() {
    let harness = Harness::start("");
    let mut client = Grpc::connect(&harness).await;
    let reply = client.raw("GET", TRACES, "application/grpc").await;
    assert_eq!(reply.http, 405);
    for kind in [
        "application/json",
        "application/grpc-web",
        "",
        "application/grpc+json",
    ] {
        assert_eq!(client.raw("POST", TRACES, kind).await.http, 415, "{kind}");
    }
    assert_eq!(
        client
            .raw("POST", TRACES, "application/grpc+proto")
            .await
            .http,
        200
    );
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_resource_exhausted_without_a_hint() {
    let harness = Harness::start("");
    let mut client = Grpc::connect(&harness).await;
    let large = vec![0; (4 << 20) + 1];
    let reply = client.call(TRACES, &[], vec![message(false, &large)]).await;
    assert_eq!(
        (reply.code, reply.details.is_none()),
        (8, true),
        "{}",
        reply.message
    );
    // The length alone is enough: the message need not come.
    let reply = client
        .call(TRACES, &[], vec![message(false, &large)[..5].to_vec()])
        .await;
    assert_eq!(reply.code, 8);
    for (name, bomb) in [
        ("gzip", gzip(&large)),
        ("zstd", zstd(&large)),
        ("snappy", snappy_framed(&large)),
    ] {
        let reply = client
            .call(
                TRACES,
                &[("grpc-encoding", name)],
                vec![message(true, &bomb)],
            )
            .await;
        assert_eq!(reply.code, 8, "{name}: {}", reply.message);
    }
    let reply = client
        .call(TRACES, &[], vec![message(false, &large[1..])])
        .await;
    assert_eq!(reply.code, 3, "{}", reply.message);
    assert!(harness.largest_admission() <= (4 << 20) + 1);
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn every_refusal_for_now_is_unavailable_with_a_hint() {
    let harness = Harness::start("");
    let mut client = Grpc::connect(&harness).await;
    let mut check = async |answer: Answer, code: i32, hint: Option<Duration>| {
        harness.capture.state.lock().unwrap().answer = Some(answer.clone());
        let reply = client.call(LOGS, &[], vec![message(false, &logs(1))]).await;
        assert_eq!(reply.code, code, "{answer:?}");
        let status = reply.details.as_deref().map(RpcStatus::parse);
        if let Some(status) = &status {
            assert_eq!((status.code, &status.message), (code, &reply.message));
        }
        assert_eq!(
            status.and_then(|status| status.retry_after),
            hint,
            "{answer:?}"
        );
    };
    let refused = |reason, ms| {
        Answer::Refused(Refusal::retry(
            reason,
            "nicht jetzt: \u{fc}",
            Duration::from_millis(ms),
        ))
    };
    check(Answer::Delivered, 0, None).await;
    check(Answer::Queued, 0, None).await;
    for reason in [
        RefusalReason::QueueFull,
        RefusalReason::MemoryLimit,
        RefusalReason::ShuttingDown,
        RefusalReason::Abandoned,
    ] {
        check(refused(reason, 1500), 14, Some(Duration::from_millis(1500))).await;
    }
    check(Answer::Refused(Refusal::permanent("never")), 13, None).await;
    let refusal = Refusal::retry(
        RefusalReason::MemoryLimit,
        "no memory",
        Duration::from_secs(2),
    );
    harness.capture.state.lock().unwrap().refuse = Some(refusal);
    // Only the prefix comes: the refusal does not wait for the message.
    let reply = client
        .call(LOGS, &[], vec![message(false, &logs(9))[..5].to_vec()])
        .await;
    assert_eq!(reply.code, 14);
    assert_eq!(
        harness.failures(),
        [(
            Transport::Grpc,
            RequestFailure::Refused {
                reason: RefusalReason::MemoryLimit,
                bytes: None,
            }
        )]
    );
    drop(client);
    harness.stop().await;
}

#[tokio::test]
async fn concurrent_calls_share_a_connection() {
    let harness = Harness::start("");
    let client = Grpc::connect(&harness).await;
    let calls: Vec<_> = (1..=50)
        .map(|spans| {
            let mut client = client.clone();
            tokio::spawn(async move {
                client
                    .call(TRACES, &[], vec![message(false, &traces(spans))])
                    .await
                    .code
            })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 0);
    }
    let items: usize = harness.captured().iter().map(|(_, items, _)| items).sum();
    assert_eq!(items, 50 * 51 / 2);
    drop(client);
    harness.stop().await;
}

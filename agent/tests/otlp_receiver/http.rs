//! OTLP over HTTP: statuses, bodies and headers, one row of the reference surface after the other.

use std::time::Duration;

use tidegate::ack::{Answer, Refusal, RefusalReason};
use tidegate::batch::Transport;
use tidegate::component::RequestFailure;
use tidegate::signal::Signal;

use crate::support::{Answered, Harness, JSON, PROTOBUF, RpcStatus, logs, metrics, traces};

fn content_type(value: &str) -> Vec<(&'static str, &str)> {
    vec![("content-type", value)]
}

fn protobuf_status(answer: &Answered) -> RpcStatus {
    assert_eq!(answer.header("content-type"), Some(PROTOBUF));
    RpcStatus::parse(&answer.body)
}

fn json_status(answer: &Answered) -> serde_json::Value {
    assert_eq!(answer.header("content-type"), Some(JSON));
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn every_signal_is_captured_byte_for_byte() {
    let harness = Harness::start("");
    for (path, body) in [
        ("/v1/traces", traces(3)),
        ("/v1/metrics", metrics(2)),
        ("/v1/logs", logs(4)),
    ] {
        let answer = harness.post(path, &content_type(PROTOBUF), &body).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(PROTOBUF));
        assert!(answer.body.is_empty());
        assert_eq!(harness.last().unwrap().2, body, "{path}");
    }
    let counts: Vec<_> = harness
        .captured()
        .iter()
        .map(|(_, items, _)| *items)
        .collect();
    assert_eq!(counts, [3, 2, 4]);
    harness.stop().await;
}

#[tokio::test]
async fn json_is_answered_in_json() {
    let harness = Harness::start("");
    let body = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1"}]}]}]}"#;
    let answer = harness.post("/v1/logs", &content_type(JSON), body).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, r#"{"partialSuccess":{}}"#)
    );
    assert_eq!(answer.header("content-type"), Some(JSON));
    let (signal, items, bytes) = harness.last().unwrap();
    assert_eq!((signal, items), (Signal::Logs, 1));
    assert_eq!(bytes, logs(1));
    harness.stop().await;
}

#[tokio::test]
async fn empty_requests_succeed_and_enter_no_pipeline() {
    let harness = Harness::start("");
    let check = async |kind: &str, body: &str, status: u16| {
        let answer = harness
            .post("/v1/traces", &content_type(kind), body.as_bytes())
            .await;
        assert_eq!(answer.status, status, "{kind} {body}");
    };
    check(PROTOBUF, "", 200).await;
    check(JSON, "{}", 200).await;
    check(JSON, r#"{"resourceSpans":[]}"#, 200).await;
    check(JSON, "", 400).await;
    assert!(harness.captured().is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn methods_types_and_paths_are_judged_as_in_the_collector() {
    let harness = Harness::start("");
    let check = async |method: &str, path: &str, kind: Option<&str>, status: u16, text: &str| {
        let kind = kind.map_or(String::new(), |kind| format!("content-type: {kind}\r\n"));
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{kind}content-length: 0\r\n\r\n");
        let answer = harness.raw(request.as_bytes()).await;
        assert_eq!(answer.status, status, "{request}");
        if !text.is_empty() {
            assert_eq!(answer.text(), text, "{request}");
            assert_eq!(
                answer.header("content-type"),
                Some("text/plain"),
                "{request}"
            );
        }
        answer
    };
    let method = "405 method not allowed, supported: [POST]";
    for wrong in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        check(wrong, "/v1/traces", Some(PROTOBUF), 405, method).await;
    }
    let media = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
    for wrong in [
        "text/plain",
        "application/protobuf",
        "application/x-protobuf2",
        "",
        ";",
        "application/json/x",
    ] {
        check("POST", "/v1/traces", Some(wrong), 415, media).await;
    }
    check("POST", "/v1/traces", None, 415, media).await;
    for right in [
        "Application/X-Protobuf",
        "application/x-protobuf;",
        "application/x-protobuf; charset=utf-8",
        " application/x-protobuf ",
    ] {
        check("POST", "/v1/traces", Some(right), 200, "").await;
    }
    for missing in [
        "/",
        "/v1/traces/",
        "/v1/trace",
        "/v2/traces",
        "/v1development/profiles",
    ] {
        check("POST", missing, Some(PROTOBUF), 404, "404 page not found\n").await;
    }
    check("POST", "/v1/traces?a=b", Some(PROTOBUF), 200, "").await;
    let moved = check("POST", "//v1/traces?a=b", Some(PROTOBUF), 307, "").await;
    assert_eq!(moved.header("location"), Some("/v1/traces?a=b"));
    harness.stop().await;
}

#[tokio::test]
async fn signals_without_a_pipeline_have_no_route() {
    let harness = Harness::start_with(
        "[protocols.http]\nendpoint = \"127.0.0.1:0\"\ntraces_url_path = \"in/spans\"",
        &[Signal::Traces],
    );
    let check = async |path: &str, status: u16| {
        let answer = harness
            .post(path, &content_type(PROTOBUF), &traces(1))
            .await;
        assert_eq!(answer.status, status, "{path}");
    };
    check("/in/spans", 200).await;
    check("/v1/traces", 404).await;
    check("/v1/metrics", 404).await;
    check("/v1/logs", 404).await;
    harness.stop().await;
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_400_with_a_status_in_their_format() {
    let harness = Harness::start("");
    let check = async |body: &[u8], expected: &str| {
        let answer = harness
            .post("/v1/traces", &content_type(PROTOBUF), body)
            .await;
        assert_eq!(answer.status, 400, "{body:?}");
        let status = protobuf_status(&answer);
        assert_eq!(status.code, 3);
        assert!(status.message.contains(expected), "{}", status.message);
        assert_eq!(answer.header("retry-after"), None);
    };
    check(b"garbage", "unmarshal").await;
    check(&[0xff; 30], "unmarshal").await;
    let whole = traces(2);
    check(&whole[..whole.len() - 1], "unmarshal").await;
    check(&[whole.as_slice(), &[0x0a]].concat(), "unmarshal").await;
    let bad_id = [10, 8, 18, 6, 18, 4, 10, 2, 1, 2];
    check(&bad_id, "invalid TraceID length").await;
    let failed = harness.failures();
    assert_eq!(failed.len(), 5);
    assert!(
        failed
            .iter()
            .all(|failure| *failure == (Transport::Http, RequestFailure::Failed))
    );
    harness.stop().await;
}

#[tokio::test]
async fn json_that_cannot_be_read_is_400() {
    let harness = Harness::start("");
    let span = |members: &str| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#)
    };
    let check = async |body: &str, status: u16| {
        let answer = harness
            .post("/v1/traces", &content_type(JSON), body.as_bytes())
            .await;
        assert_eq!(answer.status, status, "{body}");
        if status == 400 {
            assert_eq!(json_status(&answer)["code"], 3, "{body}");
        }
    };
    check("nonsense", 400).await;
    check("{} {}", 400).await;
    check("\u{feff}{}", 400).await;
    check(&span(r#""startTimeUnixNano":"-1""#), 400).await;
    check(&span(r#""startTimeUnixNano":1.5"#), 400).await;
    check(&span(r#""traceId":"00""#), 400).await;
    check(&span(r#""traceId":"W47/95gDgQPSabYzgT/GDA==""#), 400).await;
    check(&span(r#""kind":"SPAN_KIND_NONE""#), 400).await;
    check(&span(r#""kind":null"#), 400).await;
    check(&span(r#""kind":"SPAN_KIND_SERVER""#), 200).await;
    check(&span(r#""start_time_unix_nano":1,"unknown":[{}]"#), 200).await;
    check(&span(r#""name":"\ud800""#), 200).await;
    check(
        &span(r#""traceId":"5B8EFFF798038103D269B633813FC60C""#),
        200,
    )
    .await;
    harness.stop().await;
}

#[tokio::test]
async fn json_that_grows_is_held_to_the_limit_and_to_the_memory() {
    // Two bytes of text are eight on the wire.
    const NUMBERS: usize = 10_000;
    let text = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","histogram":{{"dataPoints":[{{"bucketCounts":[0{}]}}]}}}}]}}]}}]}}"#,
        ",0".repeat(NUMBERS - 1)
    );
    let post = async |harness: &Harness| {
        let headers = content_type(JSON);
        let answer = harness.post("/v1/metrics", &headers, text.as_bytes());
        answer.await.status
    };
    let harness = Harness::start("max_request_body_size = 80000");
    assert_eq!(post(&harness).await, 413);
    harness.stop().await;

    let harness = Harness::start("max_request_body_size = 81000");
    assert_eq!(post(&harness).await, 200);
    let size = harness.last().unwrap().2.len();
    assert!((80_000..81_000).contains(&size), "{size}");
    // The text alone would fit.
    harness.capture.state.lock().unwrap().held_max = Some(3 * text.len());
    assert_eq!(post(&harness).await, 503);
    harness.stop().await;
}

#[tokio::test]
async fn strings_that_are_not_utf8_are_repaired_and_counted() {
    let harness = Harness::start("");
    let mut body = traces(2);
    let at = body
        .windows(6)
        .position(|window| window == b"span 1")
        .unwrap();
    body[at] = 0xff;
    let answer = harness
        .post("/v1/traces", &content_type(PROTOBUF), &body)
        .await;
    assert_eq!(answer.status, 200);
    let (_, items, bytes) = harness.last().unwrap();
    assert_eq!(
        (items, harness.capture.state.lock().unwrap().repaired),
        (2, 1)
    );
    let repaired = "\u{fffd}pan 1".as_bytes();
    assert!(
        bytes
            .windows(repaired.len())
            .any(|window| window == repaired)
    );
    harness.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_reserves_nothing() {
    let harness = Harness::start("max_request_body_size = 1000");
    let check = async |kind: &str, size: usize, status: u16| {
        let answer = harness
            .post("/v1/traces", &content_type(kind), &vec![0; size])
            .await;
        assert_eq!(answer.status, status, "{kind} {size}");
        answer
    };
    check(PROTOBUF, 1000, 400).await;
    let answer = check(PROTOBUF, 1001, 413).await;
    let status = protobuf_status(&answer);
    assert_eq!((status.code, status.retry_after), (3, None));
    assert!(status.message.contains("1000 bytes"), "{}", status.message);
    assert_eq!(json_status(&check(JSON, 100_000_000, 413).await)["code"], 3);
    assert_eq!(harness.largest_admission(), 1000);
    harness.stop().await;
}

#[tokio::test]
async fn chunked_bodies_are_gathered_within_the_limit() {
    let harness = Harness::start("max_request_body_size = 100000");
    let body = traces(500);
    let check = async |body: &[u8], piece: usize, status: u16| {
        let mut request =
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec();
        for chunk in body.chunks(piece) {
            request.extend(format!("{:x}\r\n", chunk.len()).bytes());
            request.extend_from_slice(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        let answer = harness.raw(&request).await;
        assert_eq!(answer.status, status, "{} in {piece}", body.len());
    };
    check(&body, 1, 200).await;
    check(&body, 1000, 200).await;
    check(&body, 1_000_000, 200).await;
    assert!(
        harness
            .captured()
            .iter()
            .all(|(_, items, bytes)| *items == 500 && *bytes == body)
    );
    check(&vec![0; 100_001], 5000, 413).await;
    harness.stop().await;
}

#[tokio::test]
async fn every_refusal_for_now_carries_a_hint() {
    let harness = Harness::start("");
    let check = async |answer: Answer, status: u16, code: i32, seconds: Option<u64>| {
        harness.capture.state.lock().unwrap().answer = Some(answer.clone());
        let seen = harness
            .post("/v1/logs", &content_type(PROTOBUF), &logs(1))
            .await;
        assert_eq!(seen.status, status, "{answer:?}");
        let hint = seen.header("retry-after").map(|text| text.parse().unwrap());
        assert_eq!(hint, seconds, "{answer:?}");
        if status != 200 {
            let found = protobuf_status(&seen);
            assert_eq!(
                (found.code, found.retry_after.is_some()),
                (code, hint.is_some())
            );
        }
        let seen = harness
            .post(
                "/v1/logs",
                &content_type(JSON),
                br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#,
            )
            .await;
        assert_eq!(seen.status, status);
        if status != 200 {
            let found = json_status(&seen);
            assert_eq!(found["code"], code);
            assert_eq!(
                found["details"][0]["retryDelay"].is_string(),
                hint.is_some()
            );
        }
    };
    let refused =
        |reason, ms| Answer::Refused(Refusal::retry(reason, "not now", Duration::from_millis(ms)));
    check(Answer::Delivered, 200, 0, None).await;
    check(Answer::Queued, 200, 0, None).await;
    check(refused(RefusalReason::QueueFull, 2000), 503, 14, Some(2)).await;
    check(refused(RefusalReason::MemoryLimit, 100), 503, 14, Some(1)).await;
    check(refused(RefusalReason::ShuttingDown, 1500), 503, 14, Some(2)).await;
    check(refused(RefusalReason::Abandoned, 1000), 503, 14, Some(1)).await;
    check(Answer::Refused(Refusal::permanent("never")), 500, 2, None).await;
    harness.stop().await;
}

#[tokio::test]
async fn admission_is_asked_before_the_body_is_read() {
    let harness = Harness::start("");
    let refusal = Refusal::retry(
        RefusalReason::MemoryLimit,
        "no memory",
        Duration::from_secs(7),
    );
    harness.capture.state.lock().unwrap().refuse = Some(refusal);
    // The body never comes, and is not waited for.
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 5000000\r\n\r\n";
    let answer = harness.raw(head.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("7"))
    );
    // Whoever sends it all the same still gets to see the answer.
    let answer = harness
        .post("/v1/traces", &content_type(PROTOBUF), &vec![0; 5_000_000])
        .await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("7"))
    );
    assert_eq!(
        harness.failures(),
        vec![
            (
                Transport::Http,
                RequestFailure::Refused {
                    reason: RefusalReason::MemoryLimit,
                    bytes: Some(5_000_000),
                }
            );
            2
        ]
    );
    harness.stop().await;
}

#[tokio::test]
async fn a_refused_connection_lives_on_when_little_is_left_unread() {
    let harness = Harness::start("");
    let refusal = Refusal::retry(
        RefusalReason::MemoryLimit,
        "no memory",
        Duration::from_secs(1),
    );
    harness.capture.state.lock().unwrap().refuse = Some(refusal);
    let mut connection = harness.connect().await;
    let body = traces(2000);
    assert_eq!(harness.exchange(&mut connection, &body).await.status, 503);
    harness.capture.state.lock().unwrap().refuse = None;
    assert_eq!(harness.exchange(&mut connection, &body).await.status, 200);
    harness.stop().await;
}

#[tokio::test]
async fn expect_continue_is_answered_only_when_the_body_is_wanted() {
    let harness = Harness::start("");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
    assert_eq!(harness.raw(head.as_bytes()).await.status, 100);
    let refusal = Refusal::retry(
        RefusalReason::MemoryLimit,
        "no memory",
        Duration::from_secs(1),
    );
    harness.capture.state.lock().unwrap().refuse = Some(refusal);
    assert_eq!(harness.raw(head.as_bytes()).await.status, 503);
    harness.stop().await;
}

#[tokio::test]
async fn heads_are_limited_and_old_protocols_work() {
    let harness = Harness::start("");
    let check = async |size: usize, status: u16| {
        let value = "x".repeat(size);
        let headers = [("content-type", PROTOBUF), ("x-large", value.as_str())];
        let answer = harness.post("/v1/traces", &headers, &traces(1)).await;
        assert_eq!(answer.status, status, "{size}");
    };
    check(20_000, 200).await;
    check(2_000_000, 431).await;
    let body = traces(1);
    let mut request = format!(
        "POST /v1/traces HTTP/1.0\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    assert_eq!(harness.raw(&request).await.status, 200);
    harness.stop().await;
}

#[tokio::test]
async fn ambiguous_lengths_do_not_let_a_second_request_in() {
    let harness = Harness::start("");
    let smuggled = "POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    let check = async |headers: &str, body: &str, statuses: &[u16]| {
        let request = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n{headers}\r\n{body}{smuggled}"
        );
        let found = harness.raw_all(request.as_bytes()).await;
        assert_eq!(found, statuses, "{headers}");
    };
    // RFC 9112, 6.1: chunked wins, and the connection is closed after the answer.
    check(
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "0\r\n\r\n",
        &[200],
    )
    .await;
    check(
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "0\r\n\r\n",
        &[200],
    )
    .await;
    check("content-length: 5\r\ncontent-length: 6\r\n", "", &[400]).await;
    check("content-length: -1\r\n", "", &[400]).await;
    check("transfer-encoding: gzip\r\n", "", &[400]).await;
    harness.stop().await;
}

#[tokio::test]
async fn many_requests_share_a_connection_unless_that_is_turned_off() {
    let harness = Harness::start("");
    let mut connection = harness.connect().await;
    for _ in 0..3 {
        assert_eq!(
            harness.exchange(&mut connection, &traces(1)).await.status,
            200
        );
    }
    harness.stop().await;
    let harness = Harness::start("keep_alives_enabled = false");
    let mut connection = harness.connect().await;
    assert_eq!(
        harness
            .exchange(&mut connection, &traces(1))
            .await
            .header("connection"),
        Some("close")
    );
    assert_eq!(
        harness.exchange(&mut connection, &traces(1)).await.status,
        0
    );
    harness.stop().await;
}

#[tokio::test]
async fn browsers_are_told_what_they_may_do() {
    let harness = Harness::start(
        "response_headers = { x-node = \"a\" }\n[protocols.http.cors]\nallowed_origins = [\"https://*.example\"]\nmax_age = 60",
    );
    let preflight = async |origin: &str| {
        let request = format!(
            "OPTIONS /v1/traces HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\r\n"
        );
        harness.raw(request.as_bytes()).await
    };
    let answer = preflight("https://app.example").await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    assert_eq!(answer.header("x-node"), Some("a"));
    assert_eq!(
        preflight("https://evil")
            .await
            .header("access-control-allow-origin"),
        None
    );
    let headers = [
        ("content-type", PROTOBUF),
        ("origin", "https://app.example"),
    ];
    let answer = harness.post("/v1/traces", &headers, &traces(1)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    harness.stop().await;
}

//! What the service answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use support::{Client, Collector, Service, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn vectors_are_added() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &[], &[]).await;
    let mut client = service.client().await;
    let answer = client.add(r#"{"a":[1,2.5,-3],"b":[4,5.5,3]}"#).await;
    assert_eq!(
        (answer.status, answer.kind.as_str()),
        (200, "application/json")
    );
    assert_eq!(answer.body, json!({"result": [5.0, 8.0, 0.0]}));

    let answer = client.send("GET", "/health", &[], "").await;
    assert_eq!((answer.status, answer.body), (200, json!({"status": "ok"})));
    assert!(service.stop().await.success);
}

/// Sends `body` with `content_type` and checks the problem in the answer.
async fn check_refused(
    client: &mut Client,
    request: &str,
    content_type: &str,
    body: &str,
    expected: (u16, &str),
) {
    let (method, path) = request.split_once(' ').unwrap();
    let headers = [("content-type", content_type)];
    let headers = if content_type.is_empty() {
        &[]
    } else {
        &headers[..]
    };
    let answer = client.send(method, path, headers, body).await;
    assert_eq!(
        (answer.status, answer.kind.as_str()),
        (expected.0, "application/problem+json"),
        "{body}"
    );
    assert_eq!(answer.body["status"], expected.0);
    assert!(answer.body["title"].is_string());
    let text = answer.body["detail"].as_str().unwrap();
    assert!(
        text.contains(expected.1),
        "{text} does not contain {}",
        expected.1
    );
}

#[tokio::test]
async fn refused_bodies_say_what_is_wrong() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &["--max-body-bytes", "100"], &[]).await;
    let mut client = service.client().await;
    let large = format!("{{\"a\":[{}1],\"b\":[1]}}", "1,".repeat(100));
    for (body, status, detail) in [
        (
            r#"{"a":[1],"b":[1,2]}"#,
            422,
            "`a` has 1 numbers and `b` has 2",
        ),
        (
            r#"{"a":[1e308],"b":[1e308]}"#,
            422,
            "index 0 is beyond the range",
        ),
        (r#"{"a":[1e999],"b":[1]}"#, 422, "number out of range"),
        (r#"{"a":["x"],"b":[1]}"#, 422, "expected f64"),
        (r#"{"a":[1]}"#, 422, "missing field `b`"),
        (r#"{"a":[NaN],"b":[1]}"#, 400, "not valid JSON"),
        ("{", 400, "not valid JSON"),
        ("", 400, "not valid JSON"),
        (large.as_str(), 413, "limit of 100 bytes"),
    ] {
        let request = "POST /api/vector/add";
        check_refused(
            &mut client,
            request,
            "application/json",
            body,
            (status, detail),
        )
        .await;
    }
}

#[tokio::test]
async fn refused_requests_say_what_is_wrong() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &[], &[]).await;
    let mut client = service.client().await;
    for (request, content_type, status, detail) in [
        (
            "POST /api/vector/add",
            "text/plain",
            415,
            "it is `text/plain`",
        ),
        ("POST /api/vector/add", "", 415, "it is none"),
        ("GET /api/vector/add", "", 405, "does not answer GET"),
        ("POST /health", "", 405, "does not answer POST"),
        ("GET /other", "", 404, "nothing at /other"),
    ] {
        check_refused(&mut client, request, content_type, "", (status, detail)).await;
    }
    let kind = [("content-type", "Application/JSON; charset=utf-8")];
    let answer = client
        .send("POST", "/api/vector/add", &kind, r#"{"a":[],"b":[]}"#)
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn compressed_bodies_are_taken() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &["--max-body-bytes", "1000"], &[]).await;
    let mut client = service.client().await;
    let zeros = format!("[0{}]", ",0".repeat(999));
    let large = format!("{{\"a\":{zeros},\"b\":{zeros}}}");
    for (coding, body, status, detail) in [
        ("gzip", r#"{"a":[1],"b":[2]}"#, 200, ""),
        (
            "gzip",
            large.as_str(),
            413,
            "the decompressed body is larger than the limit of 1000 bytes",
        ),
        ("gzip", r#"{"a":[1]}"#, 422, "missing field `b`"),
        (
            "deflate",
            r#"{"a":[1],"b":[2]}"#,
            400,
            "could not be decompressed",
        ),
        ("zstd", r#"{"a":[1],"b":[2]}"#, 415, "but it is `zstd`"),
    ] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body.as_bytes()).unwrap();
        let compressed = encoder.finish().unwrap();
        assert!(compressed.len() < 1000);
        let headers = [
            ("content-type", "application/json"),
            ("content-encoding", coding),
        ];
        let answer = client
            .send_bytes("POST", "/api/vector/add", &headers, compressed.into())
            .await;
        assert_eq!(answer.status, status, "{coding} {body}: {}", answer.text);
        assert!(answer.text.contains(detail), "{detail}: {}", answer.text);
        let accepted = if coding == "zstd" {
            "gzip, deflate"
        } else {
            ""
        };
        assert_eq!(answer.accepted, accepted, "{coding} {body}");
    }
    assert!(service.stop().await.success);
}

#[tokio::test]
async fn what_is_no_valid_http_is_answered_without_a_body() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &[], &[]).await;
    let long = "x".repeat(70_000);
    let many = "x: y\r\n".repeat(200);
    for (sent, status) in [
        ("NONSENSE\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), 414),
        (
            format!("GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
            431,
        ),
    ] {
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut received = String::new();
        within(stream.read_to_string(&mut received)).await.unwrap();
        let first = format!("HTTP/1.1 {status} ");
        assert!(received.starts_with(&first), "{received}");
        assert!(received.ends_with("\r\n\r\n"), "{received}");
    }
}

#[tokio::test]
async fn who_does_not_send_a_whole_head_is_left_alone_with_it() {
    let collector = Collector::start().await;
    let arguments = ["--header-timeout-ms", "200"];
    let service = Service::start(&collector.endpoint, &arguments, &[]).await;
    let whole = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    for (sent, answers) in [
        ("", 0),
        ("P", 0),
        ("PRI * HTTP/2", 0),
        ("GET /health HTTP/1.1\r\nhost: x\r\n", 0),
        (whole, 1),
        (&format!("{whole}GET /health"), 1),
    ] {
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        // The service closes; a client's own patience is longer than this test's.
        within(stream.read_to_end(&mut received)).await.unwrap();
        let text = String::from_utf8_lossy(&received);
        assert_eq!(text.matches("200 OK").count(), answers, "{sent:?}: {text}");
    }
    let mut client = service.client().await;
    let answer = client.send("GET", "/health", &[], "").await;
    assert_eq!(answer.status, 200, "others are served");
    assert!(service.stop().await.success);
}

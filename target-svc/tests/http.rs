//! What the service answers.

mod support;

use serde_json::json;
use support::{Collector, Service};

const JSON: (&str, &str) = ("content-type", "application/json");

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

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let collector = Collector::start().await;
    let service = Service::start(&collector.endpoint, &["--max-body-bytes", "100"], &[]).await;
    let mut client = service.client().await;
    let large = format!("{{\"a\":[{}1],\"b\":[1]}}", "1,".repeat(100));
    let cases: [(&str, &str, &[(&str, &str)], &str, u16, &str); 14] = [
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            r#"{"a":[1],"b":[1,2]}"#,
            422,
            "`a` has 1 numbers and `b` has 2",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            r#"{"a":[1e308],"b":[1e308]}"#,
            422,
            "index 0 is beyond the range",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            r#"{"a":[1e999],"b":[1]}"#,
            422,
            "number out of range",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            r#"{"a":["x"],"b":[1]}"#,
            422,
            "expected f64",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            r#"{"a":[1]}"#,
            422,
            "missing field `b`",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            r#"{"a":[NaN],"b":[1]}"#,
            400,
            "not valid JSON",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            "{",
            400,
            "not valid JSON",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            "",
            400,
            "not valid JSON",
        ),
        (
            "POST",
            "/api/vector/add",
            &[JSON],
            &large,
            413,
            "limit of 100 bytes",
        ),
        (
            "POST",
            "/api/vector/add",
            &[("content-type", "text/plain")],
            "{}",
            415,
            "it is `text/plain`",
        ),
        ("POST", "/api/vector/add", &[], "{}", 415, "it is none"),
        (
            "GET",
            "/api/vector/add",
            &[],
            "",
            405,
            "does not answer GET",
        ),
        ("POST", "/health", &[], "", 405, "does not answer POST"),
        ("GET", "/other", &[], "", 404, "nothing at /other"),
    ];
    for (method, path, headers, body, status, detail) in cases {
        let answer = client.send(method, path, headers, body).await;
        assert_eq!(
            (answer.status, answer.kind.as_str()),
            (status, "application/problem+json"),
            "{body}"
        );
        assert_eq!(answer.body["status"], status);
        assert!(answer.body["title"].is_string());
        let text = answer.body["detail"].as_str().unwrap();
        assert!(text.contains(detail), "{text} does not contain {detail}");
    }
    let answer = client
        .send(
            "POST",
            "/api/vector/add",
            &[("content-type", "Application/JSON; charset=utf-8")],
            r#"{"a":[],"b":[]}"#,
        )
        .await;
    assert_eq!(answer.status, 200);
}

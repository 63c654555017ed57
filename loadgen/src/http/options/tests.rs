//! What command lines mean.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn settings(line: &str) -> anyhow::Result<Settings> {
    let words = std::iter::once("http").chain(line.split_whitespace());
    Line::try_parse_from(words)?.args.into_settings()
}

#[test]
fn a_url_alone_is_a_closed_loop_of_get_requests_for_ten_seconds() {
    let settings = settings("http://[::1]:8080/x?y=1").unwrap();
    let expected = Load {
        workers: 8,
        mode: Mode::Closed,
        warm_up: Duration::ZERO,
        duration: Some(Duration::from_secs(10)),
        requests: None,
    };
    assert_eq!(settings.load, expected);
    assert_eq!(settings.request.method, Method::GET);
    assert_eq!(settings.request.headers[HOST], "[::1]:8080");
    assert!(!settings.request.headers.contains_key(CONTENT_TYPE));
    assert!(settings.request.trace_context && settings.save.open().unwrap().is_none());
}

#[test]
fn requests_alone_set_no_time_limit() {
    let load = settings("http://a/ -n 5").unwrap().load;
    assert_eq!((load.duration, load.requests), (None, Some(5)));
    let load = settings("http://a/ -n 5 -d 2s").unwrap().load;
    assert_eq!(
        (load.duration, load.requests),
        (Some(Duration::from_secs(2)), Some(5))
    );
}

#[test]
fn a_body_makes_a_json_post_unless_told_otherwise() {
    let request = settings("http://a/ --body {}").unwrap().request;
    assert_eq!(
        (request.method, &request.headers[CONTENT_TYPE]),
        (Method::POST, &HeaderValue::from_static("application/json"))
    );
    let request = settings("http://a/ --body x -X PUT -H content-type:text/plain -H host:b")
        .unwrap()
        .request;
    assert_eq!(request.method, Method::PUT);
    assert_eq!(
        (&request.headers[CONTENT_TYPE], &request.headers[HOST]),
        (
            &HeaderValue::from_static("text/plain"),
            &HeaderValue::from_static("b")
        )
    );
}

#[test]
fn vectors_have_the_size_asked_for() {
    let body = settings("http://a/ --vector-size 3").unwrap().request.body;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"a": [0.0, 0.5, 1.0], "b": [0.0, 1.25, 2.5]})
    );
}

#[test]
fn trace_context_can_be_switched_off() {
    assert!(
        settings("--trace-context http://a/")
            .unwrap()
            .request
            .trace_context
    );
    assert!(
        !settings("--trace-context=false http://a/")
            .unwrap()
            .request
            .trace_context
    );
}

#[test]
fn senseless_settings_are_refused() {
    for line in [
        "",
        "ftp://a/",
        "https://a/ --ca nowhere.pem",
        "https://a/ --ca a --insecure",
        "http://a/ --insecure",
        "/path/only",
        "http://a/ -w 0",
        "http://a/ -w 100000",
        "http://a/ -n 0",
        "http://a/ -d 0s",
        "http://a/ --rate -1",
        "http://a/ --rate nan",
        "http://a/ --rate 1e99",
        "http://a/ --timeout 0s",
        "http://a/ --max-error-rate 1.1",
        "http://a/ -H novalue",
        "http://a/ --body x --body-file y",
    ] {
        assert!(settings(line).is_err(), "`{line}` was accepted");
    }
}

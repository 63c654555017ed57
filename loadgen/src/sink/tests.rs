use super::stats::Found;
use super::*;
use crate::otlp::client::Target;
use crate::otlp::compression::Compression;
use crate::otlp::drive::{self, Load, Run};
use crate::otlp::payload::{Numbering, Pool, Shape};
use crate::otlp::signal::Signal;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn sink(faults: Faults) -> Sink {
    limited_sink(faults, Limits::default()).await
}

async fn limited_sink(faults: Faults, limits: Limits) -> Sink {
    let address = Some(LOOPBACK);
    let settings = Settings {
        clickhouse: address,
        otlp_http: address,
        otlp_grpc: address,
        counting: Counting::Distinct,
        deduplication_window: 10,
        faults,
        limits,
    };
    Sink::start(&settings).await.unwrap()
}

#[derive(Clone)]
struct Case {
    signal: Signal,
    protocol: Protocol,
    compression: Compression,
    items: u64,
    rate: Option<f64>,
    duration: Duration,
    retry: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            signal: Signal::Logs,
            protocol: Protocol::Http,
            compression: Compression::None,
            items: 300,
            rate: None,
            duration: Duration::from_secs(60),
            retry: false,
        }
    }
}

/// Offers a load to the sink from a thread of its own.
async fn send(sink: &Sink, case: Case) -> Run {
    let address = match case.protocol {
        Protocol::Http => sink.addresses.otlp_http,
        Protocol::Grpc => sink.addresses.otlp_grpc,
    };
    let shape = Shape::natural(case.signal, 100, "test", 1);
    let numbering = Numbering::for_run("test");
    let endpoint = address.unwrap().to_string();
    let load = Load {
        target: Target::new(&endpoint, case.protocol, case.compression, case.signal).unwrap(),
        connections: 3,
        items: Some(case.items),
        duration: case.duration,
        rate: case.rate,
        timeout: Duration::from_secs(20),
        retry: case.retry,
        stamp: true,
        numbering,
        first_item: 0,
        teller: None,
    };
    let (_running, stopped) = tokio::sync::watch::channel(false);
    let sending = tokio::task::spawn_blocking(move || {
        let pool =
            Pool::build(&shape, 4, case.compression, numbering, drive::unix_nanos()).unwrap();
        drive::run(load, pool, stopped).unwrap().0
    });
    sending.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_counts_what_was_sent_over_each_protocol() {
    for signal in Signal::ALL {
        for protocol in [Protocol::Grpc, Protocol::Http] {
            for compression in Compression::ALL {
                let sink = sink(Faults::NONE).await;
                let run = send(
                    &sink,
                    Case {
                        signal,
                        protocol,
                        compression,
                        items: 1234,
                        ..Case::default()
                    },
                )
                .await;
                let snapshot = sink.stats.snapshot();
                let received = &snapshot.otlp[&format!("{signal} over {protocol}")];
                let case = format!("{signal} {protocol} {compression}: {snapshot:?}");
                assert_eq!(received.items, 1234, "{case}");
                assert_eq!(run.tally.accepted.items, 1234, "{case}");
                assert_eq!(run.tally.sent, run.tally.accepted, "{case}");
                assert_eq!((received.requests, received.uncounted), (13, 0), "{case}");
                // Compressed requests are sent again as they were built, once all of the pool have been.
                let again = received.duplicated.unwrap();
                let is_stamped = compression == Compression::None;
                assert_eq!(again == 0, is_stamped, "{case}");
                let prefixes = if protocol == Protocol::Grpc {
                    13 * 5
                } else {
                    0
                };
                assert_eq!(received.bytes, run.tally.sent.bytes + prefixes, "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_told_by_status_and_not_counted_as_accepted() {
    for (protocol, status) in [(Protocol::Http, "503"), (Protocol::Grpc, "UNAVAILABLE")] {
        let sink = sink(Faults {
            error_rate: 1.0,
            ..Faults::NONE
        })
        .await;
        let case = Case {
            protocol,
            ..Case::default()
        };
        let tally = send(&sink, case).await.tally;
        assert_eq!((tally.sent.items, tally.accepted.items), (300, 0));
        assert_eq!(tally.refused_items(), 300);
        assert_eq!(tally.refused[status].answers, 3, "{:?}", tally.refused);
        assert_eq!(sink.stats.snapshot().items(), 0);
        assert_eq!(sink.stats.snapshot().injected_errors, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_deliver_everything_once_and_wait_as_long_as_the_hint_says() {
    for (protocol, status) in [
        (Protocol::Http, "429"),
        (Protocol::Grpc, "RESOURCE_EXHAUSTED"),
    ] {
        let faults = Faults {
            error_rate: 0.5,
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(1),
            ..Faults::NONE
        };
        let sink = sink(faults).await;
        let run = send(
            &sink,
            Case {
                protocol,
                items: 600,
                retry: true,
                ..Case::default()
            },
        )
        .await;
        let snapshot = sink.stats.snapshot();
        assert_eq!((run.tally.accepted.items, snapshot.items()), (600, 600));
        assert_eq!(run.tally.retries, snapshot.injected_errors);
        if let Some(refusals) = run.tally.refused.get(status) {
            assert_eq!(
                (refusals.with_hint, refusals.requests),
                (refusals.answers, 0)
            );
            assert!(
                run.tally.latency.summary().max >= 1000.0,
                "the hint was not waited for"
            );
            assert!(
                run.tally.service.summary().max < 1000.0,
                "service time counts one attempt"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_sends_what_is_due_and_tells_what_it_could_not() {
    let duration = Duration::from_millis(500);
    let case = Case {
        rate: Some(20_000.0),
        duration,
        items: u64::MAX,
        ..Case::default()
    };
    let quick = sink(Faults::NONE).await;
    let tally = send(&quick, case.clone()).await.tally;
    assert_eq!(tally.sent.requests + tally.unsent, 100, "{tally:?}");
    // All of them on an idle machine; a busy one may keep the sender from its turn.
    assert!(tally.sent.requests >= 50, "{tally:?}");

    let slow = sink(Faults {
        delay: Duration::from_millis(100),
        ..Faults::NONE
    })
    .await;
    let tally = send(&slow, case).await.tally;
    assert_eq!(tally.sent.requests + tally.unsent, 100, "{tally:?}");
    assert!(tally.unsent >= 70, "{tally:?}");
    let (latency, service) = (tally.latency.summary(), tally.service.summary());
    assert!(
        latency.max > service.max + 100.0,
        "a stall must show from when requests were due"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_a_failure_not_a_refusal() {
    let sink = sink(Faults::NONE).await;
    let gone = Sink {
        addresses: sink.addresses,
        stats: Arc::clone(&sink.stats),
        listeners: JoinSet::new(),
    };
    drop(sink);
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let case = Case {
            protocol,
            items: 200,
            retry: true,
            ..Case::default()
        };
        let tally = send(&gone, case).await.tally;
        assert_eq!(
            (
                tally.failed_items(),
                tally.refused_items(),
                tally.accepted.items
            ),
            (200, 0, 0)
        );
    }
}

async fn ask(address: SocketAddr, path_and_body: (&str, &str)) -> (StatusCode, String) {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::client::legacy::Client;

    let (path, body) = path_and_body;
    let request = Request::post(format!("http://{address}{path}"))
        .body(Full::new(Bytes::from(body.to_owned())));
    let client = Client::builder(hyper_util::rt::TokioExecutor::new()).build_http::<Full<Bytes>>();
    let answer = client.request(request.unwrap()).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn clickhouse_statements_and_inserts_are_answered_and_counted() {
    let sink = sink(Faults::NONE).await;
    let address = sink.addresses.clickhouse.unwrap();
    let check = async |path: &str, body: &str, status: u16, answer: &str| {
        let (got, text) = ask(address, (path, body)).await;
        assert_eq!(got.as_u16(), status, "{path} {body}: {text}");
        assert!(text.starts_with(answer), "{path} {body}: {text}");
    };
    check("/ping", "", 200, "Ok.\n").await;
    check("/?database=default", "SELECT version()", 200, "26.").await;
    check("/?query=SELECT%201", "", 200, "1\n").await;
    check(
        "/",
        "CREATE TABLE t (a UInt16, b String) ENGINE = Null",
        200,
        "",
    )
    .await;
    check("/?query=DESC+TABLE+t", "", 200, "a\tUInt16\t").await;
    check("/", "SELECT sleep(3)", 501, "Code: 48. DB::Exception").await;
    check(
        "/?query=INSERT+INTO+t+FORMAT+RowBinary",
        "\u{1}\u{1}\u{2}ab\u{1}\u{1}\u{0}",
        200,
        "",
    )
    .await;
    check(
        "/?query=INSERT+INTO+x.u+FORMAT+JSONEachRow",
        "{}\n{}\n{}\n",
        200,
        "",
    )
    .await;
    check("/", "INSERT INTO u FORMAT JSONEachRow\n{}\n", 200, "").await;
    check("/?query=INSERT+INTO+absent+FORMAT+RowBinary", "xx", 200, "").await;

    let snapshot = sink.stats.snapshot();
    let rows = |table: &str| {
        (
            snapshot.tables[table].requests,
            snapshot.tables[table].items,
        )
    };
    assert_eq!((rows("t"), rows("u")), ((1, 2), (2, 4)));
    assert_eq!(snapshot.tables["absent"].uncounted, 1);
    assert_eq!(snapshot.unknown_statements, ["SELECT sleep(3)"]);
    let (_, json) = ask(address, ("/stats", "")).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["tables"]["t"]["items"], 2);
}

#[tokio::test]
async fn statements_are_answered_while_inserts_fail() {
    let sink = sink(Faults {
        error_rate: 1.0,
        ..Faults::NONE
    })
    .await;
    let address = sink.addresses.clickhouse.unwrap();
    assert_eq!(ask(address, ("/", "SELECT 1")).await.0, StatusCode::OK);
    let insert = ("/?query=INSERT+INTO+u+FORMAT+JSONEachRow", "{}\n");
    assert_eq!(
        ask(address, insert).await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(sink.stats.snapshot().items(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_refuse_by_their_status_and_are_counted() {
    let body = Limits {
        body: Some(100),
        ..Limits::default()
    };
    let none = Limits {
        in_flight: Some(0),
        ..Limits::default()
    };
    let slow = Limits {
        rate: Some(0.001),
        ..Limits::default()
    };
    for (limits, name, http, grpc, accepted) in [
        (body, "body", "413", "RESOURCE_EXHAUSTED", 0),
        (none, "in flight", "503", "UNAVAILABLE", 0),
        (slow, "rate", "429", "RESOURCE_EXHAUSTED", 100),
    ] {
        for (protocol, status) in [(Protocol::Http, http), (Protocol::Grpc, grpc)] {
            let sink = limited_sink(Faults::NONE, limits).await;
            let case = Case {
                protocol,
                ..Case::default()
            };
            let tally = send(&sink, case).await.tally;
            let snapshot = sink.stats.snapshot();
            assert_eq!(tally.accepted.items, accepted, "{name} over {protocol}");
            assert_eq!(
                tally.refused[status].items,
                300 - accepted,
                "{name} over {protocol}"
            );
            assert_eq!(snapshot.refused[name], 3 - accepted / 100);
            assert_eq!(snapshot.items(), accepted);
        }
    }
}

#[tokio::test]
async fn clickhouse_refuses_inserts_as_a_server_does() {
    let limits = Limits {
        body: Some(2),
        ..Limits::default()
    };
    let sink = limited_sink(Faults::NONE, limits).await;
    let address = sink.addresses.clickhouse.unwrap();
    let insert = |body| ask(address, ("/?query=INSERT+INTO+u+FORMAT+JSONEachRow", body));
    assert_eq!(insert("{}").await.0, StatusCode::OK);
    let (status, text) = insert("{}\n{}").await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.starts_with("Code: 307. DB::Exception"), "{text}");
    assert_eq!(sink.stats.snapshot().items(), 1);
}

#[tokio::test]
async fn a_block_that_comes_again_by_its_token_is_acknowledged_and_not_counted() {
    let sink = sink(Faults::NONE).await;
    let address = sink.addresses.clickhouse.unwrap();
    let insert = async |table: &str, token: &str, body: &str| {
        let path = format!(
            "/?query=INSERT+INTO+{table}+FORMAT+JSONEachRow&insert_deduplication_token={token}"
        );
        let (status, text) = ask(address, (&path, body)).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, ""));
    };
    for (table, token, row) in [
        ("t", "a%2F1", 1),
        ("t", "a%2f1", 2),
        ("t", "a%2F2", 3),
        ("u", "a%2F1", 4),
        // Without a name there is nothing to know it by.
        ("u", "", 5),
        ("u", "", 6),
    ] {
        insert(table, token, &format!("{{\"x\":{row}}}\n")).await;
    }
    let snapshot = sink.stats.snapshot();
    let of = |table: &str| {
        let received = &snapshot.tables[table];
        (received.requests, received.items, received.duplicated)
    };
    assert_eq!((of("t"), of("u")), ((2, 2, Some(0)), (3, 3, Some(0))));
    let (_, text) = ask(address, ("/metrics", "")).await;
    let line = "loadgen_sink_deduplicated_blocks_total{table=\"t\"} 1";
    assert!(text.lines().any(|it| it == line), "{text}");
    let (_, json) = ask(address, ("/stats", "")).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["deduplicated_blocks"], serde_json::json!({ "t": 1 }));
}

#[tokio::test]
async fn the_official_client_is_at_home() {
    let sink = sink(Faults::NONE).await;
    let client = ::clickhouse::Client::default()
        .with_url(format!("http://{}", sink.addresses.clickhouse.unwrap()));
    let version: String = client.query("SELECT version()").fetch_one().await.unwrap();
    assert!(version.starts_with("26."), "{version}");
    client
        .query("CREATE DATABASE IF NOT EXISTS otel")
        .execute()
        .await
        .unwrap();
    let columns: Vec<String> = client
        .query("SELECT name FROM system.columns WHERE database = 'otel' AND table = ? AND default_kind != 'ALIAS'")
        .bind("otel_traces_trace_id_ts")
        .fetch_all()
        .await
        .unwrap();
    assert_eq!(columns, ["TraceId", "Start", "End"]);
    let error = client
        .query("SELECT sleep(1)")
        .execute()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("NOT_IMPLEMENTED"), "{error}");

    let mut insert = client
        .insert_formatted_with("INSERT INTO otel.otel_logs FORMAT JSONEachRow")
        .buffered();
    insert.write_buffered(b"{}\n{}\n");
    insert.end().await.unwrap();
    assert_eq!(sink.stats.snapshot().tables["otel_logs"].items, 2);
}

#[test]
fn what_comes_twice_is_counted_whichever_way_it_comes() {
    let stats = Stats::default();
    let items = |prints: &[u64]| Ok(Found::Prints(prints.to_vec()));
    stats.received("traces over HTTP", "spans", 1, items(&[1, 2, 3]));
    stats.received("traces over gRPC", "spans", 1, items(&[3, 4]));
    stats.received("logs over HTTP", "log records", 1, items(&[3]));
    stats.received("metrics over HTTP", "data points", 1, Ok(Found::Number(7)));
    let otlp = stats.snapshot().otlp;
    let duplicated: Vec<_> = otlp.values().map(|received| received.duplicated).collect();
    assert_eq!(duplicated, [Some(0), None, Some(0), Some(1)], "{otlp:?}");
}

/// What the sink answers to a request on its OTLP/HTTP door.
async fn asked(sink: &Sink, method: &str, content_type: &str, body: &'static str) -> u16 {
    use http_body_util::Full;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let address = sink.addresses.otlp_http.unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}/v1/logs"))
        .header(CONTENT_TYPE, content_type)
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap();
    client.request(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn only_telemetry_is_taken() {
    const PROTOBUF: &str = "application/x-protobuf";
    const JSON: &str = "application/json; charset=utf-8";
    let record = "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{},{}]}]}]}";
    let sink = sink(Faults::NONE).await;
    for (method, content_type, body, expected) in [
        ("GET", PROTOBUF, "", 405),
        ("PUT", PROTOBUF, "", 405),
        ("POST", PROTOBUF, "garbage that is not OTLP", 400),
        ("POST", PROTOBUF, record, 400),
        ("POST", JSON, "garbage", 400),
        ("POST", JSON, "[]", 400),
        ("POST", JSON, "{\"resourceLogs\":5}", 400),
        ("POST", JSON, record, 200),
        ("POST", PROTOBUF, "", 200),
    ] {
        let status = asked(&sink, method, content_type, body).await;
        assert_eq!(status, expected, "{method} {content_type} {body}");
    }
    let received = &sink.stats.snapshot().otlp["logs over HTTP"];
    assert_eq!(
        (received.requests, received.items, received.uncounted),
        (7, 2, 5)
    );
}

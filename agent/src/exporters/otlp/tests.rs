//! The exporters against servers that behave, and servers that do not.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::{GRPC, HTTP};
use crate::ack::{Answer, RefusalReason};
use crate::batch::Payload;
use crate::component::{ExporterSettings, Factory};
use crate::net::tls::{Pem, TlsSettings, TlsVersion};
use crate::signal::Signal;
use crate::testing::{RunningExporter, eventually, metric, parse, refusing, request};

/// What a request was answered with, by a server that is told in advance.
#[derive(Debug, Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    trailers: Vec<(&'static str, String)>,
    /// Answer never.
    hang: bool,
}

impl Reply {
    fn http(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    fn grpc(code: u32) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/grpc".to_owned())],
            body: vec![0; 5],
            trailers: vec![("grpc-status", code.to_string())],
            hang: false,
        }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn with_body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }
}

/// What arrived.
#[derive(Debug, Clone)]
struct Seen {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    connections: usize,
    /// What the next requests are answered with; the last one stays.
    replies: Vec<Reply>,
}

/// A server that answers as it is told, over HTTP/1 and HTTP/2.
struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _running: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(replies: Vec<Reply>) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), replies).await
    }

    async fn start_on(address: SocketAddr, replies: Vec<Reply>) -> Self {
        Self::start_with(address, replies, None).await
    }

    async fn start_with(
        address: SocketAddr,
        replies: Vec<Reply>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            replies,
            ..State::default()
        }));
        let running = tokio::spawn(serve(listener, Arc::clone(&state), tls));
        Self {
            address,
            state,
            _running: AbortOnDropHandle::new(running),
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, tls: Option<TlsAcceptor>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        state.lock().unwrap().connections += 1;
        let (state, tls) = (Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            let stream: Box<dyn super::connect::Stream> = match tls {
                None => Box::new(stream),
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
            };
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let builder = auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            // Clients come and go.
            drop(connection.await);
        });
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        std::future::pending::<()>().await;
        unreachable!();
    };
    let reply = {
        let mut state = state.lock().unwrap();
        state.seen.push(Seen {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body: body.to_bytes(),
        });
        match state.replies.len() {
            1 => state.replies[0].clone(),
            _ => state.replies.remove(0),
        }
    };
    if reply.hang {
        std::future::pending::<()>().await;
    }
    let pairs = |pairs: Vec<(&'static str, String)>| -> HeaderMap {
        let pairs = pairs.into_iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::try_from(value).unwrap()))
            .map(|pair: (http::HeaderName, HeaderValue)| pair)
            .collect()
    };
    let trailers = pairs(reply.trailers);
    let body = Full::new(Bytes::from(reply.body));
    let body = match trailers.is_empty() {
        true => body.boxed(),
        false => body.with_trailers(async { Some(Ok(trailers)) }).boxed(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    *response.headers_mut() = pairs(reply.headers);
    Ok(response)
}

/// Retries that come at once, one consumer, clients that hear of delivery.
const EAGER: &str = "retry_on_failure = { initial_interval = '1ms', max_interval = '1ms' }\n\
                     sending_queue = { num_consumers = 1, wait_for_result = true }\n";

fn start_with(
    factory: &Factory<dyn ExporterSettings>,
    address: SocketAddr,
    options: &str,
) -> RunningExporter {
    let text = format!("endpoint = 'http://{address}'\n{EAGER}{options}");
    let settings = parse(factory, &text).unwrap_or_else(|found| panic!("{found}"));
    RunningExporter::start(&*settings, &Signal::ALL).unwrap()
}

fn start(factory: &Factory<dyn ExporterSettings>, address: SocketAddr) -> RunningExporter {
    start_with(factory, address, "compression = 'none'")
}

/// Both protocols with their success, for what holds for both.
fn both() -> [(&'static Factory<dyn ExporterSettings>, Reply); 2] {
    [(&GRPC, Reply::grpc(0)), (&HTTP, Reply::http(200))]
}

fn payload() -> Payload {
    let mut payload = Payload::from(request(Signal::Traces, "checkout", 3));
    payload.push(request(Signal::Traces, "cart", 2));
    payload
}

fn service_names(request: &[u8]) -> usize {
    let request = ExportTraceServiceRequest::decode(request).unwrap();
    request.resource_spans.len()
}

#[tokio::test]
async fn requests_arrive_byte_for_byte() {
    for (factory, success) in both() {
        let server = Server::start(vec![success]).await;
        let exporter = start(factory, server.address);
        let whole = payload().to_bytes();
        let answer = exporter.send(Signal::Traces, payload()).await;
        assert_eq!(answer, Answer::Delivered, "{}", factory.kind);
        let [seen] = &server.seen()[..] else {
            panic!("{:?}", server.seen());
        };
        let body = match factory.kind {
            "otlp_grpc" => {
                assert_eq!(seen.headers["te"], "trailers");
                assert_eq!(seen.headers["grpc-timeout"], "5000m");
                let prefix = [&[0][..], &(whole.len() as u32).to_be_bytes()].concat();
                seen.body.strip_prefix(&prefix[..]).unwrap()
            }
            _ => {
                assert_eq!(seen.headers["content-type"], "application/x-protobuf");
                assert!(!seen.headers.contains_key("content-encoding"));
                &seen.body
            }
        };
        assert_eq!(body, whole, "{}", factory.kind);
        assert_eq!(service_names(body), 2);
        exporter.stop().await;
    }
}

#[tokio::test]
async fn every_signal_has_its_address() {
    for (factory, success) in both() {
        let server = Server::start(vec![success]).await;
        let exporter = start(factory, server.address);
        for signal in Signal::ALL {
            let answer = exporter.send(signal, request(signal, "checkout", 3)).await;
            assert_eq!(answer, Answer::Delivered);
        }
        let paths: Vec<_> = server.seen().into_iter().map(|seen| seen.path).collect();
        let expected = match factory.kind {
            "otlp_grpc" => [
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            ],
            _ => ["/v1/traces", "/v1/metrics", "/v1/logs"],
        };
        assert_eq!(paths, expected);
        exporter.stop().await;
    }
}

#[tokio::test]
async fn credentials_are_shown_as_they_are_at_the_time() {
    use crate::auth::{Authenticator, Tokens, Way};
    let options = "headers = { authorization = 'Bearer old' }\nauth = { authenticator = 'lock' }";
    for (factory, success) in both() {
        let server = Server::start(vec![success]).await;
        let exporter = start_with(factory, server.address, options);
        for token in ["one", "two"] {
            let tokens = [crate::secret::Secret::new(token)];
            let tokens = Tokens::new(http::header::AUTHORIZATION, "Bearer", &tokens);
            let way = Way::Tokens(tokens.unwrap());
            let lock = Authenticator::new("lock", way, &exporter.telemetry);
            exporter.authenticators.slot("lock").install(Arc::new(lock));
            let answer = exporter.send(Signal::Traces, payload()).await;
            assert_eq!(answer, Answer::Delivered, "{}", factory.kind);
            let seen = server.seen().pop().unwrap();
            assert_eq!(seen.headers["authorization"], format!("Bearer {token}"));
        }
        assert_eq!(server.connections(), 1, "{}", factory.kind);
        exporter.stop().await;
    }
}

#[tokio::test]
async fn headers_are_added_and_win() {
    let options = "headers = { x-tenant = 'a', User-Agent = 'me' }\ncompression = 'gzip'";
    for (factory, success) in both() {
        let server = Server::start(vec![success]).await;
        let exporter = start_with(factory, server.address, options);
        exporter.send(Signal::Traces, payload()).await;
        let headers = server.seen()[0].headers.clone();
        assert_eq!(
            (&headers["x-tenant"], &headers["user-agent"]),
            (&"a".parse().unwrap(), &"me".parse().unwrap())
        );
        let encoding = match factory.kind {
            "otlp_grpc" => "grpc-encoding",
            _ => "content-encoding",
        };
        assert_eq!(headers[encoding], "gzip");
        exporter.stop().await;
    }
}

#[tokio::test]
async fn json_is_sent_as_json() {
    let server = Server::start(vec![Reply::http(200)]).await;
    let exporter = start_with(
        &HTTP,
        server.address,
        "compression = 'none'\nencoding = 'json'",
    );
    assert_eq!(
        exporter.send(Signal::Traces, payload()).await,
        Answer::Delivered
    );
    let seen = server.seen();
    assert_eq!(seen[0].headers["content-type"], "application/json");
    let document: serde_json::Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(document["resourceSpans"].as_array().unwrap().len(), 2);
    exporter.stop().await;
}

#[tokio::test]
async fn connections_are_kept_and_shared() {
    for (factory, success) in both() {
        let server = Server::start(vec![success]).await;
        let exporter = start(factory, server.address);
        for _ in 0..20 {
            exporter.send(Signal::Traces, payload()).await;
        }
        assert_eq!(server.connections(), 1, "{}", factory.kind);
        let telemetry = exporter.stop().await;
        let opened = metric(&telemetry, "tidegate_otlp_connections{exporter=\"test\"}");
        assert_eq!(opened, 1.0);
    }
    let server = Server::start(vec![Reply::http(200)]).await;
    let exporter = start_with(&HTTP, server.address, "disable_keep_alives = true");
    for _ in 0..3 {
        exporter.send(Signal::Traces, payload()).await;
    }
    assert_eq!(server.seen()[0].headers["connection"], "close");
    assert_eq!(server.connections(), 3);
    exporter.stop().await;
}

#[tokio::test]
async fn an_unused_connection_is_closed() {
    let server = Server::start(vec![Reply::http(200)]).await;
    let exporter = start_with(&HTTP, server.address, "idle_conn_timeout = '10ms'");
    exporter.send(Signal::Traces, payload()).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let with_connection = metrics.num_alive_tasks();
    eventually("the end of the connection", || {
        metrics.num_alive_tasks() < with_connection
    })
    .await;
    exporter.send(Signal::Traces, payload()).await;
    assert_eq!(server.connections(), 2);
    exporter.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_now_is_sent_again() {
    let busy = [
        (&GRPC, Reply::grpc(14), Reply::grpc(0)),
        (&GRPC, Reply::http(502), Reply::grpc(0)),
        (&HTTP, Reply::http(503), Reply::http(200)),
        (
            &HTTP,
            Reply::http(429).header("retry-after", "0"),
            Reply::http(202),
        ),
    ];
    for (factory, busy, success) in busy {
        let server = Server::start(vec![busy.clone(), busy, success]).await;
        let exporter = start(factory, server.address);
        let answer = exporter.send(Signal::Traces, payload()).await;
        assert_eq!(answer, Answer::Delivered);
        let bodies: Vec<_> = server.seen().into_iter().map(|seen| seen.body).collect();
        assert_eq!(bodies.len(), 3);
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        let telemetry = exporter.stop().await;
        assert_eq!(metric(&telemetry, "otelcol_exporter_sent_spans"), 5.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_waited_for() {
    let server = Server::start(vec![
        Reply::http(503).header("retry-after", "30"),
        Reply::http(200),
    ])
    .await;
    let exporter = start_with(&HTTP, server.address, "timeout = 0\nidle_conn_timeout = 0");
    let started = tokio::time::Instant::now();
    let answered = exporter.push(Signal::Traces, payload());
    assert_eq!(answered.await, Answer::Delivered);
    assert!(started.elapsed() >= Duration::from_secs(30));
    exporter.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_given_up() {
    let never = [
        (&GRPC, Reply::grpc(3), "INVALID_ARGUMENT"),
        (&GRPC, Reply::grpc(8), "too large"),
        (&GRPC, Reply::http(400), "400"),
        (
            &HTTP,
            Reply::http(400).with_body(b"no such thing"),
            "no such thing",
        ),
        (&HTTP, Reply::http(413), "too large"),
    ];
    for (factory, reply, expected) in never {
        let server = Server::start(vec![reply]).await;
        let exporter = start(factory, server.address);
        let one = request(Signal::Traces, "checkout", 1);
        let answer = exporter.send(Signal::Traces, one).await;
        let Answer::Refused(refusal) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(refusal.reason, RefusalReason::Rejected);
        assert!(refusal.message.contains(expected), "{}", refusal.message);
        assert_eq!(server.seen().len(), 1);
        exporter.stop().await;
    }
}

#[tokio::test]
async fn what_is_too_large_is_divided() {
    for (factory, too_large, success) in [
        (&GRPC, Reply::grpc(8), Reply::grpc(0)),
        (&HTTP, Reply::http(413), Reply::http(200)),
    ] {
        // The whole, its first half and the first half of that are too large.
        let replies = [vec![too_large; 3], vec![success]].concat();
        let server = Server::start(replies).await;
        let exporter = start(factory, server.address);
        let eight = request(Signal::Traces, "checkout", 8);
        assert_eq!(
            exporter.send(Signal::Traces, eight).await,
            Answer::Delivered
        );
        let items = server.seen().len();
        assert_eq!(items, 3 + 4, "two single items, a pair, and the other half");
        let telemetry = exporter.stop().await;
        assert_eq!(metric(&telemetry, "otelcol_exporter_sent_spans"), 8.0);
        assert_eq!(metric(&telemetry, "tidegate_ledger_delivered_items"), 8.0);
    }
}

#[tokio::test]
async fn partial_success_is_counted_and_not_sent_again() {
    let partial = b"\x0a\x08\x08\x02\x12\x04late";
    let message = [&[0, 0, 0, 0, partial.len() as u8][..], partial].concat();
    let cases = [
        (&GRPC, Reply::grpc(0).with_body(&message)),
        (&HTTP, Reply::http(200).with_body(partial)),
        (
            &HTTP,
            Reply::http(200).with_body(br#"{"partialSuccess":{"rejectedSpans":"2"}}"#),
        ),
    ];
    for (factory, reply) in cases {
        let server = Server::start(vec![reply]).await;
        let exporter = start(factory, server.address);
        let answer = exporter.send(Signal::Traces, payload()).await;
        assert_eq!(answer, Answer::Delivered);
        assert_eq!(server.seen().len(), 1);
        let telemetry = exporter.stop().await;
        assert_eq!(metric(&telemetry, "tidegate_otlp_rejected_spans"), 2.0);
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_for_a_new_connection() {
    for (factory, success) in both() {
        let hang = Reply {
            hang: true,
            ..success.clone()
        };
        let server = Server::start(vec![hang, success]).await;
        let exporter = start_with(factory, server.address, "timeout = '100ms'");
        let answer = exporter.send(Signal::Traces, payload()).await;
        assert_eq!(answer, Answer::Delivered, "{}", factory.kind);
        assert_eq!(server.connections(), 2, "{}", factory.kind);
        if factory.kind == "otlp_grpc" {
            let seen = server.seen();
            let told = |seen: &Seen| seen.headers["grpc-timeout"].clone();
            let told: Vec<_> = seen.iter().map(told).collect();
            assert_eq!(
                told,
                ["100m", "200m"],
                "as long as the answer is waited for"
            );
        }
        exporter.stop().await;
    }
}

#[tokio::test]
async fn nobody_there_is_waited_for() {
    for (factory, success) in both() {
        let address = refusing();
        let exporter = start(factory, address);
        let answered = exporter.push(Signal::Traces, payload());
        let attempts = "tidegate_exporter_attempts{exporter=\"test\",otel_signal=\"traces\",outcome=\"retry\"}";
        eventually("a failed attempt", || {
            metric(&exporter.telemetry, attempts) > 0.0
        })
        .await;
        let server = Server::start_on(address, vec![success]).await;
        let answer = tokio::time::timeout(crate::testing::DEADLINE, answered).await;
        assert_eq!(answer.unwrap(), Answer::Delivered, "{}", factory.kind);
        assert_eq!(server.seen().len(), 1);
        exporter.stop().await;
    }
}

/// A server of raw bytes: each connection reads a request's beginning, writes one of `answers` and closes.
async fn raw(answers: Vec<Vec<u8>>) -> (SocketAddr, AbortOnDropHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = tokio::spawn(async move {
        let mut served = 0;
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            served += 1;
            write_and_close(&mut stream, &answer).await;
        }
        served
    });
    (address, AbortOnDropHandle::new(running))
}

async fn write_and_close(stream: &mut TcpStream, answer: &[u8]) {
    let mut beginning = [0; 1024];
    // What comes after is nobody's: the client sees a reset.
    let read = stream.read(&mut beginning).await.unwrap();
    assert!(read > 0);
    drop(stream.write_all(answer).await);
    drop(stream.flush().await);
}

#[tokio::test]
async fn broken_answers_are_tried_again() {
    let broken: [&[u8]; 6] = [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"220 mail.example.com ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
    ];
    let mut answers: Vec<_> = broken.iter().map(|answer| answer.to_vec()).collect();
    answers.push(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
    let (address, server) = raw(answers).await;
    let exporter = start(&HTTP, address);
    let answer = exporter
        .send(Signal::Traces, request(Signal::Traces, "a", 1))
        .await;
    assert_eq!(answer, Answer::Delivered);
    assert_eq!(server.await.unwrap(), 7);
    exporter.stop().await;
}

#[tokio::test]
async fn a_server_that_is_none_of_grpc_is_tried_again() {
    let (address, _server) = raw(vec![
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"".to_vec(),
        b"\0\0\0\x04\0\0\0\0\0\xff\xff".to_vec(),
    ])
    .await;
    let exporter = start(&GRPC, address);
    let answered = exporter.push(Signal::Traces, payload());
    let attempts =
        "tidegate_exporter_attempts{exporter=\"test\",otel_signal=\"traces\",outcome=\"retry\"}";
    eventually("failed attempts", || {
        metric(&exporter.telemetry, attempts) >= 4.0
    })
    .await;
    drop(answered);
    exporter.crash().await;
}

/// A refusal before the request is read is heard, and no data is lost over a reset.
#[tokio::test]
async fn an_early_refusal_of_a_large_request_is_heard_or_tried_again() {
    let refusal =
        b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (address, _server) = raw(vec![refusal.to_vec(); 50]).await;
    let exporter = start(&HTTP, address);
    // One item: it cannot be divided.
    let large = request(Signal::Logs, &"x".repeat(5_000_000), 1);
    let answer = exporter.send(Signal::Logs, large).await;
    assert!(
        matches!(&answer, Answer::Refused(refusal) if refusal.message.contains("413")),
        "{answer:?}"
    );
    exporter.stop().await;
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    for (factory, success) in both() {
        let mut endless = success;
        endless.body.extend(vec![b'x'; 10 << 20]);
        let server = Server::start(vec![endless]).await;
        let exporter = start(factory, server.address);
        for _ in 0..2 {
            let answer = exporter.send(Signal::Traces, payload()).await;
            assert_eq!(answer, Answer::Delivered, "{}", factory.kind);
        }
        assert_eq!(server.seen().len(), 2);
        exporter.stop().await;
    }
}

#[tokio::test]
async fn a_large_batch_goes_through_small_windows() {
    for (factory, success) in both() {
        let server = Server::start(vec![success]).await;
        let exporter = start(factory, server.address);
        let mut payload = Payload::default();
        for _ in 0..60 {
            payload.push(request(Signal::Logs, "checkout", 2000));
        }
        let length = payload.byte_len();
        assert!(length > 4 << 20);
        assert_eq!(
            exporter.send(Signal::Logs, payload).await,
            Answer::Delivered
        );
        assert!(server.seen()[0].body.len() >= length);
        exporter.stop().await;
    }
}

#[tokio::test]
async fn a_signal_without_address_is_an_error_at_start() {
    let settings = parse(&HTTP, "traces_endpoint = 'http://127.0.0.1:1'").unwrap();
    let error = RunningExporter::start(&*settings, &[Signal::Logs]).err();
    let text = error.unwrap().to_string();
    assert!(
        text.contains("neither endpoint nor logs_endpoint"),
        "{text}"
    );
    assert!(RunningExporter::start(&*settings, &[Signal::Traces]).is_ok());
}

/// A certificate for `localhost`, and who signed it.
const CERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp_receiver/certs");

/// A server that speaks TLS, asks for the certificate of its own authority, and offers `protocol`.
async fn secure(protocol: &[u8], replies: Vec<Reply>) -> Server {
    let file = |name: &str| Pem::File(format!("{CERTS}/{name}").into());
    let settings = TlsSettings {
        certificates: file("server.crt"),
        key: file("server.key"),
        client_ca: Some(file("ca.crt")),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
    };
    let tls = TlsAcceptor::from(settings.server_config(&[protocol]).unwrap());
    Server::start_with("127.0.0.1:0".parse().unwrap(), replies, Some(tls)).await
}

fn start_secure(
    factory: &Factory<dyn ExporterSettings>,
    server: &Server,
    tls: &str,
) -> RunningExporter {
    let port = server.address.port();
    let text = format!("endpoint = 'https://localhost:{port}'\n{EAGER}[tls]\n{tls}");
    let settings = parse(factory, &text).unwrap_or_else(|found| panic!("{found}"));
    RunningExporter::start(&*settings, &Signal::ALL).unwrap()
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let tls = format!(
        "ca_file = '{CERTS}/ca.crt'\ncert_file = '{CERTS}/client.crt'\nkey_file = '{CERTS}/client.key'"
    );
    for (factory, success) in both() {
        let protocol: &[u8] = match factory.kind {
            "otlp_grpc" => b"h2",
            _ => b"http/1.1",
        };
        let server = secure(protocol, vec![success]).await;
        let exporter = start_secure(factory, &server, &tls);
        let mut large = payload();
        large.push(request(Signal::Traces, "checkout", 20_000));
        assert_eq!(
            exporter.send(Signal::Traces, large).await,
            Answer::Delivered
        );
        assert_eq!(server.seen().len(), 1);
        exporter.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_nothing() {
    for (factory, success) in both() {
        let server = secure(b"h2", vec![success]).await;
        let exporter = start_secure(factory, &server, "");
        let answered = exporter.push(Signal::Traces, payload());
        let attempts = "tidegate_exporter_attempts{exporter=\"test\",otel_signal=\"traces\",outcome=\"retry\"}";
        eventually("failed attempts", || {
            metric(&exporter.telemetry, attempts) >= 2.0
        })
        .await;
        assert!(server.seen().is_empty());
        drop(answered);
        exporter.crash().await;
    }
}

//! Honest clients: over HTTP on a kept connection and on new ones, over gRPC, with credentials, and whoever looks at the
//! agent's pages. Each request has to be answered with success, in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::PATIENCE;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::stage::{Doors, Stage};

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(5);

/// Records in a request.
const RECORDS: u64 = 10;

/// What was sent, and answered with success.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) items: u64,
    pub(crate) requests: u64,
    /// How long the slowest took.
    pub(crate) slowest: Duration,
}

pub(crate) struct Clients {
    tasks: Vec<JoinHandle<Sent>>,
    answered: Vec<Arc<AtomicU64>>,
    over: watch::Sender<bool>,
}

/// A client at work.
#[derive(Clone)]
struct Client {
    answered: Arc<AtomicU64>,
    over: watch::Receiver<bool>,
}

#[derive(Clone, Copy)]
enum Way {
    /// OTLP over HTTP on one connection, with this authorization.
    Kept(&'static str),
    /// The same on a connection for each request.
    New,
    /// OTLP over gRPC.
    Grpc,
    /// `GET` of this path on a connection for each request.
    Page(&'static str),
}

impl Clients {
    pub(crate) fn start(stage: &Stage) -> Self {
        let Doors {
            grpc,
            http,
            http_auth,
            http_slow,
            health,
            metrics,
            ..
        } = stage.doors;
        let (over, told) = watch::channel(false);
        let mut clients = Self {
            tasks: Vec::new(),
            answered: Vec::new(),
            over,
        };
        let basic = "Basic bWU6aHVudGVyMg==";
        for (address, way) in [
            (http, Way::Kept("")),
            (http, Way::New),
            (http_auth, Way::Kept("Bearer hunter2")),
            (http_slow, Way::Kept(basic)),
            (grpc, Way::Grpc),
            (health, Way::Page("/")),
            (metrics, Way::Page("/metrics")),
        ] {
            let client = Client {
                answered: Arc::default(),
                over: told.clone(),
            };
            clients.answered.push(Arc::clone(&client.answered));
            clients.tasks.push(tokio::spawn(client.work(address, way)));
        }
        clients
    }

    /// Requests answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Waits until each has been answered.
    pub(crate) async fn settle(&self) {
        self.each_is_answered("the start").await;
    }

    /// Checks that requests were answered since `before`, and that each client is answered now.
    pub(crate) async fn goes_on(&self, what: &str, before: u64) {
        assert!(self.answered() > before, "{what}: nobody was answered");
        self.each_is_answered(what).await;
    }

    async fn each_is_answered(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        let before: Vec<_> = self
            .answered
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let all = || {
            let mut counts = self.answered.iter().zip(&before);
            counts.all(|(count, before)| count.load(Ordering::Relaxed) > *before)
        };
        while !all() {
            let ended = self.tasks.iter().position(JoinHandle::is_finished);
            assert!(
                ended.is_none(),
                "{what}: client {ended:?} was not served, and said why above"
            );
            assert!(
                Instant::now() < deadline,
                "{what}: a client waits for its answer"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(crate) async fn stop(self) -> Sent {
        self.over.send_replace(true);
        let mut sum = Sent::default();
        for task in self.tasks {
            let sent = task.await.unwrap();
            sum.items += sent.items;
            sum.requests += sent.requests;
            sum.slowest = sum.slowest.max(sent.slowest);
        }
        sum
    }
}

impl Client {
    async fn work(self, address: SocketAddr, way: Way) -> Sent {
        let mut sent = Sent::default();
        let mut kept = match way {
            Way::Kept(_) => Some(connect(address).await),
            _ => None,
        };
        let mut grpc = match way {
            Way::Grpc => Some(connect_grpc(address).await),
            _ => None,
        };
        while !*self.over.borrow() {
            let started = Instant::now();
            let request = tokio::time::timeout(PATIENCE, async {
                match way {
                    Way::Kept(authorization) => {
                        let sender = kept.as_mut().unwrap();
                        post(sender, authorization).await;
                    }
                    Way::New => post(&mut connect(address).await, "").await,
                    Way::Grpc => call(grpc.as_mut().unwrap()).await,
                    Way::Page(path) => page(address, path).await,
                }
            });
            request.await.unwrap();
            sent.requests += 1;
            sent.slowest = sent.slowest.max(started.elapsed());
            if !matches!(way, Way::Page(_)) {
                sent.items += RECORDS;
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        sent
    }
}

async fn connect(address: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    // How it ends, whoever waits for an answer is told.
    tokio::spawn(async move { connection.await.ok() });
    sender
}

async fn connect_grpc(address: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    sender
}

async fn post(sender: &mut http1::SendRequest<Full<Bytes>>, authorization: &str) {
    sender.ready().await.unwrap();
    let request = Request::post("/v1/logs")
        .header("host", "localhost")
        .header("content-type", "application/x-protobuf")
        .header("authorization", authorization)
        .body(Full::from(records()))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(status, StatusCode::OK, "{}", body.escape_ascii());
}

async fn call(sender: &mut http2::SendRequest<Full<Bytes>>) {
    sender.ready().await.unwrap();
    let records = records();
    let mut message = vec![0];
    message.extend(u32::try_from(records.len()).unwrap().to_be_bytes());
    message.extend(records);
    let uri = "http://agent/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from(message))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status").cloned());
    assert_eq!(status.or(trailers).unwrap(), "0");
}

async fn page(address: SocketAddr, path: &str) {
    let mut sender = connect(address).await;
    let request = Request::get(path)
        .header("host", "localhost")
        .body(Full::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap();
}

fn records() -> Vec<u8> {
    let record = |number| LogRecord {
        time_unix_nano: 1 + number,
        severity_text: "INFO".to_owned(),
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: (0..RECORDS).map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

//! The service as a process, an HTTP client for it, and a collector that keeps what it receives.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this module"
)]

pub mod schema;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Response, Status};

/// Long enough for a loaded machine; no test waits for it unless it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

// === The service ===

pub struct Service {
    child: Child,
    pub address: SocketAddr,
    stderr: JoinHandle<String>,
    folder: tempfile::TempDir,
}

/// What a stopped service left behind.
pub struct Stopped {
    pub success: bool,
    pub counts: Json,
    pub log: Vec<Json>,
}

impl Service {
    /// Starts the service with quick batches, sending to `endpoint`.
    pub async fn start(endpoint: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_target-svc"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--span-delay-ms",
                "50",
                "--log-delay-ms",
                "50",
            ])
            .args(["--metric-interval-ms", "200", "--counts-file"])
            .arg(folder.path().join("counts.json"))
            .args(args)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.unwrap();
            text
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within(lines.next_line())
            .await
            .unwrap()
            .expect("the service ended at once");
        let address = line
            .strip_prefix("listening on http://")
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            address,
            stderr,
            folder,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(self) -> Stopped {
        self.stop_by("TERM").await
    }

    pub async fn stop_by(mut self, signal: &str) -> Stopped {
        let kill = Command::new("kill")
            .args(["-s", signal, &self.pid().to_string()])
            .status()
            .await;
        assert!(kill.unwrap().success());
        let status = within(self.child.wait()).await.unwrap();
        let log = within(self.stderr).await.unwrap();
        let counts =
            std::fs::read_to_string(self.folder.path().join("counts.json")).unwrap_or_default();
        Stopped {
            success: status.success(),
            counts: serde_json::from_str(&counts).unwrap_or_default(),
            log: log
                .lines()
                .map(|it| serde_json::from_str(it).unwrap())
                .collect(),
        }
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("nothing happened before the deadline")
}

// === The client ===

pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

pub struct Answer {
    pub status: u16,
    pub kind: String,
    /// What encodings of bodies the service would take, where it says so.
    pub accepted: String,
    pub body: Json,
    pub text: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(driver);
        Self { sender, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let body = Bytes::from(body.to_owned());
        self.send_bytes(method, path, headers, body).await
    }

    pub async fn send_bytes(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let response = within(self.sender.send_request(request)).await.unwrap();
        let status = response.status().as_u16();
        let value = |name: &str| {
            let value = response.headers().get(name);
            value.map_or("", |it| it.to_str().unwrap()).to_owned()
        };
        let (kind, accepted) = (value("content-type"), value("accept-encoding"));
        let body = within(response.into_body().collect())
            .await
            .unwrap()
            .to_bytes();
        Answer {
            status,
            kind,
            accepted,
            body: serde_json::from_slice(&body).unwrap_or_default(),
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// Orders one or more of a product, with the order's id.
    pub async fn order(&mut self, id: &str, product: i64, quantity: i64) -> Answer {
        let body = format!(r#"{{"product_id":{product},"quantity":{quantity}}}"#);
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", id),
        ];
        self.send("POST", "/order-product", &headers, &body).await
    }

    pub async fn add(&mut self, body: &str) -> Answer {
        self.send(
            "POST",
            "/api/vector/add",
            &[("content-type", "application/json")],
            body,
        )
        .await
    }
}

// === The collector ===

/// An OTLP/gRPC receiver that keeps everything.
pub struct Collector {
    pub endpoint: String,
    received: Received,
    server: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Received {
    traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(received.clone()))
            .add_service(MetricsServiceServer::new(received.clone()))
            .add_service(LogsServiceServer::new(received.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self {
            endpoint,
            received,
            server,
        }
    }

    pub fn spans(&self) -> Vec<Span> {
        let requests = self.received.traces.lock().unwrap().clone();
        let resources = requests.into_iter().flat_map(|it| it.resource_spans);
        resources
            .flat_map(|it| it.scope_spans)
            .flat_map(|it| it.spans)
            .collect()
    }

    pub fn logs(&self) -> Vec<LogRecord> {
        let requests = self.received.logs.lock().unwrap().clone();
        let resources = requests.into_iter().flat_map(|it| it.resource_logs);
        resources
            .flat_map(|it| it.scope_logs)
            .flat_map(|it| it.log_records)
            .collect()
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let requests = self.received.metrics.lock().unwrap().clone();
        let resources = requests.into_iter().flat_map(|it| it.resource_metrics);
        resources
            .flat_map(|it| it.scope_metrics)
            .flat_map(|it| it.metrics)
            .collect()
    }

    pub fn data_points(&self) -> usize {
        let points = |it: &Metric| match it.data.as_ref().unwrap() {
            Data::Gauge(it) => it.data_points.len(),
            Data::Sum(it) => it.data_points.len(),
            Data::Histogram(it) => it.data_points.len(),
            Data::ExponentialHistogram(it) => it.data_points.len(),
            Data::Summary(it) => it.data_points.len(),
        };
        self.metrics().iter().map(points).sum()
    }

    /// The resources of all three signals.
    pub fn resources(&self) -> Vec<Vec<KeyValue>> {
        let traces = self.received.traces.lock().unwrap().clone();
        let metrics = self.received.metrics.lock().unwrap().clone();
        let logs = self.received.logs.lock().unwrap().clone();
        let traces = traces
            .into_iter()
            .flat_map(|it| it.resource_spans)
            .map(|it| it.resource);
        let metrics = metrics
            .into_iter()
            .flat_map(|it| it.resource_metrics)
            .map(|it| it.resource);
        let logs = logs
            .into_iter()
            .flat_map(|it| it.resource_logs)
            .map(|it| it.resource);
        traces
            .chain(metrics)
            .chain(logs)
            .map(|it| it.unwrap().attributes)
            .collect()
    }

    /// Waits until what was received satisfies `condition`.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < DEADLINE, "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// An attribute as JSON; null where it is missing.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Json {
    let found = attributes.iter().find(|it| it.key == key);
    found
        .and_then(|it| it.value.as_ref())
        .map_or(Json::Null, to_json)
}

pub fn to_json(value: &AnyValue) -> Json {
    match value.value.as_ref() {
        Some(Value::StringValue(it)) => it.as_str().into(),
        Some(Value::IntValue(it)) => (*it).into(),
        Some(Value::DoubleValue(it)) => (*it).into(),
        Some(Value::BoolValue(it)) => (*it).into(),
        other => panic!("an attribute has the value {other:?}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

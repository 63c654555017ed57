//! A receiver on ephemeral ports, an intake that captures, and clients that can misbehave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tidegate::ack::{Answer, Refusal};
use tidegate::auth::Authenticators;
use tidegate::batch::{Batch, Transport};
use tidegate::component::{Intake, Receiver, ReceiverContext, RequestFailure, Shutdown};
use tidegate::config::{Diagnostics, Section};
use tidegate::memory::{HeldBytes, Reservation};
use tidegate::net::sockets::Sockets;
use tidegate::receivers::otlp::OtlpSettings;
use tidegate::signal::{PerSignal, Signal};
use tidegate::status::Reporter;
use tidegate::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";

/// What an intake saw and what it answers.
#[derive(Default)]
pub(crate) struct Capture {
    pub(crate) held: HeldBytes,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Items and bytes of every batch, in order.
    pub(crate) batches: Vec<(Signal, usize, Vec<u8>)>,
    /// What every further batch is answered with; `None` leaves it waiting in `waiting`.
    pub(crate) answer: Option<Answer>,
    pub(crate) hold: bool,
    pub(crate) waiting: Vec<Batch>,
    /// Refuses admission.
    pub(crate) refuse: Option<Refusal>,
    /// Bytes that may be held.
    pub(crate) held_max: Option<usize>,
    pub(crate) admitted: Vec<usize>,
    pub(crate) failures: Vec<(Transport, RequestFailure)>,
    pub(crate) repaired: usize,
}

impl Intake for Capture {
    fn admit(&self, bytes: usize) -> Result<Reservation, Refusal> {
        let mut state = self.state.lock().unwrap();
        if let Some(refusal) = &state.refuse {
            return Err(refusal.clone());
        }
        state.admitted.push(bytes);
        let limit = state.held_max.unwrap_or(usize::MAX);
        self.held.reserve_within(bytes, limit).ok_or_else(|| {
            Refusal::retry(
                tidegate::ack::RefusalReason::MemoryLimit,
                "no memory",
                Duration::from_secs(7),
            )
        })
    }

    fn submit(&self, batch: Batch, _transport: Transport) {
        let mut state = self.state.lock().unwrap();
        let bytes = batch.payload.to_bytes().to_vec();
        state.batches.push((batch.signal, batch.items(), bytes));
        if state.hold {
            state.waiting.push(batch);
            return;
        }
        let answer = state.answer.clone().unwrap_or(Answer::Delivered);
        drop(state);
        batch.ack.answer(answer);
    }

    fn count_failure(&self, transport: Transport, failure: RequestFailure) {
        self.state
            .lock()
            .unwrap()
            .failures
            .push((transport, failure));
    }

    fn count_repaired(&self, _transport: Transport, strings: usize) {
        self.state.lock().unwrap().repaired += strings;
    }
}

/// A receiver that runs.
pub(crate) struct Harness {
    pub(crate) capture: Arc<Capture>,
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) shutdown: Shutdown,
    /// What `auth` asks: nobody is there until a test installs one.
    pub(crate) authenticators: Authenticators,
    running: JoinHandle<()>,
}

impl Harness {
    /// Both protocols on free ports, wired for all signals, with `extra` TOML below `[protocols.http]`.
    pub(crate) fn start(extra: &str) -> Self {
        let text = format!(
            "[protocols.grpc]\nendpoint = \"127.0.0.1:0\"\n[protocols.http]\nendpoint = \"127.0.0.1:0\"\n{extra}"
        );
        Self::start_with(&text, &Signal::ALL)
    }

    pub(crate) fn start_with(text: &str, signals: &[Signal]) -> Self {
        let capture = Arc::new(Capture::default());
        let intakes = PerSignal::from_fn(|signal| {
            signals
                .contains(&signal)
                .then(|| Arc::clone(&capture) as Arc<dyn Intake>)
        });
        Self::start_into(text, capture, intakes)
    }

    /// Feeds other intakes than the one that captures.
    pub(crate) fn start_into(
        text: &str,
        capture: Arc<Capture>,
        intakes: PerSignal<Option<Arc<dyn Intake>>>,
    ) -> Self {
        let mut found = Diagnostics::default();
        let settings = {
            let mut section = Section::from_text("receivers.otlp", text, &mut found).unwrap();
            OtlpSettings::parse(&mut section)
        };
        let settings = settings.unwrap_or_else(|| panic!("{found}"));
        let authenticators = Authenticators::default();
        let receiver = settings
            .bind(ReceiverContext {
                id: "otlp".to_owned(),
                intakes,
                telemetry: Telemetry::default(),
                status: Reporter::default(),
                sockets: Sockets::default(),
                authenticators: authenticators.clone(),
            })
            .unwrap();
        let address = |wanted: &str| {
            receiver
                .addresses()
                .into_iter()
                .find(|(protocol, _)| *protocol == wanted)
                .map(|(_, address)| address)
                .unwrap_or_default()
        };
        let (grpc, http) = (address("grpc"), address("http"));
        let shutdown = Shutdown::default();
        let run = Box::new(receiver).run(shutdown.clone());
        Self {
            capture,
            grpc,
            http,
            shutdown,
            authenticators,
            running: tokio::spawn(async move { run.await.unwrap() }),
        }
    }

    /// Stops the receiver and waits until it is gone and holds nothing.
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap();
        self.capture.state.lock().unwrap().waiting.clear();
        assert_eq!(self.capture.held.bytes(), 0, "memory is still reserved");
    }

    /// Signal, items and bytes of every batch, in order.
    pub(crate) fn captured(&self) -> Vec<(Signal, usize, Vec<u8>)> {
        self.capture.state.lock().unwrap().batches.clone()
    }

    pub(crate) fn last(&self) -> Option<(Signal, usize, Vec<u8>)> {
        self.capture.state.lock().unwrap().batches.last().cloned()
    }

    pub(crate) fn failures(&self) -> Vec<(Transport, RequestFailure)> {
        self.capture.state.lock().unwrap().failures.clone()
    }

    /// The most bytes that were asked for at once.
    pub(crate) fn largest_admission(&self) -> usize {
        let state = self.capture.state.lock().unwrap();
        state.admitted.iter().max().copied().unwrap_or(0)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.http).await.unwrap()
    }

    /// Sends a POST on a connection of its own.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answered {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// Posts protobuf traces on a connection that may carry more.
    pub(crate) async fn exchange(&self, connection: &mut TcpStream, body: &[u8]) -> Answered {
        let request = [head(body.len()).as_bytes(), body].concat();
        // A connection that the server has closed shows in the missing answer.
        let _sent = connection.write_all(&request).await;
        read_answer(connection).await
    }

    /// Sends bytes on a connection of its own and reads one answer.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answered {
        let (mut reader, mut writer) = self.connect().await.into_split();
        let bytes = bytes.to_vec();
        // A server may answer before it has read everything: that is not this side's failure.
        let sender = tokio::spawn(async move {
            let _sent = writer.write_all(&bytes).await;
            writer
        });
        let answer = read_answer(&mut reader).await;
        drop(sender.await.unwrap());
        answer
    }

    /// Sends bytes and reads answers until the server closes; their statuses.
    pub(crate) async fn raw_all(&self, bytes: &[u8]) -> Vec<u16> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut statuses = Vec::new();
        loop {
            match read_answer(&mut stream).await.status {
                0 => return statuses,
                status => statuses.push(status),
            }
        }
    }
}

/// The head of a POST of protobuf traces.
pub(crate) fn head(length: usize) -> String {
    format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Waits until `done`, within reason.
pub(crate) async fn eventually(done: impl Fn() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
}

/// One HTTP answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads one answer; a closed connection without one has status 0.
pub(crate) async fn read_answer(reader: &mut (impl AsyncReadExt + Unpin)) -> Answered {
    tokio::time::timeout(PATIENCE, async {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            match reader.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(_) => return Answered::default(),
            }
        }
        let mut answer = parse_head(&bytes);
        let length = answer.header("content-length");
        let length: usize = length.map_or(0, |text| text.parse().unwrap());
        answer.body.resize(length, 0);
        reader.read_exact(&mut answer.body).await.unwrap();
        answer
    })
    .await
    .unwrap()
}

fn parse_head(head: &[u8]) -> Answered {
    let text = String::from_utf8(head.to_vec()).unwrap();
    let mut lines = text.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    Answered {
        status: status.parse().unwrap(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: Vec::new(),
    }
}

/// A `google.rpc.Status`, read without the agent's help.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RpcStatus {
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct WireStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<WireAny>,
}

#[derive(Clone, PartialEq, Message)]
struct WireAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    retry_info: Option<WireRetryInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct WireRetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<WireDuration>,
}

#[derive(Clone, PartialEq, Message)]
struct WireDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let status = WireStatus::decode(bytes).unwrap();
        let retry_after = status.details.first().map(|detail| {
            assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.RetryInfo");
            let delay = detail.retry_info.clone().unwrap().retry_delay.unwrap();
            Duration::new(delay.seconds as u64, delay.nanos as u32)
        });
        Self {
            code: status.code,
            message: status.message,
            retry_after,
        }
    }
}

type Pieces = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// An HTTP/2 client that sends whatever it is told.
#[derive(Clone)]
pub(crate) struct Grpc {
    sender: SendRequest<Pieces>,
}

/// One answer to it.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) http: u16,
    /// -1 where there is none.
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) details: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Grpc {
    pub(crate) async fn connect(harness: &Harness) -> Self {
        Self::connect_to(&harness.grpc).await
    }

    pub(crate) async fn connect_to(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// A gRPC call whose body comes in these pieces.
    pub(crate) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        pieces: Vec<Vec<u8>>,
    ) -> Reply {
        let mut request = http::Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let frames = pieces
            .into_iter()
            .map(|piece| Ok(http_body::Frame::data(Bytes::from(piece))));
        let body = StreamBody::new(futures::stream::iter(frames)).boxed();
        self.send(request.body(body).unwrap()).await
    }

    /// A request without a message.
    pub(crate) async fn raw(&mut self, method: &str, path: &str, kind: &str) -> Reply {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://test{path}"))
            .header("content-type", kind)
            .body(http_body_util::Empty::new().boxed())
            .unwrap();
        self.send(request).await
    }

    async fn send(&mut self, request: http::Request<Pieces>) -> Reply {
        tokio::time::timeout(PATIENCE, async {
            let response = self.sender.send_request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let collected = body.collect().await.unwrap();
            let mut headers = parts.headers;
            headers.extend(collected.trailers().cloned().unwrap_or_default());
            reply(
                parts.status.as_u16(),
                &headers,
                collected.to_bytes().to_vec(),
            )
        })
        .await
        .unwrap()
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn reply(http: u16, headers: &http::HeaderMap, body: Vec<u8>) -> Reply {
    let status = tonic::Status::from_header_map(headers);
    let headers = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    let Some(status) = status else {
        return Reply {
            http,
            code: -1,
            headers,
            body,
            ..Reply::default()
        };
    };
    Reply {
        http,
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: (!status.details().is_empty()).then(|| status.details().to_vec()),
        headers,
        body,
    }
}

/// A trace request of so many spans.
pub(crate) fn traces(spans: usize) -> Vec<u8> {
    let span = |number: usize| Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: format!("span {number}"),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let scope_spans = ScopeSpans {
        spans: (0..spans).map(span).collect(),
        ..ScopeSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

/// A metrics request of so many data points.
pub(crate) fn metrics(points: usize) -> Vec<u8> {
    let metric = Metric {
        name: "m".to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint::default(); points],
        })),
        ..Metric::default()
    };
    let scope_metrics = ScopeMetrics {
        metrics: vec![metric],
        ..ScopeMetrics::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![scope_metrics],
            ..ResourceMetrics::default()
        }],
    }
    .encode_to_vec()
}

/// A logs request of so many records, the first at time 1.
pub(crate) fn logs(records: usize) -> Vec<u8> {
    let record = |number: u64| LogRecord {
        time_unix_nano: number,
        ..LogRecord::default()
    };
    let scope_logs = ScopeLogs {
        log_records: (1..=records as u64).map(record).collect(),
        ..ScopeLogs::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![scope_logs],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

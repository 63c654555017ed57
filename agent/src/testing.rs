//! Helpers for tests of components, and the conformance tests that walk the registries.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::ack::{Ack, Answer, Answered};
use crate::auth::Authenticators;
use crate::batch::{Chunk, Payload};
use crate::component::{
    ComponentError, ExporterContext, ExporterSettings, Factory, Sender, Shutdown,
};
use crate::config::{Diagnostics, Section};
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::signal::{PerSignal, Signal};
use crate::tap::Taps;
use crate::telemetry::Telemetry;

/// How long anything in a test may take before it counts as hanging.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An attribute with a text value.
pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// A request of `items` items from one service.
pub(crate) fn request(signal: Signal, service: &str, items: usize) -> Chunk {
    let resource = Some(Resource {
        attributes: vec![attribute("service.name", service)],
        ..Resource::default()
    });
    let numbers = 1..=items as u64;
    let bytes = match signal {
        Signal::Traces => ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource,
                scope_spans: vec![ScopeSpans {
                    spans: numbers.map(span).collect(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
        .encode_to_vec(),
        Signal::Logs => ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource,
                scope_logs: vec![ScopeLogs {
                    log_records: numbers.map(log_record).collect(),
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        }
        .encode_to_vec(),
        Signal::Metrics => ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource,
                scope_metrics: vec![ScopeMetrics {
                    metrics: numbers.map(gauge).collect(),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
        .encode_to_vec(),
    };
    Chunk::new(bytes.into(), items)
}

/// A request of log records whose times are `numbers`.
pub(crate) fn numbered_logs(numbers: std::ops::Range<u64>) -> Chunk {
    let items = numbers.end.saturating_sub(numbers.start);
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: numbers.map(log_record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    Chunk::new(request.encode_to_vec().into(), items as usize)
}

/// The times of the log records in `payload`, in order.
pub(crate) fn log_numbers(payload: &Payload) -> Vec<u64> {
    let request = ExportLogsServiceRequest::decode(payload.to_bytes()).unwrap();
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|resource| resource.scope_logs);
    scopes
        .flat_map(|scope| scope.log_records)
        .map(|record| record.time_unix_nano)
        .collect()
}

fn span(number: u64) -> Span {
    Span {
        trace_id: vec![number as u8; 16],
        span_id: vec![number as u8; 8],
        name: format!("span {number}"),
        start_time_unix_nano: number,
        end_time_unix_nano: number + 1,
        attributes: vec![attribute("key", "value")],
        ..Span::default()
    }
}

fn log_record(number: u64) -> LogRecord {
    LogRecord {
        time_unix_nano: number,
        severity_text: "INFO".to_owned(),
        body: attribute("", &format!("message {number}")).value,
        attributes: vec![attribute("key", "value")],
        ..LogRecord::default()
    }
}

fn gauge(number: u64) -> Metric {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    Metric {
        name: format!("gauge {number}"),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint {
                time_unix_nano: number,
                attributes: vec![attribute("key", "value")],
                value: Some(Value::AsDouble(0.5)),
                ..NumberDataPoint::default()
            }],
        })),
        ..Metric::default()
    }
}

/// The settings that a factory makes of a component's table.
pub(crate) fn parse<S: ?Sized>(factory: &Factory<S>, text: &str) -> Result<Box<S>, Diagnostics> {
    let mut found = Diagnostics::default();
    let settings = Section::from_text(&format!("test.{}", factory.kind), text, &mut found)
        .and_then(|mut section| (factory.parse)(&mut section));
    match settings {
        Some(settings) if !found.has_errors() => Ok(settings),
        _ => Err(found),
    }
}

/// The table of a component in its example, `configs/agent/<kind>.toml`, moved to `folder` and to `address`.
pub(crate) fn example(section: &str, kind: &str, folder: &Path, address: SocketAddr) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../configs/agent/{kind}.toml"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{kind} needs an example, {}: {error}", path.display()));
    let table: toml::Table = text.parse().unwrap();
    let text = toml::to_string(table[section][kind].as_table().unwrap()).unwrap();
    let text = text.replace("/var/lib/tidegate", folder.to_str().unwrap());
    let mut parts = text.split("127.0.0.1:");
    let mut moved = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        moved.push_str(&address.to_string());
        moved.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    moved
}

/// An address where nobody listens until somebody is told to: it stays taken, so that nobody else gets its port.
pub(crate) fn refusing() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    // Who listens there later sets the same.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    Box::leak(Box::new(socket)).local_addr().unwrap()
}

/// An exporter at work.
pub(crate) struct RunningExporter {
    pub(crate) senders: Vec<Sender>,
    pub(crate) telemetry: Telemetry,
    pub(crate) cut: Shutdown,
    pub(crate) authenticators: Authenticators,
}

impl RunningExporter {
    /// Builds the exporter for `signals`.
    pub(crate) fn start(
        settings: &dyn ExporterSettings,
        signals: &[Signal],
    ) -> Result<Self, ComponentError> {
        let context = exporter_context(signals);
        Ok(Self {
            senders: start_all(settings.build(&context)?),
            telemetry: context.telemetry,
            cut: context.cut,
            authenticators: context.authenticators,
        })
    }

    /// Puts a batch into the queue of `signal`; resolves to what became of it.
    pub(crate) fn push(&self, signal: Signal, payload: impl Into<Payload>) -> Answered {
        let payload = payload.into();
        let ledger = Ledger::new(&self.telemetry, "test", "test", signal);
        let (ack, answered) = Ack::channel();
        let sender = self.senders.iter().find(|sender| sender.signal == signal);
        let queue = &sender.unwrap().queue;
        let account = queue.account("test", ledger, false);
        queue.push_for_result(&account, payload, ack);
        answered
    }

    /// Sends a batch and waits for the answer.
    pub(crate) async fn send(&self, signal: Signal, payload: impl Into<Payload>) -> Answer {
        let answered = self.push(signal, payload);
        tokio::time::timeout(DEADLINE, answered).await.unwrap()
    }

    /// Closes the queues and waits for every task.
    pub(crate) async fn stop(self) -> Telemetry {
        for sender in &self.senders {
            sender.queue.close();
        }
        for sender in self.senders {
            for worker in sender.workers {
                tokio::time::timeout(DEADLINE, worker)
                    .await
                    .unwrap()
                    .unwrap();
            }
            sender.queue.finish().await;
        }
        self.telemetry
    }

    /// Drops everything at once, as a crash does.
    pub(crate) async fn crash(self) {
        for worker in self.senders.into_iter().flat_map(|sender| sender.workers) {
            worker.abort();
            drop(worker.await);
        }
    }
}

pub(crate) fn start_all(mut senders: Vec<Sender>) -> Vec<Sender> {
    senders.iter_mut().for_each(Sender::start);
    senders
}

/// What an exporter named `test` is built with.
pub(crate) fn exporter_context(signals: &[Signal]) -> ExporterContext {
    ExporterContext {
        id: "test".to_owned(),
        signals: signals.to_vec(),
        telemetry: Telemetry::default(),
        status: PerSignal::default(),
        progress: Progress::default(),
        cut: Shutdown::default(),
        leave: Shutdown::default(),
        authenticators: Authenticators::default(),
        inherited: Vec::new(),
        taps: Taps::default(),
    }
}

/// The value of a metric by the start of its line; 0 when it is not there.
pub(crate) fn metric(telemetry: &Telemetry, start: &str) -> f64 {
    let text = String::from_utf8(telemetry.encode().unwrap()).unwrap();
    let line = text.lines().find(|line| line.starts_with(start));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "{what} did not happen");
}

/// Status and body of `GET path`.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

mod conformance {
    use super::*;
    use crate::component::ExtensionContext;
    use crate::exporters::EXPORTERS;
    use crate::extensions::EXTENSIONS;
    use crate::processors::PROCESSORS;
    use crate::receivers::RECEIVERS;

    /// Whether anything that the component spawned is still there.
    async fn assert_no_task_left(kind: &str) {
        let metrics = tokio::runtime::Handle::current().metrics();
        eventually(&format!("{kind}: the end of every task"), || {
            metrics.num_alive_tasks() == 0
        })
        .await;
    }

    fn check_registry<S: ?Sized>(registry: &[Factory<S>]) {
        for factory in registry {
            let same = registry.iter().filter(|other| other.kind == factory.kind);
            assert_eq!(same.count(), 1, "{} stands twice", factory.kind);
            assert!(factory.summary.ends_with('.'), "{}", factory.kind);
            let found = parse(factory, "unknown_key = 1").err().unwrap_or_default();
            let found = found.to_string();
            assert!(found.contains("unknown_key"), "{}: {found}", factory.kind);
        }
    }

    #[test]
    fn kinds_are_unique_and_described_and_their_options_strict() {
        check_registry(RECEIVERS);
        check_registry(PROCESSORS);
        check_registry(EXPORTERS);
        check_registry(EXTENSIONS);
    }

    #[test]
    fn examples_are_valid_and_their_options_strict() {
        for factory in EXPORTERS {
            let folder = tempfile::tempdir().unwrap();
            let text = example("exporters", factory.kind, folder.path(), refusing());
            parse(factory, &text).unwrap_or_else(|found| panic!("{}: {found}", factory.kind));
            let found = parse(factory, &format!("unknown_key = 1\n{text}")).unwrap_err();
            assert!(found.to_string().contains("unknown_key"), "{found}");
        }
    }

    fn start(factory: &Factory<dyn ExporterSettings>, folder: &Path) -> RunningExporter {
        let text = example("exporters", factory.kind, folder, refusing());
        let settings = parse(factory, &text).unwrap();
        RunningExporter::start(&*settings, factory.signals).unwrap()
    }

    #[tokio::test]
    async fn exporters_close_without_having_sent() {
        for factory in EXPORTERS {
            let folder = tempfile::tempdir().unwrap();
            let running = start(factory, folder.path());
            assert_eq!(running.senders.len(), factory.signals.len());
            running.stop().await;
            assert_no_task_left(factory.kind).await;
        }
    }

    #[tokio::test]
    async fn exporters_settle_what_they_took_and_leave_no_task() {
        for factory in EXPORTERS {
            let folder = tempfile::tempdir().unwrap();
            let running = start(factory, folder.path());
            let push = |signal: &Signal| running.push(*signal, request(*signal, "checkout", 3));
            let answers = futures::future::join_all(factory.signals.iter().map(push));
            // Where nobody listens there is no answer until the time to drain is over.
            let patience = tokio::time::timeout(Duration::from_millis(200), answers);
            if patience.await.is_err() {
                running.cut.trigger();
            }
            let telemetry = running.stop().await;
            assert_no_task_left(factory.kind).await;
            assert_eq!(metric(&telemetry, "tidegate_ledger_queued_items"), 0.0);
            let text = String::from_utf8(telemetry.encode().unwrap()).unwrap();
            assert!(!text.contains("abandoned"), "{text}");
        }
    }

    #[tokio::test]
    async fn extensions_end_when_told_to_and_need_no_start() {
        for factory in EXTENSIONS {
            let folder = tempfile::tempdir().unwrap();
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            let text = example("extensions", factory.kind, folder.path(), any_port);
            let settings = parse(factory, &text).unwrap();
            let build = || {
                let context = ExtensionContext::alone("test", Authenticators::default());
                settings.build(context).unwrap()
            };
            drop(build());
            let shutdown = Shutdown::default();
            let running = tokio::spawn(build().run(shutdown.clone()));
            shutdown.trigger();
            let ended = tokio::time::timeout(DEADLINE, running).await;
            ended.unwrap().unwrap().unwrap();
            assert_no_task_left(factory.kind).await;
        }
    }
}

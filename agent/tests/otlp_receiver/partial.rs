//! Partial success: a processor behind the receiver declines items, and each client is told of its own.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tidegate::auth::Authenticators;
use tidegate::batch::Batch;
use tidegate::component::{
    ExporterContext, ExporterSettings, Factory, Intake, Output, Processor, ProcessorContext,
    ProcessorSettings, Sender, Shutdown,
};
use tidegate::config::{Diagnostics, Section};
use tidegate::exporters::EXPORTERS;
use tidegate::gather::Gather;
use tidegate::ledger::Ledger;
use tidegate::pipeline::{Inlet, Pipeline};
use tidegate::processors::PROCESSORS;
use tidegate::progress::Progress;
use tidegate::signal::{PerSignal, Signal};
use tidegate::status::Reporter;
use tidegate::telemetry::Telemetry;

use crate::grpc::{LOGS, METRICS, TRACES, message};
use crate::support::{Capture, Grpc, Harness, JSON, PROTOBUF, eventually, logs, metrics, traces};

/// Declines the first items of every batch, up to so many.
struct Picky(Signal, usize);

impl Processor for Picky {
    fn process(&mut self, mut batch: Batch, output: &mut Output) {
        let mut items = Gather::new(self.0);
        items.append(batch.payload);
        let declined = items.take(self.1).items();
        if declined > 0 {
            output.reject(
                &mut batch.ack,
                "first",
                declined,
                "comes \"too\" early: \u{fc}",
            );
        }
        if items.items() == 0 {
            output.take_over(batch.ack);
            return;
        }
        batch.payload = items.take(usize::MAX);
        output.emit(batch);
    }
}

fn parse<S: ?Sized>(factories: &[Factory<S>], kind: &str, text: &str) -> Box<S> {
    let factory = factories.iter().find(|factory| factory.kind == kind);
    let mut found = Diagnostics::default();
    let settings = {
        let mut section = Section::from_text(kind, text, &mut found).unwrap();
        (factory.unwrap().parse)(&mut section)
    };
    settings.unwrap_or_else(|| panic!("{found}"))
}

/// A receiver, and for each signal a pipeline of `Picky`, `batch` and `debug`.
struct Bench {
    harness: Harness,
    telemetry: Telemetry,
    senders: Vec<Sender>,
}

impl Bench {
    fn start(declined: usize) -> Self {
        let telemetry = Telemetry::default();
        let capture = Arc::new(Capture::default());
        let exporter: Box<dyn ExporterSettings> = parse(EXPORTERS, "debug", "");
        let mut senders = exporter
            .build(&ExporterContext {
                id: "debug".to_owned(),
                signals: Signal::ALL.to_vec(),
                telemetry: telemetry.clone(),
                status: PerSignal::default(),
                progress: Progress::default(),
                cut: Shutdown::default(),
                leave: Shutdown::default(),
                authenticators: Authenticators::default(),
                inherited: Vec::new(),
                taps: tidegate::tap::Taps::default(),
            })
            .unwrap();
        senders.iter_mut().for_each(Sender::start);
        let intakes = PerSignal::from_fn(|signal| {
            let batch: Box<dyn ProcessorSettings> =
                parse(PROCESSORS, "batch", "send_batch_size = 1");
            let context = ProcessorContext {
                id: "batch".to_owned(),
                signal,
                telemetry: telemetry.clone(),
                status: Reporter::default(),
                held: capture.held.clone(),
            };
            let sender = senders.iter().find(|sender| sender.signal == signal);
            let queue = sender.unwrap().queue.clone();
            queue.start();
            let picky: Box<dyn Processor> = Box::new(Picky(signal, declined));
            let processors = vec![
                ("picky".to_owned(), picky),
                ("batch".to_owned(), batch.build(context).unwrap()),
            ];
            let ledger = Ledger::new(&telemetry, signal.name(), "debug", signal);
            let exits = vec![("debug".to_owned(), queue, ledger)];
            let pipeline = Pipeline::new(
                &telemetry,
                &tidegate::tap::Taps::default(),
                signal.name(),
                signal,
                processors,
                exits,
            );
            pipeline.attach();
            let (pipelines, held) = (vec![pipeline], capture.held.clone());
            let inlet = Inlet::new(&telemetry, "otlp", signal, pipelines, held, 1 << 20);
            Some(Arc::new(inlet) as Arc<dyn Intake>)
        });
        let text = "[protocols.grpc]\nendpoint = \"127.0.0.1:0\"\n[protocols.http]\nendpoint = \"127.0.0.1:0\"\n";
        Self {
            harness: Harness::start_into(text, capture, intakes),
            telemetry,
            senders,
        }
    }

    /// The sum of a metric's series that have all of `labels`.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let text = String::from_utf8(self.telemetry.encode().unwrap()).unwrap();
        text.lines()
            .filter(|line| line.starts_with(&format!("{name}{{")))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    async fn stop(self) {
        let Self {
            harness, senders, ..
        } = self;
        for sender in senders {
            sender.queue.close();
            for worker in sender.workers {
                worker.await.unwrap();
            }
        }
        harness.stop().await;
    }
}

const MESSAGE: &str = "comes \"too\" early: \u{fc}";

/// What a response in wire format says, read without the agent's help.
fn told(signal: Signal, response: &[u8]) -> Option<(i64, String)> {
    match signal {
        Signal::Traces => ExportTraceServiceResponse::decode(response)
            .unwrap()
            .partial_success
            .map(|partial| (partial.rejected_spans, partial.error_message)),
        Signal::Metrics => ExportMetricsServiceResponse::decode(response)
            .unwrap()
            .partial_success
            .map(|partial| (partial.rejected_data_points, partial.error_message)),
        Signal::Logs => ExportLogsServiceResponse::decode(response)
            .unwrap()
            .partial_success
            .map(|partial| (partial.rejected_log_records, partial.error_message)),
    }
}

/// A request of so many items, and its paths.
fn request(signal: Signal, items: usize) -> (&'static str, &'static str, Vec<u8>) {
    match signal {
        Signal::Traces => ("/v1/traces", TRACES, traces(items)),
        Signal::Metrics => ("/v1/metrics", METRICS, metrics(items)),
        Signal::Logs => ("/v1/logs", LOGS, logs(items)),
    }
}

/// The same in OTLP/JSON, and the field that tells how many were declined.
fn json_request(signal: Signal, items: usize) -> (String, &'static str) {
    let list = |item: &str| vec![item; items].join(",");
    match signal {
        Signal::Traces => (
            format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
                list(r#"{"name":"a"}"#)
            ),
            "rejectedSpans",
        ),
        Signal::Metrics => (
            format!(
                r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[{}]}}}}]}}]}}]}}"#,
                list(r#"{"asInt":"1"}"#)
            ),
            "rejectedDataPoints",
        ),
        Signal::Logs => (
            format!(
                r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#,
                list(r#"{"timeUnixNano":"1"}"#)
            ),
            "rejectedLogRecords",
        ),
    }
}

#[tokio::test]
async fn every_protocol_and_signal_tells_what_was_declined() {
    let bench = Bench::start(2);
    let mut client = Grpc::connect(&bench.harness).await;
    for signal in Signal::ALL {
        for (items, declined) in [(5, 2), (2, 2), (1, 1)] {
            let expected = Some((declined, MESSAGE.to_owned()));
            let (path, method, body) = request(signal, items);
            let reply = client.call(method, &[], vec![message(false, &body)]).await;
            assert_eq!(reply.code, 0, "{method}: {}", reply.message);
            let (prefix, response) = reply.body.split_at(5);
            assert_eq!(
                prefix,
                [&[0], &(response.len() as u32).to_be_bytes()[..]].concat()
            );
            assert_eq!(told(signal, response), expected, "{method} {items}");
            let headers = [("content-type", PROTOBUF)];
            let answer = bench.harness.post(path, &headers, &body).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.header("content-type"), Some(PROTOBUF));
            assert_eq!(told(signal, &answer.body), expected, "{path} {items}");
            let (text, field) = json_request(signal, items);
            let headers = [("content-type", JSON)];
            let answer = bench.harness.post(path, &headers, text.as_bytes()).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let partial =
                serde_json::json!({ field: declined.to_string(), "errorMessage": MESSAGE });
            assert_eq!(
                found,
                serde_json::json!({ "partialSuccess": partial }),
                "{path} {items}"
            );
        }
        let items = match signal {
            Signal::Traces => "spans",
            Signal::Metrics => "metric_points",
            Signal::Logs => "log_records",
        };
        // Of 8 items in 3 requests 5 are declined; by gRPC once, by HTTP twice.
        for (transport, times) in [("grpc", 1.0), ("http", 2.0)] {
            let label = format!("transport=\"{transport}\"");
            let receiver =
                |column| bench.sum(&format!("otelcol_receiver_{column}_{items}"), &[&label]);
            assert_eq!(
                (receiver("accepted"), receiver("refused")),
                (3.0 * times, 5.0 * times)
            );
        }
        let label = format!("otel_signal=\"{}\"", signal.name());
        let labels = [label.as_str()];
        assert_eq!(bench.sum("tidegate_ledger_accepted_items", &labels), 9.0);
        eventually(|| bench.sum("tidegate_ledger_delivered_items", &labels) == 9.0).await;
        let labels = [label.as_str(), "processor=\"picky\"", "reason=\"first\""];
        assert_eq!(
            bench.sum("tidegate_processor_rejected_items", &labels),
            15.0
        );
    }
    drop(client);
    bench.stop().await;
}

#[tokio::test]
async fn where_nothing_is_declined_nothing_is_told() {
    let bench = Bench::start(0);
    let mut client = Grpc::connect(&bench.harness).await;
    for signal in Signal::ALL {
        let (path, method, body) = request(signal, 3);
        let reply = client.call(method, &[], vec![message(false, &body)]).await;
        assert_eq!((reply.code, reply.body), (0, vec![0; 5]), "{method}");
        let answer = bench
            .harness
            .post(path, &[("content-type", PROTOBUF)], &body)
            .await;
        assert_eq!((answer.status, answer.body), (200, vec![]), "{path}");
    }
    assert_eq!(bench.sum("tidegate_processor_rejected_items", &[]), 0.0);
    drop(client);
    bench.stop().await;
}

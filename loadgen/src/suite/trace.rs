//! The run's own spans: suite, test, step, hook. They are kept until the end, and may be exported over OTLP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, status::StatusCode,
};
use prost::Message as _;

use crate::otlp::client::{Connection, Outcome, Protocol, Target};
use crate::otlp::compression::Compression;
use crate::otlp::payload::Request;
use crate::otlp::signal::Signal;
use crate::record::Record;

const EXPORT_MAX: Duration = Duration::from_secs(10);
/// Spans of one run: a suite of a hundred tests with a hundred steps each has fewer.
const SPANS_MAX: usize = 100_000;

/// A span that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanIndex(usize);

/// Spans so far.
#[derive(Debug)]
pub(crate) struct Trace {
    id: [u8; 16],
    spans: Vec<Span>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            id: rand::random(),
            spans: Vec::new(),
        }
    }

    pub(crate) fn begin(
        &mut self,
        name: &str,
        attributes: &[(&str, String)],
        parent: Option<SpanIndex>,
    ) -> SpanIndex {
        let parent = parent.and_then(|parent| self.spans.get(parent.0));
        let span = Span {
            trace_id: self.id.to_vec(),
            span_id: rand::random::<[u8; 8]>().to_vec(),
            parent_span_id: parent.map(|it| it.span_id.clone()).unwrap_or_default(),
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: unix_nanos(),
            attributes: attributes
                .iter()
                .map(|(key, value)| text(key, value))
                .collect(),
            ..Span::default()
        };
        if self.spans.len() < SPANS_MAX {
            self.spans.push(span);
        }
        SpanIndex(self.spans.len() - 1)
    }

    pub(crate) fn event(&mut self, span: SpanIndex, name: &str, detail: &str) {
        let Some(span) = self.spans.get_mut(span.0) else {
            return;
        };
        span.events.push(Event {
            time_unix_nano: unix_nanos(),
            name: name.to_owned(),
            attributes: match detail {
                "" => Vec::new(),
                detail => vec![text("detail", detail)],
            },
            ..Event::default()
        });
    }

    pub(crate) fn end(&mut self, span: SpanIndex, error: Option<&str>) {
        let Some(span) = self.spans.get_mut(span.0) else {
            return;
        };
        span.end_time_unix_nano = unix_nanos();
        span.status = Some(Status {
            message: error.unwrap_or_default().to_owned(),
            code: match error {
                Some(_) => StatusCode::Error.into(),
                None => StatusCode::Ok.into(),
            },
        });
    }

    /// Sends all spans.
    ///
    /// # Errors
    /// When the endpoint does not take them.
    pub(crate) async fn export(&self, endpoint: &str, record: &Record) -> anyhow::Result<()> {
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource(record)),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope()),
                    spans: self.spans.clone(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        send(endpoint, Signal::Traces, &request.encode_to_vec()).await
    }
}

/// Sends the record's figures, each as a gauge with its unit and labels: the last repetition's.
///
/// # Errors
/// When the endpoint does not take them.
pub(crate) async fn export_metrics(endpoint: &str, record: &Record) -> anyhow::Result<()> {
    let now = unix_nanos();
    let gauge = |figure: &crate::record::Metric| {
        let point = NumberDataPoint {
            attributes: figure
                .labels
                .iter()
                .map(|(key, value)| text(key, value))
                .collect(),
            time_unix_nano: now,
            value: figure
                .values
                .last()
                .copied()
                .map(number_data_point::Value::AsDouble),
            ..NumberDataPoint::default()
        };
        Metric {
            name: format!("loadgen.suite.{}", figure.name),
            unit: figure.unit.clone(),
            data: Some(metric::Data::Gauge(Gauge {
                data_points: vec![point],
            })),
            ..Metric::default()
        }
    };
    let figures = record.metrics.iter().filter(|it| !it.values.is_empty());
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(record)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: figures.map(gauge).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    send(endpoint, Signal::Metrics, &request.encode_to_vec()).await
}

/// Whether something could be sent there.
///
/// # Errors
/// What is wrong with the address.
pub(crate) fn check(endpoint: &str) -> anyhow::Result<()> {
    Target::new(endpoint, Protocol::Grpc, Compression::None, Signal::Traces)
        .map(drop)
        .context("--otlp-endpoint")
}

async fn send(endpoint: &str, signal: Signal, message: &[u8]) -> anyhow::Result<()> {
    let target = Target::new(endpoint, Protocol::Grpc, Compression::None, signal)?;
    let request = Request::from_message(message, 1)?;
    let outcome = Connection::new(&target)?.send(&request, EXPORT_MAX).await;
    match outcome {
        Outcome::Accepted { rejected: 0 } => Ok(()),
        Outcome::Accepted { rejected } => bail!("{endpoint} rejected {rejected} {signal}"),
        Outcome::Refused(refusal) => bail!("{endpoint} refused {signal}: {}", refusal.status),
        Outcome::Failed(cause) | Outcome::NotSent(cause) => {
            bail!("{endpoint} did not answer to {signal}: {cause}")
        }
    }
}

fn resource(record: &Record) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", "loadgen"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("host.name", &record.environment.host),
            text("test.suite", &record.name),
            text("test.run", &record.run_id),
        ],
        ..Resource::default()
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "loadgen.suite".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_nested_and_end_with_a_status() {
        let mut trace = Trace::new();
        let suite = trace.begin("suite", &[], None);
        let step = trace.begin("step", &[("action", "load".to_owned())], Some(suite));
        trace.event(step, "kill", "agent");
        trace.end(step, Some("it failed"));
        trace.end(suite, None);
        let [suite, step] = trace.spans.as_slice() else {
            panic!("{trace:?}");
        };
        assert_eq!(step.parent_span_id, suite.span_id);
        assert!(step.end_time_unix_nano >= step.start_time_unix_nano);
        assert_eq!(step.status.as_ref().unwrap().message, "it failed");
        assert_eq!(step.events[0].name, "kill");
    }

    #[test]
    fn an_address_that_nothing_can_be_sent_to_is_told() {
        assert!(check("http://localhost:4317").is_ok());
        let problem = format!("{:#}", check("nonsense").unwrap_err());
        assert!(problem.starts_with("--otlp-endpoint: "), "{problem}");
    }
}

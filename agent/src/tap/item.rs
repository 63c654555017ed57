//! One item at a time, with its resource and scope.

use std::ops::ControlFlow;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
    metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::signal::Signal;

/// An item and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) resource: Option<&'a Resource>,
    pub(super) scope: Option<&'a InstrumentationScope>,
    /// Of the resource, and of the scope.
    schema_urls: [&'a str; 2],
    pub(super) what: What<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    Span(&'a Span),
    Log(&'a LogRecord),
    Point(&'a Metric, Point<'a>),
}

/// A data point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Point<'a> {
    Number(&'a NumberDataPoint),
    Histogram(&'a HistogramDataPoint),
    Exponential(&'a ExponentialHistogramDataPoint),
    Summary(&'a SummaryDataPoint),
}

impl<'a> Point<'a> {
    pub(super) fn attributes(self) -> &'a [KeyValue] {
        match self {
            Self::Number(point) => &point.attributes,
            Self::Histogram(point) => &point.attributes,
            Self::Exponential(point) => &point.attributes,
            Self::Summary(point) => &point.attributes,
        }
    }

    pub(super) fn time(self) -> u64 {
        match self {
            Self::Number(point) => point.time_unix_nano,
            Self::Histogram(point) => point.time_unix_nano,
            Self::Exponential(point) => point.time_unix_nano,
            Self::Summary(point) => point.time_unix_nano,
        }
    }
}

/// Calls `look` with each item of a checked request, until it breaks.
pub(super) fn each(
    signal: Signal,
    bytes: &[u8],
    mut look: impl FnMut(Seen<'_>) -> ControlFlow<()>,
) -> Result<(), prost::DecodeError> {
    // How it ended makes no difference.
    let _end = match signal {
        Signal::Traces => spans(&ExportTraceServiceRequest::decode(bytes)?, &mut look),
        Signal::Logs => logs(&ExportLogsServiceRequest::decode(bytes)?, &mut look),
        Signal::Metrics => points(&ExportMetricsServiceRequest::decode(bytes)?, &mut look),
    };
    Ok(())
}

type Look<'l> = dyn FnMut(Seen<'_>) -> ControlFlow<()> + 'l;

fn spans(request: &ExportTraceServiceRequest, look: &mut Look<'_>) -> ControlFlow<()> {
    for of_resource in &request.resource_spans {
        for of_scope in &of_resource.scope_spans {
            for span in &of_scope.spans {
                look(Seen {
                    resource: of_resource.resource.as_ref(),
                    scope: of_scope.scope.as_ref(),
                    schema_urls: [&of_resource.schema_url, &of_scope.schema_url],
                    what: What::Span(span),
                })?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn logs(request: &ExportLogsServiceRequest, look: &mut Look<'_>) -> ControlFlow<()> {
    for of_resource in &request.resource_logs {
        for of_scope in &of_resource.scope_logs {
            for record in &of_scope.log_records {
                look(Seen {
                    resource: of_resource.resource.as_ref(),
                    scope: of_scope.scope.as_ref(),
                    schema_urls: [&of_resource.schema_url, &of_scope.schema_url],
                    what: What::Log(record),
                })?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn points(request: &ExportMetricsServiceRequest, look: &mut Look<'_>) -> ControlFlow<()> {
    for of_resource in &request.resource_metrics {
        for of_scope in &of_resource.scope_metrics {
            for metric in &of_scope.metrics {
                for point in points_of(metric) {
                    look(Seen {
                        resource: of_resource.resource.as_ref(),
                        scope: of_scope.scope.as_ref(),
                        schema_urls: [&of_resource.schema_url, &of_scope.schema_url],
                        what: What::Point(metric, point),
                    })?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

fn points_of(metric: &Metric) -> Vec<Point<'_>> {
    match &metric.data {
        None => Vec::new(),
        Some(Data::Gauge(data)) => data.data_points.iter().map(Point::Number).collect(),
        Some(Data::Sum(data)) => data.data_points.iter().map(Point::Number).collect(),
        Some(Data::Histogram(data)) => data.data_points.iter().map(Point::Histogram).collect(),
        Some(Data::ExponentialHistogram(data)) => {
            data.data_points.iter().map(Point::Exponential).collect()
        }
        Some(Data::Summary(data)) => data.data_points.iter().map(Point::Summary).collect(),
    }
}

impl Seen<'_> {
    /// A request with this item and no other.
    pub(super) fn alone(&self) -> (Signal, Vec<u8>) {
        let (resource, scope) = (self.resource.cloned(), self.scope.cloned());
        let [of_resource, of_scope] = self.schema_urls.map(str::to_owned);
        match self.what {
            What::Span(span) => {
                let scope_spans = vec![ScopeSpans {
                    scope,
                    spans: vec![span.clone()],
                    schema_url: of_scope,
                }];
                let resource_spans = vec![ResourceSpans {
                    resource,
                    scope_spans,
                    schema_url: of_resource,
                }];
                let request = ExportTraceServiceRequest { resource_spans };
                (Signal::Traces, request.encode_to_vec())
            }
            What::Log(record) => {
                let scope_logs = vec![ScopeLogs {
                    scope,
                    log_records: vec![record.clone()],
                    schema_url: of_scope,
                }];
                let resource_logs = vec![ResourceLogs {
                    resource,
                    scope_logs,
                    schema_url: of_resource,
                }];
                let request = ExportLogsServiceRequest { resource_logs };
                (Signal::Logs, request.encode_to_vec())
            }
            What::Point(metric, point) => {
                let scope_metrics = vec![ScopeMetrics {
                    scope,
                    metrics: vec![with_one_point(metric, point)],
                    schema_url: of_scope,
                }];
                let resource_metrics = vec![ResourceMetrics {
                    resource,
                    scope_metrics,
                    schema_url: of_resource,
                }];
                let request = ExportMetricsServiceRequest { resource_metrics };
                (Signal::Metrics, request.encode_to_vec())
            }
        }
    }
}

fn with_one_point(metric: &Metric, point: Point<'_>) -> Metric {
    let data = match (point, &metric.data) {
        (Point::Number(point), Some(Data::Sum(sum))) => Data::Sum(Sum {
            data_points: vec![point.clone()],
            aggregation_temporality: sum.aggregation_temporality,
            is_monotonic: sum.is_monotonic,
        }),
        (Point::Number(point), _) => Data::Gauge(Gauge {
            data_points: vec![point.clone()],
        }),
        (Point::Histogram(point), data) => Data::Histogram(Histogram {
            data_points: vec![point.clone()],
            aggregation_temporality: match data {
                Some(Data::Histogram(data)) => data.aggregation_temporality,
                _ => 0,
            },
        }),
        (Point::Exponential(point), data) => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![point.clone()],
            aggregation_temporality: match data {
                Some(Data::ExponentialHistogram(data)) => data.aggregation_temporality,
                _ => 0,
            },
        }),
        (Point::Summary(point), _) => Data::Summary(Summary {
            data_points: vec![point.clone()],
        }),
    };
    Metric {
        name: metric.name.clone(),
        description: metric.description.clone(),
        unit: metric.unit.clone(),
        metadata: metric.metadata.clone(),
        data: Some(data),
    }
}

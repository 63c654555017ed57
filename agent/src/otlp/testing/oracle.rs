//! What prost makes of the same bytes: the yardstick for the wire code, in tests and under the fuzzer.

use std::mem;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use prost::{DecodeError, Message as _};

use crate::signal::Signal;

/// A request as prost's tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Spans.
    Traces(ExportTraceServiceRequest),
    /// Metrics.
    Metrics(ExportMetricsServiceRequest),
    /// Log records.
    Logs(ExportLogsServiceRequest),
}

impl Tree {
    /// Decodes a request.
    ///
    /// # Errors
    /// Whatever prost refuses.
    pub fn decode(signal: Signal, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match signal {
            Signal::Traces => Self::Traces(ExportTraceServiceRequest::decode(bytes)?),
            Signal::Metrics => Self::Metrics(ExportMetricsServiceRequest::decode(bytes)?),
            Signal::Logs => Self::Logs(ExportLogsServiceRequest::decode(bytes)?),
        })
    }

    /// The request in wire format.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Traces(request) => request.encode_to_vec(),
            Self::Metrics(request) => request.encode_to_vec(),
            Self::Logs(request) => request.encode_to_vec(),
        }
    }

    /// Spans, log records or data points.
    pub fn items(&self) -> usize {
        match self {
            Self::Traces(request) => {
                let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
                scopes.map(|scope| scope.spans.len()).sum()
            }
            Self::Logs(request) => {
                let scopes = request.resource_logs.iter().flat_map(|r| &r.scope_logs);
                scopes.map(|scope| scope.log_records.len()).sum()
            }
            Self::Metrics(request) => {
                let scopes = request
                    .resource_metrics
                    .iter()
                    .flat_map(|r| &r.scope_metrics);
                let metrics = scopes.flat_map(|scope| &scope.metrics);
                metrics.map(|metric| points(metric.data.as_ref())).sum()
            }
        }
    }
}

impl Tree {
    /// Every item of `trees` in order, each as an encoded request of its own with its resource, scope and metric.
    pub fn items_in_context(trees: &[Self]) -> Vec<Vec<u8>> {
        trees.iter().flat_map(Self::singles).collect()
    }

    fn singles(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Traces(request) => singles(
                &request.resource_spans,
                |resource| mem::take(&mut resource.scope_spans),
                |resource, scope| resource.scope_spans = vec![scope],
                |scope| mem::take(&mut scope.spans),
                |scope, span| scope.spans = vec![span],
            ),
            Self::Logs(request) => singles(
                &request.resource_logs,
                |resource| mem::take(&mut resource.scope_logs),
                |resource, scope| resource.scope_logs = vec![scope],
                |scope| mem::take(&mut scope.log_records),
                |scope, record| scope.log_records = vec![record],
            ),
            Self::Metrics(request) => singles(
                &request.resource_metrics,
                |resource| mem::take(&mut resource.scope_metrics),
                |resource, scope| resource.scope_metrics = vec![scope],
                |scope| {
                    mem::take(&mut scope.metrics)
                        .into_iter()
                        .flat_map(by_point)
                        .collect()
                },
                |scope, metric| scope.metrics = vec![metric],
            ),
        }
    }
}

/// Takes resources apart and puts each item back alone.
fn singles<R: Clone + prost::Message, S: Clone, I>(
    resources: &[R],
    scopes: impl Fn(&mut R) -> Vec<S>,
    set_scope: impl Fn(&mut R, S),
    items: impl Fn(&mut S) -> Vec<I>,
    set_item: impl Fn(&mut S, I),
) -> Vec<Vec<u8>> {
    let mut singles = Vec::new();
    for mut resource in resources.iter().cloned() {
        for mut scope in scopes(&mut resource) {
            for item in items(&mut scope) {
                set_item(&mut scope, item);
                set_scope(&mut resource, scope.clone());
                singles.push(resource.encode_to_vec());
            }
        }
    }
    singles
}

/// A metric for each of a metric's points.
fn by_point(mut metric: Metric) -> Vec<Metric> {
    fn each<P>(points: Vec<P>, mut data: impl FnMut(Vec<P>) -> Data) -> Vec<Data> {
        points.into_iter().map(|point| data(vec![point])).collect()
    }
    let data = match metric.data.take() {
        None => Vec::new(),
        Some(Data::Gauge(mut gauge)) => each(gauge.data_points.clone(), |points| {
            gauge.data_points = points;
            Data::Gauge(gauge.clone())
        }),
        Some(Data::Sum(mut sum)) => each(sum.data_points.clone(), |points| {
            sum.data_points = points;
            Data::Sum(sum.clone())
        }),
        Some(Data::Histogram(mut histogram)) => each(histogram.data_points.clone(), |points| {
            histogram.data_points = points;
            Data::Histogram(histogram.clone())
        }),
        Some(Data::ExponentialHistogram(mut histogram)) => {
            each(histogram.data_points.clone(), |points| {
                histogram.data_points = points;
                Data::ExponentialHistogram(histogram.clone())
            })
        }
        Some(Data::Summary(mut summary)) => each(summary.data_points.clone(), |points| {
            summary.data_points = points;
            Data::Summary(summary.clone())
        }),
    };
    data.into_iter()
        .map(|data| Metric {
            data: Some(data),
            ..metric.clone()
        })
        .collect()
}

fn points(data: Option<&Data>) -> usize {
    match data {
        None => 0,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    }
}

//! About one line per span, log record or data point.

use std::fmt::{self, Write};

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
    metric::Data, number_data_point::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::RenderError;
use super::text::{Id, pairs, plain};
use crate::signal::Signal;

/// Appends the lines of a request.
pub(super) fn write(text: &mut String, signal: Signal, bytes: &[u8]) -> Result<(), RenderError> {
    match signal {
        Signal::Traces => traces(text, &ExportTraceServiceRequest::decode(bytes)?)?,
        Signal::Metrics => metrics(text, &ExportMetricsServiceRequest::decode(bytes)?)?,
        Signal::Logs => logs(text, &ExportLogsServiceRequest::decode(bytes)?)?,
    }
    Ok(())
}

fn traces(text: &mut String, request: &ExportTraceServiceRequest) -> fmt::Result {
    for (index, entry) in request.resource_spans.iter().enumerate() {
        resource(
            text,
            "ResourceTraces",
            index,
            &entry.schema_url,
            entry.resource.as_ref(),
        )?;
        for (index, entry) in entry.scope_spans.iter().enumerate() {
            scope(
                text,
                "ScopeTraces",
                index,
                &entry.schema_url,
                entry.scope.as_ref(),
            )?;
            for span in &entry.spans {
                let (trace, id) = (Id(&span.trace_id), Id(&span.span_id));
                write!(text, "{} {trace} {id}", span.name)?;
                attributes(text, &span.attributes)?;
            }
        }
    }
    Ok(())
}

fn logs(text: &mut String, request: &ExportLogsServiceRequest) -> fmt::Result {
    for (index, entry) in request.resource_logs.iter().enumerate() {
        resource(
            text,
            "ResourceLog",
            index,
            &entry.schema_url,
            entry.resource.as_ref(),
        )?;
        for (index, entry) in entry.scope_logs.iter().enumerate() {
            scope(
                text,
                "ScopeLog",
                index,
                &entry.schema_url,
                entry.scope.as_ref(),
            )?;
            for record in &entry.log_records {
                write!(text, "{}", plain(record.body.as_ref()))?;
                attributes(text, &record.attributes)?;
            }
        }
    }
    Ok(())
}

fn metrics(text: &mut String, request: &ExportMetricsServiceRequest) -> fmt::Result {
    for (index, entry) in request.resource_metrics.iter().enumerate() {
        resource(
            text,
            "ResourceMetrics",
            index,
            &entry.schema_url,
            entry.resource.as_ref(),
        )?;
        for (index, entry) in entry.scope_metrics.iter().enumerate() {
            scope(
                text,
                "ScopeMetrics",
                index,
                &entry.schema_url,
                entry.scope.as_ref(),
            )?;
            entry
                .metrics
                .iter()
                .try_for_each(|metric| points(text, metric))?;
        }
    }
    Ok(())
}

fn resource(
    text: &mut String,
    title: &str,
    index: usize,
    schema_url: &str,
    resource: Option<&Resource>,
) -> fmt::Result {
    write!(text, "{title} #{index}")?;
    schema(text, schema_url)?;
    attributes(text, resource.map_or(&[], |resource| &resource.attributes))
}

fn scope(
    text: &mut String,
    title: &str,
    index: usize,
    schema_url: &str,
    scope: Option<&InstrumentationScope>,
) -> fmt::Result {
    write!(text, "{title} #{index}")?;
    if let Some(scope) = scope.filter(|scope| !scope.name.is_empty()) {
        write!(text, " {}", scope.name)?;
        if !scope.version.is_empty() {
            write!(text, "@{}", scope.version)?;
        }
    }
    schema(text, schema_url)?;
    attributes(text, scope.map_or(&[], |scope| &scope.attributes))
}

fn schema(text: &mut String, url: &str) -> fmt::Result {
    if url.is_empty() {
        return Ok(());
    }
    write!(text, " [{url}]")
}

/// The rest of a line.
fn attributes(text: &mut String, attributes: &[KeyValue]) -> fmt::Result {
    if !attributes.is_empty() {
        write!(text, " {}", pairs(attributes, " "))?;
    }
    writeln!(text)
}

fn points(text: &mut String, metric: &Metric) -> fmt::Result {
    let mut line = |attributes: &[KeyValue], value: String| {
        writeln!(
            text,
            "{}{{{}}} {value}",
            metric.name,
            pairs(attributes, ",")
        )
    };
    match &metric.data {
        None => writeln!(text, "{} without data", metric.name),
        Some(Data::Gauge(gauge)) => gauge
            .data_points
            .iter()
            .try_for_each(|point| line(&point.attributes, number(point))),
        Some(Data::Sum(sum)) => sum
            .data_points
            .iter()
            .try_for_each(|point| line(&point.attributes, number(point))),
        Some(Data::Histogram(histogram)) => histogram
            .data_points
            .iter()
            .try_for_each(|point| line(&point.attributes, buckets(point))),
        Some(Data::ExponentialHistogram(histogram)) => histogram
            .data_points
            .iter()
            .try_for_each(|point| line(&point.attributes, exponential(point))),
        Some(Data::Summary(summary)) => summary
            .data_points
            .iter()
            .try_for_each(|point| line(&point.attributes, quantiles(point))),
    }
}

fn number(point: &NumberDataPoint) -> String {
    match point.value {
        Some(Value::AsInt(value)) => value.to_string(),
        Some(Value::AsDouble(value)) => value.to_string(),
        None => String::new(),
    }
}

fn totals(count: u64, sum: Option<f64>, min: Option<f64>, max: Option<f64>) -> String {
    let mut value = format!("count={count}");
    for (name, figure) in [("sum", sum), ("min", min), ("max", max)] {
        if let Some(figure) = figure {
            value.push_str(&format!(" {name}={figure}"));
        }
    }
    value
}

fn buckets(point: &HistogramDataPoint) -> String {
    let mut value = totals(point.count, point.sum, point.min, point.max);
    for (index, count) in point.bucket_counts.iter().enumerate() {
        value.push_str(&match point.explicit_bounds.get(index) {
            Some(bound) => format!(" le{bound}={count}"),
            None => format!(" {count}"),
        });
    }
    value
}

fn exponential(point: &ExponentialHistogramDataPoint) -> String {
    let mut value = totals(point.count, point.sum, point.min, point.max);
    let base = f64::from(-point.scale).exp2().exp2();
    for (sign, side) in [("-", &point.negative), ("", &point.positive)] {
        let Some(side) = side else { continue };
        for (index, count) in side.bucket_counts.iter().enumerate() {
            let bound = base.powf(f64::from(side.offset) + index as f64);
            value.push_str(&format!(" le{sign}{bound}={count}"));
        }
    }
    if point.zero_count > 0 {
        let threshold = point.zero_threshold;
        value.push_str(&format!(" zero_count{threshold}={}", point.zero_count));
    }
    value
}

fn quantiles(point: &SummaryDataPoint) -> String {
    let mut value = totals(point.count, Some(point.sum), None, None);
    for quantile in &point.quantile_values {
        value.push_str(&format!(" q{}={}", quantile.quantile, quantile.value));
    }
    value
}

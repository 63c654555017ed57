//! Every field of every data point.

use std::fmt::{self, Display, Write};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    SummaryDataPoint, exemplar, metric::Data, number_data_point,
};

use super::super::text::{Id, TEMPORALITIES, Time, enum_name};
use super::{attributes, resource, scope};

/// Appends a request.
pub(super) fn write(text: &mut String, request: &ExportMetricsServiceRequest) -> fmt::Result {
    for (index, entry) in request.resource_metrics.iter().enumerate() {
        writeln!(text, "ResourceMetrics #{index}")?;
        resource(text, &entry.schema_url, entry.resource.as_ref())?;
        for (index, entry) in entry.scope_metrics.iter().enumerate() {
            writeln!(text, "ScopeMetrics #{index}")?;
            scope(
                text,
                "ScopeMetrics",
                &entry.schema_url,
                entry.scope.as_ref(),
            )?;
            for (index, item) in entry.metrics.iter().enumerate() {
                writeln!(text, "Metric #{index}")?;
                metric(text, item)?;
            }
        }
    }
    Ok(())
}

fn metric(text: &mut String, metric: &Metric) -> fmt::Result {
    writeln!(text, "Descriptor:")?;
    field(text, "Name", &metric.name)?;
    field(text, "Description", &metric.description)?;
    field(text, "Unit", &metric.unit)?;
    attributes(text, "     -> ", "Metadata", &metric.metadata)?;
    match &metric.data {
        None => field(text, "DataType", &"Empty"),
        Some(Data::Gauge(gauge)) => {
            field(text, "DataType", &"Gauge")?;
            each(text, "NumberDataPoints", &gauge.data_points, number_point)
        }
        Some(Data::Sum(sum)) => {
            field(text, "DataType", &"Sum")?;
            field(text, "IsMonotonic", &sum.is_monotonic)?;
            temporality(text, sum.aggregation_temporality)?;
            each(text, "NumberDataPoints", &sum.data_points, number_point)
        }
        Some(Data::Histogram(histogram)) => {
            field(text, "DataType", &"Histogram")?;
            temporality(text, histogram.aggregation_temporality)?;
            each(
                text,
                "HistogramDataPoints",
                &histogram.data_points,
                histogram_point,
            )
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            field(text, "DataType", &"ExponentialHistogram")?;
            temporality(text, histogram.aggregation_temporality)?;
            let points = &histogram.data_points;
            each(
                text,
                "ExponentialHistogramDataPoints",
                points,
                exponential_point,
            )
        }
        Some(Data::Summary(summary)) => {
            field(text, "DataType", &"Summary")?;
            each(
                text,
                "SummaryDataPoints",
                &summary.data_points,
                summary_point,
            )
        }
    }
}

fn field(text: &mut String, name: &str, value: &dyn Display) -> fmt::Result {
    writeln!(text, "     -> {name}: {value}")
}

fn temporality(text: &mut String, number: i32) -> fmt::Result {
    field(
        text,
        "AggregationTemporality",
        &enum_name(TEMPORALITIES, number),
    )
}

fn each<T>(
    text: &mut String,
    heading: &str,
    items: &[T],
    write: impl Fn(&mut String, &T) -> fmt::Result,
) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(index, item)| {
        writeln!(text, "{heading} #{index}")?;
        write(text, item)
    })
}

fn line(text: &mut String, name: &str, value: &dyn Display) -> fmt::Result {
    writeln!(text, "{name}: {value}")
}

fn optional(text: &mut String, name: &str, value: Option<f64>) -> fmt::Result {
    value.map_or(Ok(()), |value| line(text, name, &value))
}

fn head(text: &mut String, items: &[KeyValue], start: u64, time: u64, flags: u32) -> fmt::Result {
    attributes(text, "", "Data point attributes", items)?;
    line(text, "StartTimestamp", &Time(start))?;
    line(text, "Timestamp", &Time(time))?;
    if flags != 0 {
        line(text, "Flags", &flags)?;
    }
    Ok(())
}

fn number_point(text: &mut String, point: &NumberDataPoint) -> fmt::Result {
    let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
    head(text, &point.attributes, start, time, point.flags)?;
    match point.value {
        Some(number_data_point::Value::AsInt(value)) => line(text, "Value", &value)?,
        Some(number_data_point::Value::AsDouble(value)) => line(text, "Value", &value)?,
        None => {}
    }
    exemplars(text, &point.exemplars)
}

fn histogram_point(text: &mut String, point: &HistogramDataPoint) -> fmt::Result {
    let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
    head(text, &point.attributes, start, time, point.flags)?;
    line(text, "Count", &point.count)?;
    optional(text, "Sum", point.sum)?;
    optional(text, "Min", point.min)?;
    optional(text, "Max", point.max)?;
    for (index, bound) in point.explicit_bounds.iter().enumerate() {
        writeln!(text, "ExplicitBounds #{index}: {bound}")?;
    }
    for (index, count) in point.bucket_counts.iter().enumerate() {
        writeln!(text, "Buckets #{index}, Count: {count}")?;
    }
    exemplars(text, &point.exemplars)
}

fn exponential_point(text: &mut String, point: &ExponentialHistogramDataPoint) -> fmt::Result {
    let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
    head(text, &point.attributes, start, time, point.flags)?;
    line(text, "Count", &point.count)?;
    optional(text, "Sum", point.sum)?;
    optional(text, "Min", point.min)?;
    optional(text, "Max", point.max)?;
    line(text, "Scale", &point.scale)?;
    // Bucket `index` holds values from 2^(index * 2^-scale) to the next of these.
    let width = f64::from(-point.scale).exp2();
    let bound = |index: f64| (index * width).exp2();
    if let Some(negative) = &point.negative {
        for (index, count) in negative.bucket_counts.iter().enumerate().rev() {
            let index = f64::from(negative.offset) + index as f64;
            let (from, to) = (-bound(index + 1.0), -bound(index));
            writeln!(text, "Bucket [{from}, {to}), Count: {count}")?;
        }
    }
    if point.zero_count != 0 {
        let threshold = point.zero_threshold;
        writeln!(
            text,
            "Bucket [-{threshold}, {threshold}], Count: {}",
            point.zero_count
        )?;
    }
    if let Some(positive) = &point.positive {
        for (index, count) in positive.bucket_counts.iter().enumerate() {
            let index = f64::from(positive.offset) + index as f64;
            let (from, to) = (bound(index), bound(index + 1.0));
            writeln!(text, "Bucket ({from}, {to}], Count: {count}")?;
        }
    }
    exemplars(text, &point.exemplars)
}

fn summary_point(text: &mut String, point: &SummaryDataPoint) -> fmt::Result {
    let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
    head(text, &point.attributes, start, time, point.flags)?;
    line(text, "Count", &point.count)?;
    line(text, "Sum", &point.sum)?;
    for (index, value) in point.quantile_values.iter().enumerate() {
        let (quantile, value) = (value.quantile, value.value);
        writeln!(
            text,
            "QuantileValue #{index}: Quantile {quantile}, Value {value}"
        )?;
    }
    Ok(())
}

fn exemplars(text: &mut String, items: &[Exemplar]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(text, "Exemplars:")?;
    each(text, "Exemplar", items, |text, item| {
        field(text, "Trace ID", &Id(&item.trace_id))?;
        field(text, "Span ID", &Id(&item.span_id))?;
        field(text, "Timestamp", &Time(item.time_unix_nano))?;
        match item.value {
            Some(exemplar::Value::AsInt(value)) => field(text, "Value", &value)?,
            Some(exemplar::Value::AsDouble(value)) => field(text, "Value", &value)?,
            None => {}
        }
        attributes(
            text,
            "     -> ",
            "FilteredAttributes",
            &item.filtered_attributes,
        )
    })
}

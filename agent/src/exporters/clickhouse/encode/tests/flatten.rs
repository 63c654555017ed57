//! Rows from prost's objects: the oracle, written from the reference and sharing no code with the encoder.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Metric, NumberDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::super::super::native::decode::{Cell, Row};
use super::super::{Adjusted, Table};
use crate::signal::Signal;

type Rows = BTreeMap<Table, Vec<Row>>;

/// The rows of a request, for each table that has any.
pub(super) fn flatten(signal: Signal, request: &[u8]) -> (Rows, Adjusted) {
    let mut adjusted = Adjusted::default();
    let rows = match signal {
        Signal::Traces => traces(request, &mut adjusted),
        Signal::Logs => logs(request),
        Signal::Metrics => metrics(request, &mut adjusted),
    };
    (rows, adjusted)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id(bytes: &[u8]) -> Cell {
    let zero = bytes.iter().all(|byte| *byte == 0);
    Cell::text(if zero { String::new() } else { hex(bytes) })
}

fn time(nanos: u64) -> Cell {
    Cell::Time(nanos.cast_signed())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let sum = (0..3).fold(0usize, |sum, at| {
            sum << 8 | usize::from(*group.get(at).unwrap_or(&0))
        });
        for place in 0..4 {
            let digit = char::from(DIGITS[sum >> (18 - 6 * place) & 63]);
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}

/// By Rust's own shortest digits.
fn double(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return match (value.is_nan(), value.is_sign_negative(), value == 0.0) {
            (true, ..) => "NaN",
            (_, true, true) => "-0",
            (_, false, true) => "0",
            (_, true, _) => "-Infinity",
            _ => "Infinity",
        }
        .to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap();
    match exponent.parse::<i32>().unwrap() {
        21.. => format!("{digits}e+{exponent}"),
        ..=-7 => format!("{digits}e{exponent}"),
        _ => format!("{value}"),
    }
}

fn json(value: Option<&AnyValue>) -> String {
    let quoted = |text: &str| {
        serde_json::to_string(text)
            .unwrap()
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029")
    };
    match value.and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => quoted(text),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) if number.is_finite() => double(*number),
        Some(Value::DoubleValue(number)) => quoted(&double(*number)),
        Some(Value::BytesValue(bytes)) => quoted(&base64(bytes)),
        Some(Value::ArrayValue(array)) => {
            let parts: Vec<String> = array.values.iter().map(|any| json(Some(any))).collect();
            format!("[{}]", parts.join(","))
        }
        Some(Value::KvlistValue(map)) => {
            let keys: BTreeSet<&str> = map.values.iter().map(|pair| pair.key.as_str()).collect();
            let part = |key: &&str| {
                let last = map.values.iter().rfind(|pair| pair.key == *key).unwrap();
                format!("{}:{}", quoted(key), json(last.value.as_ref()))
            };
            let parts: Vec<String> = keys.iter().map(part).collect();
            format!("{{{}}}", parts.join(","))
        }
        _ => "null".to_owned(),
    }
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::DoubleValue(number)) => double(*number),
        Some(Value::BytesValue(bytes)) => base64(bytes),
        Some(Value::StringValueStrindex(_)) | None => String::new(),
        Some(_) => json(value),
    }
}

fn map(attributes: &[KeyValue]) -> Cell {
    let pair = |pair: &KeyValue| (Cell::text(&pair.key), Cell::text(text(pair.value.as_ref())));
    Cell::Map(attributes.iter().map(pair).collect())
}

fn service_name(resource: &Resource) -> Cell {
    let found = resource
        .attributes
        .iter()
        .find(|pair| pair.key == "service.name");
    Cell::text(
        found
            .map(|pair| text(pair.value.as_ref()))
            .unwrap_or_default(),
    )
}

fn row<const N: usize>(cells: [(&str, Cell); N]) -> Row {
    cells
        .into_iter()
        .map(|(name, cell)| (name.to_owned(), cell))
        .collect()
}

fn list<T>(items: &[T], cell: impl Fn(&T) -> Cell) -> Cell {
    Cell::List(items.iter().map(cell).collect())
}

fn traces(request: &[u8], adjusted: &mut Adjusted) -> Rows {
    let mut rows = Rows::new();
    for resource_spans in ExportTraceServiceRequest::decode(request)
        .unwrap()
        .resource_spans
    {
        let resource = resource_spans.resource.unwrap_or_default();
        for scope_spans in resource_spans.scope_spans {
            let scope = scope_spans.scope.unwrap_or_default();
            for span in scope_spans.spans {
                adjusted.negative_durations +=
                    u64::from(span.end_time_unix_nano < span.start_time_unix_nano);
                rows.entry(Table::Traces)
                    .or_default()
                    .push(span_row(&resource, &scope, &span));
            }
        }
    }
    rows
}

fn span_row(resource: &Resource, scope: &InstrumentationScope, span: &Span) -> Row {
    let name = |names: &[&str], value: i32| {
        let index = usize::try_from(value).ok();
        Cell::text(
            index
                .and_then(|index| names.get(index))
                .copied()
                .unwrap_or_default(),
        )
    };
    let kinds = [
        "Unspecified",
        "Internal",
        "Server",
        "Client",
        "Producer",
        "Consumer",
    ];
    let status = span.status.clone().unwrap_or_default();
    let nanos = span
        .end_time_unix_nano
        .saturating_sub(span.start_time_unix_nano);
    let mut cells = row([
        ("Timestamp", time(span.start_time_unix_nano)),
        ("TraceId", id(&span.trace_id)),
        ("SpanId", id(&span.span_id)),
        ("ParentSpanId", id(&span.parent_span_id)),
        ("TraceState", Cell::text(&span.trace_state)),
        ("SpanName", Cell::text(&span.name)),
        ("SpanKind", name(&kinds, span.kind)),
        ("ServiceName", service_name(resource)),
        ("ResourceAttributes", map(&resource.attributes)),
        ("ScopeName", Cell::text(&scope.name)),
        ("ScopeVersion", Cell::text(&scope.version)),
        ("SpanAttributes", map(&span.attributes)),
        ("Duration", Cell::UInt(nanos)),
        ("StatusCode", name(&["Unset", "Ok", "Error"], status.code)),
        ("StatusMessage", Cell::text(&status.message)),
    ]);
    let (events, links) = (&span.events, &span.links);
    cells.append(&mut row([
        (
            "Events.Timestamp",
            list(events, |event| time(event.time_unix_nano)),
        ),
        ("Events.Name", list(events, |event| Cell::text(&event.name))),
        (
            "Events.Attributes",
            list(events, |event| map(&event.attributes)),
        ),
        ("Links.TraceId", list(links, |link| id(&link.trace_id))),
        ("Links.SpanId", list(links, |link| id(&link.span_id))),
        (
            "Links.TraceState",
            list(links, |link| Cell::text(&link.trace_state)),
        ),
        (
            "Links.Attributes",
            list(links, |link| map(&link.attributes)),
        ),
    ]));
    cells
}

fn logs(request: &[u8]) -> Rows {
    let mut rows = Rows::new();
    for resource_logs in ExportLogsServiceRequest::decode(request)
        .unwrap()
        .resource_logs
    {
        let resource = resource_logs.resource.unwrap_or_default();
        for scope_logs in resource_logs.scope_logs {
            let scope = scope_logs.scope.unwrap_or_default();
            for record in scope_logs.log_records {
                let nanos = match record.time_unix_nano {
                    0 => record.observed_time_unix_nano,
                    given => given,
                };
                let byte = |value: u32| Cell::UInt(u64::from(value & 0xff));
                rows.entry(Table::Logs).or_default().push(row([
                    ("Timestamp", time(nanos)),
                    ("TraceId", id(&record.trace_id)),
                    ("SpanId", id(&record.span_id)),
                    ("TraceFlags", byte(record.flags)),
                    ("SeverityText", Cell::text(&record.severity_text)),
                    (
                        "SeverityNumber",
                        byte(record.severity_number.cast_unsigned()),
                    ),
                    ("ServiceName", service_name(&resource)),
                    ("Body", Cell::text(text(record.body.as_ref()))),
                    ("ResourceSchemaUrl", Cell::text(&resource_logs.schema_url)),
                    ("ResourceAttributes", map(&resource.attributes)),
                    ("ScopeSchemaUrl", Cell::text(&scope_logs.schema_url)),
                    ("ScopeName", Cell::text(&scope.name)),
                    ("ScopeVersion", Cell::text(&scope.version)),
                    ("ScopeAttributes", map(&scope.attributes)),
                    ("LogAttributes", map(&record.attributes)),
                    ("EventName", Cell::text(&record.event_name)),
                ]));
            }
        }
    }
    rows
}

fn metrics(request: &[u8], adjusted: &mut Adjusted) -> Rows {
    let mut rows = Rows::new();
    for resource_metrics in ExportMetricsServiceRequest::decode(request)
        .unwrap()
        .resource_metrics
    {
        let resource = resource_metrics.resource.unwrap_or_default();
        for scope_metrics in resource_metrics.scope_metrics {
            let scope = scope_metrics.scope.unwrap_or_default();
            for metric in scope_metrics.metrics {
                let shared = row([
                    ("ResourceAttributes", map(&resource.attributes)),
                    (
                        "ResourceSchemaUrl",
                        Cell::text(&resource_metrics.schema_url),
                    ),
                    ("ScopeName", Cell::text(&scope.name)),
                    ("ScopeVersion", Cell::text(&scope.version)),
                    ("ScopeAttributes", map(&scope.attributes)),
                    (
                        "ScopeDroppedAttrCount",
                        Cell::UInt(scope.dropped_attributes_count.into()),
                    ),
                    ("ScopeSchemaUrl", Cell::text(&scope_metrics.schema_url)),
                    ("ServiceName", service_name(&resource)),
                    ("MetricName", Cell::text(&metric.name)),
                    ("MetricDescription", Cell::text(&metric.description)),
                    ("MetricUnit", Cell::text(&metric.unit)),
                ]);
                let Some((table, points)) = points(&metric) else {
                    adjusted.metrics_without_data += 1;
                    continue;
                };
                for mut point in points {
                    point.append(&mut shared.clone());
                    rows.entry(table).or_default().push(point);
                }
            }
        }
    }
    rows
}

fn point(attributes: &[KeyValue], start: u64, at: u64, flags: u32) -> Row {
    row([
        ("Attributes", map(attributes)),
        ("StartTimeUnix", time(start)),
        ("TimeUnix", time(at)),
        ("Flags", Cell::UInt(flags.into())),
    ])
}

fn exemplars(exemplars: &[Exemplar]) -> Row {
    let zeros = |bytes: &[u8], digits: usize| Cell::text(format!("{:0>digits$}", hex(bytes)));
    let value = |exemplar: &Exemplar| match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => Cell::Float(value),
        Some(exemplar::Value::AsInt(value)) => Cell::Float(value as f64),
        None => Cell::Float(0.0),
    };
    row([
        (
            "Exemplars.FilteredAttributes",
            list(exemplars, |exemplar| map(&exemplar.filtered_attributes)),
        ),
        (
            "Exemplars.TimeUnix",
            list(exemplars, |exemplar| time(exemplar.time_unix_nano)),
        ),
        ("Exemplars.Value", list(exemplars, value)),
        (
            "Exemplars.SpanId",
            list(exemplars, |exemplar| zeros(&exemplar.span_id, 16)),
        ),
        (
            "Exemplars.TraceId",
            list(exemplars, |exemplar| zeros(&exemplar.trace_id, 32)),
        ),
    ])
}

fn number(point_given: &NumberDataPoint) -> Row {
    let value = match point_given.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        None => 0.0,
    };
    let NumberDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        flags,
        ..
    } = point_given;
    let mut cells = point(attributes, *start_time_unix_nano, *time_unix_nano, *flags);
    cells.append(&mut exemplars(&point_given.exemplars));
    cells.append(&mut row([("Value", Cell::Float(value))]));
    cells
}

fn temporality(value: i32) -> Row {
    row([("AggregationTemporality", Cell::Int(value.into()))])
}

fn counts(counts: &[u64]) -> Cell {
    list(counts, |count| Cell::UInt(*count))
}

fn points(metric: &Metric) -> Option<(Table, Vec<Row>)> {
    Some(match metric.data.as_ref()? {
        Data::Gauge(gauge) => (Table::Gauge, gauge.data_points.iter().map(number).collect()),
        Data::Sum(sum) => {
            let of = |point| {
                let mut cells = number(point);
                cells.append(&mut temporality(sum.aggregation_temporality));
                cells.append(&mut row([("IsMonotonic", Cell::Bool(sum.is_monotonic))]));
                cells
            };
            (Table::Sum, sum.data_points.iter().map(of).collect())
        }
        Data::Histogram(_) => (Table::Histogram, histograms(metric)),
        Data::ExponentialHistogram(_) => {
            (Table::ExponentialHistogram, exponential_histograms(metric))
        }
        Data::Summary(_) => (Table::Summary, summaries(metric)),
    })
}

fn histograms(metric: &Metric) -> Vec<Row> {
    let Some(Data::Histogram(histogram)) = &metric.data else {
        panic!("not a histogram")
    };
    let mut rows = Vec::new();
    for given in &histogram.data_points {
        let mut cells = point(
            &given.attributes,
            given.start_time_unix_nano,
            given.time_unix_nano,
            given.flags,
        );
        cells.append(&mut exemplars(&given.exemplars));
        cells.append(&mut temporality(histogram.aggregation_temporality));
        cells.append(&mut row([
            ("Count", Cell::UInt(given.count)),
            ("Sum", Cell::Float(given.sum.unwrap_or_default())),
            ("Min", Cell::Float(given.min.unwrap_or_default())),
            ("Max", Cell::Float(given.max.unwrap_or_default())),
            ("BucketCounts", counts(&given.bucket_counts)),
            (
                "ExplicitBounds",
                list(&given.explicit_bounds, |bound| Cell::Float(*bound)),
            ),
        ]));
        rows.push(cells);
    }
    rows
}

fn exponential_histograms(metric: &Metric) -> Vec<Row> {
    let Some(Data::ExponentialHistogram(histogram)) = &metric.data else {
        panic!("not one")
    };
    let mut rows = Vec::new();
    for given in &histogram.data_points {
        let mut cells = point(
            &given.attributes,
            given.start_time_unix_nano,
            given.time_unix_nano,
            given.flags,
        );
        let positive = given.positive.clone().unwrap_or_default();
        let negative = given.negative.clone().unwrap_or_default();
        cells.append(&mut exemplars(&given.exemplars));
        cells.append(&mut temporality(histogram.aggregation_temporality));
        cells.append(&mut row([
            ("Count", Cell::UInt(given.count)),
            ("Sum", Cell::Float(given.sum.unwrap_or_default())),
            ("Min", Cell::Float(given.min.unwrap_or_default())),
            ("Max", Cell::Float(given.max.unwrap_or_default())),
            ("Scale", Cell::Int(given.scale.into())),
            ("ZeroCount", Cell::UInt(given.zero_count)),
            ("PositiveOffset", Cell::Int(positive.offset.into())),
            ("PositiveBucketCounts", counts(&positive.bucket_counts)),
            ("NegativeOffset", Cell::Int(negative.offset.into())),
            ("NegativeBucketCounts", counts(&negative.bucket_counts)),
        ]));
        rows.push(cells);
    }
    rows
}

fn summaries(metric: &Metric) -> Vec<Row> {
    let Some(Data::Summary(summary)) = &metric.data else {
        panic!("not a summary")
    };
    let mut rows = Vec::new();
    for given in &summary.data_points {
        let mut cells = point(
            &given.attributes,
            given.start_time_unix_nano,
            given.time_unix_nano,
            given.flags,
        );
        let quantiles = &given.quantile_values;
        cells.append(&mut row([
            ("Count", Cell::UInt(given.count)),
            ("Sum", Cell::Float(given.sum)),
            (
                "ValueAtQuantiles.Quantile",
                list(quantiles, |at| Cell::Float(at.quantile)),
            ),
            (
                "ValueAtQuantiles.Value",
                list(quantiles, |at| Cell::Float(at.value)),
            ),
        ]));
        rows.push(cells);
    }
    rows
}

//! OTLP/JSON from prost's types, written apart from the encoder: every field by its name.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::Event, span::Link};
use serde_json::{Map, Value as Json, json};

/// An object without the members that are `null`.
fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    Json::Object(Map::from_iter(
        members.map(|(name, value)| (name.to_owned(), value)),
    ))
}

fn unless(default: bool, value: Json) -> Json {
    if default { Json::Null } else { value }
}

fn text(value: &str) -> Json {
    unless(value.is_empty(), json!(value))
}

fn number(value: impl Into<i64>) -> Json {
    let value = value.into();
    unless(value == 0, json!(value))
}

fn long(value: u64) -> Json {
    unless(value == 0, json!(value.to_string()))
}

fn id(bytes: &[u8]) -> Json {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    unless(bytes.iter().all(|byte| *byte == 0), json!(text))
}

fn double(value: f64) -> Json {
    if value.is_finite() {
        return json!(value);
    }
    json!(format!("{value}").replace("inf", "Infinity"))
}

fn nonzero(value: f64) -> Json {
    unless(value.to_bits() == 0, double(value))
}

fn optional(value: Option<f64>) -> Json {
    value.map_or(Json::Null, double)
}

fn list<T>(items: &[T], render: impl Fn(&T) -> Json) -> Json {
    unless(items.is_empty(), items.iter().map(render).collect())
}

fn base64(bytes: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let mut text: String = bits
        .chunks(6)
        .map(|six| {
            let index = (0..6).fold(0, |index, bit| {
                index * 2 + six.get(bit).copied().unwrap_or(0)
            });
            alphabet[usize::from(index)]
        })
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

fn any(value: &Option<AnyValue>) -> Json {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        None => json!({}),
        Some(Any::StringValue(value)) => json!({ "stringValue": value }),
        Some(Any::BoolValue(value)) => json!({ "boolValue": value }),
        Some(Any::IntValue(value)) => json!({ "intValue": value.to_string() }),
        Some(Any::DoubleValue(value)) => json!({ "doubleValue": double(*value) }),
        Some(Any::BytesValue(value)) => json!({ "bytesValue": base64(value) }),
        Some(Any::StringValueStrindex(value)) => json!({ "stringValueStrindex": value }),
        Some(Any::ArrayValue(array)) => {
            let values = list(&array.values, |value| any(&Some(value.clone())));
            json!({ "arrayValue": object([("values", values)]) })
        }
        Some(Any::KvlistValue(map)) => {
            json!({ "kvlistValue": object([("values", attributes(&map.values))]) })
        }
    }
}

fn attributes(items: &[KeyValue]) -> Json {
    list(items, |item| {
        object([
            ("key", text(&item.key)),
            ("value", any(&item.value)),
            ("keyStrindex", number(item.key_strindex)),
        ])
    })
}

fn resource(resource: &Option<Resource>) -> Json {
    let resource = resource.clone().unwrap_or_default();
    object([
        ("attributes", attributes(&resource.attributes)),
        (
            "droppedAttributesCount",
            number(resource.dropped_attributes_count),
        ),
        (
            "entityRefs",
            list(&resource.entity_refs, |entity| {
                object([
                    ("schemaUrl", text(&entity.schema_url)),
                    ("type", text(&entity.r#type)),
                    ("idKeys", list(&entity.id_keys, |key| json!(key))),
                    (
                        "descriptionKeys",
                        list(&entity.description_keys, |key| json!(key)),
                    ),
                ])
            }),
        ),
    ])
}

fn scope(scope: &Option<InstrumentationScope>) -> Json {
    let scope = scope.clone().unwrap_or_default();
    object([
        ("name", text(&scope.name)),
        ("version", text(&scope.version)),
        ("attributes", attributes(&scope.attributes)),
        (
            "droppedAttributesCount",
            number(scope.dropped_attributes_count),
        ),
    ])
}

// === traces ===

pub(super) fn traces(request: &ExportTraceServiceRequest) -> Json {
    let resources = list(&request.resource_spans, |entry| {
        let scopes = list(&entry.scope_spans, |entry| {
            object([
                ("scope", scope(&entry.scope)),
                ("spans", list(&entry.spans, span)),
                ("schemaUrl", text(&entry.schema_url)),
            ])
        });
        object([
            ("resource", resource(&entry.resource)),
            ("scopeSpans", scopes),
            ("schemaUrl", text(&entry.schema_url)),
        ])
    });
    object([("resourceSpans", resources)])
}

fn span(span: &Span) -> Json {
    object([
        ("traceId", id(&span.trace_id)),
        ("spanId", id(&span.span_id)),
        ("traceState", text(&span.trace_state)),
        ("parentSpanId", id(&span.parent_span_id)),
        ("flags", number(span.flags)),
        ("name", text(&span.name)),
        ("kind", number(span.kind)),
        ("startTimeUnixNano", long(span.start_time_unix_nano)),
        ("endTimeUnixNano", long(span.end_time_unix_nano)),
        ("attributes", attributes(&span.attributes)),
        (
            "droppedAttributesCount",
            number(span.dropped_attributes_count),
        ),
        ("events", list(&span.events, event)),
        ("droppedEventsCount", number(span.dropped_events_count)),
        ("links", list(&span.links, link)),
        ("droppedLinksCount", number(span.dropped_links_count)),
        ("status", status(&span.status)),
    ])
}

fn event(event: &Event) -> Json {
    object([
        ("timeUnixNano", long(event.time_unix_nano)),
        ("name", text(&event.name)),
        ("attributes", attributes(&event.attributes)),
        (
            "droppedAttributesCount",
            number(event.dropped_attributes_count),
        ),
    ])
}

fn link(link: &Link) -> Json {
    object([
        ("traceId", id(&link.trace_id)),
        ("spanId", id(&link.span_id)),
        ("traceState", text(&link.trace_state)),
        ("attributes", attributes(&link.attributes)),
        (
            "droppedAttributesCount",
            number(link.dropped_attributes_count),
        ),
        ("flags", number(link.flags)),
    ])
}

fn status(status: &Option<Status>) -> Json {
    let status = status.clone().unwrap_or_default();
    object([
        ("message", text(&status.message)),
        ("code", number(status.code)),
    ])
}

// === logs ===

pub(super) fn logs(request: &ExportLogsServiceRequest) -> Json {
    let resources = list(&request.resource_logs, |entry| {
        let scopes = list(&entry.scope_logs, |entry| {
            object([
                ("scope", scope(&entry.scope)),
                ("logRecords", list(&entry.log_records, record)),
                ("schemaUrl", text(&entry.schema_url)),
            ])
        });
        object([
            ("resource", resource(&entry.resource)),
            ("scopeLogs", scopes),
            ("schemaUrl", text(&entry.schema_url)),
        ])
    });
    object([("resourceLogs", resources)])
}

fn record(record: &LogRecord) -> Json {
    object([
        ("timeUnixNano", long(record.time_unix_nano)),
        ("observedTimeUnixNano", long(record.observed_time_unix_nano)),
        ("severityNumber", number(record.severity_number)),
        ("severityText", text(&record.severity_text)),
        ("body", any(&record.body)),
        ("attributes", attributes(&record.attributes)),
        (
            "droppedAttributesCount",
            number(record.dropped_attributes_count),
        ),
        ("flags", number(record.flags)),
        ("traceId", id(&record.trace_id)),
        ("spanId", id(&record.span_id)),
        ("eventName", text(&record.event_name)),
    ])
}

// === metrics ===

pub(super) fn metrics(request: &ExportMetricsServiceRequest) -> Json {
    let resources = list(&request.resource_metrics, |entry| {
        let scopes = list(&entry.scope_metrics, |entry| {
            object([
                ("scope", scope(&entry.scope)),
                ("metrics", list(&entry.metrics, metric)),
                ("schemaUrl", text(&entry.schema_url)),
            ])
        });
        object([
            ("resource", resource(&entry.resource)),
            ("scopeMetrics", scopes),
            ("schemaUrl", text(&entry.schema_url)),
        ])
    });
    object([("resourceMetrics", resources)])
}

fn metric(metric: &Metric) -> Json {
    let of = |wanted: usize| -> Json {
        let (index, data) = match &metric.data {
            None => return Json::Null,
            Some(Data::Gauge(gauge)) => (
                0,
                object([("dataPoints", list(&gauge.data_points, number_point))]),
            ),
            Some(Data::Sum(sum)) => (
                1,
                object([
                    ("dataPoints", list(&sum.data_points, number_point)),
                    (
                        "aggregationTemporality",
                        number(sum.aggregation_temporality),
                    ),
                    ("isMonotonic", unless(!sum.is_monotonic, json!(true))),
                ]),
            ),
            Some(Data::Histogram(histogram)) => (
                2,
                object([
                    ("dataPoints", list(&histogram.data_points, histogram_point)),
                    (
                        "aggregationTemporality",
                        number(histogram.aggregation_temporality),
                    ),
                ]),
            ),
            Some(Data::ExponentialHistogram(histogram)) => (
                3,
                object([
                    (
                        "dataPoints",
                        list(&histogram.data_points, exponential_point),
                    ),
                    (
                        "aggregationTemporality",
                        number(histogram.aggregation_temporality),
                    ),
                ]),
            ),
            Some(Data::Summary(summary)) => (
                4,
                object([("dataPoints", list(&summary.data_points, summary_point))]),
            ),
        };
        unless(index != wanted, data)
    };
    object([
        ("name", text(&metric.name)),
        ("description", text(&metric.description)),
        ("unit", text(&metric.unit)),
        ("gauge", of(0)),
        ("sum", of(1)),
        ("histogram", of(2)),
        ("exponentialHistogram", of(3)),
        ("summary", of(4)),
        ("metadata", attributes(&metric.metadata)),
    ])
}

fn number_point(point: &NumberDataPoint) -> Json {
    use number_data_point::Value::{AsDouble, AsInt};
    let (as_double, as_int) = match point.value {
        Some(AsDouble(value)) => (double(value), Json::Null),
        Some(AsInt(value)) => (Json::Null, json!(value.to_string())),
        None => (Json::Null, Json::Null),
    };
    object([
        ("attributes", attributes(&point.attributes)),
        ("startTimeUnixNano", long(point.start_time_unix_nano)),
        ("timeUnixNano", long(point.time_unix_nano)),
        ("asDouble", as_double),
        ("asInt", as_int),
        ("exemplars", list(&point.exemplars, exemplar)),
        ("flags", number(point.flags)),
    ])
}

fn histogram_point(point: &HistogramDataPoint) -> Json {
    object([
        ("attributes", attributes(&point.attributes)),
        ("startTimeUnixNano", long(point.start_time_unix_nano)),
        ("timeUnixNano", long(point.time_unix_nano)),
        ("count", long(point.count)),
        ("sum", optional(point.sum)),
        (
            "bucketCounts",
            list(&point.bucket_counts, |count| json!(count.to_string())),
        ),
        (
            "explicitBounds",
            list(&point.explicit_bounds, |bound| double(*bound)),
        ),
        ("exemplars", list(&point.exemplars, exemplar)),
        ("flags", number(point.flags)),
        ("min", optional(point.min)),
        ("max", optional(point.max)),
    ])
}

fn exponential_point(point: &ExponentialHistogramDataPoint) -> Json {
    object([
        ("attributes", attributes(&point.attributes)),
        ("startTimeUnixNano", long(point.start_time_unix_nano)),
        ("timeUnixNano", long(point.time_unix_nano)),
        ("count", long(point.count)),
        ("sum", optional(point.sum)),
        ("scale", number(point.scale)),
        ("zeroCount", long(point.zero_count)),
        ("positive", buckets(&point.positive)),
        ("negative", buckets(&point.negative)),
        ("flags", number(point.flags)),
        ("exemplars", list(&point.exemplars, exemplar)),
        ("min", optional(point.min)),
        ("max", optional(point.max)),
        ("zeroThreshold", nonzero(point.zero_threshold)),
    ])
}

fn buckets(buckets: &Option<Buckets>) -> Json {
    let buckets = buckets.clone().unwrap_or_default();
    object([
        ("offset", number(buckets.offset)),
        (
            "bucketCounts",
            list(&buckets.bucket_counts, |count| json!(count.to_string())),
        ),
    ])
}

fn summary_point(point: &SummaryDataPoint) -> Json {
    object([
        ("attributes", attributes(&point.attributes)),
        ("startTimeUnixNano", long(point.start_time_unix_nano)),
        ("timeUnixNano", long(point.time_unix_nano)),
        ("count", long(point.count)),
        ("sum", nonzero(point.sum)),
        (
            "quantileValues",
            list(&point.quantile_values, |value| {
                object([
                    ("quantile", nonzero(value.quantile)),
                    ("value", nonzero(value.value)),
                ])
            }),
        ),
        ("flags", number(point.flags)),
    ])
}

fn exemplar(item: &Exemplar) -> Json {
    use exemplar::Value::{AsDouble, AsInt};
    let (as_double, as_int) = match item.value {
        Some(AsDouble(value)) => (double(value), Json::Null),
        Some(AsInt(value)) => (Json::Null, json!(value.to_string())),
        None => (Json::Null, Json::Null),
    };
    object([
        ("filteredAttributes", attributes(&item.filtered_attributes)),
        ("timeUnixNano", long(item.time_unix_nano)),
        ("asDouble", as_double),
        ("asInt", as_int),
        ("spanId", id(&item.span_id)),
        ("traceId", id(&item.trace_id)),
    ])
}

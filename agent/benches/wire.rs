//! What reading the wire format costs per item, next to prost decoding the same bytes.
//!
//! `cargo bench -p tidegate --bench wire`; throughput is in items. 1,000 items a request, 10 attributes a span.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use tidegate::otlp::testing::Tree;
use tidegate::otlp::{check, json, split};
use tidegate::signal::Signal;

const ITEMS: usize = 1000;
/// Nanoseconds since 1970 at which the requests' items happened.
const START: u64 = 1_780_000_000_000_000_000;

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: vec![
            text("service.name", "checkout"),
            text("service.version", "1.42.0"),
            text("host.name", "node-17.eu-west-1.example.com"),
            text("deployment.environment.name", "production"),
        ],
        ..Resource::default()
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "io.opentelemetry.tomcat-10.0".to_owned(),
        version: "2.9.0".to_owned(),
        ..InstrumentationScope::default()
    })
}

/// An id of `length` bytes that differs from item to item.
fn id(item: usize, length: usize) -> Vec<u8> {
    let mixed = (item as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_le_bytes();
    mixed.into_iter().cycle().take(length).collect()
}

fn span(item: usize) -> Span {
    Span {
        trace_id: id(item / 10, 16),
        span_id: id(item, 8),
        parent_span_id: id(item / 2, 8),
        flags: 0x101,
        name: "GET /api/v1/orders/{id}".to_owned(),
        kind: 2,
        start_time_unix_nano: START + item as u64 * 1000,
        end_time_unix_nano: START + item as u64 * 1007,
        attributes: vec![
            text("http.request.method", "GET"),
            text("url.path", format!("/api/v1/orders/{item:06}")),
            text("url.scheme", "https"),
            attribute("http.response.status_code", Value::IntValue(200)),
            text("server.address", "orders.example.com"),
            attribute("server.port", Value::IntValue(8443)),
            text("network.protocol.version", "1.1"),
            text("user_agent.original", "okhttp/4.12.0"),
            text(
                "client.address",
                format!("10.0.{}.{}", item / 250, item % 250),
            ),
            text("thread.name", "http-nio-8080-exec-7"),
        ],
        status: Some(Status::default()),
        ..Span::default()
    }
}

fn log_record(item: usize) -> LogRecord {
    let body = format!("order {item:06} placed by customer {} in 12.7 ms", item * 7);
    LogRecord {
        time_unix_nano: START + item as u64 * 1000,
        observed_time_unix_nano: START + item as u64 * 1001,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue {
            value: Some(Value::StringValue(body)),
        }),
        attributes: vec![
            text("code.function.name", "com.example.shop.Orders.place"),
            text("thread.name", "http-nio-8080-exec-7"),
            attribute("thread.id", Value::IntValue(77)),
            text("order.id", format!("{item:06}")),
            attribute("order.total", Value::DoubleValue(99.5)),
        ],
        flags: 1,
        trace_id: id(item / 10, 16),
        span_id: id(item, 8),
        ..LogRecord::default()
    }
}

fn point(item: usize) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![
            text("http.request.method", "GET"),
            text("http.route", format!("/api/v1/orders/{item:06}")),
            attribute("http.response.status_code", Value::IntValue(200)),
        ],
        start_time_unix_nano: START,
        time_unix_nano: START + 60_000_000_000,
        value: Some(number_data_point::Value::AsInt(item as i64 * 31)),
        ..NumberDataPoint::default()
    }
}

/// A request of [`ITEMS`] items; metrics come as sums of ten points.
fn request(signal: Signal) -> Bytes {
    let bytes = match signal {
        Signal::Traces => ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: resource(),
                scope_spans: vec![ScopeSpans {
                    scope: scope(),
                    spans: (0..ITEMS).map(span).collect(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
        .encode_to_vec(),
        Signal::Logs => ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: resource(),
                scope_logs: vec![ScopeLogs {
                    scope: scope(),
                    log_records: (0..ITEMS).map(log_record).collect(),
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        }
        .encode_to_vec(),
        Signal::Metrics => metrics().encode_to_vec(),
    };
    bytes.into()
}

fn metrics() -> ExportMetricsServiceRequest {
    let metric = |index: usize| Metric {
        name: format!("http.server.requests.{index}"),
        description: "Requests served".to_owned(),
        unit: "{request}".to_owned(),
        data: Some(Data::Sum(Sum {
            data_points: (0..10)
                .map(|point_of| point(index * 10 + point_of))
                .collect(),
            aggregation_temporality: 2,
            is_monotonic: true,
        })),
        ..Metric::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics: (0..ITEMS / 10).map(metric).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// The request with one byte that is not UTF-8, which makes it be rewritten.
fn with_an_invalid_string(request: &Bytes) -> Bytes {
    let mut bytes = request.to_vec();
    let at = bytes.windows(8).rposition(|window| {
        window == b"10.0.3.2" || window == b"http-nio" || window == b"/orders/"
    });
    bytes[at.expect("the payload has such a value")] = 0xff;
    bytes.into()
}

fn wire(criterion: &mut Criterion) {
    for signal in Signal::ALL {
        let request = request(signal);
        let mut group = criterion.benchmark_group(signal.name());
        group.throughput(Throughput::Elements(ITEMS as u64));
        let size = request.len() / ITEMS;
        let id = |name: &str| BenchmarkId::new(name, format!("{size}B"));
        let accept = |bytes| check(signal, bytes).expect("a good request");
        group.bench_function(id("check"), |bench| {
            bench.iter(|| accept(black_box(&request).clone()));
        });
        let invalid = with_an_invalid_string(&request);
        assert_eq!(accept(invalid.clone()).repaired_strings, 1);
        group.bench_function(id("check_and_repair"), |bench| {
            bench.iter(|| accept(black_box(&invalid).clone()));
        });
        group.bench_function(id("split_in_4"), |bench| {
            bench.iter(|| split(signal, black_box(&request), ITEMS / 4));
        });
        let mut text = Vec::new();
        json::encode(signal, std::iter::once(request.as_ref()), &mut text).expect("good bytes");
        group.bench_function(id("json_decode"), |bench| {
            bench.iter(|| json::decode(signal, black_box(&text)).expect("good JSON"));
        });
        group.bench_function(id("prost_decode"), |bench| {
            bench.iter_batched(
                || (),
                |()| Tree::decode(signal, black_box(&request)).expect("a good request"),
                BatchSize::PerIteration,
            );
        });
    }
}

/// What is deeply nested must not cost more per byte than what is flat.
fn nested(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json_decode_4MiB");
    group.sample_size(10);
    for levels in [0, 20, 40] {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        let close = "]}}".repeat(levels);
        let leaf = r#"{"stringValue":"0123456789abcdef"},"#.repeat((4 << 20) / 35);
        let text = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{open}{{"arrayValue":{{"values":[{leaf}{{}}]}}}}{close}}}]}}]}}]}}"#
        );
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(levels), |bench| {
            bench.iter(|| json::decode(Signal::Logs, black_box(text.as_bytes())).expect("good"));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = wire, nested
}
criterion_main!(benches);

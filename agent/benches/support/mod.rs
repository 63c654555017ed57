//! Payloads like those of a small web shop, a count of allocations, and a clock.
#![allow(
    unsafe_code,
    reason = "a global allocator is an unsafe trait, this one only counts; a thread's clock is a system call"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use tidegate::batch::{Chunk, Payload};

/// Counts allocations and hands them on.
pub(crate) struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator, the agent's own, as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { std::alloc::System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { std::alloc::System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { std::alloc::System.realloc(pointer, layout, size) }
    }
}

/// Allocations so far.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// What `work` costs this thread, `times` over: CPU time, which other processes on the machine do not change much.
pub(crate) fn cpu_time<T>(times: u64, mut work: impl FnMut() -> T) -> Duration {
    let started = thread_cpu();
    for _ in 0..times {
        std::hint::black_box(work());
    }
    thread_cpu().saturating_sub(started)
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on Linux, and `time` is a valid place to write to.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "this thread has a clock");
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// A small generator (xorshift64*), so that payloads are the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap_or_default()]
    }
    fn bytes<const N: usize>(&mut self) -> Vec<u8> {
        let halves = [self.next().to_le_bytes(), self.next().to_le_bytes()].concat();
        halves[..N].to_vec()
    }
}

const ROUTES: [&str; 8] = [
    "/api/v1/products/{productId}",
    "/api/v1/cart/{userId}/items",
    "/api/v1/checkout",
    "/api/v1/orders/{orderId}/events",
    "/api/v1/users/{userId}/profile",
    "/api/v1/recommendations",
    "/api/v1/payments/{paymentId}/capture",
    "/healthz",
];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
    "okhttp/4.12.0",
    "python-requests/2.32.4",
    "Go-http-client/2.0",
];
const TABLES: [&str; 6] = [
    "orders",
    "order_items",
    "products",
    "users",
    "sessions",
    "payments",
];
const QUERIES: [&str; 4] = [
    "SELECT id, status, total FROM orders WHERE user_id = ? ORDER BY id",
    "INSERT INTO order_items (order_id, sku, quantity) VALUES (?, ?, ?)",
    "UPDATE inventory SET reserved = reserved + ? WHERE sku = ?",
    "DELETE FROM sessions WHERE expires_at < ?",
];
const TOPICS: [&str; 3] = ["orders.created", "payments.captured", "emails.outbound"];
const FUNCTIONS: [&str; 4] = [
    "shop::pricing::apply_discounts",
    "shop::cart::merge_items",
    "shop::auth::verify_token",
    "shop::fraud::score",
];
const BODIES: [&str; 4] = [
    "order accepted: payment authorised and stock reserved in 3 warehouses, confirmation queued",
    "request finished",
    "retrying call to payment provider after upstream timeout, attempt 2 of 5 with backoff",
    "slow query: sequential scan chosen over index, statistics of the table are out of date",
];
const TIME: u64 = 1_780_000_000_000_000_000;

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

fn int(key: &str, value: u64) -> KeyValue {
    pair(key, Value::IntValue(value.cast_signed()))
}

fn address(random: &mut Random) -> String {
    format!(
        "10.{}.{}.{}",
        random.below(4),
        random.below(32),
        random.below(255)
    )
}

fn resource(random: &mut Random) -> Resource {
    let pod = format!(
        "checkout-{:08x}-{:05x}",
        random.below(1 << 32),
        random.below(1 << 20)
    );
    Resource {
        attributes: vec![
            text("service.name", "checkout"),
            text("service.version", "1.2.3"),
            text("service.namespace", "shop"),
            text("service.instance.id", pod.clone()),
            text("deployment.environment.name", "production"),
            text("k8s.pod.name", pod),
            text("k8s.node.name", "node-007"),
            text("host.name", "ip-10-0-3-77"),
            text("telemetry.sdk.language", "rust"),
            text("loadgen.run", "bench"),
        ],
        ..Resource::default()
    }
}

fn scope(index: usize) -> InstrumentationScope {
    let names = [
        "opentelemetry-instrumentation-http",
        "opentelemetry-instrumentation-sqlx",
        "shop.checkout",
    ];
    InstrumentationScope {
        name: names[index % names.len()].to_owned(),
        version: "0.62.1".to_owned(),
        ..InstrumentationScope::default()
    }
}

fn span_kind(random: &mut Random, place: usize) -> (String, i32, Vec<KeyValue>) {
    match place {
        0 => {
            let (method, route) = (random.pick(&METHODS), random.pick(&ROUTES));
            let attributes = vec![
                text("http.request.method", method),
                int("http.response.status_code", 200),
                text("http.route", route),
                text(
                    "url.path",
                    route.replace("{orderId}", &format!("{:07}", random.below(2_000_000))),
                ),
                text("url.scheme", "https"),
                text("server.address", "shop.example.com"),
                int("server.port", 443),
                text("client.address", address(random)),
                text("user_agent.original", random.pick(&AGENTS)),
            ];
            (format!("{method} {route}"), 2, attributes)
        }
        1 | 4 | 5 => {
            let (query, table) = (random.pick(&QUERIES), random.pick(&TABLES));
            let operation = query.split(' ').next().unwrap_or_default();
            let attributes = vec![
                text("db.system.name", "postgresql"),
                text("db.namespace", "shop"),
                text("db.operation.name", operation),
                text("db.collection.name", table),
                text("db.query.text", query),
                int("db.response.returned_rows", random.below(500)),
                text("server.address", "pg-primary.shop.svc"),
                int("server.port", 5432),
                text("network.peer.address", address(random)),
            ];
            (format!("{operation} shop.{table}"), 3, attributes)
        }
        3 => {
            let topic = random.pick(&TOPICS);
            let attributes = vec![
                text("messaging.system", "kafka"),
                text("messaging.destination.name", topic),
                text("messaging.operation.type", "send"),
                int("messaging.destination.partition.id", random.below(24)),
                text("messaging.message.id", format!("{:016x}", random.next())),
                int("messaging.message.body.size", random.below(9000)),
                text("messaging.client.id", "producer-1"),
                int("messaging.kafka.offset", random.below(90_000_000)),
                text("server.address", "kafka-0.shop.svc"),
            ];
            (format!("send {topic}"), 4, attributes)
        }
        _ => {
            let function = random.pick(&FUNCTIONS);
            let attributes = vec![
                text("code.function.name", function),
                text("code.file.path", "src/services/handlers.rs"),
                int("code.line.number", random.below(900)),
                text("thread.name", "http-worker"),
                int("thread.id", random.below(64)),
                text("app.user.id", format!("u-{:07}", random.below(2_000_000))),
                text("app.tenant", format!("tenant-{:03}", random.below(200))),
                pair("app.cache.hit", Value::BoolValue(random.below(5) > 0)),
                pair(
                    "app.score",
                    Value::DoubleValue(random.below(1000) as f64 / 1000.0),
                ),
            ];
            (function.to_owned(), 1, attributes)
        }
    }
}

fn spans(random: &mut Random, count: usize) -> Vec<Span> {
    let mut trace_id = Vec::new();
    (0..count)
        .map(|item| {
            let place = item % 8;
            if place == 0 {
                trace_id = random.bytes::<16>();
            }
            let (name, kind, mut attributes) = span_kind(random, place);
            attributes.push(int("loadgen.item", 100_000_000 + item as u64));
            let start = TIME + random.below(1_000_000_000);
            let failed = random.below(50) == 0;
            let events = failed.then(|| Event {
                time_unix_nano: start + 10,
                name: "exception".to_owned(),
                attributes: vec![text(
                    "exception.message",
                    "payment provider did not answer within 2.5 s",
                )],
                ..Event::default()
            });
            Span {
                trace_id: trace_id.clone(),
                span_id: random.bytes::<8>(),
                parent_span_id: if place == 0 {
                    Vec::new()
                } else {
                    random.bytes::<8>()
                },
                flags: 0x101,
                name,
                kind,
                start_time_unix_nano: start,
                end_time_unix_nano: start + 50_000 + random.below(10_000_000),
                attributes,
                events: events.into_iter().collect(),
                status: Some(Status {
                    code: if failed { 2 } else { 0 },
                    ..Status::default()
                }),
                ..Span::default()
            }
        })
        .collect()
}

/// Spans of ten attributes, `per_request` to a request.
pub(crate) fn traces(requests: usize, per_request: usize) -> Payload {
    let random = &mut Random(0x7157_8d9d_2a2b_1c3f);
    payload(requests, per_request, || {
        let spans = spans(random, per_request);
        let scope_spans = spans
            .chunks(per_request.div_ceil(4))
            .enumerate()
            .map(|(index, spans)| ScopeSpans {
                scope: Some(scope(index)),
                spans: spans.to_vec(),
                ..ScopeSpans::default()
            })
            .collect();
        let resource_spans = ResourceSpans {
            resource: Some(resource(random)),
            scope_spans,
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![resource_spans],
        }
        .encode_to_vec()
    })
}

fn record(random: &mut Random, item: usize) -> LogRecord {
    let time = TIME + random.below(1_000_000_000);
    let body = format!(
        "{} order_id={:07}",
        random.pick(&BODIES),
        random.below(2_000_000)
    );
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time + 40_000,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue {
            value: Some(Value::StringValue(body)),
        }),
        attributes: vec![
            text("logger.name", random.pick(&FUNCTIONS)),
            text("thread.name", "http-worker"),
            text("http.route", random.pick(&ROUTES)),
            text(
                "url.path",
                format!("/api/v1/orders/{:07}", random.below(2_000_000)),
            ),
            text("app.user.id", format!("u-{:07}", random.below(2_000_000))),
            int("app.elapsed_us", random.below(2_000_000)),
            text("client.address", address(random)),
            int("loadgen.item", 100_000_000 + item as u64),
        ],
        flags: 1,
        trace_id: random.bytes::<16>(),
        span_id: random.bytes::<8>(),
        ..LogRecord::default()
    }
}

/// Log records of eight attributes, `per_request` to a request.
pub(crate) fn logs(requests: usize, per_request: usize) -> Payload {
    let random = &mut Random(0x1234_5678_9abc_def1);
    payload(requests, per_request, || {
        let log_records = (0..per_request).map(|item| record(random, item)).collect();
        let scope_logs = ScopeLogs {
            scope: Some(scope(0)),
            log_records,
            ..ScopeLogs::default()
        };
        let resource_logs = ResourceLogs {
            resource: Some(resource(random)),
            scope_logs: vec![scope_logs],
            schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
        };
        ExportLogsServiceRequest {
            resource_logs: vec![resource_logs],
        }
        .encode_to_vec()
    })
}

fn point_attributes(random: &mut Random) -> Vec<KeyValue> {
    vec![
        text("http.request.method", random.pick(&METHODS)),
        text("http.route", random.pick(&ROUTES)),
        int("http.response.status_code", 200),
        int("loadgen.item", random.below(1 << 30)),
    ]
}

fn data(random: &mut Random, index: usize, points: usize) -> Data {
    let numbers = |random: &mut Random| {
        (0..points)
            .map(|_| NumberDataPoint {
                attributes: point_attributes(random),
                start_time_unix_nano: TIME,
                time_unix_nano: TIME + 1,
                value: Some(Number::AsDouble(random.below(1000) as f64 / 7.0)),
                ..NumberDataPoint::default()
            })
            .collect()
    };
    match index % 5 {
        0 | 1 => Data::Gauge(Gauge {
            data_points: numbers(random),
        }),
        2 | 3 => Data::Sum(Sum {
            data_points: numbers(random),
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        _ => Data::Histogram(Histogram {
            data_points: (0..points)
                .map(|_| HistogramDataPoint {
                    attributes: point_attributes(random),
                    start_time_unix_nano: TIME,
                    time_unix_nano: TIME + 1,
                    count: 100,
                    sum: Some(12.5),
                    bucket_counts: (0..15).map(|_| random.below(4000)).collect(),
                    explicit_bounds: (0..14).map(f64::from).collect(),
                    ..HistogramDataPoint::default()
                })
                .collect(),
            aggregation_temporality: 2,
        }),
    }
}

/// Data points of four attributes, `per_request` to a request.
pub(crate) fn metrics(requests: usize, per_request: usize) -> Payload {
    let random = &mut Random(0x0fed_cba9_8765_4321);
    payload(requests, per_request, || {
        let metrics = (0..20)
            .map(|index| Metric {
                name: format!("shop.metric.{index}"),
                unit: "By".to_owned(),
                description: "Bytes moved by the network interfaces.".to_owned(),
                data: Some(data(random, index, per_request / 20)),
                ..Metric::default()
            })
            .collect();
        let scope_metrics = ScopeMetrics {
            scope: Some(scope(0)),
            metrics,
            ..ScopeMetrics::default()
        };
        let resource_metrics = ResourceMetrics {
            resource: Some(resource(random)),
            scope_metrics: vec![scope_metrics],
            ..ResourceMetrics::default()
        };
        ExportMetricsServiceRequest {
            resource_metrics: vec![resource_metrics],
        }
        .encode_to_vec()
    })
}

fn payload(requests: usize, items: usize, mut make: impl FnMut() -> Vec<u8>) -> Payload {
    let mut payload = Payload::default();
    for _ in 0..requests {
        payload.push(Chunk::new(make().into(), items));
    }
    payload
}

//! Spans of a small web shop: server, database, messaging and internal ones, grouped into traces.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shape;
use super::stamp::{
    TEMPLATE_TIME, placeholder_parent_id, placeholder_span_id, placeholder_trace_id,
};
use super::vocabulary::{self as words, boolean, double, int, pick, string};

/// Spans of one trace that one service sends in one request.
const SPANS_PER_TRACE: usize = 8;
/// Spans come in this many scopes, one per instrumentation library.
const SCOPES: usize = 4;
const ERROR_SHARE: f64 = 0.02;

pub(super) fn request(
    shape: &Shape,
    index: usize,
    random: &mut StdRng,
) -> ExportTraceServiceRequest {
    let per_scope = shape.items.div_ceil(SCOPES).max(1);
    let spans: Vec<Span> = (0..shape.items)
        .map(|item| span(shape, item, random))
        .collect();
    let scope_spans = spans
        .chunks(per_scope)
        .enumerate()
        .map(|(scope, spans)| ScopeSpans {
            scope: Some(words::scope(scope)),
            spans: spans.to_vec(),
            ..ScopeSpans::default()
        })
        .collect();
    let resource_spans = ResourceSpans {
        resource: Some(words::resource(random, index, &shape.run)),
        scope_spans,
        schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    }
}

fn span(shape: &Shape, item: usize, random: &mut StdRng) -> Span {
    let place = item % SPANS_PER_TRACE;
    let duration = 50_000 + 10_u64.pow(random.random_range(3..8)) * random.random_range(1..10);
    let start = TEMPLATE_TIME - random.random_range(1_000_000..1_000_000_000) - duration;
    let failed = random.random_bool(ERROR_SHARE);
    let (name, kind, attributes) = match place {
        0 => server(random),
        1 | 4 | 5 => database(random),
        3 => messaging(random),
        _ => internal(random),
    };
    Span {
        trace_id: placeholder_trace_id(item / SPANS_PER_TRACE),
        span_id: placeholder_span_id(),
        parent_span_id: if place == 0 {
            Vec::new()
        } else {
            placeholder_parent_id(place.div_ceil(2))
        },
        flags: 0x101,
        name,
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + duration,
        attributes: shape.fit(attributes, random),
        events: if failed {
            vec![exception(start + duration / 2)]
        } else {
            Vec::new()
        },
        status: Some(status(failed)),
        ..Span::default()
    }
}

fn status(failed: bool) -> Status {
    if failed {
        return Status {
            code: StatusCode::Error.into(),
            message: "upstream timed out".to_owned(),
        };
    }
    Status::default()
}

fn exception(time: u64) -> Event {
    Event {
        time_unix_nano: time,
        name: "exception".to_owned(),
        attributes: vec![
            string("exception.type", "shop::payment::UpstreamTimeout"),
            string(
                "exception.message",
                "payment provider did not answer within 2.5 s",
            ),
        ],
        ..Event::default()
    }
}

fn server(random: &mut StdRng) -> (String, SpanKind, Vec<KeyValue>) {
    let (method, route) = (pick(random, &words::METHODS), pick(random, &words::ROUTES));
    let attributes = vec![
        string("http.request.method", method),
        int(
            "http.response.status_code",
            if random.random_bool(0.97) { 200 } else { 503 },
        ),
        string("http.route", route),
        string("url.path", words::path(random, route)),
        string("url.scheme", "https"),
        string("server.address", "shop.example.com"),
        int("server.port", 443),
        string("client.address", words::address(random)),
        string("user_agent.original", pick(random, &words::USER_AGENTS)),
    ];
    (format!("{method} {route}"), SpanKind::Server, attributes)
}

fn database(random: &mut StdRng) -> (String, SpanKind, Vec<KeyValue>) {
    let query = pick(random, &words::QUERIES);
    let operation = query.split(' ').next().unwrap_or("SELECT");
    let table = pick(random, &words::TABLES);
    let attributes = vec![
        string("db.system.name", "postgresql"),
        string("db.namespace", "shop"),
        string("db.operation.name", operation),
        string("db.collection.name", table),
        string("db.query.text", query),
        int("db.response.returned_rows", random.random_range(0..500)),
        string("server.address", "pg-primary.shop.svc"),
        int("server.port", 5432),
        string("network.peer.address", words::address(random)),
    ];
    (
        format!("{operation} shop.{table}"),
        SpanKind::Client,
        attributes,
    )
}

fn messaging(random: &mut StdRng) -> (String, SpanKind, Vec<KeyValue>) {
    let topic = pick(random, &words::TOPICS);
    let attributes = vec![
        string("messaging.system", "kafka"),
        string("messaging.destination.name", topic),
        string("messaging.operation.type", "send"),
        int(
            "messaging.destination.partition.id",
            random.random_range(0..24),
        ),
        string(
            "messaging.message.id",
            format!("{:016x}", random.random::<u64>()),
        ),
        int(
            "messaging.message.body.size",
            random.random_range(200..9_000),
        ),
        string("messaging.client.id", "p-1"),
        int(
            "messaging.kafka.offset",
            random.random_range(1_000_000..90_000_000),
        ),
        string("server.address", "kafka-0"),
    ];
    (format!("send {topic}"), SpanKind::Producer, attributes)
}

fn internal(random: &mut StdRng) -> (String, SpanKind, Vec<KeyValue>) {
    let function = pick(random, &words::FUNCTIONS);
    let attributes = vec![
        string("code.function.name", function),
        string("code.file.path", "src/handlers.rs"),
        int("code.line.number", random.random_range(20..900)),
        string("thread.name", pick(random, &words::THREADS)),
        int("thread.id", random.random_range(2..64)),
        string(
            "app.user.id",
            format!("u-{:07}", random.random_range(0..2_000_000)),
        ),
        string(
            "app.tenant",
            format!("tenant-{:03}", random.random_range(0..200)),
        ),
        boolean("app.cache.hit", random.random_bool(0.8)),
        double(
            "app.score",
            f64::from(random.random_range(0..1000_u32)) / 1000.0,
        ),
    ];
    (function.to_owned(), SpanKind::Internal, attributes)
}

//! Gauges, sums and histograms of a small web shop, many points to a metric.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shape;
use super::stamp::TEMPLATE_TIME;
use super::vocabulary::{self as words, int, pick, string};

enum Kind {
    Gauge,
    Sum,
    Histogram,
}

/// Names, units, descriptions and kinds. A request's points are spread evenly over them.
const METRICS: [(&str, &str, &str, Kind); 20] = [
    (
        "http.server.request.duration",
        "s",
        "Duration of HTTP server requests.",
        Kind::Histogram,
    ),
    (
        "http.server.active_requests",
        "{request}",
        "Number of active HTTP server requests.",
        Kind::Gauge,
    ),
    (
        "http.server.request.count",
        "{request}",
        "Requests since start.",
        Kind::Sum,
    ),
    (
        "http.client.request.count",
        "{request}",
        "Outgoing requests since start.",
        Kind::Sum,
    ),
    (
        "db.client.operation.duration",
        "s",
        "Duration of database client operations.",
        Kind::Histogram,
    ),
    (
        "db.client.connection.count",
        "{connection}",
        "Connections in the pool, by state.",
        Kind::Gauge,
    ),
    (
        "db.client.connection.pending_requests",
        "{request}",
        "Requests waiting for a connection.",
        Kind::Gauge,
    ),
    (
        "db.client.operation.count",
        "{operation}",
        "Database operations since start.",
        Kind::Sum,
    ),
    ("process.cpu.time", "s", "CPU seconds by state.", Kind::Sum),
    (
        "process.memory.usage",
        "By",
        "Physical memory in use.",
        Kind::Gauge,
    ),
    (
        "process.thread.count",
        "{thread}",
        "Process threads count.",
        Kind::Gauge,
    ),
    (
        "messaging.client.sent.messages",
        "{message}",
        "Messages a producer tried to send.",
        Kind::Sum,
    ),
    (
        "messaging.client.consumed.messages",
        "{message}",
        "Messages delivered to the application.",
        Kind::Sum,
    ),
    (
        "system.network.io",
        "By",
        "Bytes moved by the network interfaces.",
        Kind::Sum,
    ),
    (
        "system.filesystem.usage",
        "By",
        "Space in use, by device.",
        Kind::Gauge,
    ),
    (
        "shop.orders.placed",
        "{order}",
        "Orders placed since start.",
        Kind::Sum,
    ),
    (
        "shop.cart.value",
        "EUR",
        "Value of open carts.",
        Kind::Gauge,
    ),
    ("shop.stock.level", "{item}", "Items in stock.", Kind::Gauge),
    ("cache.hits", "{hit}", "Cache hits since start.", Kind::Sum),
    (
        "cache.evictions",
        "{entry}",
        "Cache evictions since start.",
        Kind::Sum,
    ),
];

const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

pub(super) fn request(
    shape: &Shape,
    index: usize,
    random: &mut StdRng,
) -> ExportMetricsServiceRequest {
    let per_metric = shape.items.div_ceil(METRICS.len()).max(1);
    let mut left = shape.items;
    let mut metrics = Vec::new();
    for (name, unit, description, kind) in METRICS.iter().cycle().skip(index % METRICS.len()) {
        if left == 0 {
            break;
        }
        let points = per_metric.min(left);
        left -= points;
        metrics.push(Metric {
            name: (*name).to_owned(),
            unit: (*unit).to_owned(),
            description: (*description).to_owned(),
            data: Some(data(shape, kind, points, random)),
            ..Metric::default()
        });
    }
    let scope_metrics = ScopeMetrics {
        scope: Some(words::scope(index)),
        metrics,
        ..ScopeMetrics::default()
    };
    let resource_metrics = ResourceMetrics {
        resource: Some(words::resource(random, index, &shape.run)),
        scope_metrics: vec![scope_metrics],
        schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![resource_metrics],
    }
}

fn data(shape: &Shape, kind: &Kind, points: usize, random: &mut StdRng) -> Data {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    match kind {
        Kind::Gauge => Data::Gauge(Gauge {
            data_points: numbers(shape, points, random),
        }),
        Kind::Sum => Data::Sum(Sum {
            data_points: numbers(shape, points, random),
            aggregation_temporality,
            is_monotonic: true,
        }),
        Kind::Histogram => Data::Histogram(Histogram {
            data_points: (0..points).map(|_| histogram(shape, random)).collect(),
            aggregation_temporality,
        }),
    }
}

fn numbers(shape: &Shape, points: usize, random: &mut StdRng) -> Vec<NumberDataPoint> {
    (0..points)
        .map(|_| NumberDataPoint {
            attributes: attributes(shape, random),
            start_time_unix_nano: TEMPLATE_TIME - 3_600_000_000_000,
            time_unix_nano: TEMPLATE_TIME - random.random_range(1_000..1_000_000),
            value: Some(if random.random_bool(0.5) {
                Value::AsInt(random.random_range(0..5_000_000))
            } else {
                Value::AsDouble(random.random_range(0.0..5_000.0))
            }),
            ..NumberDataPoint::default()
        })
        .collect()
}

fn histogram(shape: &Shape, random: &mut StdRng) -> HistogramDataPoint {
    let bucket_counts: Vec<u64> = (0..=BOUNDS.len())
        .map(|_| random.random_range(0..4_000))
        .collect();
    let count = bucket_counts.iter().sum();
    HistogramDataPoint {
        attributes: attributes(shape, random),
        start_time_unix_nano: TEMPLATE_TIME - 3_600_000_000_000,
        time_unix_nano: TEMPLATE_TIME - random.random_range(1_000..1_000_000),
        count,
        sum: Some(count as f64 * random.random_range(0.01..0.4)),
        bucket_counts,
        explicit_bounds: BOUNDS.to_vec(),
        min: Some(random.random_range(0.0001..0.004)),
        max: Some(random.random_range(10.0..30.0)),
        ..HistogramDataPoint::default()
    }
}

fn attributes(shape: &Shape, random: &mut StdRng) -> Vec<KeyValue> {
    let attributes = vec![
        string("http.request.method", pick(random, &words::METHODS)),
        string("http.route", pick(random, &words::ROUTES)),
        int(
            "http.response.status_code",
            if random.random_bool(0.97) { 200 } else { 503 },
        ),
    ];
    shape.fit(attributes, random)
}

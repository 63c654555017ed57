//! Metrics of every kind of a small web shop, many points to a metric.

use clap::ValueEnum;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint,
};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde::Serialize;

use super::Shape;
use super::stamp::TEMPLATE_TIME;
use super::vocabulary::{self as words, int, pick, string};

/// The kinds of metrics that OTLP has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MetricKind {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

impl MetricKind {
    /// What applications send unless told otherwise.
    pub(crate) const USUAL: [Self; 3] = [Self::Gauge, Self::Sum, Self::Histogram];
}

/// Names, units, descriptions and kinds. A request's points are spread evenly over them.
const METRICS: [(&str, &str, &str, MetricKind); 24] = [
    (
        "http.server.request.duration",
        "s",
        "Duration of HTTP server requests.",
        MetricKind::Histogram,
    ),
    (
        "http.server.active_requests",
        "{request}",
        "Number of active HTTP server requests.",
        MetricKind::Gauge,
    ),
    (
        "http.server.request.count",
        "{request}",
        "Requests since start.",
        MetricKind::Sum,
    ),
    (
        "http.client.request.count",
        "{request}",
        "Outgoing requests since start.",
        MetricKind::Sum,
    ),
    (
        "db.client.operation.duration",
        "s",
        "Duration of database client operations.",
        MetricKind::Histogram,
    ),
    (
        "db.client.connection.count",
        "{connection}",
        "Connections in the pool, by state.",
        MetricKind::Gauge,
    ),
    (
        "db.client.connection.pending_requests",
        "{request}",
        "Requests waiting for a connection.",
        MetricKind::Gauge,
    ),
    (
        "db.client.operation.count",
        "{operation}",
        "Database operations since start.",
        MetricKind::Sum,
    ),
    (
        "process.cpu.time",
        "s",
        "CPU seconds by state.",
        MetricKind::Sum,
    ),
    (
        "process.memory.usage",
        "By",
        "Physical memory in use.",
        MetricKind::Gauge,
    ),
    (
        "process.thread.count",
        "{thread}",
        "Process threads count.",
        MetricKind::Gauge,
    ),
    (
        "messaging.client.sent.messages",
        "{message}",
        "Messages a producer tried to send.",
        MetricKind::Sum,
    ),
    (
        "messaging.client.consumed.messages",
        "{message}",
        "Messages delivered to the application.",
        MetricKind::Sum,
    ),
    (
        "system.network.io",
        "By",
        "Bytes moved by the network interfaces.",
        MetricKind::Sum,
    ),
    (
        "system.filesystem.usage",
        "By",
        "Space in use, by device.",
        MetricKind::Gauge,
    ),
    (
        "shop.orders.placed",
        "{order}",
        "Orders placed since start.",
        MetricKind::Sum,
    ),
    (
        "shop.cart.value",
        "EUR",
        "Value of open carts.",
        MetricKind::Gauge,
    ),
    (
        "shop.stock.level",
        "{item}",
        "Items in stock.",
        MetricKind::Gauge,
    ),
    (
        "cache.hits",
        "{hit}",
        "Cache hits since start.",
        MetricKind::Sum,
    ),
    (
        "cache.evictions",
        "{entry}",
        "Cache evictions since start.",
        MetricKind::Sum,
    ),
    (
        "http.client.request.duration",
        "s",
        "Duration of HTTP client requests.",
        MetricKind::ExponentialHistogram,
    ),
    (
        "messaging.process.duration",
        "s",
        "Duration of processing a message.",
        MetricKind::ExponentialHistogram,
    ),
    (
        "rpc_server_duration_seconds",
        "s",
        "Duration of calls, as a Prometheus client sums it up.",
        MetricKind::Summary,
    ),
    (
        "go_gc_duration_seconds",
        "s",
        "Pauses of garbage collection cycles.",
        MetricKind::Summary,
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
    let chosen: Vec<_> = METRICS
        .iter()
        .filter(|metric| shape.metric_kinds.contains(&metric.3))
        .collect();
    let per_metric = shape.items.div_ceil(chosen.len().max(1)).max(1);
    let mut left = shape.items;
    let mut metrics = Vec::new();
    let turn = chosen.iter().cycle().skip(index % chosen.len().max(1));
    for (name, unit, description, kind) in turn {
        if left == 0 {
            break;
        }
        let points = per_metric.min(left);
        left -= points;
        metrics.push(Metric {
            name: (*name).to_owned(),
            unit: (*unit).to_owned(),
            description: (*description).to_owned(),
            data: Some(data(shape, *kind, points, random)),
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

fn data(shape: &Shape, kind: MetricKind, points: usize, random: &mut StdRng) -> Data {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    match kind {
        MetricKind::Gauge => Data::Gauge(Gauge {
            data_points: numbers(shape, points, random),
        }),
        MetricKind::Sum => Data::Sum(Sum {
            data_points: numbers(shape, points, random),
            aggregation_temporality,
            is_monotonic: true,
        }),
        MetricKind::Histogram => Data::Histogram(Histogram {
            data_points: (0..points).map(|_| histogram(shape, random)).collect(),
            aggregation_temporality,
        }),
        MetricKind::ExponentialHistogram => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: (0..points).map(|_| exponential(shape, random)).collect(),
            aggregation_temporality,
        }),
        MetricKind::Summary => Data::Summary(Summary {
            data_points: (0..points).map(|_| summary(shape, random)).collect(),
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

/// As an SDK has it: at most 160 buckets around where the durations are.
fn exponential(shape: &Shape, random: &mut StdRng) -> ExponentialHistogramDataPoint {
    let bucket_counts: Vec<u64> = (0..random.random_range(20..80))
        .map(|_| random.random_range(0..400))
        .collect();
    let zero_count = random.random_range(0..10);
    let count = bucket_counts.iter().sum::<u64>() + zero_count;
    ExponentialHistogramDataPoint {
        attributes: attributes(shape, random),
        start_time_unix_nano: TEMPLATE_TIME - 3_600_000_000_000,
        time_unix_nano: TEMPLATE_TIME - random.random_range(1_000..1_000_000),
        count,
        sum: Some(count as f64 * random.random_range(0.01..0.4)),
        scale: 4,
        zero_count,
        positive: Some(Buckets {
            offset: random.random_range(-120..-60),
            bucket_counts,
        }),
        min: Some(0.0),
        max: Some(random.random_range(1.0..30.0)),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn summary(shape: &Shape, random: &mut StdRng) -> SummaryDataPoint {
    let count = random.random_range(1..100_000);
    let median = random.random_range(0.001..0.1);
    let quantile = |quantile: f64| ValueAtQuantile {
        quantile,
        value: median * (0.5 + quantile).powi(4),
    };
    SummaryDataPoint {
        attributes: attributes(shape, random),
        start_time_unix_nano: TEMPLATE_TIME - 3_600_000_000_000,
        time_unix_nano: TEMPLATE_TIME - random.random_range(1_000..1_000_000),
        count,
        sum: count as f64 * median,
        quantile_values: [0.0, 0.5, 0.9, 0.99, 1.0].map(quantile).to_vec(),
        ..SummaryDataPoint::default()
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

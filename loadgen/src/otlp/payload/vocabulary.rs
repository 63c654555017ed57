//! Words that realistic telemetry is made of, and values drawn from them with realistic cardinality.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use rand::Rng;
use rand::rngs::StdRng;

pub(super) const SERVICES: [&str; 16] = [
    "checkout",
    "cart",
    "payment",
    "shipping",
    "catalog",
    "search",
    "recommendation",
    "frontend",
    "frontend-proxy",
    "accounting",
    "fraud-detection",
    "email",
    "currency",
    "quote",
    "inventory",
    "identity",
];

pub(super) const ROUTES: [&str; 20] = [
    "/api/v1/products/{productId}",
    "/api/v1/products",
    "/api/v1/cart/{userId}/items",
    "/api/v1/checkout",
    "/api/v1/orders/{orderId}",
    "/api/v1/orders/{orderId}/events",
    "/api/v1/users/{userId}/profile",
    "/api/v1/users/{userId}/addresses",
    "/api/v1/recommendations",
    "/api/v1/search",
    "/api/v1/currency/convert",
    "/api/v1/shipping/quote",
    "/api/v1/payments/{paymentId}/capture",
    "/api/v1/payments",
    "/api/v1/sessions",
    "/api/v1/inventory/{sku}",
    "/api/v1/inventory/{sku}/reserve",
    "/healthz",
    "/api/v1/feature-flags",
    "/api/v1/reviews/{productId}",
];

pub(super) const METHODS: [&str; 6] = ["GET", "GET", "GET", "POST", "PUT", "DELETE"];

pub(super) const USER_AGENTS: [&str; 8] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/139.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X)",
    "okhttp/4.12.0",
    "python-requests/2.32.4",
    "Go-http-client/2.0",
    "kube-probe/1.33",
    "grpc-java-netty/1.74.0",
];

pub(super) const TABLES: [&str; 10] = [
    "orders",
    "order_items",
    "products",
    "users",
    "sessions",
    "payments",
    "shipments",
    "inventory",
    "reviews",
    "addresses",
];

pub(super) const QUERIES: [&str; 6] = [
    "SELECT id, status, total FROM orders WHERE user_id = ? ORDER BY id",
    "SELECT * FROM products WHERE category = ? AND active LIMIT ?",
    "INSERT INTO order_items (order_id, sku, quantity) VALUES (?, ?, ?)",
    "UPDATE inventory SET reserved = reserved + ? WHERE sku = ?",
    "SELECT sku, quantity FROM inventory WHERE sku IN (?, ?, ?)",
    "DELETE FROM sessions WHERE expires_at < ?",
];

pub(super) const TOPICS: [&str; 5] = [
    "orders.created",
    "orders.shipped",
    "payments.captured",
    "inventory.adjusted",
    "emails.outbound",
];

pub(super) const FUNCTIONS: [&str; 8] = [
    "shop::pricing::apply_discounts",
    "shop::cart::merge_items",
    "shop::tax::rate_for",
    "shop::auth::verify_token",
    "shop::search::rank_results",
    "shop::shipping::pick_carrier",
    "shop::fraud::score",
    "shop::render::page",
];

pub(super) const THREADS: [&str; 4] = [
    "http-worker",
    "consumer-pool",
    "scheduler",
    "tokio-runtime-worker",
];

pub(super) const LOG_BODIES: [&str; 12] = [
    "order accepted: payment authorised and stock reserved in 3 warehouses, confirmation queued",
    "cache miss for product page, rebuilding fragment from catalog and recommendation services",
    "request finished",
    "retrying call to payment provider after upstream timeout, attempt 2 of 5 with backoff",
    "connection pool exhausted, request waited for a free connection longer than its soft limit",
    "user session refreshed from identity provider, old token revoked and audit entry written",
    "feature flag evaluation fell back to default because the flag service did not answer in time",
    "consumer lag on topic is above the warning threshold, scaling the group by one member",
    "slow query: sequential scan chosen over index, statistics of the table are out of date",
    "shipping quote calculated with carrier fallback as the preferred carrier had no capacity",
    "failed to decode message, sent to dead letter topic for inspection by the owning team",
    "configuration reloaded, 4 values changed, listeners kept open",
];

pub(super) fn pick<'a>(random: &mut StdRng, words: &[&'a str]) -> &'a str {
    words
        .get(random.random_range(0..words.len()))
        .copied()
        .unwrap_or_default()
}

pub(super) fn string(key: &str, value: impl Into<String>) -> KeyValue {
    key_value(key, Value::StringValue(value.into()))
}

pub(super) fn int(key: &str, value: i64) -> KeyValue {
    key_value(key, Value::IntValue(value))
}

pub(super) fn boolean(key: &str, value: bool) -> KeyValue {
    key_value(key, Value::BoolValue(value))
}

pub(super) fn double(key: &str, value: f64) -> KeyValue {
    key_value(key, Value::DoubleValue(value))
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A path with its placeholders filled in, as a client would have asked for it.
pub(super) fn path(random: &mut StdRng, route: &str) -> String {
    let mut filled = String::with_capacity(route.len() + 16);
    for segment in route.split_inclusive('/') {
        if segment.starts_with('{') {
            filled.push_str(&format!("{:07}", random.random_range(0..2_000_000)));
            filled.push_str(if segment.ends_with('/') { "/" } else { "" });
        } else {
            filled.push_str(segment);
        }
    }
    filled
}

pub(super) fn address(random: &mut StdRng) -> String {
    format!(
        "10.{}.{}.{}",
        random.random_range(0..4),
        random.random_range(0..32),
        random.random_range(1..255)
    )
}

/// The resource of request number `index` of the pool: one pod of one service of a small cluster.
pub(super) fn resource(random: &mut StdRng, index: usize, run: &str) -> Resource {
    let service = SERVICES
        .get(index % SERVICES.len())
        .copied()
        .unwrap_or("checkout");
    let pod = format!(
        "{service}-{:08x}-{:05x}",
        random.random::<u32>(),
        random.random_range(0..0x10_0000)
    );
    Resource {
        attributes: vec![
            string("service.name", service),
            string("service.version", format!("1.{}.{}", index % 4, index % 9)),
            string("service.namespace", "shop"),
            string("service.instance.id", pod.clone()),
            string("deployment.environment.name", "production"),
            string("k8s.pod.name", pod),
            string("k8s.node.name", format!("node-{:03}", index % 24)),
            string(
                "host.name",
                format!("ip-10-0-{}-{}", index % 8, random.random_range(1..255)),
            ),
            string("telemetry.sdk.language", "rust"),
            string("loadgen.run", run),
        ],
        ..Resource::default()
    }
}

pub(super) fn scope(index: usize) -> InstrumentationScope {
    const SCOPES: [(&str, &str); 4] = [
        ("opentelemetry-instrumentation-http", "0.62.1"),
        ("opentelemetry-instrumentation-sqlx", "0.4.0"),
        ("shop.checkout", "1.8.2"),
        ("opentelemetry-instrumentation-kafka", "0.21.0"),
    ];
    let (name, version) = SCOPES
        .get(index % SCOPES.len())
        .copied()
        .unwrap_or_default();
    InstrumentationScope {
        name: name.to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    }
}

//! The server span and the request metrics of every request, after the HTTP semantic conventions 1.23 and later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, UpDownCounter};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::measure::{Measure, REQUEST_BOUNDARIES};
use crate::telemetry::Exemplars;

/// The service speaks no TLS.
const SCHEME: &str = "http";

/// The instruments, and where the service listens.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    duration: Measure,
    active: UpDownCounter<i64>,
    local: SocketAddr,
}

impl Observer {
    pub(crate) fn new(meter: &Meter, exemplars: &Arc<Exemplars>, local: SocketAddr) -> Self {
        let duration = Measure::new(
            meter,
            exemplars,
            "http.server.request.duration",
            "Duration of HTTP server requests.",
            &REQUEST_BOUNDARIES,
        );
        let active = meter
            .i64_up_down_counter("http.server.active_requests")
            .with_unit("{request}")
            .with_description("Number of active HTTP server requests.")
            .build();
        Self {
            duration,
            active,
            local,
        }
    }

    /// Where the service listens.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }
}

/// Runs a request within its server span and measures it.
pub(crate) async fn observe(
    State(observer): State<Observer>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|it| it.as_str().to_owned());
    let span = server_span(&request, route.as_deref(), observer.local);
    let method = known_method(request.method());
    let version = protocol_version(request.version());
    let active = Active::enter(&observer.active, method);

    let response = next.run(request).instrument(span.clone()).await;

    let status = response.status();
    let error = status.is_server_error().then(|| status.as_str().to_owned());
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if let Some(error) = &error {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", error.as_str());
    }
    drop(active);
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.scheme", SCHEME),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        KeyValue::new("network.protocol.version", version),
    ];
    attributes.extend(route.map(|it| KeyValue::new("http.route", it)));
    attributes.extend(error.map(|it| KeyValue::new("error.type", it)));
    // Within the span, so that the exemplar points to it.
    span.in_scope(|| observer.duration.record(started.elapsed(), &attributes));
    response
}

/// One request among the active ones, until it is dropped: also when the client goes away.
struct Active<'a> {
    active: &'a UpDownCounter<i64>,
    attributes: [KeyValue; 2],
}

impl<'a> Active<'a> {
    fn enter(active: &'a UpDownCounter<i64>, method: &'static str) -> Self {
        let attributes = [
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", SCHEME),
        ];
        active.add(1, &attributes);
        Self { active, attributes }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.active.add(-1, &self.attributes);
    }
}

fn server_span(request: &Request, route: Option<&str>, local: SocketAddr) -> Span {
    let headers = request.headers();
    let method = known_method(request.method());
    let span_method = if method == OTHER_METHOD {
        "HTTP"
    } else {
        method
    };
    let name = route.map_or_else(
        || span_method.to_owned(),
        |route| format!("{span_method} {route}"),
    );
    let (server_address, server_port) = server_of(request, local);
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|it| it.0);
    let span = tracing::info_span!(
        "request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.request.method_original = (method == OTHER_METHOD).then(|| request.method().as_str()),
        http.route = route,
        http.response.status_code = field::Empty,
        url.path = request.uri().path(),
        url.query = request.uri().query(),
        url.scheme = SCHEME,
        server.address = server_address,
        server.port = i64::from(server_port),
        client.address = peer.map(|it| it.ip().to_string()),
        client.port = peer.map(|it| i64::from(it.port())),
        network.protocol.version = protocol_version(request.version()),
        user_agent.original = headers
            .get(header::USER_AGENT)
            .and_then(|it| it.to_str().ok()),
        "error.type" = field::Empty,
    );
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    if parent.span().span_context().is_valid()
        && let Err(error) = span.set_parent(parent)
    {
        tracing::debug!(%error, "the caller's trace is not continued");
    }
    span
}

const OTHER_METHOD: &str = "_OTHER";

/// The method, or `_OTHER`, so that clients cannot make up label values without end.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    KNOWN
        .into_iter()
        .find(|&known| known == method.as_str())
        .unwrap_or(OTHER_METHOD)
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// The host and port the client asked for; where they are missing, those the service listens on.
fn server_of(request: &Request, local: SocketAddr) -> (String, u16) {
    const HTTP_PORT: u16 = 80;
    let asked = request
        .headers()
        .get(header::HOST)
        .and_then(|it| it.to_str().ok());
    let asked = asked
        .and_then(|it| it.parse().ok())
        .or_else(|| request.uri().authority().cloned());
    match asked {
        Some(authority) => (
            authority.host().to_owned(),
            authority.port_u16().unwrap_or(HTTP_PORT),
        ),
        None => (local.ip().to_string(), local.port()),
    }
}

/// Request headers as the propagator reads them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|it| it.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(header::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry::trace::{Status, TracerProvider as _};
    use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tower::ServiceExt as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);

    #[tokio::test]
    async fn a_server_error_marks_span_and_metric() {
        let spans = InMemorySpanExporter::default();
        let tracers = SdkTracerProvider::builder()
            .with_simple_exporter(spans.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("test"));
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let metrics = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(metrics.clone()).build();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();

        let observer = Observer::new(
            &meters.meter("test"),
            &Arc::default(),
            SocketAddr::from(LOCAL),
        );
        let app = Router::new()
            .route("/fail", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .layer(axum::middleware::from_fn_with_state(observer, observe));
        let request = Request::builder().uri("/fail").body(Body::empty()).unwrap();
        assert_eq!(app.oneshot(request).await.unwrap().status(), 500);

        let span = spans.get_finished_spans().unwrap().remove(0);
        let error_type = KeyValue::new("error.type", "500");
        assert_eq!(
            (span.name.as_ref(), span.status),
            ("GET /fail", Status::error(""))
        );
        assert!(
            span.attributes.contains(&error_type),
            "{:?}",
            span.attributes
        );
        meters.force_flush().unwrap();
        let metrics = format!("{:?}", metrics.get_finished_metrics().unwrap());
        assert!(metrics.contains("error.type"), "{metrics}");
    }

    #[test]
    fn unknown_methods_share_a_name() {
        assert_eq!(known_method(&Method::POST), "POST");
        assert_eq!(
            known_method(&Method::from_bytes(b"PROPFIND").unwrap()),
            "_OTHER"
        );
        assert_eq!(known_method(&Method::from_bytes(b"get").unwrap()), "_OTHER");
    }

    #[test]
    fn the_server_is_the_one_the_client_asked_for() {
        let check = |host: Option<&str>, expected: (&str, u16)| {
            let mut request = Request::builder().uri("/");
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let request = request.body(Body::empty()).unwrap();
            let (address, port) = server_of(&request, SocketAddr::from(LOCAL));
            assert_eq!((address.as_str(), port), expected, "{host:?}");
        };
        check(Some("example.org"), ("example.org", 80));
        check(Some("example.org:8443"), ("example.org", 8443));
        check(Some("[::1]:9"), ("[::1]", 9));
        check(Some("not a host"), ("127.0.0.1", 8080));
        check(None, ("127.0.0.1", 8080));
    }
}

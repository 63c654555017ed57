//! Calls to the inventory: one of several addresses, a timeout for each attempt, few retries, a span for each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::cli::Address;
use crate::measure::Measure;

/// Larger answers are not the inventory's: its longest is the list of a few products.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// However often it fails, a retry does not wait for longer.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// How calls are made.
#[derive(Debug, Clone)]
pub(crate) struct CallSettings {
    /// At least one.
    pub(crate) addresses: Vec<Address>,
    /// The first attempt and its retries; at least one.
    pub(crate) attempts: usize,
    pub(crate) timeout: Duration,
    /// Before the first retry; doubled before each of the others.
    pub(crate) delay: Duration,
}

/// The inventory, seen from outside.
#[derive(Debug)]
pub(crate) struct InventoryClient {
    http: Client<HttpConnector, Full<Bytes>>,
    settings: CallSettings,
    /// The address that answered last.
    preferred: AtomicUsize,
    durations: Measure,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// No attempt got an answer that can be used; it may have been carried out all the same.
#[derive(Debug)]
pub(crate) struct Unavailable {
    pub(crate) reason: String,
}

impl InventoryClient {
    pub(crate) fn new(settings: CallSettings, durations: Measure) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.timeout));
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            http,
            settings,
            preferred: AtomicUsize::new(0),
            durations,
        }
    }

    /// Calls the inventory. The call must be one that may be carried out twice: whether a lost one was is not known.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &'static str,
        body: Option<Bytes>,
    ) -> Result<Answer, Unavailable> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.settings.addresses.len();
        let mut reason = String::new();
        for attempt in 0..self.settings.attempts {
            let index = (first + attempt) % count;
            let Some(address) = self.settings.addresses.get(index) else {
                break;
            };
            if attempt > 0 {
                tokio::time::sleep(self.delay(attempt)).await;
            }
            match self
                .attempt(address, &method, path, body.clone(), attempt)
                .await
            {
                Ok(answer) if !is_worth_retrying(answer.status) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(answer) => reason = format!("{address} answered {}", answer.status),
                Err(error) => reason = format!("{address}: {}", error.reason),
            }
            tracing::warn!(
                attempt = attempt as i64 + 1,
                reason,
                "a call to the inventory failed"
            );
        }
        Err(Unavailable { reason })
    }

    /// Between half and all of the doubled delay, so that those who failed together do not come back together.
    fn delay(&self, attempt: usize) -> Duration {
        let doubled = 1_u32.checked_shl(attempt as u32 - 1).unwrap_or(u32::MAX);
        let delay = self.settings.delay.saturating_mul(doubled).min(DELAY_MAX);
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// One attempt, within its client span and measured.
    async fn attempt(
        &self,
        address: &Address,
        method: &Method,
        path: &'static str,
        body: Option<Bytes>,
        resend: usize,
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        let span = client_span(address, method, path, resend);
        let exchange = self.exchange(address, method, path, body, &span);
        let result = match tokio::time::timeout(self.settings.timeout, exchange)
            .instrument(span.clone())
            .await
        {
            Ok(result) => result,
            Err(_) => Err(Failure {
                kind: "timeout",
                reason: format!("no answer within {:?}", self.settings.timeout),
            }),
        };
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("server.address", address.host.clone()),
            KeyValue::new("server.port", i64::from(address.port)),
            KeyValue::new("url.scheme", "http"),
            KeyValue::new("url.template", path),
        ];
        let status = result.as_ref().ok().map(|it| it.status);
        if let Some(status) = status {
            span.record("http.response.status_code", i64::from(status.as_u16()));
            attributes.push(KeyValue::new(
                "http.response.status_code",
                i64::from(status.as_u16()),
            ));
        }
        let error = match &result {
            Ok(answer) if answer.status.as_u16() < 400 => None,
            Ok(answer) => Some(answer.status.as_str().to_owned()),
            Err(failure) => Some(failure.kind.to_owned()),
        };
        if let Some(error) = error {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", error.as_str());
            attributes.push(KeyValue::new("error.type", error));
        }
        span.in_scope(|| self.durations.record(started.elapsed(), &attributes));
        result
    }

    async fn exchange(
        &self,
        address: &Address,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
        span: &Span,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(
                header::USER_AGENT,
                concat!("target-svc/", env!("CARGO_PKG_VERSION")),
            );
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let mut request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Failure::new("request", &error))?;
        TraceContextPropagator::new()
            .inject_context(&span.context(), &mut Headers(request.headers_mut()));
        let response = self.http.request(request).await.map_err(|error| {
            Failure::new(if error.is_connect() { "connect" } else { "io" }, &error)
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Failure::new("io", error.as_ref()))?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    }
}

/// Why an attempt had no answer.
#[derive(Debug)]
struct Failure {
    kind: &'static str,
    reason: String,
}

impl Failure {
    fn new(kind: &'static str, error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self { kind, reason }
    }
}

/// The server's own trouble, which another replica may not have, and which may pass.
fn is_worth_retrying(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn client_span(address: &Address, method: &Method, path: &str, resend: usize) -> Span {
    tracing::info_span!(
        "call",
        otel.name = format!("{method} {path}"),
        otel.kind = "client",
        otel.status_code = field::Empty,
        http.request.method = method.as_str(),
        http.request.resend_count = (resend > 0).then_some(resend as i64),
        http.response.status_code = field::Empty,
        server.address = address.host,
        server.port = i64::from(address.port),
        url.full = format!("http://{address}{path}"),
        url.template = path,
        "error.type" = field::Empty,
    )
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

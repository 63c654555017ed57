//! Metrics on their way out: over OTLP/gRPC with exemplars, which the SDK's exporter cannot add, and as a page to scrape.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;
use tonic::metadata::{AsciiMetadataValue, MetadataKey, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::exemplars::{Exemplars, now};

/// As OTEL_EXPORTER_OTLP_TIMEOUT says when it does not say anything.
const TIMEOUT_DEFAULT_MS: u64 = 10_000;

/// The first try, and those after it: within the interval of collections there is no time for more.
const ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Sends collections to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    client: MetricsServiceClient<Channel>,
    headers: MetadataMap,
    timeout: Duration,
    exemplars: Arc<Exemplars>,
    /// When the last collection was sent: each exemplar is sent once.
    last: AtomicU64,
    /// Collections come from a thread of the SDK, which has no timers.
    runtime: Handle,
}

impl Exporter {
    /// Reads where to send from the environment, after the signal's own variables those of all signals. Runs within tokio.
    ///
    /// # Errors
    ///
    /// The endpoint is no URL, or a header is malformed.
    pub(crate) fn new(endpoint_default: &str, exemplars: Arc<Exemplars>) -> anyhow::Result<Self> {
        let endpoint = variable("ENDPOINT").unwrap_or_else(|| endpoint_default.to_owned());
        let channel = Endpoint::from_shared(endpoint.clone())
            .with_context(|| format!("`{endpoint}` is no endpoint"))?
            .connect_lazy();
        let timeout = match variable("TIMEOUT") {
            Some(text) => text
                .parse()
                .with_context(|| format!("the timeout `{text}` is no number of milliseconds"))?,
            None => TIMEOUT_DEFAULT_MS,
        };
        Ok(Self {
            client: MetricsServiceClient::new(channel),
            headers: headers(&variable("HEADERS").unwrap_or_default())?,
            timeout: Duration::from_millis(timeout),
            exemplars,
            last: AtomicU64::new(0),
            runtime: Handle::current(),
        })
    }
}

impl PushMetricExporter for Exporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut request = ExportMetricsServiceRequest::from(metrics);
        let since = self.last.swap(now(), Ordering::AcqRel);
        self.exemplars.attach(&mut request, since);
        let sending = send(self.client.clone(), self.headers.clone(), request);
        let timeout = self.timeout;
        let sent = self
            .runtime
            .spawn(async move { tokio::time::timeout(timeout, sending).await });
        match sent.await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(status))) => Err(OTelSdkError::InternalFailure(status.to_string())),
            Ok(Err(_elapsed)) => Err(OTelSdkError::Timeout(timeout)),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

async fn send(
    mut client: MetricsServiceClient<Channel>,
    headers: MetadataMap,
    message: ExportMetricsServiceRequest,
) -> Result<(), Status> {
    let mut attempt = 1;
    loop {
        let mut request = Request::new(message.clone());
        *request.metadata_mut() = headers.clone();
        match client.export(request).await {
            Ok(_) => return Ok(()),
            Err(status) if attempt == ATTEMPTS || !is_transient(status.code()) => {
                return Err(status);
            }
            Err(_) => tokio::time::sleep(RETRY_PAUSE * 2_u32.pow(attempt)).await,
        }
        attempt += 1;
    }
}

/// The codes that the OTLP specification lets clients retry.
fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    )
}

fn variable(name: &str) -> Option<String> {
    let value = |name: String| std::env::var(name).ok().filter(|it| !it.is_empty());
    value(format!("OTEL_EXPORTER_OTLP_METRICS_{name}"))
        .or_else(|| value(format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// Headers as `key=value,key=value`, the values percent-encoded where they must be. Values never get into messages: they are secrets.
fn headers(text: &str) -> anyhow::Result<MetadataMap> {
    let mut map = MetadataMap::new();
    for pair in text.split(',').filter(|it| !it.trim().is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .context("OTEL_EXPORTER_OTLP_HEADERS must be written as key=value,key=value")?;
        let key = MetadataKey::from_str(&key.trim().to_ascii_lowercase())
            .with_context(|| format!("`{}` is no name of a header", key.trim()))?;
        let value = percent_decode_str(value.trim())
            .decode_utf8()
            .with_context(|| format!("the value of the header `{key}` is not UTF-8"))?;
        let value = AsciiMetadataValue::from_str(&value)
            .with_context(|| format!("the value of the header `{key}` is not ASCII"))?;
        map.insert(key, value);
    }
    Ok(map)
}

// === Scraping ===

/// What all instruments say at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Scrape {
    reader: Reader,
    exemplars: Arc<Exemplars>,
}

impl Scrape {
    pub(crate) fn new(exemplars: Arc<Exemplars>) -> Self {
        let reader = ManualReader::builder()
            .with_temporality(Temporality::Cumulative)
            .build();
        Self {
            reader: Reader(Arc::new(reader)),
            exemplars,
        }
    }

    pub(crate) fn reader(&self) -> impl MetricReader + use<> {
        self.reader.clone()
    }

    /// The metrics with exemplars; nothing when the SDK has been shut down.
    pub(crate) fn collect(&self) -> ExportMetricsServiceRequest {
        let mut metrics = ResourceMetrics::default();
        if let Err(error) = self.reader.collect(&mut metrics) {
            tracing::debug!(%error, "there are no metrics");
        }
        let mut request = ExportMetricsServiceRequest::from(&metrics);
        self.exemplars.attach(&mut request, 0);
        request
    }
}

/// One reader with two owners: the SDK, and who scrapes.
#[derive(Debug, Clone)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs() {
        let map = headers("Authorization=Bearer x=y, b=2,c=Basic%20d%2C%3D").unwrap();
        assert_eq!(map.get("authorization").unwrap(), "Bearer x=y");
        assert_eq!(map.get("c").unwrap(), "Basic d,=");
        assert_eq!(map.get("b").unwrap(), "2");
        assert!(headers("").unwrap().is_empty());
        for bad in ["novalue", "a b=1", "a=%ff", "a=%0a"] {
            assert!(headers(bad).is_err(), "{bad}");
        }
    }
}

//! OpenTelemetry set up: where spans, metrics and logs go, and what became of them at the end.

mod count;
mod environment;
mod export;
mod ledger;
mod logs;
mod resource;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterFn, LevelFilter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use self::ledger::{Counts, Ledgers};
use self::watch::Watch;
use crate::cli::TelemetryArgs;

/// Spans and log records are ours; what the exporters' own libraries say about sending them is not sent.
const OWN_TARGET: &str = "target_svc";

/// The running pipelines of the three signals.
pub(crate) struct Telemetry {
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
    loggers: SdkLoggerProvider,
    meter: Meter,
    ledgers: Arc<Ledgers>,
    watch: Watch,
}

impl Telemetry {
    /// Starts the pipelines and makes them the destination of `tracing`. Must run within tokio.
    ///
    /// No connection is made yet, so the collector need not be there.
    ///
    /// # Errors
    ///
    /// An exporter's settings in the environment are invalid, or logging has been set up before.
    pub(crate) fn start(args: &TelemetryArgs) -> anyhow::Result<Self> {
        let ledgers = Arc::new(Ledgers::new(args.span_queue, args.log_queue));
        let (tracers, meters, loggers) = if environment::sdk_is_disabled() {
            nothing()
        } else {
            let resource = resource::detect();
            (
                export::tracers(args, &ledgers, resource.clone())?,
                export::meters(args, &ledgers, resource.clone())?,
                export::loggers(args, &ledgers, resource)?,
            )
        };
        subscribe(&tracers, &loggers)?;
        environment::warn_of_what_is_ignored();
        Ok(Self {
            meter: meters.meter(OWN_TARGET),
            tracers,
            meters,
            loggers,
            watch: Watch::start(Arc::clone(&ledgers)),
            ledgers,
        })
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Sends everything that waits, all signals at once, for `timeout` at most.
    pub(crate) async fn shutdown(self, timeout: Duration) -> Counts {
        self.watch.finish().await;
        let (tracers, meters, loggers) = (self.tracers, self.meters, self.loggers);
        tokio::join!(
            within(timeout, move || tracers.shutdown_with_timeout(timeout)),
            within(timeout, move || meters.shutdown_with_timeout(timeout)),
            within(timeout, move || loggers.shutdown_with_timeout(timeout)),
        );
        self.ledgers.counts()
    }
}

/// Providers that create nothing, as OTEL_SDK_DISABLED wants them. Incoming trace contexts are still taken over.
fn nothing() -> (SdkTracerProvider, SdkMeterProvider, SdkLoggerProvider) {
    let tracers = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOff)
        .build();
    let meters = SdkMeterProvider::builder().build();
    (tracers, meters, SdkLoggerProvider::builder().build())
}

/// Runs a blocking shutdown. What it could not send is known from the ledger, so its result says no more.
async fn within(timeout: Duration, shutdown: impl FnOnce() -> OTelSdkResult + Send + 'static) {
    let ended = tokio::time::timeout(timeout, tokio::task::spawn_blocking(shutdown)).await;
    drop(ended);
}

fn subscribe(tracers: &SdkTracerProvider, loggers: &SdkLoggerProvider) -> anyhow::Result<()> {
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracers.tracer(OWN_TARGET))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(FilterFn::new(|it: &Metadata<'_>| {
            it.is_span() && is_own(it)
        }));
    let records = OpenTelemetryTracingBridge::new(loggers)
        .with_filter(FilterFn::new(|it: &Metadata<'_>| {
            it.is_event() && is_own(it)
        }))
        .with_filter(LevelFilter::INFO);
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // The span layer comes first: it makes the trace context current that the others read.
    tracing_subscriber::registry()
        .with(spans)
        .with(records)
        .with(logs::JsonLines.with_filter(level))
        .try_init()
        .context("cannot set up logging")
}

fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(OWN_TARGET)
}

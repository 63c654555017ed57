//! OpenTelemetry set up: where spans, metrics and logs go, and what became of them at the end.

mod count;
mod environment;
mod exemplars;
mod export;
mod ledger;
mod logs;
mod metrics;
mod openmetrics;
mod resource;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterFn, LevelFilter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) use self::exemplars::Exemplars;
pub(crate) use self::metrics::Scrape;
pub(crate) use self::openmetrics::{Format, render};

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
    exemplars: Arc<Exemplars>,
    scrape: Scrape,
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
    pub(crate) fn start(args: &TelemetryArgs, service: &'static str) -> anyhow::Result<Self> {
        let ledgers = Arc::new(Ledgers::new(args.span_queue, args.log_queue));
        let exemplars = Arc::<Exemplars>::default();
        let scrape = Scrape::new(Arc::clone(&exemplars));
        let resource = resource::detect(service);
        let (tracers, meters, loggers) = if environment::sdk_is_disabled() {
            nothing(&scrape, resource)
        } else {
            let meters = export::meters(
                args,
                &ledgers,
                resource.clone(),
                Arc::clone(&exemplars),
                &scrape,
            )?;
            (
                export::tracers(args, &ledgers, resource.clone())?,
                meters,
                export::loggers(args, &ledgers, resource)?,
            )
        };
        subscribe(&tracers, &loggers)?;
        environment::warn_of_what_is_ignored();
        Ok(Self {
            meter: meters.meter(OWN_TARGET),
            exemplars,
            scrape,
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

    pub(crate) fn exemplars(&self) -> &Arc<Exemplars> {
        &self.exemplars
    }

    pub(crate) fn scrape(&self) -> Scrape {
        self.scrape.clone()
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

/// Providers that send nothing, as OTEL_SDK_DISABLED wants them. Incoming trace contexts are still taken over, and metrics
/// can still be scraped.
fn nothing(
    scrape: &Scrape,
    resource: Resource,
) -> (SdkTracerProvider, SdkMeterProvider, SdkLoggerProvider) {
    let tracers = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOff)
        .build();
    let meters = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(scrape.reader())
        .build();
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

//! The three OTLP/gRPC pipelines: exporter, batches, and the ledger around both.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{self, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{self, BatchSpanProcessor, SdkTracerProvider};

use super::count::Counting;
use super::exemplars::Exemplars;
use super::ledger::Ledgers;
use super::metrics::{self, Scrape};
use crate::cli::TelemetryArgs;

/// Where telemetry goes when the environment does not say. The SDK's `localhost` may mean IPv6 first.
const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:4317";

pub(crate) fn tracers(
    args: &TelemetryArgs,
    ledgers: &Ledgers,
    resource: Resource,
) -> anyhow::Result<SdkTracerProvider> {
    let builder = SpanExporter::builder().with_tonic();
    let exporter = or_default_endpoint(builder, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .build()
        .context("cannot set up the export of spans")?;
    let batches = trace::BatchConfigBuilder::default()
        .with_max_queue_size(count(args.span_queue))
        .with_max_export_batch_size(count(args.span_batch.min(args.span_queue)))
        .with_scheduled_delay(Duration::from_millis(args.span_delay_ms))
        .build();
    let processor = BatchSpanProcessor::builder(Counting::new(exporter, &ledgers.spans))
        .with_batch_config(batches)
        .build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(Counting::new(processor, &ledgers.spans))
        .build())
}

pub(crate) fn loggers(
    args: &TelemetryArgs,
    ledgers: &Ledgers,
    resource: Resource,
) -> anyhow::Result<SdkLoggerProvider> {
    let builder = LogExporter::builder().with_tonic();
    let exporter = or_default_endpoint(builder, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")
        .build()
        .context("cannot set up the export of logs")?;
    let batches = logs::BatchConfigBuilder::default()
        .with_max_queue_size(count(args.log_queue))
        .with_max_export_batch_size(count(args.log_batch.min(args.log_queue)))
        .with_scheduled_delay(Duration::from_millis(args.log_delay_ms))
        .build();
    let processor = BatchLogProcessor::builder(Counting::new(exporter, &ledgers.log_records))
        .with_batch_config(batches)
        .build();
    Ok(SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(Counting::new(processor, &ledgers.log_records))
        .build())
}

pub(crate) fn meters(
    args: &TelemetryArgs,
    ledgers: &Ledgers,
    resource: Resource,
    exemplars: Arc<Exemplars>,
    scrape: &Scrape,
) -> anyhow::Result<SdkMeterProvider> {
    let exporter = metrics::Exporter::new(ENDPOINT_DEFAULT, exemplars)
        .context("cannot set up the export of metrics")?;
    let reader = PeriodicReader::builder(Counting::new(exporter, &ledgers.metric_data_points))
        .with_interval(Duration::from_millis(args.metric_interval_ms))
        .build();
    Ok(SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(reader)
        .with_reader(scrape.reader())
        .build())
}

/// An endpoint in the environment is read by the SDK itself.
fn or_default_endpoint<B: WithExportConfig>(builder: B, signal_variable: &str) -> B {
    let given = |name: &str| std::env::var_os(name).is_some_and(|it| !it.is_empty());
    if given(signal_variable) || given("OTEL_EXPORTER_OTLP_ENDPOINT") {
        return builder;
    }
    builder.with_endpoint(ENDPOINT_DEFAULT)
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

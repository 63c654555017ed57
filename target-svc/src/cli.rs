//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// An HTTP service that sends traces, metrics and logs over OTLP/gRPC.
///
/// POST /api/vector/add adds two vectors: `{"a":[1,2],"b":[3,4]}` gives `{"result":[4.0,6.0]}`.
/// GET /health answers {"status":"ok"}.
///
/// Telemetry goes to OTEL_EXPORTER_OTLP_ENDPOINT (default http://127.0.0.1:4317); the other variables of the
/// OpenTelemetry SDK, such as OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and
/// OTEL_SDK_DISABLED, are honoured too. Without a collector the service works as usual and counts what it could not send.
/// The address it listens on is printed on standard output; logs go to standard error as JSON (RUST_LOG).
/// SIGTERM and SIGINT end requests under way, send all telemetry, and exit.
#[derive(Debug, Parser)]
#[command(name = "target-svc", version)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = host_and_port)]
    pub(crate) listen: String,
    /// Larger request bodies are refused with 413
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    pub(crate) max_body_bytes: usize,
    /// A connection that takes longer to send a request's head, or to send another request, is closed
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = positive())]
    pub(crate) header_timeout_ms: u64,
    /// How long requests under way may take to end after a stop signal
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub(crate) drain_timeout_ms: u64,
    /// How long sending the remaining telemetry may take at the end
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(crate) shutdown_timeout_ms: u64,
    /// At the end, write how much telemetry was created, exported, failed and dropped as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) counts_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// The SDK's own defaults (2,048 items, 5 s) drop spans from some hundred requests per second on.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Telemetry")]
pub(crate) struct TelemetryArgs {
    /// Spans that may wait to be sent (about 1 kB each); more are dropped and counted
    #[arg(long, value_name = "N", env = "OTEL_BSP_MAX_QUEUE_SIZE", default_value_t = 65_536, value_parser = positive())]
    pub(crate) span_queue: u64,
    /// Spans in one request to the collector
    #[arg(long, value_name = "N", env = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default_value_t = 2_048, value_parser = positive())]
    pub(crate) span_batch: u64,
    /// Longest time a span waits for its batch to fill
    #[arg(long, value_name = "MS", env = "OTEL_BSP_SCHEDULE_DELAY", default_value_t = 1_000, value_parser = positive())]
    pub(crate) span_delay_ms: u64,
    /// Log records that may wait to be sent (about 0.5 kB each); more are dropped and counted
    #[arg(long, value_name = "N", env = "OTEL_BLRP_MAX_QUEUE_SIZE", default_value_t = 65_536, value_parser = positive())]
    pub(crate) log_queue: u64,
    /// Log records in one request to the collector
    #[arg(long, value_name = "N", env = "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", default_value_t = 2_048, value_parser = positive())]
    pub(crate) log_batch: u64,
    /// Longest time a log record waits for its batch to fill
    #[arg(long, value_name = "MS", env = "OTEL_BLRP_SCHEDULE_DELAY", default_value_t = 1_000, value_parser = positive())]
    pub(crate) log_delay_ms: u64,
    /// Time between two collections of the metrics
    #[arg(long, value_name = "MS", env = "OTEL_METRIC_EXPORT_INTERVAL", default_value_t = 10_000, value_parser = positive())]
    pub(crate) metric_interval_ms: u64,
}

/// A host, which is looked up later, and a port.
fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("write HOST:PORT, such as 127.0.0.1:8080".to_owned()),
    }
}

/// Sizes and times from 1 to a million: enough for a test service, too small to exhaust memory by mistake.
fn positive() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen_is_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "localhost:80", "[::1]:80"] {
            assert_eq!(host_and_port(good), Ok(good.to_owned()));
        }
        for bad in ["nonsense", "", ":80", "localhost:", "localhost:99999"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}

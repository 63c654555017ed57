//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use axum::http::Uri;
use clap::{Parser, ValueEnum};

/// A small shop that sends traces, metrics and logs over OTLP/gRPC: a service to be observed and put under load.
///
/// It has two roles, which call each other. `order` takes orders (/order-product, /list-orders, /list-products) and has the
/// inventory reduce the stock; `inventory` keeps it (/reduce-stock, /list-products). Without a role, or as `all`, both run
/// in one process. Each has /health, /api/vector/add, /simulate/latency, /simulate/error, /simulate/heavy-task, /metrics,
/// /openapi.json, and /docs, which explains them all.
///
///   target-svc inventory --listen 127.0.0.1:8081 --database stock.db
///
///   target-svc order --listen 127.0.0.1:8080 --inventory http://127.0.0.1:8081
///
/// Telemetry goes to OTEL_EXPORTER_OTLP_ENDPOINT (default http://127.0.0.1:4317); the other variables of the
/// OpenTelemetry SDK, such as OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and
/// OTEL_SDK_DISABLED, are honoured too. Without a collector the service works as usual and counts what it could not send.
/// The address it listens on is printed on standard output; logs go to standard error as JSON (RUST_LOG).
/// SIGTERM and SIGINT end requests under way, send all telemetry, and exit.
#[derive(Debug, Parser)]
#[command(name = "target-svc", version)]
pub(crate) struct Args {
    /// What to be
    #[arg(value_enum, value_name = "ROLE", default_value_t = Role::All)]
    pub(crate) role: Role,
    /// Address to listen on; port 0 takes a free port [default: 127.0.0.1:8080, and :8081 as inventory]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) listen: Option<String>,
    /// SQLite file for orders or stock, which is made if it is not there; replicas may share it [default: in memory]
    #[arg(long, value_name = "FILE")]
    pub(crate) database: Option<PathBuf>,
    /// Pieces of each product in a new database, of the inventory [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=STOCK_MAX))]
    pub(crate) stock: Option<u64>,
    #[command(flatten)]
    pub(crate) calls: CallArgs,
    /// Larger request bodies are refused with 413, also those that are larger once they are decompressed
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

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Both, the inventory on a free port of loopback
    All,
    /// Takes orders
    Order,
    /// Keeps the stock
    Inventory,
}

/// A million orders of the largest quantity.
const STOCK_MAX: u64 = 1_000_000_000_000;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Calls from order to inventory")]
pub(crate) struct CallArgs {
    /// The inventory; several replicas are tried one after the other, and must share their database
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = address)]
    pub(crate) inventory: Vec<Address>,
    /// Attempts of a call, the first included
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub(crate) call_attempts: u8,
    /// How long an attempt may take
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = positive())]
    pub(crate) call_timeout_ms: u64,
    /// Wait before the first retry, doubled for each of the others up to a second, less up to a half by chance
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = positive())]
    pub(crate) call_retry_delay_ms: u64,
}

/// Where an inventory listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self {
            host,
            port: address.port(),
        }
    }
}

impl Args {
    /// Why these options do not go together, if they do not.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let addressed = !self.calls.inventory.is_empty();
        match self.role {
            Role::Order if !addressed => {
                Some("the role `order` needs `--inventory URL`: where does the inventory listen?")
            }
            Role::Order if self.stock.is_some() => {
                Some("`--stock` is for the inventory, and this is the role `order`")
            }
            Role::All if addressed => Some(
                "`--inventory` is for the role `order`; without a role, this process has an inventory of its own",
            ),
            Role::Inventory if addressed => {
                Some("`--inventory` is for the role `order`, and this is the inventory")
            }
            _ => None,
        }
    }
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

/// `http://HOST:PORT`, without anything more.
fn address(text: &str) -> Result<Address, String> {
    let wanted = || "write http://HOST:PORT, such as http://127.0.0.1:8081".to_owned();
    let uri: Uri = text.parse().map_err(|_| wanted())?;
    let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
    let authority = uri
        .authority()
        .filter(|it| plain && !it.as_str().contains('@'));
    let authority = authority.ok_or_else(wanted)?;
    let host = authority.host().to_owned();
    let port = match authority.port_u16() {
        Some(port) => port,
        // Without a number that is a port, there is nothing but the host.
        None if authority.as_str() == host => 80,
        None => return Err(wanted()),
    };
    if host.is_empty() || port == 0 {
        Err(wanted())
    } else {
        Ok(Address { host, port })
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
    fn an_inventory_is_a_plain_url() {
        for (good, expected) in [
            ("http://127.0.0.1:8081", "127.0.0.1:8081"),
            ("http://localhost:81/", "localhost:81"),
            ("http://[::1]:9", "[::1]:9"),
            ("http://inventory", "inventory:80"),
        ] {
            assert_eq!(
                address(good).map(|it| it.to_string()),
                Ok(expected.to_owned())
            );
        }
        for bad in [
            "",
            "127.0.0.1:8081",
            "https://a:1",
            "http://a:1/x",
            "http://a:1?q",
            "http://u@a:1",
            "http://a:99999",
            "http://a:0",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_that_contradict_the_role_are_refused() {
        let check = |line: &str, refused: bool| {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(args.contradiction().is_some(), refused, "{line}");
        };
        check("target-svc", false);
        check("target-svc all --stock 5", false);
        check("target-svc --inventory http://a:1", true);
        check("target-svc order", true);
        check("target-svc order --inventory http://a:1,http://b:2", false);
        check("target-svc order --inventory http://a:1 --stock 5", true);
        check("target-svc inventory --stock 5", false);
        check("target-svc inventory --inventory http://a:1", true);
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}

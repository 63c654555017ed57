//! The Prometheus endpoint: `GET /metrics`, with what the process uses read anew for every scrape.

use std::net::SocketAddr;
use std::time::Instant;

use http::StatusCode;
use tracing::info;

use super::{Telemetry, names};
use crate::admin::{self, Answer, Endpoint, Keys, Lock};
use crate::auth::Authenticators;
use crate::component::{ComponentError, Shutdown};
use crate::memory::HeldBytes;
use crate::net::listen;
use crate::net::sockets::Sockets;
use crate::process;

/// A bound metrics endpoint.
#[derive(Debug)]
pub struct Server(Endpoint);

/// Binds `address`; port 0 takes a free one.
///
/// # Errors
/// When the address is taken or not this machine's, or certificates cannot be used, with a key of `[service]`.
pub(crate) fn bind(
    sockets: &Sockets,
    address: &SocketAddr,
    lock: &Lock,
    authenticators: &Authenticators,
) -> Result<Server, ComponentError> {
    let endpoint = listen::Endpoint::from(*address);
    let keys = Keys {
        prefix: "telemetry.metrics.",
        endpoint: "telemetry.metrics.address",
    };
    let lock = (lock, authenticators);
    admin::bind(sockets, &endpoint, "metrics", keys, lock).map(Server)
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> &str {
        self.0.address()
    }

    /// Serves until `shutdown`; the call itself takes over what served here before. `started` is when the process did.
    pub(crate) fn run(
        self,
        telemetry: Telemetry,
        held: HeldBytes,
        started: Instant,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        info!(address = self.address(), "metrics endpoint listening");
        let respond = move |path: &str| match path {
            "/metrics" => {
                refresh(&telemetry, &held, started);
                encode(&telemetry)
            }
            _ => admin::not_found(),
        };
        self.0.serve(respond, shutdown)
    }
}

/// The text format's version, which Prometheus asks for.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn encode(telemetry: &Telemetry) -> Answer {
    match telemetry.encode() {
        Ok(text) => admin::answer(StatusCode::OK, CONTENT_TYPE, text),
        Err(error) => admin::answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=utf-8",
            format!("encode the metrics: {error}\n"),
        ),
    }
}

/// Takes over the figures that nobody counts as they change.
fn refresh(telemetry: &Telemetry, held: &HeldBytes, started: Instant) {
    let gauge = |spec, value: u64| {
        telemetry
            .gauge(spec, &[])
            .set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    gauge(&names::HELD_BYTES, held.bytes() as u64);
    gauge(&names::PROCESS_RSS, process::resident_bytes());
    telemetry.set_seconds(&names::PROCESS_CPU, process::cpu_seconds());
    telemetry.set_seconds(&names::PROCESS_UPTIME, started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{http_get, metric};

    #[tokio::test]
    async fn a_scrape_shows_the_process_as_it_is_now() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (lock, authenticators) = (Lock::default(), Authenticators::default());
        let server = bind(&Sockets::default(), &any, &lock, &authenticators).unwrap();
        let address = server.address().parse().unwrap();
        let (telemetry, held, shutdown) = (
            Telemetry::default(),
            HeldBytes::default(),
            Shutdown::default(),
        );
        let serving = tokio::spawn(server.run(
            telemetry.clone(),
            held.clone(),
            Instant::now(),
            shutdown.clone(),
        ));
        telemetry.counter(&names::FILE_ROTATIONS, &["file"]).inc();
        let reserved = held.reserve(4096);
        let (status, text) = http_get(address, "/metrics").await;
        assert_eq!(status, 200);
        for line in [
            "tidegate_held_bytes 4096",
            "tidegate_file_rotations{exporter=\"file\"} 1",
            "# TYPE otelcol_process_cpu_seconds counter",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
        let first = metric(&telemetry, "otelcol_process_uptime");
        assert!(first > 0.0 && metric(&telemetry, "otelcol_process_memory_rss") > 1e6);
        drop(reserved);
        let (_, text) = http_get(address, "/metrics").await;
        assert!(text.contains("\ntidegate_held_bytes 0\n"), "{text}");
        assert!(metric(&telemetry, "otelcol_process_uptime") > first);
        assert_eq!(http_get(address, "/").await.0, 404);
        shutdown.trigger();
        serving.await.unwrap();
    }
}

//! The Prometheus endpoint: `GET /metrics`, with what the process uses read anew for every scrape.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use http::StatusCode;

use super::{Telemetry, names};
use crate::admin::{self, Answer, Endpoint};
use crate::component::{ComponentError, Shutdown};
use crate::memory::HeldBytes;
use crate::process;

/// A bound metrics endpoint.
#[derive(Debug)]
pub struct Server(Endpoint);

/// Binds `address`. Must be called on the runtime.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: impl ToSocketAddrs) -> io::Result<Server> {
    admin::bind(address).map(Server)
}

impl Server {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.address()
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// None today: the signature is that of everything that runs beside the pipelines.
    pub async fn run(
        self,
        telemetry: Telemetry,
        held: HeldBytes,
        shutdown: Shutdown,
    ) -> Result<(), ComponentError> {
        let respond = move |path: &str| match path {
            "/metrics" => scrape(&telemetry, &held),
            _ => admin::not_found(),
        };
        self.0.serve(respond, shutdown).await;
        Ok(())
    }
}

/// The text format's version, which Prometheus asks for.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn scrape(telemetry: &Telemetry, held: &HeldBytes) -> Answer {
    refresh(telemetry, held);
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
fn refresh(telemetry: &Telemetry, held: &HeldBytes) {
    let gauge = |spec, value: u64| {
        telemetry
            .gauge(spec, &[])
            .set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    gauge(&names::HELD_BYTES, held.bytes() as u64);
    gauge(&names::PROCESS_RSS, process::resident_bytes());
    if let Some(times) = process::times() {
        telemetry.set_seconds(&names::PROCESS_CPU, times.cpu_seconds);
        telemetry.set_seconds(&names::PROCESS_UPTIME, times.uptime_seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{http_get, metric};

    #[tokio::test]
    async fn a_scrape_shows_the_process_as_it_is_now() {
        let server = bind("127.0.0.1:0").unwrap();
        let address = server.address().unwrap();
        let (telemetry, held, shutdown) = (
            Telemetry::default(),
            HeldBytes::default(),
            Shutdown::default(),
        );
        let serving = tokio::spawn(server.run(telemetry.clone(), held.clone(), shutdown.clone()));
        telemetry
            .counter(&names::CONFIG_RELOADS, &["success"])
            .inc();
        let reserved = held.reserve(4096);
        let (status, text) = http_get(address, "/metrics").await;
        assert_eq!(status, 200);
        for line in [
            "tidegate_held_bytes 4096",
            "tidegate_config_reloads{outcome=\"success\"} 1",
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
        crate::testing::eventually("time passes", || {
            scrape(&telemetry, &held);
            metric(&telemetry, "otelcol_process_uptime") > first
        })
        .await;
        assert_eq!(metric(&telemetry, "tidegate_held_bytes"), 0.0);
        assert_eq!(http_get(address, "/").await.0, 404);
        shutdown.trigger();
        serving.await.unwrap().unwrap();
    }
}

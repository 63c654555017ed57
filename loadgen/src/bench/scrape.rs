//! What an agent says of its queue on disk, in its metrics.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::prometheus;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any agent's metrics.
const BODY_MAX: u64 = 16 << 20;

/// Sums over all queues of an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct LogFigures {
    /// Written to the queues' files.
    pub(crate) written_bytes: u64,
    pub(crate) syncs: u64,
    /// Not delivered yet, as far as is published.
    pub(crate) queued_bytes: u64,
    /// Batches under way.
    pub(crate) open_batches: u64,
}

impl LogFigures {
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            syncs: self.syncs.saturating_sub(earlier.syncs),
            ..*self
        }
    }

    /// Whether all is delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued_bytes == 0 && self.open_batches == 0
    }

    fn parse(metrics: &str) -> Option<Self> {
        let sum = |name| prometheus::sum(metrics, name).map(|it| it as u64);
        Some(Self {
            written_bytes: sum("tidegate_queue_written_bytes")?,
            syncs: sum("tidegate_queue_syncs")?,
            queued_bytes: sum("otelcol_exporter_queue_size")?,
            open_batches: sum("tidegate_queue_open_batches")?,
        })
    }
}

/// Asks the agent whose metrics are at `port`.
///
/// # Errors
/// When it does not answer, or its metrics do not tell of a queue.
pub(crate) fn log_figures(port: u16) -> anyhow::Result<LogFigures> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let text = fetch(address).with_context(|| format!("cannot read metrics at {address}"))?;
    LogFigures::parse(&text).context("the agent's metrics do not tell of a queue on disk")
}

/// What became of changes of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reloads {
    pub(crate) taken: u64,
    pub(crate) refused: u64,
}

/// Asks the agent whose metrics are at `port`.
///
/// # Errors
/// When it does not answer.
pub(crate) fn reloads(port: u16) -> anyhow::Result<Reloads> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let text = fetch(address).with_context(|| format!("cannot read metrics at {address}"))?;
    let of = |outcome: &str| {
        let wanted = format!("tidegate_reloads{{outcome=\"{outcome}\"}}");
        prometheus::sum(&text, &wanted).unwrap_or(0.0) as u64
    };
    Ok(Reloads {
        taken: of("reloaded"),
        refused: of("refused"),
    })
}

fn fetch(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(BODY_MAX).read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.0 200") && !answer.starts_with("HTTP/1.1 200") {
        bail!("{}", answer.lines().next().unwrap_or("no answer"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_without_metrics_is_an_error() {
        let [port] = crate::process::free_port_array().unwrap();
        let error = log_figures(port).unwrap_err().to_string();
        assert!(error.contains("cannot read metrics at"), "{error}");
    }
}

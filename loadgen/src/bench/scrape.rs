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
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct LogFigures {
    /// Written to the queues' files.
    pub(crate) written_bytes: u64,
    pub(crate) syncs: u64,
    /// Not delivered yet, as far as is published.
    pub(crate) queued_bytes: u64,
    /// Batches under way.
    pub(crate) open_batches: u64,
    /// How often writing and syncing took up to so many seconds, and longer than the bound before; the last has no bound.
    /// Empty for agents that do not tell.
    pub(crate) commits: Vec<(Option<f64>, u64)>,
}

impl LogFigures {
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut commits = self.commits.clone();
        for ((_, count), (_, before)) in commits.iter_mut().zip(&earlier.commits) {
            *count = count.saturating_sub(*before);
        }
        Self {
            commits,
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            syncs: self.syncs.saturating_sub(earlier.syncs),
            ..*self
        }
    }

    /// What this share of all commits took at most, in milliseconds: within a bucket as if they were spread evenly.
    pub(crate) fn commit_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.commits.iter().map(|(_, count)| count).sum();
        let mut left = share * all as f64;
        let mut from = 0.0;
        for (bound, count) in &self.commits {
            // Beyond the last bound nothing is known but that.
            let to = bound.unwrap_or(from);
            if *count > 0 && left <= *count as f64 {
                return Some((from + (to - from) * left / *count as f64) * 1e3);
            }
            left -= *count as f64;
            from = to;
        }
        None
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
            commits: prometheus::buckets(metrics, "tidegate_queue_commit_seconds"),
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
    fn how_long_commits_took_is_known_from_their_histogram() {
        let metrics = |counts: [u64; 4]| {
            let mut text = String::from(
                "tidegate_queue_written_bytes_total 1\ntidegate_queue_syncs_total 1\n\
                 otelcol_exporter_queue_size 0\ntidegate_queue_open_batches 0\n\
                 tidegate_queue_commit_seconds_sum 5\n",
            );
            for signal in ["logs", "traces"] {
                for (bound, count) in ["0.001", "0.002", "0.004", "+Inf"].iter().zip(counts) {
                    text += &format!(
                        "tidegate_queue_commit_seconds_bucket{{otel_signal=\"{signal}\",le=\"{bound}\"}} {count}\n"
                    );
                }
            }
            LogFigures::parse(&text).unwrap()
        };
        let figures = metrics([60, 100, 140, 160]).since(&metrics([10, 10, 10, 10]));
        let counts: Vec<u64> = figures.commits.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [100, 80, 80, 40]);
        for (share, expected) in [(1.0 / 6.0, 0.5), (0.6, 2.0), (0.7, 2.75), (0.99, 4.0)] {
            let found = figures.commit_ms(share).unwrap();
            assert!((found - expected).abs() < 1e-6, "{share}: {found}");
        }
        assert_eq!(LogFigures::default().commit_ms(0.5), None);
    }

    #[test]
    fn an_agent_without_metrics_is_an_error() {
        let [port] = crate::process::free_port_array().unwrap();
        let error = log_figures(port).unwrap_err().to_string();
        assert!(error.contains("cannot read metrics at"), "{error}");
    }
}

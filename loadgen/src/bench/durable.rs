//! What else is measured of a queue on disk: how soon clients are answered at half load next to one sync of the disk,
//! and what a crash with a long queue costs.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::agent::Agent;
use super::cell::Cell;
use super::measure::{Bench, Measurement};
use super::peer::{Peer, Places};
use super::probe::{self, Probe};
use super::report::{CellResult, Spread};
use super::sink::SinkThread;
use crate::otlp::client::Protocol;
use crate::otlp::payload::Pool;
use crate::process;

/// What a queue on disk is measured for besides its throughput.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DurableResult {
    pub(crate) peer: String,
    pub(crate) cell: Cell,
    /// At half of the rate that it reached.
    pub(crate) half_load: Vec<HalfLoad>,
    /// After a crash with a long queue; over HTTP only, since it is the same for all.
    pub(crate) recovery: Option<Recovery>,
}

/// One run at half load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct HalfLoad {
    /// Items due per second.
    pub(crate) rate: f64,
    /// Taken just before.
    pub(crate) probe: Probe,
    pub(crate) run: Measurement,
}

/// A crash with a long queue, and what came after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Recovery {
    pub(crate) accepted_items: u64,
    /// Message bytes in the queue.
    pub(crate) queued_bytes: u64,
    /// The queue's files.
    pub(crate) file_bytes: u64,
    pub(crate) refused_items: u64,
    pub(crate) failed_items: u64,
    /// The most memory until the crash, and what it had at the end.
    pub(crate) queued_peak_bytes: u64,
    pub(crate) queued_memory_bytes: u64,
    /// From the new start until it accepted connections.
    pub(crate) ready_seconds: f64,
    /// From the new start until the first new request was answered.
    pub(crate) answered_seconds: f64,
    /// From the new start until the sink had everything.
    pub(crate) delivered_seconds: f64,
    /// CPU time from the new start until then, per million items.
    pub(crate) cpu_seconds_per_million: f64,
    /// The most memory since the new start.
    pub(crate) drain_peak_bytes: u64,
    pub(crate) delivered_items: u64,
}

impl DurableResult {
    /// Items that were accepted and never came, in all of it.
    pub(crate) fn lost_items(&self) -> u64 {
        let half: u64 = self
            .half_load
            .iter()
            .map(|half| half.run.lost_items())
            .sum();
        half + self.recovery.map_or(0, |recovery| recovery.lost_items())
    }
}

impl Recovery {
    pub(crate) fn lost_items(&self) -> u64 {
        self.accepted_items.saturating_sub(self.delivered_items)
    }

    pub(crate) fn surplus_items(&self) -> u64 {
        self.delivered_items.saturating_sub(self.accepted_items)
    }
}

impl Bench {
    /// Measures what `reached` does at half of its rate, and over HTTP after a crash with `queued_bytes` waiting. The
    /// pool's payload has the cell's form.
    ///
    /// # Errors
    /// When the agent fails or the measurement is interrupted.
    pub(super) fn measure_durable(
        &self,
        peer: &Peer,
        reached: &CellResult,
        mut pool: Pool,
        queued_bytes: u64,
    ) -> anyhow::Result<DurableResult> {
        let cell = reached.cell;
        // A queue takes in more than it can deliver, for a while: what counts is until all was delivered.
        let maximum =
            reached.median(|run| run.accepted_items as f64 / (run.seconds + run.drain_seconds));
        let mut result = DurableResult {
            peer: peer.name.clone(),
            cell,
            half_load: Vec::new(),
            recovery: None,
        };
        let half = Self {
            rate: Some(maximum / 2.0),
            ..self.clone()
        };
        for _ in &reached.runs {
            let probe = probe::sync_times(&self.dir)?;
            let (returned, run) = half.measure(peer, cell, pool);
            result.half_load.push(HalfLoad {
                rate: maximum / 2.0,
                probe,
                run: run?,
            });
            pool = returned.context("the payload was lost")?;
        }
        if cell.protocol == Protocol::Http {
            let mut pool = Some(pool);
            result.recovery = Some(self.recover(peer, cell, &mut pool, queued_bytes)?);
        }
        Ok(result)
    }

    /// Fills the queue while the sink is away, kills the agent, and starts it again with the sink there.
    fn recover(
        &self,
        peer: &Peer,
        cell: Cell,
        pool: &mut Option<Pool>,
        queued_bytes: u64,
    ) -> anyhow::Result<Recovery> {
        let mut bench = self.clone();
        bench.rate = None;
        let facts = pool.as_ref().context("no payload")?.facts().clone();
        let per_request = facts.items_per_request as u64;
        let requests = queued_bytes as f64 / facts.bytes_per_item_sent / per_request as f64;
        let items = requests.ceil().max(1.0) as u64 * per_request;
        let name = format!("{}-{cell}-recovery", peer.name);
        // The addresses of a sink that goes away at once.
        let places = Places::new(&self.dir, &name, &SinkThread::start(None)?)?;
        let port = places.port(cell.protocol);

        let agent = Agent::start(peer, &places, port, self.agent_core)?;
        let queued = bench.send(cell, port, pool, items, 0)?.tally;
        if queued.accepted.items == 0 {
            bail!("nothing was accepted while the sink was away: {queued:?}");
        }
        self.pause(self.settle)?;
        let queued_peak_bytes = agent.serving.peak_memory()?;
        let queued_memory_bytes = agent.serving.memory()?;
        agent.kill()?;
        let file_bytes = forget_files(&places.queue())?;

        let sink = SinkThread::start(Some(places.sink.port()))?;
        let started = Instant::now();
        let mut agent = Agent::start(peer, &places, port, self.agent_core)?;
        let first = bench.send(cell, port, pool, per_request, items)?.tally;
        let answered = started.elapsed();
        let accepted = queued.accepted.items + first.accepted.items;
        self.drain(&mut agent, peer, &sink.stats, accepted)?;
        let delivered = started.elapsed();
        let cpu = agent.serving.cpu().context("cannot read its CPU time")?;
        let drain_peak_bytes = agent.serving.peak_memory()?;
        let ready = agent.start_time;
        agent.stop()?;
        places.remove_queue()?;
        Ok(Recovery {
            accepted_items: accepted,
            queued_bytes: queued.accepted.bytes,
            file_bytes,
            refused_items: queued.refused_items() + first.refused_items(),
            failed_items: queued.failed_items() + first.failed_items(),
            queued_peak_bytes,
            queued_memory_bytes,
            ready_seconds: ready.as_secs_f64(),
            answered_seconds: answered.as_secs_f64(),
            delivered_seconds: delivered.as_secs_f64(),
            cpu_seconds_per_million: cpu.as_secs_f64() / (accepted as f64 / 1e6),
            drain_peak_bytes,
            delivered_items: sink.stats.snapshot().items(),
        })
    }
}

/// Median, least and greatest of a figure over runs at half load.
pub(super) fn spread(runs: &[HalfLoad], figure: impl Fn(&HalfLoad) -> f64) -> Spread {
    Spread::of(runs.iter().map(figure)).unwrap_or(Spread::ZERO)
}

/// Takes the files below `dir` out of the kernel's memory: after a crash of the machine they would not be there. Returns
/// their length.
fn forget_files(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            bytes += forget_files(&path)?;
            continue;
        }
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        file.sync_all()?;
        process::forget_cached(&file)?;
        bytes += file.metadata()?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("a"), [0; 10]).unwrap();
        fs::write(dir.path().join("below/b"), [0; 5]).unwrap();
        assert_eq!(forget_files(dir.path()).unwrap(), 15);
        forget_files(&dir.path().join("absent")).unwrap_err();
    }
}

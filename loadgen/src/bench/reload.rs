//! What a client notices of reloads: how long it waits for its answers while the configuration changes again and again,
//! next to how long it waits while nothing changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::agent::Agent;
use super::cell::Cell;
use super::measure::Bench;
use super::peer::{Peer, Places};
use super::report::{CellResult, Spread};
use super::scrape::{Reloads, reloads};
use super::sink::SinkThread;
use crate::otlp::drive::Load;
use crate::otlp::payload::Pool;

/// From one change of the configuration to the next.
pub(super) const PERIOD: Duration = Duration::from_millis(100);
/// Offered in proportion to what was reached in a closed loop.
const SHARE: f64 = 0.5;
/// In proportion to how long an agent is left alone before its memory is read: ten seconds, or one in a smoke test.
const DURATION: u32 = 10;
/// The agent says what became of the last change by then.
const TAKEN_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Waiting times beside reloads and without.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReloadResult {
    pub(crate) peer: String,
    pub(crate) cell: Cell,
    /// Items due per second.
    pub(crate) rate: f64,
    /// Taken in turns with `reloading`.
    pub(crate) calm: Vec<Waiting>,
    pub(crate) reloading: Vec<Waiting>,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Waiting {
    pub(crate) requests: u64,
    /// Configurations that the agent took.
    pub(crate) reloads: u64,
    /// From when a request was due to its answer.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) accepted_items: u64,
    pub(crate) delivered_items: u64,
    pub(crate) refused_items: u64,
    pub(crate) failed_items: u64,
}

impl Waiting {
    pub(crate) fn lost_items(&self) -> u64 {
        self.accepted_items.saturating_sub(self.delivered_items)
    }

    pub(crate) fn surplus_items(&self) -> u64 {
        self.delivered_items.saturating_sub(self.accepted_items)
    }
}

impl ReloadResult {
    pub(super) fn spread(runs: &[Waiting], figure: impl Fn(&Waiting) -> f64) -> Spread {
        Spread::of(runs.iter().map(figure)).unwrap_or(Spread::ZERO)
    }

    pub(crate) fn sum(&self, figure: impl Fn(&Waiting) -> u64) -> u64 {
        self.calm.iter().chain(&self.reloading).map(figure).sum()
    }
}

impl Bench {
    /// Offers half the rate that `reached` says, with and without reloads, as often as that was measured. The pool's payload
    /// has the cell's form.
    ///
    /// # Errors
    /// When the agent fails, does not take a configuration, or the measurement is interrupted.
    pub(super) fn measure_reloads(
        &self,
        peer: &Peer,
        reached: &CellResult,
        pool: Pool,
    ) -> anyhow::Result<ReloadResult> {
        let peak =
            reached.median(|run| run.accepted_items as f64 / (run.seconds + run.drain_seconds));
        let mut result = ReloadResult {
            peer: peer.name.clone(),
            cell: reached.cell,
            rate: peak * SHARE,
            calm: Vec::new(),
            reloading: Vec::new(),
        };
        let mut pool = Some(pool);
        for _ in &reached.runs {
            for changing in [false, true] {
                let run = self.waiting(peer, reached.cell, result.rate, changing, &mut pool)?;
                match changing {
                    false => result.calm.push(run),
                    true => result.reloading.push(run),
                }
            }
        }
        Ok(result)
    }

    fn waiting(
        &self,
        peer: &Peer,
        cell: Cell,
        rate: f64,
        changing: bool,
        pool: &mut Option<Pool>,
    ) -> anyhow::Result<Waiting> {
        let sink = SinkThread::start(None)?;
        let places = Places::new(&self.dir, &format!("{}-{cell}", peer.name), &sink)?;
        let port = places.port(cell.protocol);
        let mut agent = Agent::start(peer, &places, port, self.agent_core)?;
        let warm_up_items = self.warm_up_items.max(1);
        let warmed = self.send(cell, port, pool, warm_up_items, 0)?;
        let before = warmed.tally.accepted.items;
        self.drain(&mut agent, peer, &sink.stats, before)?;

        let load = Load {
            duration: self.settle * DURATION,
            rate: Some(rate),
            first_item: warm_up_items,
            ..self.load(cell, port)?
        };
        let over = AtomicBool::new(!changing);
        let (run, reloads) = std::thread::scope(|scope| {
            let changes = scope.spawn(|| change_until(&over, &agent, peer, &places));
            let run = self.drive(load, pool);
            over.store(true, Ordering::Relaxed);
            let reloads = changes.join().expect("it returns its errors");
            anyhow::Ok((run?, reloads?))
        })?;
        let accepted = run.tally.accepted.items;
        self.drain(&mut agent, peer, &sink.stats, before + accepted)?;
        agent.stop()?;
        places.remove_queue()?;
        let latency = run.tally.latency.summary();
        Ok(Waiting {
            requests: run.tally.accepted.requests,
            reloads,
            p50_ms: latency.p50,
            p99_ms: latency.p99,
            max_ms: latency.max,
            accepted_items: accepted,
            delivered_items: sink.stats.snapshot().items() - before,
            refused_items: run.tally.refused_items() + run.tally.rejected_items,
            failed_items: run.tally.failed_items(),
        })
    }
}

/// Gives the agent another configuration every [`PERIOD`]; how many it took.
fn change_until(
    over: &AtomicBool,
    agent: &Agent,
    peer: &Peer,
    places: &Places,
) -> anyhow::Result<u64> {
    let mut turn = 0;
    while !over.load(Ordering::Relaxed) {
        turn += 1;
        agent.reload(peer, places, turn % 2)?;
        let deadline = Instant::now() + TAKEN_MAX;
        // Asked once where all is well: to be asked costs the agent something, too.
        std::thread::sleep(PERIOD);
        loop {
            let Reloads { taken, refused } = reloads(places.metrics_port)?;
            if refused > 0 {
                bail!("the agent refused a configuration:\n{}", agent.log_end());
            }
            if taken == turn {
                break;
            }
            if Instant::now() > deadline {
                bail!("the agent did not take a configuration within {TAKEN_MAX:?}");
            }
            std::thread::sleep(POLL);
        }
    }
    Ok(turn)
}

//! What becomes of an agent that is offered twice what it can take: how much gets through, in how much memory, and whether
//! who is refused is told when to come back.

use std::time::Duration;

use serde::Serialize;

use super::agent::Agent;
use super::cell::Cell;
use super::measure::Bench;
use super::peer::{Peer, Places};
use super::report::{CellResult, Spread};
use super::sink::SinkThread;
use crate::otlp::drive::Load;
use crate::otlp::payload::Pool;

/// The memory limit in `configs/overload.toml`.
pub(super) const LIMIT_MIB: u64 = 64;
/// Offered in proportion to what was reached in a closed loop.
const TIMES: f64 = 2.0;
/// Connections that offer it; so many requests can be under way.
const CONNECTIONS: usize = 32;
/// Items offered in proportion to those of a usual measurement: twice the rate for as long.
const ITEMS: f64 = TIMES;

/// What an agent was measured for under a load that is too high.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OverloadResult {
    pub(crate) peer: String,
    pub(crate) cell: Cell,
    /// Items per second that it passed on in a closed loop: the median.
    pub(crate) peak: f64,
    pub(crate) runs: Vec<Overload>,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Overload {
    /// Items due per second.
    pub(crate) offered: f64,
    /// Items per second that were accepted and passed on, until all of them had arrived.
    pub(crate) goodput: f64,
    pub(crate) accepted_items: u64,
    pub(crate) delivered_items: u64,
    /// Requests that were never accepted.
    pub(crate) refused_requests: u64,
    pub(crate) failed_items: u64,
    /// Requests that were due and could not be sent before the end.
    pub(crate) unsent_requests: u64,
    /// Answers that refused a request, and those that said when to come back.
    pub(crate) refusals: u64,
    pub(crate) refusals_with_hint: u64,
    /// From sending an accepted request to its answer.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) peak_bytes: u64,
}

impl Overload {
    pub(crate) fn lost_items(&self) -> u64 {
        self.accepted_items.saturating_sub(self.delivered_items)
    }

    pub(crate) fn surplus_items(&self) -> u64 {
        self.delivered_items.saturating_sub(self.accepted_items)
    }
}

impl OverloadResult {
    pub(super) fn spread(&self, figure: impl Fn(&Overload) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(figure)).unwrap_or(Spread::ZERO)
    }

    pub(super) fn sum(&self, figure: impl Fn(&Overload) -> u64) -> u64 {
        self.runs.iter().map(figure).sum()
    }
}

impl Bench {
    /// Offers twice the rate that `reached` says, as often as that was measured. The pool's payload has the cell's form.
    ///
    /// # Errors
    /// When the agent fails or the measurement is interrupted.
    pub(super) fn measure_overload(
        &self,
        peer: &Peer,
        reached: &CellResult,
        pool: Pool,
    ) -> anyhow::Result<OverloadResult> {
        let peak =
            reached.median(|run| run.accepted_items as f64 / (run.seconds + run.drain_seconds));
        let mut result = OverloadResult {
            peer: peer.name.clone(),
            cell: reached.cell,
            peak,
            runs: Vec::new(),
        };
        let mut pool = Some(pool);
        for _ in &reached.runs {
            let run = self.overload(peer, reached.cell, peak * TIMES, &mut pool)?;
            result.runs.push(run);
        }
        Ok(result)
    }

    fn overload(
        &self,
        peer: &Peer,
        cell: Cell,
        offered: f64,
        pool: &mut Option<Pool>,
    ) -> anyhow::Result<Overload> {
        let sink = SinkThread::start(None)?;
        let places = Places::new(&self.dir, &format!("{}-{cell}", peer.name), &sink)?;
        let port = places.port(cell.protocol);
        let mut agent = Agent::start(peer, &places, port, self.agent_core)?;
        let warmed = self.send(cell, port, pool, self.warm_up_items.max(1), 0)?;
        let before = warmed.tally.accepted.items;
        self.drain(&mut agent, peer, &sink.stats, before)?;

        let items = self.items as f64 * ITEMS;
        let load = Load {
            connections: CONNECTIONS,
            duration: Duration::from_secs_f64(
                (items / offered).clamp(0.1, self.time_max.as_secs_f64()),
            ),
            rate: Some(offered),
            retry: true,
            first_item: self.warm_up_items.max(1),
            ..self.load(cell, port)?
        };
        let started = std::time::Instant::now();
        let run = self.drive(load, pool)?;
        let accepted = run.tally.accepted.items;
        self.drain(&mut agent, peer, &sink.stats, before + accepted)?;
        let until_arrived = started.elapsed();
        let peak_bytes = agent.serving.peak_memory()?;
        agent.stop()?;
        let delivered = sink.stats.snapshot().items() - before;
        let refused = run.tally.refused.values();
        let service = run.tally.service.summary();
        Ok(Overload {
            offered,
            goodput: delivered as f64 / until_arrived.as_secs_f64(),
            accepted_items: accepted,
            delivered_items: delivered,
            refused_requests: refused.clone().map(|refused| refused.requests).sum(),
            failed_items: run.tally.failed_items(),
            unsent_requests: run.tally.unsent,
            refusals: refused.clone().map(|refused| refused.answers).sum(),
            refusals_with_hint: refused.map(|refused| refused.with_hint).sum(),
            p50_ms: service.p50,
            p99_ms: service.p99,
            peak_bytes,
        })
    }
}

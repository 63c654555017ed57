//! The result of a bench: every run, and the figures drawn from them.

use serde::Serialize;

use super::cell::{Cell, Work};
use super::durable::DurableResult;
use super::measure::Measurement;
use super::overload::OverloadResult;
use super::peer::{IN_MEMORY, PROXY, Peer};
use super::reload::{ReloadResult, Waiting};
use crate::otlp::client::Protocol;
use crate::otlp::payload::Facts;
use crate::record::Environment;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) environment: Environment,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) conditions: Conditions,
    pub(crate) peers: Vec<Peer>,
    pub(crate) payloads: Vec<Facts>,
    pub(crate) results: Vec<CellResult>,
    /// What queues on disk were measured for besides.
    pub(crate) durable: Vec<DurableResult>,
    /// What became of loads that were too high.
    pub(crate) overload: Vec<OverloadResult>,
    /// What clients noticed of reloads.
    pub(crate) reloads: Vec<ReloadResult>,
    pub(crate) failures: Vec<Failure>,
    /// Agents that were not measured, and why.
    pub(crate) skipped: Vec<String>,
}

/// How every measurement was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Conditions {
    pub(crate) items: u64,
    pub(crate) warm_up_items: u64,
    pub(crate) repetitions: usize,
    pub(crate) connections: usize,
    /// Items due per second; absent in a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) agent_core: Option<usize>,
    pub(crate) load_core: Option<usize>,
}

/// The repetitions of one agent in one cell.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CellResult {
    pub(crate) peer: String,
    pub(crate) cell: Cell,
    pub(crate) runs: Vec<Measurement>,
}

/// A measurement that could not be made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    pub(crate) peer: String,
    pub(crate) cell: Cell,
    pub(crate) error: String,
}

/// Median, least and greatest of the repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
}

impl Spread {
    pub(super) const ZERO: Self = Self {
        median: 0.0,
        least: 0.0,
        greatest: 0.0,
    };

    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len() % 2 == 1 {
            upper
        } else {
            (values.get(middle - 1)? + upper) / 2.0
        };
        Some(Self {
            median,
            least,
            greatest,
        })
    }
}

impl Failure {
    pub(crate) fn new(peer: &Peer, cell: Cell, error: &anyhow::Error) -> Self {
        Self {
            peer: peer.name.clone(),
            cell,
            error: format!("{error:#}"),
        }
    }
}

impl CellResult {
    /// A result without runs so far.
    pub(crate) fn new(peer: &Peer, cell: Cell) -> Self {
        Self {
            peer: peer.name.clone(),
            cell,
            runs: Vec::new(),
        }
    }

    pub(super) fn spread(&self, figure: impl Fn(&Measurement) -> f64) -> Option<Spread> {
        Spread::of(self.runs.iter().map(figure))
    }

    pub(super) fn median(&self, figure: impl Fn(&Measurement) -> f64) -> f64 {
        self.spread(figure).map_or(0.0, |spread| spread.median)
    }

    pub(super) fn sum(&self, figure: impl Fn(&Measurement) -> u64) -> u64 {
        self.runs.iter().map(figure).sum()
    }

    pub(super) fn greatest(&self, figure: impl Fn(&Measurement) -> u64) -> u64 {
        self.runs.iter().map(figure).max().unwrap_or(0)
    }
}

impl Report {
    /// Describes a payload, unless the same has been described.
    pub(crate) fn note_payload(&mut self, facts: &Facts) {
        let kind = |facts: &Facts| (facts.signal, facts.compression);
        if !self.payloads.iter().any(|known| kind(known) == kind(facts)) {
            self.payloads.push(facts.clone());
        }
    }

    /// The agent that the others are compared with.
    pub(super) fn reference(&self) -> Option<&str> {
        self.peers.first().map(|peer| peer.name.as_str())
    }

    pub(super) fn result(&self, peer: &str, cell: Cell) -> Option<&CellResult> {
        self.results
            .iter()
            .find(|result| result.peer == peer && result.cell == cell)
    }

    /// How many times the CPU time of the reverse proxy for the same signal over HTTP this took, by the medians.
    pub(crate) fn ratio_to_proxy(&self, result: &CellResult) -> Option<f64> {
        let proxy = Cell {
            work: Work::Passthrough,
            protocol: Protocol::Http,
            ..result.cell
        };
        self.ratio_to(PROXY, proxy, result)
    }

    /// How many times the reference's CPU time this agent took, by the medians.
    pub(crate) fn ratio(&self, result: &CellResult) -> Option<f64> {
        self.ratio_to(self.reference()?, result.cell, result)
    }

    /// How many times the CPU time with a queue in memory this took, by the medians.
    pub(crate) fn ratio_to_memory(&self, result: &CellResult) -> Option<f64> {
        self.ratio_to(IN_MEMORY, result.cell, result)
    }

    fn ratio_to(&self, peer: &str, cell: Cell, result: &CellResult) -> Option<f64> {
        let other = self.result(peer, cell)?;
        let other = other.spread(|run| run.cpu_seconds_per_million)?.median;
        let own = result.spread(|run| run.cpu_seconds_per_million)?.median;
        (other > 0.0).then_some(own / other)
    }

    /// Items accepted by an agent that answers when they are on disk, and never delivered.
    pub(crate) fn durably_lost_items(&self) -> u64 {
        let durable = |name: &str| {
            let peer = self.peers.iter().find(|peer| peer.name == name);
            peer.is_some_and(|peer| peer.durable)
        };
        let runs = self.results.iter().filter(|result| durable(&result.peer));
        let lost: u64 = runs.map(|result| result.sum(Measurement::lost_items)).sum();
        let reloads = self.reloads.iter().filter(|result| durable(&result.peer));
        let beside_reloads: u64 = reloads.map(|result| result.sum(Waiting::lost_items)).sum();
        let besides = self.durable.iter().map(DurableResult::lost_items);
        lost + beside_reloads + besides.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_least_and_greatest() {
        let check = |values: &[f64], expected| {
            let spread = Spread::of(values.iter().copied());
            assert_eq!(
                spread.map(|spread| (spread.median, spread.least, spread.greatest)),
                expected
            );
        };
        check(&[], None);
        check(&[2.0], Some((2.0, 2.0, 2.0)));
        check(&[3.0, 1.0], Some((2.0, 1.0, 3.0)));
        check(&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0)));
    }
}

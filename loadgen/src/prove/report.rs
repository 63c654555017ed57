//! What a proof has found: for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::ledger::{Ledger, Watched};
use super::pauses::Reloads;
use super::rounds::Done;
use super::stage::Storage;
use super::tables::{Lookup, Order};
use super::verdict::{Told, Wrong};
use crate::faults::board::Counts;
use crate::text::grouped;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) run: String,
    pub(super) seed: u64,
    pub(super) storage: Storage,
    pub(super) took: Duration,
    pub(super) rounds: Vec<Done>,
    pub(super) told: Told,
    pub(super) wrong: Wrong,
    pub(super) rows: u64,
    pub(super) lookup: Lookup,
    pub(super) order: Option<Order>,
    pub(super) ledger: Watched,
    /// As the agent's last process had it when its queues were empty, or the wait for that was over.
    pub(super) ledger_end: Ledger,
    pub(super) settled: bool,
    /// How the agent ended when it was asked to stop.
    pub(super) agent_end: String,
    pub(super) agent_ended_well: bool,
    pub(super) agent_peak_bytes: u64,
    pub(super) proxy: Counts,
    pub(super) overload: Option<Overload>,
    pub(super) reloads: Option<Reloads>,
    /// Whether nothing happened that is a reason to refuse a request, or to leave it without an answer.
    pub(super) refuses_nothing: bool,
    /// Whether every acceptance can be found in the ledger: not after a kill, which ends the process that counted.
    pub(super) ledger_is_whole: bool,
}

/// What only an overload has.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Overload {
    /// Items per second that the throttled destination takes.
    pub(super) capacity: f64,
    /// Items per second that clients were to send.
    pub(super) wanted: f64,
    /// Items per second that they did send while they were to, repetitions included.
    pub(super) offered: f64,
    pub(super) memory_max_bytes: u64,
    /// From the end of the load until everything was accepted and delivered.
    pub(super) caught_up: Duration,
}

impl Report {
    /// Everything that breaks the promise, in words; nothing when it holds.
    pub(super) fn violations(&self) -> Vec<String> {
        let Wrong {
            lost,
            duplicated,
            refused_but_stored,
            unanswered_and_duplicated,
            never_sent,
            misplaced,
            ..
        } = self.wrong;
        let end = self.ledger_end.total();
        let mut counted = vec![
            (lost, "items acknowledged and not stored"),
            (duplicated, "items acknowledged and stored more than once"),
            (refused_but_stored, "items refused and stored"),
            (
                unanswered_and_duplicated,
                "items without an answer stored more than once",
            ),
            (never_sent, "items stored that nobody sent"),
            (misplaced, "points in another table than theirs"),
            (
                self.told.rejected,
                "valid items rejected by partial success",
            ),
            (
                self.told.permanent_refusals,
                "valid requests refused for good",
            ),
            (
                self.told.refusals_without_hint,
                "refusals without a hint when to come back",
            ),
            (
                self.lookup.wrong,
                "traces for which the lookup view disagrees with the spans",
            ),
            (
                self.ledger.unbalanced,
                "scrapes in which the ledger does not add up",
            ),
            (
                u64::try_from(end.dropped).unwrap_or(0),
                "items dropped according to the ledger",
            ),
        ];
        if self.refuses_nothing {
            counted.push((self.told.refused, "items refused without a reason"));
            counted.push((self.told.unanswered, "items left without an answer"));
            counted.push((self.told.not_connected, "connections refused"));
        }
        if let Some(order) = &self.order {
            counted.push((order.out_of_order, "blocks out of order"));
        }
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let mut found: Vec<String> = counted
            .map(|(count, what)| format!("{} {what}", grouped(count)))
            .collect();
        found.extend(self.other_violations());
        found
    }

    fn other_violations(&self) -> Vec<String> {
        let reloads = self.reloads.as_ref();
        let mut found = reloads.map(Reloads::violations).unwrap_or_default();
        let end = self.ledger_end.total();
        if self.told.accepted == 0 {
            found.push("nothing was accepted: nothing is proved".to_owned());
        }
        if !self.settled {
            found.push(format!("{} items were still queued at the end", end.queued));
        }
        if !self.agent_ended_well {
            found.push(format!("the agent did not stop well: {}", self.agent_end));
        }
        let told = i64::try_from(self.told.accepted).unwrap_or(i64::MAX);
        let most = told.saturating_add_unsigned(self.told.unanswered);
        if self.ledger_is_whole && !(told..=most).contains(&end.accepted) {
            found.push(format!(
                "the ledger has {} items as accepted, clients were told of {told}, and not of {}",
                end.accepted, self.told.unanswered
            ));
        }
        if let Some(overload) = &self.overload {
            let (peak, most) = (self.agent_peak_bytes, overload.memory_max_bytes);
            found.extend(overload_violations(&self.told, peak, most));
        }
        found
    }
}

/// What must not be after clients that heed hints have offered too much.
fn overload_violations(told: &Told, peak_bytes: u64, bytes_max: u64) -> Vec<String> {
    let mut found = Vec::new();
    if peak_bytes > bytes_max {
        found.push(format!(
            "the agent took {} MiB of memory, allowed are {}",
            peak_bytes >> 20,
            bytes_max >> 20
        ));
    }
    if told.refusals == 0 {
        found.push("nothing was refused: it was no overload, offer more".to_owned());
    }
    let left = told.refused + told.unanswered;
    if left > 0 {
        found.push(format!(
            "{} items of honest clients did not get through in the end",
            grouped(left)
        ));
    }
    found
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "run        {} with seed {}, queue {:?}, {:.1} s",
            self.run,
            self.seed,
            self.storage,
            self.took.as_secs_f64()
        )?;
        self.show_rounds(f)?;
        self.show_items(f)?;
        self.show_agent(f)?;
        let order = self.order.iter().flat_map(|order| &order.examples);
        let examples = self.wrong.examples.iter().chain(&self.ledger.examples);
        for example in examples.chain(order) {
            writeln!(f, "example    {example}")?;
        }
        let violations = self.violations();
        for violation in &violations {
            writeln!(f, "VIOLATION  {violation}")?;
        }
        let verdict = if violations.is_empty() {
            "holds: every acknowledged item is stored exactly once"
        } else {
            "DOES NOT HOLD"
        };
        writeln!(f, "verdict    {verdict}")
    }
}

impl Report {
    fn show_rounds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut acts: BTreeMap<&str, usize> = BTreeMap::new();
        for round in &self.rounds {
            *acts.entry(round.what.as_str()).or_default() += 1;
        }
        for (act, times) in acts {
            writeln!(f, "rounds     {times} x {act}")?;
        }
        let injected: Vec<_> = self
            .proxy
            .injected
            .iter()
            .map(|(name, times)| format!("{name} {times}"))
            .collect();
        if injected.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "proxy      {} of {} inserts disturbed: {}",
            self.proxy.injected.values().sum::<u64>(),
            self.proxy.inserts,
            injected.join(", ")
        )
    }

    fn show_items(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, wrong, .. } = self;
        writeln!(
            f,
            "items      {} accepted, {} refused, {} without an answer",
            grouped(told.accepted),
            grouped(told.refused),
            grouped(told.unanswered)
        )?;
        for (status, requests) in &told.statuses {
            writeln!(f, "           {requests} requests: {status}")?;
        }
        writeln!(
            f,
            "stored     {} rows; lost={} duplicated={} refused_but_stored={} unanswered_twice={}",
            grouped(self.rows),
            wrong.lost,
            wrong.duplicated,
            wrong.refused_but_stored,
            wrong.unanswered_and_duplicated
        )?;
        let Lookup { traces, wrong } = self.lookup;
        writeln!(f, "lookup     {traces} traces, {wrong} wrong")?;
        match &self.order {
            Some(order) => writeln!(
                f,
                "order      {} blocks, {} out of order",
                order.blocks, order.out_of_order
            ),
            None => Ok(()),
        }
    }

    fn show_agent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.ledger_end.total();
        writeln!(
            f,
            "ledger     {} scrapes, {} unbalanced; at the end accepted {} = delivered {} + queued {} + dropped {}",
            self.ledger.scrapes,
            self.ledger.unbalanced,
            end.accepted,
            end.delivered,
            end.queued,
            end.dropped
        )?;
        writeln!(
            f,
            "agent      peak {} MiB, ended: {}",
            self.agent_peak_bytes >> 20,
            self.agent_end
        )?;
        if let Some(reloads) = &self.reloads {
            reloads.show(f)?;
        }
        match &self.overload {
            Some(overload) => writeln!(
                f,
                "overload   {:.0} items/s offered ({:.0} wanted), {:.0} taken; {} refusals; caught up in {:.1} s",
                overload.offered,
                overload.wanted,
                overload.capacity,
                self.told.refusals,
                overload.caught_up.as_secs_f64()
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overload_refuses_and_lets_everything_through_in_the_end() {
        let check = |refusals, refused, unanswered, peak, expected: &[&str]| {
            let told = Told {
                refusals,
                refused,
                unanswered,
                ..Told::default()
            };
            assert_eq!(overload_violations(&told, peak, 64 << 20), expected);
        };
        check(1, 0, 0, 64 << 20, &[]);
        let memory = "the agent took 65 MiB of memory, allowed are 64";
        let none = "nothing was refused: it was no overload, offer more";
        check(0, 0, 0, 65 << 20, &[memory, none]);
        let left = "3 items of honest clients did not get through in the end";
        check(1, 1, 2, 0, &[left]);
    }
}

//! The switchboard: which fault hits which request, and the count of what was done.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::Notify;

use super::fault::{Fault, Rule};

/// More rules than this are a mistake, and each costs every request.
pub(crate) const RULES_MAX: usize = 256;

/// The rules in force, shared by the proxy, its control endpoint, and whoever runs them.
#[derive(Debug)]
pub(crate) struct Board {
    /// Guards everything that requests and rules change.
    state: Mutex<State>,
    /// Woken when the rules change.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    rules: Vec<Active>,
    random: StdRng,
    counts: Counts,
    /// Refusing until then because a request drew it.
    refusing_until: Option<Instant>,
    /// When the next byte of throttled traffic may pass.
    next_byte: Instant,
}

#[derive(Debug)]
struct Active {
    rule: Rule,
    made: Instant,
    /// How often it has happened.
    times: u64,
}

/// What passed, and what was done to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    /// Requests seen; over plain TCP none are.
    pub(crate) requests: u64,
    /// Of these, such that carry data: INSERTs, OTLP exports.
    pub(crate) inserts: u64,
    /// Complete answers of the destination, passed on or not.
    pub(crate) answers: u64,
    /// Times the destination could not be reached or broke off.
    pub(crate) destination_failed: u64,
    /// Faults injected, by kind.
    pub(crate) injected: BTreeMap<&'static str, u64>,
}

impl Board {
    /// `seed` decides which requests are hit by rules with a share.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                rules: Vec::new(),
                random: StdRng::seed_from_u64(seed),
                counts: Counts::default(),
                refusing_until: None,
                next_byte: Instant::now(),
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts these rules in the place of those in force; none means that everything passes.
    pub(crate) fn set(&self, rules: Vec<Rule>) {
        let made = Instant::now();
        let active = |rule| Active {
            rule,
            made,
            times: 0,
        };
        let mut state = self.state();
        state.rules = rules.into_iter().take(RULES_MAX).map(active).collect();
        state.refusing_until = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// The rules in force, as text for people.
    pub(crate) fn rules(&self) -> Vec<String> {
        let describe =
            |active: &Active| format!("{:?}, happened {} times", active.rule.fault, active.times);
        self.state().rules.iter().map(describe).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Changes the counts.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.state().counts);
    }

    /// What happens to a request, if anything; counted.
    pub(crate) fn draw(&self, carries_data: bool) -> Option<Fault> {
        let now = Instant::now();
        let mut state = self.state();
        let State {
            rules,
            random,
            counts,
            refusing_until,
            ..
        } = &mut *state;
        let hit = rules.iter_mut().find(|active| {
            (carries_data || active.rule.all)
                && active.is_in_force(now)
                && (active.rule.share >= 1.0 || random.random_bool(active.rule.share))
        })?;
        hit.times += 1;
        let fault = hit.rule.fault;
        *counts.injected.entry(fault.name()).or_default() += 1;
        if let Fault::Refuse { period } = fault {
            *refusing_until = Some(now + period);
            drop(state);
            self.changed.notify_waiters();
        }
        Some(fault)
    }

    /// Whether connections are refused now.
    pub(crate) fn is_refusing(&self) -> bool {
        let now = Instant::now();
        let state = self.state();
        let by_rule = state.rules.iter().any(|active| {
            matches!(active.rule.fault, Fault::Refuse { .. })
                && active.rule.share >= 1.0
                && active.rule.times.is_none()
                && active.is_in_force(now)
        });
        by_rule || state.refusing_until.is_some_and(|until| now < until)
    }

    /// Returns when the rules change, at the latest after `poll`: rules begin and end by themselves.
    pub(crate) async fn changed(&self, poll: Duration) {
        // Whether it was a change or the time makes no difference to the caller, who looks again.
        drop(tokio::time::timeout(poll, self.changed.notified()).await);
    }

    /// Waits until `bytes` may pass, for everybody who is throttled at this rate.
    pub(crate) async fn throttle(&self, bytes: usize, bytes_per_second: u64) {
        let due = {
            let mut state = self.state();
            let share = Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
            state.next_byte = state.next_byte.max(Instant::now()) + share.min(THROTTLE_MAX);
            state.next_byte
        };
        tokio::time::sleep_until(due.into()).await;
    }
}

/// No single piece waits longer: a rate of 1 byte per second is no reason to overflow clocks.
const THROTTLE_MAX: Duration = Duration::from_secs(3600);

impl Active {
    fn is_in_force(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.made);
        age >= self.rule.begins
            && self
                .rule
                .lasts
                .is_none_or(|lasts| age < self.rule.begins + lasts)
            && self.rule.times.is_none_or(|times| self.times < times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(rules: &[&str]) -> Board {
        let board = Board::new(7);
        board.set(
            rules
                .iter()
                .map(|text| Rule::parse(text).unwrap())
                .collect(),
        );
        board
    }

    #[test]
    fn rules_hit_as_often_as_they_say_and_are_counted() {
        let board = board(&["cut-after:times=2", "cut-before"]);
        assert_eq!(board.draw(false), None);
        assert_eq!(board.draw(true), Some(Fault::CutAfter));
        assert_eq!(board.draw(true), Some(Fault::CutAfter));
        assert_eq!(board.draw(true), Some(Fault::CutBefore));
        board.set(Vec::new());
        assert_eq!(board.draw(true), None);
        let injected = board.counts().injected;
        assert_eq!((injected["cut-after"], injected["cut-before"]), (2, 1));
    }

    #[test]
    fn the_same_seed_hits_the_same_requests() {
        let draws = || -> Vec<_> {
            let board = board(&["cut-after:share=0.3", "delay:all:share=0.5"]);
            (0..100).map(|index| board.draw(index % 3 > 0)).collect()
        };
        assert_eq!(draws(), draws());
        assert!(draws().contains(&None) && draws().contains(&Some(Fault::CutAfter)));
    }

    #[test]
    fn rules_wait_for_their_time() {
        let waiting = board(&["cut-after:in=1h"]);
        assert_eq!(waiting.draw(true), None);
        let over = board(&["cut-after:for=0s"]);
        assert_eq!(over.draw(true), None);
    }

    #[test]
    fn refusing_lasts_as_long_as_the_rule_or_as_what_was_drawn() {
        assert!(board(&["refuse"]).is_refusing());
        assert!(!board(&["refuse:in=1h"]).is_refusing());
        let drawn = board(&["refuse:period=1h:times=1"]);
        assert!(!drawn.is_refusing());
        assert!(drawn.draw(true).is_some());
        assert!(drawn.is_refusing());
        drawn.set(Vec::new());
        assert!(!drawn.is_refusing());
    }
}

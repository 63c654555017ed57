//! What is done to agent and database while clients send: one act a round, in an order that the seed decides.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::Serialize;

use super::pauses::Reloaded;
use super::stage::Stage;
use crate::faults::fault::{Fault, Rule};

/// Load before each act, at random up to this.
const LOAD_MS: std::ops::Range<u64> = 50..700;
/// The same between reloads: the next one comes while the last is still seen to, or after.
const RELOADS_MS: std::ops::Range<u64> = 0..150;
/// How long something that was killed stays away.
const AWAY_MS: std::ops::Range<u64> = 0..300;
/// How long a fault of the proxy lasts.
const FAULT_MS: std::ops::Range<u64> = 200..900;
/// An agent that has just been started is killed again this often, and this soon: recovery must bear it.
const KILLED_AGAIN: f64 = 0.25;
const AGAIN_MS: std::ops::Range<u64> = 0..60;

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Act {
    KillAgent,
    KillDatabase,
    KillBoth,
    Fault(Fault),
    Reload,
}

/// How many rounds of each kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    pub(super) agent_kills: u32,
    pub(super) database_kills: u32,
    pub(super) both_kills: u32,
    pub(super) reloads: u32,
    pub(super) faults: Vec<Fault>,
    /// Rounds for each of the faults.
    pub(super) fault_rounds: u32,
    /// Share of the requests that are hit by one of the faults all the time.
    pub(super) fault_share: f64,
}

/// A round that is over.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Done {
    /// Since the start of the run.
    pub(super) at: Duration,
    pub(super) what: String,
}

impl Script {
    /// Whether nothing happens that is a reason to refuse a request.
    pub(super) fn is_quiet(&self) -> bool {
        self.agent_kills + self.database_kills + self.both_kills == 0 && self.faults.is_empty()
    }

    /// The acts in the order in which they happen.
    pub(super) fn acts(&self, random: &mut StdRng) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut add = |act, times| acts.extend((0..times).map(|_| act));
        add(Act::KillAgent, self.agent_kills);
        add(Act::KillDatabase, self.database_kills);
        add(Act::KillBoth, self.both_kills);
        add(Act::Reload, self.reloads);
        for fault in &self.faults {
            add(Act::Fault(*fault), self.fault_rounds);
        }
        acts.shuffle(random);
        acts
    }

    /// The rules in force between acts.
    pub(super) fn background(&self) -> Vec<Rule> {
        if self.faults.is_empty() || self.fault_share <= 0.0 {
            return Vec::new();
        }
        Rule::spread(&self.faults, self.fault_share)
    }
}

/// Plays a script on a stage.
pub(super) struct Play<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) script: &'a Script,
    pub(super) random: &'a mut StdRng,
    /// The start of the run.
    pub(super) start: Instant,
    /// Takes the reloads.
    pub(super) reloads: Vec<Reloaded>,
}

impl Play<'_> {
    /// # Errors
    /// When agent or database end by themselves or do not come back: that is a finding too, with the log's end.
    pub(super) async fn run(&mut self) -> anyhow::Result<Vec<Done>> {
        let acts = self.script.acts(self.random);
        let rounds = acts.len();
        let mut done = Vec::with_capacity(rounds);
        self.stage.proxy.board.set(self.script.background());
        for (round, act) in acts.into_iter().enumerate() {
            let load = match act {
                Act::Reload => RELOADS_MS,
                _ => LOAD_MS,
            };
            self.pause(load).await;
            self.stage.agent.check_alive()?;
            let at = self.start.elapsed();
            let what = self.act(act).await?;
            tracing::info!("round {} of {rounds}: {what}", round + 1);
            done.push(Done { at, what });
        }
        self.pause(LOAD_MS).await;
        self.stage.proxy.board.set(Vec::new());
        Ok(done)
    }

    async fn act(&mut self, act: Act) -> anyhow::Result<String> {
        match act {
            Act::KillAgent => {
                self.stage.agent.kill()?;
                self.pause(AWAY_MS).await;
                let again = self.start_agent().await?;
                Ok(format!("agent killed{again}"))
            }
            Act::KillDatabase => {
                self.kill_database()?;
                self.pause(AWAY_MS).await;
                self.start_database().await?;
                Ok("database killed".to_owned())
            }
            Act::KillBoth => {
                self.stage.agent.kill()?;
                self.kill_database()?;
                self.pause(AWAY_MS).await;
                // Either may be back first.
                let again = if self.random.random_bool(0.5) {
                    self.start_database().await?;
                    self.start_agent().await?
                } else {
                    let again = self.start_agent().await?;
                    self.pause(AWAY_MS).await;
                    self.start_database().await?;
                    again
                };
                Ok(format!("agent and database killed{again}"))
            }
            Act::Reload => {
                let reloaded = self.stage.reload(self.random, self.start).await?;
                let what = match reloaded.flaw {
                    None => "reloaded".to_owned(),
                    Some(flaw) => format!("refused to reload: {flaw}"),
                };
                self.reloads.push(reloaded);
                Ok(what)
            }
            Act::Fault(fault) => {
                let rule = Rule {
                    fault,
                    all: false,
                    share: 1.0,
                    times: None,
                    begins: Duration::ZERO,
                    lasts: None,
                };
                self.stage.proxy.board.set(vec![rule]);
                self.pause(FAULT_MS).await;
                self.stage.proxy.board.set(self.script.background());
                Ok(format!("{fault:?}"))
            }
        }
    }

    /// Starts the agent, and says if it was killed once more on the way.
    async fn start_agent(&mut self) -> anyhow::Result<&'static str> {
        let mut again = "";
        self.stage.agent.start()?;
        if self.random.random_bool(KILLED_AGAIN) {
            self.pause(AGAIN_MS).await;
            self.stage.agent.kill()?;
            self.stage.agent.start()?;
            again = ", and again at its start";
        }
        self.stage.agent.serves().await?;
        Ok(again)
    }

    fn kill_database(&mut self) -> anyhow::Result<()> {
        match &mut self.stage.database {
            Some(database) => database.kill(),
            None => Ok(()),
        }
    }

    async fn start_database(&mut self) -> anyhow::Result<()> {
        if let Some(database) = &mut self.stage.database {
            database.start()?;
            database.serves().await?;
        }
        Ok(())
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        let millis = self.random.random_range(millis);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_script_is_played_in_an_order_that_the_seed_decides() {
        let script = Script {
            agent_kills: 5,
            database_kills: 2,
            both_kills: 1,
            reloads: 0,
            faults: vec![Fault::CutAfter, Fault::CutBefore],
            fault_rounds: 3,
            fault_share: 0.1,
        };
        let acts = |seed| script.acts(&mut StdRng::seed_from_u64(seed));
        assert_eq!(acts(1), acts(1));
        assert_ne!(acts(1), acts(2));
        let count = |act| acts(1).iter().filter(|found| **found == act).count();
        assert_eq!((count(Act::KillAgent), count(Act::KillDatabase)), (5, 2));
        assert_eq!(count(Act::Fault(Fault::CutAfter)), 3);
        assert_eq!(acts(1).len(), 14);
        assert_eq!(script.background().len(), 2);
        assert!(Script::default().background().is_empty());
    }
}

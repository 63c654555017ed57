//! What reloads did to clients and to the agent: how long requests took beside them and apart, and what has grown.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::sender::{Record, Sent};
use crate::otlp::client::Protocol;

/// A reload that is over. Times are since the start of the run.
#[derive(Debug, Clone)]
pub(super) struct Reloaded {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) flaw: Option<&'static str>,
    /// What came of it, where that is not what had to.
    pub(super) surprise: Option<String>,
    pub(super) usage: Usage,
}

/// What the agent uses.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Usage {
    pub(super) memory_bytes: u64,
    pub(super) files: u64,
    pub(super) threads: u64,
    /// Tasks of its runtime; 0 where it does not say.
    pub(super) tasks: u64,
}

/// What reloads did to clients and to the agent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reloads {
    pub(super) reloaded: usize,
    /// Bad configurations, which must be refused.
    pub(super) refused: usize,
    pub(super) surprises: Vec<String>,
    /// Requests that were under way during a reload, and how long they took.
    pub(super) beside: Times,
    /// The others.
    pub(super) apart: Times,
    /// The same for each protocol.
    pub(super) protocols: Vec<Waits>,
    /// How long reloads took.
    pub(super) took: Times,
    /// After the first tenth of the reloads, and when all was over.
    pub(super) usage: [Usage; 2],
}

/// How long the requests of one protocol took.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Waits {
    pub(super) protocol: Protocol,
    pub(super) beside: Times,
    pub(super) apart: Times,
    /// The longest request of each reload that was taken: what a client sees at worst.
    pub(super) pauses: Times,
}

/// How long something took.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Times {
    pub(super) count: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let place = (times.len() as f64 * share) as usize;
            let place = place.min(times.len().saturating_sub(1));
            times.get(place).copied().unwrap_or_default()
        };
        Self {
            count: times.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// More than these between the first tenth and the end is growth.
const MEMORY_GROWTH_MAX: u64 = 96 << 20;
const FILES_GROWTH_MAX: u64 = 24;
const THREADS_GROWTH_MAX: u64 = 24;
const TASKS_GROWTH_MAX: u64 = 64;

impl Reloads {
    pub(super) fn new(reloads: &[Reloaded], records: &[Record], end: Usage) -> Self {
        let protocols = [Protocol::Http, Protocol::Grpc].map(|protocol| {
            let records = records.iter();
            let records = records.filter(|record| record.protocol == protocol);
            Observed::of(reloads, records.flat_map(|record| &record.sent))
        });
        let all = |times: fn(&Observed) -> &Vec<Duration>| {
            Times::of(protocols.iter().flat_map(times).copied().collect())
        };
        let (beside, apart) = (all(|seen| &seen.beside), all(|seen| &seen.apart));
        let [http, grpc] = protocols;
        let bad = reloads.iter().filter(|reload| reload.flaw.is_some());
        let refused = bad.count();
        let surprises = reloads.iter().filter_map(|reload| reload.surprise.clone());
        let first = reloads.get(reloads.len() / 10);
        let took = reloads.iter().map(|reload| reload.ended - reload.began);
        Self {
            reloaded: reloads.len() - refused,
            refused,
            surprises: surprises.collect(),
            beside,
            apart,
            protocols: vec![
                http.into_waits(Protocol::Http),
                grpc.into_waits(Protocol::Grpc),
            ],
            took: Times::of(took.collect()),
            usage: [first.map(|reload| reload.usage).unwrap_or_default(), end],
        }
    }

    pub(super) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "reloads    {} taken, {} refused as they had to be; p50 {:.1?} p99 {:.1?}",
            self.reloaded, self.refused, self.took.p50, self.took.p99
        )?;
        for waits in &self.protocols {
            let protocol = waits.protocol;
            for (what, times) in [
                ("requests beside a reload", &waits.beside),
                ("requests apart from one", &waits.apart),
                ("reloads, the longest beside each", &waits.pauses),
            ] {
                let Times {
                    count,
                    p50,
                    p99,
                    max,
                } = times;
                writeln!(
                    f,
                    "           {protocol}: {count} {what}: p50 {p50:.1?} p99 {p99:.1?} max {max:.1?}"
                )?;
            }
        }
        let [first, end] = self.usage;
        writeln!(
            f,
            "           early and in the end: {} and {} MiB, {} and {} open files, {} and {} threads, {} and {} tasks",
            first.memory_bytes >> 20,
            end.memory_bytes >> 20,
            first.files,
            end.files,
            first.threads,
            end.threads,
            first.tasks,
            end.tasks
        )
    }

    /// What breaks the promise.
    pub(super) fn violations(&self) -> Vec<String> {
        let [first, end] = self.usage;
        let grown = [
            (
                "bytes of memory",
                first.memory_bytes,
                end.memory_bytes,
                MEMORY_GROWTH_MAX,
            ),
            ("open files", first.files, end.files, FILES_GROWTH_MAX),
            ("threads", first.threads, end.threads, THREADS_GROWTH_MAX),
            ("tasks", first.tasks, end.tasks, TASKS_GROWTH_MAX),
        ];
        let grown = grown
            .into_iter()
            .filter(|(_, first, end, max)| *end > first + max)
            .map(|(what, first, end, _)| format!("{what} grew from {first} to {end}"));
        let surprises = self.surprises.iter().take(8);
        let surprises =
            surprises.map(|surprise| format!("a reload came out otherwise: {surprise}"));
        grown.chain(surprises).collect()
    }
}

/// How long each request took.
struct Observed {
    beside: Vec<Duration>,
    apart: Vec<Duration>,
    pauses: Vec<Duration>,
}

impl Observed {
    /// `reloads` are in the order of time, one after the other.
    fn of<'a>(reloads: &[Reloaded], requests: impl Iterator<Item = &'a Sent>) -> Self {
        let mut longest = vec![Duration::ZERO; reloads.len()];
        let (mut beside, mut apart) = (Vec::new(), Vec::new());
        for sent in requests {
            let began = sent.known.saturating_sub(sent.took);
            // The first that ends after the request began.
            let next = reloads.partition_point(|reload| reload.ended < began);
            let behind = reloads.iter().zip(&mut longest).skip(next);
            let mut overlaps = false;
            for (_, longest) in behind.take_while(|(reload, _)| reload.began <= sent.known) {
                overlaps = true;
                *longest = (*longest).max(sent.took);
            }
            match overlaps {
                true => beside.push(sent.took),
                false => apart.push(sent.took),
            }
        }
        let taken = reloads.iter().zip(longest);
        let taken = taken.filter(|(reload, longest)| reload.flaw.is_none() && !longest.is_zero());
        Self {
            beside,
            apart,
            pauses: taken.map(|(_, longest)| longest).collect(),
        }
    }

    fn into_waits(self, protocol: Protocol) -> Waits {
        Waits {
            protocol,
            beside: Times::of(self.beside),
            apart: Times::of(self.apart),
            pauses: Times::of(self.pauses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::sender::Fate;

    #[test]
    fn requests_count_for_every_reload_that_they_overlap() {
        let millis = Duration::from_millis;
        let reload = |began, ended, flaw| Reloaded {
            began: millis(began),
            ended: millis(ended),
            flaw,
            surprise: None,
            usage: Usage::default(),
        };
        let request = |began, took| Sent {
            first: 0,
            items: 1,
            fate: Fate::Accepted,
            known: millis(began + took),
            took: millis(took),
        };
        let reloads = [
            reload(10, 20, None),
            reload(30, 40, Some("syntax")),
            reload(50, 60, None),
        ];
        let requests = [
            request(0, 5),
            request(5, 6),
            request(15, 40),
            request(52, 3),
            request(62, 9),
        ];
        let seen = Observed::of(&reloads, requests.iter());
        assert_eq!(seen.beside, [6, 40, 3].map(millis));
        assert_eq!(seen.apart, [5, 9].map(millis));
        assert_eq!(seen.pauses, [40, 40].map(millis));
    }
}

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
    /// Resident.
    pub(super) memory_bytes: u64,
    /// Telemetry that it holds, as it says itself.
    pub(super) held_bytes: u64,
    pub(super) files: u64,
    pub(super) threads: u64,
    /// Tasks of its runtime; 0 where it does not say.
    pub(super) tasks: u64,
}

impl Usage {
    /// Without the telemetry, which grows with what the destination does not take.
    fn own(self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(self.held_bytes),
            ..self
        }
    }

    /// The least of each figure.
    fn least(all: impl Iterator<Item = Self>) -> Self {
        let least = all.reduce(|one, other| Self {
            memory_bytes: one.memory_bytes.min(other.memory_bytes),
            held_bytes: one.held_bytes.min(other.held_bytes),
            files: one.files.min(other.files),
            threads: one.threads.min(other.threads),
            tasks: one.tasks.min(other.tasks),
        });
        least.unwrap_or_default()
    }

    /// The least over a part of the reloads, from one share of them to another.
    fn least_of(reloads: &[Reloaded], (from, to): (f64, f64)) -> Self {
        let at = |share: f64| (reloads.len() as f64 * share).round() as usize;
        let part = reloads.get(at(from)..at(to)).unwrap_or_default();
        Self::least(part.iter().map(|reload| reload.usage.own()))
    }

    fn early_and_late(reloads: &[Reloaded], end: Self) -> [Self; 2] {
        let late = [Self::least_of(reloads, LATE), end.own()];
        [
            Self::least_of(reloads, EARLY),
            Self::least(late.into_iter()),
        ]
    }
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
    /// The least that was used after a reload, early and late, telemetry aside: what each leaves behind shows in it, what comes and
    /// goes with load and configuration does not.
    pub(super) usage: [Usage; 2],
    /// When all was delivered.
    pub(super) end: Usage,
    /// Whether nothing else happened: then it must not have grown.
    pub(super) alone: bool,
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

/// The reloads whose usage is compared. The first tenth warms up: caches and threads come to be.
const EARLY: (f64, f64) = (0.1, 0.35);
const LATE: (f64, f64) = (0.75, 1.0);

/// More than these from early to late is growth.
const MEMORY_GROWTH_MAX: u64 = 24 << 20;
const FILES_GROWTH_MAX: u64 = 6;
const THREADS_GROWTH_MAX: u64 = 4;
const TASKS_GROWTH_MAX: u64 = 16;

/// What is more than it may be.
fn grown(early: Usage, late: Usage) -> impl Iterator<Item = String> {
    let figures = [
        (
            "bytes of memory, telemetry aside,",
            early.memory_bytes,
            late.memory_bytes,
            MEMORY_GROWTH_MAX,
        ),
        ("open files", early.files, late.files, FILES_GROWTH_MAX),
        ("threads", early.threads, late.threads, THREADS_GROWTH_MAX),
        ("tasks", early.tasks, late.tasks, TASKS_GROWTH_MAX),
    ];
    let grown = figures
        .into_iter()
        .filter(|(_, early, late, max)| *late > early + max);
    grown.map(|(what, early, late, max)| {
        format!("{what} grew from {early} to {late}, by more than {max}")
    })
}

/// Whether the agent has grown over the reloads, if `now` is what it uses when all is delivered.
pub(super) fn have_left_something(reloads: &[Reloaded], now: Usage) -> bool {
    let [early, late] = Usage::early_and_late(reloads, now);
    grown(early, late).next().is_some()
}

impl Reloads {
    pub(super) fn new(reloads: &[Reloaded], records: &[Record], end: Usage, alone: bool) -> Self {
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
            usage: Usage::early_and_late(reloads, end),
            end,
            alone,
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
        let [early, late] = self.usage;
        let when = [
            ("least, early", early),
            ("least, late", late),
            ("in the end", self.end.own()),
        ];
        for (when, usage) in when {
            let mib = usage.memory_bytes as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "           {when}: {mib:.1} MiB without telemetry, {} open files, {} threads, {} tasks",
                usage.files, usage.threads, usage.tasks
            )?;
        }
        Ok(())
    }

    /// What breaks the promise.
    pub(super) fn violations(&self) -> Vec<String> {
        let [early, late] = self.usage;
        let grown = grown(early, late).filter(|_| self.alone);
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

    /// `usage` of each of 1,000 reloads; what is wrong with it.
    fn judged(alone: bool, usage: impl Fn(u64) -> Usage) -> Vec<String> {
        let reload = |number| Reloaded {
            began: Duration::ZERO,
            ended: Duration::ZERO,
            flaw: None,
            surprise: None,
            usage: usage(number),
        };
        let reloads: Vec<_> = (0..1000).map(reload).collect();
        Reloads::new(&reloads, &[], usage(1000), alone).violations()
    }

    /// What comes and goes with load and configuration.
    fn healthy(number: u64) -> Usage {
        let swing = number * 7919 % 16;
        Usage {
            memory_bytes: (60 << 20) + (swing << 20),
            held_bytes: swing << 19,
            files: 50 + swing,
            threads: 12 + swing / 4,
            tasks: 80 + swing,
        }
    }

    #[test]
    fn what_each_reload_leaves_behind_is_growth() {
        assert_eq!(judged(true, healthy), [""; 0]);
        let check = |what: &str, leaves: fn(&mut Usage, u64)| {
            let usage = |number| {
                let mut usage = healthy(number);
                leaves(&mut usage, number);
                usage
            };
            let found = judged(true, usage);
            assert!(found.len() == 1 && found[0].starts_with(what), "{found:?}");
            assert_eq!(judged(false, usage), [""; 0]);
        };
        check("bytes of memory", |usage, number| {
            usage.memory_bytes += number * (64 << 10);
        });
        check("open files", |usage, number| usage.files += number / 50);
        check("threads", |usage, number| usage.threads += number / 50);
        check("tasks", |usage, number| usage.tasks += number / 20);
        // What waits for the destination is no growth.
        let waits = |number| {
            let mut usage = healthy(number);
            usage.memory_bytes += number << 17;
            usage.held_bytes += number << 17;
            usage
        };
        assert_eq!(judged(true, waits), [""; 0]);
    }

    #[test]
    fn what_goes_away_when_all_is_delivered_was_not_left_behind() {
        let reload = |threads| Reloaded {
            began: Duration::ZERO,
            ended: Duration::ZERO,
            flaw: None,
            surprise: None,
            usage: Usage {
                threads,
                ..Usage::default()
            },
        };
        let reloads: Vec<_> = (0..40).map(|number| reload(8 + number / 4)).collect();
        let now = |threads| Usage {
            threads,
            ..Usage::default()
        };
        assert!(have_left_something(&reloads, now(16)));
        assert!(!have_left_something(&reloads, now(12)));
        assert!(!have_left_something(&[], now(12)));
    }

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

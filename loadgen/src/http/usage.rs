//! What the generator used of the machine, and others beside it.

use std::time::Duration;

use tokio::time::Instant;

use super::drive::Finished;
use crate::record::Counters;
use crate::stats::Latencies;

/// A generator that is later than this for one request in a hundred measures itself.
const LATENESS_MAX_MS: f64 = 10.0;
/// With this share of all cores in use by it, more load was not to be had from this generator.
const CPU_SHARE_MAX: f64 = 0.9;
/// With this share of all cores in use by others, it is they that keep the generator from its work.
const OTHERS_SHARE_MAX: f64 = 0.5;

/// The system tells CPU time in hundredths of a second: of a shorter run it says nothing.
const WALL_MIN: Duration = Duration::from_millis(200);

/// Takes the time of a run.
pub(super) struct Meter {
    start: Instant,
    counters: Counters,
}

/// CPU time during a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// By all other processes; what was measured is among them if it runs here. `None` where the system does not say.
    others: Option<Duration>,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            counters: Counters::read(),
        }
    }

    pub(super) fn instant(&self) -> Instant {
        self.start
    }

    pub(super) fn stop(self) -> Usage {
        let spent = Counters::read().since(&self.counters);
        Usage {
            cpu: spent.own.unwrap_or_default(),
            wall: self.start.elapsed(),
            others: spent.others(),
        }
    }
}

impl Usage {
    fn cores_of(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }

    /// A line for people.
    pub(super) fn shown(&self) -> String {
        let own = format!(
            "generator: {:.2} s CPU, {:.2} cores",
            self.cpu.as_secs_f64(),
            self.cores_of(self.cpu)
        );
        match self.others {
            Some(others) => format!(
                "{own}; other processes: {:.2} of {} cores",
                self.cores_of(others),
                cores()
            ),
            None => own,
        }
    }

    /// Why the figures are not the service's but those of the generator, or of the machine that it runs on.
    pub(super) fn bottleneck(&self, finished: &[Finished]) -> Option<String> {
        let mut lateness = Latencies::new();
        let clocks = finished
            .iter()
            .filter_map(|it| it.outcome.lateness.as_ref());
        clocks.for_each(|it| lateness.merge(it));
        self.too_busy(lateness.summary().p99)
    }

    fn too_busy(&self, lateness_ms: f64) -> Option<String> {
        let own = self.cores_of(self.cpu);
        if self.wall >= WALL_MIN && own > cores() * CPU_SHARE_MAX {
            let of = cores();
            return Some(format!(
                "the generator was the bottleneck: it used {own:.1} of {of} cores"
            ));
        }
        if lateness_ms <= LATENESS_MAX_MS {
            return None;
        }
        let late = format!("the generator's own clock was {lateness_ms:.1} ms late (p99)");
        let others = self.others.map(|it| self.cores_of(it));
        Some(match others.filter(|it| *it > cores() * OTHERS_SHARE_MAX) {
            Some(others) => format!(
                "this machine was too busy: {late}, while other processes used {others:.1} of {} cores",
                cores()
            ),
            None => format!("the generator was the bottleneck: {late}"),
        })
    }
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1, usize::from) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_in_the_way_is_named() {
        let check = |own: f64, others: f64, lateness_ms: f64, expected: Option<&str>| {
            let share = |it: f64| Duration::from_secs_f64(it * cores());
            let usage = Usage {
                cpu: share(own),
                wall: Duration::from_secs(1),
                others: Some(share(others)),
            };
            let found = usage.too_busy(lateness_ms);
            match (&found, expected) {
                (None, None) => {}
                (Some(found), Some(expected)) if found.contains(expected) => {}
                _ => panic!("{found:?}, not {expected:?}"),
            }
        };
        check(0.1, 0.9, 9.0, None);
        check(
            0.95,
            0.0,
            0.0,
            Some("the generator was the bottleneck: it used"),
        );
        check(
            0.1,
            0.2,
            11.0,
            Some("the generator was the bottleneck: the generator's own clock was 11.0 ms late"),
        );
        check(
            0.1,
            0.8,
            11.0,
            Some(
                "this machine was too busy: the generator's own clock was 11.0 ms late (p99), while other",
            ),
        );
        let short = Usage {
            cpu: Duration::from_secs_f64(0.003 * cores()),
            wall: Duration::from_millis(3),
            others: None,
        };
        assert_eq!(short.too_busy(0.0), None);
    }
}

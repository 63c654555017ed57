//! Whether everything that has work gets on with it: what a watchdog asks before it says that the process is well.
//!
//! Whoever does work in a loop has a [`Pulse`] on a [`Line`] and says with it what it does next. Invariants:
//!
//! - [`Pulse::rests`]: it waits for work, and whoever brings some wakes it. Any time is fine, unless work waits on the
//!   line while everybody on it rests, for `UNNOTICED_MAX`: then a wake-up was lost.
//! - [`Pulse::waits_outside`]: it waits for a disk, or for somebody without a time limit. Any time is fine.
//! - [`Pulse::within`]: it has a time limit of its own, such as an attempt's timeout, a backoff or a batch's deadline, or
//!   computes. It says the next thing before that is over: a destination that is down is found out by the limit,
//!   so that only a worker that hangs is late.
//! - A line whose last worker ends by a panic has nobody: that mends only if somebody takes it over, as after a reload.
//!
//! Saying so costs two atomic stores and a look at the clock, a few times per batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long work may lie on a line whose workers all rest. Work is noticed within microseconds, but who has it for the
/// moment may wait for a disk on behalf of all others; this is longer than disks take.
const UNNOTICED_MAX: Duration = Duration::from_secs(60);

/// For work that only computes: a batch takes milliseconds, and this is enough for the largest on the busiest machine.
pub const COMPUTING_MAX: Duration = Duration::from_secs(30);

/// Everything in a process that has to get on. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Lines>>);

/// Guarded by the lock of [`Progress`].
#[derive(Debug, Default)]
struct Lines {
    alive: Vec<Weak<Shared>>,
    /// Names of lines whose last worker has panicked.
    broken: Vec<String>,
}

/// Where work of one kind waits, and those who do it. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Line {
    progress: Progress,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    /// Whether work waits that nobody has taken. May be called at any time, from any thread.
    has_work: Box<dyn Fn() -> bool + Send + Sync>,
    /// Guards the pulses, and since when work was seen to wait unnoticed with how many steps done by then.
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    pulses: Vec<Arc<State>>,
    unnoticed: Option<(Instant, u64)>,
}

#[derive(Debug)]
struct State {
    /// Counts what was said.
    steps: AtomicU64,
    /// [`RESTS`], [`OUTSIDE`], or the milliseconds since the process began by which the next thing is said.
    until: AtomicU64,
}

const RESTS: u64 = u64::MAX;
const OUTSIDE: u64 = u64::MAX - 1;

/// Somebody who does work.
#[derive(Debug)]
pub struct Pulse {
    state: Arc<State>,
    /// `None` for a pulse that nobody looks at.
    line: Option<Line>,
}

/// Somebody who does not get on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The line's name.
    pub line: String,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.line, self.why)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// A line without work so far. `has_work` tells whether some waits that nobody has taken.
    pub fn line(
        &self,
        name: impl Into<String>,
        has_work: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Line {
        let shared = Arc::new(Shared {
            name: name.into(),
            has_work: Box::new(has_work),
            members: Mutex::default(),
        });
        let mut lines = self.lines();
        lines.alive.retain(|line| line.strong_count() > 0);
        lines.alive.push(Arc::downgrade(&shared));
        Line {
            progress: self.clone(),
            shared,
        }
    }

    /// Who does not get on at `now`. `grace` is what may be added to every limit.
    pub fn stuck(&self, now: Instant, grace: Duration) -> Vec<Stuck> {
        let (alive, broken) = {
            let lines = self.lines();
            let alive: Vec<_> = lines.alive.iter().filter_map(Weak::upgrade).collect();
            (alive, lines.broken.clone())
        };
        let broken = broken.into_iter().map(|line| Stuck {
            line,
            why: "its last worker has panicked".to_owned(),
        });
        broken
            .chain(alive.iter().filter_map(|line| line.stuck(now, grace)))
            .collect()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Another worker on the line, at rest.
    pub fn pulse(&self) -> Pulse {
        let state = Arc::new(State::new());
        let name = &self.shared.name;
        self.progress.lines().broken.retain(|broken| broken != name);
        self.shared.members().pulses.push(Arc::clone(&state));
        Pulse {
            state,
            line: Some(self.clone()),
        }
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck(&self, now: Instant, grace: Duration) -> Option<Stuck> {
        let stuck = |why| {
            Some(Stuck {
                line: self.name.clone(),
                why,
            })
        };
        // Asked before the members: the queue's lock is never taken inside this one.
        let has_work = (self.has_work)();
        let mut members = self.members();
        let late = members.pulses.iter().filter_map(|state| state.late(now));
        if let Some(late) = late.max()
            && late > grace
        {
            return stuck(format!("a worker is {late:.1?} late"));
        }
        let all_rest = members.pulses.iter().all(|state| state.rests());
        let steps = members.pulses.iter().map(|state| state.steps()).sum();
        if !has_work || !all_rest || members.pulses.is_empty() {
            members.unnoticed = None;
            return None;
        }
        let since = match members.unnoticed {
            Some((since, before)) if before == steps => since,
            _ => now,
        };
        members.unnoticed = Some((since, steps));
        let waited = now.saturating_duration_since(since);
        if waited > UNNOTICED_MAX.max(grace) {
            return stuck(format!(
                "work has waited for {waited:.0?} and nobody takes it"
            ));
        }
        None
    }
}

// === impl Pulse ===

impl Pulse {
    /// A pulse that nobody looks at.
    pub fn unwatched() -> Self {
        Self {
            state: Arc::new(State::new()),
            line: None,
        }
    }

    /// It waits for work.
    pub fn rests(&self) {
        self.state.say(RESTS);
    }

    /// It waits for a disk or the like, for as long as it takes.
    pub fn waits_outside(&self) {
        self.state.say(OUTSIDE);
    }

    /// It says the next thing before `limit` is over.
    pub fn within(&self, limit: Duration) {
        let until = milliseconds(Instant::now()).saturating_add(to_millis(limit));
        self.state.say(until.min(OUTSIDE - 1));
    }

    /// It says the next thing by `deadline`.
    pub fn until(&self, deadline: Instant) {
        self.within(deadline.saturating_duration_since(Instant::now()));
    }

    /// It computes, and that ends by itself.
    pub fn computes(&self) {
        self.within(COMPUTING_MAX);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let Some(line) = &self.line else { return };
        let is_last = {
            let mut members = line.shared.members();
            members
                .pulses
                .retain(|state| !Arc::ptr_eq(state, &self.state));
            members.unnoticed = None;
            members.pulses.is_empty()
        };
        if is_last && std::thread::panicking() {
            line.progress.lines().broken.push(line.shared.name.clone());
        }
    }
}

impl State {
    fn new() -> Self {
        Self {
            steps: AtomicU64::new(0),
            until: AtomicU64::new(RESTS),
        }
    }

    fn say(&self, until: u64) {
        self.until.store(until, Ordering::Release);
        self.steps.fetch_add(1, Ordering::Release);
    }

    fn steps(&self) -> u64 {
        self.steps.load(Ordering::Acquire)
    }

    fn rests(&self) -> bool {
        self.until.load(Ordering::Acquire) == RESTS
    }

    /// By how much its limit is over.
    fn late(&self, now: Instant) -> Option<Duration> {
        match self.until.load(Ordering::Acquire) {
            RESTS | OUTSIDE => None,
            until => Some(Duration::from_millis(
                milliseconds(now).saturating_sub(until),
            )),
        }
    }
}

/// Milliseconds since the first call in this process.
fn milliseconds(now: Instant) -> u64 {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let epoch = EPOCH.get_or_init(Instant::now);
    to_millis(now.saturating_duration_since(*epoch))
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn lines(progress: &Progress, after: Duration) -> Vec<String> {
        let stuck = progress.stuck(Instant::now() + after, GRACE);
        stuck.into_iter().map(|stuck| stuck.to_string()).collect()
    }

    #[test]
    fn only_a_worker_with_a_limit_is_ever_late() {
        let progress = Progress::default();
        let line = progress.line("exporters.a traces", || false);
        let pulse = line.pulse();
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        for say in [Pulse::rests, Pulse::waits_outside] {
            say(&pulse);
            assert!(lines(&progress, century).is_empty());
        }
        pulse.within(Duration::from_secs(30));
        assert!(lines(&progress, Duration::from_secs(34)).is_empty());
        let found = lines(&progress, Duration::from_secs(36));
        assert!(
            found[0].starts_with("exporters.a traces: a worker is 6"),
            "{found:?}"
        );
        // A limit that is longer than time itself is none.
        pulse.within(Duration::MAX);
        assert!(lines(&progress, century).is_empty());
        pulse.computes();
        assert_eq!(lines(&progress, century).len(), 1);
        pulse.rests();
        assert!(lines(&progress, century).is_empty());
        pulse.computes();
        drop(pulse);
        assert!(lines(&progress, century).is_empty());
    }

    #[test]
    fn work_that_everybody_sleeps_through_is_noticed() {
        let progress = Progress::default();
        let waiting = Arc::new(AtomicBool::new(true));
        let line = progress.line("exporters.a logs", {
            let waiting = Arc::clone(&waiting);
            move || waiting.load(Ordering::Acquire)
        });
        let start = Instant::now();
        let at = |seconds| {
            progress
                .stuck(start + Duration::from_secs(seconds), GRACE)
                .len()
        };
        assert_eq!(
            (at(0), at(1000)),
            (0, 0),
            "without a worker it is nobody's fault"
        );
        let (one, other) = (line.pulse(), line.pulse());
        assert_eq!((at(1000), at(1059), at(1061)), (0, 0, 1));
        // A step begins the wait anew.
        one.rests();
        assert_eq!((at(1062), at(1100)), (0, 0));
        // One that is busy with something else is enough.
        other.waits_outside();
        assert_eq!((at(1200), at(2000)), (0, 0));
        other.rests();
        waiting.store(false, Ordering::Release);
        assert_eq!((at(3000), at(4000)), (0, 0));
    }

    #[test]
    fn a_line_whose_last_worker_panics_stays_a_finding() {
        let progress = Progress::default();
        let line = progress.line("exporters.a metrics", || false);
        let panics = |pulse: Pulse| {
            let worker = std::thread::spawn(move || {
                pulse.rests();
                panic!("of the test");
            });
            assert!(worker.join().is_err());
        };
        let other = line.pulse();
        panics(line.pulse());
        assert!(
            lines(&progress, Duration::ZERO).is_empty(),
            "another goes on"
        );
        panics(other);
        let found = lines(&progress, Duration::ZERO);
        assert_eq!(found, ["exporters.a metrics: its last worker has panicked"]);
        // A reload has the exporter built anew.
        let successor = progress.line("exporters.a metrics", || false).pulse();
        assert!(lines(&progress, Duration::ZERO).is_empty());
        drop(successor);
    }

    #[test]
    fn lines_that_are_gone_are_forgotten() {
        let progress = Progress::default();
        for _ in 0..10 {
            let line = progress.line("a", || true);
            drop(line.pulse());
        }
        assert!(progress.lines().alive.len() <= 1);
    }
}

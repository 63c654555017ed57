//! What all workers of a scenario write to while it runs: tallies by endpoint, and figures over time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::schedule::Gate;
use super::tally::{Tally, Times, is_success};
use super::waves::Waves;
use super::worker::{Answer, BACKLOG_GRACE, Failure, FailureKind};
use crate::record::Timeline;

/// Sent this long after it fell due, a request shows that the workers are still behind.
const BEHIND: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Board {
    start: OnceLock<Instant>,
    is_open: bool,
    endpoints: Vec<Mutex<Tally>>,
    timeline: OnceLock<Mutex<Timeline>>,
    waves: Mutex<Waves>,
    /// Of an open loop that has started.
    gate: OnceLock<Arc<Gate>>,
    pub(crate) live: Live,
}

/// Counters for the progress line.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Measured iterations that began in an open loop.
    pub(crate) begun: AtomicU64,
}

impl Board {
    pub(crate) fn new(endpoints: usize, is_open: bool) -> Self {
        Self {
            start: OnceLock::new(),
            is_open,
            endpoints: (0..endpoints)
                .map(|_| Mutex::new(Tally::new(is_open)))
                .collect(),
            timeline: OnceLock::new(),
            waves: Mutex::new(Waves::new()),
            gate: OnceLock::new(),
            live: Live::default(),
        }
    }

    /// The clock starts.
    pub(crate) fn begin(&self, start: Instant) {
        self.start.get_or_init(|| start);
        self.timeline
            .get_or_init(|| Mutex::new(Timeline::new(start.into_std())));
    }

    /// What lets the iterations of an open loop begin.
    pub(crate) fn opens_with(&self, gate: &Arc<Gate>) {
        self.gate.get_or_init(|| Arc::clone(gate));
    }

    /// What would never be sent if no more fell due from now on: iterations that have waited for longer than those at
    /// the end of a run may.
    pub(crate) fn waiting(&self) -> u64 {
        let due = self.gate.get();
        let due = due.map_or(0, |gate| gate.measured_due(Instant::now(), BACKLOG_GRACE));
        due.saturating_sub(self.live.begun.load(Ordering::Relaxed))
    }

    /// When the scenario started, warm-up included.
    pub(crate) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    pub(crate) fn tally(&self, endpoint: usize) -> MutexGuard<'_, Tally> {
        let tally = self.endpoints.get(endpoint);
        locked(tally.expect("an endpoint for each step"))
    }

    pub(crate) fn began(&self, measured: bool) {
        self.live
            .begun
            .fetch_add(u64::from(measured), Ordering::Relaxed);
    }

    /// Counts a request; true if it was a success.
    pub(crate) fn record(
        &self,
        endpoint: usize,
        measured: bool,
        times: Times,
        result: &Result<Answer, Failure>,
        expected: &[u16],
    ) -> bool {
        self.live.answered.fetch_add(1, Ordering::Relaxed);
        if !measured {
            self.tally(endpoint).warm_up += 1;
            return result
                .as_ref()
                .is_ok_and(|it| is_success(it.status, expected));
        }
        let succeeded = self.tally(endpoint).record(times, result, expected);
        self.live
            .failed
            .fetch_add(u64::from(!succeeded), Ordering::Relaxed);
        self.record_time(times, result, succeeded);
        succeeded
    }

    fn record_time(&self, times: Times, result: &Result<Answer, Failure>, succeeded: bool) {
        let from_due = times.ended.saturating_duration_since(times.due);
        if let Some(timeline) = self.timeline.get() {
            let mut timeline = locked(timeline);
            let at = times.ended.into_std();
            match (succeeded, result) {
                (true, _) => timeline.succeeded(at, 0, from_due),
                (false, Err(failure)) if failure.kind != FailureKind::Timeout => {
                    timeline.failed(at, None);
                }
                (false, _) => timeline.failed(at, Some(from_due)),
            }
        }
        let late = times.sent.saturating_duration_since(times.due) > BEHIND;
        let at = times.ended.saturating_duration_since(self.start());
        locked(&self.waves).record(at, !succeeded, late);
    }

    pub(crate) fn endpoints(&self) -> Vec<Tally> {
        self.endpoints.iter().map(|it| locked(it).clone()).collect()
    }

    /// All endpoints together.
    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::new(self.is_open);
        self.endpoints
            .iter()
            .for_each(|it| total.merge(&locked(it)));
        total
    }

    pub(crate) fn timeline(&self) -> Option<Timeline> {
        self.timeline.get().map(|it| locked(it).clone())
    }

    pub(crate) fn waves(&self) -> Waves {
        locked(&self.waves).clone()
    }
}

/// No code panics within; a tally is whole after each of its changes anyway.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

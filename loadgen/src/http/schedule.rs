//! When requests fall due in an open loop, and the gate that lets workers take them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::stages::{Curve, Stage, duration};
use crate::stats::Latencies;

/// Requests falling due at a rate that follows straight lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    curve: Curve,
    warm_up: u64,
    total: u64,
}

impl Schedule {
    /// The warm-up at the first stage's first rate, then the stages or `requests`, whichever ends first.
    pub(crate) fn new(stages: &[Stage], warm_up: Duration, requests: Option<u64>) -> Self {
        let first = stages.first().map_or(0.0, |stage| stage.from);
        let mut all = vec![Stage::constant(first, warm_up)];
        all.extend_from_slice(stages);
        let curve = Curve::new(&all);
        let within = |span: Duration| whole(curve.sum_at(span.as_secs_f64()));
        let warm_up_count = within(warm_up);
        let timed = within(duration(&all)).saturating_sub(warm_up_count);
        let measured = timed.min(requests.unwrap_or(u64::MAX)).max(1);
        Self {
            curve,
            warm_up: warm_up_count,
            total: warm_up_count.saturating_add(measured),
        }
    }

    /// All requests, warm-up included.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn is_warm_up(&self, index: u64) -> bool {
        index < self.warm_up
    }

    /// How many of the first `count` requests are measured.
    pub(crate) fn measured_of(&self, count: u64) -> u64 {
        count.min(self.total).saturating_sub(self.warm_up)
    }

    /// When request `index` falls due, from the start of the run: once the rate's integral is `index`.
    pub(crate) fn due(&self, index: u64) -> Duration {
        Duration::try_from_secs_f64(self.curve.reaches(index as f64)).unwrap_or(Duration::MAX)
    }

    /// How many requests have fallen due after `elapsed`.
    fn due_after(&self, elapsed: Duration) -> u64 {
        let estimate = self.curve.sum_at(elapsed.as_secs_f64()) as u64;
        let mut count = estimate.saturating_add(1).min(self.total);
        // The estimate is off by rounding, and by one in a pause.
        while count > 0 && self.due(count - 1) > elapsed {
            count -= 1;
        }
        while count < self.total && self.due(count) <= elapsed {
            count += 1;
        }
        count
    }
}

/// Rounded up, but not for what rounding errors add to a whole number.
fn whole(sum: f64) -> u64 {
    (sum - sum.abs() * 1e-12).ceil() as u64
}

/// Hands each request that has fallen due to one worker, in order.
///
/// What waits here is a number, however far the workers are behind.
#[derive(Debug)]
pub(crate) struct Gate {
    schedule: Schedule,
    start: Instant,
    due: Semaphore,
    /// Requests let through by the pacer.
    released: AtomicU64,
    /// Requests taken by workers; passes `schedule.total` at the end.
    taken: AtomicU64,
    /// How late the pacer was for the first request of each opening: the generator's own lateness.
    lateness: Mutex<Latencies>,
}

impl Gate {
    pub(crate) fn new(schedule: Schedule, start: Instant) -> Self {
        Self {
            schedule,
            start,
            due: Semaphore::new(0),
            released: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            lateness: Mutex::new(Latencies::new()),
        }
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The time at which request `index` falls due.
    pub(crate) fn due(&self, index: u64) -> Instant {
        self.start + self.schedule.due(index)
    }

    /// Requests that had fallen due when the pacer last looked.
    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// How many measured requests had fallen due and been let through `ago` before `now`.
    pub(crate) fn measured_due(&self, now: Instant, ago: Duration) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        let due = elapsed.checked_sub(ago);
        let due = due.map_or(0, |elapsed| self.schedule.due_after(elapsed));
        self.schedule.measured_of(due.min(self.released()))
    }

    /// Waits for the next request to fall due. `None` when there is no further one.
    pub(crate) async fn take(&self) -> Option<u64> {
        // The permit of request n may go to the worker that takes n + 1: only their number matters. A closed
        // gate lets everyone through, to find that all requests are taken.
        if let Ok(permit) = self.due.acquire().await {
            permit.forget();
        }
        let index = self.taken.fetch_add(1, Ordering::AcqRel);
        (index < self.schedule.total).then_some(index)
    }

    /// Lets workers take what has fallen due by `now`. Returns the time until the next request falls due,
    /// `None` after the last one.
    pub(crate) fn release_due(&self, now: Instant) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.start);
        let due = self.schedule.due_after(elapsed);
        let released = self.released.load(Ordering::Acquire);
        if due > released {
            let late = elapsed.saturating_sub(self.schedule.due(released));
            let mut lateness = self.lateness.lock().unwrap_or_else(PoisonError::into_inner);
            lateness.record(late);
        }
        self.let_through(due.saturating_sub(released));
        self.released.store(due.max(released), Ordering::Release);
        if due >= self.schedule.total {
            // One permit more for each worker that asks after the last request.
            self.let_through(Semaphore::MAX_PERMITS as u64 / 2);
            return None;
        }
        Some(self.schedule.due(due).saturating_sub(elapsed))
    }

    /// How late the generator itself was, whatever the workers waited for.
    pub(crate) fn lateness(&self) -> Latencies {
        let lateness = self.lateness.lock();
        lateness.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn let_through(&self, count: u64) {
        let room = Semaphore::MAX_PERMITS - self.due.available_permits();
        self.due
            .add_permits(usize::try_from(count).unwrap_or(usize::MAX).min(room));
    }
}

/// The thread that opens the gate on time.
///
/// tokio's timers have a resolution of 1 ms, which would be added to every corrected latency; a parked
/// thread wakes within about 0.1 ms.
pub(crate) struct Pacer {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Pacer {
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(crate) fn start(gate: Arc<Gate>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    let Some(wait) = gate.release_due(Instant::now()) else {
                        return;
                    };
                    std::thread::park_timeout(wait);
                }
            })?;
        Ok(Self {
            thread: Some(thread),
            stop,
        })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread has nothing to return, and its panic has already been reported by the runtime.
            drop(thread.join());
        }
    }
}

/// The pacer on tokio's clock, which tests can pause.
#[cfg(test)]
pub(crate) async fn pace(gate: Arc<Gate>) {
    while let Some(wait) = gate.release_due(Instant::now()) {
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn constant(
        rate: f64,
        warm_up: Duration,
        duration: Option<Duration>,
        requests: Option<u64>,
    ) -> Schedule {
        let stage = Stage::constant(rate, duration.unwrap_or(Duration::MAX));
        Schedule::new(&[stage], warm_up, requests)
    }

    fn arb_stage() -> impl Strategy<Value = Stage> {
        let rate = || prop_oneof![Just(0.0), 0.0..2000.0_f64];
        (1_u64..30_000, rate(), rate()).prop_map(|(millis, from, to)| Stage {
            duration: Duration::from_millis(millis),
            from,
            to,
        })
    }

    proptest! {
        #[test]
        fn the_number_due_is_the_integral_of_the_rate(
            stages in proptest::collection::vec(arb_stage(), 1..6),
            share in 0.0..1.0_f64,
        ) {
            let schedule = Schedule::new(&stages, Duration::ZERO, None);
            let elapsed = duration(&stages).mul_f64(share);
            // Added up in thin slices, by another way than the schedule's.
            let (mut begins, mut integral) = (Duration::ZERO, 0.0);
            for stage in &stages {
                let within = elapsed.saturating_sub(begins).min(stage.duration).as_secs_f64();
                let end = stage.from
                    + (stage.to - stage.from) * within / stage.duration.as_secs_f64();
                integral += (stage.from + end) / 2.0 * within;
                begins += stage.duration;
            }
            let due = schedule.due_after(elapsed) as f64;
            let exact = (integral - 1e-6).ceil()..=(integral + 1e-6).floor() + 1.0;
            prop_assert!(exact.contains(&due) || due == 1.0 && integral < 1.0,
                "{due} due, the integral is {integral}");
            for index in 1..schedule.total().min(500) {
                prop_assert!(schedule.due(index) >= schedule.due(index - 1));
            }
        }
    }

    #[test]
    fn the_schedule_counts_warm_up_and_measured_requests() {
        let check = |rate: f64,
                     warm_up: u64,
                     millis: Option<u64>,
                     requests: Option<u64>,
                     expected: (u64, u64)| {
            let schedule = constant(
                rate,
                Duration::from_secs(warm_up),
                millis.map(Duration::from_millis),
                requests,
            );
            let total = schedule.total();
            assert_eq!(
                (
                    total - schedule.measured_of(total),
                    schedule.measured_of(total)
                ),
                expected
            );
        };
        check(100.0, 0, Some(2000), None, (0, 200));
        check(100.0, 3, Some(2000), None, (300, 200));
        check(100.0, 3, Some(2000), Some(50), (300, 50));
        check(100.0, 0, None, Some(50), (0, 50));
        check(0.5, 0, Some(1000), None, (0, 1));
        check(3.0, 0, Some(500), None, (0, 2));
        check(0.001, 0, Some(1), None, (0, 1));
    }

    #[test]
    fn requests_fall_due_evenly_from_the_start() {
        let schedule = constant(4.0, Duration::ZERO, Some(SECOND), None);
        let due: Vec<_> = (0..4)
            .map(|index| schedule.due(index).as_millis())
            .collect();
        assert_eq!(due, [0, 250, 500, 750]);
        for (elapsed, expected) in [(0, 1), (249, 1), (250, 2), (999, 4), (5000, 4)] {
            assert_eq!(
                schedule.due_after(Duration::from_millis(elapsed)),
                expected,
                "after {elapsed} ms"
            );
        }
    }

    #[test]
    fn a_high_rate_keeps_its_count_over_a_long_time() {
        let schedule = constant(999_999.9, Duration::ZERO, Some(SECOND * 3600), None);
        for index in [1_u64, 12_345, 999_999_999, 3_599_999_639] {
            let due = schedule.due_after(schedule.due(index) + Duration::from_nanos(100));
            assert_eq!(due, index + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_opens_on_time_and_ends() {
        let start = Instant::now();
        let gate = Arc::new(Gate::new(
            constant(10.0, Duration::ZERO, Some(SECOND), None),
            start,
        ));
        let pacer = tokio::spawn(pace(Arc::clone(&gate)));
        for expected in 0..10 {
            let index = gate.take().await;
            assert_eq!(index, Some(expected));
            let late = start.elapsed() - gate.schedule().due(expected);
            assert!(
                late <= Duration::from_millis(2),
                "request {expected} came {late:?} late"
            );
        }
        assert_eq!(gate.take().await, None);
        assert_eq!(gate.take().await, None);
        pacer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_backlog_is_handed_out_without_waiting() {
        let start = Instant::now();
        let gate = Gate::new(constant(10.0, Duration::ZERO, Some(SECOND), None), start);
        tokio::time::advance(Duration::from_millis(450)).await;
        assert_eq!(
            gate.release_due(Instant::now()),
            Some(Duration::from_millis(50))
        );
        for expected in 0..5 {
            assert_eq!(gate.take().await, Some(expected));
        }
        assert_eq!(gate.released(), 5);
        assert_eq!(start.elapsed(), Duration::from_millis(450));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_for_longer_is_counted_once_it_is_let_through() {
        let start = Instant::now();
        let gate = Gate::new(constant(10.0, SECOND, Some(SECOND), None), start);
        let due = |millis: u64, ago: u64| {
            let now = start + Duration::from_millis(millis);
            gate.measured_due(now, Duration::from_millis(ago))
        };
        assert_eq!(due(1550, 100), 0);
        gate.release_due(start + Duration::from_millis(1550));
        for (millis, ago, expected) in [(50, 100, 0), (900, 0, 0), (1550, 0, 6), (1550, 100, 5)] {
            assert_eq!(due(millis, ago), expected, "{millis} ms, {ago} ms ago");
        }
        // No more than was let through: the generator itself is late, not the service.
        assert_eq!(due(1950, 0), 6);
    }

    #[tokio::test]
    async fn the_pacer_thread_opens_the_gate_and_stops_when_dropped() {
        let schedule = constant(1000.0, Duration::ZERO, None, None);
        let gate = Arc::new(Gate::new(schedule, Instant::now()));
        let pacer = Pacer::start(Arc::clone(&gate)).unwrap();
        for expected in 0..20 {
            assert_eq!(gate.take().await, Some(expected));
            assert!(
                Instant::now() >= gate.due(expected),
                "request {expected} came early"
            );
        }
        drop(pacer);
    }
}

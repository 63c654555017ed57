//! The watchdog: tells the service manager that the service gets on, if it does.
//!
//! A thread of its own looks, so that nothing that hangs can hang it. Each time it looks, all of this has to hold:
//!
//! 1. The agent's main task has answered: it is polled, and does not wait inside a poll.
//! 2. A task on the runtime has run, and its timer has gone off.
//! 3. No worker thread of the runtime is in the same few polls for longer than [`Patience::grace`]: whatever a task does
//!    there, such as a processor, a lock or an endless loop, blocks the thread.
//! 4. Everybody who said what they do next got on with it ([`Progress`]): workers of exporters, timers of pipelines, reloads.
//!
//! If something does not hold, nothing is told until it does again, and the log says what it is. A destination that is
//! down or slow, a full queue, a slow disk and a large reload hold none of them up. What is *not* seen: a request that waits
//! for ever on its own, without blocking its thread; the connection's time limits end that.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::sync::watch;
use tracing::{error, info};

use super::{Notifier, State};
use crate::progress::Progress;

/// Looks per interval.
const LOOKS: u32 = 8;

/// Told every so many looks: twice per interval.
const LOOKS_PER_BEAT: u32 = LOOKS / 2;

/// A watchdog at work. Dropping it ends it.
#[derive(Debug)]
pub struct Watchdog {
    ending: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Begins to tell `notifier`, twice per `interval`, that everything gets on. The caller's runtime is looked at.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        interval: Duration,
        notifier: Notifier,
        progress: Progress,
    ) -> std::io::Result<(Self, Pings)> {
        let (asked, pings) = Pings::new();
        let mut look = Look {
            patience: Patience::of(interval),
            progress,
            main: Echo::from(&pings),
            asked,
            runtime: Handle::current(),
            task: Echo::default(),
            workers: Workers::of(Handle::current().metrics()),
        };
        let (ending, ended) = channel();
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&ended, interval / LOOKS, &notifier, &mut look))?;
        let watchdog = Self {
            ending: Some(ending),
            thread: Some(thread),
        };
        Ok((watchdog, pings))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.ending.take());
        if let Some(thread) = self.thread.take() {
            // It looks at most once more. That it panicked was said by then.
            drop(thread.join());
        }
    }
}

fn watch(ended: &Receiver<()>, pause: Duration, notifier: &Notifier, look: &mut Look) {
    let mut looks_since = LOOKS_PER_BEAT;
    let mut was_well = true;
    loop {
        let problems = look.problems(Instant::now());
        let is_well = problems.is_empty();
        if is_well && looks_since >= LOOKS_PER_BEAT {
            notifier.tell(&[State::Alive]);
            looks_since = 0;
        }
        if is_well != was_well {
            report(notifier, &problems);
            was_well = is_well;
        }
        looks_since = looks_since.saturating_add(1);
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn report(notifier: &Notifier, problems: &[String]) {
    if problems.is_empty() {
        info!("watchdog: everything gets on again");
        return;
    }
    let status = format!("hangs: {}", problems.join("; "));
    notifier.tell(&[State::Status(&status)]);
    error!(
        ?problems,
        "watchdog: something hangs; unless that ends, the service manager will end this process"
    );
}

/// How long what may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For an answer, and beyond every limit that somebody has.
    grace: Duration,
}

impl Patience {
    fn of(interval: Duration) -> Self {
        Self {
            grace: interval / 4,
        }
    }
}

/// Everything that is looked at.
struct Look {
    patience: Patience,
    progress: Progress,
    asked: watch::Sender<u64>,
    main: Echo,
    runtime: Handle,
    task: Echo,
    workers: Workers,
}

impl Look {
    fn problems(&mut self, now: Instant) -> Vec<String> {
        let grace = self.patience.grace;
        let mut problems = Vec::new();
        if let Some(waited) = self.main.waited(now).filter(|waited| *waited > grace) {
            problems.push(format!(
                "the agent's main task has not answered for {waited:.1?}"
            ));
        }
        if let Some(waited) = self.task.waited(now).filter(|waited| *waited > grace) {
            problems.push(format!(
                "the runtime has not run a new task for {waited:.1?}"
            ));
        }
        problems.extend(self.workers.blocked(now, grace));
        let stuck = self.progress.stuck(now, grace);
        problems.extend(stuck.iter().map(ToString::to_string));
        self.ask(now);
        problems
    }

    /// Asks those again who have answered.
    fn ask(&mut self, now: Instant) {
        if let Some(number) = self.main.next(now) {
            self.asked.send_replace(number);
        }
        if let Some(number) = self.task.next(now) {
            let answered = Arc::clone(&self.task.answered);
            self.runtime.spawn(async move {
                // Timers are looked at with it.
                tokio::time::sleep(Duration::from_millis(1)).await;
                answered.store(number, Ordering::Release);
            });
        }
    }
}

/// Questions by number, and which was answered last.
#[derive(Debug, Default)]
struct Echo {
    answered: Arc<AtomicU64>,
    /// The last question, and when it was asked.
    asked: Option<(u64, Instant)>,
}

impl Echo {
    fn from(pings: &Pings) -> Self {
        Self {
            answered: Arc::clone(&pings.answered),
            asked: None,
        }
    }

    /// How long the last question has been waiting for its answer; `None` if it has it.
    fn waited(&self, now: Instant) -> Option<Duration> {
        let (number, at) = self.asked?;
        (self.answered.load(Ordering::Acquire) != number).then(|| now.saturating_duration_since(at))
    }

    /// The number of the next question, if the last was answered.
    fn next(&mut self, now: Instant) -> Option<u64> {
        let last = self.asked.map_or(0, |(number, _)| number);
        if self.answered.load(Ordering::Acquire) != last {
            return None;
        }
        self.asked = Some((last + 1, now));
        Some(last + 1)
    }
}

/// The main task's end of the watchdog's questions.
#[derive(Debug)]
pub struct Pings {
    asked: watch::Receiver<u64>,
    answered: Arc<AtomicU64>,
}

impl Pings {
    fn new() -> (watch::Sender<u64>, Self) {
        let (asked, receiver) = watch::channel(0);
        let pings = Self {
            asked: receiver,
            answered: Arc::default(),
        };
        (asked, pings)
    }

    /// Answers, for as long as the task that awaits this is polled.
    pub async fn answer_forever(&mut self) -> Infallible {
        while self.asked.changed().await.is_ok() {
            let number = *self.asked.borrow_and_update();
            self.answered.store(number, Ordering::Release);
        }
        // Nobody asks any more.
        std::future::pending().await
    }
}

/// The runtime's worker threads, as its metrics show them.
struct Workers {
    metrics: RuntimeMetrics,
    seen: Vec<Worker>,
}

/// What a worker thread had done, and since when it has not done more.
struct Worker {
    /// Odd while it is parked, waiting for something to do.
    parked: u64,
    /// Rises with every few dozen polls of a thread that does not park.
    busy: Duration,
    since: Instant,
}

impl Workers {
    fn of(metrics: RuntimeMetrics) -> Self {
        Self {
            metrics,
            seen: Vec::new(),
        }
    }

    fn blocked(&mut self, now: Instant, grace: Duration) -> Vec<String> {
        let count = self.metrics.num_workers();
        self.seen.truncate(count);
        let mut blocked = Vec::new();
        for index in 0..count {
            let parked = self.metrics.worker_park_unpark_count(index);
            let busy = self.metrics.worker_total_busy_duration(index);
            let new = Worker {
                parked,
                busy,
                since: now,
            };
            let Some(seen) = self.seen.get_mut(index) else {
                self.seen.push(new);
                continue;
            };
            if seen.parked != parked || seen.busy != busy || parked % 2 == 1 {
                *seen = new;
                continue;
            }
            let waited = now.saturating_duration_since(seen.since);
            if waited > grace {
                blocked.push(format!(
                    "a thread of the runtime has been blocked for {waited:.1?}"
                ));
            }
        }
        blocked
    }
}

#[cfg(test)]
mod tests {
    use super::super::notify::tests::Listener;
    use super::*;
    use crate::testing::DEADLINE;

    const INTERVAL: Duration = Duration::from_millis(800);

    /// A watchdog whose main task answers, and who hears it.
    struct Bench {
        listener: Listener,
        progress: Progress,
        _watchdog: Watchdog,
        answering: tokio::task::JoinHandle<Infallible>,
    }

    impl Bench {
        fn start() -> Self {
            let (listener, progress) = (Listener::bind(), Progress::default());
            let (watchdog, mut pings) =
                Watchdog::start(INTERVAL, listener.notifier(), progress.clone()).unwrap();
            Self {
                listener,
                progress,
                _watchdog: watchdog,
                answering: tokio::spawn(async move { match pings.answer_forever().await {} }),
            }
        }

        /// Waits for a message that contains this, and gives all that came until then.
        fn hear(&self, wanted: &str) -> Vec<String> {
            let deadline = Instant::now() + DEADLINE;
            let mut heard = Vec::new();
            while !heard
                .iter()
                .any(|message: &String| message.contains(wanted))
            {
                assert!(Instant::now() < deadline, "no {wanted} in {heard:?}");
                std::thread::sleep(Duration::from_millis(5));
                heard.extend(self.listener.heard());
            }
            heard
        }

        /// No beat comes for two intervals, once it was said what hangs.
        fn falls_silent(&self, why: &str) {
            self.hear(why);
            let end = Instant::now() + 2 * INTERVAL;
            while Instant::now() < end {
                std::thread::sleep(INTERVAL / 10);
                let heard = self.listener.heard();
                assert!(
                    !heard.iter().any(|message| message == "WATCHDOG=1"),
                    "{heard:?}"
                );
            }
        }

        fn beats(&self) {
            self.hear("WATCHDOG=1");
            self.hear("WATCHDOG=1");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_blocked_thread_of_the_runtime_stops_the_beat() {
        let bench = Bench::start();
        tokio::task::block_in_place(|| bench.beats());
        let (release, blocked) = channel::<()>();
        let hanging = tokio::spawn(async move { assert!(blocked.recv().is_err()) });
        tokio::task::block_in_place(|| bench.falls_silent("a thread of the runtime"));
        drop(release);
        hanging.await.unwrap();
        tokio::task::block_in_place(|| bench.beats());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_main_task_that_does_not_answer_stops_the_beat() {
        let bench = Bench::start();
        tokio::task::block_in_place(|| bench.beats());
        bench.answering.abort();
        tokio::task::block_in_place(|| bench.falls_silent("main task"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_stuck_worker_stops_the_beat_and_one_that_waits_outside_does_not() {
        let bench = Bench::start();
        let pulse = bench.progress.line("exporters.a traces", || true).pulse();
        pulse.waits_outside();
        tokio::task::block_in_place(|| bench.beats());
        pulse.within(Duration::ZERO);
        tokio::task::block_in_place(|| bench.falls_silent("exporters.a traces: a worker is"));
        pulse.waits_outside();
        tokio::task::block_in_place(|| bench.beats());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn busy_threads_are_no_blocked_ones() {
        let bench = Bench::start();
        let stop = Arc::new(AtomicU64::new(0));
        let busy: Vec<_> = (0..6)
            .map(|_| {
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    while stop.load(Ordering::Relaxed) == 0 {
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        tokio::task::block_in_place(|| {
            for _ in 0..3 {
                bench.beats();
            }
        });
        stop.store(1, Ordering::Relaxed);
        for task in busy {
            task.await.unwrap();
        }
    }

    #[test]
    fn a_question_is_asked_again_only_once_it_was_answered() {
        let mut echo = Echo::default();
        let now = Instant::now();
        assert_eq!(
            (echo.waited(now), echo.next(now), echo.next(now)),
            (None, Some(1), None)
        );
        let later = now + Duration::from_secs(3);
        assert_eq!(echo.waited(later), Some(Duration::from_secs(3)));
        echo.answered.store(1, Ordering::Release);
        assert_eq!((echo.waited(later), echo.next(later)), (None, Some(2)));
    }
}

//! One run: workers are made ready, the clock starts, and their tallies are gathered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::board::Board;
use super::journey::Journey;
use super::options::{Load, Mode};
use super::schedule::{Gate, Pacer, Schedule};
use super::tally::Tally;
use super::template::Pool;
use super::worker::{Allowance, Executor, Pace, Worker};
use crate::stats::Latencies;

/// What a run measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) started: SystemTime,
    /// When the clock started, warm-up included.
    pub(crate) start: Instant,
    /// From the end of the warm-up to the end of the run.
    pub(crate) measured: Duration,
    pub(crate) total: Tally,
    /// One for each step of the journey.
    pub(crate) endpoints: Vec<Tally>,
    /// Service times of each worker.
    pub(crate) workers: Vec<Latencies>,
    /// Iterations that fell due and were never begun; 0 in a closed loop.
    pub(crate) unsent: u64,
    /// How late the generator itself was; `None` in a closed loop.
    pub(crate) lateness: Option<Latencies>,
    pub(crate) interrupted: bool,
}

/// What is done, and where it is counted.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) journey: Arc<Journey>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) board: Arc<Board>,
    /// Choices are the same for the same seed.
    pub(crate) seed: u64,
}

/// How a run is ended early.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) timeout: Duration,
    /// The scenario waits this long before it starts.
    pub(crate) start_after: Duration,
    /// Turns true when the run is interrupted.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Work {
    pub(crate) fn new(journey: Arc<Journey>, pool: Arc<Pool>, load: &Load, seed: u64) -> Self {
        let board = Board::new(journey.steps.len(), load.mode.is_open());
        Self {
            journey,
            pool,
            board: Arc::new(board),
            seed,
        }
    }
}

/// Drives `load` through one executor for each worker, made from the worker's number.
///
/// # Errors
///
/// A thread cannot be started or a worker panicked.
pub(crate) async fn measure<E: Executor>(
    load: &Load,
    work: &Work,
    control: Control,
    make_executor: impl Fn(usize) -> E,
) -> anyhow::Result<Outcome> {
    measure_with(load, work, control, make_executor, |gate| {
        Ok(Clockwork::Thread(Pacer::start(gate)?))
    })
    .await
}

/// What opens the gate of an open loop while it is held.
enum Clockwork {
    Thread(#[expect(dead_code, reason = "held for its Drop, which stops the thread")] Pacer),
    #[cfg(test)]
    Task(#[expect(dead_code, reason = "held like the thread")] tokio::task::JoinHandle<()>),
}

async fn measure_with<E: Executor>(
    load: &Load,
    work: &Work,
    mut control: Control,
    make_executor: impl Fn(usize) -> E,
    start_clockwork: impl FnOnce(Arc<Gate>) -> anyhow::Result<Clockwork>,
) -> anyhow::Result<Outcome> {
    if !control.start_after.is_zero() {
        // An interruption meanwhile is seen by the workers.
        let stopped = control.stop.wait_for(|&stop| stop);
        drop(tokio::time::timeout(control.start_after, stopped).await);
    }
    let executors = prepare((0..load.workers).map(make_executor), control.timeout).await?;
    let started = SystemTime::now();
    let start = Instant::now();
    work.board.begin(start);
    let measure_from = start + load.warm_up;
    let (pace, clockwork) = match load.mode.arrivals(load.duration) {
        None => (Pace::Closed(allowance(load, measure_from)), None),
        Some(stages) => {
            let schedule = Schedule::new(&stages, load.warm_up, load.requests);
            let gate = Arc::new(Gate::new(schedule, start));
            work.board.opens_with(&gate);
            (Pace::Open(Arc::clone(&gate)), Some(start_clockwork(gate)?))
        }
    };
    let pace = Arc::new(pace);
    let workers = work_off(executors, &pace, work, &control).await?;
    let span = Span {
        started,
        start,
        measure_from,
        ended: Instant::now(),
        interrupted: *control.stop.borrow(),
    };
    drop(clockwork);
    Ok(gather(workers, &pace, work, span))
}

fn allowance(load: &Load, measure_from: Instant) -> Allowance {
    Allowance {
        measure_from,
        until: load.duration.map(|it| measure_from + it),
        remaining: AtomicU64::new(load.requests.unwrap_or(u64::MAX)),
        crowd: match &load.mode {
            Mode::Crowd(stages) => stages.clone(),
            _ => Vec::new(),
        },
    }
}

/// Connects all workers, so that the first requests do not pay for it. A worker that cannot connect now
/// tries again with its first request and counts the failure there.
async fn prepare<E: Executor>(
    executors: impl Iterator<Item = E>,
    timeout: Duration,
) -> anyhow::Result<Vec<E>> {
    let mut tasks = JoinSet::new();
    for mut executor in executors {
        tasks.spawn(async move {
            match tokio::time::timeout(timeout, executor.prepare()).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => tracing::debug!(message = failure.message, "worker not ready"),
                Err(_) => executor.abandon(),
            }
            executor
        });
    }
    let mut ready = Vec::new();
    while let Some(executor) = tasks.join_next().await {
        ready.push(executor.context("a worker failed to get ready")?);
    }
    Ok(ready)
}

async fn work_off<E: Executor>(
    executors: Vec<E>,
    pace: &Arc<Pace>,
    work: &Work,
    control: &Control,
) -> anyhow::Result<Vec<Latencies>> {
    let tasks: Vec<_> = executors
        .into_iter()
        .enumerate()
        .map(|(number, executor)| {
            let worker = Worker {
                executor,
                number,
                pace: Arc::clone(pace),
                journey: Arc::clone(&work.journey),
                pool: Arc::clone(&work.pool),
                board: Arc::clone(&work.board),
                timeout: control.timeout,
                random: StdRng::seed_from_u64(work.seed.wrapping_add(number as u64)),
                stop: control.stop.clone(),
            };
            tokio::spawn(worker.run())
        })
        .collect();
    let mut own = Vec::with_capacity(tasks.len());
    for task in tasks {
        own.push(task.await.context("a worker failed")?);
    }
    Ok(own)
}

/// When the run took place.
struct Span {
    started: SystemTime,
    start: Instant,
    measure_from: Instant,
    ended: Instant,
    interrupted: bool,
}

fn gather(workers: Vec<Latencies>, pace: &Pace, work: &Work, span: Span) -> Outcome {
    let mut ended = span.ended;
    let (mut unsent, mut lateness) = (0, None);
    if let Pace::Open(gate) = pace {
        let schedule = gate.schedule();
        let due = if span.interrupted {
            gate.released()
        } else {
            schedule.total()
        };
        let begun = work.board.live.begun.load(Ordering::Relaxed);
        unsent = schedule.measured_of(due).saturating_sub(begun);
        lateness = Some(gate.lateness());
        if !span.interrupted {
            // The last request falls due one interval before the end of the schedule.
            ended = ended.max(gate.due(schedule.total()));
        }
    }
    Outcome {
        started: span.started,
        start: span.start,
        measured: ended.saturating_duration_since(span.measure_from),
        total: work.board.total(),
        endpoints: work.board.endpoints(),
        workers,
        unsent,
        lateness,
        interrupted: span.interrupted,
    }
}

#[cfg(test)]
mod tests;

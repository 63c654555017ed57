//! One run: workers are made ready, the clock starts, and their tallies are gathered.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::options::{Load, Mode};
use super::progress::Progress;
use super::schedule::{Gate, Pacer, Schedule};
use super::tally::Tally;
use super::worker::{Allowance, Executor, Live, Pace, Worker};

/// What a run measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) started: SystemTime,
    /// From the end of the warm-up to the end of the run.
    pub(crate) measured: Duration,
    pub(crate) total: Tally,
    pub(crate) workers: Vec<Tally>,
    /// Requests that fell due and were never sent; 0 in a closed loop.
    pub(crate) unsent: u64,
    pub(crate) interrupted: bool,
}

/// How a run is watched and ended early.
pub(crate) struct Control {
    pub(crate) timeout: Duration,
    /// Show progress lines.
    pub(crate) progress: bool,
    /// Turns true when the run is interrupted.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Drives `load` through one executor for each worker.
///
/// # Errors
///
/// A thread cannot be started or a worker panicked.
pub(crate) async fn measure<E: Executor>(
    load: &Load,
    control: Control,
    make_executor: impl Fn() -> E,
) -> anyhow::Result<Outcome> {
    measure_with(load, control, make_executor, |gate| {
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
    control: Control,
    make_executor: impl Fn() -> E,
    start_clockwork: impl FnOnce(Arc<Gate>) -> anyhow::Result<Clockwork>,
) -> anyhow::Result<Outcome> {
    let executors = prepare((0..load.workers).map(|_| make_executor()), control.timeout).await?;
    let started = SystemTime::now();
    let start = Instant::now();
    let measure_from = start + load.warm_up;
    let (pace, clockwork) = match load.mode {
        Mode::Closed => (Pace::Closed(allowance(load, measure_from)), None),
        Mode::Open { rate } => {
            let schedule = Schedule::new(rate, load.warm_up, load.duration, load.requests);
            let gate = Arc::new(Gate::new(schedule, start));
            (Pace::Open(Arc::clone(&gate)), Some(start_clockwork(gate)?))
        }
    };
    let pace = Arc::new(pace);
    let live = Arc::new(Live::default());
    let progress = control
        .progress
        .then(|| Progress::start(Arc::clone(&live), load, start));
    let workers = work(executors, &pace, &control, &live).await?;
    let ended = Instant::now();
    drop(clockwork);
    if let Some(progress) = progress {
        progress.finish().await;
    }
    let interrupted = *control.stop.borrow();
    Ok(gather(
        workers,
        &pace,
        Span {
            started,
            measure_from,
            ended,
            interrupted,
        },
    ))
}

fn allowance(load: &Load, measure_from: Instant) -> Allowance {
    Allowance {
        measure_from,
        until: load.duration.map(|it| measure_from + it),
        remaining: AtomicU64::new(load.requests.unwrap_or(u64::MAX)),
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

async fn work<E: Executor>(
    executors: Vec<E>,
    pace: &Arc<Pace>,
    control: &Control,
    live: &Arc<Live>,
) -> anyhow::Result<Vec<Tally>> {
    let tasks: Vec<_> = executors
        .into_iter()
        .map(|executor| {
            let worker = Worker {
                executor,
                pace: Arc::clone(pace),
                timeout: control.timeout,
                live: Arc::clone(live),
                stop: control.stop.clone(),
            };
            tokio::spawn(worker.run())
        })
        .collect();
    let mut tallies = Vec::with_capacity(tasks.len());
    for task in tasks {
        tallies.push(task.await.context("a worker failed")?);
    }
    Ok(tallies)
}

/// When the run took place.
struct Span {
    started: SystemTime,
    measure_from: Instant,
    ended: Instant,
    interrupted: bool,
}

fn gather(workers: Vec<Tally>, pace: &Pace, span: Span) -> Outcome {
    let mut total = Tally::new(matches!(pace, Pace::Open(_)));
    for tally in &workers {
        total.merge(tally);
    }
    let mut ended = span.ended;
    let mut unsent = 0;
    if let Pace::Open(gate) = pace {
        let schedule = gate.schedule();
        let due = if span.interrupted {
            gate.released()
        } else {
            schedule.total()
        };
        unsent = schedule
            .measured_of(due)
            .saturating_sub(total.requests + total.abandoned);
        if !span.interrupted {
            // The last request falls due one interval before the end of the schedule.
            ended = ended.max(gate.due(schedule.total()));
        }
    }
    Outcome {
        started: span.started,
        measured: ended.saturating_duration_since(span.measure_from),
        total,
        workers,
        unsent,
        interrupted: span.interrupted,
    }
}

#[cfg(test)]
mod tests;

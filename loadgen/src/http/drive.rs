//! Runs the scenarios of a plan beside each other, watches thresholds meanwhile, and searches breakpoints.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::options::{Load, Mode};
use super::progress::{Progress, View, Watched};
use super::run::{Control, Outcome, Work, measure};
use super::scenario::search::{self, Limits, Search};
use super::scenario::threshold::Threshold;
use super::scenario::{Plan, Scenario};
use super::usage::{Meter, Usage};
use super::value::{Part, value};
use super::verdict::Verdict;
use super::worker::Executor;
use crate::record::{ThresholdResult, Trial, TrialResult};

/// Why a run says nothing that was interrupted.
pub(super) const CUT_SHORT: &str = "interrupted before its end";
/// How often thresholds that end the run are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// One scenario's result.
pub(crate) struct Finished {
    pub(crate) name: String,
    pub(crate) executor: &'static str,
    pub(crate) load: Load,
    pub(crate) labels: Vec<String>,
    pub(crate) work: Work,
    pub(crate) outcome: Outcome,
    /// When the service came back and how long it took from there; only with retries or an outage.
    pub(crate) recovery: Option<Recovery>,
}

/// From the start of the scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Recovery {
    pub(crate) back: Duration,
    /// `None`: it was not steady again before the end.
    pub(crate) took: Option<Duration>,
}

/// A round of all scenarios.
pub(crate) struct Round {
    pub(crate) finished: Vec<Finished>,
    pub(crate) thresholds: Vec<ThresholdResult>,
    /// The threshold that ended the round.
    pub(crate) aborted: Option<String>,
    pub(crate) interrupted: bool,
    /// Why its figures are not the service's.
    pub(crate) bottleneck: Option<String>,
    pub(crate) usage: Usage,
}

/// Everything that was run.
pub(crate) struct Results {
    /// The round that counts: the last that held, of a search.
    pub(crate) round: Round,
    pub(crate) search: Option<(Search, Vec<Trial>)>,
}

/// Ends a run early: by a signal, or by a threshold.
#[derive(Clone)]
pub(crate) struct Stop(pub(crate) Arc<watch::Sender<bool>>);

impl Round {
    /// Every threshold held, and something succeeded.
    pub(crate) fn held(&self) -> bool {
        let succeeded = |it: &Finished| it.outcome.total.requests > it.outcome.total.errors;
        self.thresholds.iter().all(|it| it.passed) && self.finished.iter().any(succeeded)
    }

    /// An interruption from outside, so that not all was sent that was to be.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.interrupted && self.aborted.is_none()
    }

    /// What it says of `rate`.
    fn trial(&self, rate: f64) -> Trial {
        let crossed = self.thresholds.iter().filter(|it| !it.passed);
        let crossed: Vec<_> = crossed.map(|it| it.expression.as_str()).collect();
        let (result, why) = match self.verdict() {
            Verdict::Passed => (TrialResult::Held, String::new()),
            Verdict::None(why) => (TrialResult::NoVerdict, why),
            Verdict::Failed if crossed.is_empty() => {
                (TrialResult::Crossed, "no request succeeded".to_owned())
            }
            Verdict::Failed => (TrialResult::Crossed, crossed.join(", ")),
        };
        Trial { rate, result, why }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let cut_short = self.was_cut_short().then_some(CUT_SHORT);
        Verdict::of(self.held(), cut_short.or(self.bottleneck.as_deref()))
    }
}

/// # Errors
/// A thread cannot be started or a worker panicked.
pub(crate) async fn run<E: Executor>(
    plan: &Plan,
    view: View,
    stop: &Stop,
    make_executor: impl Fn(usize, usize) -> E + Clone + Send + Sync + 'static,
) -> anyhow::Result<Results> {
    let found = plan.scenarios.iter().find_map(|it| Some((it, it.search?)));
    let Some((scenario, limits)) = found else {
        let loads = plan.scenarios.iter().map(|it| it.load.clone()).collect();
        let round = round(plan, loads, view, stop, make_executor).await?;
        return Ok(Results {
            round,
            search: None,
        });
    };
    search(plan, (scenario, limits), view, stop, make_executor).await
}

async fn search<E: Executor>(
    plan: &Plan,
    (scenario, limits): (&Scenario, Limits),
    view: View,
    stop: &Stop,
    make_executor: impl Fn(usize, usize) -> E + Clone + Send + Sync + 'static,
) -> anyhow::Result<Results> {
    let mut search = Search::new(limits);
    let (mut trials, mut best, mut last) = (Vec::new(), None, None);
    while let Some(rate) = search.next() {
        let load = Load {
            mode: Mode::Open { rate },
            ..scenario.load.clone()
        };
        let own_stop = Stop(Arc::new(watch::channel(false).0));
        let forward = forward(stop, &own_stop);
        let tried = round(plan, vec![load], view, &own_stop, make_executor.clone()).await;
        forward.abort();
        let tried = tried?;
        if tried.was_cut_short() {
            last = Some(tried);
            break;
        }
        let trial = tried.trial(rate);
        let held = trial.result == TrialResult::Held;
        tracing::info!(rate, held, "tried a rate");
        search.tried.push(search::Trial { rate, held });
        trials.push(trial);
        match held {
            true => best = Some(tried),
            false => last = Some(tried),
        }
        let mut stopped = stop.0.subscribe();
        drop(tokio::time::timeout(limits.pause, stopped.wait_for(|it| *it)).await);
    }
    let interrupted = last.as_ref().is_some_and(Round::was_cut_short);
    let bottleneck = last.as_ref().and_then(|it| it.bottleneck.clone());
    let mut round = best.or(last).context("no rate was tried")?;
    round.interrupted |= interrupted;
    // Above the result lies what the generator could not do, not what the service could not.
    round.bottleneck = round.bottleneck.or(bottleneck);
    Ok(Results {
        round,
        search: Some((search, trials)),
    })
}

/// An interruption of the whole ends the trial.
fn forward(from: &Stop, to: &Stop) -> tokio::task::JoinHandle<()> {
    let (mut from, to) = (from.0.subscribe(), to.clone());
    tokio::spawn(async move {
        if from.wait_for(|it| *it).await.is_ok() {
            to.0.send_replace(true);
        }
    })
}

async fn round<E: Executor>(
    plan: &Plan,
    loads: Vec<Load>,
    view: View,
    stop: &Stop,
    make_executor: impl Fn(usize, usize) -> E + Clone + Send + Sync + 'static,
) -> anyhow::Result<Round> {
    let works: Vec<_> = plan
        .scenarios
        .iter()
        .zip(&loads)
        .enumerate()
        .map(|(number, (it, load))| {
            let seed = plan.seed.wrapping_add((number as u64) << 32);
            Work::new(Arc::clone(&it.journey), Arc::clone(&plan.pool), load, seed)
        })
        .collect();
    let watched = plan.scenarios.iter().zip(&works).map(|(it, work)| Watched {
        name: it.name.clone(),
        planned: it.planned(),
        board: Arc::clone(&work.board),
    });
    let progress = Progress::start(watched.collect(), view);
    let meter = Meter::start();
    let guard = Guard::start(plan, &works, stop.clone(), meter.instant());
    let mut tasks = JoinSet::new();
    for (number, (scenario, load)) in plan.scenarios.iter().zip(&loads).enumerate() {
        let Some(work) = works.get(number).cloned() else {
            continue;
        };
        let control = Control {
            timeout: plan.timeout,
            start_after: scenario.start_after,
            stop: stop.0.subscribe(),
        };
        let (load, make_executor) = (load.clone(), make_executor.clone());
        tasks.spawn(async move {
            let make = |worker| make_executor(number, worker);
            (number, measure(&load, &work, control, make).await)
        });
    }
    let mut outcomes = Vec::new();
    while let Some(task) = tasks.join_next().await {
        let (number, outcome) = task.context("a scenario failed")?;
        outcomes.push((number, outcome?));
    }
    let aborted = guard.finish();
    if let Some(progress) = progress {
        progress.finish().await;
    }
    outcomes.sort_by_key(|(number, _)| *number);
    let finished: Vec<_> = outcomes
        .into_iter()
        .zip(plan.scenarios.iter().zip(loads).zip(works))
        .map(|((_, outcome), ((scenario, load), work))| finish(scenario, load, work, outcome))
        .collect();
    let usage = meter.stop();
    Ok(Round {
        thresholds: plan
            .thresholds
            .iter()
            .map(|it| judge(it, &finished, aborted.as_deref()))
            .collect(),
        interrupted: *stop.0.borrow(),
        aborted,
        bottleneck: usage.bottleneck(&finished),
        finished,
        usage,
    })
}

fn finish(scenario: &Scenario, load: Load, work: Work, outcome: Outcome) -> Finished {
    let journey = &scenario.journey;
    let known = journey.outage.as_ref().map(|it| it.until);
    let expects = journey.retry.is_some() || known.is_some();
    let waves = work.board.waves();
    let back = known.or_else(|| waves.came_back()).filter(|_| expects);
    Finished {
        name: scenario.name.clone(),
        executor: scenario.executor,
        load,
        labels: journey.steps.iter().map(|it| it.label.clone()).collect(),
        recovery: back.map(|back| Recovery {
            back,
            took: waves.recovery(back),
        }),
        work,
        outcome,
    }
}

/// The threshold that ended the round is crossed, even if its value has got better since.
fn judge(threshold: &Threshold, finished: &[Finished], aborted: Option<&str>) -> ThresholdResult {
    let parts = finished.iter().map(|it| Part {
        scenario: &it.name,
        labels: &it.labels,
        endpoints: it.outcome.endpoints.clone(),
        unsent: it.outcome.unsent,
        seconds: it.outcome.measured.as_secs_f64(),
        recovery: it.recovery,
    });
    let value = value(threshold, parts);
    ThresholdResult {
        expression: threshold.expression.clone(),
        value,
        unit: threshold.metric.unit_of_values().to_owned(),
        passed: threshold.holds(value) && aborted != Some(&threshold.expression),
        why: String::new(),
    }
}

/// Ends the round when a threshold is crossed that says so.
struct Guard {
    task: tokio::task::JoinHandle<()>,
    crossed: Arc<Mutex<Option<String>>>,
}

impl Guard {
    fn start(plan: &Plan, works: &[Work], stop: Stop, start: Instant) -> Self {
        let names = plan.scenarios.iter().zip(works).map(|(it, work)| {
            let labels = it.journey.steps.iter().map(|step| step.label.clone());
            (
                it.name.clone(),
                labels.collect::<Vec<_>>(),
                Arc::clone(&work.board),
            )
        });
        let boards: Vec<_> = names.collect();
        let thresholds: Vec<_> = plan
            .thresholds
            .iter()
            .filter(|it| it.abort_after.is_some())
            .cloned()
            .collect();
        let crossed = Arc::new(Mutex::new(None));
        let told = Arc::clone(&crossed);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(WATCH_INTERVAL);
            while !thresholds.is_empty() {
                ticks.tick().await;
                let elapsed = start.elapsed();
                let due = thresholds
                    .iter()
                    .filter(|it| it.abort_after.is_some_and(|after| elapsed >= after));
                for threshold in due {
                    let parts = boards.iter().map(|(scenario, labels, board)| Part {
                        scenario,
                        labels,
                        endpoints: board.endpoints(),
                        unsent: board.waiting(),
                        seconds: elapsed.as_secs_f64(),
                        recovery: None,
                    });
                    let value = value(threshold, parts);
                    if value.is_some() && !threshold.holds(value) {
                        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                        *told = Some(threshold.expression.clone());
                        stop.0.send_replace(true);
                        return;
                    }
                }
            }
        });
        Self { task, crossed }
    }

    fn finish(self) -> Option<String> {
        self.task.abort();
        let mut crossed = self.crossed.lock().unwrap_or_else(PoisonError::into_inner);
        crossed.take()
    }
}

#[cfg(test)]
mod tests;

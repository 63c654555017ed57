//! The agent's life: build everything, start, change when the configuration does, wait for a reason to stop, drain.

mod service;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use thiserror::Error;
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use crate::config::{
    self, ConfigSources, Configuration, Diagnostics, Format, LogEncoding, LogSettings, Source,
};
use crate::failure::Failures;
use crate::health::{Health, Phase, Reloaded, Shown};
use crate::overview::{Overview, Shape};
use crate::pipeline::{Built, Change, Ending, Running, World};
use crate::process;
use crate::progress::Pulse;
use crate::reload::{Difference, Loaded, Outcome, Report, Request, Watch};
use crate::side::{Prepared, Side, Surroundings};
use crate::systemd::{Manager, Notifier, State, extending};
use crate::tap::Taps;
use crate::telemetry::logs::Logs;
use crate::telemetry::spans::SpanKind;
use crate::telemetry::{Telemetry, names};

/// Everything that cannot be built at the start, each with its place in the configuration.
#[derive(Debug, Error)]
#[error("not everything in the configuration can be had: {}", .found.summary())]
pub struct NotBuilt {
    /// What it is.
    pub found: Diagnostics,
    /// Whether starting again cannot help until the configuration, or a file that it names, is another.
    pub permanent: bool,
}

/// Runs the agent until it is told to stop, or cannot go on.
///
/// # Errors
/// [`NotBuilt`] when components cannot be built.
pub async fn run(
    sources: ConfigSources,
    configuration: Configuration,
    logs: Logs,
    mut manager: Manager,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let world = service::world(&mut manager);
    let starting = Agent::start(
        sources,
        configuration,
        logs,
        world,
        manager.notifier.clone(),
    );
    let mut agent = tokio::select! {
        agent = extending(&manager.notifier, START_MAX, starting) => agent?,
        // Nothing has been accepted yet, and what is being built may take long: a plugin's start, logs that are read.
        name = stop(&mut signals.terminate, &mut signals.interrupt) => {
            info!(signal = name, "stopping before everything was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    // Nobody asks without a watchdog.
    let watching = match manager.watchdog {
        Some(interval) => Some(agent.watch_over(interval)?),
        None => None,
    };
    info!(
        pipelines = agent.loaded.settings().pipelines.len(),
        "everything is ready, running"
    );
    agent.tell(&[State::Ready]);
    let life = async move {
        let failure = agent.serve(&mut signals).await;
        if let Some(problem) = &failure {
            error!(problem, "stopping: a component has failed");
        }
        agent.stop(&mut signals).await && failure.is_none()
    };
    let clean = match watching {
        Some((_watchdog, mut pings)) => tokio::select! {
            clean = life => clean,
            never = pings.answer_forever() => match never {},
        },
        None => life.await,
    };
    Ok(match clean {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// For how long a start may ask for more time: reading what is left in large logs takes minutes at most.
const START_MAX: Duration = Duration::from_secs(15 * 60);

/// A reload opens logs that a start would open. While it takes its time everything runs as before, but nothing can be
/// changed any more if it never ends.
const RELOAD_MAX: Duration = Duration::from_secs(10 * 60);

/// How often the service manager is told how much was delivered, and sockets that nobody serves are looked for.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// What ends after the pipelines: extensions, the door for commands, connections that are cut.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// Commands that wait while one is carried out.
const REQUESTS_MAX: usize = 16;

/// How often it is tried to forget what was removed, which may drain for as long as `drain_timeout`.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// What asks for a reload where nobody does: the files themselves.
const FILES: &str = "files";

/// What runs, and what it was made from.
struct Agent {
    sources: ConfigSources,
    loaded: Arc<Loaded>,
    running: Running,
    side: Side,
    requests: mpsc::Receiver<Request>,
    watch: Watch,
    logs: Logs,
    health: Health,
    telemetry: Telemetry,
    reloads: SpanKind,
    overview: Overview,
    taps: Taps,
    world: World,
    notifier: Notifier,
    /// Says that a reload is under way.
    reloading: Pulse,
    /// Sockets of the service manager's that were found to be served by nobody.
    unserved: Vec<String>,
    /// The most bytes of telemetry to hold.
    held_max: usize,
    /// Whether there may be metrics of what does not run any more.
    untidy: bool,
}

/// What the agent waits for besides its end.
enum Wish {
    Files,
    Hangup,
    Request(Request),
    Status,
}

impl Agent {
    async fn start(
        sources: ConfigSources,
        configuration: Configuration,
        logs: Logs,
        world: World,
        notifier: Notifier,
    ) -> anyhow::Result<Self> {
        let health = Health::default();
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let started = Instant::now();
        let overview = Overview::new(world.clone(), health.clone(), started);
        let mut side = Side::new(Surroundings {
            world: world.clone(),
            health: health.clone(),
            requests: sender,
            overview: overview.clone(),
            started,
        });
        let held_max = held_max(process::memory_available());
        let loaded = Arc::new(Loaded::new(configuration));
        // Pages are served while everything else is built.
        health.show(shown(&loaded));
        let prepared = side
            .prepare(None, &loaded)
            .map(|prepared| side.swap(prepared));
        let built = {
            let (loaded, world) = (Arc::clone(&loaded), world.clone());
            beside(move || loaded.plan(held_max).build(&world)).await
        };
        let (built, ()) = Failures::both(built, prepared).map_err(|failures| NotBuilt {
            found: failures.locate(&loaded.configuration.tree),
            permanent: failures.are_permanent(),
        })?;
        let mut running = built.start();
        running.drain_timeout = loaded.settings().drain_timeout;
        health.enter(Phase::Ready);
        let mut agent = Self {
            sources,
            loaded,
            running,
            side,
            requests,
            watch: Watch::default(),
            logs,
            health,
            reloads: world.telemetry.spans().kind("reload"),
            telemetry: world.telemetry.clone(),
            overview,
            taps: world.taps.clone(),
            reloading: world.progress.line("reload", || false).pulse(),
            world,
            notifier,
            unserved: Vec::new(),
            held_max,
            untidy: false,
        };
        agent.show();
        agent.look_at_sockets();
        agent.look_at_files();
        agent.note_success();
        Ok(agent)
    }

    /// Runs until told to stop, or something fails: then it says what.
    async fn serve(&mut self, signals: &mut Signals) -> Option<String> {
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let quiet = self.loaded.settings().reload.debounce;
            let wish = tokio::select! {
                name = stop(&mut signals.terminate, &mut signals.interrupt) => {
                    info!(signal = name, "stopping");
                    return None;
                }
                problem = self.running.receiver_failed() => return Some(problem),
                problem = self.side.failed() => return Some(problem),
                _ = signals.hangup.recv() => Wish::Hangup,
                () = self.watch.changed(quiet) => Wish::Files,
                () = tokio::time::sleep(TIDY_INTERVAL), if self.untidy => {
                    self.untidy = !self.running.tidy();
                    continue;
                }
                // The sender is in the side tasks, which outlive this.
                Some(request) = self.requests.recv() => Wish::Request(request),
                _ = status.tick() => Wish::Status,
            };
            tokio::select! {
                () = self.fulfil(wish) => {}
                // What is being built beside is dropped when it is there; until it is swapped in, everything is as it was.
                name = stop(&mut signals.terminate, &mut signals.interrupt) => {
                    info!(signal = name, "stopping during a reload");
                    return None;
                }
            }
        }
    }

    async fn fulfil(&mut self, wish: Wish) {
        match wish {
            Wish::Status => {
                self.look_at_sockets();
                self.tell(&[]);
            }
            Wish::Files => drop(self.reload(false, FILES).await),
            Wish::Hangup => drop(self.reload(false, "SIGHUP").await),
            Wish::Request(Request { dry_run, answer }) => {
                let report = self.reload(dry_run, "command").await;
                // Whoever asked may have gone away.
                drop(answer.send(report));
            }
        }
    }

    /// Reads the configuration again and does what it says, or only says what that would be.
    async fn reload(&mut self, dry_run: bool, trigger: &'static str) -> Report {
        let started = Instant::now();
        let before = self.watch.stamp();
        self.reloading.within(RELOAD_MAX);
        if !dry_run {
            self.notifier.tell(&[
                State::Reloading,
                State::Status("reading the configuration again"),
            ]);
        }
        let mut span = self.reloads.start();
        let report = self.try_reload(dry_run).await;
        if report.outcome == Outcome::Refused {
            let problem = report.problems.first();
            span.fails(|| problem.map_or_else(String::new, ToString::to_string));
        }
        drop(span);
        self.reloading.rests();
        if !dry_run {
            self.look_at_sockets();
            // Also after a refusal: what is mended has to be noticed.
            self.look_at_files();
            if self.watch.stamp() != before {
                // What changed while it was read may not have been noticed.
                self.watch.look_again();
            }
            self.note(&report, trigger, started);
            // Also after a refusal: it runs as before.
            self.tell(&[State::Ready]);
        }
        report
    }

    async fn try_reload(&mut self, dry_run: bool) -> Report {
        let sources = self.sources.clone();
        let read = move || config::load_configuration(&sources).map(Loaded::new);
        let new = match beside(read).await {
            Ok(new) => Arc::new(new),
            Err(found) => return Report::wrong(&found),
        };
        let difference = Difference::between(&self.loaded, &new);
        let warnings = new.configuration.warnings.clone();
        let built = match difference.is_empty() {
            true => None,
            false => match self.build(&new).await {
                Ok(built) => Some(built),
                Err(failures) => {
                    let found = failures.locate(&new.configuration.tree);
                    return Report::failed(difference, &found);
                }
            },
        };
        if dry_run {
            // That it can be built was all there was to find out. Files are closed.
            beside(move || drop(built)).await;
            return Report::new(Outcome::Valid, difference, &warnings);
        }
        let outcome = match built {
            None => Outcome::Unchanged,
            Some((built, prepared)) => {
                self.swap(built, prepared, &new);
                Outcome::Reloaded
            }
        };
        self.loaded = new;
        self.health.show(shown(&self.loaded));
        self.show();
        Report::new(outcome, difference, &warnings)
    }

    /// Builds everything new beside what runs.
    async fn build(&mut self, new: &Arc<Loaded>) -> Result<(Built, Prepared), Failures> {
        self.untidy = true;
        let prepared = self.side.prepare(Some(&self.loaded), new);
        let builder = self.running.builder();
        let (old, new, held_max) = (Arc::clone(&self.loaded), Arc::clone(new), self.held_max);
        let built = beside(move || builder(&old.plan(held_max), &new.plan(held_max))).await;
        Failures::both(built, prepared)
    }

    /// From here on nothing can fail.
    fn swap(&mut self, built: Built, prepared: Prepared, new: &Loaded) {
        let settings = new.settings();
        // Before anything is replaced, so that what is removed has the time that is written now.
        self.running.drain_timeout = settings.drain_timeout;
        // Who asks an authenticator has to find it.
        self.side.swap(prepared);
        self.running.swap(built);
        let LogSettings { level, encoding } = settings.telemetry.logs;
        if settings.telemetry.logs != self.loaded.settings().telemetry.logs {
            self.logs
                .change(level.into(), encoding == LogEncoding::Json);
        }
    }

    /// Shows what runs now to those who look at it.
    fn show(&self) {
        self.overview.show(Shape::of(self.loaded.settings()));
        // In this order: who opens a tap looks for the pipeline afterwards.
        self.taps.keep(&self.overview.pipelines());
    }

    fn look_at_files(&mut self) {
        if !self.loaded.settings().reload.watch {
            return self.watch.look_at(None::<[&Path; 0]>);
        }
        let sources = self.sources.sources.iter();
        let named = sources.filter_map(|source| match source {
            Source::Path(path) => Some(path.as_path()),
            Source::Stdin | Source::Text { .. } => None,
        });
        let read = self.loaded.configuration.files.iter();
        let read = read.map(PathBuf::as_path);
        let referred = self.loaded.files.files();
        self.watch.look_at(Some(named.chain(read).chain(referred)));
    }

    /// Tells about a reload: the log, the health page, the metrics.
    fn note(&self, report: &Report, trigger: &'static str, started: Instant) {
        let took = started.elapsed();
        let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
        let outcome = report.outcome.name();
        match (&report.outcome, &report.difference) {
            (Outcome::Reloaded, Some(difference)) => {
                let names = |change| difference.names(change);
                info!(
                    trigger,
                    ?took,
                    started = names(Change::Started),
                    changed = names(Change::Changed),
                    removed = names(Change::Removed),
                    kept = names(Change::Kept),
                    service = difference.service.join(" "),
                    "configuration reloaded"
                );
                problems
                    .iter()
                    .for_each(|problem| warn!("configuration: {problem}"));
            }
            (Outcome::Refused, _) => {
                error!(trigger, problems = ?problems, "configuration refused: everything runs as before");
            }
            // Such as a file that was refused, and is as it was before.
            _ if self.is_refused() => {
                info!(
                    trigger,
                    "configuration accepted again: it is the one that runs"
                );
            }
            // Files are touched more often than changed.
            _ if trigger == FILES => return debug!(trigger, "configuration unchanged"),
            _ => info!(trigger, "configuration unchanged"),
        }
        self.telemetry.counter(&names::RELOADS, &[outcome]).inc();
        if report.outcome == Outcome::Refused {
            self.telemetry.gauge(&names::RELOAD_SUCCESSFUL, &[]).set(0);
        } else {
            self.note_success();
        }
        self.health.note_reload(Reloaded {
            at: SystemTime::now(),
            outcome,
            problems: match report.outcome {
                Outcome::Refused => problems,
                _ => Vec::new(),
            },
        });
    }

    /// Whether what was last read was refused.
    fn is_refused(&self) -> bool {
        let last = self.health.reloaded();
        last.is_some_and(|last| last.outcome == Outcome::Refused.name())
    }

    fn note_success(&self) {
        let gauge = |spec, value| self.telemetry.gauge(spec, &[]).set(value);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        gauge(&names::RELOAD_SUCCESSFUL, 1);
        gauge(
            &names::RELOAD_SUCCESS_TIME,
            i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        );
        gauge(&names::CONFIG_HASH, self.loaded.hash());
    }

    /// Whether nothing was given up for want of time.
    async fn stop(self, signals: &mut Signals) -> bool {
        self.health.enter(Phase::Stopping);
        let queued = self.running.totals().queued;
        let status = format!("stopping; delivering what is queued: {queued} items");
        self.notifier
            .tell(&[State::Stopping, State::Status(&status)]);
        let Self {
            running,
            side,
            loaded,
            notifier,
            ..
        } = self;
        let limit = loaded.settings().drain_timeout + STOP_SLACK;
        let ending = async {
            let clean = drain(running, &loaded, signals).await;
            side.stop().await;
            clean
        };
        extending(&notifier, limit, ending).await
    }
}

/// Whether nothing was given up for want of time.
async fn drain(running: Running, loaded: &Loaded, signals: &mut Signals) -> bool {
    let drain_timeout = loaded.settings().drain_timeout;
    let ending = tokio::select! {
        ending = running.stop(drain_timeout) => ending,
        name = signals.stop() => {
            warn!(signal = name, "second signal: stopping at once; what waits in memory is lost, what waits in a log on disk stays there");
            return false;
        }
    };
    let Ending {
        given_up_now,
        given_up,
        stays,
    } = ending;
    if given_up_now > 0 {
        error!(
            items = given_up_now,
            ?drain_timeout,
            "not delivered before the drain time was over"
        );
        return false;
    }
    if stays > 0 {
        info!(
            items = stays,
            "what was not delivered yet stays in the logs on disk and goes out after the next start"
        );
    }
    if given_up > 0 {
        warn!(
            items = given_up,
            "drained; some items were given up while the agent ran: tidegate_ledger_dropped_items said why"
        );
    } else if stays == 0 {
        info!("drained, everything accepted was delivered");
    }
    true
}

/// The configuration as the pages show it.
fn shown(loaded: &Loaded) -> Shown {
    let tree = &loaded.configuration.tree;
    let render = |format| {
        config::render(tree, format, true)
            .unwrap_or_else(|problem| format!("the configuration cannot be written: {problem}"))
    };
    Shown {
        toml: render(Format::Toml),
        json: render(Format::Json),
    }
}

/// Runs `work` where it may wait for the disk.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Without a memory limiter, telemetry held may take a quarter of the memory there is: the rest is for encoding it,
/// for the allocator's slack and for everything else on the host.
fn held_max(available: u64) -> usize {
    usize::try_from(available / 4).unwrap_or(usize::MAX)
}

/// The signals that ask the agent to stop, and the one that asks it to read its configuration again.
struct Signals {
    terminate: UnixSignal,
    interrupt: UnixSignal,
    hangup: UnixSignal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("listen for SIGHUP")?,
        })
    }

    /// Waits for SIGTERM or SIGINT.
    async fn stop(&mut self) -> &'static str {
        stop(&mut self.terminate, &mut self.interrupt).await
    }
}

async fn stop(terminate: &mut UnixSignal, interrupt: &mut UnixSignal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

//! The agent's life: build everything, start, wait for a reason to stop, drain.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::component::{ComponentError, ExtensionContext, Shutdown};
use crate::config::Settings;
use crate::health::{Health, Phase};
use crate::memory::HeldBytes;
use crate::pipeline::{Ending, Plan, Running};
use crate::process;
use crate::telemetry::{Telemetry, server};

/// Runs the agent until it is told to stop, or cannot go on.
///
/// # Errors
/// When a component cannot be built or a receiver fails.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let telemetry = Telemetry::default();
    let held = HeldBytes::default();
    let health = Health::default();

    let mut side = SideTasks::start(&settings, &telemetry, &held, &health)?;
    let mut running = plan(&settings).build(&telemetry, &held)?.start();
    health.enter(Phase::Ready);
    info!(
        pipelines = settings.pipelines.len(),
        "everything is ready, running"
    );

    let failure = tokio::select! {
        name = signals.stop() => {
            info!(signal = name, "stopping");
            None
        }
        problem = running.receiver_failed() => Some(problem),
        problem = side.failed() => Some(problem),
    };
    if let Some(problem) = &failure {
        error!(problem, "stopping: a component has failed");
    }
    health.enter(Phase::Stopping);
    let clean = drain(running, &settings, &mut signals).await;
    side.stop().await;
    Ok(if clean && failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether nothing was given up for want of time.
async fn drain(running: Running, settings: &Settings, signals: &mut Signals) -> bool {
    let ending = tokio::select! {
        ending = running.stop(settings.drain_timeout) => ending,
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
        error!(items = given_up_now, drain_timeout = ?settings.drain_timeout, "not delivered before the drain time was over");
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

fn plan(settings: &Settings) -> Plan<'_> {
    Plan {
        receivers: by_id(&settings.receivers),
        processors: by_id(&settings.processors),
        exporters: by_id(&settings.exporters),
        pipelines: &settings.pipelines,
        held_max: held_max(process::memory_available()),
    }
}

fn by_id<S: ?Sized>(components: &[(String, Box<S>)]) -> BTreeMap<&str, &S> {
    components
        .iter()
        .map(|(id, settings)| (id.as_str(), settings.as_ref()))
        .collect()
}

/// Without a memory limiter, telemetry held may take a quarter of the memory there is: the rest is for encoding it,
/// for the allocator's slack and for everything else on the host.
fn held_max(available: u64) -> usize {
    usize::try_from(available / 4).unwrap_or(usize::MAX)
}

/// What runs beside the pipelines: the metrics endpoint and the extensions.
struct SideTasks {
    shutdown: Shutdown,
    tasks: JoinSet<(String, Result<(), ComponentError>)>,
}

impl SideTasks {
    fn start(
        settings: &Settings,
        telemetry: &Telemetry,
        held: &HeldBytes,
        health: &Health,
    ) -> anyhow::Result<Self> {
        let shutdown = Shutdown::default();
        let mut tasks = JoinSet::new();
        if let Some(address) = &settings.telemetry.metrics_address {
            let endpoint = server::bind(address)
                .with_context(|| format!("bind the metrics endpoint {address}"))?;
            let work = endpoint.run(telemetry.clone(), held.clone(), shutdown.clone());
            tasks.spawn(async move { ("metrics".to_owned(), work.await) });
        }
        for (id, extension) in &settings.extensions {
            let context = ExtensionContext {
                id: id.clone(),
                health: health.clone(),
                telemetry: telemetry.clone(),
            };
            let work = extension.build(context)?.run(shutdown.clone());
            let id = id.clone();
            tasks.spawn(async move { (id, work.await) });
        }
        Ok(Self { shutdown, tasks })
    }

    /// Waits until one of them fails. Never resolves where there is none.
    async fn failed(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok((id, Ok(())))) => format!("{id} ended although nobody asked it to"),
            Some(Ok((id, Err(cause)))) => format!("{id}: {cause}"),
            Some(Err(panic)) => format!("a task failed: {panic}"),
            None => std::future::pending().await,
        }
    }

    async fn stop(mut self) {
        self.shutdown.trigger();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SIDE_GRACE, all).await.is_err() {
            warn!("extensions did not end in time");
        }
    }
}

/// A health check or a scrape under way may finish.
const SIDE_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// The signals that ask the agent to stop, and the one it must survive.
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
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => warn!("SIGHUP: this version cannot reload its configuration, nothing changes"),
            }
        }
    }
}

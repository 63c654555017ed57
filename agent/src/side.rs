//! What runs beside the pipelines: the metrics endpoint, the door for commands, and the extensions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::component::{BoxFuture, ComponentError, ExtensionContext, Shutdown};
use crate::config::Settings;
use crate::failure::Failures;
use crate::health::Health;
use crate::overview::Overview;
use crate::pipeline::{Change, World};
use crate::reload::{Behind, Door, Loaded, Request, extension};
use crate::status::Reporter;
use crate::telemetry::server;

/// A health check or a scrape under way may finish.
const GRACE: Duration = Duration::from_secs(2);

const METRICS: &str = "the metrics endpoint";
const DOOR: &str = "the door for commands";
const EXTENSIONS: &str = "extensions.";

fn extension_name(id: &str) -> String {
    format!("{EXTENSIONS}{id}")
}

/// How one of them ended; whether it was told to.
type End = (String, bool, Result<(), ComponentError>);

/// What all of them are given.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) world: World,
    pub(crate) health: Health,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) overview: Overview,
    /// When the process began.
    pub(crate) started: Instant,
}

/// What runs beside the pipelines.
pub(crate) struct Side {
    surroundings: Surroundings,
    tasks: JoinSet<End>,
    running: BTreeMap<String, Shutdown>,
}

/// Built, and not started.
pub(crate) struct Prepared {
    begin: Vec<(String, Begin)>,
    kept: BTreeSet<String>,
    /// Of the extensions that begin, by id.
    statuses: Vec<(String, Reporter)>,
}

fn same_metrics(old: &Loaded, new: &Loaded) -> bool {
    let of = |loaded: &Loaded| {
        let telemetry = &loaded.settings().telemetry;
        (telemetry.metrics_address, telemetry.metrics_lock.clone())
    };
    of(old) == of(new) && new.same_files(old, new.settings().telemetry.metrics_lock.files())
}

fn same_door(old: &Loaded, new: &Loaded) -> bool {
    let of = |loaded: &Loaded| {
        let settings = loaded.settings();
        (settings.admin.clone(), settings.admin_lock.clone())
    };
    of(old) == of(new) && new.same_files(old, new.settings().admin_lock.files())
}

type Begin = Box<dyn FnOnce(Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> + Send>;

impl Side {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        Self {
            surroundings,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
        }
    }

    /// Builds what `new` wants and `old` has not. Nothing that runs changes. Called on the runtime.
    ///
    /// # Errors
    /// Everything that cannot be built.
    pub(crate) fn prepare(&self, old: Option<&Loaded>, new: &Loaded) -> Result<Prepared, Failures> {
        let mut failures = Failures::default();
        let mut prepared = Prepared {
            begin: Vec::new(),
            kept: BTreeSet::new(),
            statuses: Vec::new(),
        };
        if old.is_some_and(|old| same_metrics(old, new)) {
            prepared.kept.insert(METRICS.to_owned());
        } else {
            let metrics = failures.note(&["service"], self.metrics(new.settings()));
            prepared.begin.extend(metrics.flatten());
        }
        if old.is_some_and(|old| same_door(old, new)) {
            prepared.kept.insert(DOOR.to_owned());
        } else {
            let door = failures.note(&["service"], self.door(new.settings()));
            prepared.begin.extend(door.flatten());
        }
        for (id, settings) in &new.settings().extensions {
            let name = extension_name(id);
            if old.is_some_and(|old| extension(old, new, id) == Change::Kept) {
                prepared.kept.insert(name);
                continue;
            }
            let attempt = settings.build(ExtensionContext {
                id: id.clone(),
                health: self.surroundings.health.clone(),
                telemetry: self.surroundings.world.telemetry.clone(),
                statuses: self.surroundings.world.statuses.clone(),
                sockets: self.surroundings.world.sockets.clone(),
                authenticators: self.surroundings.world.authenticators.clone(),
            });
            let Some(built) = failures.note(&["extensions", id], attempt) else {
                continue;
            };
            prepared
                .begin
                .push((name, Box::new(|shutdown| built.run(shutdown))));
            let status = self.surroundings.world.statuses.reporter();
            prepared.statuses.push((id.clone(), status));
        }
        failures.or(prepared)
    }

    fn metrics(&self, settings: &Settings) -> Result<Option<(String, Begin)>, ComponentError> {
        let Some(address) = &settings.telemetry.metrics_address else {
            return Ok(None);
        };
        let Surroundings { world, started, .. } = self.surroundings.clone();
        let lock = &settings.telemetry.metrics_lock;
        let endpoint = server::bind(&world.sockets, address, lock, &world.authenticators)?;
        let begin: Begin = Box::new(move |shutdown| {
            let serving = endpoint.run(world.telemetry, world.held, started, shutdown);
            Box::pin(async move {
                serving.await;
                Ok(())
            })
        });
        Ok(Some((METRICS.to_owned(), begin)))
    }

    fn door(&self, settings: &Settings) -> Result<Option<(String, Begin)>, ComponentError> {
        let Some(endpoint) = &settings.admin else {
            return Ok(None);
        };
        let Surroundings {
            world,
            health,
            requests,
            overview,
            ..
        } = self.surroundings.clone();
        let lock = &settings.admin_lock;
        let door = Door::bind(&world.sockets, endpoint, lock, &world.authenticators)?;
        let behind = Behind {
            requests,
            health,
            overview,
            taps: world.taps,
        };
        let begin: Begin = Box::new(move |shutdown| {
            info!(address = door.address(), "commands are taken");
            let serving = door.serve(behind, shutdown);
            Box::pin(async move {
                serving.await;
                Ok(())
            })
        });
        Ok(Some((DOOR.to_owned(), begin)))
    }

    /// Starts what was built, and ends what it takes the place of.
    pub(crate) fn swap(&mut self, prepared: Prepared) {
        let old = std::mem::take(&mut self.running);
        let (kept, old): (BTreeMap<_, _>, BTreeMap<_, _>) = old
            .into_iter()
            .partition(|(name, _)| prepared.kept.contains(name));
        self.running = kept;
        let statuses = &self.surroundings.world.statuses;
        statuses.adopt_extensions(prepared.statuses, |id| {
            prepared.kept.contains(&extension_name(id))
        });
        for (name, begin) in prepared.begin {
            let shutdown = Shutdown::default();
            let work = begin(shutdown.clone());
            self.running.insert(name.clone(), shutdown.clone());
            self.tasks.spawn(async move {
                let end = work.await;
                (name, shutdown.is_triggered(), end)
            });
        }
        old.values().for_each(Shutdown::trigger);
    }

    /// Waits until one of them fails. Never resolves where there is none.
    pub(crate) async fn failed(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((name, true, Err(cause)))) => warn!(name, %cause, "did not end well"),
                Some(Ok((_, true, Ok(())))) => {}
                Some(Ok((name, false, end))) => {
                    let problem = match end {
                        Ok(()) => format!("{name} ended although nobody asked it to"),
                        Err(cause) => format!("{name}: {cause}"),
                    };
                    let id = name.strip_prefix(EXTENSIONS).unwrap_or_default();
                    if let Some(status) = self.surroundings.world.statuses.extension(id) {
                        status.fatal(&problem);
                    }
                    return problem;
                }
                Some(Err(panic)) => return format!("a task failed: {panic}"),
                None => std::future::pending().await,
            }
        }
    }

    pub(crate) async fn stop(mut self) {
        self.running.values().for_each(Shutdown::trigger);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            warn!("extensions did not end in time");
        }
    }
}

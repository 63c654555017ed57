//! The state of the agent as a whole, for health checks.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

/// Where the agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Components are being built.
    Starting,
    /// Pipelines are ready.
    Ready,
    /// Draining.
    Stopping,
}

/// How the configuration was last read again.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// When.
    pub at: SystemTime,
    /// What came of it, in a word.
    pub outcome: &'static str,
    /// Why it was refused, if it was.
    pub problems: Vec<String>,
}

/// The configuration that runs, as it may be shown: without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As it is written.
    pub toml: String,
    /// For programs.
    pub json: String,
}

/// The agent's phase, shared.
#[derive(Debug, Clone)]
pub struct Health {
    phase: Arc<watch::Sender<Phase>>,
    reloaded: Arc<watch::Sender<Option<Reloaded>>>,
    shown: Arc<ArcSwapOption<Shown>>,
    since: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Starting)),
            reloaded: Arc::default(),
            shown: Arc::default(),
            since: Instant::now(),
        }
    }
}

impl Health {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// How the configuration was last read again, if it was.
    pub fn reloaded(&self) -> Option<Reloaded> {
        self.reloaded.borrow().clone()
    }

    /// Notes how the configuration was read again.
    pub fn note_reload(&self, reloaded: Reloaded) {
        self.reloaded.send_replace(Some(reloaded));
    }

    /// The configuration that runs, once it does.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        self.shown.load_full()
    }

    /// Notes which configuration runs.
    pub fn show(&self, shown: Shown) {
        self.shown.store(Some(Arc::new(shown)));
    }

    /// When the agent started.
    pub fn since(&self) -> Instant {
        self.since
    }
}

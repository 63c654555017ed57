//! The state of the agent as a whole, for health checks.

use std::sync::Arc;
use std::time::Instant;

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

/// The agent's phase, shared.
#[derive(Debug, Clone)]
pub struct Health {
    phase: Arc<watch::Sender<Phase>>,
    since: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Starting)),
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

    /// When the agent started.
    pub fn since(&self) -> Instant {
        self.since
    }
}

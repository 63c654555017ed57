//! Reading the configuration again: what asks for it, what it changes, and what is told about it.
//!
//! `app` has the agent that is changed; this is everything around it.

mod difference;
mod door;
mod report;
mod watch;

use tokio::sync::oneshot;

pub use difference::{Difference, Entry};
pub(crate) use difference::{Loaded, extension};
pub(crate) use door::{Behind, Door};
pub use report::{Outcome, Problem, Report};
pub(crate) use watch::Watch;

/// Somebody wants the configuration to be read again.
#[derive(Debug)]
pub(crate) struct Request {
    /// Whether only to say what it would change.
    pub(crate) dry_run: bool,
    /// Takes what came of it.
    pub(crate) answer: oneshot::Sender<Report>,
}

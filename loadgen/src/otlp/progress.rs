//! How many items have been sent so far, written to a file now and then: what is known of a run that is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use super::client::Outcome;

/// From one time that it is written to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Items of requests whose fate is known: no more than that is said of those under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    /// Of those, declined as OTLP partial success.
    pub(crate) rejected: u64,
    pub(crate) refused: u64,
    /// Sent, and not answered.
    pub(crate) failed: u64,
}

impl Progress {
    fn add(&mut self, items: u64, outcome: &Outcome) {
        match outcome {
            Outcome::NotSent(_) => return,
            Outcome::Accepted { rejected } => {
                self.accepted += items;
                self.rejected += (*rejected).min(items);
            }
            Outcome::Refused(_) => self.refused += items,
            Outcome::Failed(_) => self.failed += items,
        }
        self.sent += items;
    }

    /// What was written last; `None` where nothing was.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// Counts while others send: all that a process sends, what it sends to warm up and in each repetition included.
#[derive(Debug)]
pub(crate) struct Teller {
    path: PathBuf,
    /// What has been counted.
    progress: Mutex<Progress>,
}

impl Teller {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            progress: Mutex::default(),
        }
    }

    /// Counts how a request of so many items ended.
    pub(crate) fn end(&self, items: u64, outcome: &Outcome) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.add(items, outcome);
    }

    /// Writes the file, which has either all of this or all of what was there before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let progress = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let written = fs::write(&new, serde_json::to_vec(&progress)?);
        let renamed = written.and_then(|()| fs::rename(&new, &self.path));
        renamed.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes the file until it is stopped, or cannot be written: the load goes on without it.
    pub(crate) async fn tell(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.write() {
                tracing::warn!("the progress is not told any more: {error:#}");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::client::Refusal;

    #[test]
    fn what_was_written_last_says_how_requests_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress.json");
        assert_eq!(Progress::read(&path), None);
        let teller = Teller::new(path.clone());
        teller.write().unwrap();
        assert_eq!(Progress::read(&path), Some(Progress::default()));
        let refusal = Refusal {
            status: "503".into(),
            may_retry: true,
            retry_after: None,
        };
        for outcome in [
            Outcome::Accepted { rejected: 3 },
            Outcome::Refused(refusal),
            Outcome::Failed("timeout".into()),
            Outcome::NotSent("connect".into()),
        ] {
            teller.end(10, &outcome);
        }
        teller.write().unwrap();
        let expected = Progress {
            sent: 30,
            accepted: 10,
            rejected: 3,
            refused: 10,
            failed: 10,
        };
        assert_eq!(Progress::read(&path), Some(expected));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

//! Puts into dead letters what a destination will never take.

use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::failure::Failure;
use crate::component::{ExporterContext, Shutdown};
use crate::exporters::dead_letter::{Draft, Folder, Reason};
use crate::exporters::queue::{Settlement, Ticket};
use crate::exporters::retry::{Backoff, RetrySettings, random_unit};
use crate::signal::Signal;
use crate::status::{Condition, Reporter};

/// The wait between attempts to write a letter where the settings say nothing.
const WAIT: Duration = Duration::from_secs(5);

/// Where one exporter's letters for one signal go, and how it is tried.
#[derive(Debug, Clone)]
pub(super) struct Letters {
    folder: Folder,
    exporter: String,
    signal: Signal,
    retry: RetrySettings,
    cut: Shutdown,
    leave: Shutdown,
    status: Reporter,
}

/// What became of a letter.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is on disk.
    Written,
    /// It cannot be written, and nothing keeps the batch meanwhile.
    Failed,
    /// Something else happened to the batch first.
    Interrupted(Failure),
}

impl Letters {
    pub(super) fn new(
        context: &ExporterContext,
        signal: Signal,
        folder: Folder,
        retry: RetrySettings,
        (cut, leave): (&Shutdown, &Shutdown),
    ) -> Self {
        Self {
            folder,
            exporter: context.id.clone(),
            signal,
            retry,
            cut: cut.clone(),
            leave: leave.clone(),
            status: context.status[signal].clone(),
        }
    }

    /// Puts a batch into a letter. What a log keeps safe waits in it until that works.
    pub(super) async fn keep(
        &self,
        settlement: &Settlement,
        ticket: &Ticket,
        failure: &Failure,
        reason: Reason,
    ) -> Kept {
        let mut backoff = Backoff::new(&self.retry);
        let started = Instant::now();
        let (exporter, signal, items) = (&self.exporter, self.signal, settlement.items());
        loop {
            let Err(problem) = self.write(settlement, ticket, failure, reason).await else {
                self.status.works(Condition::Disk);
                return Kept::Written;
            };
            let cause = format!("a dead letter could not be written: {problem}");
            self.status.fails(Condition::Disk, &cause);
            if !settlement.is_durable() {
                error!(exporter, %signal, items, problem, "the dead letter could not be written: the batch is dropped");
                return Kept::Failed;
            }
            if settlement.is_expired() {
                return Kept::Interrupted(Failure::Expired);
            }
            let wait = backoff
                .next_wait(None, started.elapsed(), random_unit())
                .unwrap_or(WAIT);
            error!(exporter, %signal, items, problem, retry_in = ?wait, "the dead letter could not be written: the batch stays in the queue, and what comes after it may have to wait");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.cut.triggered() => return Kept::Interrupted(Failure::CutShort),
                () = self.leave.triggered() => return Kept::Interrupted(Failure::Left),
            }
        }
    }

    async fn write(
        &self,
        settlement: &Settlement,
        ticket: &Ticket,
        failure: &Failure,
        reason: Reason,
    ) -> Result<(), String> {
        let payload = settlement
            .payload()
            .await
            .map_err(|cause| format!("read the batch again: {cause}"))?;
        let items = failure.items(settlement.items());
        let pipelines = settlement.pipelines();
        let draft = Draft {
            batch: ticket.name().to_owned(),
            parts_done: ticket.parts_done(),
            pipelines: pipelines.into_iter().map(str::to_owned).collect(),
            reason,
            cause: failure.cause().to_owned(),
            rejected: items,
            since_unix_ms: settlement.since_unix_ms(),
            payload,
        };
        let path = self
            .folder
            .write(draft)
            .await
            .map_err(|problem| problem.to_string())?;
        warn!(exporter = self.exporter, signal = %self.signal, items, reason = reason.name(), cause = failure.cause(), path = %path.display(), "the destination will never take this as it is: it is in a dead letter now, for `tidegate dead-letter`");
        Ok(())
    }
}

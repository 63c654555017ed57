//! Tells in the log when telemetry begins to be lost and when it gets through again, and not each time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::ledger::{Ledger, Ledgers, SignalCounts};

/// How often the ledgers are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The task that looks at the ledgers until it is told to finish.
pub(crate) struct Watch {
    task: JoinHandle<()>,
    done: oneshot::Sender<()>,
}

impl Watch {
    pub(crate) fn start(ledgers: Arc<Ledgers>) -> Self {
        let (done, mut finished) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut signals = [
                Signal::new("spans", Arc::clone(&ledgers.spans)),
                Signal::new(
                    "metric data points",
                    Arc::clone(&ledgers.metric_data_points),
                ),
                Signal::new("log records", Arc::clone(&ledgers.log_records)),
            ];
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = &mut finished => return,
                    _ = ticks.tick() => signals.iter_mut().for_each(Signal::look),
                }
            }
        });
        Self { task, done }
    }

    pub(crate) async fn finish(self) {
        drop(self.done);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the watch over telemetry ended early");
        }
    }
}

struct Signal {
    name: &'static str,
    ledger: Arc<Ledger>,
    last: SignalCounts,
    losing: bool,
}

/// What is worth telling about a signal.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Losing,
    Recovered,
}

impl Signal {
    fn new(name: &'static str, ledger: Arc<Ledger>) -> Self {
        Self {
            name,
            ledger,
            last: SignalCounts::default(),
            losing: false,
        }
    }

    fn look(&mut self) {
        let counts = self.ledger.counts();
        match self.change(counts) {
            Some(Change::Losing) => tracing::warn!(
                signal = self.name,
                failed = counts.failed,
                dropped = counts.dropped,
                error = self.ledger.last_error(),
                "telemetry is being lost"
            ),
            Some(Change::Recovered) => tracing::info!(
                signal = self.name,
                failed = counts.failed,
                dropped = counts.dropped,
                "telemetry gets through again"
            ),
            None => {}
        }
    }

    fn change(&mut self, counts: SignalCounts) -> Option<Change> {
        let last = std::mem::replace(&mut self.last, counts);
        let lost = counts.failed > last.failed || counts.dropped > last.dropped;
        let got_through = counts.exported > last.exported;
        if lost && !self.losing {
            self.losing = true;
            return Some(Change::Losing);
        }
        if self.losing && got_through && !lost {
            self.losing = false;
            return Some(Change::Recovered);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let mut signal = Signal::new("spans", Arc::new(Ledger::new(1)));
        let mut check = |exported: u64, failed: u64, dropped: u64, expected: Option<Change>| {
            let counts = SignalCounts {
                created: 0,
                exported,
                failed,
                dropped,
                pending: 0,
            };
            assert_eq!(signal.change(counts), expected, "{counts:?}");
        };
        check(10, 0, 0, None);
        check(10, 5, 0, Some(Change::Losing));
        check(10, 9, 0, None);
        check(10, 9, 4, None);
        check(12, 10, 4, None);
        check(12, 10, 4, None);
        check(13, 10, 4, Some(Change::Recovered));
        check(14, 10, 4, None);
        check(14, 10, 5, Some(Change::Losing));
    }
}

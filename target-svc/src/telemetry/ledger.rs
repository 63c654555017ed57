//! The ledger of each signal: every item created ends as exported, failed or dropped, or is still pending.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde::Serialize;

/// What became of the items of one signal.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Items that may be pending at a time; the SDK's queue has the same size, so it never overflows itself.
    pending_max: u64,
    created: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    pending: AtomicU64,
    /// Guards the latest failure's message only.
    last_error: Mutex<String>,
}

/// A ledger for each signal.
#[derive(Debug)]
pub(crate) struct Ledgers {
    pub(crate) spans: std::sync::Arc<Ledger>,
    pub(crate) metric_data_points: std::sync::Arc<Ledger>,
    pub(crate) log_records: std::sync::Arc<Ledger>,
}

/// The figures of one ledger: `created = exported + failed + dropped + pending` once nothing is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SignalCounts {
    /// Items made by the instrumentation: sampled spans, data points collected, log records emitted.
    pub(crate) created: u64,
    /// Items in requests that the collector took.
    pub(crate) exported: u64,
    /// Items in requests that failed after all retries.
    pub(crate) failed: u64,
    /// Items that found the queue full.
    pub(crate) dropped: u64,
    /// Items neither sent nor given up when the counts were taken.
    pub(crate) pending: u64,
}

/// The figures of all signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) spans: SignalCounts,
    pub(crate) metric_data_points: SignalCounts,
    pub(crate) log_records: SignalCounts,
}

impl Ledger {
    pub(crate) fn new(pending_max: u64) -> Self {
        Self {
            pending_max,
            created: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            last_error: Mutex::new(String::new()),
        }
    }

    /// Counts `items` created. False if there is no room for them: they are dropped.
    pub(crate) fn admit(&self, items: u64) -> bool {
        self.created.fetch_add(items, Ordering::Relaxed);
        let room = |pending: u64| {
            pending
                .checked_add(items)
                .filter(|&it| it <= self.pending_max)
        };
        let admitted = self
            .pending
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, room)
            .is_ok();
        if !admitted {
            self.dropped.fetch_add(items, Ordering::Relaxed);
        }
        admitted
    }

    /// Counts the end of an export of `items`.
    pub(crate) fn settle<E: std::fmt::Display>(&self, items: u64, result: &Result<(), E>) {
        match result {
            Ok(()) => self.exported.fetch_add(items, Ordering::Relaxed),
            Err(error) => {
                *self
                    .last_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = error.to_string();
                self.failed.fetch_add(items, Ordering::Relaxed)
            }
        };
        self.pending.fetch_sub(items, Ordering::AcqRel);
    }

    pub(crate) fn counts(&self) -> SignalCounts {
        SignalCounts {
            created: self.created.load(Ordering::Acquire),
            exported: self.exported.load(Ordering::Acquire),
            failed: self.failed.load(Ordering::Acquire),
            dropped: self.dropped.load(Ordering::Acquire),
            pending: self.pending.load(Ordering::Acquire),
        }
    }

    pub(crate) fn last_error(&self) -> String {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Ledgers {
    pub(crate) fn new(spans_pending_max: u64, logs_pending_max: u64) -> Self {
        Self {
            spans: Ledger::new(spans_pending_max).into(),
            // Metrics have no queue: a collection is exported before the next one is made.
            metric_data_points: Ledger::new(u64::MAX).into(),
            log_records: Ledger::new(logs_pending_max).into(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            spans: self.spans.counts(),
            metric_data_points: self.metric_data_points.counts(),
            log_records: self.log_records.counts(),
        }
    }
}

impl Counts {
    /// Tells the counts in one event; as a warning if anything did not arrive.
    pub(crate) fn log(&self) {
        let json = serde_json::to_string(self).unwrap_or_default();
        let complete = [self.spans, self.metric_data_points, self.log_records]
            .iter()
            .all(|it| it.exported == it.created);
        if complete {
            tracing::info!(counts = json, "telemetry complete");
        } else {
            tracing::warn!(counts = json, "telemetry incomplete");
        }
    }

    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(
        created: u64,
        exported: u64,
        failed: u64,
        dropped: u64,
        pending: u64,
    ) -> SignalCounts {
        SignalCounts {
            created,
            exported,
            failed,
            dropped,
            pending,
        }
    }

    #[test]
    fn every_item_ends_in_one_column() {
        let ledger = Ledger::new(3);
        for expected in [true, true, true, false, false] {
            assert_eq!(ledger.admit(1), expected);
        }
        assert_eq!(ledger.counts(), counts(5, 0, 0, 2, 3));
        ledger.settle(2, &Ok::<(), String>(()));
        ledger.settle(1, &Err("collector away"));
        assert_eq!(ledger.counts(), counts(5, 2, 1, 2, 0));
        assert_eq!(ledger.last_error(), "collector away");
        assert!(ledger.admit(1), "there is room again");
    }

    #[test]
    fn concurrent_items_never_exceed_the_limit() {
        let ledger = Ledger::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).filter(|_| ledger.admit(1)).count());
            }
        });
        assert_eq!(ledger.counts(), counts(4000, 0, 0, 3900, 100));
    }
}

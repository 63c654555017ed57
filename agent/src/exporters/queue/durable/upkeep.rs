//! What a queue on disk does beside its workers: it keeps to its limits and publishes its figures.

use std::time::Duration;

use tracing::warn;

use super::super::options::OnFull;
use super::{Queue, now_ms};
use crate::status::Condition;
use crate::telemetry::names;
use crate::wal::{Error, Given};

/// How often limits are looked at and figures published.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub(super) async fn run(queue: Queue) {
    loop {
        let changed = queue.0.changed.notified();
        publish(&queue);
        keep_size(&queue).await;
        keep_age(&queue).await;
        drop(tokio::time::timeout(INTERVAL, changed).await);
    }
}

/// Publishes the figures of the log.
pub(super) fn publish(queue: &Queue) {
    let stats = queue.0.log.stats();
    let telemetry = &queue.0.telemetry;
    let labels = [queue.0.exporter.as_str(), queue.0.signal.name()];
    let gauge = |spec, value: u64| {
        telemetry
            .gauge(spec, &labels)
            .set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    gauge(&names::EXPORTER_QUEUE_SIZE, stats.unsettled.bytes());
    let capacity = queue.0.settings.load().max_size;
    gauge(&names::EXPORTER_QUEUE_CAPACITY, capacity);
    gauge(&names::QUEUE_DISK_BYTES, stats.disk_bytes);
    gauge(&names::QUEUE_OPEN_BATCHES, stats.open_batches as u64);
    let age = stats
        .oldest_unix_ms
        .map_or(0, |oldest| now_ms().saturating_sub(oldest) / 1000);
    gauge(&names::QUEUE_OLDEST_AGE, age);
    let totals = stats.totals;
    if totals.failures > telemetry.counter(&names::QUEUE_FAILURES, &labels).get() {
        let cause = "the disk refuses what the sending queue writes, or will not free its room";
        queue.0.status.load().fails(Condition::Disk, cause);
    }
    for (spec, total) in [
        (&names::QUEUE_WRITTEN_BYTES, totals.written_bytes),
        (&names::QUEUE_SYNCS, totals.syncs),
        (&names::QUEUE_FAILURES, totals.failures),
        (&names::QUEUE_DAMAGED, totals.damaged_records),
    ] {
        let counter = telemetry.counter(spec, &labels);
        counter.inc_by(total.saturating_sub(counter.get()));
    }
}

/// Gives up the oldest data of a log that is larger than it may be, if that is the operator's rule.
async fn keep_size(queue: &Queue) {
    let settings = queue.0.settings.load_full();
    if settings.on_full != OnFull::DropOldest {
        return;
    }
    let excess = queue
        .0
        .log
        .unsettled_bytes()
        .saturating_sub(settings.max_size);
    if excess > 0 {
        let mut forming = queue.0.forming.lock().await;
        let outcome = forming.reader.drop_oldest(excess, "queue_full").await;
        queue.settle_dropped(&mut forming, outcome, "queue_full");
    }
}

/// Gives up data that is older than the operator wants to keep it.
async fn keep_age(queue: &Queue) {
    let Some(max_age) = queue.0.settings.load().max_age else {
        return;
    };
    let max_age = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
    let before = now_ms().saturating_sub(max_age);
    let is_due = queue
        .0
        .log
        .stats()
        .oldest_unix_ms
        .is_some_and(|oldest| oldest < before);
    if is_due {
        let mut forming = queue.0.forming.lock().await;
        let outcome = forming.reader.expire(before, "expired").await;
        queue.settle_dropped(&mut forming, outcome, "expired");
    }
}

impl Queue {
    /// Counts what was given up, and forgets what was gathered of it.
    fn settle_dropped(
        &self,
        forming: &mut super::Forming,
        outcome: Result<Option<Given>, Error>,
        reason: &'static str,
    ) {
        let Given { range, tally } = match outcome {
            Ok(Some(given)) => given,
            Ok(None) => return,
            Err(cause) => {
                warn!(exporter = self.0.exporter, signal = %self.0.signal, %cause, reason, "the queue's oldest data could not be given up");
                return;
            }
        };
        forming
            .former
            .discard_while(|request| request.end() <= range.end);
        if tally.items() == 0 {
            return;
        }
        warn!(exporter = self.0.exporter, signal = %self.0.signal, items = tally.items(), reason, "the queue's oldest data is given up");
        for (origin, count) in tally.iter() {
            let items = usize::try_from(count.items).unwrap_or(usize::MAX);
            self.ledger(origin).custody(items).dropped(reason);
        }
    }
}

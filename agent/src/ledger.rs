//! The loss ledger: every accepted item ends in exactly one of delivered, queued or dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::signal::Signal;
use crate::telemetry::{Counter, Gauge, Telemetry, names};

/// One account: what a pipeline accepted on behalf of one exporter. Cloning shares it.
///
/// Invariant: `accepted = delivered + queued + dropped`, summed over the reasons, in every scrape of the metrics.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Account>);

#[derive(Debug)]
struct Account {
    telemetry: Telemetry,
    labels: [String; 3],
    accepted: Counter,
    delivered: Counter,
    queued: Gauge,
    /// Items that exporters gave up, whatever the reason.
    given_up: AtomicU64,
}

impl Ledger {
    /// The account of `exporter` in `pipeline`.
    pub fn new(telemetry: &Telemetry, pipeline: &str, exporter: &str, signal: Signal) -> Self {
        let labels = [pipeline, exporter, signal.name()];
        Self(Arc::new(Account {
            accepted: telemetry.counter(&names::LEDGER_ACCEPTED, &labels),
            delivered: telemetry.counter(&names::LEDGER_DELIVERED, &labels),
            queued: telemetry.gauge(&names::LEDGER_QUEUED, &labels),
            labels: labels.map(str::to_owned),
            given_up: AtomicU64::new(0),
            telemetry: telemetry.clone(),
        }))
    }

    /// Takes responsibility for `items`: they are queued from now on.
    pub fn accept(&self, items: usize) {
        self.0.telemetry.together(|| {
            self.0.accepted.inc_by(items as u64);
            self.0.queued.add(to_gauge(items));
        });
    }

    /// Settles `items` as dropped for a stable reason, such as `filtered`.
    pub fn drop_items(&self, items: usize, reason: &str) {
        let [pipeline, exporter, signal] = &self.0.labels;
        let telemetry = &self.0.telemetry;
        let labels = [pipeline, exporter, signal, reason];
        let dropped = telemetry.counter(&names::LEDGER_DROPPED, &labels);
        telemetry.together(|| {
            dropped.inc_by(items as u64);
            self.0.queued.sub(to_gauge(items));
        });
    }

    /// Custody of `items` that were accepted before.
    pub fn custody(&self, items: usize) -> Custody {
        Custody {
            ledger: self.clone(),
            items,
        }
    }

    /// Items accepted and not settled yet.
    pub fn queued(&self) -> i64 {
        self.0.queued.get()
    }

    /// Items that destinations have taken.
    pub fn delivered(&self) -> u64 {
        self.0.delivered.get()
    }

    /// Items that exporters gave up so far: processors' drops, which are what they are for, are not among them.
    pub fn given_up(&self) -> u64 {
        self.0.given_up.load(Ordering::Relaxed)
    }

    fn give_up(&self, items: usize, reason: &str) {
        self.0.given_up.fetch_add(items as u64, Ordering::Relaxed);
        self.drop_items(items, reason);
    }

    fn deliver(&self, items: usize) {
        self.0.telemetry.together(|| {
            self.0.delivered.inc_by(items as u64);
            self.0.queued.sub(to_gauge(items));
        });
    }
}

fn to_gauge(items: usize) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

/// Responsibility for accepted items. It is settled once; dropping it unsettled counts them as `abandoned`.
#[derive(Debug)]
pub struct Custody {
    ledger: Ledger,
    items: usize,
}

impl Custody {
    /// Items in custody.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The pipeline that they came through.
    pub fn pipeline(&self) -> &str {
        let [pipeline, ..] = &self.ledger.0.labels;
        pipeline
    }

    /// The destination has them.
    pub fn delivered(mut self) {
        self.ledger.deliver(std::mem::take(&mut self.items));
    }

    /// They stay queued, in a log that outlives the process: nothing is settled.
    pub fn stays(mut self) {
        self.items = 0;
    }

    /// Custody of the first `items` of them; the rest stays here.
    pub fn split(&mut self, items: usize) -> Self {
        let items = items.min(self.items);
        self.items -= items;
        Self {
            ledger: self.ledger.clone(),
            items,
        }
    }

    /// They are given up, for a stable reason.
    pub fn dropped(mut self, reason: &str) {
        let items = std::mem::take(&mut self.items);
        self.ledger.give_up(items, reason);
    }
}

impl Drop for Custody {
    fn drop(&mut self) {
        if self.items > 0 {
            self.ledger.give_up(self.items, "abandoned");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_item_ends_in_one_column() {
        let telemetry = Telemetry::default();
        let ledger = Ledger::new(&telemetry, "traces", "clickhouse", Signal::Traces);
        ledger.accept(10);
        ledger.custody(4).delivered();
        ledger.custody(3).dropped("rejected");
        drop(ledger.custody(2));
        assert_eq!(ledger.queued(), 1);
        let text = String::from_utf8(telemetry.encode().unwrap()).unwrap();
        let labels = r#"exporter="clickhouse",otel_signal="traces",pipeline="traces""#;
        for line in [
            format!("tidegate_ledger_accepted_items{{{labels}}} 10"),
            format!("tidegate_ledger_delivered_items{{{labels}}} 4"),
            format!("tidegate_ledger_queued_items{{{labels}}} 1"),
            format!("tidegate_ledger_dropped_items{{{labels},reason=\"rejected\"}} 3"),
            format!("tidegate_ledger_dropped_items{{{labels},reason=\"abandoned\"}} 2"),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
    }
    #[test]
    fn every_scrape_adds_up_while_items_come_and_go() {
        let telemetry = Telemetry::default();
        let ledger = Ledger::new(&telemetry, "traces", "clickhouse", Signal::Traces);
        let finished = std::sync::atomic::AtomicBool::new(false);
        let sum = |text: &str, column: &str| -> i64 {
            let name = format!("tidegate_ledger_{column}_items{{");
            let lines = text.lines().filter(|line| line.starts_with(&name));
            lines
                .map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
                .sum()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    ledger.accept(2);
                    ledger.custody(1).delivered();
                    ledger.drop_items(1, "filtered");
                }
                finished.store(true, Ordering::Relaxed);
            });
            while !finished.load(Ordering::Relaxed) {
                let text = String::from_utf8(telemetry.encode().unwrap()).unwrap();
                let settled = sum(&text, "delivered") + sum(&text, "dropped");
                assert_eq!(
                    sum(&text, "accepted"),
                    settled + sum(&text, "queued"),
                    "{text}"
                );
            }
        });
    }
}

//! What a watchdog sees of a sender: a destination that is down or slow is none of its business, a worker that hangs is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::ack::Ack;
use crate::batch::Payload;
use crate::component::Outcome;
use crate::config::Diagnostics;
use crate::exporters::queue::{Pace, Ticket};
use crate::ledger::Ledger;
use crate::progress::COMPUTING_MAX;
use crate::testing::{eventually, exporter_context, metric, request};

const GRACE: Duration = Duration::from_secs(1);
/// Nobody is late by so much who is not stuck.
const AGES: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a destination, or the exporter in front of it, behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Says that it is not ready.
    Down,
    /// Answers, but not within the timeout.
    Slow,
    /// Does not within the timeout either, and says so just before, as gRPC servers do.
    Punctual,
    /// Never answers; attempts have a timeout.
    Silent,
    Works,
    /// The exporter never comes to send.
    Hangs,
    Panics,
}

#[derive(Clone)]
struct Sink {
    manner: Manner,
    attempts: Arc<AtomicUsize>,
}

impl Exporter for Sink {
    type Prepared = ();

    async fn prepare(&mut self, _: Signal, _: Payload, _: &Ticket, _: &Pace) -> Result<(), String> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        match self.manner {
            Manner::Hangs => std::future::pending().await,
            Manner::Panics => panic!("of the test"),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, (): &mut (), limit: Option<Duration>) -> Outcome {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        match self.manner {
            Manner::Slow => {
                tokio::time::sleep(3 * TIMEOUT).await;
                Outcome::Delivered
            }
            Manner::Punctual => {
                let limit = limit.expect("attempts have a timeout");
                tokio::time::sleep(limit.mul_f64(0.95).min(3 * TIMEOUT)).await;
                match limit > 3 * TIMEOUT {
                    true => Outcome::Delivered,
                    false => Outcome::Retry {
                        cause: "deadline exceeded".to_owned(),
                        after: None,
                    },
                }
            }
            Manner::Silent => std::future::pending().await,
            Manner::Down => Outcome::Retry {
                cause: "down".to_owned(),
                after: None,
            },
            _ => Outcome::Delivered,
        }
    }
}

struct Bench {
    context: ExporterContext,
    sender: Sender,
    sink: Sink,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A sender with one batch.
    fn start(manner: Manner, durable: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = match durable {
            true => format!(
                "num_consumers = 1\nstorage = 'wal'\ndirectory = '{}'",
                folder.path().display()
            ),
            false => "num_consumers = 1".to_owned(),
        };
        let sink = Sink {
            manner,
            attempts: Arc::default(),
        };
        let context = exporter_context(&[Signal::Logs]);
        let mut sender = spawn(&context, Signal::Logs, &settings(&text), || sink.clone()).unwrap();
        sender.start();
        let ledger = Ledger::new(&context.telemetry, "logs", "test", Signal::Logs);
        let account = sender.queue.account("logs", ledger, false);
        sender.queue.start();
        let payload = request(Signal::Logs, "checkout", 3).into();
        sender.queue.push(&account, payload, Ack::channel().0);
        Self {
            context,
            sender,
            sink,
            _folder: folder,
        }
    }

    /// What is stuck, as it looks in `time`.
    fn stuck_in(&self, time: Duration) -> Vec<String> {
        let found = self.context.progress.stuck(Instant::now() + time, GRACE);
        found.iter().map(ToString::to_string).collect()
    }

    async fn attempts(&self, count: usize) {
        let enough = || self.sink.attempts.load(Ordering::Relaxed) >= count;
        eventually("attempts", enough).await;
    }

    async fn stop(self) {
        self.sender.queue.close();
        self.context.cut.trigger();
        for worker in self.sender.workers {
            worker.abort();
            // How it ends says nothing.
            drop(worker.await);
        }
        self.sender.queue.finish().await;
    }
}

/// Of one attempt.
const TIMEOUT: Duration = Duration::from_millis(10);

fn settings(text: &str) -> SenderSettings {
    let mut found = Diagnostics::default();
    let mut section = Section::from_text("exporters.test", text, &mut found).unwrap();
    let queue: QueueOptions = section.options().unwrap();
    let retry = RetryOptions {
        initial_interval: HumanDuration::from_millis(5),
        max_interval: HumanDuration::from_millis(10),
        ..RetryOptions::default()
    };
    let timeout = HumanDuration(TIMEOUT);
    SenderSettings::resolve(&mut section, timeout, &retry, &queue)
}

#[tokio::test]
async fn a_destination_that_is_down_or_silent_stops_no_watchdog() {
    for durable in [false, true] {
        for manner in [Manner::Down, Manner::Silent] {
            let bench = Bench::start(manner, durable);
            for count in 1..20 {
                bench.attempts(count).await;
                assert_eq!(
                    bench.stuck_in(Duration::ZERO),
                    [""; 0],
                    "{manner:?} {durable}"
                );
            }
            bench.stop().await;
        }
    }
}

#[tokio::test]
async fn a_destination_that_is_slower_than_the_timeout_is_given_more_time() {
    for manner in [Manner::Slow, Manner::Punctual] {
        let bench = Bench::start(manner, false);
        let delivered = || metric(&bench.context.telemetry, "tidegate_ledger_delivered_items");
        eventually("delivery", || delivered() > 0.0).await;
        assert!(bench.sink.attempts.load(Ordering::Relaxed) >= 3);
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_worker_without_work_may_rest_for_ever() {
    for durable in [false, true] {
        let bench = Bench::start(Manner::Works, durable);
        bench.attempts(2).await;
        eventually("rest", || bench.stuck_in(AGES).is_empty()).await;
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_worker_that_hangs_stops_the_watchdog() {
    for durable in [false, true] {
        let bench = Bench::start(Manner::Hangs, durable);
        bench.attempts(1).await;
        assert_eq!(bench.stuck_in(Duration::ZERO), [""; 0]);
        let found = bench.stuck_in(COMPUTING_MAX + 2 * GRACE);
        assert!(
            found[0].starts_with("exporters.test logs: a worker is"),
            "{found:?}"
        );
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_sender_whose_workers_panic_stops_the_watchdog() {
    let bench = Bench::start(Manner::Panics, false);
    let found = || bench.stuck_in(Duration::ZERO);
    eventually("the finding", || !found().is_empty()).await;
    assert_eq!(
        found(),
        ["exporters.test logs: its last worker has panicked"]
    );
    bench.stop().await;
}

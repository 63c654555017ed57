//! A worker: takes batches from the queue, and is done with each when it is delivered, divided, in a dead letter, or given
//! up by a rule.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::failure::Failure;
use super::letters::{Kept, Letters};
use super::{Metrics, SenderSettings};
use crate::batch::Payload;
use crate::component::{Exporter, Outcome, Shutdown};
use crate::exporters::queue::{Delivery, Pace, Queue, Settlement, Ticket};
use crate::exporters::retry::{Backoff, Patience, random_unit};
use crate::progress::{Line, Pulse};
use crate::signal::Signal;
use crate::status::{Condition, Reporter};
use crate::tap::Taps;

/// How often a batch is divided at most because it is too large: a destination to which everything is too large is not
/// asked for each item.
const SIZE_SPLITS_MAX: usize = 1024;
/// How often a batch is divided at most to find what a destination rejects. One item among 8192 takes 13.
const POISON_SPLITS_MAX: usize = 64;
/// So many divisions one after the other that left both halves rejected say that there is nothing to be found: a batch
/// in which everything is bad ends in 2 to this power of letters. As many bad items that lie apart would use up
/// [`POISON_SPLITS_MAX`] anyway.
const BARREN_MAX: usize = 3;

/// Where attempts are not timed: how long the one under way may take once others wait for the queue.
const LAST_ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// An attempt that failed after this share of its time has run out of it.
const NEARLY_ALL: f64 = 0.9;

/// The ledger's reason for what is in a dead letter.
const DEAD_LETTER: &str = "dead_letter";

pub(super) struct Worker<E> {
    pub(super) exporter: E,
    pub(super) id: String,
    pub(super) signal: Signal,
    pub(super) queue: Queue,
    pub(super) letters: Option<Letters>,
    pub(super) settings: SenderSettings,
    pub(super) cut: Shutdown,
    /// Triggered when others take the queue over.
    pub(super) leave: Shutdown,
    /// Tells of each delivery.
    pub(super) delivered: watch::Sender<()>,
    pub(super) metrics: Metrics,
    pub(super) status: Reporter,
    pub(super) taps: Taps,
    /// With the next attempt; `None` where attempts are not timed.
    pub(super) patience: Option<Patience>,
    /// Whether it has had a batch.
    pub(super) begun: bool,
    /// Whether the last attempt failed: state changes are logged, not attempts.
    pub(super) failing: bool,
    /// Where it appears as long as it runs.
    pub(super) line: Line,
    /// Says what it does next.
    pub(super) pulse: Pulse,
}

/// A batch as it came, or the two halves of one.
struct Family {
    members: Vec<Delivery>,
    /// How many divisions, one after the other and this one not included, left both halves rejected.
    barren: usize,
}

/// A batch that was not delivered.
struct Refused {
    settlement: Settlement,
    ticket: Ticket,
    failure: Failure,
}

/// How often a batch may still be divided.
struct Budget {
    size: usize,
    poison: usize,
}

impl<E: Exporter> Worker<E> {
    pub(super) async fn run(mut self) {
        let (cut, leave) = (self.cut.clone(), self.leave.clone());
        self.pulse = self.line.pulse();
        loop {
            let next = tokio::select! {
                biased;
                () = cut.triggered() => None,
                next = self.queue.next_unless(&leave, &self.pulse) => next,
            };
            let Some(delivery) = next else {
                break;
            };
            self.pulse.computes();
            if self.taps.is_open() {
                let shares = delivery.settlement.shares();
                self.taps
                    .show_sent(&self.id, self.signal, &delivery.payload, shares);
            }
            self.metrics.in_flight.inc();
            self.deliver_all(delivery).await;
            self.metrics.in_flight.dec();
            self.report_queue();
        }
        self.pulse.waits_outside();
        if let Err(cause) = self.exporter.close().await {
            error!(exporter = self.id, %cause, "closing the exporter failed");
        }
    }

    /// Delivers a batch and whatever it had to be divided into.
    async fn deliver_all(&mut self, delivery: Delivery) {
        let mut budget = Budget {
            size: SIZE_SPLITS_MAX,
            poison: POISON_SPLITS_MAX,
        };
        let mut waiting = vec![Family {
            members: vec![delivery],
            barren: 0,
        }];
        while let Some(family) = waiting.pop() {
            let mut smaller = self.deliver_family(family, &mut budget).await;
            // In the order of the items.
            smaller.reverse();
            waiting.append(&mut smaller);
        }
    }

    /// Both halves are tried before either is divided: how they ended says whether that is worth it. Returns what they
    /// were divided into.
    async fn deliver_family(&mut self, family: Family, budget: &mut Budget) -> Vec<Family> {
        let mut smaller = Vec::new();
        let mut rejected = Vec::new();
        for Delivery {
            payload,
            ticket,
            settlement,
        } in family.members
        {
            let Err(failure) = self.deliver(payload, &ticket, &settlement).await else {
                self.metrics.sent.inc_by(settlement.items() as u64);
                settlement.delivered();
                self.delivered.send_replace(());
                continue;
            };
            let refused = Refused {
                settlement,
                ticket,
                failure,
            };
            match refused.failure {
                Failure::Rejected(_, None) => rejected.push(refused),
                Failure::TooLarge(_) => {
                    let halves = self.divide(refused, &mut budget.size).await;
                    smaller.extend(halves.map(|members| Family {
                        members,
                        barren: family.barren,
                    }));
                }
                _ => self.give_up(refused).await,
            }
        }
        let barren = match rejected.len() {
            2.. => family.barren + 1,
            _ => 0,
        };
        for refused in rejected {
            if barren >= BARREN_MAX {
                self.give_up(refused).await;
                continue;
            }
            let halves = self.divide(refused, &mut budget.poison).await;
            smaller.extend(halves.map(|members| Family { members, barren }));
        }
        smaller
    }

    /// The halves of a batch; where it cannot be divided, it is given up.
    async fn divide(&mut self, mut refused: Refused, budget: &mut usize) -> Option<Vec<Delivery>> {
        let cut = self.cut.is_triggered();
        if cut && refused.settlement.is_durable() {
            // There is time for that after the next start.
            refused.failure = Failure::CutShort;
        }
        // A dead letter is sent under its name, or stays as it is.
        if *budget == 0 || self.settings.queue.replays() || cut {
            self.give_up(refused).await;
            return None;
        }
        *budget -= 1;
        let Refused {
            settlement,
            ticket,
            failure,
        } = refused;
        self.pulse.waits_outside();
        match settlement.split().await {
            Ok(halves) => {
                self.metrics.splits.inc();
                Some(halves.into())
            }
            Err(settlement) => {
                self.give_up(Refused {
                    settlement,
                    ticket,
                    failure,
                })
                .await;
                None
            }
        }
    }

    #[allow(
        clippy::needless_pass_by_ref_mut,
        reason = "a shared borrow across an await would ask exporters to be Sync"
    )]
    async fn give_up(&mut self, refused: Refused) {
        let Refused {
            mut settlement,
            ticket,
            mut failure,
        } = refused;
        let taken = settlement.items() - failure.items(settlement.items());
        let mut reason = failure.reason();
        if let Some(letters) = &self.letters
            && let Some(class) = failure.is_final()
        {
            self.pulse.waits_outside();
            match letters.keep(&settlement, &ticket, &failure, class).await {
                Kept::Written => reason = DEAD_LETTER,
                Kept::Failed => {}
                Kept::Interrupted(by) => {
                    reason = by.reason();
                    failure = by;
                }
            }
        }
        if let Failure::Left = failure {
            self.queue.put_back(ticket, settlement);
            return;
        }
        if let Failure::CutShort = failure {
            let items = settlement.cut_short();
            if items > 0 {
                self.metrics.failed.inc_by(items as u64);
                error!(exporter = self.id, signal = %self.signal, items, "batch given up: the agent stopped before the destination took it");
            }
            return;
        }
        self.metrics.sent.inc_by(taken as u64);
        settlement.delivered_in_part(taken);
        let items = settlement.items();
        self.metrics.failed.inc_by(items as u64);
        // Who sends a dead letter again is told.
        if reason != DEAD_LETTER && !self.settings.queue.replays() {
            error!(exporter = self.id, signal = %self.signal, items, reason, cause = failure.cause(), "batch given up");
        }
        if let Failure::Rejected(..) | Failure::TooLarge(_) | Failure::Exhausted(_) = failure {
            let error = format!("{items} items given up ({reason}): {}", failure.cause());
            self.status.fails(Condition::Rejected, &error);
        }
        settlement.dropped(reason, &failure.refusal());
    }

    /// Whether requests are refused because of this exporter.
    fn report_queue(&self) {
        match self.queue.ready() {
            Ok(()) => self.status.works(Condition::Queue),
            Err(refusal) => self.status.fails(Condition::Queue, &refusal.message),
        }
    }

    async fn deliver(
        &mut self,
        payload: Payload,
        ticket: &Ticket,
        settlement: &Settlement,
    ) -> Result<(), Failure> {
        if self.leave.is_triggered() {
            return Err(Failure::Left);
        }
        self.pulse.computes();
        let size = (payload.items(), payload.byte_len());
        let mut span = self.metrics.preparing.start();
        span.carries(size.0, size.1);
        let pace = match std::mem::replace(&mut self.begun, true) {
            true => Pace::of(&self.queue),
            false => Pace::of_first(&self.queue),
        };
        let prepared = self
            .exporter
            .prepare(self.signal, payload, ticket, &pace)
            .await;
        drop(pace);
        let mut prepared = prepared.map_err(|cause| {
            span.fails(|| cause.clone());
            Failure::Rejected(cause, None)
        })?;
        drop(span);
        let cut = self.cut.clone();
        tokio::select! {
            biased;
            result = self.attempt_until_settled(&mut prepared, size, settlement) => result,
            () = cut.triggered() => Err(Failure::CutShort),
        }
    }

    async fn attempt_until_settled(
        &mut self,
        prepared: &mut E::Prepared,
        (items, bytes): (usize, usize),
        settlement: &Settlement,
    ) -> Result<(), Failure> {
        let settings = self.settings.retry.clone();
        let mut backoff = Backoff::new(&settings);
        let started = Instant::now();
        loop {
            if settlement.is_expired() {
                return Err(Failure::Expired);
            }
            let mut span = self.metrics.sending.start();
            span.carries(items, bytes);
            let outcome = self.attempt(prepared).await;
            if let Some(cause) = outcome.cause() {
                span.fails(|| cause.to_owned());
            }
            drop(span);
            let (cause, hint) = match outcome {
                Outcome::Delivered => {
                    self.metrics.attempts_ok.inc();
                    self.recovered();
                    return Ok(());
                }
                Outcome::Rejected { cause, items } => {
                    self.metrics.attempts_rejected.inc();
                    return Err(Failure::Rejected(cause, items));
                }
                Outcome::TooLarge { cause } => {
                    self.metrics.attempts_rejected.inc();
                    return Err(Failure::TooLarge(cause));
                }
                Outcome::Retry { cause, after } => (cause, after),
            };
            self.metrics.attempts_retry.inc();
            let Some(wait) = backoff.next_wait(hint, started.elapsed(), random_unit()) else {
                self.status.fails(Condition::Sending, &cause);
                return Err(Failure::Exhausted(cause));
            };
            self.failed(&cause, wait);
            self.report_queue();
            self.pulse.within(wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.leave.triggered() => return Err(Failure::Left),
            }
        }
    }

    async fn attempt(&mut self, prepared: &mut E::Prepared) -> Outcome {
        let Some(patience) = &mut self.patience else {
            self.pulse.waits_outside();
            let leave = self.leave.clone();
            let overdue = async move {
                leave.triggered().await;
                tokio::time::sleep(LAST_ATTEMPT_MAX).await;
            };
            return tokio::select! {
                outcome = self.exporter.send(prepared, None) => outcome,
                () = overdue => Outcome::Retry {
                    cause: format!("no answer within {LAST_ATTEMPT_MAX:?} of a reload"),
                    after: None,
                },
            };
        };
        let (started, limit) = (Instant::now(), patience.limit());
        self.pulse.within(limit);
        let attempt = self.exporter.send(prepared, Some(limit));
        let Ok(outcome) = tokio::time::timeout(limit, attempt).await else {
            patience.ran_out();
            return Outcome::Retry {
                cause: format!("no answer within {limit:?}"),
                after: None,
            };
        };
        let took = started.elapsed();
        match outcome {
            Outcome::Delivered => patience.sufficed(took),
            // A server that is told when the time is over says so first.
            Outcome::Retry { .. } if took >= limit.mul_f64(NEARLY_ALL) => patience.ran_out(),
            _ => {}
        }
        outcome
    }

    fn failed(&mut self, cause: &str, wait: Duration) {
        if !self.failing {
            warn!(exporter = self.id, signal = %self.signal, cause, retry_in = ?wait, "sending failed, will retry");
        }
        self.failing = true;
        self.status.fails(Condition::Sending, cause);
    }

    fn recovered(&mut self) {
        if self.failing {
            info!(exporter = self.id, signal = %self.signal, "sending works again");
        }
        self.failing = false;
        self.status.works(Condition::Sending);
        self.status.works(Condition::Rejected);
    }
}

//! A client: sends numbered items over one connection and writes down what became of each request.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::watch;

use super::items::{CONNECTION_SHIFT, Run};
use crate::otlp::client::{Connection, Outcome, Protocol, Refusal, Target};
use crate::otlp::drive::unix_nanos;
use crate::otlp::signal::Signal;

/// Wait after a connection could not be made, and after a refusal without a hint.
const PAUSE: Duration = Duration::from_millis(20);
/// An agent that asks for more patience than this is not waited for longer.
const HINT_MAX: Duration = Duration::from_secs(30);
/// Requests kept in the record of one connection.
const RECORD_MAX: usize = 10_000_000;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) enum Fate {
    Accepted,
    /// Accepted but for this many items.
    PartlyRejected(u64),
    /// Answered that it is not taken: the status.
    Refused(Cow<'static, str>),
    /// The connection broke or nobody answered in time: it may be stored or not.
    Unanswered(Cow<'static, str>),
}

/// A request that was sent and never sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Sent {
    /// Number of its first item.
    pub(super) first: u64,
    pub(super) items: u32,
    pub(super) fate: Fate,
    /// When its fate was known, since the start of the run.
    pub(super) known: Duration,
    /// How long it was under way, the last time it was sent.
    pub(super) took: Duration,
}

/// Everything one client did.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) signal: Signal,
    pub(super) protocol: Protocol,
    /// In ascending order of numbers, without gaps.
    pub(super) sent: Vec<Sent>,
    /// Answers that refused a request for now.
    pub(super) refusals: u64,
    /// Of these, those that did not say when to come back.
    pub(super) without_hint: u64,
    /// Answers that refused a request for good.
    pub(super) permanent: u64,
    /// Attempts to connect that failed: nothing was sent.
    pub(super) not_connected: u64,
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// Items in a request: any number up to this.
    pub(super) items_max: u32,
    /// Always `items_max` instead.
    pub(super) full: bool,
    /// Items per second; no faster than the agent answers.
    pub(super) rate: f64,
    /// Sends a refused request again when the hint says so, until it is accepted.
    pub(super) resends: bool,
    /// What was due and could not be sent in time is sent later, all of it.
    pub(super) catches_up: bool,
    /// Sends refused requests again until this long after the end.
    pub(super) patience: Duration,
    /// Gives up on an answer after this long.
    pub(super) timeout: Duration,
}

impl Manner {
    /// Requests of up to `items_max` items at `rate` items per second, each sent once.
    pub(super) const fn steady(items_max: u32, rate: f64) -> Self {
        Self {
            items_max,
            full: false,
            rate,
            resends: false,
            catches_up: false,
            patience: Duration::ZERO,
            timeout: super::ANSWER_MAX,
        }
    }
}

/// When clients stop; unset until then.
pub(super) type End = watch::Receiver<Option<Instant>>;

pub(super) struct Sender {
    pub(super) index: u16,
    pub(super) run: Arc<Run>,
    pub(super) target: Target,
    pub(super) signal: Signal,
    pub(super) manner: Manner,
    pub(super) seed: u64,
    /// The start of the run.
    pub(super) start: Instant,
    /// Its numbers begin this far into the connection's.
    pub(super) skip: u64,
    /// Items in all requests of all clients, repetitions included.
    pub(super) offered: Arc<AtomicU64>,
}

impl Sender {
    /// Sends what is due until `end` is set.
    ///
    /// # Errors
    /// When the target cannot be one, or more was sent than can be recorded.
    pub(super) async fn run(self, end: End) -> anyhow::Result<Record> {
        let mut client = Client {
            connection: Connection::new(&self.target)?,
            record: Record {
                signal: self.signal,
                protocol: self.target.protocol,
                sent: Vec::new(),
                refusals: 0,
                without_hint: 0,
                permanent: 0,
                not_connected: 0,
            },
            random: StdRng::seed_from_u64(self.seed ^ (u64::from(self.index) << 48)),
            next: (u64::from(self.index) << CONNECTION_SHIFT) + self.skip,
            end,
            sender: &self,
        };
        client.drive().await?;
        Ok(client.record)
    }
}

struct Client<'a> {
    sender: &'a Sender,
    connection: Connection,
    record: Record,
    random: StdRng,
    /// Number of the next item.
    next: u64,
    end: End,
}

impl Client<'_> {
    async fn drive(&mut self) -> anyhow::Result<()> {
        let manner = self.sender.manner.clone();
        let mut due = Instant::now();
        loop {
            let items = self.size();
            due += Duration::from_secs_f64(f64::from(items) / manner.rate);
            if !manner.catches_up {
                due = due.max(Instant::now());
            }
            if self.ended_before(due).await {
                return Ok(());
            }
            self.request(items).await?;
            anyhow::ensure!(
                self.record.sent.len() < RECORD_MAX,
                "too many requests to remember"
            );
        }
    }

    /// Waits until `due`; whether it is after the end.
    async fn ended_before(&mut self, due: Instant) -> bool {
        if due <= Instant::now() {
            let end = *self.end.borrow();
            // With a backlog the end is no reason to leave out what was due before.
            return end.is_some_and(|end| due >= end || !self.sender.manner.catches_up);
        }
        tokio::select! {
            biased;
            _ = self.end.wait_for(Option::is_some) => true,
            () = tokio::time::sleep_until(due.into()) => false,
        }
    }

    fn size(&mut self) -> u32 {
        let max = self.sender.manner.items_max;
        if self.sender.manner.full {
            return max;
        }
        // Most are small, some are as large as allowed.
        match self.random.random_range(0..10) {
            0 => max,
            1 => 1,
            _ => self.random.random_range(1..=max.div_ceil(4)),
        }
    }

    /// Sends the next request until its fate is known.
    async fn request(&mut self, items: u32) -> anyhow::Result<()> {
        let first = self.next;
        let numbers = first..first + u64::from(items);
        self.next = numbers.end;
        let request = self
            .sender
            .run
            .request(self.sender.signal, numbers, unix_nanos())?;
        let mut began;
        let fate = loop {
            began = Instant::now();
            self.sender
                .offered
                .fetch_add(u64::from(items), Ordering::Relaxed);
            let outcome = self
                .connection
                .send(&request, self.sender.manner.timeout)
                .await;
            match outcome {
                Outcome::Accepted { rejected: 0 } => break Fate::Accepted,
                Outcome::Accepted { rejected } => break Fate::PartlyRejected(rejected),
                Outcome::NotSent(_) => {
                    self.record.not_connected += 1;
                    self.sender
                        .offered
                        .fetch_sub(u64::from(items), Ordering::Relaxed);
                    if self.end.borrow().is_some() {
                        self.next = first;
                        return Ok(());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Outcome::Failed(cause) => break Fate::Unanswered(cause),
                Outcome::Refused(refusal) => {
                    self.refused(&refusal).await;
                    if !refusal.may_retry || !self.sends_again() {
                        break Fate::Refused(refusal.status);
                    }
                }
            }
        };
        self.record.sent.push(Sent {
            first,
            items,
            fate,
            known: self.sender.start.elapsed(),
            took: began.elapsed(),
        });
        Ok(())
    }

    fn sends_again(&self) -> bool {
        let manner = &self.sender.manner;
        let end = *self.end.borrow();
        manner.resends && end.is_none_or(|end| end.elapsed() < manner.patience)
    }

    async fn refused(&mut self, refusal: &Refusal) {
        if !refusal.may_retry {
            self.record.permanent += 1;
            return;
        }
        self.record.refusals += 1;
        self.record.without_hint += u64::from(refusal.retry_after.is_none());
        let wait = refusal.retry_after.unwrap_or(PAUSE).min(HINT_MAX);
        // Who does not send it again only keeps from flooding an agent that has said no.
        let wait = if self.sender.manner.resends {
            // Clients that were refused at the same time do not come back at the same time.
            wait.mul_f64(self.random.random_range(1.0..1.2))
        } else {
            wait.min(10 * PAUSE)
        };
        tokio::time::sleep(wait).await;
    }
}

//! The workers: each sends one request after the other, paced by answers or by the gate.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::schedule::Gate;
use super::tally::{Tally, Times};

/// Requests still waiting this long after the last one fell due stay unsent, so that a target that cannot
/// keep up does not prolong the run.
const BACKLOG_GRACE: Duration = Duration::from_millis(100);

/// A complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Length of the body.
    pub(crate) bytes: u64,
}

/// Why a request has no complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureKind {
    /// No connection could be made.
    Connect,
    /// No complete answer in time.
    Timeout,
    /// The connection ended before the answer began.
    Closed,
    /// The answer was not HTTP.
    Protocol,
    /// The connection ended within the answer's body.
    Body,
}

impl FailureKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Body => "body",
        }
    }
}

impl Failure {
    /// A failure with the messages of an error and its causes.
    pub(crate) fn new(kind: FailureKind, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self { kind, message }
    }
}

/// Sends requests one at a time: a connection, or a stand-in in tests.
pub(crate) trait Executor: Send + 'static {
    /// Gets ready to send, before the clock starts.
    fn prepare(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Sends one request and waits for the end of its answer.
    fn execute(&mut self) -> impl Future<Output = Result<Answer, Failure>> + Send;
    /// Forgets a request whose answer nobody waits for any more.
    fn abandon(&mut self);
}

/// What decides when a worker sends, and how far the run has come.
pub(crate) enum Pace {
    Closed(Allowance),
    Open(Arc<Gate>),
}

/// The limits of a closed loop, shared by its workers.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) measure_from: Instant,
    pub(crate) until: Option<Instant>,
    /// Measured requests that may still be sent.
    pub(crate) remaining: AtomicU64,
}

/// A request that may be sent now.
struct Ticket {
    /// When it fell due; in a closed loop it falls due when it is sent.
    due: Option<Instant>,
    measured: bool,
}

/// Counters for the progress line.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// One worker's part of the run.
pub(crate) struct Worker<E> {
    pub(crate) executor: E,
    pub(crate) pace: Arc<Pace>,
    pub(crate) timeout: Duration,
    pub(crate) live: Arc<Live>,
    /// Turns true when the run is interrupted.
    pub(crate) stop: watch::Receiver<bool>,
}

impl<E: Executor> Worker<E> {
    /// Sends requests until the load is done or interrupted.
    pub(crate) async fn run(mut self) -> Tally {
        let mut tally = Tally::new(matches!(*self.pace, Pace::Open(_)));
        while let Some(ticket) = self.next_ticket().await {
            let sent = Instant::now();
            let Some(result) = self.perform().await else {
                tally.abandoned += u64::from(ticket.measured);
                break;
            };
            let times = Times {
                due: ticket.due.unwrap_or(sent),
                sent,
                ended: Instant::now(),
            };
            self.count(&mut tally, &ticket, times, result);
        }
        tally
    }

    fn count(
        &self,
        tally: &mut Tally,
        ticket: &Ticket,
        times: Times,
        result: Result<Answer, Failure>,
    ) {
        self.live.answered.fetch_add(1, Ordering::Relaxed);
        if !ticket.measured {
            tally.warm_up += 1;
            return;
        }
        let success = tally.record(times, result);
        self.live
            .failed
            .fetch_add(u64::from(!success), Ordering::Relaxed);
    }

    async fn next_ticket(&mut self) -> Option<Ticket> {
        if *self.stop.borrow() {
            return None;
        }
        match &*self.pace {
            Pace::Closed(allowance) => allowance.take(Instant::now()),
            Pace::Open(gate) => {
                let index = tokio::select! {
                    biased;
                    () = stopped(&mut self.stop) => return None,
                    index = gate.take() => index?,
                };
                let too_late = gate.due(gate.schedule().total()) + BACKLOG_GRACE;
                let measured = !gate.schedule().is_warm_up(index);
                (Instant::now() <= too_late).then(|| Ticket {
                    due: Some(gate.due(index)),
                    measured,
                })
            }
        }
    }

    /// One request, within the timeout. `None` if the run was interrupted.
    async fn perform(&mut self) -> Option<Result<Answer, Failure>> {
        let result = tokio::select! {
            biased;
            result = tokio::time::timeout(self.timeout, self.executor.execute()) => Some(result),
            () = stopped(&mut self.stop) => None,
        };
        match result {
            Some(Ok(result)) => Some(result),
            Some(Err(_)) => {
                self.executor.abandon();
                let message = format!("no complete answer within {:?}", self.timeout);
                Some(Err(Failure {
                    kind: FailureKind::Timeout,
                    message,
                }))
            }
            None => {
                self.executor.abandon();
                None
            }
        }
    }
}

impl Allowance {
    fn take(&self, now: Instant) -> Option<Ticket> {
        if self.until.is_some_and(|until| now >= until) {
            return None;
        }
        if now < self.measure_from {
            return Some(Ticket {
                due: None,
                measured: false,
            });
        }
        let less_one = |it: u64| it.checked_sub(1);
        self.remaining
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less_one)
            .ok()?;
        Some(Ticket {
            due: None,
            measured: true,
        })
    }
}

/// Waits for the interruption; forever if it can no longer come.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|&stop| stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

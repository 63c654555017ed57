//! The workers: each sends one request after the other, paced by answers or by the gate.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::board::Board;
use super::journey::{Course, Journey, Outgoing, Request, Step};
use super::schedule::Gate;
use super::stages::{Stage, value_at};
use super::tally::Times;
use super::template::{Pool, Values};
use crate::stats::Latencies;

/// Requests still waiting this long after the last one fell due stay unsent, so that a target that cannot
/// keep up does not prolong the run.
pub(crate) const BACKLOG_GRACE: Duration = Duration::from_millis(100);

/// A complete answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Length of the body.
    pub(crate) bytes: u64,
    pub(crate) headers: HeaderMap,
    /// The body, or its first part, where the request asked to keep it.
    pub(crate) body: Bytes,
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
    /// A value for the request was missing: nothing was sent.
    Values,
}

impl FailureKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Body => "body",
            Self::Values => "values",
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
    fn execute(
        &mut self,
        request: &Outgoing,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;
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
    /// Measured iterations that may still begin.
    pub(crate) remaining: AtomicU64,
    /// How many workers are at work, from the measurement on; empty for all of them.
    pub(crate) crowd: Vec<Stage>,
}

/// An iteration that may begin now.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    /// When it fell due; in a closed loop it falls due when it is sent.
    due: Option<Instant>,
    measured: bool,
}

/// What a worker of a closed loop does next.
enum Turn {
    Go(Ticket),
    /// It is not among those at work.
    Rest,
    Done,
}

/// Looks this often whether it is its turn again.
const REST: Duration = Duration::from_millis(10);

/// One worker's part of the run.
pub(crate) struct Worker<E> {
    pub(crate) executor: E,
    /// From 0.
    pub(crate) number: usize,
    pub(crate) pace: Arc<Pace>,
    pub(crate) journey: Arc<Journey>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) board: Arc<Board>,
    pub(crate) timeout: Duration,
    pub(crate) random: StdRng,
    /// Turns true when the run is interrupted.
    pub(crate) stop: watch::Receiver<bool>,
}

/// The run was interrupted.
struct Interrupted;

impl<E: Executor> Worker<E> {
    /// Begins iterations until the load is done or interrupted. Gives its own service times.
    pub(crate) async fn run(mut self) -> Latencies {
        let mut own = Latencies::new();
        // Values draw from it while the worker sends.
        let mut random = self.random.clone();
        while let Some(ticket) = self.next_ticket().await {
            if self.iterate(ticket, &mut random, &mut own).await.is_err() {
                break;
            }
        }
        own
    }

    async fn iterate(
        &mut self,
        ticket: Ticket,
        random: &mut StdRng,
        own: &mut Latencies,
    ) -> Result<(), Interrupted> {
        let (journey, pool) = (Arc::clone(&self.journey), Arc::clone(&self.pool));
        let steps = journey.choose(random);
        let mut values = Values::new(&pool, random);
        // Later steps are not due before the worker comes to them.
        let mut due = ticket.due;
        for index in steps {
            let Some(step) = journey.steps.get(index) else {
                break;
            };
            let done = Doing {
                index,
                step,
                due: due.take(),
                measured: ticket.measured,
            };
            let succeeded = self.step(&done, &mut values, own).await?;
            if !succeeded && journey.course == Course::InOrder {
                break;
            }
            let think = step.think_time(values.random());
            if !think.is_zero() {
                self.pause(think).await?;
            }
        }
        Ok(())
    }

    /// One original request with its retries; true if it succeeded in the end.
    async fn step(
        &mut self,
        doing: &Doing<'_>,
        values: &mut Values<'_>,
        own: &mut Latencies,
    ) -> Result<bool, Interrupted> {
        let rendered;
        let request = match &doing.step.request {
            Request::Fixed(request) => request,
            Request::Pattern(pattern) => match pattern.render(values) {
                Ok(request) => {
                    rendered = request;
                    &rendered
                }
                Err(message) => {
                    self.cannot_send(doing, message);
                    return Ok(false);
                }
            },
        };
        let (latency, answer, succeeded) =
            self.attempts(doing, request, values.random(), own).await?;
        let missing = answer
            .as_ref()
            .and_then(|answer| extract(doing.step, answer, values));
        if doing.measured {
            let checks = doing.step.checks.iter();
            let checked: Vec<_> = checks
                .map(|check| (check.name.as_str(), check.hold(answer.as_ref(), latency)))
                .collect();
            let mut tally = self.board.tally(doing.index);
            tally.originals += 1;
            tally.succeeded += u64::from(succeeded);
            for (name, result) in checked {
                tally.record_check(name, result);
            }
            if let Some(name) = &missing {
                let reason = format!("no `{name}` in the answer");
                tally.record_check(&format!("extract {name}"), Err(reason));
            }
        }
        Ok(succeeded && missing.is_none())
    }

    /// Sends until an answer is a success or the retries end. Gives the last latency and answer.
    async fn attempts(
        &mut self,
        doing: &Doing<'_>,
        request: &Outgoing,
        random: &mut StdRng,
        own: &mut Latencies,
    ) -> Result<(Duration, Option<Answer>, bool), Interrupted> {
        let journey = Arc::clone(&self.journey);
        let retry = journey.retry.as_ref();
        if let Some(budget) = retry.and_then(|it| it.budget.as_ref()) {
            budget.earn();
        }
        let mut due = doing.due;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let sent = Instant::now();
            let uri = journey.diverted(sent.saturating_duration_since(self.board.start()));
            let diverted = uri.map(|uri| Outgoing {
                uri: uri.clone(),
                ..request.clone()
            });
            let result = self.perform(diverted.as_ref().unwrap_or(request)).await;
            let Some(result) = result else {
                self.board.tally(doing.index).abandoned += u64::from(doing.measured);
                return Err(Interrupted);
            };
            let times = Times {
                due: due.unwrap_or(sent),
                sent,
                ended: Instant::now(),
            };
            let latency = times.ended.saturating_duration_since(sent);
            let expected = doing.step.expected();
            let succeeded =
                self.board
                    .record(doing.index, doing.measured, times, &result, expected);
            if doing.measured && timed(&result) {
                own.record(latency);
            }
            let wait = match retry {
                Some(retry) if !succeeded && is_retried(&result) => {
                    retry.wait_after(attempt, random)
                }
                _ => None,
            };
            let Some(wait) = wait else {
                return Ok((latency, result.ok(), succeeded));
            };
            if !wait.is_zero() {
                self.pause(wait).await?;
            }
            due = None;
        }
    }

    /// A value is missing: what should have been sent has failed.
    fn cannot_send(&self, doing: &Doing<'_>, message: String) {
        let now = Instant::now();
        let times = Times {
            due: now,
            sent: now,
            ended: now,
        };
        let failure = Err(Failure {
            kind: FailureKind::Values,
            message,
        });
        self.board
            .record(doing.index, doing.measured, times, &failure, &[]);
        self.board.tally(doing.index).originals += u64::from(doing.measured);
    }

    async fn pause(&mut self, time: Duration) -> Result<(), Interrupted> {
        let end = match &*self.pace {
            Pace::Closed(allowance) => allowance.until,
            Pace::Open(_) => None,
        };
        let until = Instant::now() + time;
        let until = end.map_or(until, |end| until.min(end));
        tokio::select! {
            () = tokio::time::sleep_until(until) => Ok(()),
            () = stopped(&mut self.stop) => Err(Interrupted),
        }
    }

    async fn next_ticket(&mut self) -> Option<Ticket> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            match &*self.pace {
                Pace::Closed(allowance) => match allowance.take(Instant::now(), self.number) {
                    Turn::Go(ticket) => return Some(ticket),
                    Turn::Done => return None,
                    Turn::Rest => self.pause(REST).await.ok()?,
                },
                Pace::Open(gate) => {
                    let index = tokio::select! {
                        biased;
                        () = stopped(&mut self.stop) => return None,
                        index = gate.take() => index?,
                    };
                    let too_late = gate.due(gate.schedule().total()) + BACKLOG_GRACE;
                    let measured = !gate.schedule().is_warm_up(index);
                    if Instant::now() > too_late {
                        return None;
                    }
                    self.board.began(measured);
                    return Some(Ticket {
                        due: Some(gate.due(index)),
                        measured,
                    });
                }
            }
        }
    }

    /// One request, within the timeout. `None` if the run was interrupted.
    async fn perform(&mut self, request: &Outgoing) -> Option<Result<Answer, Failure>> {
        let result = tokio::select! {
            biased;
            result = tokio::time::timeout(self.timeout, self.executor.execute(request)) => Some(result),
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

/// A step that is being done.
struct Doing<'a> {
    index: usize,
    step: &'a Step,
    due: Option<Instant>,
    measured: bool,
}

/// Keeps what later steps need. Gives the name of what the answer does not have.
fn extract(step: &Step, answer: &Answer, values: &mut Values<'_>) -> Option<String> {
    let mut missing = None;
    for extract in &step.extracts {
        match extract.from(answer) {
            Some(value) => values.keep(&extract.name, value),
            None => missing = Some(extract.name.clone()),
        }
    }
    missing
}

/// Refused connections end at once and would make a dead service look fast.
fn timed(result: &Result<Answer, Failure>) -> bool {
    match result {
        Ok(_) => true,
        Err(failure) => failure.kind == FailureKind::Timeout,
    }
}

/// Clients try again where it can help: no answer, 408, 429 and the server's own errors.
fn is_retried(result: &Result<Answer, Failure>) -> bool {
    match result {
        Ok(answer) => matches!(answer.status, 408 | 429 | 500..=599),
        Err(failure) => failure.kind != FailureKind::Values,
    }
}

impl Allowance {
    fn take(&self, now: Instant, worker: usize) -> Turn {
        if self.until.is_some_and(|until| now >= until) {
            return Turn::Done;
        }
        let ticket = |measured| {
            Turn::Go(Ticket {
                due: None,
                measured,
            })
        };
        let since = now.saturating_duration_since(self.measure_from);
        if !self.crowd.is_empty() && worker as f64 >= value_at(&self.crowd, since).round() {
            return Turn::Rest;
        }
        if now < self.measure_from {
            return ticket(false);
        }
        let less_one = |it: u64| it.checked_sub(1);
        let taken = self
            .remaining
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less_one);
        taken.map_or(Turn::Done, |_| ticket(true))
    }
}

/// Waits for the interruption; forever if it can no longer come.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|&stop| stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

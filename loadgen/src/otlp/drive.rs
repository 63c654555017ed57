//! Drives the connections of a run: who sends what when, and what is done about a refusal.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::client::{Connection, Outcome, Target};
use super::payload::{Numbering, Pool, Request};
use super::progress::Teller;
use super::tally::{Amount, Tally};
use crate::process;
use crate::record::Timeline;

/// A refused request is sent this often at most; with back-off that is far longer than any run.
const ATTEMPTS_MAX: u32 = 100;
/// Wait before the first repetition when the server did not say how long; doubled each time.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The load to offer.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) target: Target,
    /// Connections, each with one request at a time.
    pub(crate) connections: usize,
    /// Send this many items, then stop.
    pub(crate) items: Option<u64>,
    /// Start no request after this long, whatever is left to send.
    pub(crate) duration: Duration,
    /// Items due per second over all connections; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    /// Give up on an answer after this long.
    pub(crate) timeout: Duration,
    /// Send refused requests again where OTLP allows it.
    pub(crate) retry: bool,
    /// Give requests that allow it fresh ids, times and item numbers at each send.
    pub(crate) stamp: bool,
    pub(crate) numbering: Numbering,
    /// The number of the first item sent.
    pub(crate) first_item: u64,
    /// Who tells others how far it has come.
    pub(crate) teller: Option<Arc<Teller>>,
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tally: Tally,
    pub(crate) timeline: Timeline,
    /// From the start until the last answer.
    pub(crate) wall: Duration,
    /// The time of the load itself, which rates are over: as long as requests fell due, or were sent as fast as answers
    /// came; not the wait for the last answers.
    pub(crate) load: Duration,
    /// It was stopped before its end.
    pub(crate) interrupted: bool,
    /// CPU time of the thread that did all of it.
    pub(crate) cpu: Duration,
}

/// Offers the load from the calling thread until it is done or `stop` becomes true; returns the pool for
/// another run.
///
/// # Errors
/// When no runtime can be made.
pub(crate) fn run(
    load: Load,
    pool: Pool,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<(Run, Pool)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let cpu = process::thread_cpu_time();
    let start = Instant::now();
    let shared = Rc::new(Shared::new(load, pool, start));
    let sending = send_all(&shared, stop.clone());
    let mut tally = runtime.block_on(LocalSet::new().run_until(sending))?;
    drop(runtime);
    let wall = start.elapsed();
    let interrupted = *stop.borrow();
    let planned = shared.planned();
    let load = match shared.load.rate.is_some() && !interrupted {
        true => planned,
        false => wall.min(planned),
    };
    tally.unsent = shared.due(wall).saturating_sub(shared.tickets.get());
    let shared = Rc::into_inner(shared).context("a worker outlived its run")?;
    let cpu = process::thread_cpu_time().saturating_sub(cpu);
    let timeline = shared.timeline.into_inner();
    let run = Run {
        tally,
        timeline,
        wall,
        load,
        interrupted,
        cpu,
    };
    Ok((run, shared.pool.into_inner()))
}

async fn send_all(shared: &Rc<Shared>, stop: watch::Receiver<bool>) -> anyhow::Result<Tally> {
    let mut workers = JoinSet::new();
    for _ in 0..shared.load.connections {
        let connection = Connection::new(&shared.load.target)?;
        workers.spawn_local(Worker::new(Rc::clone(shared), connection, stop.clone()).run());
    }
    let mut tally = Tally::new();
    while let Some(worker) = workers.join_next().await {
        tally.merge(worker.context("a worker panicked")?);
    }
    Ok(tally)
}

/// What the workers share; they all run on one thread.
struct Shared {
    load: Load,
    pool: RefCell<Pool>,
    timeline: RefCell<Timeline>,
    start: Instant,
    items_per_request: u64,
    /// Requests started so far.
    tickets: Cell<u64>,
    /// Items started so far.
    items: Cell<u64>,
}

/// Leave to send one request.
struct Ticket {
    /// When it is due, in an open loop.
    due: Option<Instant>,
    items: u64,
    first_item: u64,
}

impl Shared {
    fn new(load: Load, pool: Pool, start: Instant) -> Self {
        let items_per_request = pool.facts().items_per_request.max(1) as u64;
        Self {
            load,
            pool: RefCell::new(pool),
            timeline: RefCell::new(Timeline::new(start)),
            start,
            items_per_request,
            tickets: Cell::new(0),
            items: Cell::new(0),
        }
    }

    /// The next request to send, unless everything is sent or time is up.
    fn ticket(&self) -> Option<Ticket> {
        let left = self
            .load
            .items
            .map_or(u64::MAX, |items| items - self.items.get());
        let items = self.items_per_request.min(left);
        let due = self
            .interval()
            .map(|interval| self.start + interval.mul_f64(self.tickets.get() as f64));
        let begins = due.unwrap_or(self.start).max(Instant::now());
        if items == 0 || begins.duration_since(self.start) >= self.load.duration {
            return None;
        }
        let first_item = self.load.first_item + self.items.get();
        self.tickets.set(self.tickets.get() + 1);
        self.items.set(self.items.get() + items);
        Some(Ticket {
            due,
            items,
            first_item,
        })
    }

    /// How long requests fall due, or are sent.
    fn planned(&self) -> Duration {
        let Load {
            items, duration, ..
        } = &self.load;
        match (self.interval(), items) {
            (Some(interval), Some(items)) => {
                let requests = items.div_ceil(self.items_per_request);
                interval.mul_f64(requests as f64).min(*duration)
            }
            _ => *duration,
        }
    }

    /// Time between two requests of an open loop.
    fn interval(&self) -> Option<Duration> {
        let rate = self.load.rate?;
        Some(Duration::from_secs_f64(
            self.items_per_request as f64 / rate,
        ))
    }

    /// Requests that were due in the first `wall` of an open loop.
    fn due(&self, wall: Duration) -> u64 {
        let Some(interval) = self.interval() else {
            return 0;
        };
        let time = wall.min(self.load.duration);
        let due = (time.as_secs_f64() / interval.as_secs_f64()).ceil() as u64;
        let requests = self
            .load
            .items
            .map_or(u64::MAX, |items| items.div_ceil(self.items_per_request));
        due.min(requests)
    }

    fn take(&self, ticket: &Ticket) -> anyhow::Result<Request> {
        let mut request = self.pool.borrow_mut().take(ticket.items)?;
        if self.load.stamp && request.can_be_stamped() {
            request.stamp(self.load.numbering, ticket.first_item, unix_nanos());
        }
        Ok(request)
    }
}

/// One connection and what happened on it.
struct Worker {
    shared: Rc<Shared>,
    connection: Connection,
    stop: watch::Receiver<bool>,
    tally: Tally,
}

impl Worker {
    fn new(shared: Rc<Shared>, connection: Connection, stop: watch::Receiver<bool>) -> Self {
        Self {
            shared,
            connection,
            stop,
            tally: Tally::new(),
        }
    }

    async fn run(mut self) -> Tally {
        while !*self.stop.borrow() {
            let Some(ticket) = self.shared.ticket() else {
                break;
            };
            let Some(begun) = self.wait_until_due(&ticket).await else {
                break;
            };
            match self.shared.take(&ticket) {
                Ok(request) => {
                    let was_sent = self.deliver(&request, begun).await;
                    self.shared.pool.borrow_mut().give_back(request);
                    // An open loop has its own pace; a closed one would spin where nobody listens.
                    let again = Instant::now() + BACKOFF;
                    if !was_sent && ticket.due.is_none() && self.sleep(again).await.is_none() {
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!("no request to send: {error:#}");
                    break;
                }
            }
        }
        self.tally
    }

    /// Returns the time from which latency counts: when the request was due if all workers were busy then,
    /// otherwise now (an idle worker's late timer is our fault, not the server's, and is kept apart).
    async fn wait_until_due(&mut self, ticket: &Ticket) -> Option<Instant> {
        let Some(due) = ticket.due else {
            return Some(Instant::now());
        };
        if due <= Instant::now() {
            return Some(due);
        }
        self.sleep(due).await?;
        let now = Instant::now();
        self.tally
            .lateness
            .record(now.saturating_duration_since(due));
        Some(now)
    }

    /// Sleeps; `None` when the run was stopped meanwhile.
    async fn sleep(&mut self, until: Instant) -> Option<()> {
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => Some(()),
            _ = self.stop.wait_for(|stop| *stop) => None,
        }
    }

    /// Sends a request, again where allowed, until its fate is known; whether anything of it has left.
    async fn deliver(&mut self, request: &Request, begun: Instant) -> bool {
        let timeout = self.shared.load.timeout;
        let mut was_sent = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let sent = Instant::now();
            let mut outcome = self.connection.send(request, timeout).await;
            // What was sent before, but not this time, was sent.
            outcome = match outcome {
                Outcome::NotSent(cause) if was_sent => Outcome::Failed(cause),
                other => other,
            };
            was_sent |= !matches!(outcome, Outcome::NotSent(_));
            let answered = Instant::now();
            if let Outcome::Refused(refusal) = &outcome {
                self.tally.answer_refused(refusal);
                let wait = refusal.retry_after.unwrap_or_else(|| backoff(attempt));
                let may_retry =
                    self.shared.load.retry && refusal.may_retry && attempt < ATTEMPTS_MAX;
                let in_time = answered + wait < self.shared.start + self.shared.load.duration;
                if may_retry && in_time && self.sleep(answered + wait).await.is_some() {
                    self.tally.retries += 1;
                    continue;
                }
            }
            let amount = Amount {
                requests: 1,
                items: request.items() as u64,
                bytes: request.bytes() as u64,
            };
            let latency = answered - begun;
            if let Some(teller) = &self.shared.load.teller {
                teller.end(amount.items, &outcome);
            }
            self.note_in_timeline(&outcome, amount.items, answered, latency);
            let in_time = answered <= self.shared.start + self.shared.planned();
            let service = answered - sent;
            self.tally.end(amount, outcome, latency, service, in_time);
            return was_sent;
        }
    }

    fn note_in_timeline(&self, outcome: &Outcome, items: u64, at: Instant, latency: Duration) {
        let mut timeline = self.shared.timeline.borrow_mut();
        match outcome {
            Outcome::Accepted { .. } => timeline.succeeded(at, items, latency),
            Outcome::Refused(_) | Outcome::Failed(_) | Outcome::NotSent(_) => {
                timeline.failed(at, None);
            }
        }
    }
}

fn backoff(attempt: u32) -> Duration {
    BACKOFF
        .saturating_mul(1 << attempt.saturating_sub(1).min(10))
        .min(BACKOFF_MAX)
}

/// Nanoseconds since 1970.
pub(crate) fn unix_nanos() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let check = |attempt, millis| assert_eq!(backoff(attempt), Duration::from_millis(millis));
        check(1, 100);
        check(2, 200);
        check(6, 3200);
        check(7, 5000);
        check(u32::MAX, 5000);
    }
}

//! The sending queue on disk: requests are in a log before their senders are answered, and batches are in it before
//! they are sent.
//!
//! A batch has the name of its boundary record, so that after a crash the same items go out under the same name, and
//! a destination that knows it stores them once. What leaves the log is delivered, or given up by a rule that the
//! operator set, and then it is counted.

mod batch;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

pub(super) use batch::Batch;

use super::former::{Former, Part};
use super::options::{DurableSettings, OnFull};
use super::{Account, Delivery, Parts};
use crate::ack::{Ack, Answer, Refusal, RefusalReason};
use crate::batch::Payload;
use crate::component::{ComponentError, ExporterContext};
use crate::exporters::folder_of;
use crate::gather::Batching;
use crate::ledger::Ledger;
use crate::signal::Signal;
use crate::telemetry::{Telemetry, names};
use crate::wal::{
    Entry, Error, Item, Log, LogOptions, OpenBatch, Position, Range, Reader, Recovered,
};

/// One exporter's log for one signal. Cloning shares it.
#[derive(Clone)]
pub(super) struct Queue(Arc<Inner>);

struct Inner {
    exporter: String,
    signal: Signal,
    telemetry: Telemetry,
    settings: DurableSettings,
    /// How batches are formed: as the queue was told itself, else as the first pipeline says.
    batching: OnceLock<Batching>,
    log: Log,
    /// Guards what is read from the log and not in a batch: one worker at a time gathers.
    forming: tokio::sync::Mutex<Forming>,
    /// Guards who is charged for which origin.
    accounts: Mutex<Accounts>,
    /// Set when pipelines are attached: before that nobody knows whose the items are.
    started: AtomicBool,
    closed: AtomicBool,
    /// Woken when the queue starts, closes or overflows.
    changed: Notify,
    upkeep: Mutex<Option<AbortOnDropHandle<()>>>,
    /// Whether the last append failed: changes are logged, not appends.
    failing: AtomicBool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("exporter", &self.0.exporter)
            .field("signal", &self.0.signal)
            .finish_non_exhaustive()
    }
}

struct Forming {
    reader: Reader,
    former: Former<Request>,
    /// Batches of the process before, to be sent again.
    recovered: VecDeque<OpenBatch>,
}

#[derive(Default)]
struct Accounts {
    ledgers: BTreeMap<u32, Ledger>,
    /// Items found in the log by origin, until its pipeline is attached.
    recovered: BTreeMap<u32, u64>,
}

/// Items of a request in the log: those from `first` to before `last` of `total`.
#[derive(Debug, Clone)]
struct Request {
    seq: u64,
    first: u32,
    last: u32,
    total: u32,
    origin: u32,
    unix_ms: u64,
}

impl Request {
    fn of(entry: &Entry) -> Self {
        Self {
            seq: entry.seq,
            first: entry.items.start,
            last: entry.items.end,
            total: to_u32(entry.payload.items()),
            origin: entry.origin,
            unix_ms: entry.unix_ms,
        }
    }

    fn items(&self) -> usize {
        self.last.saturating_sub(self.first) as usize
    }

    /// The place behind the last of the items.
    fn end(&self) -> Position {
        if self.last >= self.total {
            return Position::after(self.seq);
        }
        Position {
            seq: self.seq,
            item: self.last,
        }
    }
}

impl Part for Request {
    fn split(&mut self, items: usize) -> Self {
        let cut = self.first.saturating_add(to_u32(items)).min(self.last);
        let front = Self {
            last: cut,
            ..self.clone()
        };
        self.first = cut;
        front
    }
}

fn to_u32(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// How long the queue waits before it asks a failing disk again.
const DISK_RETRY: Duration = Duration::from_millis(500);

impl Queue {
    pub(super) fn open(
        context: &ExporterContext,
        signal: Signal,
        settings: &DurableSettings,
        batching: Option<Batching>,
    ) -> Result<Self, ComponentError> {
        let folder = settings
            .directory
            .join(folder_of(&context.id))
            .join(signal.name());
        let options = LogOptions {
            segment_bytes: (settings.max_size / 16).clamp(64 << 10, 16 << 20),
            fsync: settings.fsync,
            ..LogOptions::default()
        };
        let (log, reader, recovered) = Log::open(&folder, options).map_err(|cause| {
            ComponentError::new(
                format!(
                    "open the queue of exporters.{} for {signal} in {}",
                    context.id,
                    folder.display()
                ),
                cause,
            )
        })?;
        report(&context.id, signal, &recovered);
        let queue = Self(Arc::new(Inner {
            exporter: context.id.clone(),
            signal,
            telemetry: context.telemetry.clone(),
            settings: settings.clone(),
            batching: batching.map_or_else(OnceLock::new, OnceLock::from),
            log,
            accounts: Mutex::new(Accounts {
                ledgers: BTreeMap::new(),
                recovered: found(&recovered),
            }),
            forming: tokio::sync::Mutex::new(Forming {
                reader,
                former: Former::new(signal),
                recovered: recovered.batches.into(),
            }),
            started: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
            upkeep: Mutex::default(),
            failing: AtomicBool::new(false),
        }));
        Ok(queue)
    }

    pub(super) fn form(&self, batching: Batching) {
        // The first who says so decides.
        self.0.batching.set(batching).ok();
    }

    /// Charges `account` for what is found in the log of its pipeline, and for what comes.
    pub(super) fn attach(&self, account: &Account) {
        let mut accounts = self.accounts();
        if let Some(items) = accounts.recovered.remove(&account.origin) {
            self.recover(&account.ledger, items);
        }
        accounts
            .ledgers
            .insert(account.origin, account.ledger.clone());
    }

    fn recover(&self, ledger: &Ledger, items: u64) {
        ledger.accept(usize::try_from(items).unwrap_or(usize::MAX));
        let labels = [self.0.exporter.as_str(), self.0.signal.name()];
        self.0
            .telemetry
            .counter(&names::QUEUE_RECOVERED, &labels)
            .inc_by(items);
    }

    /// Lets workers have what is in the log, and begins the queue's upkeep. Pipelines are attached by now.
    pub(super) fn start(&self) {
        self.0.started.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
        let task = tokio::spawn(upkeep::run(self.clone()));
        *self.0.upkeep.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(AbortOnDropHandle::new(task));
    }

    pub(super) fn waiting_bytes(&self) -> u64 {
        self.0.log.unbatched_bytes()
    }

    pub(super) fn ready(&self) -> Result<(), Refusal> {
        let refuse = |why: &'static str| {
            Err(Refusal::retry(
                RefusalReason::QueueFull,
                why,
                Refusal::DEFAULT_RETRY_AFTER,
            ))
        };
        let log = &self.0.log;
        let held = match self.0.settings.on_full {
            OnFull::Refuse => log.disk_bytes(),
            // What waits is given up; but what was delivered stays on disk behind a batch that was not.
            OnFull::DropOldest => log.disk_bytes().saturating_sub(log.unsettled_bytes()),
        };
        if held >= self.0.settings.max_size {
            return refuse("sending queue on disk is full");
        }
        if !self.0.log.has_room(ROOM) {
            return refuse("the disk of the sending queue is full or fails");
        }
        Ok(())
    }

    pub(super) fn push(&self, account: &Account, payload: Payload, ack: Ack) {
        let items = payload.items();
        let queue = self.clone();
        let ledger = account.ledger.clone();
        debug_assert!(
            !account.counted,
            "a pipeline with a log leaves the counting to its queues"
        );
        let outcome = move |outcome: Result<u64, Error>| match outcome {
            Ok(_) => {
                ledger.accept(items);
                queue.report_append(None);
                ack.answer(Answer::Queued);
            }
            Err(cause) => {
                queue.report_append(Some(&cause));
                ack.answer(Answer::Refused(refusal(&cause)));
            }
        };
        self.0
            .log
            .append_then(account.origin, now_ms(), payload, Box::new(outcome));
        if self.0.settings.on_full == OnFull::DropOldest
            && self.0.log.unsettled_bytes() > self.0.settings.max_size
        {
            self.0.changed.notify_waiters();
        }
    }

    /// Logs when appends begin to fail and when they work again.
    fn report_append(&self, failure: Option<&Error>) {
        let is_new = self.0.failing.swap(failure.is_some(), Ordering::Relaxed) != failure.is_some();
        let (exporter, signal) = (&self.0.exporter, self.0.signal);
        match failure {
            Some(Error::Busy | Error::Closed) => {}
            Some(cause) if is_new => {
                error!(exporter, %signal, %cause, "the queue's disk fails: new data is refused until it works again");
            }
            None if is_new => info!(exporter, %signal, "the queue's disk works again"),
            _ => {}
        }
    }

    pub(super) async fn next(&self) -> Option<Delivery> {
        let mut forming = self.0.forming.lock().await;
        loop {
            let changed = self.0.changed.notified();
            if self.0.started.load(Ordering::Acquire) {
                break;
            }
            if self.is_closed() {
                return None;
            }
            changed.await;
        }
        // All pipelines are built.
        forming.former.follow(&self.0.batching, &self.0.telemetry);
        while let Some(open) = forming.recovered.pop_front() {
            if let Some(delivery) = self.resume(&open).await {
                return Some(delivery);
            }
        }
        loop {
            let changed = self.0.changed.notified();
            if forming.former.is_due() {
                return self.seal(&mut forming).await;
            }
            match forming.reader.try_next().await {
                Ok(Some(item)) => {
                    self.gather(&mut forming, item);
                    continue;
                }
                Ok(None) if self.is_closed() => return self.seal(&mut forming).await,
                Ok(None) => {}
                Err(cause) => {
                    error!(exporter = self.0.exporter, signal = %self.0.signal, %cause, "cannot read the queue, will try again");
                    tokio::time::sleep(DISK_RETRY).await;
                    continue;
                }
            }
            let deadline = forming.former.deadline();
            let until_due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = forming.reader.next() => match item {
                    Ok(Some(item)) => self.gather(&mut forming, item),
                    Ok(None) => return self.seal(&mut forming).await,
                    // Reported above, when it happens again.
                    Err(_) => {}
                },
                () = until_due => {}
                () = changed => {}
            }
        }
    }

    fn gather(&self, forming: &mut Forming, item: Item) {
        match item {
            Item::Request(entry) => {
                let request = Request::of(&entry);
                if request.items() == 0 {
                    return;
                }
                let wanted = entry.items.start as usize..entry.items.end as usize;
                let payload = crate::gather::part(self.0.signal, entry.payload, wanted);
                forming.former.push(payload, request);
            }
            Item::Lost(loss) => {
                error!(exporter = self.0.exporter, signal = %self.0.signal, bytes = loss.bytes, records = loss.seqs.end.saturating_sub(loss.seqs.start), "records in the queue are damaged; their bytes are kept in damaged-*.bin");
                if let Some(request) = loss.request {
                    let ledger = self.ledger(request.origin);
                    ledger.custody(request.items as usize).dropped("damaged");
                }
            }
        }
    }

    /// Makes a batch of what was gathered: its boundary is on disk before it is given out.
    async fn seal(&self, forming: &mut Forming) -> Option<Delivery> {
        let (payload, requests) = forming.former.take()?;
        let range = Range {
            start: self.0.log.batched(),
            end: requests.last()?.end(),
        };
        let id = loop {
            match self.0.log.boundary(range).await {
                Ok(id) => break id,
                Err(Error::Closed) => return None,
                Err(cause) => {
                    self.report_append(Some(&cause));
                    tokio::time::sleep(DISK_RETRY).await;
                }
            }
        };
        let batch = Batch {
            queue: self.clone(),
            id,
            range,
            oldest_ms: requests.first()?.unix_ms,
        };
        let shares = requests
            .iter()
            .map(|request| (request.origin, request.items()));
        let custodies = self.custodies(shares);
        Some(batch.delivery(payload, custodies, Parts::default()))
    }

    /// A batch of the process before, under its name.
    async fn resume(&self, open: &OpenBatch) -> Option<Delivery> {
        let batch = Batch {
            queue: self.clone(),
            id: open.id,
            range: open.range,
            oldest_ms: open.oldest_unix_ms,
        };
        let entries = loop {
            match batch.entries().await {
                Ok(entries) => break entries,
                Err(Error::Closed) => return None,
                Err(cause) => {
                    error!(exporter = self.0.exporter, signal = %self.0.signal, %cause, "cannot read a batch from the queue, will try again");
                    tokio::time::sleep(DISK_RETRY).await;
                }
            }
        };
        let shares = entries
            .iter()
            .map(|entry| (entry.origin, entry.items.len()));
        let custodies = self.custodies(shares);
        let payload = batch.payload_of(entries);
        if payload.is_empty() {
            batch.done();
            return None;
        }
        Some(batch.delivery(payload, custodies, open.parts_done.clone().into()))
    }

    /// Custody of each origin's items, which are counted as queued already.
    fn custodies(&self, shares: impl Iterator<Item = (u32, usize)>) -> Vec<crate::ledger::Custody> {
        let mut by_origin: BTreeMap<u32, usize> = BTreeMap::new();
        for (origin, items) in shares {
            *by_origin.entry(origin).or_default() += items;
        }
        by_origin
            .into_iter()
            .map(|(origin, items)| self.ledger(origin).custody(items))
            .collect()
    }

    /// Who is charged for an origin's items. What a pipeline left behind that is gone from the configuration is still
    /// delivered, under a name of its own.
    fn ledger(&self, origin: u32) -> Ledger {
        let mut accounts = self.accounts();
        if let Some(ledger) = accounts.ledgers.get(&origin) {
            return ledger.clone();
        }
        let ledger = Ledger::new(
            &self.0.telemetry,
            FORMER_PIPELINE,
            &self.0.exporter,
            self.0.signal,
        );
        if let Some(items) = accounts.recovered.remove(&origin) {
            self.recover(&ledger, items);
        }
        accounts.ledgers.insert(origin, ledger.clone());
        ledger
    }

    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }

    pub(super) async fn finish(&self) {
        self.close();
        let upkeep = self
            .0
            .upkeep
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = upkeep {
            task.abort();
            // It was told to end; how it ends says nothing.
            drop(task.await);
        }
        upkeep::publish(self);
        self.0.log.close().await;
    }

    fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `pipeline` label of items whose pipeline is gone from the configuration.
const FORMER_PIPELINE: &str = "(removed)";
/// A request of usual size must fit before a client is let in.
const ROOM: u64 = 1 << 20;

fn refusal(cause: &Error) -> Refusal {
    match cause {
        Error::TooLong(_) => Refusal::permanent(cause.to_string()),
        Error::Closed => Refusal::shutting_down(),
        _ => Refusal::retry(
            RefusalReason::QueueFull,
            format!("the sending queue could not be written: {cause}"),
            Refusal::DEFAULT_RETRY_AFTER,
        ),
    }
}

/// Items in a log by origin, in batches or not.
fn found(recovered: &Recovered) -> BTreeMap<u32, u64> {
    let mut items: BTreeMap<u32, u64> = BTreeMap::new();
    let tallies = recovered.batches.iter().map(|batch| &batch.tally);
    for tally in tallies.chain([&recovered.unbatched]) {
        for (origin, count) in tally.iter() {
            *items.entry(origin).or_default() += count.items;
        }
    }
    items
}

fn report(exporter: &str, signal: Signal, recovered: &Recovered) {
    let items: u64 = found(recovered).values().sum();
    if items > 0 {
        info!(exporter, %signal, items, batches = recovered.batches.len(), "the queue on disk has items of an earlier run: they go out first");
    }
    if recovered.torn_bytes > 0 {
        info!(exporter, %signal, bytes = recovered.torn_bytes, "cut an unfinished write off the queue's end: its sender was not answered");
    }
    if !recovered.damage.is_none() {
        warn!(exporter, %signal, bytes = recovered.damage.bytes, records = recovered.damage.records, "the queue on disk is damaged: what can be read is delivered, the damaged bytes are kept in damaged-*.bin");
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

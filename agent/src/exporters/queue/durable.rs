//! The sending queue on disk: requests are in a log before their senders are answered, and batches are in it before
//! they are sent.
//!
//! A batch has the name of its boundary record, so that after a crash the same items go out under the same name, and
//! a destination that knows it stores them once. What leaves the log is delivered, or given up by a rule that the
//! operator set, and then it is counted.

mod batch;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

pub(super) use batch::Batch;

use super::former::{Former, Part, Told};
use super::options::{DurableSettings, OnFull};
use super::{Account, Delivery, Opening, Parts, Returned, Settlement, Ticket};
use crate::ack::{Ack, Answer, Refusal, RefusalReason};
use crate::batch::Payload;
use crate::component::{ComponentError, ExporterContext, Shutdown};
use crate::exporters::folder_of;
use crate::gather::Batching;
use crate::ledger::Ledger;
use crate::progress::Pulse;
use crate::signal::Signal;
use crate::status::{Condition, Reporter};
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
    /// Where it tells that the disk refuses: the exporter that has the queue now.
    status: ArcSwap<Reporter>,
    /// The log's folder.
    folder: PathBuf,
    /// May be told anew, but for the folder.
    settings: ArcSwap<DurableSettings>,
    /// How batches are formed: as the queue was told itself, else as the first pipeline says.
    batching: Told,
    log: Log,
    /// Appends whose outcome is not known yet: what they are about is in no figure of the log.
    appending: AtomicUsize,
    /// Guards what was given back.
    returned: Returned,
    /// Guards what is read from the log and not in a batch: one worker at a time gathers.
    forming: tokio::sync::Mutex<Forming>,
    /// Guards who is charged for which origin.
    accounts: Mutex<Accounts>,
    /// Set when pipelines are attached: before that nobody knows whose the items are.
    started: AtomicBool,
    /// Guards whether it is closed.
    opening: Mutex<Opening>,
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

/// Where the log of an exporter is.
pub(super) fn folder(
    context: &ExporterContext,
    signal: Signal,
    settings: &DurableSettings,
) -> PathBuf {
    let exporter = settings.directory.join(folder_of(&context.id));
    exporter.join(signal.name())
}

fn log_options(settings: &DurableSettings) -> LogOptions {
    LogOptions {
        segment_bytes: (settings.max_size / 16).clamp(64 << 10, 16 << 20),
        fsync: settings.fsync,
        ..LogOptions::default()
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
        let folder = folder(context, signal, settings);
        let opened = Log::open(&folder, log_options(settings));
        let (log, reader, recovered) = opened.map_err(|cause| {
            ComponentError::new(
                format!("open the queue for {signal} in {}", folder.display()),
                cause,
            )
            .at("sending_queue.directory")
        })?;
        report(&context.id, signal, &recovered);
        let name = format!("queue {} {signal} commit", context.id);
        let commits = context.telemetry.spans().kind(&name);
        let times = context
            .telemetry
            .histogram(&names::QUEUE_COMMIT_SECONDS, &[&context.id, signal.name()]);
        log.observe_commits(move |synced| {
            let timed = synced.then(|| times.start_timer());
            Box::new((commits.start(), timed))
        });
        let queue = Self(Arc::new(Inner {
            exporter: context.id.clone(),
            signal,
            telemetry: context.telemetry.clone(),
            status: ArcSwap::default(),
            folder,
            settings: ArcSwap::from_pointee(settings.clone()),
            batching: Told::new(batching),
            log,
            appending: AtomicUsize::new(0),
            returned: Mutex::default(),
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
            opening: Mutex::default(),
            changed: Notify::new(),
            upkeep: Mutex::default(),
            failing: AtomicBool::new(false),
        }));
        Ok(queue)
    }

    #[cfg(test)]
    pub(super) fn form(&self, batching: Batching) {
        self.0.batching.tell(Some(batching));
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether its log is in `folder`.
    pub(super) fn is_at(&self, folder: &Path) -> bool {
        self.0.folder == folder
    }

    /// Whether nothing is in the log, and nothing comes any more.
    pub(super) fn is_drained(&self) -> bool {
        self.is_final() && self.0.log.stats().unsettled.items() == 0
    }

    /// Whether nothing comes any more: what there is can be read.
    fn is_final(&self) -> bool {
        self.is_closed() && self.0.appending.load(Ordering::Acquire) == 0
    }

    pub(super) fn tune(&self, settings: &DurableSettings, batching: Option<Batching>) {
        self.opening().reopen();
        if **self.0.settings.load() != *settings {
            self.0.log.retune(log_options(settings));
            self.0.settings.store(Arc::new(settings.clone()));
        }
        self.0.batching.tell(batching);
        self.0.changed.notify_waiters();
    }

    /// Tells `status` from now on when the disk refuses.
    pub(super) fn report_to(&self, status: &Reporter) {
        self.0.status.store(Arc::new(status.clone()));
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
        if self.0.started.swap(true, Ordering::AcqRel) {
            return;
        }
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
        let settings = self.0.settings.load();
        let held = match settings.on_full {
            OnFull::Refuse => log.disk_bytes(),
            // What waits is given up; but what was delivered stays on disk behind a batch that was not.
            OnFull::DropOldest => log.disk_bytes().saturating_sub(log.unsettled_bytes()),
        };
        if held >= settings.max_size {
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
        let outcome = move |outcome: Result<u64, Error>| {
            match outcome {
                Ok(_) => {
                    ledger.accept(items);
                    queue.report_append(None);
                    ack.answer(Answer::Queued);
                }
                Err(cause) => {
                    queue.report_append(Some(&cause));
                    ack.answer(Answer::Refused(refusal(&cause)));
                }
            }
            queue.0.appending.fetch_sub(1, Ordering::AcqRel);
            if queue.is_closed() {
                // Workers wait for the last one.
                queue.0.changed.notify_waiters();
            }
        };
        self.0.appending.fetch_add(1, Ordering::AcqRel);
        self.0
            .log
            .append_then(account.origin, now_ms(), payload, Box::new(outcome));
        let settings = self.0.settings.load();
        if settings.on_full == OnFull::DropOldest
            && self.0.log.unsettled_bytes() > settings.max_size
        {
            self.0.changed.notify_waiters();
        }
    }

    /// Logs when appends begin to fail and when they work again.
    fn report_append(&self, failure: Option<&Error>) {
        let is_new = self.0.failing.swap(failure.is_some(), Ordering::Relaxed) != failure.is_some();
        let (exporter, signal) = (&self.0.exporter, self.0.signal);
        let status = self.0.status.load();
        match failure {
            None => status.works(Condition::Disk),
            Some(Error::Busy | Error::Closed) => {}
            Some(cause) => status.fails(Condition::Disk, &format!("the queue's disk: {cause}")),
        }
        match failure {
            Some(Error::Busy | Error::Closed) => {}
            Some(cause) if is_new => {
                error!(exporter, %signal, %cause, "the queue's disk fails: new data is refused until it works again");
            }
            None if is_new => info!(exporter, %signal, "the queue's disk works again"),
            _ => {}
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.0.log.has_unread() || !self.returned().is_empty()
    }

    pub(super) async fn next(&self, leave: &Shutdown, pulse: &Pulse) -> Option<Delivery> {
        let mut forming = tokio::select! {
            biased;
            () = leave.triggered() => return None,
            forming = self.0.forming.lock() => forming,
        };
        loop {
            let changed = self.0.changed.notified();
            if self.0.started.load(Ordering::Acquire) {
                break;
            }
            if self.is_closed() {
                return None;
            }
            tokio::select! {
                () = changed => {}
                () = leave.triggered() => return None,
            }
        }
        // All pipelines are built. From here on this worker reads and writes on behalf of all.
        pulse.waits_outside();
        while let Some(open) = forming.recovered.pop_front() {
            if let Some(delivery) = self.resume(&open).await {
                return Some(delivery);
            }
        }
        self.gather_next(&mut forming, leave, pulse).await
    }

    /// What was given back, or the next batch of what is in none.
    async fn gather_next(
        &self,
        forming: &mut Forming,
        leave: &Shutdown,
        pulse: &Pulse,
    ) -> Option<Delivery> {
        loop {
            pulse.waits_outside();
            if leave.is_triggered() {
                return None;
            }
            let changed = self.0.changed.notified();
            if let Some(delivery) = self.take_returned(leave).await {
                return Some(delivery);
            }
            forming.former.follow(&self.0.batching, &self.0.telemetry);
            if forming.former.is_due() {
                return self.seal(forming).await;
            }
            // Asked first: what was appended by then is found below.
            let is_final = self.is_final();
            match forming.reader.try_next().await {
                Ok(Some(item)) => {
                    self.gather(forming, item);
                    continue;
                }
                Ok(None) if is_final => return self.seal(forming).await,
                Ok(None) => {}
                Err(cause) => {
                    error!(exporter = self.0.exporter, signal = %self.0.signal, %cause, "cannot read the queue, will try again");
                    tokio::time::sleep(DISK_RETRY).await;
                    continue;
                }
            }
            let deadline = forming.former.deadline();
            match deadline {
                Some(deadline) => pulse.until(deadline),
                None => pulse.rests(),
            }
            let until_due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = forming.reader.next() => match item {
                    Ok(Some(item)) => self.gather(forming, item),
                    Ok(None) => return self.seal(forming).await,
                    // Reported above, when it happens again.
                    Err(_) => {}
                },
                () = until_due => {}
                () = changed => {}
                () = leave.triggered() => return None,
            }
        }
    }

    pub(super) fn put_back(&self, ticket: Ticket, settlement: Settlement) {
        self.returned().push_back((ticket, settlement));
        self.0.changed.notify_waiters();
    }

    /// A batch that was given back, with its items.
    async fn take_returned(&self, leave: &Shutdown) -> Option<Delivery> {
        loop {
            let (ticket, settlement) = self.returned().pop_front()?;
            match settlement.payload().await {
                Ok(payload) => {
                    return Some(Delivery {
                        payload,
                        ticket,
                        settlement,
                    });
                }
                Err(cause) => {
                    error!(exporter = self.0.exporter, signal = %self.0.signal, cause, "cannot read a batch from the queue, will try again");
                    self.returned().push_front((ticket, settlement));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(DISK_RETRY) => {}
                () = leave.triggered() => return None,
            }
        }
    }

    fn returned(&self) -> MutexGuard<'_, VecDeque<(Ticket, Settlement)>> {
        let returned = self.0.returned.lock();
        returned.unwrap_or_else(PoisonError::into_inner)
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
        self.opening().closed = true;
        self.0.changed.notify_waiters();
    }

    pub(super) fn turn(&self) -> u64 {
        self.opening().turn
    }

    pub(super) fn close_if_still(&self, turn: u64) {
        if self.opening().close_if_still(turn) {
            self.0.changed.notify_waiters();
        }
    }

    fn opening(&self) -> MutexGuard<'_, Opening> {
        let opening = self.0.opening.lock();
        opening.unwrap_or_else(PoisonError::into_inner)
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
        // They stay in the log.
        drop(std::mem::take(&mut *self.returned()));
        self.0.log.close().await;
    }

    fn is_closed(&self) -> bool {
        self.opening().closed
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

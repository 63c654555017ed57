//! A log's handle: opening, appending, batches, figures, closing.

use std::ops::ControlFlow;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::batch::Payload;

use super::books::{OpenBatch, Tally};
use super::cursor::{read_some, visit_requests};
use super::entry::Item;
use super::error::{Error, OpenError};
use super::files::{Disk, Files};
use super::group::Order;
use super::layout::Control;
use super::open::{Opened, open};
use super::options::LogOptions;
use super::position::{Position, Range};
use super::reader::Reader;
use super::recover::Recovered;
use super::shared::{Answer, Observer, Pending, Shared};
use super::state::Totals;

/// A log of requests on disk. Cloning shares it; with the last clone, and the reader, it closes.
#[derive(Debug, Clone)]
pub struct Log(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// The writer, until somebody waits for its end.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    /// Lets the writer finish what waits, and waits for that: then the directory can be opened again.
    fn drop(&mut self) {
        self.shared.close();
        self.join();
    }
}

impl Handle {
    fn join(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic there has been reported; whoever waited has been told that the log is closed.
            thread.join().ok();
        }
    }
}

/// What an append, a boundary or a split comes to: the record's sequence number, once it is as durable as
/// [`super::Fsync`] says. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "only the outcome says whether the record is in the log"]
pub struct Committing(oneshot::Receiver<Result<u64, Error>>);

impl Future for Committing {
    type Output = Result<u64, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|outcome| outcome.unwrap_or(Err(Error::Closed)))
    }
}

/// What a log holds and has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Data appended and not settled, in batches or not.
    pub unsettled: Tally,
    /// Batches that are open.
    pub open_batches: usize,
    /// Bytes of all segments' content, settled or not, without space reserved ahead.
    pub disk_bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// When the oldest unsettled request was appended, in milliseconds since 1970. Of requests that have not been
    /// read yet it is known to the nearest 256 KiB of log.
    pub oldest_unix_ms: Option<u64>,
    /// Recent bodies in memory, with what they cost besides.
    pub cached_bytes: usize,
    /// Bytes that wait for the disk.
    pub pending_bytes: usize,
    /// What happened since the log was opened.
    pub totals: Totals,
}

impl Log {
    /// Opens the log in `dir`, or begins one, on this machine's disk. Blocks: reads all headers, and all of the newest
    /// segment.
    ///
    /// # Errors
    /// See [`OpenError`]. Where the log is of another version, or another's, nothing has been changed.
    pub fn open(dir: &Path, options: LogOptions) -> Result<(Self, Reader, Recovered), OpenError> {
        Self::open_on(Arc::new(Disk), dir, options)
    }

    /// As [`Log::open`], on `files`.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        files: Arc<dyn Files>,
        dir: &Path,
        options: LogOptions,
    ) -> Result<(Self, Reader, Recovered), OpenError> {
        let Opened {
            shared,
            thread,
            report,
            losses,
        } = open(files, dir, options)?;
        let log = Self(Arc::new(Handle {
            shared: Arc::clone(&shared),
            thread: Mutex::new(Some(thread)),
        }));
        for seqs in losses {
            // A new log takes notes until it is closed.
            log.note(Control::Lost { seqs }).ok();
        }
        Ok((log, Reader::new(shared), report))
    }

    /// The log's own random number, made with its directory. Batch ids are unique in one directory only: what must be
    /// unique for ever, such as a deduplication token, needs both.
    pub fn id(&self) -> u128 {
        u128::from_be_bytes(self.0.shared.log.0)
    }

    /// Goes on as `options` say: with the next group of records, with the next segment where it is about its size.
    pub fn retune(&self, options: LogOptions) {
        self.0.shared.set_options(options);
    }

    /// Appends a request of `origin`, a number by which the caller knows a pipeline. `unix_ms` is now, in milliseconds
    /// since 1970: by it the request's age is told.
    pub fn append(&self, origin: u32, unix_ms: u64, payload: Payload) -> Committing {
        let too_long = u32::try_from(payload.byte_len()).is_err();
        if too_long || u32::try_from(payload.items()).is_err() {
            return refused(Error::TooLong(payload.byte_len() as u64));
        }
        self.send(Order::Data {
            origin,
            unix_ms,
            payload,
        })
    }

    /// The same; `outcome` is called with what it comes to, on the writer's thread and before a reader can see the
    /// request. It must not wait for anything, nor call this log.
    pub fn append_then(
        &self,
        origin: u32,
        unix_ms: u64,
        payload: Payload,
        outcome: Box<dyn FnOnce(Result<u64, Error>) + Send>,
    ) {
        let too_long = u32::try_from(payload.byte_len()).is_err();
        if too_long || u32::try_from(payload.items()).is_err() {
            return outcome(Err(Error::TooLong(payload.byte_len() as u64)));
        }
        let order = Order::Data {
            origin,
            unix_ms,
            payload,
        };
        let pending = Pending {
            order,
            answer: Some(Answer::Call(outcome)),
        };
        if let Err((error, Some(answer))) = self.0.shared.send(pending) {
            answer.give(Err(error));
        }
    }

    /// Makes a batch of `range`, whose id is the number that this comes to. Ranges must continue each other: the first
    /// begins at [`Log::batched`], each other where the one before ended. The range must have been read.
    pub fn boundary(&self, range: Range) -> Committing {
        if range.end > self.0.shared.state().read {
            return refused(Error::OutOfOrder);
        }
        self.control(Control::Boundary(range), Vec::new())
    }

    /// Where the last batch ends, or what was given up after it: where the next must begin.
    pub fn batched(&self) -> Position {
        self.0.shared.state().books.batched()
    }

    /// Replaces an open batch by parts of it, cut at `cuts`, which must ascend inside its range. The number that this
    /// comes to is the first part's id; the others' follow it one by one. Reads the range's headers from disk first.
    ///
    /// # Errors
    /// [`Error::UnknownBatch`], [`Error::OutOfOrder`] for cuts elsewhere, [`Error::Io`].
    pub async fn split(&self, batch: u64, cuts: Vec<Position>) -> Result<u64, Error> {
        let range = self.open_range(batch)?;
        let ends = cuts.iter().copied().chain([range.end]);
        let mut parts = Vec::with_capacity(cuts.len() + 1);
        let mut start = range.start;
        for end in ends {
            if end <= start || end > range.end {
                return Err(Error::OutOfOrder);
            }
            parts.push(Range { start, end });
            start = end;
        }
        if parts.len() < 2 {
            return Err(Error::OutOfOrder);
        }
        let shared = Arc::clone(&self.0.shared);
        let tallies = tokio::task::spawn_blocking(move || share_out(&shared, &parts))
            .await
            .map_err(|_| Error::Closed)??;
        self.begin_settling(batch)?;
        self.control(Control::Split { batch, cuts }, tallies).await
    }

    /// Notes that a part of a batch, such as one of its tables, has been delivered. Nobody waits for the disk: after a
    /// crash the part may be open again.
    ///
    /// # Errors
    /// [`Error::UnknownBatch`], [`Error::Closed`].
    pub fn part_done(&self, batch: u64, part: &str) -> Result<(), Error> {
        self.open_range(batch)?;
        self.note(Control::PartDone {
            batch,
            part: part.to_owned(),
        })
    }

    /// Notes that a batch has been delivered. Nobody waits for the disk: after a crash it may be open again.
    ///
    /// # Errors
    /// [`Error::UnknownBatch`], [`Error::Closed`].
    pub fn done(&self, batch: u64) -> Result<(), Error> {
        self.begin_settling(batch)?;
        self.note(Control::Done { batch })
    }

    /// Notes that a batch has been given up, and why.
    ///
    /// # Errors
    /// [`Error::UnknownBatch`], [`Error::Closed`].
    pub fn drop_batch(&self, batch: u64, reason: &str) -> Result<(), Error> {
        self.begin_settling(batch)?;
        self.note(Control::DroppedBatch {
            batch,
            reason: reason.to_owned(),
        })
    }

    /// The data of an open batch, from disk, in order. Holds all of it in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn read(&self, range: Range) -> Result<Vec<Item>, Error> {
        let shared = Arc::clone(&self.0.shared);
        let read = move || read_all(&shared, range);
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Error::Closed)?
    }

    /// Whether `bytes` more can be appended as far as is known: false while the disk refuses to give more, and what is
    /// reserved is less. The log asks again every second.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.0.shared.has_room(bytes)
    }

    /// Bytes of all segments' content, settled or not: one open batch keeps what came after it.
    pub fn disk_bytes(&self) -> u64 {
        self.0.shared.state().disk_bytes()
    }

    /// Bytes of bodies that are not settled.
    pub fn unsettled_bytes(&self) -> u64 {
        self.0.shared.state().unsettled.bytes()
    }

    /// Whether there is something that the reader has not given out.
    pub fn has_unread(&self) -> bool {
        let state = self.0.shared.state();
        state.read < state.data_end
    }

    /// Bytes of bodies that are in no batch.
    pub fn unbatched_bytes(&self) -> u64 {
        let state = self.0.shared.state();
        let batched: u64 = state.books.open().map(|open| open.tally.bytes()).sum();
        state.unsettled.bytes().saturating_sub(batched)
    }

    /// Has `begin` called when a group of records is about to be written, with whether it will be synced; what it gives is
    /// dropped when that is done, before anybody is answered. The first one who asks is served.
    pub fn observe_commits(&self, begin: impl Fn(bool) -> Box<dyn Send> + Send + Sync + 'static) {
        drop(self.0.shared.observer.set(Observer(Box::new(begin))));
    }

    /// What the log holds and has done.
    pub fn stats(&self) -> Stats {
        let pending_bytes = self.0.shared.pending_bytes();
        let state = self.0.shared.state();
        Stats {
            unsettled: state.unsettled.clone(),
            open_batches: state.books.open().count(),
            disk_bytes: state.disk_bytes(),
            segments: state.segments.len(),
            oldest_unix_ms: state.oldest_unix_ms(),
            cached_bytes: state.recent_bytes(),
            pending_bytes,
            totals: state.totals,
        }
    }

    /// The open batches, in the order of their ids.
    pub fn open_batches(&self) -> Vec<OpenBatch> {
        self.0.shared.state().books.open().cloned().collect()
    }

    /// Finishes what waits, makes it durable, and lets go of the directory.
    pub async fn close(&self) {
        self.0.shared.close();
        let handle = Arc::clone(&self.0);
        // It fails only if the runtime ends, and then nobody is left to care.
        tokio::task::spawn_blocking(move || handle.join())
            .await
            .ok();
    }

    fn open_range(&self, batch: u64) -> Result<Range, Error> {
        let state = self.0.shared.state();
        let open = state.books.get(batch).map(|open| open.range);
        open.filter(|_| !state.settling.contains(&batch))
            .ok_or(Error::UnknownBatch(batch))
    }

    fn begin_settling(&self, batch: u64) -> Result<(), Error> {
        let mut state = self.0.shared.state();
        if state.books.get(batch).is_none() || !state.settling.insert(batch) {
            return Err(Error::UnknownBatch(batch));
        }
        Ok(())
    }

    fn control(&self, control: Control, tallies: Vec<Tally>) -> Committing {
        self.send(Order::Control {
            control,
            tallies,
            applied: false,
        })
    }

    fn send(&self, order: Order) -> Committing {
        send(&self.0.shared, order)
    }

    fn note(&self, control: Control) -> Result<(), Error> {
        let order = Order::Control {
            control,
            tallies: Vec::new(),
            applied: false,
        };
        let pending = Pending {
            order,
            answer: None,
        };
        self.0.shared.send(pending).map_err(|(error, _)| error)
    }
}

/// Hands an order to the writer, to be waited for.
pub(super) fn send(shared: &Shared, order: Order) -> Committing {
    let (answer, committing) = oneshot::channel();
    let pending = Pending {
        order,
        answer: Some(Answer::Channel(answer)),
    };
    match shared.send(pending) {
        Ok(()) => Committing(committing),
        Err((error, _)) => refused(error),
    }
}

fn refused(error: Error) -> Committing {
    let (answer, committing) = oneshot::channel();
    // The receiver is right here.
    answer.send(Err(error)).ok();
    Committing(committing)
}

fn read_all(shared: &Shared, range: Range) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    let mut cursor = None;
    let mut rest = range;
    loop {
        let reading = read_some(shared, cursor, rest)?;
        let Some(last) = reading.items.last() else {
            return Ok(items);
        };
        rest.start = rest.start.max(last.end());
        items.extend(reading.items);
        cursor = reading.cursor;
    }
}

/// What each of `parts` of a batch, which continue each other, holds.
fn share_out(shared: &Shared, parts: &[Range]) -> Result<Vec<Tally>, Error> {
    let mut tallies = vec![Tally::default(); parts.len()];
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Ok(tallies);
    };
    visit_requests(shared, first.start.seq, |header| {
        if Position::before(header.seq) >= last.end {
            return ControlFlow::Break(());
        }
        let count = (header.items, u64::from(header.body_len));
        for (part, tally) in parts.iter().zip(&mut tallies) {
            tally.add_part(*part, header.seq, header.origin, count);
        }
        ControlFlow::Continue(())
    })?;
    Ok(tallies)
}

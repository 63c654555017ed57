//! The contract between the agent and its components: one trait per kind, one factory type for all.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::{Schema, SchemaGenerator};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::ack::{Ack, Answer, Refusal, RefusalReason, Rejected};
use crate::auth::{Authenticators, Reference, Side};
use crate::batch::{Batch, Payload, Transport};
use crate::claim::Claim;
use crate::config::Section;
use crate::exporters::queue::{Pace, Queue, QueueSettings, Ticket};
use crate::exporters::sender::SenderSettings;
use crate::files;
use crate::gather::Batching;
use crate::memory::Reservation;
use crate::net::sockets::Sockets;
use crate::progress::Progress;
use crate::signal::{PerSignal, Signal};
use crate::status::{Reporter, Statuses};
use crate::tap::Taps;
use crate::telemetry::Telemetry;
use crate::waiting_room::WaitingRoom;

/// A boxed future, for the few calls that are made once per component or per batch.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells a component's tasks to finish. Cloning shares the signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Asks everybody who holds a clone to finish.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether [`Shutdown::trigger`] was called.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A signal of its own that this one triggers, too.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Waits for [`Shutdown::trigger`].
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }
}

/// What a component kind offers to configuration and documentation.
#[derive(Debug, Clone, Copy)]
pub struct Factory<S: ?Sized + 'static> {
    /// The name in configuration: `otlp`, `batch`, `clickhouse`.
    pub kind: &'static str,
    /// One sentence for `tidegate components` and the reference.
    pub summary: &'static str,
    /// The signals it works for.
    pub signals: &'static [Signal],
    /// What may be written in its table, made from its options.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Decodes and validates a component's table. Problems are reported to the section; where there are any, what is
    /// returned counts for nothing.
    pub parse: fn(&mut Section<'_>) -> Option<Box<S>>,
}

/// A component could not be built or run.
#[derive(Debug, Error)]
#[error("{attempted}: {cause}")]
pub struct ComponentError {
    /// What was attempted, on what: `bind 127.0.0.1:4317`.
    pub attempted: String,
    /// What went wrong.
    pub cause: String,
    /// The key of the component's table that asked for it, dotted; empty where it is the component as a whole.
    pub key: String,
    /// Whether it stays so until somebody changes the configuration or a file that it names: trying again cannot help.
    pub permanent: bool,
    /// What else failed in the same attempt.
    also: Vec<ComponentError>,
}

impl ComponentError {
    /// An error that says what was attempted and why it failed.
    pub fn new(attempted: impl Into<String>, cause: impl ToString) -> Self {
        Self {
            attempted: attempted.into(),
            cause: cause.to_string(),
            key: String::new(),
            permanent: false,
            also: Vec::new(),
        }
    }

    /// `path` could not be read. What is no text or too large stays that; a file that is not there may come.
    pub fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self {
            permanent: files::is_unfit(error),
            ..Self::new(format!("read {}", path.display()), error)
        }
    }

    /// The same, asked for by `key` of the component's table.
    #[must_use]
    pub fn at(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// The same of a table whose part at `prefix` it is.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        self.key = format!("{prefix}.{}", self.key);
        self.also = self
            .also
            .into_iter()
            .map(|failed| failed.below(prefix))
            .collect();
        self
    }

    /// The same, where trying again cannot help.
    #[must_use]
    pub fn permanent(self) -> Self {
        Self {
            permanent: true,
            ..self
        }
    }

    /// Both of two parts of a component, or everything that failed in building them.
    pub fn both<A, B>(a: Result<A, Self>, b: Result<B, Self>) -> Result<(A, B), Self> {
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            (Err(failed), Ok(_)) | (Ok(_), Err(failed)) => Err(failed),
            (Err(mut failed), Err(other)) => {
                failed.also.push(other);
                Err(failed)
            }
        }
    }

    /// All of several parts of a component, or everything that failed in building them.
    pub fn all<T>(attempts: impl IntoIterator<Item = Result<T, Self>>) -> Result<Vec<T>, Self> {
        let mut built = Ok(Vec::new());
        for attempt in attempts {
            built = Self::both(built, attempt).map(|(mut built, one)| {
                built.push(one);
                built
            });
        }
        built
    }

    /// Each failure by itself.
    pub fn into_each(mut self) -> Vec<Self> {
        let also = std::mem::take(&mut self.also);
        let also = also.into_iter().flat_map(Self::into_each);
        std::iter::once(self).chain(also).collect()
    }
}

/// Settings that can be compared with others of whatever type. Everything that is `PartialEq` can.
pub trait Comparable: Any {
    /// Whether `other` is of the same type and equal: a component with it would do exactly the same.
    fn is_same(&self, other: &dyn Any) -> bool;

    /// Itself, to be compared with.
    fn as_any(&self) -> &dyn Any;
}

impl<T: PartialEq + Any> Comparable for T {
    fn is_same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

// === Receivers ===

/// Validated settings of a receiver.
pub trait ReceiverSettings: Comparable + Debug + Send + Sync {
    /// Files that are read when it is built, such as certificates: their content is part of the settings.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What it takes for itself, so that no other component can have it.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    /// The authenticators that it asks, or shows the credentials of.
    fn authenticators(&self) -> Vec<Reference> {
        Vec::new()
    }

    /// Builds the receiver: takes its sockets, from an earlier receiver where that has them, and starts nothing.
    ///
    /// # Errors
    /// When a socket cannot be bound or a file cannot be read. An earlier receiver is as it was.
    fn build(&self, context: ReceiverContext) -> Result<Box<dyn Receiver>, ComponentError>;
}

/// What a receiver is given.
pub struct ReceiverContext {
    /// `otlp` or `otlp/name`.
    pub id: String,
    /// Where each signal's batches go; `None` where no pipeline wants the signal.
    pub intakes: PerSignal<Option<Arc<dyn Intake>>>,
    /// For the receiver's own metrics.
    pub telemetry: Telemetry,
    /// Where it tells how it is.
    pub status: Reporter,
    /// The sockets that the process listens on.
    pub sockets: Sockets,
    /// Who may come in.
    pub authenticators: Authenticators,
}

/// A component that takes data in.
pub trait Receiver: Send {
    /// Serves until `shutdown`, then lets requests under way finish and returns. The call itself, before the future is
    /// polled, takes over what an earlier receiver listened on.
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>>;
}

/// How a request that never became a batch ended, for the receiver's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailure {
    /// Refused for now, with a hint, before its items were counted.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// Bytes of the request if it told them.
        bytes: Option<usize>,
    },
    /// The client's fault: malformed, oversize, wrong type.
    Failed,
}

/// The way into the pipelines that a receiver feeds with one signal. It counts what passes.
pub trait Intake: Send + Sync {
    /// Asks for room for `bytes` before they are buffered, or after a body turned out to inflate.
    ///
    /// # Errors
    /// The refusal to give to the client.
    fn admit(&self, bytes: usize) -> Result<Reservation, Refusal>;

    /// Where requests wait for admission; `None` if they are refused at once.
    fn waiting_room(&self) -> Option<&WaitingRoom> {
        None
    }

    /// Hands over a batch. Its [`crate::ack::Ack`] is answered by whatever takes responsibility or refuses.
    fn submit(&self, batch: Batch, transport: Transport);

    /// Counts a request that ended before it became a batch.
    fn count_failure(&self, transport: Transport, failure: RequestFailure);

    /// Counts strings whose invalid UTF-8 was replaced.
    fn count_repaired(&self, transport: Transport, strings: usize);
}

// === Processors ===

/// Validated settings of a processor.
pub trait ProcessorSettings: Comparable + Debug + Send + Sync {
    /// Files that are read when it is built: their content is part of the settings.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// How it gathers items into batches, if that is all it does. Where a queue is durable, the queue does it instead: what
    /// was accepted is on disk before it is gathered.
    fn batching(&self, id: &str) -> Option<Batching> {
        let _unused = id;
        None
    }

    /// The bytes above which it refuses data, if it watches the memory of the process.
    fn memory_limit(&self) -> Option<u64> {
        None
    }

    /// Builds an instance for one pipeline.
    ///
    /// # Errors
    /// When a resource it needs cannot be had.
    fn build(&self, context: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError>;
}

/// What a processor is given.
#[derive(Debug, Clone)]
pub struct ProcessorContext {
    /// `batch` or `batch/name`.
    pub id: String,
    /// The pipeline's signal.
    pub signal: Signal,
    /// For the processor's own metrics.
    pub telemetry: Telemetry,
    /// Where it tells how it is.
    pub status: Reporter,
    /// Bytes that the process holds, and what the process may use.
    pub held: crate::memory::HeldBytes,
}

/// What a processor makes of its input: batches that go on, and items that do not.
#[derive(Debug, Default)]
pub struct Output {
    /// Batches for the next stage, in order.
    pub batches: Vec<Batch>,
    /// Items given up, by a stable reason: `filtered`, `sampled`.
    pub dropped: Vec<(Cow<'static, str>, usize)>,
    /// Items declined, by a stable reason. Their senders hear of it through the acks of the batches they came in.
    pub rejected: Vec<(Cow<'static, str>, usize)>,
    /// The senders to be answered `Queued`: the first without an allocation, then the others.
    taken_over: (Option<Ack>, Vec<Ack>),
}

impl Output {
    /// Passes a batch on.
    pub fn emit(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    /// Accounts for `items` that go no further, as the operator wants it. Their sender is not told.
    pub fn discard(&mut self, reason: impl Into<Cow<'static, str>>, items: usize) {
        self.dropped.push((reason.into(), items));
    }

    /// Declines `items` of the batch that `ack` is owed for: they are at fault, and their sender is told `message`. They
    /// were never accepted. If the sender was answered before, all that is left is to discard them.
    pub fn reject(
        &mut self,
        ack: &mut Ack,
        reason: impl Into<Cow<'static, str>>,
        items: usize,
        message: impl Into<Cow<'static, str>>,
    ) {
        let reason = reason.into();
        if !ack.is_open() {
            self.discard(reason, items);
            return;
        }
        let message = message.into();
        ack.reject(Rejected { items, message });
        self.rejected.push((reason, items));
    }

    /// Sends a whole batch of `items` back: its sender keeps it, and may try again. If the sender was answered before, all
    /// that is left is to discard them.
    pub fn refuse(&mut self, ack: Ack, reason: &'static str, items: usize, refusal: Refusal) {
        if !ack.is_open() {
            self.discard(reason, items);
            return;
        }
        ack.answer(Answer::Refused(refusal));
        self.rejected.push((reason.into(), items));
    }

    /// Takes over responsibility for a batch of which nothing is passed on under its ack, because what is not declined or
    /// discarded is kept back. Its sender is answered as soon as the items are on the books.
    pub fn take_over(&mut self, ack: Ack) {
        match &mut self.taken_over {
            (first @ None, _) => *first = Some(ack),
            (Some(_), others) => others.push(ack),
        }
    }

    /// The acks of the batches that were taken over.
    pub fn into_taken_over(self) -> impl Iterator<Item = Ack> {
        let (first, others) = self.taken_over;
        first.into_iter().chain(others)
    }
}

/// A component between receivers and exporters. Synchronous: it never waits.
pub trait Processor: Send {
    /// Whether a batch of about `bytes` may enter now. Asked before data is buffered.
    ///
    /// # Errors
    /// The refusal to give to the client.
    fn ready(&self, bytes: usize) -> Result<(), Refusal> {
        let _unused = bytes;
        Ok(())
    }

    /// Whether [`Processor::process`] may take so long that whoever waits for the pipeline must not hold up other work.
    fn may_take_long(&self) -> bool {
        false
    }

    /// Told of `items` that came although [`Processor::ready`] refused, and were sent back.
    fn refused(&self, items: usize) {
        let _unused = items;
    }

    /// Takes a batch and emits any number of batches.
    ///
    /// Items that are at fault are declined with [`Output::reject`]. A processor that keeps the others back, or has none to
    /// pass on, ends with [`Output::take_over`]: from then on it is responsible.
    fn process(&mut self, batch: Batch, output: &mut Output);

    /// When [`Processor::wake`] wants to be called, if at all.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Called at or after [`Processor::deadline`].
    fn wake(&mut self, now: Instant, output: &mut Output) {
        let _unused = (now, output);
    }

    /// Emits everything held back. Called last, and again if anything came all the same.
    fn drain(&mut self, output: &mut Output) {
        let _unused = output;
    }
}

// === Exporters ===

/// Validated settings of an exporter.
pub trait ExporterSettings: Comparable + Debug + Send + Sync {
    /// Files that are read when it is built, such as certificates: their content is part of the settings.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What it takes for itself, so that no other component can have it.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    /// The authenticators that it asks, or shows the credentials of.
    fn authenticators(&self) -> Vec<Reference> {
        Vec::new()
    }

    /// Builds the exporter for the signals that pipelines feed it with. Its workers wait for [`Sender::start`]; until then
    /// the exporter that it takes the place of is as it was.
    ///
    /// # Errors
    /// When a resource it needs cannot be had. An absent network peer is not an error.
    fn build(&self, context: &ExporterContext) -> Result<Vec<Sender>, ComponentError>;

    /// What it shares with the others, if it has a sending queue.
    fn sender(&self) -> Option<&SenderSettings> {
        None
    }

    /// The same exporter for sending dead letters again, with `sender` in place of its own; `None` if it has none.
    fn with_sender(&self, sender: SenderSettings) -> Option<Box<dyn ExporterSettings>> {
        let _unused = sender;
        None
    }
}

/// What an exporter is given.
#[derive(Debug, Clone)]
pub struct ExporterContext {
    /// `clickhouse` or `clickhouse/name`.
    pub id: String,
    /// The signals that some pipeline feeds it with.
    pub signals: Vec<Signal>,
    /// For the exporter's own metrics.
    pub telemetry: Telemetry,
    /// Where it tells how it is, for each signal.
    pub status: PerSignal<Reporter>,
    /// Knows whether workers get on.
    pub progress: Progress,
    /// Triggered when the time to drain is over: attempts and waits end, and what is not delivered is given up.
    pub cut: Shutdown,
    /// Triggered when another exporter takes the queues over: attempts under way end, and what is not delivered goes back.
    pub leave: Shutdown,
    /// What to show to servers.
    pub authenticators: Authenticators,
    /// Queues of the exporter that this one takes the place of, by signal.
    pub inherited: Vec<(Signal, Queue)>,
    /// Who looks at what is sent.
    pub taps: Taps,
}

/// The outcome of one attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has acknowledged all of it.
    Delivered,
    /// Not now: try again, no earlier than `after` where the destination gave a hint.
    Retry {
        /// What went wrong.
        cause: String,
        /// The destination's hint.
        after: Option<Duration>,
    },
    /// Too much at once: its halves may do.
    TooLarge {
        /// What went wrong.
        cause: String,
    },
    /// Never: sending the same again cannot help.
    Rejected {
        /// What went wrong.
        cause: String,
        /// How many of the items, if the destination has taken the others.
        items: Option<usize>,
    },
}

impl Outcome {
    /// What went wrong, if something did.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Delivered => None,
            Self::Retry { cause, .. } | Self::TooLarge { cause } | Self::Rejected { cause, .. } => {
                Some(cause)
            }
        }
    }

    /// All of it rejected.
    pub fn rejected(cause: String) -> Self {
        Self::Rejected { cause, items: None }
    }
}

/// The part of an exporter that talks to its destination. One instance per worker.
pub trait Exporter: Send + 'static {
    /// A batch made ready to send: kept between attempts, so that a retry sends the same bytes and encodes nothing.
    type Prepared: Send;

    /// Turns a batch into what is sent. Waits for nothing: what takes long rests at `pace` between its pieces. `ticket` says
    /// which batch it is, and takes note of the parts of it that are delivered.
    ///
    /// # Errors
    /// Why the data cannot be sent, ever.
    fn prepare(
        &mut self,
        signal: Signal,
        payload: Payload,
        ticket: &Ticket,
        pace: &Pace,
    ) -> impl Future<Output = Result<Self::Prepared, String>> + Send;

    /// Makes one attempt. What parts of `prepared` were delivered, it remembers there. Nobody waits for it longer than
    /// `limit`.
    fn send(
        &mut self,
        prepared: &mut Self::Prepared,
        limit: Option<Duration>,
    ) -> impl Future<Output = Outcome> + Send;

    /// Called once after the last send, as to flush and close a file.
    fn close(&mut self) -> impl Future<Output = Result<(), ComponentError>> + Send {
        async { Ok(()) }
    }
}

/// The entrance to one exporter for one signal: its sending queue, and the workers behind it.
pub struct Sender {
    /// The exporter's id.
    pub exporter: String,
    /// The signal it takes.
    pub signal: Signal,
    /// The queue that the workers empty.
    pub queue: Queue,
    /// What the queue is like from the moment on that the workers have it.
    pub settings: QueueSettings,
    /// Queues of an earlier exporter that take nothing any more; these workers empty them, too.
    pub leftovers: Vec<Queue>,
    /// Workers that have not begun.
    pub waiting: Vec<BoxFuture<'static, ()>>,
    /// Workers and what looks after them; they end when the queue is closed and empty, when they are to leave, or when
    /// the drain is cut short.
    pub workers: Vec<JoinHandle<()>>,
    /// Where it tells how it is.
    pub status: Reporter,
    /// Has the workers give back what they have and end.
    pub leave: Shutdown,
    /// Cuts the drain short.
    pub cut: Shutdown,
    /// Triggered when all workers have ended.
    pub ended: Shutdown,
    /// Told of each batch, or part of one, that was delivered.
    pub deliveries: watch::Receiver<()>,
}

impl Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("exporter", &self.exporter)
            .field("signal", &self.signal)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// Lets the workers begin.
    pub fn start(&mut self) {
        self.start_after(Vec::new());
    }

    /// Lets the workers begin once `others`, who had the queue before, have ended: what they give back keeps its place.
    pub fn start_after(&mut self, others: Vec<JoinHandle<()>>) {
        for queue in self.queues() {
            queue.report_to(&self.status);
        }
        let waiting = std::mem::take(&mut self.waiting);
        let exporter = self.exporter.clone();
        let all_ended = self.ended.clone();
        self.workers.push(tokio::spawn(async move {
            for other in others {
                report(&exporter, other.await);
            }
            let mut workers = JoinSet::new();
            for worker in waiting {
                workers.spawn(worker);
            }
            while let Some(ended) = workers.join_next().await {
                report(&exporter, ended);
            }
            all_ended.trigger();
        }));
    }

    /// Every queue there is to it.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        std::iter::once(&self.queue).chain(&self.leftovers)
    }
}

fn report(exporter: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(exporter, %error, "a worker's task failed; this is a defect");
    }
}

// === Extensions ===

/// Validated settings of an extension.
pub trait ExtensionSettings: Comparable + Debug + Send + Sync {
    /// Files that are read when it is built, such as certificates: their content is part of the settings.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// On which sides it is an authenticator, if it is one.
    fn authenticates(&self) -> &'static [Side] {
        &[]
    }

    /// The authenticators that it asks itself.
    fn authenticators(&self) -> Vec<Reference> {
        Vec::new()
    }

    /// What it takes for itself, so that no other component can have it.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    /// Builds the extension: binds its sockets, starts nothing.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    fn build(&self, context: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError>;
}

/// What an extension is given.
#[derive(Debug, Clone)]
pub struct ExtensionContext {
    /// `health_check` or `health_check/name`.
    pub id: String,
    /// Whether the agent is up; see [`crate::health::Health`].
    pub health: crate::health::Health,
    /// For the extension's own metrics.
    pub telemetry: Telemetry,
    /// How all components are.
    pub statuses: Statuses,
    /// The sockets that the process listens on.
    pub sockets: Sockets,
    /// Who may come in.
    pub authenticators: Authenticators,
}

impl ExtensionContext {
    /// For an extension that works without an agent: nobody else has what it gets, but for `authenticators`.
    pub fn alone(id: &str, authenticators: Authenticators) -> Self {
        Self {
            id: id.to_owned(),
            health: crate::health::Health::default(),
            telemetry: Telemetry::default(),
            statuses: Statuses::default(),
            sockets: Sockets::default(),
            authenticators,
        }
    }
}

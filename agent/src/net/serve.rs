//! The accept loop: connections in bounded number, each with its time limits, drained on shutdown.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::{Activity, Connection, Patience, Verdict};
use super::crowd::Crowd;
use super::listen::{Acceptor, Endpoint, Listener};
use super::socket::{Io, Socket};
use super::sockets::{Key, Sockets};
use super::tls::TlsSettings;
use crate::status::{Condition, Reporter};

/// A TLS handshake takes a few round trips; this is a dozen of the slowest.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long to wait after the system had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long an idle or aged connection has to end itself before it is cut.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How often idle connections are looked for when there are too many: it is a walk over all of them.
const THIN_INTERVAL: Duration = Duration::from_millis(100);

/// How long a connection that came while the server was ended may take to send its one request.
const LATE_PATIENCE: Duration = Duration::from_secs(1);

/// And how often it is looked whether it has.
const LATE_INTERVAL: Duration = Duration::from_millis(10);

/// Connections taken from the backlog at the end: what the kernel keeps at most, so that whoever floods it cannot hold up the end.
const LATE_MAX: usize = 1024;

/// Time and number limits of a server. A `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For an HTTP/1 request head, from its first byte.
    pub head: Option<Duration>,
    /// For a connection without a request under way.
    pub idle: Option<Duration>,
    /// For a peer that takes nothing of what is written.
    pub write: Option<Duration>,
    /// For a connection altogether; then it is asked to end.
    pub age: Option<Duration>,
    /// After `age`, until it is cut.
    pub age_grace: Option<Duration>,
    /// Connections at a time. When more come, those make way that have been idle for longest; without any, they wait to be
    /// accepted.
    pub connections: usize,
    /// On shutdown, for requests under way.
    pub drain: Duration,
}

/// The tasks that HTTP/2 needs for its streams: spawned here, waited for by the server that owns them.
#[derive(Debug, Clone, Default)]
pub struct Tasks(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}

/// What connections are served with; replaced as a whole.
struct Face<S> {
    tls: Option<TlsAcceptor>,
    builder: auto::Builder<Tasks>,
    service: S,
    limits: Limits,
    /// Is told whether connections are accepted.
    status: Reporter,
    rules: Option<TlsSettings>,
    /// Cancelled when connections made by these rules for TLS are to end.
    outdated: CancellationToken,
}

/// A place where something is or will be served: its socket, and the server that is there already.
pub struct Place<S> {
    sockets: Sockets,
    key: Key,
    listener: Listener,
    /// For when nothing serves there yet.
    acceptor: Option<Acceptor>,
    tasks: Tasks,
    before: Option<Arc<Station<S>>>,
}

impl<S: Send + Sync + 'static> Place<S> {
    /// The place at `endpoint`; nothing changes for whoever serves there. `owner` tells those apart that take any free
    /// port.
    ///
    /// # Errors
    /// When the socket cannot be bound, or not be watched by the runtime that calls this.
    pub fn at(sockets: &Sockets, endpoint: &Endpoint, owner: &str) -> io::Result<Self> {
        let key = Key::new(endpoint, owner);
        let listener = sockets.listen(endpoint, &key)?;
        let before = sockets.server::<Station<S>>(&key);
        let tasks = before
            .as_ref()
            .map_or_else(Tasks::default, |station| station.tasks.clone());
        let acceptor = match &before {
            Some(_) => None,
            None => Some(listener.start()?),
        };
        Ok(Self {
            sockets: sockets.clone(),
            key,
            listener,
            acceptor,
            tasks,
            before,
        })
    }

    /// The actual address.
    pub fn address(&self) -> &str {
        self.listener.address()
    }

    /// The tasks of whatever is served there, for the builder.
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }
}

/// What is to be served at a place.
pub struct Server<S> {
    /// Where.
    pub place: Place<S>,
    /// Certificates and rules; `None` serves in the clear.
    pub tls: Option<(TlsSettings, Arc<rustls::ServerConfig>)>,
    /// The protocols and their buffers, built with the place's tasks.
    pub builder: auto::Builder<Tasks>,
    /// Answers requests. [`Connection`] is in their extensions.
    pub service: S,
    /// Its limits.
    pub limits: Limits,
    /// Where it tells whether it accepts connections.
    pub status: Reporter,
}

impl<S> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.place.listener)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A server at work. It belongs to whoever took it over last.
struct Station<S> {
    face: ArcSwap<Face<S>>,
    tasks: Tasks,
    crowd: Crowd,
    shutdown: CancellationToken,
    /// Guards who owns it.
    owner: Mutex<Owner>,
}

struct Owner {
    /// Counts who took it over.
    turn: u64,
    /// Whether the last owner has ended it.
    closed: bool,
    /// The accept loop.
    accepting: Option<JoinHandle<()>>,
}

/// The right to end a server, unless somebody has taken it over since.
struct Tenure<S> {
    station: Arc<Station<S>>,
    turn: u64,
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync,
    S: 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Accepts and serves until `stop` resolves, then lets requests under way finish, for a bounded time; unless another
    /// server has taken the place over by then. The call itself takes it over from the one before: connections stay, and
    /// the next request on each is served by this.
    ///
    /// # Errors
    /// When the socket cannot be watched. What goes wrong later ends a connection, not the server.
    pub fn run(self, stop: impl Future<Output = ()>) -> io::Result<impl Future<Output = ()>> {
        let tenure = self.take_over()?;
        Ok(async move {
            stop.await;
            tenure.end().await;
        })
    }

    fn take_over(self) -> io::Result<Tenure<S>> {
        let Place {
            sockets,
            key,
            listener,
            acceptor,
            tasks,
            before,
        } = self.place;
        let (rules, tls) = self.tls.unzip();
        let mut face = Face {
            tls: tls.map(TlsAcceptor::from),
            builder: self.builder,
            service: self.service,
            limits: self.limits,
            status: self.status,
            rules,
            outdated: CancellationToken::new(),
        };
        if let Some(station) = before {
            let mut owner = station.owner();
            if !owner.closed {
                let old = station.face.load_full();
                if old.rules == face.rules {
                    face.outdated = old.outdated.clone();
                }
                let keeps_rules = old.rules == face.rules;
                station.face.store(Arc::new(face));
                if !keeps_rules {
                    old.outdated.cancel();
                }
                owner.turn += 1;
                let turn = owner.turn;
                drop(owner);
                return Ok(Tenure { station, turn });
            }
        }
        let acceptor = match acceptor {
            Some(acceptor) => acceptor,
            // It was ended after this was built.
            None => listener.start()?,
        };
        let station = Arc::new(Station {
            face: ArcSwap::from_pointee(face),
            tasks,
            crowd: Crowd::default(),
            shutdown: CancellationToken::new(),
            owner: Mutex::new(Owner {
                turn: 0,
                closed: false,
                accepting: None,
            }),
        });
        sockets.serves(&key, &station);
        let accepting = tokio::spawn(accept_all(acceptor, Arc::clone(&station)));
        station.owner().accepting = Some(accepting);
        Ok(Tenure { station, turn: 0 })
    }
}

impl<S> Station<S> {
    fn owner(&self) -> MutexGuard<'_, Owner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Tenure<S> {
    async fn end(self) {
        let accepting = {
            let mut owner = self.station.owner();
            if owner.turn != self.turn {
                return;
            }
            owner.closed = true;
            owner.accepting.take()
        };
        self.station.shutdown.cancel();
        if let Some(accepting) = accepting {
            report(accepting.await);
        }
    }
}

impl<S> Drop for Tenure<S> {
    /// Whoever owned the server is gone without waiting for its end.
    fn drop(&mut self) {
        let mut owner = self.station.owner();
        if owner.turn == self.turn {
            owner.closed = true;
            self.station.shutdown.cancel();
        }
    }
}

async fn accept_all<S, B>(acceptor: Acceptor, station: Arc<Station<S>>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync,
    S: 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    let shutdown = station.shutdown.clone();
    let mut thin_at = Instant::now();
    let mut acceptance = Acceptance::default();
    while !shutdown.is_cancelled() {
        // One more than there may be: then somebody has to make way, or nobody comes in until somebody does.
        let full = connections.len() > station.face.load().limits.connections;
        if full && thin_at <= Instant::now() {
            thin_at = Instant::now() + THIN_INTERVAL;
            let count = station.crowd.thin();
            tracing::debug!(count, "too many connections: idle ones are closed");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            () = tokio::time::sleep_until(thin_at), if full => {}
            accepted = accept(&acceptor), if !full => {
                acceptance.note(&accepted, &station.face.load().status);
                match accepted {
                    Accepted::Somebody(io) => drop(connections.spawn(serve(Arc::clone(&station), io, Came::InTime))),
                    Accepted::Gone => {}
                    // Whoever waits there would have the next attempt fail at once.
                    Accepted::Failed(_) => tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    },
                }
            }
        }
    }
    // Who was told by the kernel that somebody listens here gets an answer: closing the socket would reset them.
    for _ in 0..LATE_MAX {
        match acceptor.accept_waiting() {
            Some(Ok(io)) => drop(connections.spawn(serve(Arc::clone(&station), io, Came::Late))),
            Some(Err(_)) => {}
            None => break,
        }
    }
    drop(acceptor);
    let limit = station.face.load().limits.drain;
    drain(connections, &station.tasks, limit).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed; this is a defect");
    }
}

/// What came of waiting for a connection.
enum Accepted {
    Somebody(Box<dyn Io>),
    /// It ended before it was there.
    Gone,
    /// The system has nothing to make a connection of.
    Failed(io::Error),
}

async fn accept(acceptor: &Acceptor) -> Accepted {
    match acceptor.accept().await {
        Ok(io) => Accepted::Somebody(io),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused => Accepted::Gone,
            _ => Accepted::Failed(error),
        },
    }
}

/// Whether connections are accepted: told when it changes, and to the status as long as it lasts. Who waits stays in the kernel's
/// line, so the first attempt after the shortage finds somebody.
#[derive(Default)]
struct Acceptance {
    failing_since: Option<Instant>,
}

impl Acceptance {
    fn note(&mut self, accepted: &Accepted, status: &Reporter) {
        match accepted {
            Accepted::Gone => {}
            Accepted::Failed(error) => {
                if self.failing_since.is_none() {
                    self.failing_since = Some(Instant::now());
                    tracing::warn!(%error, "connections are not accepted");
                }
                let cause = format!("connections are not accepted: {error}");
                status.fails(Condition::Accepting, &cause);
            }
            // A receiver has several listeners and one status: what another one lacks it tells again with its next attempt.
            Accepted::Somebody(_) => {
                if let Some(since) = self.failing_since.take() {
                    let lasted = since.elapsed();
                    tracing::info!(?lasted, "connections are accepted again");
                    status.works(Condition::Accepting);
                }
            }
        }
    }
}

async fn drain(mut connections: JoinSet<()>, tasks: &Tasks, limit: Duration) {
    tasks.0.close();
    let ended = tokio::time::timeout(limit, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
        tasks.0.wait().await;
    });
    if ended.await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections cut: their requests did not finish in time"
        );
        connections.shutdown().await;
        // The streams of HTTP/2 end with their connections.
        tasks.0.wait().await;
    }
}

/// When a connection came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    InTime,
    /// It was completed by the kernel before the socket was closed: it gets one answer.
    Late,
}

async fn serve<S, B>(station: Arc<Station<S>>, io: Box<dyn Io>, came: Came)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync,
    S: 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let face = station.face.load_full();
    let (limits, outdated) = (face.limits, face.outdated.clone());
    let shutdown = station.shutdown.clone();
    let activity = Arc::new(Activity::new());
    let seat = station.crowd.enter(&activity);
    let handshake = tokio::select! {
        stream = handshake(face.tls.as_ref(), io) => stream,
        () = shutdown.cancelled(), if came == Came::InTime => None,
        () = seat.given_up() => None,
    };
    let Some(io) = handshake else {
        return;
    };
    let socket = Socket::new(io, Arc::clone(&activity), limits.write);
    let service = Tracked {
        station,
        connection: Connection(Arc::clone(&activity)),
    };
    let builder = face.builder.clone();
    // The connection may outlive what it began with.
    drop(face);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let mut clock = Clock::new(&limits);
    let mut ending = std::pin::pin!(ending(&shutdown, came, &activity));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = &*error, "connection ended");
                }
                return;
            }
            () = ending.as_mut(), if !clock.closing => {
                // The server cuts what is left after its drain time.
                clock.close(None);
                connection.as_mut().graceful_shutdown();
            }
            () = outdated.cancelled(), if !clock.closing => {
                clock.close(None);
                connection.as_mut().graceful_shutdown();
            }
            () = seat.given_up() => return,
            () = &mut clock.timer, if clock.armed => match clock.ring(&activity, &limits) {
                Step::Nothing => {}
                Step::Finish => connection.as_mut().graceful_shutdown(),
                Step::Cut => return,
            }
        }
    }
}

/// Resolves when the connection is to finish what is under way and to end, because the server does.
async fn ending(shutdown: &CancellationToken, came: Came, activity: &Activity) {
    shutdown.cancelled().await;
    let patience = Instant::now() + LATE_PATIENCE;
    while came == Came::Late && !activity.has_begun() && Instant::now() < patience {
        tokio::time::sleep(LATE_INTERVAL).await;
    }
}

/// Whether a failed handshake is to be told aloud: one in ten seconds, so that nobody can fill a log from outside.
fn tell_of_handshake() -> bool {
    static NEXT: Mutex<Option<Instant>> = Mutex::new(None);
    let now = Instant::now();
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = next.is_none_or(|next| next <= now);
    if is_due {
        *next = Some(now + Duration::from_secs(10));
    }
    is_due
}

/// The stream to speak HTTP on; `None` when the peer failed to agree on TLS in time.
async fn handshake(tls: Option<&TlsAcceptor>, io: Box<dyn Io>) -> Option<Box<dyn Io>> {
    let Some(tls) = tls else {
        return Some(io);
    };
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(io)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            // Whoever only looks whether a port is open ends it without a word.
            if error.kind() == io::ErrorKind::UnexpectedEof || !tell_of_handshake() {
                tracing::debug!(%error, "TLS handshake failed");
            } else {
                tracing::info!(%error, "a TLS handshake failed; others are told at debug for 10 s");
            }
            None
        }
        Err(_) => {
            tracing::debug!("TLS handshake timed out");
            None
        }
    }
}

/// What is due on a connection.
enum Step {
    Nothing,
    /// Finish the requests under way, then close.
    Finish,
    /// Close now.
    Cut,
}

/// The one timer of a connection: for idleness, a slow head, age, and the grace after any of them.
struct Clock {
    timer: Pin<Box<tokio::time::Sleep>>,
    armed: bool,
    closing: bool,
    patience: Patience,
    aged_at: Option<Instant>,
}

impl Clock {
    fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        let patience = Patience {
            head: limits.head,
            idle: limits.idle,
        };
        let aged_at = limits.age.map(|age| now + age);
        let first = [limits.head, limits.idle, limits.age]
            .into_iter()
            .flatten()
            .min();
        Self {
            timer: Box::pin(tokio::time::sleep_until(now + first.unwrap_or_default())),
            armed: first.is_some(),
            closing: false,
            patience,
            aged_at,
        }
    }

    /// The connection closes; it is cut after `grace`, if there is one.
    fn close(&mut self, grace: Option<Duration>) {
        self.closing = true;
        self.armed = grace.is_some();
        if let Some(grace) = grace {
            self.timer.as_mut().reset(Instant::now() + grace);
        }
    }

    fn ring(&mut self, activity: &Activity, limits: &Limits) -> Step {
        if self.closing {
            return Step::Cut;
        }
        let now = Instant::now();
        if self.aged_at.is_some_and(|at| at <= now) {
            self.close(limits.age_grace);
            return Step::Finish;
        }
        match activity.verdict(now, self.patience) {
            Verdict::SlowHead => Step::Cut,
            Verdict::Idle => {
                self.close(Some(CLOSE_GRACE));
                Step::Finish
            }
            Verdict::Wait(until) => {
                let next = [until, self.aged_at].into_iter().flatten().min();
                self.armed = next.is_some();
                if let Some(next) = next {
                    self.timer.as_mut().reset(next);
                }
                Step::Nothing
            }
        }
    }
}

/// What a station serves at the time of each request, which counts as activity of its connection.
struct Tracked<S> {
    station: Arc<Station<S>>,
    connection: Connection,
}

impl<S> Service<Request<Incoming>> for Tracked<S>
where
    S: Service<Request<Incoming>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let under_way = self.connection.request();
        request.extensions_mut().insert(self.connection.clone());
        let answer = self.station.face.load().service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(under_way);
            answer
        })
    }
}

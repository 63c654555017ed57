//! The accept loop: connections in bounded number, each with its time limits, drained on shutdown.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::{Activity, Connection, Patience, Verdict};
use super::listen::{Acceptor, Listener};
use super::socket::{Io, Socket};

/// A TLS handshake takes a few round trips; this is a dozen of the slowest.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long to wait after the system had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long an idle or aged connection has to end itself before it is cut.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

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
    /// Connections at a time; more wait to be accepted.
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

/// A bound server, ready to run.
pub struct Server<S> {
    /// Where it listens.
    pub listener: Listener,
    /// Its certificates; `None` serves in the clear.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The protocols and their buffers, built with `tasks`.
    pub builder: auto::Builder<Tasks>,
    /// The tasks of `builder`.
    pub tasks: Tasks,
    /// Answers requests. [`Connection`] is in their extensions.
    pub service: S,
    /// Its limits.
    pub limits: Limits,
}

impl<S> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync,
    S: 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Accepts and serves until `stop` resolves, then lets requests under way finish, for a bounded time.
    ///
    /// # Errors
    /// When the socket cannot be watched. What goes wrong later ends a connection, not the server.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let acceptor = self.listener.start()?;
        let peers = Arc::new(Peers {
            tls: self.tls.map(TlsAcceptor::from),
            builder: self.builder,
            service: self.service,
            limits: self.limits,
        });
        let mut connections = JoinSet::new();
        let shutdown = CancellationToken::new();
        let mut stop = std::pin::pin!(stop);
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = stop.as_mut() => shutdown.cancel(),
                Some(ended) = connections.join_next() => report(ended),
                accepted = accept(&acceptor), if connections.len() < self.limits.connections => {
                    if let Some(io) = accepted {
                        connections.spawn(Arc::clone(&peers).serve(io, shutdown.clone()));
                    }
                }
            }
        }
        drop(acceptor);
        drain(connections, &self.tasks, self.limits.drain).await;
        Ok(())
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed; this is a defect");
    }
}

/// The next connection; `None` after a failure, once it makes sense to try again.
async fn accept(acceptor: &Acceptor) -> Option<Box<dyn Io>> {
    match acceptor.accept().await {
        Ok(io) => Some(io),
        Err(error) => {
            let of_the_peer = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused
            );
            if !of_the_peer {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None
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

/// What every connection of a server shares.
struct Peers<S> {
    tls: Option<TlsAcceptor>,
    builder: auto::Builder<Tasks>,
    service: S,
    limits: Limits,
}

impl<S, B> Peers<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync,
    S: 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    async fn serve(self: Arc<Self>, io: Box<dyn Io>, shutdown: CancellationToken) {
        let Some(io) = self.handshake(io, &shutdown).await else {
            return;
        };
        let activity = Arc::new(Activity::new());
        let socket = Socket::new(io, Arc::clone(&activity), self.limits.write);
        let service = Tracked {
            inner: self.service.clone(),
            connection: Connection(Arc::clone(&activity)),
        };
        let connection = self.builder.serve_connection(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        let mut clock = Clock::new(&self.limits);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error = &*error, "connection ended");
                    }
                    return;
                }
                () = shutdown.cancelled(), if !clock.closing => {
                    // The server cuts what is left after its drain time.
                    clock.close(None);
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut clock.timer, if clock.armed => match clock.ring(&activity, &self.limits) {
                    Step::Nothing => {}
                    Step::Finish => connection.as_mut().graceful_shutdown(),
                    Step::Cut => return,
                }
            }
        }
    }

    /// The stream to speak HTTP on; `None` when the peer failed to agree on TLS in time.
    async fn handshake(
        &self,
        io: Box<dyn Io>,
        shutdown: &CancellationToken,
    ) -> Option<Box<dyn Io>> {
        let Some(tls) = &self.tls else {
            return Some(io);
        };
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(io)) => agreed,
            () = shutdown.cancelled() => return None,
        };
        match agreed {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("TLS handshake timed out");
                None
            }
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

/// A service whose requests count as activity of their connection.
struct Tracked<S> {
    inner: S,
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
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(under_way);
            answer
        })
    }
}

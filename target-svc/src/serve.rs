//! Connections: accepted, given a bounded time for each request head, and ended gracefully.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// After an error of accept that is the process's own, as when it has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves `app` over HTTP/1 and HTTP/2 until `stop`, and then until the last request under way has its answer. Dropping it
/// cuts all connections.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    head_timeout: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout);
    let server = Arc::new(Server {
        builder,
        app,
        head_timeout,
    });
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Arc::clone(&server).connection(stream, peer, graceful.watcher());
                connections.spawn(connection);
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::error!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Whether a connection failed before it was accepted.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

struct Server {
    builder: auto::Builder<TokioExecutor>,
    app: Router,
    head_timeout: Duration,
}

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        // hyper times heads of HTTP/1 once it knows that it is HTTP/1: who says nothing, or stops in the middle of the
        // first line, is timed here.
        let begun = Notify::new();
        let app = TowerToHyperService::new(self.app.clone());
        let service = service_fn(|mut request: Request<Incoming>| {
            begun.notify_one();
            request.extensions_mut().insert(ConnectInfo(peer));
            app.call(request)
        });
        let connection = self
            .builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = pin!(watcher.watch(connection));
        let first = tokio::time::timeout(self.head_timeout, begun.notified());
        let served = tokio::select! {
            served = &mut connection => served,
            first = first => match first {
                Ok(()) => connection.await,
                Err(_) => {
                    tracing::debug!(%peer, "no request came in time");
                    return;
                }
            },
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}

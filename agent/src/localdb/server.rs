//! The listening side: data folder and lock, accept loop, orderly end.

use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::engine::Engine;
use super::library;
use super::service::{Credentials, Service};

const LOCK_FILE: &str = "tidegate.lock";
/// How long a connection may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// What killed queries get to notice it.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// What stopped requests get to answer.
const CUT_TIMEOUT: Duration = Duration::from_secs(2);
const SESSION_SWEEP: Duration = Duration::from_secs(1);

/// A running database. The engine allows one in the life of a process.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    /// Ends connections whatever they are doing.
    cut: CancellationToken,
    accepting: JoinHandle<GracefulShutdown>,
    service: Arc<Service>,
    _lock: File,
}

impl Server {
    /// Opens the data and begins to listen.
    ///
    /// # Errors
    /// When the library is missing, the address or the data folder is taken, or the engine does not start.
    pub async fn start(options: Options) -> Result<Self> {
        let path = data_dir(options.path.as_deref())?;
        let lock = lock(&path)?;
        let library = library::find(options.library.as_deref())?;
        // Bound before the data is opened: a taken address is the likelier mistake, and cheaper to notice.
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let data = path.clone();
        let engine = tokio::task::spawn_blocking(move || Engine::start(&library, &data)).await??;
        let credentials = credentials(&options);
        if !address.ip().is_loopback() && credentials.is_none() {
            tracing::warn!(%address, "anyone who reaches this address can read, write and delete: set --password");
        }
        tracing::info!(
            path = %path.display(), version = engine.version, "localdb listening on http://{address}"
        );
        let service = Arc::new(Service::new(engine, credentials, options.max_queries));
        let (stop, stopping) = watch::channel(false);
        let connections = Arc::new(Semaphore::new(options.max_connections as usize));
        let cut = CancellationToken::new();
        let accepting = tokio::spawn(accept(
            listener,
            Arc::clone(&service),
            connections,
            stopping,
            cut.clone(),
        ));
        Ok(Self {
            address,
            stop,
            cut,
            accepting,
            service,
            _lock: lock,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends: no new requests, running ones get `bound` to end and are then stopped, the data is closed.
    ///
    /// # Errors
    /// When a statement does not stop; the data is then left as a crash would leave it, which is safe.
    pub async fn stop(self, bound: Duration) -> Result<()> {
        self.stop.send_replace(true);
        let connections = self.accepting.await?;
        let mut closing = std::pin::pin!(connections.shutdown());
        if tokio::time::timeout(bound, &mut closing).await.is_err() {
            tracing::warn!("requests still running after {bound:?} are stopped");
            let service = Arc::clone(&self.service);
            tokio::task::spawn_blocking(move || service.engine.kill_all()).await?;
            // Stopped queries still answer; clients that neither send nor read do not hold us up.
            let answered = tokio::time::timeout(CUT_TIMEOUT, &mut closing).await;
            tracing::debug!(all = answered.is_ok(), "stopped requests answered");
        }
        self.cut.cancel();
        if !self.service.settle(KILL_TIMEOUT).await {
            bail!(
                "a statement did not stop within {KILL_TIMEOUT:?}; the data is as after a crash, which is safe"
            );
        }
        let service = self.service;
        tokio::task::spawn_blocking(move || {
            service.sessions.close();
            service.engine.stop();
        })
        .await?;
        tracing::info!("localdb stopped");
        Ok(())
    }
}

fn credentials(options: &Options) -> Option<Credentials> {
    let required = options.user.is_some() || options.password.is_some();
    required.then(|| Credentials {
        user: options.user.clone().unwrap_or_else(|| "default".to_owned()),
        password: options.password.clone().unwrap_or_default(),
    })
}

/// Makes the data folder; the result is absolute.
fn data_dir(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => library::data_home()
            .context("neither XDG_DATA_HOME nor HOME is set: name the data folder with --path")?
            .join("tidegate/localdb"),
    };
    fs::create_dir_all(&path)
        .with_context(|| format!("cannot create the data folder {}", path.display()))?;
    path.canonicalize()
        .with_context(|| format!("cannot open the data folder {}", path.display()))
}

/// Locks the data folder for as long as the file is open.
fn lock(path: &Path) -> Result<File> {
    let file_path = path.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file_path)
        .with_context(|| format!("cannot open {}", file_path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another localdb is using the data in {}; stop it or choose another --path",
                path.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", file_path.display()))
        }
    }
}

/// Accepts until told to stop. The connections are returned, to be waited for.
async fn accept(
    listener: TcpListener,
    service: Arc<Service>,
    connections: Arc<Semaphore>,
    mut stopping: watch::Receiver<bool>,
    cut: CancellationToken,
) -> GracefulShutdown {
    let graceful = GracefulShutdown::new();
    let mut sweep = tokio::time::interval(SESSION_SWEEP);
    loop {
        tokio::select! {
            _ = stopping.changed() => return graceful,
            _ = sweep.tick() => service.sessions.expire(),
            accepted = next_connection(&listener, &connections) => match accepted {
                Ok((stream, permit)) => serve(stream, permit, Arc::clone(&service), &graceful, cut.clone()),
                Err(error) => {
                    // Out of descriptors, most likely: others must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn next_connection(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

/// Serves one connection in a task that `graceful` waits for.
fn serve(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    service: Arc<Service>,
    graceful: &GracefulShutdown,
    cut: CancellationToken,
) {
    let handler = service_fn(move |request| Arc::clone(&service).handle(request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler);
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        match cut.run_until_cancelled(watched).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "connection ended"),
            None => tracing::debug!("connection cut"),
        }
        drop(permit);
    });
}

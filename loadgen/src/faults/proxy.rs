//! The proxy itself: a port that is open or refuses, and the connections through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::board::Board;
use super::{relay, stream};

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// How often rules that begin and end by themselves are looked at.
const POLL: Duration = Duration::from_millis(20);
/// After having refused, the port must be ours again within this time: somebody's outgoing connection may have it.
const REOPEN_MAX: Duration = Duration::from_secs(10);

/// What goes over the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1: faults hit single requests.
    Http,
    /// Anything, gRPC for instance: faults hit connections.
    Tcp,
}

/// A proxy at work; dropping it closes its port and resets its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) board: Arc<Board>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Proxy {
    /// Starts to listen, on the current runtime.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) fn start(
        listen: SocketAddr,
        to: SocketAddr,
        protocol: Protocol,
        board: Arc<Board>,
    ) -> anyhow::Result<Self> {
        let listener = open(listen).with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let work = Port {
            address,
            to,
            protocol,
            board: Arc::clone(&board),
        };
        Ok(Self {
            address,
            board,
            task: tokio::spawn(work.serve(listener)),
        })
    }

    /// Waits until it cannot go on.
    ///
    /// # Errors
    /// The reason.
    pub(crate) async fn failed(&mut self) -> anyhow::Result<()> {
        (&mut self.task).await.context("the proxy panicked")?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Port {
    address: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
    board: Arc<Board>,
}

impl Port {
    async fn serve(self, mut listener: TcpListener) -> anyhow::Result<()> {
        loop {
            // Its connections are dropped, and so closed, with it.
            let mut connections = JoinSet::new();
            self.accept(&listener, &mut connections).await;
            drop(listener);
            connections.shutdown().await;
            while self.board.is_refusing() {
                self.board.changed(POLL).await;
            }
            listener = self.reopen().await?;
        }
    }

    /// Takes connections until they are to be refused.
    async fn accept(&self, listener: &TcpListener, connections: &mut JoinSet<()>) {
        while !self.board.is_refusing() {
            while connections.try_join_next().is_some() {}
            if connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.board.changed(POLL) => continue,
            };
            match accepted {
                Ok((client, _)) => {
                    connections.spawn(self.connection(client));
                }
                Err(error) => {
                    tracing::warn!("cannot accept: {error}");
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    fn connection(&self, client: TcpStream) -> impl Future<Output = ()> + Send + use<> {
        let (to, protocol, board) = (self.to, self.protocol, Arc::clone(&self.board));
        async move {
            board.count(|counts| counts.connections += 1);
            if let Err(error) = client.set_nodelay(true) {
                tracing::debug!("cannot set TCP_NODELAY: {error}");
            }
            match protocol {
                Protocol::Http => relay::relay(client, to, &board).await,
                Protocol::Tcp => stream::relay(client, to, &board).await,
            }
        }
    }

    async fn reopen(&self) -> anyhow::Result<TcpListener> {
        let deadline = Instant::now() + REOPEN_MAX;
        loop {
            match open(self.address) {
                Ok(listener) => return Ok(listener),
                Err(error) if Instant::now() > deadline => {
                    return Err(error)
                        .with_context(|| format!("cannot listen on {} again", self.address));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(CONNECTIONS_MAX as u32)
}

//! One connection of any protocol through the proxy: bytes pass both ways, unless a fault hits the connection.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::board::Board;
use super::fault::Fault;
use super::relay::gone;

/// Bytes read at once.
const READ: usize = 16 << 10;
/// Cuts wait until the client has sent this much: past what HTTP/2 exchanges at its start, within the first requests.
const CUT_AT: u64 = 4 << 10;

/// Serves a client's connection to its end. The fault is drawn once, when the client's first bytes are there.
pub(super) async fn relay(mut client: TcpStream, to: SocketAddr, board: &Board) {
    if let Err(error) = run(&mut client, to, board).await {
        tracing::debug!(%error, "connection reset");
        // Without it the connection ends in order, which is a cut as well.
        drop(client.set_zero_linger());
    }
}

/// # Errors
/// When the connection is to be reset.
async fn run(client: &mut TcpStream, to: SocketAddr, board: &Board) -> io::Result<()> {
    client.readable().await?;
    let fault = board.draw(true);
    match fault {
        Some(Fault::Delay { by }) => tokio::time::sleep(by).await,
        Some(Fault::BlackHole { read: false }) => {
            gone(client).await?;
            return Err(reset());
        }
        Some(Fault::BlackHole { read: true }) => {
            tokio::io::copy(client, &mut tokio::io::sink()).await?;
            return Err(reset());
        }
        // The last two only HTTP can have; the command line does not let them come here.
        Some(
            Fault::CutBefore
            | Fault::Refuse { .. }
            | Fault::Status { .. }
            | Fault::Exception { .. },
        ) => return Err(reset()),
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(to).await else {
        board.count(|counts| counts.destination_failed += 1);
        return Err(reset());
    };
    server.set_nodelay(true)?;
    let passed = pump(client, &mut server, fault, board).await;
    if passed.is_err() {
        drop(server.set_zero_linger());
    }
    passed
}

/// Passes bytes both ways until both sides have ended.
async fn pump(
    client: &mut TcpStream,
    server: &mut TcpStream,
    fault: Option<Fault>,
    board: &Board,
) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let sent = AtomicU64::new(0);
    let requests = Way {
        fault,
        answers: false,
        sent: &sent,
        board,
    };
    let answers = Way {
        answers: true,
        ..requests
    };
    tokio::try_join!(
        requests.pass(from_client, to_server),
        answers.pass(from_server, to_client)
    )?;
    Ok(())
}

/// One direction.
#[derive(Clone, Copy)]
struct Way<'a> {
    fault: Option<Fault>,
    /// From the destination to the client.
    answers: bool,
    /// Bytes that the client has sent and the destination has got.
    sent: &'a AtomicU64,
    board: &'a Board,
}

impl Way<'_> {
    async fn pass(
        self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            buffer.clear();
            buffer.reserve(READ);
            if from.read_buf(&mut buffer).await? == 0 {
                return to.shutdown().await;
            }
            let (passes, then_reset) = self.cut(buffer.len());
            self.write(&mut to, buffer.get(..passes).unwrap_or_default())
                .await?;
            if then_reset {
                to.flush().await?;
                return Err(reset());
            }
        }
    }

    /// How many of these bytes pass, and whether they are the last.
    fn cut(self, bytes: usize) -> (usize, bool) {
        let sent = if self.answers {
            self.sent.load(Ordering::Relaxed)
        } else {
            self.sent.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
        };
        let due = sent >= CUT_AT;
        match self.fault {
            Some(Fault::CutRequest) if !self.answers && due => (bytes / 2, true),
            Some(Fault::CutAfter) if self.answers && due => (0, true),
            Some(Fault::CutAnswer) if self.answers && due => (bytes / 2, true),
            _ => (bytes, false),
        }
    }

    async fn write(self, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
        match self.fault {
            Some(Fault::Throttle { bytes_per_second }) => {
                self.board.throttle(bytes.len(), bytes_per_second).await;
                to.write_all(bytes).await
            }
            Some(Fault::Slow { gap }) if self.answers => {
                for byte in bytes {
                    to.write_all(&[*byte]).await?;
                    tokio::time::sleep(gap).await;
                }
                Ok(())
            }
            _ => to.write_all(bytes).await,
        }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

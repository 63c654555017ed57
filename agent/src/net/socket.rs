//! The socket of one connection: notes what arrives, gives up on a peer that does not read, and closes with patience.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::activity::Activity;

/// A byte stream: TCP, Unix, or TLS over one of them.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How long a closed connection is read from, so that a peer which still sends gets to see the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes read and thrown away at a time while lingering.
const LINGER_CHUNK: usize = 16 * 1024;

/// A connection's socket.
pub(super) struct Socket {
    io: Box<dyn Io>,
    activity: Arc<Activity>,
    write_timeout: Option<Duration>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

enum Closing {
    Open,
    Lingering {
        deadline: Pin<Box<Sleep>>,
        /// Whether more is known to come.
        expecting: bool,
    },
    Closed,
}

impl Socket {
    /// `io`, whose peer must take some bytes within `write_timeout` when there are any for it.
    pub(super) fn new(
        io: Box<dyn Io>,
        activity: Arc<Activity>,
        write_timeout: Option<Duration>,
    ) -> Self {
        Self {
            io,
            activity,
            write_timeout,
            stalled: None,
            closing: Closing::Open,
        }
    }

    fn progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let Some(limit) = self.write_timeout else {
            return Poll::Pending;
        };
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read",
        )))
    }

    /// Reads and throws away until the peer is done, or nothing more is expected, or time is up. Closing a socket with
    /// unread bytes would send a reset, and a reset can overtake the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingering {
            deadline,
            expecting,
        } = &mut self.closing
        else {
            return Poll::Ready(());
        };
        loop {
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut chunk = [0u8; LINGER_CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.io).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(())) if !chunk.filled().is_empty() => *expecting = true,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if *expecting => return Poll::Pending,
                Poll::Pending => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.activity
            .received(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.progress(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.progress(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.progress(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.closing, Closing::Open) {
            let result = Pin::new(&mut self.io).poll_shutdown(cx);
            ready!(self.progress(cx, result))?;
            self.closing = Closing::Lingering {
                deadline: Box::pin(tokio::time::sleep(LINGER)),
                expecting: self.activity.is_unread(),
            };
        }
        ready!(self.poll_linger(cx));
        self.closing = Closing::Closed;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::activity::Connection;
    use super::*;

    fn pair(capacity: usize, write_timeout: Option<Duration>) -> (Socket, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let activity = Arc::new(Activity::new());
        (Socket::new(Box::new(ours), activity, write_timeout), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (mut socket, theirs) = pair(4, Some(Duration::from_secs(5)));
        let error = socket.write_all(b"more than four").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_not() {
        let (mut socket, mut theirs) = pair(4, Some(Duration::from_secs(5)));
        let reader = tokio::spawn(async move {
            let mut bytes = [0; 2];
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                theirs.read_exact(&mut bytes).await.unwrap();
            }
        });
        socket.write_all(&[7; 20]).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn closing_an_idle_connection_waits_for_nobody() {
        let (mut socket, _theirs) = pair(64, None);
        let start = tokio::time::Instant::now();
        socket.shutdown().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_reads_what_still_comes_but_not_for_ever() {
        let (mut socket, mut theirs) = pair(8, None);
        Connection(Arc::clone(&socket.activity)).body_left_unread();
        let sender = tokio::spawn(async move {
            while theirs.write_all(&[0; 8]).await.is_ok() {
                tokio::time::sleep(LINGER / 10).await;
            }
        });
        let start = tokio::time::Instant::now();
        socket.shutdown().await.unwrap();
        assert_eq!(start.elapsed(), LINGER);
        drop(socket);
        sender.await.unwrap();
    }
}

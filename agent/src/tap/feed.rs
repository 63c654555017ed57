//! The client's side of a tap: the body of an answer that goes on until somebody ends it.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use super::watcher::Watcher;
use super::{Notice, Open, Taps, Wanted};
use crate::component::{BoxFuture, Shutdown};

/// Pieces of text that wait for the client; see `watcher` for their size.
const PIECES_MAX: usize = 8;

/// Lines of text, as long as it lives; then the tap is closed.
pub(crate) struct Feed {
    pieces: mpsc::Receiver<Bytes>,
    closing: BoxFuture<'static, ()>,
    closed: bool,
    _open: Open,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

/// Opens a tap until the client goes away, or `shutdown`. `None` if there are as many as there may be.
///
/// # Errors
/// When its thread cannot be started.
pub(crate) fn start(
    taps: &Taps,
    wanted: Wanted,
    shutdown: Shutdown,
) -> std::io::Result<Option<Feed>> {
    let exporter = wanted.exporter.as_deref();
    let Some((open, passed, tally)) = taps.open(&wanted.pipeline, wanted.point, exporter) else {
        return Ok(None);
    };
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let watcher = Watcher::new(wanted, passed, tally, sender);
    // It ends by itself, soon after the tap is off the list or its client is gone: nobody can wait for it here.
    let thread = std::thread::Builder::new().name("tap".to_owned());
    drop(thread.spawn(move || watcher.run())?);
    Ok(Some(Feed {
        pieces,
        closing: Box::pin(async move { shutdown.triggered().await }),
        closed: false,
        _open: open,
    }))
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.closed {
            return Poll::Ready(None);
        }
        if let Poll::Ready(piece) = self.pieces.poll_recv(context) {
            return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
        }
        if self.closing.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.closed = true;
        let notice = Notice::Ended("the agent stops, or takes commands elsewhere".to_owned());
        Poll::Ready(Some(Ok(Frame::data(notice.line().into()))))
    }
}

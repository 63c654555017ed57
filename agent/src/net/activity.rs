//! What a connection is doing: whether requests are under way, since when it is idle, since when a request head is incomplete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// How long a connection may do nothing useful. `None` is forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// From the first byte of an HTTP/1 request head to its end.
    pub(super) head: Option<Duration>,
    /// Without a request under way.
    pub(super) idle: Option<Duration>,
}

/// What to do about a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing; look again then, or never.
    Wait(Option<Instant>),
    /// It has been idle for too long.
    Idle,
    /// A request head is incomplete for too long.
    SlowHead,
}

/// The state of one connection, shared by its socket, its requests and its task.
///
/// Times are milliseconds since `opened`, so that they fit an atomic.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    under_way: AtomicUsize,
    idle_since_ms: AtomicU64,
    /// One more than the time of the first byte after the last request; 0 when there was none.
    head_since_ms: AtomicU64,
    /// HTTP/2 sends frames between requests: there a byte is no sign of a request head.
    http2: AtomicBool,
    /// Nothing has been read yet.
    silent: AtomicBool,
    /// A request was answered before its body had been read.
    unread: AtomicBool,
    /// Held by the one request that may stand in a line with those of other connections.
    turn: Mutex<()>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            under_way: AtomicUsize::new(0),
            idle_since_ms: AtomicU64::new(0),
            head_since_ms: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            silent: AtomicBool::new(true),
            unread: AtomicBool::new(false),
            turn: Mutex::default(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Notes that `bytes` were read from the socket.
    pub(super) fn received(&self, bytes: &[u8]) {
        self.silent.store(false, Ordering::Relaxed);
        if self.head_since_ms.load(Ordering::Relaxed) != 0
            || self.under_way.load(Ordering::Relaxed) != 0
            || self.http2.load(Ordering::Relaxed)
            || bytes.is_empty()
        {
            return;
        }
        // The preface of HTTP/2 starts with a method that HTTP/1 does not have.
        if bytes.starts_with(b"PRI ") {
            self.http2.store(true, Ordering::Relaxed);
            return;
        }
        self.head_since_ms
            .store(self.elapsed_ms() + 1, Ordering::Relaxed);
    }

    /// Whether the peer may still be sending what nobody will read.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.silent.store(false, Ordering::Relaxed);
        self.head_since_ms.store(0, Ordering::Relaxed);
    }

    fn end(&self) {
        self.idle_since_ms
            .store(self.elapsed_ms(), Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// For how long no request has been under way; `None` while one is.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        let since = Duration::from_millis(self.idle_since_ms.load(Ordering::Relaxed));
        let idle = self.under_way.load(Ordering::Relaxed) == 0;
        idle.then(|| now.saturating_duration_since(self.opened + since))
    }

    /// Whether a request was ever under way.
    pub(super) fn has_begun(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0 || self.idle_since_ms.load(Ordering::Relaxed) > 0
    }

    /// Whether `patience` has run out, and if not, when it could at the earliest.
    pub(super) fn verdict(&self, now: Instant, patience: Patience) -> Verdict {
        let shortest = [patience.head, patience.idle].into_iter().flatten().min();
        // Whatever starts after now cannot be due before this.
        let later = shortest.map(|shortest| now + shortest);
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return Verdict::Wait(later);
        }
        let at = |ms: u64, limit: Duration| self.opened + Duration::from_millis(ms) + limit;
        let head_since = self.head_since_ms.load(Ordering::Relaxed);
        if head_since > 0 {
            let due = patience.head.map(|limit| at(head_since - 1, limit));
            return match due {
                Some(due) if due <= now => Verdict::SlowHead,
                Some(due) => Verdict::Wait(Some(due)),
                None => Verdict::Wait(later),
            };
        }
        // Who opens a connection and says nothing at all waits no longer than for a head.
        let patience_now = match self.silent.load(Ordering::Relaxed) {
            true => shortest,
            false => patience.idle,
        };
        let due = patience_now.map(|limit| at(self.idle_since_ms.load(Ordering::Relaxed), limit));
        match due {
            Some(due) if due <= now => Verdict::Idle,
            Some(due) => Verdict::Wait(Some(later.map_or(due, |later| later.min(due)))),
            None => Verdict::Wait(later),
        }
    }
}

/// The connection that a request came by, found in the request's extensions.
#[derive(Debug, Clone)]
pub struct Connection(pub(super) Arc<Activity>);

impl Connection {
    /// Notes that a request is answered without its body having been read to the end, so that the connection is closed with
    /// patience: a client that still sends would lose the answer to a reset.
    pub fn body_left_unread(&self) {
        self.0.unread.store(true, Ordering::Relaxed);
    }

    /// The turn of one of its requests, in the order of asking: so that many at a time get no more than one would.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    pub(super) fn request(&self) -> UnderWay {
        self.0.begin();
        UnderWay(Arc::clone(&self.0))
    }
}

#[cfg(test)]
impl Connection {
    /// One without a socket.
    pub(crate) fn imagined() -> Self {
        Self(Arc::new(Activity::new()))
    }
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Some(Duration::from_secs(10)),
        idle: Some(Duration::from_secs(60)),
    };

    async fn after(seconds: u64) -> Instant {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_counts_from_the_last_request() {
        let connection = Connection(Arc::new(Activity::new()));
        let verdict = |now| connection.0.verdict(now, PATIENCE);
        let start = Instant::now();
        assert_eq!(
            verdict(start),
            Verdict::Wait(Some(start + Duration::from_secs(10)))
        );
        let request = connection.request();
        assert!(matches!(verdict(after(100).await), Verdict::Wait(Some(_))));
        drop(request);
        assert!(matches!(verdict(after(59).await), Verdict::Wait(Some(_))));
        assert_eq!(verdict(after(1).await), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_counts_from_its_first_byte() {
        let connection = Connection(Arc::new(Activity::new()));
        let verdict = |now| connection.0.verdict(now, PATIENCE);
        let first = after(50).await;
        connection.0.received(b"POST");
        assert_eq!(
            verdict(after(9).await),
            Verdict::Wait(Some(first + Duration::from_secs(10)))
        );
        connection.0.received(b" /v1");
        assert_eq!(verdict(after(1).await), Verdict::SlowHead);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_http2_are_no_head() {
        let connection = Connection(Arc::new(Activity::new()));
        connection.0.received(b"PRI * HTTP/2.0");
        connection.0.received(b"frame");
        let verdict = |now| connection.0.verdict(now, PATIENCE);
        assert!(matches!(verdict(after(30).await), Verdict::Wait(Some(_))));
        assert_eq!(verdict(after(30).await), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_patience_never_runs_out() {
        let connection = Connection(Arc::new(Activity::new()));
        let endless = Patience {
            head: None,
            idle: None,
        };
        let now = after(1_000_000).await;
        assert_eq!(connection.0.verdict(now, endless), Verdict::Wait(None));
    }
}

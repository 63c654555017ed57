//! A tap's own thread: reads what passed, drops what nobody wants to see, and writes the rest as text.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::item::{self, Seen};
use super::line;
use super::request::Format;
use super::{Notice, Passed, Tally, Wanted};
use crate::otlp::{Splitter, json};

/// How often the client hears what it does not see; also how soon the thread notices that a quiet client has gone.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

/// Items that are decoded at a time: as objects they take several times their bytes.
const DECODED_MAX: usize = 256;

/// Text is passed on in pieces of about this size.
const PIECE_BYTES: usize = 16 << 10;

/// A longer line is not shown: some would fill the memory that a tap may have.
const LINE_MAX: usize = 256 << 10;

/// A client that takes nothing for so long misses what comes meanwhile; and what waits is let go.
const PATIENCE: Duration = Duration::from_millis(500);

/// How soon room is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Below everything else that wants the processor.
const NICENESS: i32 = 19;

/// The time in which `rate` counts.
const WINDOW: Duration = Duration::from_secs(1);

pub(super) struct Watcher {
    wanted: Wanted,
    passed: Receiver<Passed>,
    tally: Arc<Tally>,
    client: mpsc::Sender<Bytes>,
    /// Written and not passed on.
    text: Vec<u8>,
    /// Items in it.
    written: u64,
    /// Items shown so far.
    shown: u64,
    /// When the current window began, and what was shown in it.
    window: (Instant, u64),
    told: Instant,
}

/// Goes on, or ends: for a reason that the client is told, or as it wanted, or because it has gone.
type Flow = ControlFlow<Option<&'static str>>;

const GONE: Flow = ControlFlow::Break(None);

impl Watcher {
    pub(super) fn new(
        wanted: Wanted,
        passed: Receiver<Passed>,
        tally: Arc<Tally>,
        client: mpsc::Sender<Bytes>,
    ) -> Self {
        let now = Instant::now();
        Self {
            wanted,
            passed,
            tally,
            client,
            text: Vec::new(),
            written: 0,
            shown: 0,
            window: (now, 0),
            told: now,
        }
    }

    /// Runs until the tap is closed, or its limit is reached.
    pub(super) fn run(mut self) {
        // Without it the tap works as well, only less modestly.
        rustix::process::nice(NICENESS).ok();
        loop {
            let flow = match self.passed.recv_timeout(NOTICE_INTERVAL) {
                Ok(passed) => self.watch(&passed),
                Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => {
                    ControlFlow::Break(self.tally.ended.get().copied())
                }
            };
            let flow = match flow {
                ControlFlow::Continue(()) => self.tell(),
                end => end,
            };
            if let ControlFlow::Break(reason) = flow {
                return self.end(reason);
            }
        }
    }

    /// Shows the items of a batch that are wanted.
    fn watch(&mut self, passed: &Passed) -> Flow {
        let mut left = passed.range.len() as u64;
        if self.is_sated() {
            self.miss(left);
            return ControlFlow::Continue(());
        }
        let mut skip = passed.range.start;
        for chunk in passed.payload.chunks() {
            let mut pieces = Splitter::new(passed.signal, chunk.bytes().clone());
            while let Some((piece, items)) = pieces.take(DECODED_MAX) {
                if skip >= items {
                    skip -= items;
                    continue;
                }
                let seen = &mut left;
                let mut position = 0;
                let mut flow = ControlFlow::Continue(());
                let decoded = item::each(passed.signal, &piece, |item| {
                    position += 1;
                    if position <= skip || *seen == 0 {
                        return ControlFlow::Continue(());
                    }
                    *seen -= 1;
                    flow = self.look_at(&item);
                    match flow {
                        ControlFlow::Continue(()) => ControlFlow::Continue(()),
                        ControlFlow::Break(_) => ControlFlow::Break(()),
                    }
                });
                // Checked bytes can be read: what cannot is not of this agent's making.
                if decoded.is_err() {
                    self.miss(items as u64);
                }
                skip = 0;
                flow?;
                if !self.pass_on()? {
                    self.miss(left);
                    self.let_go();
                    return ControlFlow::Continue(());
                }
                if left == 0 {
                    return ControlFlow::Continue(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Writes an item if it is wanted.
    fn look_at(&mut self, item: &Seen<'_>) -> Flow {
        if !self.wanted.filters.iter().all(|filter| filter.holds(item)) {
            return ControlFlow::Continue(());
        }
        if self.is_sated() {
            self.miss(1);
            return ControlFlow::Continue(());
        }
        let start = self.text.len();
        let sound = match self.wanted.format {
            Format::Text => line::write(&mut self.text, item, false),
            Format::Colour => line::write(&mut self.text, item, true),
            Format::Json => {
                let (signal, request) = item.alone();
                json::encode(signal, std::iter::once(&*request), &mut self.text).is_ok()
            }
        };
        if !sound || self.text.len() - start > LINE_MAX {
            self.text.truncate(start);
            self.miss(1);
            return ControlFlow::Continue(());
        }
        self.text.push(b'\n');
        self.written += 1;
        self.shown += 1;
        self.window.1 += 1;
        if self.wanted.limit.is_some_and(|limit| self.shown >= limit) {
            return ControlFlow::Break(None);
        }
        if self.text.len() >= PIECE_BYTES {
            // Whether there was room or not, the items behind it have their turn.
            self.pass_on()?;
        }
        ControlFlow::Continue(())
    }

    /// Whether as much was shown as may be in this second.
    fn is_sated(&mut self) -> bool {
        let Some(rate) = self.wanted.rate else {
            return false;
        };
        if self.window.0.elapsed() >= WINDOW {
            self.window = (Instant::now(), 0);
        }
        self.window.1 >= rate
    }

    fn miss(&self, items: u64) {
        self.tally.missed.fetch_add(items, Ordering::Relaxed);
    }

    /// Lets go of what waits: the client does not read.
    fn let_go(&self) {
        while let Ok(passed) = self.passed.try_recv() {
            self.miss(passed.range.len() as u64);
        }
    }

    /// Gives the client what was written. Whether it had room for it.
    fn pass_on(&mut self) -> ControlFlow<Option<&'static str>, bool> {
        if self.text.is_empty() {
            return ControlFlow::Continue(true);
        }
        let mut piece = Bytes::from(std::mem::take(&mut self.text));
        let items = std::mem::take(&mut self.written);
        let deadline = Instant::now() + PATIENCE;
        loop {
            piece = match self.client.try_send(piece) {
                Ok(()) => return ControlFlow::Continue(true),
                Err(TrySendError::Closed(_)) => return ControlFlow::Break(None),
                Err(TrySendError::Full(piece)) => piece,
            };
            if Instant::now() >= deadline {
                self.shown = self.shown.saturating_sub(items);
                self.miss(items);
                return ControlFlow::Continue(false);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Tells what was not shown, from time to time.
    fn tell(&mut self) -> Flow {
        if self.client.is_closed() {
            return GONE;
        }
        if self.told.elapsed() < NOTICE_INTERVAL {
            return ControlFlow::Continue(());
        }
        self.told = Instant::now();
        self.tell_missed();
        ControlFlow::Continue(())
    }

    fn tell_missed(&self) {
        let missed = self.tally.missed.swap(0, Ordering::Relaxed);
        if missed == 0 {
            return;
        }
        let line = Notice::NotShown(missed).line();
        if self.client.try_send(line.into()).is_err() {
            // There is a next time.
            self.miss(missed);
        }
    }

    fn end(mut self, reason: Option<&'static str>) {
        if self.pass_on().is_break() {
            return;
        }
        self.tell_missed();
        let Some(reason) = reason else { return };
        self.text = Notice::Ended(reason.to_owned()).line().into_bytes();
        // The client may be gone: then nobody wants to know.
        let _gone = self.pass_on();
    }
}

impl Notice {
    /// A line that is none of an item's: it begins with `{"tidegate":`.
    pub(super) fn line(&self) -> String {
        let text = serde_json::json!({ "tidegate": self });
        format!("{text}\n")
    }

    /// The notice in a line, if it is one.
    pub fn parse(line: &str) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Wrapped {
            tidegate: Notice,
        }

        let is_one = line.starts_with("{\"tidegate\":");
        let wrapped: Wrapped = is_one.then(|| serde_json::from_str(line).ok())??;
        Some(wrapped.tidegate)
    }
}

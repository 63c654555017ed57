//! Taps: copies of what passes, for somebody who looks on. Nothing that passes waits for them.
//!
//! A batch's bytes are shared, never copied, and read on a thread of the tap's own that yields to everything else. What
//! a tap has no room for, or its client is too slow for, it does not show, and says how many items that were. Without a
//! tap a batch costs one relaxed load at each [`Point`].

mod feed;
pub mod filter;
mod item;
mod line;
mod request;
#[cfg(test)]
mod tests;
mod watcher;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

pub(crate) use feed::start;
pub(crate) use request::Wanted;

use crate::batch::Payload;
use crate::signal::Signal;

/// Each has a thread of its own, and keeps up to [`WAITING_BYTES_MAX`] from being freed.
const TAPS_MAX: usize = 8;

/// Batches that wait for one tap's thread.
const WAITING_MAX: usize = 64;

/// Their bytes, which cannot be freed as long as they wait. A larger batch is taken if it is alone.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Where a tap looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Point {
    /// As batches come from receivers, before the first processor.
    Receivers,
    /// As they leave the last processor, before the sending queues.
    #[default]
    Processors,
    /// As workers take them from the sending queues, in the batches that are sent.
    Exporters,
}

impl Point {
    /// The name on the command line and in the query.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Receivers => "receivers",
            Self::Processors => "processors",
            Self::Exporters => "exporters",
        }
    }
}

/// What a tap tells besides items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// So many more items passed that were not looked at: the rate, or want of time or room.
    NotShown(u64),
    /// Nothing more comes, and why.
    Ended(String),
}

/// All taps of a process. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Taps(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many there are, so that who has a batch need not look.
    open: AtomicUsize,
    next: AtomicU64,
    /// Guards the list; held while batches are offered, never while one is read.
    taps: Mutex<Vec<Tap>>,
}

/// The pipelines' side of a tap.
#[derive(Debug)]
struct Tap {
    number: u64,
    pipeline: String,
    point: Point,
    exporter: Option<String>,
    sender: SyncSender<Passed>,
    tally: Arc<Tally>,
}

/// What both sides of a tap know.
#[derive(Debug, Default)]
struct Tally {
    /// Items that passed and were not looked at, since the last notice.
    missed: AtomicU64,
    /// Bytes of the batches that wait.
    waiting_bytes: AtomicUsize,
    /// Why nothing more comes, where that is not the client's doing.
    ended: OnceLock<&'static str>,
}

/// A batch that passed, or that part of it which is the pipeline's.
#[derive(Debug)]
struct Passed {
    signal: Signal,
    payload: Payload,
    range: Range<usize>,
    tally: Arc<Tally>,
}

impl Drop for Passed {
    fn drop(&mut self) {
        let bytes = self.payload.byte_len();
        self.tally.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A tap's other side.
type Opened = (Open, Receiver<Passed>, Arc<Tally>);

/// Keeps a tap open.
#[derive(Debug)]
struct Open {
    taps: Taps,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.taps.retain(|tap| tap.number != self.number);
    }
}

impl Taps {
    /// Whether anybody looks at anything.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    /// Shows a batch of `pipeline` to whoever taps it at `point`.
    #[inline]
    pub fn show(&self, pipeline: &str, point: Point, signal: Signal, payload: &Payload) {
        if self.is_open() {
            let whole = 0..payload.items();
            self.offer(pipeline, point, None, signal, payload, whole);
        }
    }

    /// Shows a batch that `exporter` is about to send: whose the items are, in order, and how many.
    pub fn show_sent<'a>(
        &self,
        exporter: &str,
        signal: Signal,
        payload: &Payload,
        shares: impl Iterator<Item = (&'a str, usize)>,
    ) {
        let mut start = 0;
        for (pipeline, items) in shares {
            let range = start..start + items;
            start = range.end;
            let exporter = Some(exporter);
            self.offer(pipeline, Point::Exporters, exporter, signal, payload, range);
        }
    }

    fn offer(
        &self,
        pipeline: &str,
        point: Point,
        exporter: Option<&str>,
        signal: Signal,
        payload: &Payload,
        range: Range<usize>,
    ) {
        for tap in self.list().iter() {
            let other = tap.exporter.is_some() && tap.exporter.as_deref() != exporter;
            if tap.pipeline == pipeline && tap.point == point && !other {
                tap.take(signal, payload, range.clone());
            }
        }
    }

    /// Ends the taps of pipelines that are none of these.
    pub fn keep(&self, pipelines: &[String]) {
        self.retain(|tap| {
            let stays = pipelines.contains(&tap.pipeline);
            if !stays {
                // Told once the tap is off the list and its thread finds nothing more.
                tap.tally.ended.get_or_init(|| "the pipeline is gone");
            }
            stays
        });
    }

    fn open(&self, pipeline: &str, point: Point, exporter: Option<&str>) -> Option<Opened> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let tally = Arc::new(Tally::default());
        let mut taps = self.list();
        if taps.len() >= TAPS_MAX {
            return None;
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        taps.push(Tap {
            number,
            pipeline: pipeline.to_owned(),
            point,
            exporter: exporter.map(str::to_owned),
            sender,
            tally: Arc::clone(&tally),
        });
        self.0.open.store(taps.len(), Ordering::Relaxed);
        drop(taps);
        let open = Open {
            taps: self.clone(),
            number,
        };
        Some((open, receiver, tally))
    }

    fn retain(&self, which: impl Fn(&Tap) -> bool) {
        let mut taps = self.list();
        taps.retain(which);
        self.0.open.store(taps.len(), Ordering::Relaxed);
    }

    fn list(&self) -> MutexGuard<'_, Vec<Tap>> {
        self.0.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// Takes a batch if there is room for it, and counts it otherwise.
    fn take(&self, signal: Signal, payload: &Payload, range: Range<usize>) {
        let (bytes, items) = (payload.byte_len(), range.len());
        let before = self.tally.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Gives the bytes back when it is dropped.
        let passed = Passed {
            signal,
            payload: payload.clone(),
            range,
            tally: Arc::clone(&self.tally),
        };
        let has_room = before == 0 || before + bytes <= WAITING_BYTES_MAX;
        let taken = has_room
            && match self.sender.try_send(passed) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !taken {
            self.tally.missed.fetch_add(items as u64, Ordering::Relaxed);
        }
    }
}

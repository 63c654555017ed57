//! Batches formed behind a queue, from the requests that come out of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::batch::Payload;
use crate::gather::{Batching, Gather};
use crate::signal::Signal;
use crate::telemetry::{Counter, Histogram, Telemetry, names};

/// What a request carries besides its items.
pub(super) trait Part: Sized {
    /// The part that belongs to the first `items`; the rest stays.
    fn split(&mut self, items: usize) -> Self;
}

/// How batches are to be formed, as somebody said; it may be said anew.
pub(super) struct Told {
    /// Rises whenever it is said.
    version: AtomicU64,
    /// Guards what was said last; `None` where nobody says anything.
    batching: Mutex<Option<Batching>>,
}

impl Told {
    pub(super) fn new(batching: Option<Batching>) -> Self {
        Self {
            version: AtomicU64::new(batching.is_some().into()),
            batching: Mutex::new(batching),
        }
    }

    /// Whether it is news.
    pub(super) fn tell(&self, batching: Option<Batching>) -> bool {
        let mut told = self.batching.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == batching {
            return false;
        }
        *told = batching;
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    fn get(&self) -> Batching {
        let told = self.batching.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone().unwrap_or_default()
    }
}

/// Requests on their way into batches, each with a `P`.
pub(super) struct Former<P> {
    batching: Batching,
    /// Which version of what was told `batching` is; 0 is the default.
    version: u64,
    gather: Gather,
    /// For each request in `gather`, what it carries and how many of its items have not gone.
    parts: VecDeque<(usize, P)>,
    /// When the oldest item came.
    since: Option<Instant>,
    metrics: Option<Metrics>,
}

struct Metrics {
    send_size: Histogram,
    size_trigger: Counter,
    timeout_trigger: Counter,
}

/// A batch: its items, and what its requests carried, in order.
pub(super) type Formed<P> = (Payload, Vec<P>);

impl<P: Part> Former<P> {
    /// Every request is a batch until it is told otherwise.
    pub(super) fn new(signal: Signal) -> Self {
        Self {
            batching: Batching::default(),
            version: 0,
            gather: Gather::new(signal),
            parts: VecDeque::new(),
            since: None,
            metrics: None,
        }
    }

    /// Forms batches as `told` says by now. Workers may wait for requests before it says anything.
    pub(super) fn follow(&mut self, told: &Told, telemetry: &Telemetry) {
        let version = told.version.load(Ordering::Acquire);
        if version == self.version {
            return;
        }
        let batching = told.get();
        self.version = version;
        self.metrics = batching.processor.as_deref().map(|id| Metrics {
            send_size: telemetry.histogram(&names::BATCH_SEND_SIZE, &[id]),
            size_trigger: telemetry.counter(&names::BATCH_SIZE_TRIGGER, &[id]),
            timeout_trigger: telemetry.counter(&names::BATCH_TIMEOUT_TRIGGER, &[id]),
        });
        self.batching = batching;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn push(&mut self, payload: Payload, part: P) {
        self.since
            .get_or_insert_with(|| tokio::time::Instant::now().into_std());
        self.parts.push_back((payload.items(), part));
        self.gather.append(payload);
    }

    /// Whether a batch is complete, by count or because its oldest item has waited long enough.
    pub(super) fn is_due(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        self.gather.items() >= self.batching.size
            || self
                .deadline()
                .is_none_or(|deadline| deadline <= tokio::time::Instant::now().into_std())
    }

    /// When the batch under way is complete whatever else comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.batching.timeout)
    }

    /// Forgets the requests in front of which `gone` is true.
    pub(super) fn discard_while(&mut self, gone: impl Fn(&P) -> bool) {
        while let Some((items, part)) = self.parts.front()
            && gone(part)
        {
            drop(self.gather.take(*items));
            self.parts.pop_front();
        }
        if self.is_empty() {
            self.since = None;
        }
    }

    /// The next batch, complete or not; `None` if nothing waits.
    pub(super) fn take(&mut self) -> Option<Formed<P>> {
        if self.is_empty() {
            return None;
        }
        let full = self.gather.items() >= self.batching.size;
        let payload = self
            .gather
            .take(self.batching.max_size.unwrap_or(usize::MAX));
        if let Some(metrics) = &self.metrics {
            metrics.send_size.observe(payload.items() as f64);
            if full {
                metrics.size_trigger.inc();
            } else {
                metrics.timeout_trigger.inc();
            }
        }
        let mut parts = Vec::with_capacity(self.parts.len());
        let mut left = payload.items();
        while left > 0
            && let Some((items, part)) = self.parts.front_mut()
        {
            if *items > left {
                *items -= left;
                parts.push(part.split(left));
                break;
            }
            left -= *items;
            parts.extend(self.parts.pop_front().map(|(_, part)| part));
        }
        // What stays has waited no longer than what went.
        self.since = (!self.is_empty()).then(|| tokio::time::Instant::now().into_std());
        Some((payload, parts))
    }
}

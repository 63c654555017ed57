//! How a worker that computes shares its thread with the requests that come meanwhile.

use std::sync::atomic::Ordering;

use super::Queue;

/// Bytes that may wait behind a batch before its worker stops letting others go first: about a batch of spans.
///
/// Without a bound, requests would come in faster than they are encoded, and what waits would grow: 100 MiB of memory
/// instead of 35 at full load.
const CALM_BYTES: u64 = 4 << 20;

/// When a worker that prepares a batch rests. The default never does.
#[derive(Debug, Default)]
pub struct Pace {
    queue: Option<Queue>,
    /// Whether it rests in any case.
    always: bool,
}

impl Pace {
    /// Items between two rests: they take 0.15 to 0.4 ms, and a rest less than a microsecond.
    pub const ITEMS: usize = 256;

    /// The pace of a worker that has a batch of `queue`: it rests while little waits behind that.
    pub fn of(queue: &Queue) -> Self {
        queue.preparing.fetch_add(1, Ordering::Relaxed);
        Self {
            queue: Some(queue.clone()),
            always: false,
        }
    }

    /// The same for the first batch of a worker: after a reload all of a queue's workers begin at once, with what the ones
    /// before have given back, and requests would wait until every one of those is prepared again.
    pub fn of_first(queue: &Queue) -> Self {
        let mut pace = Self::of(queue);
        pace.always = true;
        pace
    }

    /// Lets other tasks of the thread go on. To be called every [`Self::ITEMS`] items.
    pub async fn rest(&self) {
        if let Some(queue) = &self.queue
            && (self.always || queue.preparing.load(Ordering::Relaxed) == 1)
            && queue.waiting_bytes() < CALM_BYTES
        {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.preparing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

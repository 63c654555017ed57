//! How a worker that computes shares its thread with the requests that come meanwhile.

use super::Queue;

/// Bytes that may wait behind a batch before its worker stops letting others go first: about a batch of spans.
///
/// Without a bound, requests would come in faster than they are encoded, and what waits would grow: 110 MiB instead of 35
/// at full load.
const CALM_BYTES: u64 = 4 << 20;

/// When to rest. The default never does.
#[derive(Debug, Clone, Default)]
pub struct Pace(Option<Queue>);

impl Pace {
    /// The pace of a worker of `queue`: it rests while little waits behind what it works on.
    pub fn of(queue: &Queue) -> Self {
        Self(Some(queue.clone()))
    }

    /// Between two pieces of work, each of which takes less than a millisecond or so: lets other tasks of the thread go on.
    pub async fn rest(&self) {
        if let Some(queue) = &self.0
            && queue.waiting_bytes() < CALM_BYTES
        {
            tokio::task::yield_now().await;
        }
    }
}

//! How many bodies are read at a time: few enough that they are still in the processor's cache when they are complete.
//!
//! With as many connections as clients, each would get a piece of its body read in turn, and all of it would have to come from memory
//! again: 16 % of the goodput of passing spans on for 32 connections instead of 4 (`loadgen bench --work overload`). So
//! bodies are read one after the other, a few at a time, in the order in which their requests came. A body that is not
//! complete soon gives its place up and is read on beside the others: slow clients, whether they stall or trickle, hold nobody
//! up for longer.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Bytes of bodies that are read at a time: several usual requests, and less than most processors' last cache.
const BYTES: u32 = 2 << 20;

/// How long a body keeps its place. A usual one is read within a millisecond from this host. As many slow ones as there are
/// places leave way for 200 MB a second.
const KEPT_MAX: Duration = Duration::from_millis(10);

/// One unit is a KiB.
const UNIT_SHIFT: u32 = 10;

static LANE: Semaphore = Semaphore::const_new((BYTES >> UNIT_SHIFT) as usize);

/// A body's place among those that are read now, and until when it has it.
pub(super) struct Place(Option<(SemaphorePermit<'static>, Instant)>);

impl Place {
    /// No place: of a body whose length is not known.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Waits for a place for a body of `bytes`. One that is larger than all places together has them all.
    pub(super) async fn take(bytes: usize) -> Self {
        Self::take_in(&LANE, bytes).await
    }

    async fn take_in(lane: &'static Semaphore, bytes: usize) -> Self {
        let units = u32::try_from(bytes >> UNIT_SHIFT)
            .unwrap_or(u32::MAX)
            .min(BYTES >> UNIT_SHIFT);
        if units == 0 {
            return Self::none();
        }
        let permit = lane.acquire_many(units).await;
        let until = Instant::now() + KEPT_MAX;
        Self(Some((permit.expect("nobody closes it"), until)))
    }

    /// Waits for `next`, the next piece of the body; gives the place up when its time is over.
    pub(super) async fn read<T>(&mut self, next: impl Future<Output = T>) -> T {
        let mut next = std::pin::pin!(next);
        if let Some((_, until)) = self.0 {
            if let Ok(piece) = tokio::time::timeout_at(until, next.as_mut()).await {
                if Instant::now() >= until {
                    self.0 = None;
                }
                return piece;
            }
            self.0 = None;
        }
        next.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_or_trickles_lets_others_pass() {
        // Other tests read bodies at the same time.
        static LANE: Semaphore = Semaphore::const_new((BYTES >> UNIT_SHIFT) as usize);
        for (pieces, gap) in [(1, 3 * KEPT_MAX), (30, KEPT_MAX / 10)] {
            let mut slow = Place::take_in(&LANE, usize::MAX).await;
            let second = tokio::spawn(Place::take_in(&LANE, usize::MAX));
            tokio::task::yield_now().await;
            assert!(!second.is_finished(), "all places are taken");
            for _ in 0..pieces {
                slow.read(tokio::time::sleep(gap)).await;
            }
            assert!(second.is_finished(), "{pieces} pieces, one each {gap:?}");
            assert!(second.await.unwrap().0.is_some());
        }
        // Small bodies need none.
        assert!(Place::take_in(&LANE, 100).await.0.is_none());
    }
}

//! How many bodies are read at a time: few enough that they are still in the processor's cache when they are complete.
//!
//! With as many connections as clients, each would get a piece of its body read in turn, and all of it would have to come from memory
//! again: 16 % of the goodput of passing spans on for 32 connections instead of 4 (`loadgen bench --work overload`). So
//! bodies are read one after the other, a few at a time, in the order in which their requests came. Who does not go on
//! sending gives its place up after a moment and is read beside the others, so that slow clients hold nobody up.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of bodies that are read at a time: several usual requests, and less than most processors' last cache.
const BYTES: u32 = 2 << 20;

/// How long a body may not go on before it gives its place up.
const PATIENCE: Duration = Duration::from_millis(5);

/// One unit is a KiB.
const UNIT_SHIFT: u32 = 10;

static LANE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new((BYTES >> UNIT_SHIFT) as usize));

/// A body's place among those that are read now, as long as it goes on.
pub(super) struct Place(Option<SemaphorePermit<'static>>);

impl Place {
    /// No place: of a body whose length is not known.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Waits for a place for a body of `bytes`. One that is larger than all places together has them all.
    pub(super) async fn take(bytes: usize) -> Self {
        let units = u32::try_from(bytes >> UNIT_SHIFT)
            .unwrap_or(u32::MAX)
            .min(BYTES >> UNIT_SHIFT);
        if units == 0 {
            return Self::none();
        }
        let permit = LANE.acquire_many(units).await;
        Self(Some(permit.expect("nobody closes it")))
    }

    /// Waits for `next`, the next piece of the body; gives the place up if it does not come soon.
    pub(super) async fn read<T>(&mut self, next: impl Future<Output = T>) -> T {
        let mut next = std::pin::pin!(next);
        if self.0.is_some() {
            if let Ok(piece) = tokio::time::timeout(PATIENCE, next.as_mut()).await {
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
    async fn a_body_that_stalls_lets_others_pass() {
        let mut stalled = Place::take(usize::MAX).await;
        let second = tokio::spawn(Place::take(usize::MAX));
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "all places are taken");
        stalled.read(tokio::time::sleep(3 * PATIENCE)).await;
        let second = tokio::time::timeout(PATIENCE, second).await;
        assert!(second.unwrap().unwrap().0.is_some());
        // Small bodies need none.
        assert!(Place::take(100).await.0.is_none());
    }
}

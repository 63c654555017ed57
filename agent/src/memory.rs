//! Bytes held: what the process has taken in and not yet let go, as reservations that release themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// A shared count of bytes that requests, batches and queues hold.
///
/// Cloning shares the count. The count is exact: it rises in [`HeldBytes::reserve`] and falls when the
/// [`Reservation`] is dropped, wherever that happens.
#[derive(Debug, Clone, Default)]
pub struct HeldBytes(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    bytes: AtomicUsize,
    /// Who waits for `released`.
    waiting: AtomicUsize,
    released: Notify,
}

impl Held {
    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        // Who begins to wait just now looks again before long.
        if bytes > 0 && self.waiting.load(Ordering::Relaxed) > 0 {
            self.released.notify_waiters();
        }
    }
}

impl HeldBytes {
    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Waits until some bytes have been given back, or for `limit`.
    pub async fn released(&self, limit: Duration) {
        /// Counts itself for as long as it lives.
        struct Waiting<'a>(&'a Held);

        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }

        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.0);
        // It makes no difference which of the two it was: the caller looks again.
        tokio::time::timeout(limit, self.0.released.notified())
            .await
            .ok();
    }

    /// Takes `bytes`, without a limit.
    pub fn reserve(&self, bytes: usize) -> Reservation {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Reservation {
            held: self.clone(),
            bytes,
        }
    }

    /// Takes `bytes` if the sum stays at or under `limit`.
    pub fn reserve_within(&self, bytes: usize, limit: usize) -> Option<Reservation> {
        self.0
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .ok()?;
        Some(Reservation {
            held: self.clone(),
            bytes,
        })
    }
}

/// Bytes taken from a [`HeldBytes`]; dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    held: HeldBytes,
    bytes: usize,
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they are taken from.
    pub fn held_in(&self) -> &HeldBytes {
        &self.held
    }

    /// Changes the reservation to exactly `bytes`, as after a body turned out shorter or was inflated.
    /// The caller has asked for admission of the growth where there is a limit.
    pub fn resize(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.held
                .0
                .bytes
                .fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.held.0.release(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Adds `other` to this reservation, releasing nothing.
    pub fn absorb(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.held.0, &other.held.0) {
            self.bytes += other.bytes;
            other.bytes = 0;
        } else {
            self.resize(self.bytes + other.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.held.0.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_give_back_exactly_what_they_took() {
        let held = HeldBytes::default();
        let mut first = held.reserve(10);
        let second = held.reserve(5);
        assert_eq!(held.bytes(), 15);
        first.resize(3);
        assert_eq!(held.bytes(), 8);
        first.absorb(second);
        assert_eq!((held.bytes(), first.bytes()), (8, 8));
        drop(first);
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn a_limit_refuses_what_would_exceed_it() {
        let held = HeldBytes::default();
        let kept = held.reserve_within(80, 100);
        assert!(kept.is_some());
        assert!(held.reserve_within(21, 100).is_none());
        assert!(held.reserve_within(usize::MAX, usize::MAX).is_none());
        assert!(held.reserve_within(20, 100).is_some());
        assert_eq!(held.bytes(), 80);
    }
}

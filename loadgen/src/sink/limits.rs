//! Limits on what a sink takes: requests a second, requests at once, bytes of a body.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::StatusCode;

/// So many seconds' worth of requests may come at once: senders are not as even as a rate.
const BURST_SECONDS: f64 = 0.1;

/// What a sink takes; what is absent is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Limits {
    /// Data requests a second.
    pub(crate) rate: Option<f64>,
    /// Data requests at once.
    pub(crate) in_flight: Option<usize>,
    /// Bytes of one body, as sent.
    pub(crate) body: Option<u64>,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    Rate,
    InFlight,
    Body,
}

impl Reached {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::InFlight => "in flight",
            Self::Body => "body",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Rate => StatusCode::TOO_MANY_REQUESTS,
            Self::InFlight => StatusCode::SERVICE_UNAVAILABLE,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// Lets requests in as far as the limits allow; all listeners of a sink share one.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    /// Requests that may come now; held while a few numbers are computed.
    bucket: Mutex<Bucket>,
    in_flight: AtomicUsize,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    filled_at: Instant,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            bucket: Mutex::new(Bucket {
                left: limits.rate.map_or(0.0, burst),
                filled_at: Instant::now(),
            }),
            in_flight: AtomicUsize::new(0),
        })
    }

    /// # Errors
    /// The limit that keeps it out.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Result<Permit, Reached> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        if self.limits.in_flight.is_some_and(|most| before >= most) {
            return Err(Reached::InFlight);
        }
        if let Some(rate) = self.limits.rate
            && !self.take(rate, now)
        {
            return Err(Reached::Rate);
        }
        Ok(permit)
    }

    fn take(&self, rate: f64, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.filled_at);
        bucket.left = (bucket.left + passed.as_secs_f64() * rate).min(burst(rate));
        bucket.filled_at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }

    /// # Errors
    /// When the body is longer than allowed.
    pub(super) fn check_body(&self, bytes: u64) -> Result<(), Reached> {
        match self.limits.body {
            Some(most) if bytes > most => Err(Reached::Body),
            _ => Ok(()),
        }
    }
}

fn burst(rate: f64) -> f64 {
    (rate * BURST_SECONDS).max(1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_lets_in_what_it_says() {
        let gate = Gate::new(Limits {
            rate: Some(100.0),
            ..Limits::default()
        });
        let start = Instant::now();
        let entered = (0..10_000).filter(|millis| {
            let now = start + Duration::from_millis(*millis / 5);
            gate.enter(now).is_ok()
        });
        // Two seconds of it, and what came at once at the start.
        let entered = entered.count();
        assert!((208..=210).contains(&entered), "{entered}");
    }

    #[test]
    fn requests_at_once_are_counted_while_they_are_under_way() {
        let gate = Gate::new(Limits {
            in_flight: Some(2),
            ..Limits::default()
        });
        let now = Instant::now();
        let first = gate.enter(now).unwrap();
        let _second = gate.enter(now).unwrap();
        assert_eq!(gate.enter(now).err(), Some(Reached::InFlight));
        drop(first);
        assert!(gate.enter(now).is_ok());
    }

    #[test]
    fn bodies_may_be_as_long_as_the_limit() {
        let gate = Gate::new(Limits {
            body: Some(10),
            ..Limits::default()
        });
        assert_eq!(gate.check_body(10), Ok(()));
        assert_eq!(gate.check_body(11), Err(Reached::Body));
    }
}

//! Stops calling a plugin that fails again and again, and tries it again later.

use std::time::{Duration, Instant};

/// Failures in a row before the plugin is left alone.
pub(super) const FAILURES_MAX: u32 = 5;

/// For how long at first; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// For how long at most: a plugin that recovers is used again within that time.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// First failures of a row are told no more often than this: a plugin may fail in every second call.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    pause: Duration,
    told_at: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 0,
            open_until: None,
            pause: PAUSE_MIN,
            told_at: None,
        }
    }
}

impl Breaker {
    /// How much longer the plugin is to be left alone; `None` if it may be called.
    pub(super) fn is_open(&self, now: Instant) -> Option<Duration> {
        let left = self.open_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Takes note of a call that went well. Whether it was the first after a pause.
    pub(super) fn succeeded(&mut self) -> bool {
        let recovered = self.open_until.is_some();
        if self.failures > 0 {
            *self = Self {
                told_at: self.told_at,
                ..Self::default()
            };
        }
        recovered
    }

    /// Takes note of a failure. The pause that begins with it, if one does.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return None;
        }
        let pause = self.pause;
        self.open_until = Some(now + pause);
        self.pause = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }

    /// Whether the failure that was noted last should be told: the first of its row, and none was told just before.
    pub(super) fn is_news(&mut self, now: Instant) -> bool {
        let is_news = self.failures == 1 && self.told_at.is_none_or(|at| now >= at + TOLD_EVERY);
        if is_news {
            self.told_at = Some(now);
        }
        is_news
    }

    /// Failures since the last call that went well.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_once_a_row_and_once_a_second() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let mut told = |millis| {
            let now = start + Duration::from_millis(millis);
            breaker.failed(now);
            let first = breaker.is_news(now);
            breaker.failed(now);
            assert!(!breaker.is_news(now), "the second of a row");
            breaker.succeeded();
            first
        };
        let at = [0, 1, 500, 999, 1000, 1500, 5000].map(&mut told);
        assert_eq!(at, [true, false, false, false, true, false, true]);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_longer_each_time() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.failed(now), None);
        }
        assert!(!breaker.succeeded());
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.failed(now), None);
        }
        assert_eq!(breaker.failed(now), Some(PAUSE_MIN));
        assert_eq!(breaker.is_open(now), Some(PAUSE_MIN));
        assert_eq!(breaker.is_open(now + PAUSE_MIN), None);
        assert_eq!(breaker.failed(now + PAUSE_MIN), Some(PAUSE_MIN * 2));
        for _ in 0..20 {
            breaker.failed(now);
        }
        assert_eq!(breaker.failed(now), Some(PAUSE_MAX));
        assert!(breaker.succeeded());
        assert_eq!(breaker.is_open(now), None);
        assert_eq!(breaker.failed(now), None);
    }
}

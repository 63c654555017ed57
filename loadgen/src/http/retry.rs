//! What clients do about failed requests: when they try again, and when no more.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;

/// Unused budget is kept for this many retries, so that a quiet hour does not pay for a storm.
const BUDGET_KEPT_MAX: f64 = 100.0;
/// Retries are counted in thousandths.
const WHOLE: f64 = 1000.0;

/// How failed requests are retried.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) wait: Wait,
    /// Requests for one original at most, the first included.
    pub(crate) attempts: u32,
    pub(crate) budget: Option<Budget>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wait {
    None,
    Fixed(Duration),
    /// Doubles from `first` up to `max`; `jitter` is the share of it that is left to chance.
    Exponential {
        first: Duration,
        max: Duration,
        jitter: f64,
    },
}

/// Retries per original, shared by all workers.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) share: f64,
    left: AtomicI64,
}

impl Budget {
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share,
            left: AtomicI64::new(0),
        }
    }

    /// An original adds its share.
    pub(crate) fn earn(&self) {
        let most = (BUDGET_KEPT_MAX * WHOLE) as i64;
        let add = (self.share * WHOLE) as i64;
        let sum = |left: i64| Some((left + add).min(most));
        let earned = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, sum);
        debug_assert!(earned.is_ok(), "the closure always gives a value");
    }

    fn spend(&self) -> bool {
        let less = |left: i64| (left >= WHOLE as i64).then_some(left - WHOLE as i64);
        let left = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        left.is_ok()
    }
}

impl Retry {
    /// How long to wait after `attempt` requests (1 is the first) have failed; `None` gives up.
    pub(crate) fn wait_after(&self, attempt: u32, random: &mut StdRng) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        if self.budget.as_ref().is_some_and(|budget| !budget.spend()) {
            return None;
        }
        Some(match self.wait {
            Wait::None => Duration::ZERO,
            Wait::Fixed(wait) => wait,
            Wait::Exponential { first, max, jitter } => {
                let factor = 2_u32.saturating_pow(attempt - 1);
                let whole = first.saturating_mul(factor).min(max);
                whole.mul_f64(1.0 - jitter * random.random::<f64>())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn waits(wait: Wait, budget: Option<Budget>) -> Vec<Option<u128>> {
        let retry = Retry {
            wait,
            attempts: 5,
            budget,
        };
        let mut random = StdRng::seed_from_u64(1);
        (1..=5)
            .map(|it| Some(retry.wait_after(it, &mut random)?.as_millis()))
            .collect()
    }

    #[test]
    fn waits_follow_the_policy_and_end() {
        assert_eq!(
            waits(Wait::None, None),
            [Some(0), Some(0), Some(0), Some(0), None]
        );
        let fixed = waits(Wait::Fixed(MILLI * 7), None);
        assert_eq!(fixed, [Some(7), Some(7), Some(7), Some(7), None]);
        let exponential = |jitter| Wait::Exponential {
            first: MILLI * 100,
            max: MILLI * 300,
            jitter,
        };
        let doubled = [Some(100), Some(200), Some(300), Some(300), None];
        assert_eq!(waits(exponential(0.0), None), doubled);
        let jittered = waits(exponential(1.0), None);
        assert!(
            jittered.iter().zip(doubled).all(|(it, most)| *it <= most),
            "{jittered:?}"
        );
        assert_ne!(jittered, doubled);
    }

    #[test]
    fn a_budget_bounds_the_retries() {
        let budget = Budget::new(0.5);
        (0..4).for_each(|_| budget.earn());
        assert_eq!(
            waits(Wait::None, Some(budget)),
            [Some(0), Some(0), None, None, None]
        );
    }
}

//! The search for the highest rate that keeps the thresholds.

use std::time::Duration;

/// Doublings and halvings that lead from any rate to any other, with some to spare.
const TRIALS_MAX: usize = 40;

/// Between which rates to search, and how exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub(crate) rate_min: f64,
    pub(crate) rate_max: f64,
    /// The result may be off by this share.
    pub(crate) precision: f64,
    /// Between two trials, so that the service has recovered.
    pub(crate) pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    pub(crate) rate: f64,
    pub(crate) held: bool,
}

/// Doubles the rate until the thresholds are crossed, then halves the distance.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    limits: Limits,
    pub(crate) tried: Vec<Trial>,
}

impl Search {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            tried: Vec::new(),
        }
    }

    /// The highest rate that held.
    pub(crate) fn highest(&self) -> Option<f64> {
        let held = self.tried.iter().filter(|trial| trial.held);
        held.map(|trial| trial.rate).max_by(f64::total_cmp)
    }

    fn lowest_crossed(&self) -> Option<f64> {
        let crossed = self.tried.iter().filter(|trial| !trial.held);
        crossed.map(|trial| trial.rate).min_by(f64::total_cmp)
    }

    /// The rate to try next; `None` when the result is exact enough.
    pub(crate) fn next(&self) -> Option<f64> {
        let Limits {
            rate_min,
            rate_max,
            precision,
            ..
        } = self.limits;
        if self.tried.len() >= TRIALS_MAX {
            return None;
        }
        match (self.highest(), self.lowest_crossed()) {
            (None, None) => Some(rate_min),
            // Not even the lowest rate held.
            (None, Some(_)) => None,
            (Some(held), None) if held >= rate_max => None,
            (Some(held), None) => Some((held * 2.0).min(rate_max)),
            (Some(held), Some(crossed)) => {
                (crossed > held * (1.0 + precision)).then(|| f64::midpoint(held, crossed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_highest_rate_is_found(capacity in 1.0..200_000.0_f64) {
            let limits = Limits { rate_min: 10.0, rate_max: 100_000.0, precision: 0.05, pause: Duration::ZERO };
            let mut search = Search::new(limits);
            while let Some(rate) = search.next() {
                search.tried.push(Trial { rate, held: rate <= capacity });
            }
            match search.highest() {
                None => prop_assert!(capacity < 10.0),
                Some(rate) => {
                    let most = capacity.min(100_000.0);
                    prop_assert!(rate <= most && rate * 1.0501 >= most, "{rate} of {most}");
                }
            }
            prop_assert!(search.tried.len() <= 20, "{}", search.tried.len());
        }
    }
}

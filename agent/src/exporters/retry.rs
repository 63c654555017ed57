//! Waiting between attempts: exponential backoff with jitter, server hints honoured.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Section;
use crate::units::HumanDuration;

/// `retry_on_failure`: what to do when the destination says "not now".
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOptions {
    /// Whether to try again at all.
    pub enabled: bool,
    /// The wait before the first retry.
    pub initial_interval: HumanDuration,
    /// The jitter, as a share of the wait, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub randomization_factor: f64,
    /// The factor from one wait to the next, at least 1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub multiplier: f64,
    /// The longest wait.
    pub max_interval: HumanDuration,
    /// How long to try before the batch is dropped; `0` means for as long as it takes. The Collector drops
    /// after `5m`: here nothing accepted is dropped unless the operator asks for it.
    pub max_elapsed_time: HumanDuration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: HumanDuration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: HumanDuration::from_secs(30),
            max_elapsed_time: HumanDuration::from_secs(0),
        }
    }
}

/// Validated form of [`RetryOptions`].
#[derive(Debug, Clone, PartialEq)]
pub struct RetrySettings {
    enabled: bool,
    initial_interval: Duration,
    randomization_factor: f64,
    multiplier: f64,
    max_interval: Duration,
    max_elapsed: Option<Duration>,
}

impl RetryOptions {
    /// Validates; problems go to `section` under `retry_on_failure`.
    pub fn resolve(&self, section: &mut Section<'_>) -> RetrySettings {
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            section.error(
                "retry_on_failure.randomization_factor",
                "must be between 0 and 1",
            );
        }
        if !(1.0..=1e6).contains(&self.multiplier) {
            section.error("retry_on_failure.multiplier", "must be at least 1");
        }
        let max_elapsed = (!self.max_elapsed_time.0.is_zero()).then_some(self.max_elapsed_time.0);
        if max_elapsed.is_some_and(|max| max < self.initial_interval.0 || max < self.max_interval.0)
        {
            section.error(
                "retry_on_failure.max_elapsed_time",
                "must be 0 (no limit), or at least initial_interval and max_interval",
            );
        }
        RetrySettings {
            enabled: self.enabled,
            initial_interval: self.initial_interval.0,
            randomization_factor: self.randomization_factor,
            multiplier: self.multiplier,
            max_interval: self.max_interval.0,
            max_elapsed,
        }
    }
}

impl RetrySettings {
    /// Retries for `patience` at most, the first of them soon: somebody waits at a terminal.
    pub fn limited(&self, patience: Duration) -> Self {
        Self {
            enabled: true,
            initial_interval: self.initial_interval.min(Duration::from_secs(1)),
            max_elapsed: Some(patience),
            ..self.clone()
        }
    }

    /// Reports limits that would give up what a log keeps safe.
    pub fn check_endless(&self, section: &mut Section<'_>) {
        if !self.enabled {
            section.error(
                "retry_on_failure.enabled",
                "with `storage = \"wal\"` what cannot be delivered yet is tried again; limit its age with sending_queue.max_age",
            );
        }
        if self.max_elapsed.is_some() {
            section.error(
                "retry_on_failure.max_elapsed_time",
                "with `storage = \"wal\"` use sending_queue.max_age: it counts from when the data came",
            );
        }
    }
}

/// The waits of one batch.
#[derive(Debug)]
pub struct Backoff<'a> {
    settings: &'a RetrySettings,
    next: Duration,
}

impl<'a> Backoff<'a> {
    /// Nothing waited yet.
    pub fn new(settings: &'a RetrySettings) -> Self {
        Self {
            settings,
            next: settings.initial_interval,
        }
    }

    /// The next wait, at least `hint`; `None` when the batch has used up its time. `random` is in `0..1`.
    pub fn next_wait(
        &mut self,
        hint: Option<Duration>,
        elapsed: Duration,
        random: f64,
    ) -> Option<Duration> {
        if !self.settings.enabled {
            return None;
        }
        let spread = self.settings.randomization_factor * (2.0 * random - 1.0);
        let wait = self
            .next
            .mul_f64((1.0 + spread).max(0.0))
            .max(hint.unwrap_or_default());
        if self
            .settings
            .max_elapsed
            .is_some_and(|max| elapsed + wait > max)
        {
            return None;
        }
        self.next = self
            .next
            .mul_f64(self.settings.multiplier)
            .min(self.settings.max_interval);
        Some(wait)
    }
}

/// How long an attempt may take. One that ran out of time doubles it, up to [`Patience::FACTOR_MAX`] times the timeout:
/// a destination that is only slow would else be asked for the same again and again, and each attempt that nobody waits
/// for any more makes it slower (as RFC 6298, section 5.5, has it for retransmissions). It shrinks again when the
/// destination needs less than half of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patience {
    timeout: Duration,
    factor: u32,
}

impl Patience {
    /// Longer than so many timeouts nobody waits: a connection that is dead and does not tell must be noticed.
    const FACTOR_MAX: u32 = 4;

    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, factor: 1 }
    }

    pub(super) fn limit(&self) -> Duration {
        self.timeout.saturating_mul(self.factor)
    }

    pub(super) fn ran_out(&mut self) {
        self.factor = (self.factor * 2).min(Self::FACTOR_MAX);
    }

    pub(super) fn sufficed(&mut self, took: Duration) {
        if took < self.limit() / 2 {
            self.factor = (self.factor / 2).max(1);
        }
    }
}

/// A number in `0..1` for jitter, from the hasher's random keys.
pub(super) fn random_unit() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(std::time::Instant::now());
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: RetryOptions) -> RetrySettings {
        let mut found = crate::config::Diagnostics::default();
        let mut section = Section::from_text("exporters.test", "", &mut found).unwrap();
        let settings = options.resolve(&mut section);
        assert!(!found.has_errors(), "{found}");
        settings
    }

    #[test]
    fn waits_grow_to_the_maximum() {
        let settings = settings(RetryOptions::default());
        let mut backoff = Backoff::new(&settings);
        let waits: Vec<_> = (0..7)
            .map(|_| {
                backoff
                    .next_wait(None, Duration::ZERO, 0.5)
                    .unwrap()
                    .as_secs_f64()
            })
            .collect();
        assert_eq!(waits, [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]);
    }

    #[test]
    fn who_is_slow_is_given_time_and_who_is_not_loses_it_again() {
        let secs = Duration::from_secs;
        let mut patience = Patience::new(secs(5));
        let mut limits = vec![patience.limit()];
        for took in [None, None, None, Some(11), Some(9), Some(4), Some(1)] {
            match took {
                None => patience.ran_out(),
                Some(took) => patience.sufficed(secs(took)),
            }
            limits.push(patience.limit());
        }
        assert_eq!(limits, [5, 10, 20, 20, 20, 10, 5, 5].map(secs));
    }

    #[test]
    fn jitter_stays_inside_its_share_and_hints_win() {
        let settings = settings(RetryOptions::default());
        let first = |hint, random| {
            Backoff::new(&settings)
                .next_wait(hint, Duration::ZERO, random)
                .unwrap()
        };
        assert_eq!(first(None, 0.0), Duration::from_millis(2500));
        assert_eq!(first(None, 1.0), Duration::from_millis(7500));
        assert_eq!(
            first(Some(Duration::from_secs(60)), 0.5),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn time_is_limited_only_when_asked() {
        let unlimited = settings(RetryOptions::default());
        assert!(
            Backoff::new(&unlimited)
                .next_wait(None, Duration::from_secs(1 << 40), 0.5)
                .is_some()
        );
        let limited = settings(RetryOptions {
            max_elapsed_time: HumanDuration::from_secs(300),
            ..RetryOptions::default()
        });
        assert!(
            Backoff::new(&limited)
                .next_wait(None, Duration::from_secs(296), 0.5)
                .is_none()
        );
        let disabled = settings(RetryOptions {
            enabled: false,
            ..RetryOptions::default()
        });
        assert!(
            Backoff::new(&disabled)
                .next_wait(None, Duration::ZERO, 0.5)
                .is_none()
        );
    }
}

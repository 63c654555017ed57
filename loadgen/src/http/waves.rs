//! Success and failure over the time of a scenario, fine enough to tell when a service has recovered.

use std::time::Duration;

/// Slots of a tenth of a second; twice as long each time there are too many.
const SLOT: Duration = Duration::from_millis(100);
/// Two hours of the finest slots, 1.2 MB.
const SLOTS_MAX: usize = 72_000;
/// A service has recovered when it keeps up for this long.
const STEADY: Duration = Duration::from_secs(1);
/// With no more than this share of requests failed or sent late.
const BAD_SHARE_MAX: f64 = 0.05;

#[derive(Debug, Clone)]
pub(crate) struct Waves {
    slot: Duration,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    requests: u64,
    /// Failed.
    failed: u64,
    /// Failed, or sent late because workers were still busy with what had failed.
    bad: u64,
}

impl Waves {
    pub(crate) fn new() -> Self {
        Self {
            slot: SLOT,
            slots: Vec::new(),
        }
    }

    pub(crate) fn record(&mut self, at: Duration, failed: bool, late: bool) {
        let mut index = self.index(at);
        while index >= SLOTS_MAX {
            self.halve();
            index = self.index(at);
        }
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.requests += 1;
            slot.failed += u64::from(failed);
            slot.bad += u64::from(failed || late);
        }
    }

    fn index(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos() / self.slot.as_nanos().max(1)).unwrap_or(usize::MAX)
    }

    fn halve(&mut self) {
        self.slot *= 2;
        let sum = |pair: &[Slot]| {
            pair.iter().fold(Slot::default(), |sum, it| Slot {
                requests: sum.requests + it.requests,
                failed: sum.failed + it.failed,
                bad: sum.bad + it.bad,
            })
        };
        self.slots = self.slots.chunks(2).map(sum).collect();
    }

    /// When the service came back: after the last slot in which everything failed.
    pub(crate) fn came_back(&self) -> Option<Duration> {
        let all_failed = |it: &Slot| it.requests > 0 && it.failed == it.requests;
        let last = self.slots.iter().rposition(all_failed)?;
        let after = self
            .slots
            .iter()
            .skip(last + 1)
            .position(|it| it.requests > 0)?;
        Some(self.slot * u32::try_from(last + 1 + after).ok()?)
    }

    /// How long after `back` the service was steady again; `None` if it never was.
    pub(crate) fn recovery(&self, back: Duration) -> Option<Duration> {
        let first = self.index(back);
        let length = (STEADY.as_nanos() / self.slot.as_nanos().max(1)).max(1) as usize;
        let later = self.slots.get(first..)?;
        let steady = later.windows(length).position(|window| {
            let requests: u64 = window.iter().map(|it| it.requests).sum();
            let bad: u64 = window.iter().map(|it| it.bad).sum();
            requests > 0 && bad as f64 <= requests as f64 * BAD_SHARE_MAX
        })?;
        let began = self.slot * u32::try_from(first + steady).ok()?;
        Some(began.saturating_sub(back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_counts_from_the_return_until_a_steady_second() {
        let mut waves = Waves::new();
        for millis in (0..10_000).step_by(10) {
            let failed = (2_000..4_000).contains(&millis);
            let late = (4_000..5_500).contains(&millis);
            waves.record(Duration::from_millis(millis), failed, late);
        }
        assert_eq!(waves.came_back(), Some(Duration::from_secs(4)));
        let recovery = waves.recovery(Duration::from_secs(4)).unwrap();
        // A window with half a bad slot in it is steady enough.
        assert!(
            (1_400..=1_500).contains(&recovery.as_millis()),
            "{recovery:?}"
        );
        assert_eq!(waves.recovery(Duration::from_millis(9_500)), None);
    }

    #[test]
    fn long_runs_stay_in_bounded_memory() {
        let mut waves = Waves::new();
        waves.record(Duration::from_secs(1), true, false);
        waves.record(Duration::from_secs(100_000), false, false);
        assert!(waves.slots.len() <= SLOTS_MAX);
        assert_eq!(waves.slots.iter().map(|it| it.requests).sum::<u64>(), 2);
    }
}

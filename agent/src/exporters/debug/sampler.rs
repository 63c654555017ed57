//! Sampling as the Collector's logger does it: the first few in each second, then every so many-th.

use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_secs(1);

/// Decides which batches of one signal are shown.
pub(super) struct Sampler {
    initial: u64,
    thereafter: u64,
    tick: Option<Instant>,
    seen: u64,
}

impl Sampler {
    pub(super) fn new(initial: u64, thereafter: u64) -> Self {
        Self {
            initial,
            thereafter,
            tick: None,
            seen: 0,
        }
    }

    /// Whether the next batch is shown.
    pub(super) fn takes(&mut self, now: Instant) -> bool {
        if self
            .tick
            .is_none_or(|tick| now.duration_since(tick) >= TICK)
        {
            self.tick = Some(now);
            self.seen = 0;
        }
        self.seen += 1;
        match self.seen.checked_sub(self.initial) {
            None | Some(0) => true,
            Some(beyond) => self.thereafter > 0 && beyond.is_multiple_of(self.thereafter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_second_and_every_so_many_th_are_shown() {
        let check = |initial, thereafter, expected: &str| {
            let mut sampler = Sampler::new(initial, thereafter);
            let start = Instant::now();
            let taken: String = (0..8u64)
                .chain(1000..1003)
                .map(|millis| sampler.takes(start + Duration::from_millis(millis)))
                .map(|taken| if taken { 'x' } else { '.' })
                .collect();
            assert_eq!(taken, expected, "{initial} {thereafter}");
        };
        check(2, 1, "xxxxxxxxxxx");
        check(2, 3, "xx..x..xxx.");
        check(2, 0, "xx......xx.");
        check(0, 0, "...........");
    }
}

//! What happened in each second of a run: requests, items, errors and latency, in bounded memory.

use std::time::{Duration, Instant};

use super::{Labels, POINTS_MAX, Series};

/// Buckets of a [`Sketch`] between a power of two and the next: values are kept to one part in 64.
const STEPS: usize = 64;
/// The same as a number of bits.
const STEP_BITS: u32 = STEPS.ilog2();
/// The last slot is left out when less than this part of it belongs to the run: its rates would be noise.
const COVERED_MIN: f64 = 0.5;

/// Slots of equal length from the start of a run on. When there would be more than [`POINTS_MAX`], each
/// two become one of twice the length.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    start: Instant,
    slot: Duration,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    requests: u64,
    items: u64,
    errors: u64,
    latencies: Sketch,
}

impl Timeline {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            slot: Duration::from_secs(1),
            slots: Vec::new(),
        }
    }

    /// Counts a request that ended well.
    pub(crate) fn succeeded(&mut self, at: Instant, items: u64, latency: Duration) {
        let slot = self.slot_at(at);
        slot.requests += 1;
        slot.items += items;
        slot.latencies.record(latency);
    }

    /// Counts a request that did not; with its latency where that says something (a timeout).
    pub(crate) fn failed(&mut self, at: Instant, latency: Option<Duration>) {
        let slot = self.slot_at(at);
        slot.requests += 1;
        slot.errors += 1;
        if let Some(latency) = latency {
            slot.latencies.record(latency);
        }
    }

    /// Adds what another worker of the same run has counted.
    #[allow(dead_code, reason = "for runs of several threads")]
    pub(crate) fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while other.slot < self.slot {
            other.halve();
        }
        while self.slot < other.slot {
            self.halve();
        }
        for (index, slot) in other.slots.iter().enumerate() {
            self.slot_number(index).add(slot);
        }
    }

    fn slot_at(&mut self, at: Instant) -> &mut Slot {
        let since = at.saturating_duration_since(self.start);
        let index = |slot: Duration| (since.as_nanos() / slot.as_nanos()) as usize;
        while index(self.slot) >= POINTS_MAX {
            self.halve();
        }
        self.slot_number(index(self.slot))
    }

    fn slot_number(&mut self, index: usize) -> &mut Slot {
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::default);
        }
        self.slots
            .get_mut(index)
            .expect("the slots were just extended to this index")
    }

    fn halve(&mut self) {
        let pairs = self.slots.chunks(2).map(|pair| {
            let mut sum = Slot::default();
            pair.iter().for_each(|slot| sum.add(slot));
            sum
        });
        self.slots = pairs.collect();
        self.slot *= 2;
    }

    /// `requests`, `items` (where there were any) and `errors` a second, and `latency_p50`, `latency_p99`
    /// and `latency_max` in milliseconds, of a run that took `wall`. Points stand at the end of their slot.
    pub(crate) fn series(&self, wall: Duration, labels: &Labels) -> Vec<Series> {
        let (slot, wall) = (self.slot.as_secs_f64(), wall.as_secs_f64());
        let whole = (wall / slot).floor();
        let is_kept = |index: usize| {
            let covered = (wall / slot - index as f64).min(1.0);
            covered >= COVERED_MIN || (index == 0 && covered > 0.0)
        };
        let kept = (0..self.slots.len().max(whole as usize)).filter(|index| is_kept(*index));
        let nothing = Slot::default();
        let slots: Vec<_> = kept
            .map(|index| {
                let end = ((index + 1) as f64 * slot).min(wall);
                let length = (end - index as f64 * slot).max(1e-9);
                (end, length, self.slots.get(index).unwrap_or(&nothing))
            })
            .take(POINTS_MAX)
            .collect();
        let series = |name: &str, unit: &str, points: Vec<(f64, f64)>| Series {
            name: name.to_owned(),
            labels: labels.clone(),
            unit: unit.to_owned(),
            points,
        };
        let rates = |name, count: fn(&Slot) -> u64| {
            let points = slots
                .iter()
                .map(|(end, length, slot)| (*end, count(slot) as f64 / length));
            series(name, "1/s", points.collect())
        };
        let latency = |name, quantile| {
            let points = slots
                .iter()
                .filter_map(|(end, _, slot)| Some((*end, slot.latencies.millis_at(quantile)?)));
            series(name, "ms", points.collect())
        };
        let mut all = vec![rates("requests", |slot| slot.requests)];
        if self.slots.iter().any(|slot| slot.items > 0) {
            all.push(rates("items", |slot| slot.items));
        }
        all.extend([
            rates("errors", |slot| slot.errors),
            latency("latency_p50", 0.5),
            latency("latency_p99", 0.99),
            latency("latency_max", 1.0),
        ]);
        all.retain(|series| !series.points.is_empty());
        all
    }
}

impl Slot {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.items += other.items;
        self.errors += other.errors;
        self.latencies.merge(&other.latencies);
    }
}

/// A histogram of about a kilobyte: buckets get wider with the value.
#[derive(Debug, Clone, Default)]
struct Sketch {
    /// Index of the first bucket in `counts`.
    first: usize,
    counts: Vec<u32>,
}

impl Sketch {
    fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        *self.bucket(index_of(nanos)) += 1;
    }

    fn bucket(&mut self, index: usize) -> &mut u32 {
        if self.counts.is_empty() {
            self.first = index;
        }
        if index < self.first {
            let missing = self.first - index;
            self.counts.splice(..0, std::iter::repeat_n(0, missing));
            self.first = index;
        }
        let place = index - self.first;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts
            .get_mut(place)
            .expect("the buckets were just extended to this place")
    }

    fn merge(&mut self, other: &Self) {
        for (place, count) in other
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
        {
            *self.bucket(other.first + place) += count;
        }
    }

    /// `None` without a value.
    fn millis_at(&self, quantile: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let wanted = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(middle_of(self.first + place) / 1e6)
    }
}

fn index_of(nanos: u64) -> usize {
    if nanos < STEPS as u64 {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEP_BITS;
    STEPS * shift as usize + (nanos >> shift) as usize
}

/// The middle of a bucket, nanoseconds.
fn middle_of(index: usize) -> f64 {
    if index < 2 * STEPS {
        return index as f64;
    }
    let shift = index / STEPS - 1;
    let step = index % STEPS + STEPS;
    (step as f64 + 0.5) * (shift as f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points<'a>(series: &'a [Series], name: &str) -> &'a [(f64, f64)] {
        &series
            .iter()
            .find(|series| series.name == name)
            .unwrap()
            .points
    }

    #[test]
    fn buckets_hold_their_values() {
        for nanos in (0..200)
            .chain([1_000, 123_456, 10_000_000, 3_600_000_000_000])
            .chain((10..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]))
        {
            let middle = middle_of(index_of(nanos));
            let off = (middle - nanos as f64).abs();
            assert!(off <= nanos as f64 / 64.0, "{nanos}: {middle}");
        }
    }

    #[test]
    fn each_second_has_its_figures() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        for millis in 0..10 {
            timeline.succeeded(at(100 * millis), 5, Duration::from_millis(millis + 1));
        }
        timeline.failed(at(2_100), None);
        timeline.failed(at(2_600), Some(Duration::from_millis(300)));
        let series = timeline.series(Duration::from_millis(2_700), &Labels::new());
        assert_eq!(
            points(&series, "requests"),
            [(1.0, 10.0), (2.0, 0.0), (2.7, 2.0 / (2.7 - 2.0))]
        );
        assert_eq!(points(&series, "items")[0], (1.0, 50.0));
        let p50 = points(&series, "latency_p50");
        assert_eq!(p50.len(), 2, "no latency in the second second");
        assert!(
            (p50[0].1 - 5.0).abs() < 0.1 && (p50[1].1 - 300.0).abs() < 5.0,
            "{p50:?}"
        );
    }

    #[test]
    fn a_short_last_second_is_left_out() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        timeline.succeeded(start, 1, Duration::from_millis(1));
        timeline.succeeded(
            start + Duration::from_millis(1_050),
            1,
            Duration::from_millis(1),
        );
        let length = |millis| {
            let series = timeline.series(Duration::from_millis(millis), &Labels::new());
            points(&series, "requests").len()
        };
        assert_eq!((length(1_100), length(1_500), length(200)), (1, 2, 1));
    }

    #[test]
    fn long_runs_are_thinned_and_workers_merged_without_loss() {
        let start = Instant::now();
        let (mut long, mut short) = (Timeline::new(start), Timeline::new(start));
        for second in 0..10_000 {
            let at = start + Duration::from_secs(second);
            long.succeeded(at, 1, Duration::from_millis(2));
            if second < 100 {
                short.failed(at, None);
            }
        }
        short.merge(&long);
        let series = short.series(Duration::from_secs(10_000), &Labels::new());
        let requests = points(&series, "requests");
        assert_eq!(requests.len(), 2_500);
        assert_eq!((requests[0].1, requests[2_499].1), (2.0, 1.0));
        assert_eq!(points(&series, "errors")[24].1, 1.0);
    }
}

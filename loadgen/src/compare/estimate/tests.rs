//! Known truths: about 95 % of the intervals must hold them.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// A normal number by Box and Muller.
fn normal(random: &mut StdRng) -> f64 {
    let (one, two): (f64, f64) = (random.random_range(1e-12..1.0), random.random());
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
}

/// The share of intervals that hold `truth`.
fn coverage(trials: u32, truth: f64, mut trial: impl FnMut(&mut StdRng) -> Interval) -> f64 {
    let mut random = StdRng::seed_from_u64(7);
    let held = (0..trials).filter(|_| {
        let interval = trial(&mut random);
        (interval.from..=interval.to).contains(&truth)
    });
    held.count() as f64 / f64::from(trials)
}

#[test]
fn intervals_of_repetitions_hold_the_truth() {
    for (count, other_count, spread) in [(5, 5, 1.0), (3, 10, 4.0), (2, 2, 1.0)] {
        let share = coverage(2_000, 3.0, |random| {
            let one: Vec<_> = (0..count).map(|_| 10.0 + normal(random)).collect();
            let two: Vec<_> = (0..other_count)
                .map(|_| 13.0 + spread * normal(random))
                .collect();
            let estimates = [&one, &two].map(|it| Estimate::of_repetitions(it).unwrap());
            difference(&estimates[0], &estimates[1]).unwrap()
        });
        assert!(
            (0.935..0.985).contains(&share),
            "{count} and {other_count}: {share}"
        );
    }
}

/// Exponential times in whole microseconds, as buckets.
fn exponential(random: &mut StdRng, count: usize, mean: f64) -> Vec<(u64, u64)> {
    let mut values: Vec<_> = (0..count)
        .map(|_| (-mean * random.random_range(1e-12..1.0_f64).ln()) as u64)
        .collect();
    values.sort_unstable();
    values.into_iter().map(|value| (value, 1)).collect()
}

#[test]
fn intervals_of_percentiles_hold_the_truth() {
    for quantile in [0.5_f64, 0.99] {
        let (one_mean, two_mean) = (10_000.0, 12_000.0);
        let truth = -(1.0 - quantile).ln() * (two_mean - one_mean);
        let [one_shares, two_shares] =
            [1_000.0, 1_500.0].map(|it| order_statistic(it, quantile).unwrap());
        let share = coverage(200, truth, |random| {
            let one = exponential(random, 1_000, one_mean);
            let two = exponential(random, 1_500, two_mean);
            let one = values_at(&one, 1_000.0, &one_shares);
            let two = values_at(&two, 1_500.0, &two_shares);
            between_percentiles(one[GRID / 2], two[GRID / 2], &one, &two)
        });
        assert!((0.90..0.99).contains(&share), "{quantile}: {share}");
    }
}

/// Seconds each of which is like the one before by `correlation`.
fn seconds(random: &mut StdRng, count: usize, mean: f64, correlation: f64) -> Vec<f64> {
    let mut state = normal(random);
    let step = (1.0 - correlation * correlation).sqrt();
    let next = |_| {
        state = correlation * state + step * normal(random);
        mean + state
    };
    (0..count).map(next).collect()
}

#[test]
fn intervals_of_series_hold_the_truth_though_seconds_depend_on_each_other() {
    let share = |count, correlation, estimate: fn(&[f64]) -> Estimate| {
        coverage(2_000, 0.5, |random| {
            let one = seconds(random, count, 100.0, correlation);
            let two = seconds(random, count, 100.5, correlation);
            let estimates = [one, two].map(|it| estimate(&it));
            difference(&estimates[0], &estimates[1]).unwrap()
        })
    };
    let of_series = |it: &[f64]| Estimate::of_series(mean(it).unwrap(), it);
    for (count, correlation) in [(30, 0.0), (60, 0.0), (60, 0.5), (300, 0.8)] {
        let share = share(count, correlation, of_series);
        assert!(
            (0.90..0.985).contains(&share),
            "{count}, {correlation}: {share}"
        );
    }
    // As if they did not: the check above can fail.
    let naive = share(300, 0.8, |it| Estimate::of_repetitions(it).unwrap());
    assert!(naive < 0.7, "{naive}");
}

#[test]
fn intervals_of_ratios_hold_the_truth() {
    let share = coverage(1_000, 0.01, |random| {
        let mut run = |rate: f64| {
            let below: Vec<_> = (0..60).map(|_| 1000.0 + 100.0 * normal(random)).collect();
            let above: Vec<_> = below
                .iter()
                .map(|it| it * rate + 5.0 * normal(random))
                .collect();
            let ratio = above.iter().sum::<f64>() / below.iter().sum::<f64>();
            Estimate::of_ratio(ratio, &above, &below)
        };
        let (one, two) = (run(0.02), run(0.03));
        difference(&one, &two).unwrap()
    });
    assert!((0.92..0.98).contains(&share), "{share}");
}

#[test]
fn means_of_histograms_are_known_to_the_error_of_the_mean() {
    let buckets: Vec<_> = (1..=1000).map(|value| (value * 1_000_000, 10)).collect();
    let estimate = Estimate::of_histogram_mean(500.5, &buckets);
    let Error::OfMean { standard, freedom } = estimate.error else {
        panic!("{estimate:?}")
    };
    assert!((standard - 288.7 / 100.0).abs() < 0.01, "{standard}");
    assert!((freedom - 9_999.0).abs() < 1e-9);
}

#[test]
fn what_cannot_be_told_is_not() {
    let once = Estimate::of_repetitions(&[1.0]).unwrap();
    let twice = Estimate::of_repetitions(&[1.0, 2.0]).unwrap();
    assert_eq!(difference(&once, &twice), Err("measured once"));
    let few = Estimate::of_percentile(1.0, &[(1, 500)], 0.99);
    assert_eq!(difference(&few, &few), Err("too few values beyond it"));
    let short = Estimate::of_series(1.0, &[1.0; 19]);
    assert_eq!(difference(&short, &twice), Err("too few seconds"));
    let percentile = Estimate::of_percentile(1.0, &[(1, 5000)], 0.99);
    assert!(difference(&percentile, &twice).is_err());
    assert_eq!(Estimate::of_repetitions(&[]), None);
}

#[test]
fn equal_figures_differ_by_nothing() {
    let same = Estimate::of_repetitions(&[0.0, 0.0, 0.0]).unwrap();
    let interval = difference(&same, &same).unwrap();
    assert_eq!(interval, Interval { from: 0.0, to: 0.0 });
    assert!(!interval.shows_difference());
    let constant = Estimate::of_series(5.0, &[5.0; 60]);
    assert!(!difference(&constant, &constant).unwrap().shows_difference());
}

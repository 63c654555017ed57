//! How well a figure is known, and how well the difference of two is.

use statrs::distribution::{Beta, ContinuousCDF as _, StudentsT};

/// Share of intervals that are to hold the truth.
const CONFIDENCE: f64 = 0.95;
/// Seconds that a series must have: from fewer, nothing can be learnt about how they depend on each other.
const SECONDS_MIN: usize = 20;
/// Values that must lie beyond a percentile: with fewer, the interval's end would be the greatest value by chance.
const BEYOND_MIN: f64 = 10.0;
/// Points that stand for the distribution of a percentile; the difference of two has this number squared.
const GRID: usize = 200;

/// A figure and what is known about its error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) error: Error,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Error {
    /// Standard error of a mean, with the degrees of freedom it was estimated from.
    OfMean { standard: f64, freedom: f64 },
    /// Equally likely values of a percentile.
    OfPercentile(Vec<f64>),
    /// Why nothing is known.
    Unknown(&'static str),
}

impl Error {
    fn standard(&self) -> Option<f64> {
        match self {
            Self::OfMean { standard, .. } => Some(*standard),
            Self::OfPercentile(values) => {
                let mean = mean(values)?;
                let squares: f64 = values.iter().map(|it| (it - mean).powi(2)).sum();
                Some((squares / values.len() as f64).sqrt())
            }
            Self::Unknown(_) => None,
        }
    }
}

/// Where the difference of two figures lies with [`CONFIDENCE`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Interval {
    /// Whether there is a difference at all.
    pub(super) fn shows_difference(self) -> bool {
        self.from > 0.0 || self.to < 0.0
    }

    /// With steps of `resolution` in what was measured.
    pub(super) fn widened(self, resolution: f64) -> Self {
        Self {
            from: self.from - resolution,
            to: self.to + resolution,
        }
    }
}

impl Estimate {
    fn unknown(value: f64, why: &'static str) -> Self {
        Self {
            value,
            error: Error::Unknown(why),
        }
    }

    fn of_mean(value: f64, standard: f64, freedom: f64) -> Self {
        Self {
            value,
            error: Error::OfMean { standard, freedom },
        }
    }

    /// A figure that was measured once, without anything to judge it by.
    pub(super) fn single(value: f64) -> Self {
        Self::unknown(value, "measured once")
    }

    /// The mean of repetitions.
    pub(super) fn of_repetitions(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = mean(values)?;
        if values.len() < 2 {
            return Some(Self::single(mean));
        }
        let squares: f64 = values.iter().map(|it| (it - mean).powi(2)).sum();
        let standard = (squares / (count - 1.0) / count).sqrt();
        Some(Self::of_mean(mean, standard, count - 1.0))
    }

    /// A percentile of values that are independent of each other, given as (value, how many), lowest first.
    ///
    /// The share of all values below the sample's percentile is distributed as the order statistic of its rank is:
    /// Beta(rank, count - rank + 1). The values at shares drawn from it are what a bootstrap would draw.
    pub(super) fn of_percentile(value: f64, buckets: &[(u64, u64)], quantile: f64) -> Self {
        let count: u64 = buckets.iter().map(|it| it.1).sum();
        let total = count as f64;
        if total * quantile.min(1.0 - quantile) < BEYOND_MIN {
            return Self::unknown(value, "too few values beyond it");
        }
        let Some(shares) = order_statistic(total, quantile) else {
            return Self::unknown(value, "too few values beyond it");
        };
        Self {
            value,
            error: Error::OfPercentile(values_at(buckets, total, &shares)),
        }
    }

    /// With the equally likely values in the unit of the figure.
    pub(super) fn scaled_values(mut self, factor: f64) -> Self {
        if let Error::OfPercentile(values) = &mut self.error {
            values.iter_mut().for_each(|it| *it *= factor);
        }
        self
    }

    /// With an error that is greater by this factor.
    pub(super) fn widened(mut self, factor: f64) -> Self {
        match &mut self.error {
            Error::OfMean { standard, .. } => *standard *= factor,
            Error::OfPercentile(values) => values
                .iter_mut()
                .for_each(|it| *it = self.value + (*it - self.value) * factor),
            Error::Unknown(_) => {}
        }
        self
    }

    /// How many times the other's error this one's is; `None` where one of them is not known or nothing.
    pub(super) fn ratio_of_errors(&self, other: &Self) -> Option<f64> {
        let ratio = self.error.standard()? / other.error.standard()?;
        ratio.is_finite().then_some(ratio)
    }

    /// The mean of values that are independent of each other, given as (value, how many).
    pub(super) fn of_histogram_mean(value: f64, buckets: &[(u64, u64)]) -> Self {
        let total: f64 = buckets.iter().map(|it| it.1 as f64).sum();
        if total < 2.0 {
            return Self::single(value);
        }
        let mean: f64 = buckets
            .iter()
            .map(|it| it.0 as f64 * it.1 as f64)
            .sum::<f64>()
            / total;
        let squares: f64 = buckets
            .iter()
            .map(|it| (it.0 as f64 - mean).powi(2) * it.1 as f64)
            .sum();
        let standard = (squares / (total - 1.0) / total).sqrt() * scale(value, mean);
        Self::of_mean(value, standard, total - 1.0)
    }

    /// A mean over the seconds of a run, which depend on those before them.
    pub(super) fn of_series(value: f64, seconds: &[f64]) -> Self {
        match error_of_mean(seconds) {
            Some((standard, freedom)) => {
                let mean = mean(seconds).unwrap_or(value);
                Self::of_mean(value, standard * scale(value, mean), freedom)
            }
            None => Self::unknown(value, "too few seconds"),
        }
    }

    /// The ratio of two sums over the same seconds, such as errors by requests.
    pub(super) fn of_ratio(value: f64, above: &[f64], below: &[f64]) -> Self {
        let (Some(mean_above), Some(mean_below)) = (mean(above), mean(below)) else {
            return Self::unknown(value, "too few seconds");
        };
        if mean_below <= 0.0 {
            return Self::unknown(value, "divided by nothing");
        }
        // To first order the ratio is off by the mean of what is left of the numerator at the common ratio.
        let ratio = mean_above / mean_below;
        let left: Vec<_> = above
            .iter()
            .zip(below)
            .map(|(above, below)| (above - ratio * below) / mean_below)
            .collect();
        match error_of_mean(&left) {
            Some((standard, freedom)) => {
                Self::of_mean(value, standard * scale(value, ratio), freedom)
            }
            None => Self::unknown(value, "too few seconds"),
        }
    }
}

/// From the unit that the error was computed in to that of the figure.
fn scale(value: f64, computed: f64) -> f64 {
    if computed == 0.0 || value == 0.0 {
        return 1.0;
    }
    (value / computed).abs()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard error of the mean of a series, and its degrees of freedom, from the means of all blocks of consecutive values: what
/// a moving block bootstrap tends to with the number of its draws.
fn error_of_mean(series: &[f64]) -> Option<(f64, f64)> {
    let count = series.len();
    if count < SECONDS_MIN {
        return None;
    }
    let mean = mean(series)?;
    let length = block_length(series, mean);
    let blocks: Vec<f64> = series
        .windows(length)
        .map(|block| block.iter().sum::<f64>() / length as f64)
        .collect();
    let squares: f64 = blocks.iter().map(|it| (it - mean).powi(2)).sum();
    let (n, l) = (count as f64, length as f64);
    let variance = l * squares / ((n - l) * blocks.len() as f64);
    // Overlapping blocks tell as much as one and a half times as many that stand side by side.
    let freedom = (1.5 * (n / l - 1.0)).max(1.0);
    Some((variance.sqrt(), freedom))
}

/// The length of block that gives the least error of the variance for a series in which each value depends on
/// the one before as these do (Carlstein's rule), a fifth of the series at most.
fn block_length(series: &[f64], mean: f64) -> usize {
    let squares: f64 = series.iter().map(|it| (it - mean).powi(2)).sum();
    if squares == 0.0 {
        return 1;
    }
    let pairs = series.iter().zip(series.iter().skip(1));
    let products: f64 = pairs.map(|(one, next)| (one - mean) * (next - mean)).sum();
    let correlation = (products / squares).clamp(0.0, 0.99);
    let count = series.len() as f64;
    let ratio = 2.0 * correlation / (1.0 - correlation.powi(2));
    // Never alone: a correlation that happens not to show in a short series would make the interval too short.
    let length = (ratio.powf(2.0 / 3.0) * count.cbrt()).max(count.cbrt());
    (length.round() as usize).clamp(1, series.len() / 5)
}

/// Equally likely shares of all values below the percentile of a sample of `total`.
fn order_statistic(total: f64, quantile: f64) -> Option<Vec<f64>> {
    let rank = (total * quantile).ceil().clamp(1.0, total);
    let beta = Beta::new(rank, total - rank + 1.0).ok()?;
    let middles = (0..GRID).map(|index| (index as f64 + 0.5) / GRID as f64);
    Some(middles.map(|chance| beta.inverse_cdf(chance)).collect())
}

/// The values below which these shares (in rising order) lie.
fn values_at(buckets: &[(u64, u64)], total: f64, shares: &[f64]) -> Vec<f64> {
    let mut values = Vec::with_capacity(shares.len());
    let mut below = 0.0;
    let mut rest = shares.iter().peekable();
    for (value, count) in buckets {
        below += *count as f64;
        while rest.next_if(|share| **share * total <= below).is_some() {
            values.push(*value as f64);
        }
    }
    let greatest = buckets.last().map_or(0.0, |it| it.0 as f64);
    values.extend(rest.map(|_| greatest));
    values
}

/// Where `second - first` lies.
///
/// # Errors
/// Why that cannot be told.
pub(super) fn difference(first: &Estimate, second: &Estimate) -> Result<Interval, &'static str> {
    match (&first.error, &second.error) {
        (
            Error::OfMean {
                standard: one,
                freedom: n,
            },
            Error::OfMean {
                standard: two,
                freedom: m,
            },
        ) => Ok(welch(second.value - first.value, (*one, *n), (*two, *m))),
        (Error::OfPercentile(one), Error::OfPercentile(two)) => {
            Ok(between_percentiles(first.value, second.value, one, two))
        }
        (Error::Unknown(why), _) | (_, Error::Unknown(why)) => Err(why),
        _ => Err("one is repeated, the other is not"),
    }
}

/// Welch's interval, with the degrees of freedom of Satterthwaite.
fn welch(difference: f64, one: (f64, f64), two: (f64, f64)) -> Interval {
    let (one_squared, two_squared) = (one.0.powi(2), two.0.powi(2));
    let sum = one_squared + two_squared;
    if sum == 0.0 {
        return Interval {
            from: difference,
            to: difference,
        };
    }
    let freedom = sum.powi(2) / (one_squared.powi(2) / one.1 + two_squared.powi(2) / two.1);
    let distribution = StudentsT::new(0.0, 1.0, freedom.max(1.0));
    let quantile = distribution.map_or(f64::INFINITY, |it| it.inverse_cdf(0.5 + CONFIDENCE / 2.0));
    let half = quantile * sum.sqrt();
    Interval {
        from: difference - half,
        to: difference + half,
    }
}

/// From the differences of all pairs of equally likely values.
fn between_percentiles(first: f64, second: f64, one: &[f64], two: &[f64]) -> Interval {
    let pairs = one
        .iter()
        .flat_map(|one| two.iter().map(move |two| two - one));
    let mut differences: Vec<_> = pairs.collect();
    let mut at = |chance: f64| {
        let index = (differences.len() as f64 * chance) as usize;
        let last = differences.len().saturating_sub(1);
        let (_, found, _) = differences.select_nth_unstable_by(index.min(last), f64::total_cmp);
        *found
    };
    let tail = (1.0 - CONFIDENCE) / 2.0;
    // Histograms keep the upper ends of their buckets, figures may not: the figures' difference is held at least.
    let difference = second - first;
    Interval {
        from: at(tail).min(difference),
        to: at(1.0 - tail).max(difference),
    }
}

#[cfg(test)]
mod tests;

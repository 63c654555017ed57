//! Axes of plots: where a value stands, and which values are named.

use crate::record::figures::{number, shown};

/// Named values on an axis: enough to read it, few enough for the width of a phone.
const TICKS: f64 = 5.0;

/// From 0 (left, bottom) to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    Linear {
        from: f64,
        to: f64,
    },
    /// Equal ratios have equal lengths; both ends are above 0.
    Log {
        from: f64,
        to: f64,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    /// (place from 0 to 1, text).
    pub(super) ticks: Vec<(f64, String)>,
}

impl Scale {
    pub(super) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { from, to } => (value - from) / (to - from),
            Self::Log { from, to } => (value.max(from) / from).ln() / (to / from).ln(),
        };
        place.clamp(0.0, 1.0)
    }
}

impl Axis {
    /// From zero to the greatest value, in round steps.
    pub(super) fn from_zero(greatest: f64, unit: &str) -> Self {
        let greatest = if greatest > 0.0 { greatest } else { 1.0 };
        let step = step(greatest / TICKS, unit);
        let steps = (greatest / step).ceil().max(1.0);
        let scale = Scale::Linear {
            from: 0.0,
            to: steps * step,
        };
        let ticks = (0..=steps as u32).map(|index| f64::from(index) * step);
        Self::with(scale, ticks, |value| shown(value, unit))
    }

    /// Seconds since the start of the run.
    pub(super) fn time(from: f64, to: f64) -> Self {
        let to = to.max(from + 1e-3);
        let step = time_step((to - from) / TICKS);
        let steps = (from / step).ceil() as u32..=(to / step) as u32;
        let ticks = steps.map(|index| f64::from(index) * step);
        Self::with(Scale::Linear { from, to }, ticks, |seconds| match seconds {
            seconds if seconds < 120.0 || seconds % 60.0 != 0.0 => {
                format!("{} s", number(seconds))
            }
            seconds if seconds < 7200.0 => format!("{} min", number(seconds / 60.0)),
            seconds => format!("{} h", number(seconds / 3600.0)),
        })
    }

    /// From the least to the greatest value; powers of ten are named, and steps between them if they are few.
    pub(super) fn log(least: f64, greatest: f64, unit: &str) -> Self {
        let from = least.max(1e-9);
        let to = greatest.max(from * 1.01);
        let decades = (to / from).log10();
        let factors: &[f64] = match decades {
            decades if decades < 1.0 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            decades if decades < 2.0 => &[1.0, 2.0, 5.0],
            decades if decades < 3.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let values = powers.flat_map(|power| factors.iter().map(move |it| it * 10_f64.powi(power)));
        let inside = values.filter(|value| (from..=to).contains(value));
        Self::with(Scale::Log { from, to }, inside, |value| shown(value, unit))
    }

    /// Shares of requests, each step to the right a tenth of the share that is left; of `count` values.
    pub(super) fn spectrum(count: u64) -> Self {
        let to = (count.max(10) as f64).log10();
        let shares = [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %")];
        let rare = [
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
            (0.99999, "99.999 %"),
        ];
        let scale = Scale::Linear { from: 0.0, to };
        let ticks = shares.into_iter().chain(rare).filter_map(|(share, text)| {
            let place = spectrum_value(share);
            (place <= to).then(|| (scale.place(place), text.to_owned()))
        });
        Self {
            scale,
            ticks: ticks.collect(),
        }
    }

    fn with(scale: Scale, values: impl Iterator<Item = f64>, text: impl Fn(f64) -> String) -> Self {
        Self {
            scale,
            ticks: values
                .map(|value| (scale.place(value), text(value)))
                .collect(),
        }
    }
}

/// Where a share of requests stands on a spectrum's axis, before it is scaled.
pub(super) fn spectrum_value(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// The least round step that is not below `least`.
fn step(least: f64, unit: &str) -> f64 {
    let unit = if unit == "bytes" {
        1024_f64.powf(least.max(1.0).log(1024.0).floor())
    } else {
        1.0
    };
    let least = least / unit;
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power * unit
}

fn time_step(least: f64) -> f64 {
    const STEPS: [f64; 12] = [
        60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0,
        172_800.0,
    ];
    if least <= 5.0 {
        return step(least, "s");
    }
    [10.0, 15.0, 30.0]
        .into_iter()
        .chain(STEPS)
        .find(|step| *step >= least)
        .unwrap_or(604_800.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let check = |axis: Axis, expected: &[&str]| assert_eq!(texts(&axis), expected);
        check(
            Axis::from_zero(9.0, "ms"),
            &["0 ms", "2 ms", "4 ms", "6 ms", "8 ms", "10 ms"],
        );
        check(
            Axis::from_zero(0.0, "1/s"),
            &["0/s", "0.2/s", "0.4/s", "0.6/s", "0.8/s", "1/s"],
        );
        check(
            Axis::from_zero(9e6, "bytes"),
            &[
                "0 B", "2.0 MiB", "4.0 MiB", "6.0 MiB", "8.0 MiB", "10.0 MiB",
            ],
        );
        check(
            Axis::time(0.0, 10.0),
            &["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"],
        );
        check(Axis::time(0.0, 700.0), &["0 s", "5 min", "10 min"]);
        check(
            Axis::time(24.1, 29.1),
            &["25 s", "26 s", "27 s", "28 s", "29 s"],
        );
        check(
            Axis::log(0.5, 200.0, "ms"),
            &["1 ms", "3 ms", "10 ms", "30 ms", "100 ms"],
        );
        check(
            Axis::spectrum(1000),
            &["0", "50 %", "90 %", "99 %", "99.9 %"],
        );
    }

    #[test]
    fn places_are_between_the_ends() {
        let log = Scale::Log {
            from: 1.0,
            to: 100.0,
        };
        assert_eq!(
            [0.0, 1.0, 10.0, 100.0, 1000.0].map(|it| log.place(it)),
            [0.0, 0.0, 0.5, 1.0, 1.0]
        );
        assert_eq!(Axis::time(0.0, 10.0).scale.place(2.5), 0.25);
    }
}

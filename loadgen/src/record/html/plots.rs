//! Which plots a record gives.

use std::collections::BTreeMap;

use super::axis::{Axis, spectrum_value};
use super::chart::{Across, Chart, Line, Mark};
use crate::record::{Distribution, Labels, Record, Series, titled};

/// Lines in one plot: more cannot be told apart by colour; further ones get a plot of their own.
pub(super) const LINES_MAX: usize = 6;
/// Bars across a distribution.
const BINS: usize = 90;
/// Plots of one kind; the figures of further ones are in the record.
const PLOTS_MAX: usize = 8;
/// Percentiles are plotted on a logarithmic scale from this ratio between greatest and least on.
const LOG_FROM: f64 = 30.0;

/// How each distribution is spread, and its percentiles.
pub(super) fn distributions(record: &Record) -> Vec<Chart> {
    let mut by_name: Vec<(&str, Vec<&Distribution>)> = Vec::new();
    for distribution in record.distributions.iter().filter(|it| it.count() > 0) {
        match by_name.iter_mut().find(|it| it.0 == distribution.name) {
            Some((_, group)) => group.push(distribution),
            None => by_name.push((&distribution.name, vec![distribution])),
        }
    }
    let groups = by_name.into_iter().flat_map(|(name, group)| {
        let chunks = group.chunks(LINES_MAX).map(<[_]>::to_vec);
        chunks.map(|group| (name, group)).collect::<Vec<_>>()
    });
    groups
        .take(PLOTS_MAX)
        .flat_map(|(name, group)| [spread(name, &group), spectrum(name, &group)])
        .collect()
}

fn millis(value: u64) -> f64 {
    value as f64 / 1e6
}

/// Shares of values in bins of equal ratio.
fn spread(name: &str, group: &[&Distribution]) -> Chart {
    let buckets = || group.iter().flat_map(|it| &it.buckets);
    let least = buckets().map(|it| it.0).min().unwrap_or(1).max(1);
    let greatest = buckets().map(|it| it.0).max().unwrap_or(1);
    let x = Axis::log(millis(least) * 0.95, millis(greatest) * 1.05, "ms");
    let lines: Vec<_> = group
        .iter()
        .map(|it| Line {
            name: line_name(name, &it.labels),
            points: shares(it, &x),
        })
        .collect();
    let highest = lines.iter().flat_map(|it| &it.points).map(|it| it.1);
    Chart {
        title: format!("{} distribution", spaced(name)),
        note: "share of values in each step across",
        across: Across::Value,
        y: Axis::from_zero(highest.fold(0.0, f64::max), "%"),
        x,
        unit: "%",
        is_area: true,
        lines,
        marks: Vec::new(),
    }
}

/// A line of steps: the share of values in each bin, from its left end to its right.
fn shares(distribution: &Distribution, x: &Axis) -> Vec<(f64, f64)> {
    let mut bins = [0_u64; BINS];
    for (value, count) in &distribution.buckets {
        let bin = (x.scale.place(millis(*value)) * BINS as f64) as usize;
        if let Some(bin) = bins.get_mut(bin.min(BINS - 1)) {
            *bin += count;
        }
    }
    let total = distribution.count().max(1) as f64;
    let (super::axis::Scale::Log { from, to } | super::axis::Scale::Linear { from, to }) = x.scale;
    let edge = |bin: usize| from * (to / from).powf(bin as f64 / BINS as f64);
    let steps = bins.iter().enumerate().flat_map(|(bin, count)| {
        let share = *count as f64 / total * 100.0;
        [(edge(bin), share), (edge(bin + 1), share)]
    });
    steps.collect()
}

/// The value below which each share of the values lies.
fn spectrum(name: &str, group: &[&Distribution]) -> Chart {
    let most = group.iter().map(|it| it.count()).max().unwrap_or(1);
    let lines: Vec<_> = group
        .iter()
        .map(|it| Line {
            name: line_name(name, &it.labels),
            points: percentiles(it),
        })
        .collect();
    Chart {
        title: format!("{} percentiles", spaced(name)),
        note: "value below which a share of all lies",
        across: Across::Spectrum,
        x: Axis::spectrum(most),
        y: upwards(&lines, "ms"),
        unit: "ms",
        is_area: false,
        lines,
        marks: Vec::new(),
    }
}

fn percentiles(distribution: &Distribution) -> Vec<(f64, f64)> {
    let total = distribution.count() as f64;
    let mut below = 0;
    let mut points = Vec::with_capacity(distribution.buckets.len() + 1);
    for (value, count) in &distribution.buckets {
        points.push((spectrum_value(below as f64 / total), millis(*value)));
        below += count;
    }
    // The greatest value stands at the share that one value is of all: 100 % would be infinitely far.
    if let Some((value, _)) = distribution.buckets.last() {
        points.push((total.max(1.0).log10(), millis(*value)));
    }
    points
}

/// From zero, or logarithmic if the lines would lie on the ground otherwise.
fn upwards(lines: &[Line], unit: &'static str) -> Axis {
    let values = || lines.iter().flat_map(|it| &it.points).map(|it| it.1);
    let greatest = values().fold(0.0, f64::max);
    let least = values()
        .filter(|it| *it > 0.0)
        .fold(f64::INFINITY, f64::min);
    if least.is_finite() && greatest > least * LOG_FROM {
        return Axis::log(least * 0.9, greatest * 1.1, unit);
    }
    Axis::from_zero(greatest, unit)
}

/// Every series, those of one subject together.
pub(super) fn over_time(record: &Record) -> Vec<Chart> {
    let mut groups: BTreeMap<(usize, String), Vec<&Series>> = BTreeMap::new();
    for series in record.series.iter().filter(|it| !it.points.is_empty()) {
        groups.entry(subject(series)).or_default().push(series);
    }
    let ends = record.series.iter().flat_map(|it| it.points.last());
    let end = ends.map(|it| it.0).fold(0.0, f64::max);
    let chunks = groups.iter().flat_map(|((_, title), group)| {
        let chunks = group.chunks(LINES_MAX);
        chunks.map(move |group| (title.as_str(), group))
    });
    chunks
        .take(PLOTS_MAX * 2)
        .map(|(title, group)| timed(title, group, end, marks(record)))
        .collect()
}

/// Order and title of the plot that a series belongs to.
fn subject(series: &Series) -> (usize, String) {
    let name = series.name.as_str();
    let (order, title) = match series.unit.as_str() {
        "1/s" if name.contains("error") || name.contains("failed") => (2, "Errors"),
        // Each name by itself: a line of requests would lie on the ground beside one of items.
        "1/s" => return (1, format!("{} per second", spaced(name))),
        "ms" => (0, "Latency over time"),
        "cores" => (3, "CPU"),
        "bytes" if name.starts_with("rss") => (4, "Memory"),
        _ => return (5, spaced(name)),
    };
    (order, title.to_owned())
}

fn timed(title: &str, group: &[&Series], end: f64, marks: Vec<Mark>) -> Chart {
    let unit = match group.first().map_or("", |it| it.unit.as_str()) {
        "1/s" => "1/s",
        "ms" => "ms",
        "s" => "s",
        "cores" => "cores",
        "bytes" => "bytes",
        _ => "",
    };
    let same_name = group.iter().all(|it| it.name == group[0].name);
    let lines: Vec<_> = group
        .iter()
        .map(|it| Line {
            name: if same_name {
                line_name(&it.name, &it.labels)
            } else {
                titled(&it.name, &it.labels)
            },
            points: it.points.clone(),
        })
        .collect();
    let y = match unit {
        "ms" => upwards(&lines, unit),
        _ => Axis::from_zero(
            lines
                .iter()
                .flat_map(|it| &it.points)
                .map(|it| it.1)
                .fold(0.0, f64::max),
            unit,
        ),
    };
    Chart {
        title: title.to_owned(),
        note: match unit {
            "cores" => "cores in use",
            _ => "",
        },
        across: Across::Time,
        x: Axis::time(end),
        y,
        unit,
        is_area: lines.len() == 1,
        lines,
        marks,
    }
}

fn marks(record: &Record) -> Vec<Mark> {
    let windows = record.windows.iter().map(|it| Mark {
        name: it.name.clone(),
        from: it.from,
        to: Some(it.to),
    });
    let events = record.events.iter().map(|it| Mark {
        name: it.name.clone(),
        from: it.at,
        to: None,
    });
    windows.chain(events).collect()
}

/// Labels alone where the plot's title says the rest.
fn line_name(name: &str, labels: &Labels) -> String {
    if labels.is_empty() {
        return spaced(name);
    }
    let values: Vec<_> = labels.values().map(String::as_str).collect();
    values.join(", ")
}

pub(super) fn spaced(name: &str) -> String {
    let mut text = name.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

//! Which plots a record gives.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::{Axis, spectrum_value};
use super::chart::{Across, Chart, Line, Mark};
use super::names::{Names, figure, short, spaced};
use crate::record::{Distribution, Kind, Record, Series};

/// Lines in one plot: more cannot be told apart by colour; further ones get a plot of their own.
pub(super) const LINES_MAX: usize = 6;
/// Bars across a distribution.
const BINS: usize = 90;
/// Plots under one heading; the figures of further lines are in the record.
const PLOTS_MAX: usize = 16;
/// Percentiles are plotted on a logarithmic scale from this ratio between greatest and least on.
const LOG_FROM: f64 = 30.0;
/// A plot over time shows the whole run if its lines fill more than this share of it.
const FILLED: f64 = 0.5;

/// What stands under one heading.
#[derive(Debug, Default)]
pub(super) struct Plots {
    pub(super) charts: Vec<Chart>,
    /// Lines of plots beyond the greatest number of them.
    pub(super) lines_left_out: usize,
}

impl Plots {
    /// Adds the plots of some lines unless there are too many already.
    fn push<const N: usize>(&mut self, lines: usize, charts: impl FnOnce() -> [Chart; N]) {
        if self.charts.len() + N > PLOTS_MAX {
            self.lines_left_out += lines;
            return;
        }
        self.charts.extend(charts());
    }
}

/// How each distribution is spread, and its percentiles; those of endpoints apart from those of whole scenarios.
pub(super) fn distributions(record: &Record, names: &Names) -> Plots {
    let mut groups: Vec<((&str, bool), Vec<&Distribution>)> = Vec::new();
    for distribution in record.distributions.iter().filter(|it| it.count() > 0) {
        let of_endpoint = distribution.labels.contains_key("endpoint");
        let key = (distribution.name.as_str(), of_endpoint);
        match groups.iter_mut().find(|it| it.0 == key) {
            Some((_, group)) => group.push(distribution),
            None => groups.push((key, vec![distribution])),
        }
    }
    groups.sort_by_key(|((_, of_endpoints), _)| *of_endpoints);
    let mut plots = Plots::default();
    for ((name, of_endpoints), group) in &groups {
        let by = if *of_endpoints { " by endpoint" } else { "" };
        for (part, group) in parts(group, 1) {
            let title = |what: &str| format!("{} {what}{by}{part}", spaced(name));
            plots.push(group.len(), || {
                [
                    spread(title("distribution"), group, names),
                    spectrum(title("percentiles"), group, names),
                ]
            });
        }
    }
    plots
}

/// The lines of each plot, as many in each as may be, and what to add to its title; `together` lines stay together.
fn parts<T>(group: &[T], together: usize) -> impl Iterator<Item = (String, &[T])> {
    let count = group.len().div_ceil(LINES_MAX).max(1);
    let size = group
        .len()
        .div_ceil(count)
        .next_multiple_of(together.max(1));
    let parts = group.chunks(size.clamp(1, LINES_MAX));
    let count = parts.len();
    parts.enumerate().map(move |(index, part)| match count {
        1 => (String::new(), part),
        _ => (format!(", part {} of {count}", index + 1), part),
    })
}

fn millis(value: u64) -> f64 {
    value as f64 / 1e6
}

/// Shares of values in bins of equal ratio.
fn spread(title: String, group: &[&Distribution], names: &Names) -> Chart {
    let buckets = || group.iter().flat_map(|it| &it.buckets);
    let least = buckets().map(|it| it.0).min().unwrap_or(1).max(1);
    let greatest = buckets().map(|it| it.0).max().unwrap_or(1);
    let x = Axis::log(millis(least) * 0.95, millis(greatest) * 1.05, "ms");
    let lines: Vec<_> = group
        .iter()
        .map(|it| Line {
            name: names.line(&it.labels),
            points: shares(it, &x),
        })
        .collect();
    let highest = lines.iter().flat_map(|it| &it.points).map(|it| it.1);
    Chart {
        title,
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
fn spectrum(title: String, group: &[&Distribution], names: &Names) -> Chart {
    let most = group.iter().map(|it| it.count()).max().unwrap_or(1);
    let lines: Vec<_> = group
        .iter()
        .map(|it| Line {
            name: names.line(&it.labels),
            points: percentiles(it),
        })
        .collect();
    Chart {
        title,
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
pub(super) fn over_time(record: &Record, names: &Names) -> Plots {
    let mut groups: BTreeMap<(usize, String), Vec<&Series>> = BTreeMap::new();
    for series in record.series.iter().filter(|it| !it.points.is_empty()) {
        groups.entry(subject(series)).or_default().push(series);
    }
    let ends = record.series.iter().flat_map(|it| it.points.last());
    let end = ends.map(|it| it.0).fold(0.0, f64::max);
    let mut plots = Plots::default();
    for ((_, title), group) in &groups {
        let kinds: BTreeSet<_> = group.iter().map(|it| it.name.as_str()).collect();
        for (part, group) in parts(group, kinds.len()) {
            plots.push(group.len(), || {
                [timed(format!("{title}{part}"), group, end, (record, names))]
            });
        }
    }
    plots
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

fn timed(title: String, group: &[&Series], end: f64, (record, names): (&Record, &Names)) -> Chart {
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
            name: match same_name {
                true => names.line(&it.labels),
                false => kind_and_line(&it.name, &names.line(&it.labels)),
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
    let (from, to) = times(&lines, end);
    Chart {
        title,
        note: match unit {
            "cores" => "cores in use",
            _ => "",
        },
        across: Across::Time,
        x: Axis::time(from, to),
        y,
        unit,
        is_area: lines.len() == 1,
        lines,
        marks: marks(record, from, to),
    }
}

/// `p99 · customers`.
fn kind_and_line(name: &str, line: &str) -> String {
    let kind = figure(name).map_or_else(|| spaced(name), str::to_owned);
    match line {
        "" => kind,
        line => format!("{kind} · {line}"),
    }
}

/// From the start to the end of the run; of lines that are in a small part of it only, that part.
fn times(lines: &[Line], end: f64) -> (f64, f64) {
    let times = || lines.iter().flat_map(|it| &it.points).map(|it| it.0);
    let last = times().fold(0.0, f64::max);
    let first = times().fold(last, f64::min);
    match last - first > end * FILLED {
        true => (0.0, end),
        false => (first, last),
    }
}

/// Windows and events between two times. A window of all that is seen would tell nothing.
fn marks(record: &Record, from: f64, to: f64) -> Vec<Mark> {
    let margin = (to - from) * 0.02;
    let windows = record.windows.iter().filter(|it| {
        let is_seen = it.from < to && it.to > from;
        let is_all = it.from <= from + margin && it.to >= to - margin;
        is_seen && !is_all
    });
    let windows = windows.map(|it| (&it.name, it.from, Some(it.to)));
    let events = record.events.iter();
    let events = events.filter(|it| (from..=to).contains(&it.at));
    let events = events.map(|it| (&it.name, it.at, None));
    let marks = windows.chain(events).map(|(name, from, to)| Mark {
        name: match record.kind {
            // Of `test #1: ready`; the test would leave no room for what happened.
            Kind::Suite => name.rsplit(": ").next().unwrap_or(name).to_owned(),
            Kind::Http | Kind::Otlp => short(name),
        },
        whole_name: name.clone(),
        from,
        to,
    });
    marks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Window;
    use crate::record::tests::{labels, record};
    use crate::stats::Latencies;
    use std::time::Duration;

    fn empty() -> Record {
        let mut record = record();
        record.distributions.clear();
        record.series.clear();
        record.metrics.clear();
        record
    }

    fn titles(plots: &Plots) -> Vec<(&str, usize)> {
        let charts = plots.charts.iter();
        charts
            .map(|it| (it.title.as_str(), it.lines.len()))
            .collect()
    }

    #[test]
    fn endpoints_are_plotted_apart_and_no_line_is_lost_silently() {
        let mut record = empty();
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_millis(1));
        for scenario in ["a", "b"] {
            let of = |record: &mut Record, labels: &[(&str, &str)]| {
                record.add_latencies("latency", &self::labels(labels), &latencies);
            };
            of(&mut record, &[("scenario", scenario)]);
            for endpoint in ["1", "2", "3", "4"] {
                of(
                    &mut record,
                    &[("scenario", scenario), ("endpoint", endpoint)],
                );
            }
        }
        let names = Names::of(&record);
        let plots = distributions(&record, &names);
        assert_eq!(
            titles(&plots),
            [
                ("Latency distribution", 2),
                ("Latency percentiles", 2),
                ("Latency distribution by endpoint, part 1 of 2", 4),
                ("Latency percentiles by endpoint, part 1 of 2", 4),
                ("Latency distribution by endpoint, part 2 of 2", 4),
                ("Latency percentiles by endpoint, part 2 of 2", 4),
            ]
        );
        assert_eq!(plots.charts[2].lines[1].name, "a · 2");
        assert_eq!(plots.lines_left_out, 0);
        for endpoint in 0..PLOTS_MAX * LINES_MAX {
            let name = endpoint.to_string();
            let labels = labels(&[("scenario", "c"), ("endpoint", &name)]);
            record.add_latencies("latency", &labels, &latencies);
        }
        let plots = distributions(&record, &Names::of(&record));
        let plotted: usize = plots
            .charts
            .iter()
            .step_by(2)
            .map(|it| it.lines.len())
            .sum();
        assert_eq!(plots.charts.len(), PLOTS_MAX);
        assert_eq!(plotted + plots.lines_left_out, record.distributions.len());
    }

    fn add_series(record: &mut Record, scenario: &str, from: i32, to: i32) {
        for name in ["latency_p50", "latency_p99", "latency_max"] {
            record.series.push(Series {
                name: name.to_owned(),
                labels: labels(&[("scenario", scenario)]),
                unit: "ms".to_owned(),
                points: (from..=to).map(|it| (f64::from(it), 1.0)).collect(),
            });
        }
    }

    #[test]
    fn lines_over_time_have_short_names_and_scenarios_stay_whole() {
        let mut record = empty();
        let url = "GET http://127.0.0.1:8080/health";
        add_series(&mut record, url, 1, 30);
        let lines = |record: &Record| -> Vec<Vec<String>> {
            let plots = over_time(record, &Names::of(record));
            let charts = plots.charts.into_iter();
            let names = |it: Chart| it.lines.into_iter().map(|it| it.name).collect();
            charts.map(names).collect()
        };
        assert_eq!(lines(&record), [["p50", "p99", "max"]]);
        add_series(&mut record, "a", 1, 30);
        add_series(&mut record, "b", 1, 30);
        let found = lines(&record);
        assert_eq!(found[0][..2], ["p50 · GET /health", "p99 · GET /health"]);
        assert_eq!(found[1], ["p50 · b", "p99 · b", "max · b"]);
    }

    #[test]
    fn the_axis_fits_the_lines_and_windows_tell_something() {
        let mut record = empty();
        add_series(&mut record, "search", 25, 29);
        let mut memory = record.series[0].clone();
        (memory.name, memory.unit) = ("rss".to_owned(), "bytes".to_owned());
        memory.points = (1..=60).map(|it| (f64::from(it), 1.0)).collect();
        record.series.push(memory);
        record.windows.push(Window {
            name: "search".to_owned(),
            from: 24.0,
            to: 29.0,
        });
        let plots = over_time(&record, &Names::of(&record));
        let seen: Vec<_> = plots
            .charts
            .iter()
            .map(|it| (it.x.clone(), it.marks.len()))
            .collect();
        assert_eq!(
            seen,
            [(Axis::time(25.0, 29.0), 0), (Axis::time(0.0, 60.0), 1)]
        );
    }
}

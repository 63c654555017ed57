//! A run of a suite as the record that `compare`, `export` and `history` read.

use std::collections::BTreeMap;

use super::check::Checked;
use super::ledger::Ledger;
use super::model::{self, Suite};
use super::monitor::{RATE_SECONDS_MIN, is_cumulative, unit, unit_in_window};
use super::results::{Status, TestResult};
use super::variables::{Variant, words};
use crate::count::Count;
use crate::record::{
    Better, Bounds, Event, Input, Kind, Labels, Metric, POINTS_MAX, Record, Series, Start,
    ThresholdResult, Window,
};

/// Figures of a load that are kept as they are, with whether more is better.
const OF_LOADS: [(&str, Better); 9] = [
    ("items_per_second", Better::Higher),
    ("requests_per_second", Better::Higher),
    ("requests", Better::Neither),
    ("error_rate", Better::Lower),
    ("latency_avg", Better::Lower),
    ("latency_p50", Better::Lower),
    ("latency_p90", Better::Lower),
    ("latency_p99", Better::Lower),
    ("latency_max", Better::Lower),
];

pub(crate) fn record(
    suite: &Suite,
    checked: &Checked,
    results: &[TestResult],
    start: &Start,
) -> Record {
    let mut record = Record::new(Kind::Suite, suite.name.text.clone(), start);
    for (name, text) in &suite.sources {
        record.inputs.push(Input::new(name.clone(), text));
    }
    record.notes.extend(checked.notes.iter().cloned());
    for skipped in &checked.skipped {
        let note = format!("left out: {} ({})", words(&skipped.variant), skipped.why);
        record.notes.push(note);
    }
    for result in results {
        add(&mut record, result);
    }
    record.passed = results.iter().all(|it| it.status == Status::Passed) && !results.is_empty();
    record.interrupted = results.iter().any(|it| it.status == Status::Interrupted);
    record
}

/// The labels that tell a result from those of other tests and variants.
pub(crate) fn labels(test: &str, variant: &Variant) -> Labels {
    let mut labels = Labels::from([("test".to_owned(), test.to_owned())]);
    let values = variant
        .iter()
        .map(|(name, value)| (name.clone(), value.to_string()));
    labels.extend(values);
    labels
}

fn add(record: &mut Record, result: &TestResult) {
    let labels = labels(&result.test, &result.variant);
    let title = title(result);
    if let Some(ledger) = &result.ledger {
        add_ledger(record, result, ledger, &labels);
        add_per_item(record, result, ledger, &labels);
    }
    add_loads(record, result, &labels);
    add_windows(record, result, &labels, &title);
    for metric in &result.metrics {
        let better = match metric.better {
            model::Better::Higher => Better::Higher,
            model::Better::Lower => Better::Lower,
            model::Better::Neither => Better::Neither,
        };
        push(
            record,
            &metric.name,
            &metric.unit,
            better,
            &labels,
            metric.value,
        );
    }
    add_events(record, result, &title);
    for assertion in &result.assertions {
        record.thresholds.push(ThresholdResult {
            expression: format!("{title}: {}", assertion.expression),
            value: assertion.value,
            unit: assertion.unit.clone(),
            passed: assertion.passed,
            why: assertion.problem.clone().unwrap_or_default(),
        });
    }
    for (name, text) in &result.inputs {
        let input = Input::new(format!("{title}: {name}"), text);
        // Each repetition has its own ports: the first shows what was run.
        if result.repetition == 1 {
            record.inputs.push(input);
        }
    }
    if let Status::Failed(why) = &result.status {
        record.notes.push(format!("{title} failed: {why}"));
    }
    for note in &result.notes {
        record.notes.push(format!("{title}: {note}"));
    }
}

/// `test peer=rotel #2`.
pub(crate) fn title(result: &TestResult) -> String {
    let words = words(&result.variant);
    let number = format!("#{}", result.repetition);
    let parts = [result.test.as_str(), words.as_str(), number.as_str()];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// Adds a repetition's value to its metric.
fn push(record: &mut Record, name: &str, unit: &str, better: Better, labels: &Labels, value: f64) {
    push_steps(
        record,
        Metric::new(name, unit, better).labels(labels),
        value,
    );
}

/// Adds a value of what was measured in steps of the metric's resolution.
fn push_steps(record: &mut Record, metric: Metric, value: f64) {
    if !value.is_finite() {
        return;
    }
    let known = record
        .metrics
        .iter_mut()
        .find(|it| it.name == metric.name && it.labels == metric.labels);
    match known {
        Some(known) => {
            known.values.push(value);
            known.resolution = known.resolution.max(metric.resolution);
        }
        None => record.metrics.push(metric.value(value)),
    }
}

/// Seconds of CPU time that two looks at the same process may differ by: user and system time are each told in steps of 10 ms.
const CPU_RESOLUTION: f64 = 0.02;

fn add_ledger(record: &mut Record, result: &TestResult, ledger: &Ledger, labels: &Labels) {
    for (field, count) in ledger.counts() {
        let better = match field {
            "accepted" | "delivered" => Better::Higher,
            "refused" | "failed" | "unsent" | "lost" | "duplicated" => Better::Lower,
            "attempted" | "sent" | "rejected" => Better::Neither,
            // It is made of others.
            _ => continue,
        };
        // Of what is not known there is no figure; the ledger itself says so.
        if let Some(number) = count.known() {
            let name = format!("items_{field}");
            push(record, &name, "", better, labels, number as f64);
        }
    }
    for (name, unit, better, value) in [
        (
            "items_lost_percent",
            "%",
            Better::Lower,
            ledger.lost_percent(),
        ),
        (
            "items_delivered_per_second",
            "1/s",
            Better::Higher,
            ledger.delivered_per_second(),
        ),
        (
            "delivery_seconds",
            "s",
            Better::Neither,
            Some(ledger.seconds),
        ),
    ] {
        if let Some(value) = value {
            push(record, name, unit, better, labels, value);
        }
    }
    let counts = ledger.counts();
    let bounds = |(name, count): &(&str, Count)| {
        let bounds = Bounds {
            at_least: count.at_least,
            at_most: count.at_most,
        };
        count
            .known()
            .is_none()
            .then(|| ((*name).to_owned(), bounds))
    };
    record.ledgers.push(crate::record::Ledger {
        labels: labels.clone(),
        repetition: result.repetition,
        drained: ledger.complete(),
        seconds: ledger.seconds,
        items: counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), count.known()))
            .collect(),
        bounds: counts.iter().filter_map(bounds).collect(),
        unknown: match ledger.has_unknown() {
            true => ledger.whys(),
            false => Vec::new(),
        },
    });
}

/// What each component used for each item that was delivered.
fn add_per_item(record: &mut Record, result: &TestResult, ledger: &Ledger, labels: &Labels) {
    let millions = ledger.delivered_some().map(|it| it / 1e6);
    for (component, cpu, rss) in totals(result) {
        let mut labels = labels.clone();
        labels.insert("component".to_owned(), component);
        let used = |name, resolution| {
            let metric = Metric::new(name, "s", Better::Lower).labels(&labels);
            metric.resolution(resolution)
        };
        push_steps(record, used("cpu_seconds", CPU_RESOLUTION), cpu);
        push(record, "rss_max", "bytes", Better::Lower, &labels, rss);
        let (Some(millions), Some(rate)) = (millions, ledger.delivered_per_second()) else {
            continue;
        };
        let per_item = used("cpu_seconds_per_million_items", CPU_RESOLUTION / millions);
        push_steps(record, per_item, cpu / millions);
        push(
            record,
            "rss_bytes_per_item_per_second",
            "bytes",
            Better::Neither,
            &labels,
            rss / rate,
        );
    }
}

/// CPU seconds and most memory of each component over the whole test.
pub(crate) fn totals(result: &TestResult) -> Vec<(String, f64, f64)> {
    let mut totals: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for ((component, metric), points) in &result.series {
        let most = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        match metric.as_str() {
            "cpu_seconds" => totals.entry(component).or_default().0 = most,
            "rss" => totals.entry(component).or_default().1 = most,
            _ => {}
        }
    }
    let totals = totals.into_iter();
    totals
        .map(|(component, (cpu, rss))| (component.to_owned(), cpu, rss))
        .collect()
}

fn add_loads(record: &mut Record, result: &TestResult, labels: &Labels) {
    for load in &result.loads {
        let mut labels = labels.clone();
        labels.insert("load".to_owned(), load.label.clone());
        let units: BTreeMap<&str, &str> = load
            .record
            .iter()
            .flat_map(|record| &record.metrics)
            .map(|metric| (metric.name.as_str(), metric.unit.as_str()))
            .collect();
        for (name, better) in OF_LOADS {
            if let Some(value) = load.figures.get(name) {
                let unit = units.get(name).copied().unwrap_or_default();
                push(record, name, unit, better, &labels, *value);
            }
        }
        let Some(of) = &load.record else {
            continue;
        };
        let title = title(result);
        for note in &of.notes {
            record
                .notes
                .push(format!("{title}: load {}: {note}", load.label));
        }
        for threshold in &of.thresholds {
            record.thresholds.push(ThresholdResult {
                expression: format!("{title}: load {}: {}", load.label, threshold.expression),
                ..threshold.clone()
            });
        }
        for distribution in &of.distributions {
            let mut distribution = distribution.clone();
            distribution.labels.extend(labels.clone());
            if result.repetition > 1 {
                let number = result.repetition.to_string();
                distribution.labels.insert("repetition".to_owned(), number);
            }
            record.distributions.push(distribution);
        }
    }
}

fn add_windows(record: &mut Record, result: &TestResult, labels: &Labels, title: &str) {
    for window in &result.windows {
        record.windows.push(Window {
            name: format!("{title}: {}", window.name),
            from: window.from,
            to: window.to,
        });
        for resource in &window.resources {
            let mut labels = labels.clone();
            labels.insert("window".to_owned(), window.name.clone());
            labels.insert("component".to_owned(), resource.component.clone());
            let better = match resource.metric.as_str() {
                "cpu" | "rss" => Better::Lower,
                _ => Better::Neither,
            };
            for (figure, better, value) in [
                ("min", Better::Neither, resource.min),
                ("avg", better, resource.avg),
                ("max", Better::Neither, resource.max),
            ] {
                let name = format!("{}_{figure}", resource.metric);
                let unit = unit_in_window(&resource.metric, figure);
                let metric = Metric::new(name, unit, better).labels(&labels);
                let resolution = match resource.metric.as_str() {
                    "cpu" => CPU_RESOLUTION / (window.to - window.from).max(RATE_SECONDS_MIN),
                    _ => 0.0,
                };
                push_steps(record, metric.resolution(resolution), value);
            }
        }
    }
}

fn add_events(record: &mut Record, result: &TestResult, title: &str) {
    for event in &result.events {
        record.events.push(Event {
            at: event.at,
            name: format!("{title}: {}", event.name),
            detail: event.detail.clone(),
        });
    }
    for ((component, metric), points) in &result.series {
        // A page with a plot for each of hundreds of scraped metrics helps nobody; the windows have them.
        let is_of_process =
            is_cumulative(metric) || !unit(metric).is_empty() || metric == "threads";
        if !is_of_process {
            continue;
        }
        let mut labels = labels(&result.test, &result.variant);
        labels.insert("component".to_owned(), component.clone());
        labels.insert("repetition".to_owned(), result.repetition.to_string());
        let (name, points) = match metric.as_str() {
            "cpu_seconds" => ("cpu", as_rates(points)),
            other => (other, points.clone()),
        };
        record.series.push(Series {
            name: name.to_owned(),
            labels,
            unit: unit(name).to_owned(),
            points: thinned(points),
        });
    }
}

fn as_rates(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let pairs = points.iter().zip(points.iter().skip(1));
    let rates = pairs.map(|(one, other)| (other.0, (other.1 - one.1) / (other.0 - one.0)));
    rates.filter(|(_, rate)| rate.is_finite()).collect()
}

fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    points.into_iter().step_by(every).collect()
}

//! What metrics, labels and lines are called on the page.

use std::collections::BTreeSet;

use crate::record::{Labels, Record};

/// Figures of a distribution, as [`Record::add_latencies`] names them, and what they are called.
pub(super) const FIGURES: [(&str, &str); 8] = [
    ("avg", "average"),
    ("min", "min"),
    ("p50", "p50"),
    ("p90", "p90"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("p999", "p99.9"),
    ("max", "max"),
];
/// Metrics whose names say too little to somebody who sees them for the first time, or what the unit says too.
const TITLES: [(&str, &str); 6] = [
    ("breakpoint", "Highest rate held"),
    ("checks", "Checks passed"),
    ("dropped", "Dropped"),
    ("items_per_second", "Items"),
    ("requests_per_second", "Requests"),
    ("rss_max", "Memory"),
];
/// Left out where they have one value only: it is said of everything on the page.
const OF_WHOLE_RUN: [&str; 3] = ["scenario", "test", "repetition"];
/// The first ones of a subject, in this order.
const FIRST: [&str; 2] = ["test", "scenario"];
/// Labels whose values are names that need no key beside them.
const NAMES: [&str; 7] = [
    "component",
    "endpoint",
    "load",
    "process",
    "scenario",
    "test",
    "window",
];
/// Labels that tell the values of one subject apart.
const OF_VALUES: [&str; 2] = ["cause", "status"];
const SEPARATOR: &str = " · ";

/// What the labels of one record are called.
pub(super) struct Names {
    left_out: Vec<&'static str>,
}

impl Names {
    pub(super) fn of(record: &Record) -> Self {
        let of_metrics = record.metrics.iter().map(|it| &it.labels);
        let of_distributions = record.distributions.iter().map(|it| &it.labels);
        let of_series = record.series.iter().map(|it| &it.labels);
        let all: Vec<_> = of_metrics
            .chain(of_distributions)
            .chain(of_series)
            .collect();
        let is_same = |key: &&str| {
            let values: BTreeSet<_> = all.iter().filter_map(|it| it.get(*key)).collect();
            values.len() < 2
        };
        Self {
            left_out: OF_WHOLE_RUN.into_iter().filter(is_same).collect(),
        }
    }

    /// What was measured: `customers · order`; empty for the whole run.
    pub(super) fn subject(&self, labels: &Labels) -> String {
        joined(labels, |key| {
            !OF_VALUES.contains(&key) && !self.left_out.contains(&key)
        })
    }

    /// All that tells a line from the others of its plot.
    pub(super) fn line(&self, labels: &Labels) -> String {
        joined(labels, |key| !self.left_out.contains(&key))
    }
}

/// All labels, also those that are the same everywhere.
pub(super) fn all(labels: &Labels) -> String {
    joined(labels, |_| true)
}

/// What tells a value from others of the same metric and subject: `status=503`.
pub(super) fn of_value(labels: &Labels) -> String {
    joined(labels, |key| OF_VALUES.contains(&key))
}

/// The labels without those of [`of_value`].
pub(super) fn without_values(labels: &Labels) -> Labels {
    let mut labels = labels.clone();
    labels.retain(|key, _| !OF_VALUES.contains(&key.as_str()));
    labels
}

fn joined(labels: &Labels, is_told: impl Fn(&str) -> bool) -> String {
    let mut told: Vec<_> = labels.iter().filter(|(key, _)| is_told(key)).collect();
    let rank = |key: &str| FIRST.iter().position(|it| *it == key);
    told.sort_by_key(|(key, _)| rank(key).unwrap_or(FIRST.len()));
    let told = told.into_iter().map(|(key, value)| {
        let value = short(value);
        match NAMES.contains(&key.as_str()) {
            true => value,
            false => format!("{key}={value}"),
        }
    });
    told.collect::<Vec<_>>().join(SEPARATOR)
}

/// `GET /health` for `GET http://127.0.0.1:8080/health`, as a run without scenario file is named.
pub(super) fn short(name: &str) -> String {
    let whole = || name.to_owned();
    let Some((before, after)) = name.split_once("://") else {
        return whole();
    };
    let (Some((method, _)), Some((_, path))) = (before.split_once(' '), after.split_once('/'))
    else {
        return whole();
    };
    format!("{method} /{path}")
}

/// `Requests per second`, `Latency p99.9`.
pub(super) fn spaced(name: &str) -> String {
    let mut text = name.replace('_', " ").replace("p999", "p99.9");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// [`spaced`], or what [`TITLES`] say, beside a value with its unit.
pub(super) fn title(name: &str) -> String {
    let known = TITLES.iter().find(|(known, _)| *known == name);
    known.map_or_else(|| spaced(name), |(_, title)| (*title).to_owned())
}

/// `p99` for `latency_p99`; `None` of what is no figure of a distribution.
pub(super) fn figure(name: &str) -> Option<&'static str> {
    let (_, figure) = name.rsplit_once('_')?;
    let known = FIGURES.iter().find(|(known, _)| *known == figure);
    known.map(|(_, title)| *title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{labels, record};
    use crate::record::{Better, Metric};

    #[test]
    fn a_url_loses_its_host() {
        let check = |name: &str, expected: &str| assert_eq!(short(name), expected);
        check("GET http://127.0.0.1:28080/order?x=1", "GET /order?x=1");
        check("GET http://127.0.0.1:28080", "GET http://127.0.0.1:28080");
        check("http://127.0.0.1/a", "http://127.0.0.1/a");
        check("customers", "customers");
    }

    #[test]
    fn a_label_is_told_where_it_tells_something_apart() {
        let mut record = record();
        let mut add = |scenario| {
            let labels = labels(&[("scenario", scenario), ("endpoint", "order")]);
            record
                .metrics
                .push(Metric::new("requests", "", Better::Neither).labels(&labels));
            Names::of(&record)
        };
        let one = add("customers");
        let two = add("readers");
        let check = |names: &Names, pairs: &[(&str, &str)], expected: &str| {
            assert_eq!(names.subject(&labels(pairs)), expected);
        };
        let endpoint = [("endpoint", "order"), ("scenario", "customers")];
        check(&one, &endpoint, "order");
        check(&two, &endpoint, "customers · order");
        check(&one, &[("scenario", "customers"), ("status", "200")], "");
        check(
            &one,
            &[("peer", "rotel"), ("load", "main")],
            "main · peer=rotel",
        );
    }
}

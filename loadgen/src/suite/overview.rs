//! One table over several suites: a row for each test and variant.

use super::results::{LoadResult, Status, TestResult};
use super::to_record::totals;
use super::variables::words;
use crate::count::Count;
use crate::record::figures::median;
use crate::text::{Table, bytes, grouped};

/// The component that is measured, as the suites call it.
const AGENT: &str = "agent";
/// The load that is measured, where there are several.
const MAIN: &str = "main";
const HEAD: [&str; 10] = [
    "suite",
    "test",
    "variant",
    "items/s",
    "CPU s/million",
    "p99 ms",
    "RSS",
    "lost",
    "duplicated",
    "verdict",
];
/// Where there is no figure.
const NONE: &str = "-";
/// Where there should be one.
const UNKNOWN: &str = "unknown";

/// Suites that have run, and what came of them.
pub(crate) struct Overview {
    rows: Vec<[String; HEAD.len()]>,
}

impl Overview {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row for each test and variant, with the medians of its repetitions.
    pub(crate) fn add(&mut self, suite: &str, results: &[TestResult]) {
        let mut groups: Vec<Vec<&TestResult>> = Vec::new();
        for result in results {
            let is_same = |group: &&mut Vec<&TestResult>| {
                group
                    .first()
                    .is_some_and(|it| it.test == result.test && it.variant == result.variant)
            };
            match groups.iter_mut().find(is_same) {
                Some(group) => group.push(result),
                None => groups.push(vec![result]),
            }
        }
        self.rows
            .extend(groups.iter().map(|group| row(suite, group)));
    }

    pub(crate) fn render(&self) -> String {
        let mut table = Table::new(&HEAD);
        for row in &self.rows {
            table.push(row.to_vec());
        }
        table.render()
    }
}

fn row(suite: &str, group: &[&TestResult]) -> [String; HEAD.len()] {
    let middle = |figure: fn(&TestResult) -> Option<f64>| {
        let values: Vec<f64> = group.iter().filter_map(|it| figure(it)).collect();
        median(&values)
    };
    let shown =
        |figure: Option<f64>, show: fn(f64) -> String| figure.map_or_else(|| NONE.to_owned(), show);
    let is_unknown = |it: &&TestResult| main_load(it).is_some_and(|load| load.unknown.is_some());
    let of_load = |figure: Option<f64>, show| match figure {
        None if group.iter().any(is_unknown) => UNKNOWN.to_owned(),
        figure => shown(figure, show),
    };
    let ledgers = || group.iter().filter_map(|it| it.ledger.as_ref());
    let count = |sum: Count| match ledgers().next() {
        Some(_) => sum.shown(),
        None => NONE.to_owned(),
    };
    let (test, variant) = group
        .first()
        .map(|it| (it.test.clone(), words(&it.variant)))
        .unwrap_or_default();
    [
        suite.to_owned(),
        test,
        variant,
        of_load(middle(rate), |it| grouped(it as u64)),
        shown(middle(cpu_per_million), |it| format!("{it:.3}")),
        of_load(middle(latency), |it| format!("{it:.2}")),
        shown(middle(memory), |it| bytes(it as u64)),
        count(ledgers().map(|it| it.lost()).sum()),
        count(ledgers().map(|it| it.duplicated()).sum()),
        verdict(group).to_owned(),
    ]
}

/// The worst of the repetitions.
fn verdict(group: &[&TestResult]) -> &'static str {
    let rank = |status: &Status| match status {
        Status::Passed => 0,
        Status::Crossed => 1,
        Status::Unknown => 2,
        Status::Interrupted => 3,
        Status::Failed(_) => 4,
    };
    let worst = group.iter().map(|it| &it.status).max_by_key(|it| rank(it));
    worst.map_or(NONE, Status::name)
}

fn main_load(result: &TestResult) -> Option<&LoadResult> {
    let named = result.loads.iter().find(|it| it.label == MAIN);
    named.or_else(|| result.loads.last())
}

/// Items that were accepted in a second of the load.
fn rate(result: &TestResult) -> Option<f64> {
    main_load(result)?.figures.get("items_per_second").copied()
}

fn latency(result: &TestResult) -> Option<f64> {
    main_load(result)?.figures.get("latency_p99").copied()
}

/// Over the whole test: also what starting, warming up and draining cost.
fn cpu_per_million(result: &TestResult) -> Option<f64> {
    let delivered = result.ledger.as_ref()?.delivered_some()?;
    let (cpu, _) = used_by_agent(result)?;
    Some(cpu / (delivered / 1e6))
}

fn memory(result: &TestResult) -> Option<f64> {
    used_by_agent(result).map(|(_, memory)| memory)
}

/// CPU seconds and most memory.
fn used_by_agent(result: &TestResult) -> Option<(f64, f64)> {
    let mut totals = totals(result).into_iter();
    totals.find_map(|(name, cpu, memory)| (name == AGENT).then_some((cpu, memory)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::ledger::Ledger;
    use super::super::variables::Variant;
    use super::*;

    fn result(repetition: u32, cpu: f64, delivered: u64, status: Status) -> TestResult {
        let mut result = TestResult::new("steady".to_owned(), Variant::new(), repetition, 0.0);
        let load = |label: &str, rate: f64| LoadResult {
            label: label.to_owned(),
            figures: BTreeMap::from([
                ("items_per_second".to_owned(), rate),
                ("latency_p99".to_owned(), 2.5),
            ]),
            record: None,
            counts_items: true,
            unknown: None,
            progress: None,
            began: 0.0,
            has_crossed: false,
        };
        result.loads = vec![load("main", 1234.5), load("after", 1.0)];
        let key = |metric: &str| (AGENT.to_owned(), metric.to_owned());
        result.series = BTreeMap::from([
            (key("cpu_seconds"), vec![(1.0, cpu)]),
            (key("rss"), vec![(1.0, 2048.0), (2.0, 1024.0)]),
        ]);
        result.ledger = Some(Ledger {
            accepted: Count::of(1_000_000),
            delivered: Count::of(delivered),
            ..Ledger::default()
        });
        result.status = status;
        result
    }

    #[test]
    fn a_row_has_medians_sums_and_the_worst_verdict() {
        let mut overview = Overview::new();
        overview.add(
            "small",
            &[
                result(1, 1.0, 1_000_000, Status::Passed),
                result(2, 3.0, 1_000_000, Status::Crossed),
                result(3, 2.0, 999_990, Status::Passed),
            ],
        );
        overview.add(
            "idle",
            &[TestResult::new("idle".to_owned(), Variant::new(), 1, 0.0)],
        );
        let mut killed = result(1, 1.0, 0, Status::Unknown);
        for load in &mut killed.loads {
            load.figures.clear();
            load.unknown = Some("it was killed".to_owned());
        }
        killed.ledger = Some(Ledger {
            not_drained: Some("the test failed before".to_owned()),
            ..killed.ledger.unwrap()
        });
        overview.add("cut", &[killed]);
        let text = overview.render();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|it| it.split_whitespace().collect())
            .collect();
        let expected = [
            "small", "steady", "1,234", "2.000", "2.50", "2.0", "KiB", "10", "0", "limit",
            "crossed",
        ];
        assert_eq!(rows[1], expected, "{text}");
        let expected = ["idle", "idle", "-", "-", "-", "-", "-", "-", "passed"];
        assert_eq!(rows[2], expected, "{text}");
        let expected = [
            "cut",
            "steady",
            "unknown",
            "-",
            "unknown",
            "2.0",
            "KiB",
            "unknown(<=1,000,000)",
            "unknown",
            "unknown",
        ];
        assert_eq!(rows[3], expected, "{text}");
    }
}

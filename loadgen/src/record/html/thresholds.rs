//! What was to hold, and what was measured.

use maud::{Markup, html};

use super::tables::{figure, table};
use crate::record::figures::shown;
use crate::record::{Better, Metric, Record, ThresholdResult};

/// Subjects of thresholds that are no metrics of the record by that name, with the metrics that are read alike.
const ALIKE: [(&str, &str, &str); 3] = [
    ("throughput", "requests_per_second", "1/s"),
    ("failed and unsent requests", "error_rate", ""),
    // The metric is in seconds, and the threshold's value in milliseconds.
    ("recovery", "recovery", "ms"),
];

pub(super) fn section(record: &Record) -> Markup {
    html! {
        @if !record.thresholds.is_empty() {
            h2 { "Thresholds" }
            (table("thresholds", html! {
                tr { th { "Expression" } th.value { "Measured" } th { "Result" } }
                @for threshold in &record.thresholds {
                    tr {
                        td { (expression(&threshold.expression)) }
                        td.value { (measured(record, threshold)) }
                        @if threshold.passed { td.good { "held" } } @else { td.bad { "crossed" } }
                    }
                }
            }))
        }
    }
}

/// It may be broken before its labels: on a phone it would push the result off the screen.
fn expression(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('{').enumerate() {
            @if index > 0 { wbr; "{" }
            (part)
        }
    }
}

fn measured(record: &Record, threshold: &ThresholdResult) -> String {
    let Some(value) = threshold.value else {
        return "nothing".to_owned();
    };
    match metric(record, &threshold.expression) {
        Some(metric) => figure(&metric, value),
        None => shown(value, ""),
    }
}

/// The metric that the left side of a threshold names, with or without labels: `latency_p99{endpoint=order} < 1s`, or
/// with what it is of before it: `outage #1: load.main.latency_p99 < 50`, `window.load.agent.rss.max < 9`.
fn metric(record: &Record, expression: &str) -> Option<Metric> {
    let (left, _) = expression.split_once('{').unwrap_or((expression, ""));
    let (_, left) = left.rsplit_once(": ").unwrap_or(("", left));
    let left = left.split(['<', '>', '=', '!']).next()?.trim();
    let mut parts = left.rsplit('.');
    let last = parts.next()?;
    let of_window = parts.next().map(|it| format!("{it}_{last}"));
    let mut names = [Some(last.to_owned()), of_window].into_iter().flatten();
    names.find_map(|name| {
        let alike = ALIKE.iter().find(|(known, ..)| *known == name);
        let alike = alike.map(|(_, name, unit)| Metric::new(*name, unit, Better::Neither));
        alike.or_else(|| record.metrics.iter().find(|it| it.name == name).cloned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn values_have_the_unit_of_what_they_are_of() {
        let mut record = record();
        for (name, unit) in [
            ("goodput", "1/s"),
            ("checks", ""),
            ("rss_max", "bytes"),
            ("error_rate", ""),
        ] {
            record
                .metrics
                .push(Metric::new(name, unit, Better::Neither));
        }
        let check = |expression: &str, value: f64, expected: &str| {
            let threshold = ThresholdResult {
                expression: expression.to_owned(),
                value: Some(value),
                passed: true,
            };
            assert_eq!(measured(&record, &threshold), expected, "{expression}");
        };
        check("latency_p99{scenario=readers} < 250ms", 25.231, "25.23 ms");
        check("latency_p99{scenario=GET http://a:1/b} < 1s", 2.5, "2.5 ms");
        check("latency_p99{scenario=first: a} < 1s", 2.5, "2.5 ms");
        check("checks > 99%", 1.0, "100 %");
        check("error_rate<1%", 0.0125, "1.25 %");
        check("throughput >= 100", 123.456, "123.5/s");
        check("goodput > 3", 4.0, "4/s");
        check("recovery < 5s", 1500.0, "1,500 ms");
        check("failed and unsent requests <= 0.01", 0.005, "0.5 %");
        check("steady #1: load.main.latency_p99 < limit", 24.8, "24.8 ms");
        check(
            "slow #1: window.load.agent.rss.max < 2 * MiB",
            1536.0,
            "1.5 KiB",
        );
        check("slow #1: ledger.lost == 0", 3.0, "3");
        let threshold = ThresholdResult {
            expression: "checks > 1%".to_owned(),
            value: None,
            passed: false,
        };
        assert_eq!(measured(&record, &threshold), "nothing");
    }
}

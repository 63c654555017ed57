//! What most readers look for first: a row of tiles for the run, and one for each scenario if there are several.

use maud::{Markup, html};

use super::names::{Names, title};
use super::tables::middle;
use crate::record::figures::median;
use crate::record::{Better, Labels, Metric, Record};

/// In this order, as far as a record has it.
const HEADLINES: [&str; 16] = [
    "breakpoint",
    "items_per_second",
    "requests_per_second",
    "iterations_per_second",
    "latency_p50",
    "latency_p99",
    "latency_max",
    "error_rate",
    "checks",
    "items_lost",
    "items_duplicated",
    "dropped",
    "recovery",
    "cpu_seconds_per_million_items",
    "rss_max",
    "requests_unsent",
];
const TILES_MAX: usize = 8;
/// Rows of scenarios; the tables have the rest.
const ROWS_MAX: usize = 8;
const SCENARIO: &str = "scenario";

pub(super) fn markup(record: &Record, names: &Names) -> Markup {
    let scenarios = scenarios(record);
    let of_run = |labels: &Labels| labels.keys().all(|key| key == "process");
    if let [] | [_] = scenarios.as_slice() {
        let of_one = |labels: &Labels| labels.keys().all(|key| key == "process" || key == SCENARIO);
        return row("", &found(&record.metrics, of_one));
    }
    let sums = sums(record, scenarios.len());
    let of_all = found(&record.metrics, of_run);
    let of_all: Vec<_> = sums.iter().chain(of_all).collect();
    let rows = scenarios.iter().take(ROWS_MAX).map(|labels| {
        let metrics = found(&record.metrics, |it| it == *labels);
        row(&names.subject(labels), &metrics)
    });
    html! {
        (row("All scenarios", &of_all))
        @for row in rows { (row) }
        @if scenarios.len() > ROWS_MAX {
            p.lead { (scenarios.len() - ROWS_MAX) " more scenarios: see the tables below." }
        }
    }
}

/// The labels of each scenario, in the order of the record.
fn scenarios(record: &Record) -> Vec<&Labels> {
    let mut found: Vec<&Labels> = Vec::new();
    for labels in record.metrics.iter().map(|it| &it.labels) {
        if labels.keys().eq([SCENARIO]) && !found.contains(&labels) {
            found.push(labels);
        }
    }
    found
}

fn found(metrics: &[Metric], is_meant: impl Fn(&Labels) -> bool) -> Vec<&Metric> {
    let found = HEADLINES.iter().flat_map(|name| {
        let named = metrics.iter().filter(move |it| it.name == *name);
        named.filter(|it| is_meant(&it.labels))
    });
    found.take(TILES_MAX).collect()
}

/// What can be added up: requests over the time from the first window to the last, and the errors among them.
/// Percentiles and shares of checks cannot.
fn sums(record: &Record, scenarios: usize) -> Vec<Metric> {
    let sum = |name: &str| {
        let named = record.metrics.iter().filter(|it| it.name == name);
        let of_scenarios = named.filter(|it| it.labels.keys().eq([SCENARIO]));
        let values: Vec<_> = of_scenarios.filter_map(|it| median(&it.values)).collect();
        (values.len() == scenarios).then(|| values.iter().sum::<f64>())
    };
    let (Some(requests), Some(errors)) = (sum("requests"), sum("errors")) else {
        return Vec::new();
    };
    let from = record.windows.iter().map(|it| it.from).reduce(f64::min);
    let to = record.windows.iter().map(|it| it.to).reduce(f64::max);
    let seconds = to.unwrap_or(0.0) - from.unwrap_or(0.0);
    // Shares of nothing are no numbers, and left out.
    vec![
        Metric::new("requests_per_second", "1/s", Better::Higher).value(requests / seconds),
        Metric::new("error_rate", "", Better::Lower).value(errors / requests),
    ]
}

fn row(name: &str, metrics: &[&Metric]) -> Markup {
    html! {
        @if !metrics.is_empty() {
            @if !name.is_empty() { h3 { (name) } }
            ul.tiles {
                @for metric in metrics {
                    li {
                        small {
                            (title(&metric.name))
                            @if let Some(process) = metric.labels.get("process") { " (" (process) ")" }
                        }
                        b { (value(metric)) }
                    }
                }
            }
        }
    }
}

fn value(metric: &Metric) -> String {
    match median(&metric.values) {
        // The search found no rate that kept the thresholds.
        Some(0.0) if metric.name == "breakpoint" => "none".to_owned(),
        Some(value) => metric.shown(value),
        None => middle(metric),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::record::{Better, Window};

    fn http_run(scenarios: &[&str]) -> Record {
        let mut record = record();
        (record.metrics, record.windows) = (Vec::new(), Vec::new());
        for (index, name) in scenarios.iter().enumerate() {
            let labels = Labels::from([(SCENARIO.to_owned(), (*name).to_owned())]);
            let mut endpoint = labels.clone();
            endpoint.insert("endpoint".to_owned(), "order".to_owned());
            let mut push = |name: &str, unit: &str, value: f64| {
                let metric = Metric::new(name, unit, Better::Neither);
                let of_endpoint = metric.clone().labels(&endpoint).value(value + 7000.0);
                record.metrics.push(metric.labels(&labels).value(value));
                record.metrics.push(of_endpoint);
            };
            push("requests", "", 100.0);
            push("errors", "", index as f64);
            push("error_rate", "", index as f64 / 100.0);
            push("requests_per_second", "1/s", 100.0 / (index as f64 + 1.0));
            push("latency_p99", "ms", 12.5 + index as f64);
            push("checks", "", 0.995);
            record.windows.push(Window {
                name: (*name).to_owned(),
                from: 1.0,
                to: 2.0 + index as f64,
            });
        }
        record
    }

    /// Names of rows and tiles, and the values of tiles.
    fn texts(record: &Record) -> Vec<String> {
        let page = markup(record, &Names::of(record)).into_string();
        let parts = page.split(['<', '>']);
        let texts = parts.enumerate().filter(|(index, _)| index % 2 == 0);
        let texts = texts.map(|(_, text)| text.trim().to_owned());
        texts.filter(|text| !text.is_empty()).collect()
    }

    #[test]
    fn a_scenario_alone_has_the_headline() {
        assert_eq!(
            texts(&http_run(&["customers"])),
            [
                "Requests",
                "100/s",
                "Latency p99",
                "12.5 ms",
                "Error rate",
                "0 %",
                "Checks passed",
                "99.5 %"
            ]
        );
    }

    #[test]
    fn several_scenarios_have_a_row_each_and_a_sum() {
        assert_eq!(
            texts(&http_run(&["customers", "readers"])),
            [
                "All scenarios",
                "Requests",
                "100/s",
                "Error rate",
                "0.5 %",
                "customers",
                "Requests",
                "100/s",
                "Latency p99",
                "12.5 ms",
                "Error rate",
                "0 %",
                "Checks passed",
                "99.5 %",
                "readers",
                "Requests",
                "50/s",
                "Latency p99",
                "13.5 ms",
                "Error rate",
                "1 %",
                "Checks passed",
                "99.5 %"
            ]
        );
    }

    #[test]
    fn the_rate_found_stands_first() {
        let mut run = http_run(&["search"]);
        let found = Metric::new("breakpoint", "1/s", Better::Higher);
        run.metrics.push(found.clone().value(800.0));
        assert_eq!(texts(&run)[..2], ["Highest rate held", "800/s"]);
        run.metrics.pop();
        run.metrics.push(found.value(0.0));
        assert_eq!(texts(&run)[1], "none");
    }
}

//! The report of a run for people: what became of the items, what was used, what did not hold.

use super::ledger::Ledger;
use super::results::{Answer, Status, TestResult};
use super::to_record::{title, totals};
use super::variables::words;
use crate::compare::Comparison;
use crate::count::Count;
use crate::record::figures::median;
use crate::record::{Metric, Record};
use crate::text::{Table, bytes, grouped};

/// Scraped metrics are in the record; here only what a process uses.
const SHOWN: [&str; 6] = [
    "cpu",
    "rss",
    "threads",
    "files",
    "disk_read",
    "disk_written",
];

/// How a test ended, in a few words.
pub(crate) fn verdict(result: &TestResult) -> String {
    let mut text = result.status.name().to_owned();
    if let Some(ledger) = &result.ledger {
        let counts = format!(
            " sent={} accepted={} delivered={} lost={} duplicated={}",
            ledger.sent,
            ledger.accepted,
            ledger.delivered,
            ledger.lost(),
            ledger.duplicated(),
        );
        text.push_str(&counts);
    }
    text
}

/// How tables and titles look.
trait Style {
    fn title(&self, text: &mut String, title: &str);
    fn table(&self, text: &mut String, rows: Vec<Vec<String>>);
    fn code(&self, text: &mut String, code: &str);
}

struct Console;

struct Markdown;

impl Style for Console {
    fn title(&self, text: &mut String, title: &str) {
        line(text, &format!("\n== {title}"));
    }

    fn table(&self, text: &mut String, rows: Vec<Vec<String>>) {
        let mut rows = rows.into_iter();
        let head = rows.next().unwrap_or_default();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let mut table = Table::new(&head);
        rows.for_each(|row| table.push(row));
        text.push_str(&table.render());
    }

    fn code(&self, text: &mut String, code: &str) {
        for shown in code.lines() {
            line(text, &format!("  {shown}"));
        }
    }
}

impl Style for Markdown {
    fn title(&self, text: &mut String, title: &str) {
        line(text, &format!("\n## {title}\n"));
    }

    fn table(&self, text: &mut String, rows: Vec<Vec<String>>) {
        for (at, row) in rows.iter().enumerate() {
            let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            line(text, &format!("| {} |", cells.join(" | ")));
            if at == 0 {
                line(text, &format!("|{}", " --- |".repeat(row.len())));
            }
        }
    }

    fn code(&self, text: &mut String, code: &str) {
        line(text, &format!("```text\n{code}\n```"));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

pub(crate) fn console(
    record: &Record,
    results: &[TestResult],
    comparison: Option<&Comparison>,
    counts: &str,
) -> String {
    let mut text = String::new();
    body(&mut text, &Console, record, results, comparison);
    summary(&mut text, record, results, counts);
    text
}

pub(crate) fn markdown(
    record: &Record,
    results: &[TestResult],
    comparison: Option<&Comparison>,
    counts: &str,
) -> String {
    let mut text = format!("# {}\n\n", record.name);
    summary(&mut text, record, results, counts);
    body(&mut text, &Markdown, record, results, comparison);
    Markdown.title(&mut text, "Where");
    Markdown.code(&mut text, &environment(record));
    for input in &record.inputs {
        Markdown.title(&mut text, &input.name);
        Markdown.code(&mut text, &input.text);
    }
    text
}

fn environment(record: &Record) -> String {
    serde_json::to_string_pretty(&record.environment).unwrap_or_default()
}

fn body(
    text: &mut String,
    style: &dyn Style,
    record: &Record,
    results: &[TestResult],
    comparison: Option<&Comparison>,
) {
    style.title(text, "pipeline_perf_report");
    style.table(text, ledgers(results));
    let rates = rates(results);
    if rates.len() > 1 {
        style.title(text, "Rates and latency");
        style.table(text, rates);
    }
    let used = per_item(results);
    if used.len() > 1 {
        style.title(text, "What each component used over the whole test");
        style.table(text, used);
    }
    let resources = resources(results);
    if resources.len() > 1 {
        style.title(text, "process_report: what was used in each window");
        style.table(text, resources);
    }
    let own = own_metrics(results);
    if own.len() > 1 {
        style.title(text, "Figures of the suite");
        style.table(text, own);
    }
    for (result, answer) in results.iter().flat_map(answers) {
        style.title(text, &format!("{}: {}", title(result), answer.title));
        style.table(text, answer.rows.clone());
    }
    if results.iter().any(|it| it.repetition > 1) {
        style.title(text, "Median and spread of the repetitions");
        style.table(text, spreads(record));
    }
    if let Some(comparison) = comparison {
        style.title(text, "Compared with the baseline");
        style.code(text, comparison.to_string().trim_end());
    }
    if !record.thresholds.is_empty() {
        style.title(text, "What had to hold");
        style.table(text, thresholds(record));
    }
    for result in results {
        if let Status::Failed(why) = &result.status {
            style.title(text, &format!("{} failed", title(result)));
            style.code(text, why);
        }
    }
    style.title(text, "test_report: when what was done");
    style.table(text, steps(results));
    if !record.notes.is_empty() {
        style.title(text, "To know");
        for note in &record.notes {
            line(
                text,
                &format!("- {}", note.lines().next().unwrap_or_default()),
            );
        }
    }
}

/// The last lines: one for each test and the whole.
fn summary(text: &mut String, record: &Record, results: &[TestResult], counts: &str) {
    text.push('\n');
    for result in results {
        line(text, &format!("{}: {}", title(result), verdict(result)));
    }
    let word = match (record.interrupted, record.passed) {
        (true, _) => "INTERRUPTED",
        (_, true) => "OK",
        (_, false) => "FAILED",
    };
    let last = format!("{}: {word} {counts}", record.name);
    let problem = problem(record, results).filter(|_| !record.passed);
    let problem = problem.map(|it| format!("; {it}"));
    line(
        text,
        &(last.trim_end().to_owned() + &problem.unwrap_or_default()),
    );
}

/// The first thing that went wrong, in a line.
fn problem(record: &Record, results: &[TestResult]) -> Option<String> {
    let failed = results.iter().find_map(|it| match &it.status {
        Status::Failed(why) => why.lines().next(),
        _ => None,
    });
    let crossed = record.thresholds.iter().find(|it| !it.passed);
    let crossed = crossed.map(|it| match it.why.as_str() {
        "" => format!("did not hold: {}", it.expression),
        why => format!("nobody knows whether it held: {}: {why}", it.expression),
    });
    failed.map(str::to_owned).or(crossed)
}

fn answers(result: &TestResult) -> impl Iterator<Item = (&TestResult, &Answer)> {
    result.tables.iter().map(move |answer| (result, answer))
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

/// Test, variant and repetition, in this order.
fn who(result: &TestResult) -> [String; 3] {
    [
        result.test.clone(),
        words(&result.variant),
        result.repetition.to_string(),
    ]
}

fn ledgers(results: &[TestResult]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "test",
        "variant",
        "#",
        "status",
        "duration s",
        "attempted",
        "sent",
        "accepted",
        "refused",
        "failed",
        "unsent",
        "delivered",
        "lost",
        "lost %",
        "twice",
        "delivered/s",
    ])];
    for result in results {
        let mut cells = who(result).to_vec();
        cells.push(result.status.name().to_owned());
        match &result.ledger {
            Some(ledger) => {
                cells.push(format!("{:.2}", ledger.seconds));
                let counts = [
                    ledger.attempted(),
                    ledger.sent,
                    ledger.accepted,
                    ledger.refused,
                    ledger.failed,
                    ledger.unsent,
                    ledger.delivered,
                    ledger.lost(),
                ];
                cells.extend(counts.map(Count::shown));
                let percent = ledger.lost_percent().map(|it| format!("{it:.3}"));
                cells.push(percent.unwrap_or_else(unknown));
                cells.push(ledger.duplicated().shown());
                let rate = ledger.delivered_per_second();
                cells.push(rate.map_or_else(unknown, |it| grouped(it as u64)));
            }
            None => {
                cells.push(format!("{:.2}", result.to - result.from));
                cells.extend(std::iter::repeat_n("-".to_owned(), 11));
            }
        }
        rows.push(cells);
    }
    rows
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn rates(results: &[TestResult]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "test",
        "variant",
        "#",
        "load",
        "items/s",
        "requests/s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
    ])];
    for result in results {
        for load in &result.loads {
            let figure = |name: &str, digits: usize| match load.figures.get(name) {
                Some(value) if digits == 0 => grouped(value.max(0.0) as u64),
                Some(value) => format!("{value:.digits$}"),
                None if load.unknown.is_some() => unknown(),
                None => "-".to_owned(),
            };
            let mut cells = who(result).to_vec();
            cells.push(load.label.clone());
            cells.extend([
                figure("items_per_second", 0),
                figure("requests_per_second", 0),
            ]);
            for name in ["p50", "p90", "p99", "p999", "max"] {
                cells.push(figure(&format!("latency_{name}"), 2));
            }
            rows.push(cells);
        }
    }
    rows
}

fn per_item(results: &[TestResult]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "test",
        "variant",
        "#",
        "component",
        "CPU s",
        "CPU s/million",
        "most memory",
        "bytes per item/s",
    ])];
    for result in results {
        for (component, cpu, rss) in totals(result) {
            let mut cells = who(result).to_vec();
            cells.extend([component, format!("{cpu:.2}")]);
            let ledger = result.ledger.as_ref();
            let delivered = ledger.and_then(Ledger::delivered_some);
            match delivered.zip(ledger.and_then(Ledger::delivered_per_second)) {
                Some((delivered, rate)) => {
                    cells.push(format!("{:.3}", cpu / (delivered / 1e6)));
                    cells.push(bytes(rss as u64));
                    cells.push(grouped((rss / rate) as u64));
                }
                None => cells.extend(["-".to_owned(), bytes(rss as u64), "-".to_owned()]),
            }
            rows.push(cells);
        }
    }
    rows
}

fn resources(results: &[TestResult]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "test",
        "variant",
        "#",
        "window",
        "s",
        "component",
        "resource",
        "min",
        "avg",
        "max",
    ])];
    for result in results {
        for window in &result.windows {
            let used = window.resources.iter();
            for resource in used.filter(|it| SHOWN.contains(&it.metric.as_str())) {
                let mut cells = who(result).to_vec();
                cells.extend([
                    window.name.clone(),
                    format!("{:.2}", window.to - window.from),
                    resource.component.clone(),
                    resource.metric.clone(),
                ]);
                let values = [resource.min, resource.avg, resource.max];
                cells.extend(values.map(|value| amount(&resource.metric, value)));
                rows.push(cells);
            }
        }
    }
    rows
}

fn amount(metric: &str, value: f64) -> String {
    match metric {
        "cpu" => format!("{value:.3} cores"),
        "rss" => bytes(value.max(0.0) as u64),
        "disk_read" | "disk_written" => format!("{}/s", bytes(value.max(0.0) as u64)),
        _ => format!("{value:.0}"),
    }
}

fn own_metrics(results: &[TestResult]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["test", "variant", "#", "figure", "value", "unit"])];
    for result in results {
        for metric in &result.metrics {
            let mut cells = who(result).to_vec();
            let value = format!("{:.3}", metric.value);
            cells.extend([metric.name.clone(), value, metric.unit.clone()]);
            rows.push(cells);
        }
    }
    rows
}

/// Every step; hooks stand below what they belong to, indented.
fn steps(results: &[TestResult]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "test", "variant", "#", "step", "from s", "took s", "problem",
    ])];
    for result in results {
        let mut steps: Vec<_> = result.steps.iter().collect();
        steps.sort_by(|one, other| one.from.total_cmp(&other.from));
        for step in steps {
            let mut cells = who(result).to_vec();
            let problem = step.problem.as_deref().and_then(|it| it.lines().next());
            cells.extend([
                format!("{}{}", "- ".repeat(step.depth), step.name),
                format!("{:.2}", step.from),
                format!("{:.2}", step.to - step.from),
                problem.unwrap_or_default().to_owned(),
            ]);
            rows.push(cells);
        }
    }
    rows
}

fn spreads(record: &Record) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "figure", "unit", "median", "least", "most", "spread %", "n",
    ])];
    let is_shown = |metric: &&Metric| {
        metric.values.len() > 1
            && metric.better != crate::record::Better::Neither
            && metric.values.iter().any(|value| *value != 0.0)
    };
    for metric in record.metrics.iter().filter(is_shown) {
        let least = metric.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = metric
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let middle = median(&metric.values).unwrap_or_default();
        rows.push(vec![
            crate::record::titled(&metric.name, &metric.labels),
            metric.unit.clone(),
            format!("{middle:.3}"),
            format!("{least:.3}"),
            format!("{most:.3}"),
            format!("{:.1}", (most - least) / middle.abs().max(1e-12) * 100.0),
            metric.values.len().to_string(),
        ]);
    }
    rows
}

fn thresholds(record: &Record) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["what", "value", "held"])];
    for threshold in &record.thresholds {
        rows.push(vec![
            threshold.expression.clone(),
            threshold.measured(),
            match (threshold.passed, threshold.why.is_empty()) {
                (true, _) => "yes".to_owned(),
                (false, true) => "NO".to_owned(),
                (false, false) => format!("NO, {}", threshold.verdict()),
            },
        ]);
    }
    rows
}

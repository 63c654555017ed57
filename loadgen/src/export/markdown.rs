//! Records as Markdown: what ran, where, and every metric, several records side by side.

use std::fmt::Write as _;

use crate::record::figures::{median, shown};
use crate::record::{Metric, Record, titled};
use crate::text;

/// What writing to a `String` cannot do is fail.
const STRING: &str = "a String takes any text";

pub(super) fn render(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        write_head(&mut text, record);
    }
    write_metrics(&mut text, records);
    write_thresholds(&mut text, records);
    text
}

fn write_head(text: &mut String, record: &Record) {
    let environment = &record.environment;
    let result = record.verdict();
    writeln!(
        text,
        "## {}\n\n{} run `{}`, {result}: {} UTC, {}, on {} ({}, {} cores, {}, Linux {}), loadgen {}.\n",
        escaped(&record.name),
        record.kind,
        record.run_id,
        record.started,
        shown(record.seconds, "s"),
        escaped(&environment.host),
        escaped(&environment.cpu),
        environment.cores,
        text::bytes(environment.memory_bytes),
        environment.kernel,
        environment.loadgen,
    )
    .expect(STRING);
    for note in &record.notes {
        writeln!(text, "**Note:** {}\n", escaped(note)).expect(STRING);
    }
    for trial in &record.trials {
        let rate = shown(trial.rate, "1/s");
        let line = format!(
            "- tried {rate}: {} {}",
            trial.result.name(),
            escaped(&trial.why)
        );
        writeln!(text, "{}", line.trim_end()).expect(STRING);
    }
    if !record.trials.is_empty() {
        text.push('\n');
    }
}

fn write_metrics(text: &mut String, records: &[Record]) {
    let mut rows: Vec<&Metric> = Vec::new();
    for metric in records.iter().flat_map(|record| &record.metrics) {
        let is_same = |it: &&Metric| it.name == metric.name && it.labels == metric.labels;
        if !rows.iter().any(is_same) {
            rows.push(metric);
        }
    }
    let heads: Vec<_> = match records {
        [_] => vec!["value".to_owned()],
        records => records.iter().map(|it| escaped(&it.name)).collect(),
    };
    writeln!(text, "| metric | {} |", heads.join(" | ")).expect(STRING);
    writeln!(text, "|---|{}", "---:|".repeat(heads.len())).expect(STRING);
    for row in rows {
        let cells: Vec<_> = records
            .iter()
            .map(|record| {
                let mut metrics = record.metrics.iter();
                let found = metrics.find(|it| it.name == row.name && it.labels == row.labels);
                found.map_or_else(String::new, cell)
            })
            .collect();
        let name = escaped(&titled(&row.name, &row.labels));
        writeln!(text, "| {name} | {} |", cells.join(" | ")).expect(STRING);
    }
    text.push('\n');
}

/// The median, and from the least to the greatest where there are repetitions.
fn cell(metric: &Metric) -> String {
    let Some(middle) = median(&metric.values) else {
        return String::new();
    };
    let unit = &metric.unit;
    let least = metric.values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = metric
        .values
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    match metric.values.len() {
        1 => shown(middle, unit),
        count => format!(
            "{} ({} to {}, {count} runs)",
            shown(middle, unit),
            shown(least, unit),
            shown(greatest, unit)
        ),
    }
}

fn write_thresholds(text: &mut String, records: &[Record]) {
    let thresholds: Vec<_> = records.iter().flat_map(|it| &it.thresholds).collect();
    if thresholds.is_empty() {
        return;
    }
    text.push_str("| threshold | measured | result |\n|---|---:|---|\n");
    for threshold in thresholds {
        let measured = threshold.measured();
        let result = match threshold.passed {
            true => threshold.verdict(),
            false => format!("**{}**", escaped(&threshold.verdict())),
        };
        writeln!(
            text,
            "| {} | {measured} | {result} |",
            escaped(&threshold.expression)
        )
        .expect(STRING);
    }
    text.push('\n');
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('\n', " ")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Better;

    #[test]
    fn records_stand_side_by_side() {
        let mut first = crate::record::tests::record();
        first.name = "a|b".to_owned();
        let mut second = first.clone();
        second.metrics.retain(|it| it.name != "latency_avg");
        let rate = Metric::new("items_per_second", "1/s", Better::Higher);
        second.metrics.push(rate.value(10.0).value(12.0));
        let text = render(&[first, second]);
        for line in [
            "| metric | a\\|b | a\\|b |",
            "| items_per_second |  | 11/s (10/s to 12/s, 2 runs) |",
            "| latency_avg | 500.5 ms |  |",
            "| items_refused{status=\"503, \"busy\"\"} | 7 | 7 |",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}

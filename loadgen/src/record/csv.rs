//! A record as comma-separated values: one line for each value of a metric and each point of a series.

use std::fmt::Write as _;

use super::{Labels, Record};

const HEAD: &str = "run_id,kind,name,what,metric,labels,unit,repetition,seconds,value\n";

impl Record {
    /// Metrics (with their repetition, counted from 1), then series (with the seconds since the start).
    pub(crate) fn csv(&self) -> String {
        Self::csv_of_all(std::slice::from_ref(self))
    }

    /// Several records under one head.
    pub(crate) fn csv_of_all(records: &[Self]) -> String {
        let mut text = HEAD.to_owned();
        for record in records {
            record.csv_lines(&mut text);
        }
        text
    }

    fn csv_lines(&self, text: &mut String) {
        let run = format!("{},{},{}", self.run_id, self.kind, cell(&self.name));
        for metric in &self.metrics {
            let what = head(&metric.name, &metric.labels, &metric.unit);
            for (repetition, value) in (1..).zip(&metric.values) {
                line(
                    text,
                    format_args!("{run},metric,{what},{repetition},,{value}"),
                );
            }
        }
        for series in &self.series {
            let what = head(&series.name, &series.labels, &series.unit);
            for (seconds, value) in &series.points {
                line(text, format_args!("{run},series,{what},,{seconds},{value}"));
            }
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes any text");
}

fn head(name: &str, labels: &Labels, unit: &str) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{},{},{}", cell(name), cell(&labels.join(";")), cell(unit))
}

/// A cell as RFC 4180 has it.
fn cell(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

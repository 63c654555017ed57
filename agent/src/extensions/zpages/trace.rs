//! The page of spans: how often each kind of work took how long, what runs now, and examples.

use std::time::Duration;

use super::super::page::{Cell, Page, parameters};
use super::pages::{LINKS, bytes, moment, rounded};
use crate::admin::Answer;
use crate::telemetry::spans::{BOUNDS, BUCKETS, Sample, Summary};

/// What of a kind of work is looked at closely, in the Collector's numbers.
enum Closely {
    Running,
    Latency(usize),
    Errors,
}

impl Closely {
    fn of(kind: &str, bucket: Option<&str>) -> Option<Self> {
        match kind {
            "0" => Some(Self::Running),
            "1" => {
                let bucket = bucket.and_then(|bucket| bucket.parse().ok()).unwrap_or(0);
                (bucket < BUCKETS).then_some(Self::Latency(bucket))
            }
            "2" => Some(Self::Errors),
            _ => None,
        }
    }
}

/// `?zspanname=…&ztype=…&zlatencybucket=…` looks at some of it closely.
pub(super) fn page(summaries: &[Summary], query: &str) -> Answer {
    let mut page = Page::new("Spans", LINKS);
    let [name, kind, bucket] = parameters(query, ["zspanname", "ztype", "zlatencybucket"]);
    page.paragraph(
        "The agent's own work since this extension runs: finished well by how long it took, failed, and running. A figure leads to \
         the latest examples.",
    );
    let bounds = BOUNDS.iter().map(|bound| format!("from {}", short(*bound)));
    let heads = ["Work", "Running", "from 0"].map(str::to_owned).into_iter();
    let heads: Vec<_> = heads.chain(bounds).chain(["Failed".to_owned()]).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    page.table(&heads, summaries.iter().map(row));
    let asked = kind.and_then(|kind| Closely::of(&kind, bucket.as_deref()));
    let found = name.and_then(|name| summaries.iter().find(|summary| summary.name == name));
    if let (Some(summary), Some(asked)) = (found, asked) {
        closely(&mut page, summary, &asked);
    }
    page.answer()
}

fn row(summary: &Summary) -> Vec<Cell> {
    let name = &summary.name;
    let running = summary.running.len() + summary.running_unlisted;
    let mut cells = vec![Cell::text(name), lead(running as u64, name, "ztype=0")];
    for (place, bucket) in summary.buckets.iter().enumerate() {
        let of = format!("ztype=1&zlatencybucket={place}");
        cells.push(lead(bucket.count, name, &of));
    }
    cells.push(lead(summary.errors.count, name, "ztype=2"));
    cells
}

/// A figure that leads to examples, where there are any.
fn lead(count: u64, name: &str, of: &str) -> Cell {
    if count == 0 {
        return Cell::number("");
    }
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    Cell::Link {
        text: count.to_string(),
        to: format!("/debug/tracez?zspanname={name}&{of}"),
    }
}

fn closely(page: &mut Page, summary: &Summary, asked: &Closely) {
    let name = &summary.name;
    match asked {
        Closely::Running => {
            page.heading(&format!("{name}: running"));
            let rows = summary.running.iter().map(|running| {
                vec![
                    Cell::Text(moment(running.at)),
                    Cell::Number(rounded(running.since.elapsed())),
                ]
            });
            page.table(&["Began", "So far"], rows);
            if summary.running_unlisted > 0 {
                page.paragraph(&format!("And {} more.", summary.running_unlisted));
            }
        }
        Closely::Latency(bucket) => {
            let from = bucket.checked_sub(1).and_then(|place| BOUNDS.get(place));
            let from = from.map_or_else(|| "0".to_owned(), |bound| short(*bound));
            page.heading(&format!("{name}: from {from}"));
            let samples = summary.buckets.get(*bucket).map(|bucket| &bucket.samples);
            examples(page, samples.map_or(&[], Vec::as_slice));
        }
        Closely::Errors => {
            page.heading(&format!("{name}: failed"));
            examples(page, &summary.errors.samples);
        }
    }
}

fn examples(page: &mut Page, samples: &[Sample]) {
    let mut samples: Vec<_> = samples.iter().collect();
    samples.sort_by_key(|sample| std::cmp::Reverse(sample.at));
    let rows = samples.into_iter().map(|sample| {
        vec![
            Cell::Text(moment(sample.at)),
            Cell::Number(rounded(sample.took)),
            Cell::number(sample.items),
            Cell::Number(bytes(sample.bytes as u64)),
            Cell::text(sample.error.clone().unwrap_or_default()),
        ]
    });
    page.table(&["Began", "Took", "Items", "Bytes", "Error"], rows);
}

fn short(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        micros @ 1_000..1_000_000 => format!("{} ms", micros / 1_000),
        micros => format!("{} s", micros / 1_000_000),
    }
}

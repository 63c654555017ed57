//! What the sink has received, in Prometheus' text format.

use std::fmt::Write as _;

use super::stats::{Received, Snapshot};

type Figure = fn(&Received) -> Option<u64>;

pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let tables = snapshot.tables.iter();
    let otlp = snapshot.otlp.iter();
    let tables = tables.map(|(name, received)| (label("table", name), received));
    let otlp = otlp.map(|(name, received)| (label("otlp", name), received));
    let all: Vec<_> = tables.chain(otlp).collect();
    let figures: [(&str, Figure); 5] = [
        ("requests", |it| Some(it.requests)),
        ("bytes", |it| Some(it.bytes)),
        ("items", |it| Some(it.items)),
        ("duplicated_items", |it| it.duplicated),
        ("uncounted_requests", |it| Some(it.uncounted)),
    ];
    for (name, figure) in figures {
        let values = all
            .iter()
            .filter_map(|(label, it)| Some((label.clone(), figure(it)?)));
        family(&mut text, name, values);
    }
    let blocks = snapshot.deduplicated_blocks.iter();
    let blocks = blocks.map(|(table, count)| (label("table", table), *count));
    family(&mut text, "deduplicated_blocks", blocks);
    let refused = snapshot.refused.iter();
    let refused = refused.map(|(limit, count)| (label("limit", limit), *count));
    family(&mut text, "refused_requests", refused);
    let injected = (String::new(), snapshot.injected_errors);
    family(&mut text, "injected_errors", [injected]);
    text
}

/// `{name="value"}`; names come from the network.
fn label(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

fn family(text: &mut String, name: &str, values: impl IntoIterator<Item = (String, u64)>) {
    let name = format!("loadgen_sink_{name}_total");
    writeln!(text, "# TYPE {name} counter").expect(STRING);
    for (labels, value) in values {
        writeln!(text, "{name}{labels} {value}").expect(STRING);
    }
}

/// What writing to a `String` cannot do is fail.
const STRING: &str = "a String takes any text";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_line() {
        let mut snapshot = Snapshot::default();
        let logs = Received {
            requests: 2,
            items: 7,
            duplicated: Some(1),
            ..Received::default()
        };
        snapshot.tables.insert("a\"b".to_owned(), logs);
        let traces = Received {
            bytes: 9,
            ..Received::default()
        };
        let kind = "traces over HTTP".to_owned();
        snapshot.otlp.insert(kind, traces);
        snapshot.deduplicated_blocks.insert("t".to_owned(), 3);
        snapshot.refused.insert("rate", 4);
        let text = render(&snapshot);
        for line in [
            "# TYPE loadgen_sink_items_total counter",
            "loadgen_sink_items_total{table=\"a\\\"b\"} 7",
            "loadgen_sink_bytes_total{otlp=\"traces over HTTP\"} 9",
            "loadgen_sink_duplicated_items_total{table=\"a\\\"b\"} 1",
            "loadgen_sink_deduplicated_blocks_total{table=\"t\"} 3",
            "loadgen_sink_refused_requests_total{limit=\"rate\"} 4",
            "loadgen_sink_injected_errors_total 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(!text.contains("duplicated_items_total{otlp"), "{text}");
    }
}

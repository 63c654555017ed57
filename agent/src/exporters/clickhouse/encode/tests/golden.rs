//! The Collector's rows for the golden requests, without an engine: times and numbers as it prints them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::super::native::Method;
use super::super::super::native::decode::{Cell, Row};
use super::super::Table;
use super::{encode, rows};
use crate::signal::Signal;

fn file(table: Table) -> &'static str {
    match table {
        Table::Traces => "otel_traces",
        Table::Logs => "otel_logs",
        Table::Gauge => "otel_metrics_gauge",
        Table::Sum => "otel_metrics_sum",
        Table::Histogram => "otel_metrics_histogram",
        Table::ExponentialHistogram => "otel_metrics_exponential_histogram",
        Table::Summary => "otel_metrics_summary",
    }
}

fn read(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::read(folder.join(name)).unwrap()
}

/// Nanoseconds as the golden rows have them: all are between these two seconds, or 0.
fn time_text(nanos: i64, whole_seconds: bool) -> String {
    let (seconds, rest) = (
        nanos.div_euclid(1_000_000_000),
        nanos.rem_euclid(1_000_000_000),
    );
    let day = match seconds {
        0 => "1970-01-01 00:00:00".to_owned(),
        1_780_000_000..1_780_000_010 => {
            format!("2026-05-28 20:26:{}", 40 + seconds - 1_780_000_000)
        }
        1_779_999_990..1_780_000_000 => {
            format!("2026-05-28 20:26:{}", 30 + seconds - 1_779_999_990)
        }
        other => format!("{other} s"),
    };
    if whole_seconds {
        day
    } else {
        format!("{day}.{rest:09}")
    }
}

/// A cell as it stands in the golden rows, maps sorted by key.
fn json_of(cell: &Cell, whole_seconds: bool) -> Value {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match cell {
        Cell::Text(bytes) => json!(text(bytes)),
        Cell::UInt(number) => json!(number.to_string()),
        Cell::Int(number) => json!(number.to_string()),
        Cell::Float(number) if number.is_finite() => json!(number),
        Cell::Float(number) if number.is_nan() => json!("nan"),
        Cell::Float(number) => json!(if *number > 0.0 { "inf" } else { "-inf" }),
        Cell::Bool(flag) => json!(flag),
        Cell::Time(nanos) => json!(time_text(*nanos, whole_seconds)),
        Cell::List(cells) => cells
            .iter()
            .map(|cell| json_of(cell, whole_seconds))
            .collect(),
        Cell::Map(pairs) => {
            let mut pairs: Vec<(Value, Value)> = pairs
                .iter()
                .map(|(key, value)| (json_of(key, false), json_of(value, false)))
                .collect();
            pairs.sort_by_key(|(key, _)| key.as_str().map(str::to_owned));
            pairs
                .into_iter()
                .map(|(keys, values)| json!({ "keys": keys, "values": values }))
                .collect()
        }
    }
}

/// Numbers as text, floats by their value, for both sides.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap().to_string()),
        Value::String(text) if text == "-0" => json!("0"),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn line(row: &Row, signal: Signal) -> String {
    let fields: Map<String, Value> = row
        .iter()
        .map(|(name, cell)| {
            (
                name.clone(),
                plain(&json_of(cell, signal == Signal::Metrics)),
            )
        })
        .collect();
    Value::Object(fields).to_string()
}

fn expected(table: Table) -> Vec<String> {
    let text = String::from_utf8(read(&format!("{}.jsonl", file(table)))).unwrap();
    text.lines()
        .map(|line| {
            let mut row: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
            // The one difference: a span that ends before it starts has duration 0, not 2^64 less something.
            if let Some(duration) = row.get_mut("Duration")
                && duration
                    .as_str()
                    .and_then(|text| text.parse::<i64>().ok())
                    .is_none()
            {
                *duration = json!("0");
            }
            let mut value = plain(&json!(row));
            sort_maps(&mut value);
            value.to_string()
        })
        .collect()
}

fn sort_maps(value: &mut Value) {
    match value {
        Value::Array(list) => {
            if list.iter().all(|pair| pair.get("keys").is_some()) {
                list.sort_by_key(|pair| pair["keys"].as_str().map(str::to_owned));
            }
            list.iter_mut().for_each(sort_maps);
        }
        Value::Object(fields) => fields.values_mut().for_each(sort_maps),
        _ => {}
    }
}

#[test]
fn rows_are_those_of_the_collector() {
    for signal in Signal::ALL {
        let request = read(&format!("{}.pb", signal.name()));
        let (blocks, _) = encode(signal, Method::Lz4, &[request]);
        for block in &blocks {
            let mut found: Vec<String> = rows(block, Method::Lz4)
                .iter()
                .map(|row| line(row, signal))
                .collect();
            let mut expected = expected(block.table);
            found.sort();
            expected.sort();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected, "{:?}", block.table);
            }
            assert_eq!(found.len(), expected.len(), "{:?}", block.table);
        }
    }
}

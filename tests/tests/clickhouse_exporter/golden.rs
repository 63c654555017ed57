//! The rows that the Collector writes, and ours: the same, order inside a map aside.

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::Value;
use tidegate::signal::Signal;

use crate::support::{Database, Exporter, golden_path, golden_request};

const TABLES: [(Signal, &str); 7] = [
    (Signal::Traces, "otel_traces"),
    (Signal::Logs, "otel_logs"),
    (Signal::Metrics, "otel_metrics_gauge"),
    (Signal::Metrics, "otel_metrics_sum"),
    (Signal::Metrics, "otel_metrics_histogram"),
    (Signal::Metrics, "otel_metrics_exponential_histogram"),
    (Signal::Metrics, "otel_metrics_summary"),
];

/// Rows as sorted lines, with the keys of maps sorted; keys that come twice keep their order.
fn normalized(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut lines: Vec<String> = rows
        .into_iter()
        .map(|mut row| {
            sort_maps(&mut row);
            row.to_string()
        })
        .collect();
    lines.sort();
    lines
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

fn golden_rows(table: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(golden_path(&format!("{table}.jsonl")))?;
    let mut rows: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    rows.iter_mut().for_each(apply_differences);
    Ok(normalized(rows))
}

/// Where we differ from the Collector on purpose: the duration of a span that ends before it starts is 0; there it
/// wraps around. (A metric without data is left out here; there it blocks its whole batch, so no row shows it.)
fn apply_differences(row: &mut Value) {
    let duration = row
        .get("Duration")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    if duration.is_some_and(|nanos: u64| i64::try_from(nanos).is_err()) {
        row["Duration"] = "0".into();
    }
}

async fn assert_golden(database: &Database, schema: &str) -> Result<()> {
    for (_, table) in TABLES {
        let rows = normalized(database.rows(&format!("{schema}.{table}")).await?);
        let expected = golden_rows(table)?;
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these
                .iter()
                .filter(|row| !those.contains(row))
                .cloned()
                .collect()
        };
        assert_eq!(only(&rows, &expected), only(&expected, &rows), "{table}");
        assert_eq!(rows.len(), expected.len(), "rows of {table}");
    }
    Ok(())
}

/// Spans with ids that do not compress, more than fit into one frame of any column.
fn many_spans(count: u64) -> Vec<u8> {
    let hashed = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let spans = (0..count)
        .map(|index| Span {
            trace_id: [
                hashed(index).to_be_bytes(),
                hashed(index + count).to_be_bytes(),
            ]
            .concat(),
            span_id: hashed(!index).to_be_bytes().to_vec(),
            name: format!("span {}", index % 700),
            start_time_unix_nano: 1_780_000_000_000_000_000 + index,
            end_time_unix_nano: 1_780_000_000_000_000_000 + 3 * index,
            attributes: vec![KeyValue {
                key: format!("key.{}", index % 300),
                value: Some(AnyValue {
                    value: Some(AttributeValue::IntValue(hashed(index).cast_signed())),
                }),
                ..KeyValue::default()
            }],
            ..Span::default()
        })
        .collect();
    let scope_spans = vec![ScopeSpans {
        spans,
        ..ScopeSpans::default()
    }];
    let resource_spans = vec![ResourceSpans {
        scope_spans,
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// What the engine read is what was sent, by sums over every column that differs from row to row.
#[tokio::test]
async fn large_batches_arrive_whole() -> Result<()> {
    const COUNT: u64 = 20_000;
    let database = Database::start()?;
    let exporter = Exporter::to(&database.localdb.url, "")?;
    let request = many_spans(COUNT);
    for _ in 0..2 {
        exporter.store(Signal::Traces, request.clone()).await?;
    }
    let found = database
        .query(
            "SELECT count(), uniqExact(TraceId), uniqExact(SpanId), uniqExact(SpanName), sum(Duration),
                 uniqExact(mapKeys(SpanAttributes)), uniqExact(mapValues(SpanAttributes)),
                 countIf(match(TraceId, '^[0-9a-f]{32}$') AND match(SpanId, '^[0-9a-f]{16}$'))
             FROM otel_traces",
        )
        .await?;
    let durations = 2 * COUNT * (COUNT - 1);
    assert_eq!(
        found,
        format!("40000\t20000\t20000\t700\t{durations}\t300\t20000\t40000")
    );
    database.localdb.stop()
}

#[tokio::test]
async fn rows_are_those_of_the_collector_whatever_the_compression() -> Result<()> {
    let database = Database::start()?;
    for compress in ["lz4", "zstd", "none"] {
        let schema = format!("golden_{compress}");
        let exporter = Exporter::to(
            &database.localdb.url,
            &format!("database = \"{schema}\"\ncompress = \"{compress}\""),
        )?;
        for signal in Signal::ALL {
            exporter.store(signal, golden_request(signal)?).await?;
        }
        assert_golden(&database, &schema)
            .await
            .with_context(|| compress.to_owned())?;
    }
    database.localdb.stop()
}

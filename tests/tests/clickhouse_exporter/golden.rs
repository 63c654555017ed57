//! The rows that the Collector writes, and ours: the same, order inside a map aside.

use anyhow::{Context, Result};
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

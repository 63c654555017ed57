//! Tables as the reference has them, old and new, and the queries that users ask of them.

use anyhow::Result;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tidegate::signal::Signal;

use crate::support::{Database, Exporter, golden_path, golden_request};

/// 2026-05-28 20:26:40 UTC.
const TIME: u64 = 1_780_000_000_000_000_000;

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// Three traces of two spans, a second apart.
pub(crate) fn spans() -> Vec<u8> {
    let spans = (0..6u8)
        .map(|index| Span {
            trace_id: vec![index / 2 + 1; 16],
            span_id: vec![index + 1; 8],
            name: format!("span {index}"),
            start_time_unix_nano: TIME + u64::from(index) * 1_000_000_000,
            end_time_unix_nano: TIME + u64::from(index) * 1_000_000_000 + 5,
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

pub(crate) fn records() -> Vec<u8> {
    let log_records = (0..100)
        .map(|index| LogRecord {
            time_unix_nano: TIME + index,
            body: Some(AnyValue {
                value: Some(Value::StringValue(format!("line {index}"))),
            }),
            attributes: vec![attribute("user.id", &format!("u{}", index % 10))],
            ..LogRecord::default()
        })
        .collect();
    let scope_logs = vec![ScopeLogs {
        log_records,
        ..ScopeLogs::default()
    }];
    let resource_logs = vec![ResourceLogs {
        scope_logs,
        ..ResourceLogs::default()
    }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn points() -> Vec<u8> {
    let metric = |name: &str| {
        let data_points = ["a", "b"]
            .iter()
            .zip(1..)
            .map(|(state, value)| NumberDataPoint {
                time_unix_nano: TIME,
                attributes: vec![attribute("state", state)],
                value: Some(Number::AsInt(value)),
                ..NumberDataPoint::default()
            })
            .collect();
        Metric {
            name: name.to_owned(),
            data: Some(Data::Gauge(Gauge { data_points })),
            ..Metric::default()
        }
    };
    let metrics = vec![metric("cpu"), metric("memory")];
    let scope_metrics = vec![ScopeMetrics {
        metrics,
        ..ScopeMetrics::default()
    }];
    let resource_metrics = vec![ResourceMetrics {
        scope_metrics,
        ..ResourceMetrics::default()
    }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

#[tokio::test]
async fn the_queries_of_users_find_their_rows() -> Result<()> {
    let database = Database::start()?;
    let exporter = Exporter::to(
        &database.localdb.url,
        "database = \"otel\"\nttl = \"438000h\"",
    )?;
    exporter.store(Signal::Traces, spans()).await?;
    exporter.store(Signal::Logs, records()).await?;
    exporter.store(Signal::Metrics, points()).await?;
    let check = async |sql: &str, expected: &str| -> Result<()> {
        assert_eq!(database.query(sql).await?, expected, "{sql}");
        Ok(())
    };
    let trace = "02".repeat(16);
    check(
        &format!(
            "WITH '{trace}' AS id,
             (SELECT min(Start) FROM otel.otel_traces_trace_id_ts WHERE TraceId = id) AS start,
             (SELECT max(End) + 1 FROM otel.otel_traces_trace_id_ts WHERE TraceId = id) AS end
             SELECT SpanName FROM otel.otel_traces
             WHERE TraceId = id AND Timestamp >= start AND Timestamp <= end ORDER BY Timestamp"
        ),
        "span 2\nspan 3",
    )
    .await?;
    check(
        "SELECT count(), any(Body) FROM otel.otel_logs WHERE LogAttributes['user.id'] = 'u7' AND Body LIKE '%97'",
        "1\tline 97",
    )
    .await?;
    check(
        "SELECT Value FROM otel.otel_metrics_gauge WHERE MetricName = 'memory' AND Attributes['state'] = 'b'",
        "2",
    )
    .await?;
    check(
        "SELECT count() FROM system.tables WHERE database = 'otel' AND create_table_query LIKE '%TTL toDateTime(%'",
        "8",
    )
    .await?;
    assert_eq!(
        exporter.metric(
            "tidegate_clickhouse_inserted_rows{exporter=\"clickhouse\",table=\"otel_logs\"}"
        )?,
        Some(100)
    );
    database.localdb.stop()
}

/// What the tables of the generation before had in other types.
pub(crate) const OLD_LOGS: &str = "CREATE TABLE old.otel_logs (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)), TimestampTime DateTime DEFAULT toDateTime(Timestamp),
    TraceId String, SpanId String, TraceFlags UInt8, SeverityText LowCardinality(String), SeverityNumber UInt8,
    ServiceName LowCardinality(String), Body String, ResourceSchemaUrl LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String), ScopeSchemaUrl LowCardinality(String),
    ScopeName String, ScopeVersion LowCardinality(String),
    ScopeAttributes Map(LowCardinality(String), String), LogAttributes Map(LowCardinality(String), String)
) ENGINE = MergeTree PARTITION BY toDate(TimestampTime) PRIMARY KEY (ServiceName, TimestampTime)
ORDER BY (ServiceName, TimestampTime, Timestamp)";

const OLD_GAUGE: &str = "CREATE TABLE old.otel_metrics_gauge (
    ResourceAttributes Map(LowCardinality(String), String), ResourceSchemaUrl String, ScopeName String,
    ScopeVersion String, ScopeAttributes Map(LowCardinality(String), String), ScopeDroppedAttrCount UInt32,
    ScopeSchemaUrl String, ServiceName LowCardinality(String), MetricName String, MetricDescription String,
    MetricUnit String, Attributes Map(LowCardinality(String), String), StartTimeUnix DateTime64(9),
    TimeUnix DateTime64(9), Value Float64, Flags UInt32,
    Exemplars Nested (FilteredAttributes Map(LowCardinality(String), String), TimeUnix DateTime64(9),
        Value Float64, SpanId String, TraceId String)
) ENGINE = MergeTree PARTITION BY toDate(TimeUnix)
ORDER BY (ServiceName, MetricName, Attributes, toUnixTimestamp64Nano(TimeUnix))";

#[tokio::test]
async fn tables_of_the_older_generation_are_written_to() -> Result<()> {
    let database = Database::start()?;
    for sql in ["CREATE DATABASE old", OLD_LOGS, OLD_GAUGE] {
        database.query(sql).await?;
    }
    let exporter = Exporter::to(&database.localdb.url, "database = \"old\"")?;
    exporter
        .store(Signal::Logs, golden_request(Signal::Logs)?)
        .await?;
    exporter.store(Signal::Metrics, points()).await?;
    let logs = "SELECT count(), min(TimestampTime) FROM old.otel_logs";
    assert_eq!(database.query(logs).await?, "310\t1970-01-01 00:00:00");
    let gauge = "SELECT DISTINCT TimeUnix FROM old.otel_metrics_gauge";
    assert_eq!(
        database.query(gauge).await?,
        "2026-05-28 20:26:40.000000000"
    );
    database.localdb.stop()
}

#[tokio::test]
async fn tables_in_plain_types_are_written_to() -> Result<()> {
    let database = Database::start()?;
    let plain = OLD_LOGS
        .replace("LowCardinality(String)", "String")
        .replace("old.", "plain.");
    for sql in ["CREATE DATABASE plain", &plain] {
        database.query(sql).await?;
    }
    let exporter = Exporter::to(
        &database.localdb.url,
        "database = \"plain\"\ncreate_schema = false",
    )?;
    exporter.store(Signal::Logs, records()).await?;
    let logs = "SELECT count(), uniqExact(LogAttributes['user.id']) FROM plain.otel_logs";
    assert_eq!(database.query(logs).await?, "100\t10");
    database.localdb.stop()
}

#[tokio::test]
async fn names_that_need_quotes_are_quoted() -> Result<()> {
    let database = Database::start()?;
    let exporter = Exporter::to(
        &database.localdb.url,
        "database = \"a`b\"\nlogs_table_name = \"logs of 'us'\"",
    )?;
    exporter.store(Signal::Logs, records()).await?;
    assert_eq!(
        database
            .query("SELECT count() FROM `a\\`b`.`logs of 'us'`")
            .await?,
        "100"
    );
    database.localdb.stop()
}

/// The statements for servers before 26.2, but for the engine and the cluster, which one machine cannot have.
#[tokio::test]
async fn statements_for_older_servers_are_taken() -> Result<()> {
    let database = Database::start()?;
    for signal in Signal::ALL {
        let path = golden_path(&format!("../ddl/replicated_older_{signal}.sql"));
        let statements = std::fs::read_to_string(path)?
            .replace(" ON CLUSTER `main`", "")
            .replace("Replicated", "")
            .replace("'/clickhouse/tables/{shard}/{uuid}', '{replica}'", "");
        for statement in statements
            .split(";\n")
            .filter(|text| !text.trim().is_empty())
        {
            database.query(statement).await?;
        }
    }
    let exporter = Exporter::to(&database.localdb.url, "database = \"otel\"")?;
    exporter.store(Signal::Logs, records()).await?;
    exporter.store(Signal::Metrics, points()).await?;
    database.localdb.stop()
}

/// Somebody drops or changes a table under a running exporter.
#[tokio::test]
async fn a_dropped_table_is_made_again_and_a_new_column_is_used() -> Result<()> {
    let database = Database::start()?;
    let exporter = Exporter::to(&database.localdb.url, "database = \"otel\"")?;
    exporter.store(Signal::Logs, records()).await?;
    database.query("DROP TABLE otel.otel_logs SYNC").await?;
    exporter.store(Signal::Logs, records()).await?;
    assert_eq!(
        database.query("SELECT count() FROM otel.otel_logs").await?,
        "100"
    );
    database
        .query("ALTER TABLE otel.otel_logs DROP COLUMN EventName")
        .await?;
    exporter.store(Signal::Logs, records()).await?;
    assert_eq!(
        database.query("SELECT count() FROM otel.otel_logs").await?,
        "200"
    );
    database.localdb.stop()
}

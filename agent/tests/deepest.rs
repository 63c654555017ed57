//! The most deeply nested request that is accepted is carried on by every way out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tidegate::batch::Chunk;
use tidegate::exporters::clickhouse::encode::{Adjusted, Encoder};
use tidegate::exporters::clickhouse::native::Method;
use tidegate::otlp::{check, json};
use tidegate::signal::Signal;

/// A span's attribute or a log record's body, `levels` arrays or maps deep, as OTLP/JSON.
fn nested(signal: Signal, levels: usize) -> String {
    let mut value = r#"{"intValue":"1"}"#.to_owned();
    for level in 0..levels {
        value = match level % 2 {
            0 => format!(r#"{{"arrayValue":{{"values":[{value}]}}}}"#),
            _ => format!(r#"{{"kvlistValue":{{"values":[{{"key":"k","value":{value}}}]}}}}"#),
        };
    }
    let (resource, scope, item, member) = match signal {
        Signal::Traces => (
            "resourceSpans",
            "scopeSpans",
            "spans",
            format!(r#""attributes":[{{"key":"a","value":{value}}}]"#),
        ),
        _ => (
            "resourceLogs",
            "scopeLogs",
            "logRecords",
            format!(r#""body":{value}"#),
        ),
    };
    format!(r#"{{"{resource}":[{{"{scope}":[{{"{item}":[{{{member}}}]}}]}}]}}"#)
}

#[test]
fn whatever_is_accepted_can_be_carried_on() {
    for signal in [Signal::Traces, Signal::Logs] {
        let mut deepest = 0;
        for levels in 0..100 {
            let Ok(bytes) = json::decode(signal, nested(signal, levels).as_bytes()) else {
                continue;
            };
            let Ok(checked) = check(signal, bytes.into()) else {
                continue;
            };
            deepest = levels;
            // The debug exporter, and every receiver with the usual limit of protobuf.
            let read = match signal {
                Signal::Traces => {
                    ExportTraceServiceRequest::decode(checked.bytes.clone()).map(drop)
                }
                _ => ExportLogsServiceRequest::decode(checked.bytes.clone()).map(drop),
            };
            read.unwrap();
            // The file exporter.
            let mut text = Vec::new();
            json::encode(signal, std::iter::once(checked.bytes.as_ref()), &mut text).unwrap();
            json::decode(signal, &text).unwrap();
            let payload = Chunk::new(checked.bytes, checked.items).into();
            let blocks = Encoder::new(Method::None)
                .unwrap()
                .encode(signal, &payload, &mut Adjusted::default())
                .unwrap();
            assert_eq!(blocks.len(), 1);
        }
        assert!((35..=47).contains(&deepest), "{signal}: {deepest}");
    }
}

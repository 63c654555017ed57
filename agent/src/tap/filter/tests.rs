//! Tests of filters.

use std::ops::ControlFlow;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::Filter;
use crate::signal::Signal;
use crate::tap::item;
use crate::testing::attribute;

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: vec![attribute("service.name", "foo")],
        ..Resource::default()
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "lib".to_owned(),
        attributes: vec![attribute("team", "a b")],
        ..InstrumentationScope::default()
    })
}

fn count(number: i64) -> KeyValue {
    KeyValue {
        key: "http.status".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }),
        ..KeyValue::default()
    }
}

fn span() -> Vec<u8> {
    let span = Span {
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        name: "GET /cart".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 1_250_000_000,
        attributes: vec![attribute("http.route", "/x"), count(503)],
        status: Some(Status {
            code: 2,
            message: "no".to_owned(),
        }),
        ..Span::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(),
            scope_spans: vec![ScopeSpans {
                scope: scope(),
                spans: vec![span],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

fn log() -> Vec<u8> {
    let record = LogRecord {
        severity_number: 14,
        severity_text: "WARNING".to_owned(),
        body: attribute("", "disk nearly full").value,
        ..LogRecord::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(),
            scope_logs: vec![ScopeLogs {
                log_records: vec![record],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request.encode_to_vec()
}

fn point() -> Vec<u8> {
    let metric = Metric {
        name: "queue.length".to_owned(),
        unit: "1".to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint {
                value: Some(number_data_point::Value::AsDouble(7.5)),
                attributes: vec![attribute("queue", "a")],
                ..NumberDataPoint::default()
            }],
        })),
        ..Metric::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![metric],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    request.encode_to_vec()
}

fn check(signal: Signal, bytes: &[u8], filters: &[(&str, bool)]) {
    for (text, expected) in filters {
        let filter = Filter::parse(text).unwrap();
        let mut seen = 0;
        item::each(signal, bytes, |item| {
            seen += 1;
            assert_eq!(filter.holds(&item), *expected, "{text}");
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, 1);
    }
}

#[test]
fn spans_are_chosen_by_every_field() {
    check(
        Signal::Traces,
        &span(),
        &[
            ("name=\"GET /cart\"", true),
            ("name~^GET", true),
            ("name !~ 'POST|PUT'", true),
            ("name~(?i)get", true),
            ("attr.http.route=/x", true),
            ("attr.http.route!=/x", false),
            ("attr.http.status>=500", true),
            ("attr.http.status=503", true),
            ("attr.http.status<500", false),
            ("attr.missing=1", false),
            ("attr.missing!=1", true),
            ("attr.missing", false),
            ("attr.http.route", true),
            ("resource.service.name=foo", true),
            ("scope=lib and scope.team=\"a b\"", true),
            ("kind=server", true),
            ("status=error", true),
            ("status!=error", false),
            ("duration>=250ms", true),
            ("duration>0.3s", false),
            ("trace_id=ABABABABABABABABABABABABABABABAB", true),
            ("severity>=warn", false),
            ("name~GET and (kind=client or status=error)", true),
            ("not kind=server", false),
            ("!(kind=server && status=ok)", true),
            ("kind=client || kind=server", true),
        ],
    );
}

#[test]
fn severities_are_ranges() {
    check(
        Signal::Logs,
        &log(),
        &[
            ("severity=warn", true),
            ("severity>=warn", true),
            ("severity>warn", false),
            ("severity<error", true),
            ("severity<=info", false),
            ("severity=14", true),
            ("severity!=WARN", false),
            ("severity_text=WARNING", true),
            ("body~full$", true),
            ("body", true),
            ("trace_id", false),
        ],
    );
}

#[test]
fn data_points_are_chosen_by_metric_and_value() {
    check(
        Signal::Metrics,
        &point(),
        &[
            ("name=queue.length", true),
            ("type=gauge and unit=1", true),
            ("value>7", true),
            ("value>7.5", false),
            ("attr.queue=a", true),
            ("attr.\"queue\"=a", true),
        ],
    );
}

#[test]
fn what_is_no_filter_is_told_plainly() {
    let check = |text: &str, expected: &str| {
        let problem = Filter::parse(text).unwrap_err();
        assert!(problem.contains(expected), "{text}: {problem}");
    };
    check("", "a field is wanted at the end");
    check("nam=x", "`nam` is no field: use name, severity");
    check("name=", "a value is wanted after `=`");
    check("name=a b=c", "`b` does not belong there");
    check("(name=a", "not closed");
    check("name='a", "a quote ' is not closed");
    check(
        "severity>=loud",
        "none of trace, debug, info, warn, error, fatal",
    );
    check("duration>5", "is not a duration");
    check("kind=sever", "kind: `sever` is none of");
    check("name~'['", "the pattern `[` is wrong");
    check("name>a", "`>` wants a number, not `a`");
    check("attr.=x", "lacks the attribute's key");
    check(&"(".repeat(100), "parentheses within each other");
    check(&"x".repeat(5000), "more than 4096 bytes");
    check("name~'(a{1000}){1000}'", "is wrong");
}

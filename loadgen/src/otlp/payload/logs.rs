//! Log records of a small web shop, most of them written inside a span.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shape;
use super::stamp::{TEMPLATE_TIME, placeholder_span_id, placeholder_trace_id};
use super::vocabulary::{self as words, int, pick, string};

const RECORDS_PER_TRACE: usize = 5;
const SCOPES: usize = 2;
/// The rest is written outside of any span.
const IN_A_SPAN: f64 = 0.8;

pub(super) fn request(
    shape: &Shape,
    index: usize,
    random: &mut StdRng,
) -> ExportLogsServiceRequest {
    let per_scope = shape.items.div_ceil(SCOPES).max(1);
    let records: Vec<LogRecord> = (0..shape.items)
        .map(|item| record(shape, item, random))
        .collect();
    let scope_logs = records
        .chunks(per_scope)
        .enumerate()
        .map(|(scope, records)| ScopeLogs {
            scope: Some(words::scope(scope)),
            log_records: records.to_vec(),
            ..ScopeLogs::default()
        })
        .collect();
    let resource_logs = ResourceLogs {
        resource: Some(words::resource(random, index, &shape.run)),
        scope_logs,
        schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
    };
    ExportLogsServiceRequest {
        resource_logs: vec![resource_logs],
    }
}

fn record(shape: &Shape, item: usize, random: &mut StdRng) -> LogRecord {
    let (severity, text) = match random.random_range(0..100) {
        0..3 => (SeverityNumber::Error, "ERROR"),
        3..12 => (SeverityNumber::Warn, "WARN"),
        12..85 => (SeverityNumber::Info, "INFO"),
        _ => (SeverityNumber::Debug, "DEBUG"),
    };
    let time = TEMPLATE_TIME - random.random_range(1_000_000..1_000_000_000);
    let in_a_span = random.random_bool(IN_A_SPAN);
    let route = pick(random, &words::ROUTES);
    let attributes = vec![
        string("logger.name", pick(random, &words::FUNCTIONS)),
        string("thread.name", pick(random, &words::THREADS)),
        string("http.route", route),
        string("url.path", words::path(random, route)),
        string(
            "app.user.id",
            format!("u-{:07}", random.random_range(0..2_000_000)),
        ),
        int("app.elapsed_us", random.random_range(20..2_000_000)),
        string("client.address", words::address(random)),
    ];
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time + 40_000,
        severity_number: severity.into(),
        severity_text: text.to_owned(),
        body: Some(AnyValue {
            value: Some(Value::StringValue(body(random))),
        }),
        attributes: shape.fit(attributes, random),
        flags: u32::from(in_a_span),
        trace_id: if in_a_span {
            placeholder_trace_id(item / RECORDS_PER_TRACE)
        } else {
            Vec::new()
        },
        span_id: if in_a_span {
            placeholder_span_id()
        } else {
            Vec::new()
        },
        ..LogRecord::default()
    }
}

fn body(random: &mut StdRng) -> String {
    let id = random.random_range(0..2_000_000);
    format!("{} order_id={id:07}", pick(random, &words::LOG_BODIES))
}

//! What is shown, and what sampling leaves out.

use std::sync::Mutex;

use super::*;
use crate::ack::Answer;
use crate::batch::Chunk;
use crate::testing::{RunningExporter, exporter_context, metric, parse, request, start_all};

fn shown(verbosity: Verbosity, signal: Signal) -> String {
    let mut payload: Payload = request(signal, "checkout", 2).into();
    payload.push(request(signal, "cart", 1));
    render(verbosity, signal, &payload).unwrap()
}

#[test]
fn basic_is_a_line_of_counts() {
    let check = |signal, expected: &str| {
        assert_eq!(shown(Verbosity::Basic, signal), format!("{expected}\n"));
    };
    check(
        Signal::Traces,
        r#"Traces {"resource spans": 2, "spans": 3}"#,
    );
    check(
        Signal::Metrics,
        r#"Metrics {"resource metrics": 2, "metrics": 3, "data points": 3}"#,
    );
    check(
        Signal::Logs,
        r#"Logs {"resource logs": 2, "log records": 3}"#,
    );
}

#[test]
fn normal_is_a_line_per_item() {
    let check = |signal, expected: &str| {
        let shown = shown(Verbosity::Normal, signal);
        assert!(shown.contains(expected), "{shown}");
        assert_eq!(shown.lines().count(), 1 + 2 + 2 + 3, "{shown}");
    };
    let id = "02".repeat(8);
    check(
        Signal::Traces,
        &format!(
            "ResourceTraces #0 service.name=checkout\nScopeTraces #0\nspan 1 {0}{0} {0} key=value\nspan 2 {id}{id} {id} key=value\n",
            "01".repeat(8)
        ),
    );
    check(Signal::Metrics, "\ngauge 1{key=value} 0.5\n");
    check(Signal::Logs, "\nmessage 1 key=value\n");
}

#[test]
fn detailed_has_every_field() {
    let check = |signal, expected: &str| {
        let shown = shown(Verbosity::Detailed, signal);
        assert!(shown.contains(expected), "{shown}");
    };
    check(
        Signal::Traces,
        "Span #1
    Trace ID       : 02020202020202020202020202020202
    Parent ID      : 
    ID             : 0202020202020202
    Name           : span 2
    Kind           : Unspecified
    Start time     : 1970-01-01 00:00:00.000000002 +0000 UTC
    End time       : 1970-01-01 00:00:00.000000003 +0000 UTC
    Status code    : Unset
    Status message : 
Attributes:
     -> key: Str(value)
",
    );
    check(
        Signal::Logs,
        "LogRecord #0
ObservedTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00.000000001 +0000 UTC
SeverityText: INFO
SeverityNumber: Unspecified(0)
Body: Str(message 1)
Attributes:
     -> key: Str(value)
Trace ID: 
Span ID: 
Flags: 0
",
    );
    check(
        Signal::Metrics,
        "Metric #0
Descriptor:
     -> Name: gauge 1
     -> Description: 
     -> Unit: 
     -> DataType: Gauge
NumberDataPoints #0
Data point attributes:
     -> key: Str(value)
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00.000000001 +0000 UTC
Value: 0.5
",
    );
}

#[test]
fn awkward_requests_are_shown() {
    let golden = [
        (
            Signal::Traces,
            &include_bytes!("../../../tests/golden/traces.pb")[..],
        ),
        (
            Signal::Metrics,
            include_bytes!("../../../tests/golden/metrics.pb"),
        ),
        (
            Signal::Logs,
            include_bytes!("../../../tests/golden/logs.pb"),
        ),
    ];
    let mut detailed = String::new();
    for (signal, bytes) in golden {
        let payload: Payload = Chunk::new(bytes.into(), 1).into();
        for verbosity in [Verbosity::Basic, Verbosity::Normal] {
            assert!(!render(verbosity, signal, &payload).unwrap().is_empty());
        }
        detailed += &render(Verbosity::Detailed, signal, &payload).unwrap();
    }
    for expected in [
        "Exemplar #0",
        "SpanEvent #0",
        "SpanLink #0",
        "Bucket (",
        "Bucket [",
        "ExplicitBounds #0",
        "QuantileValue #0",
        "AggregationTemporality: Cumulative",
        "Map({",
        "Slice([",
        "Bytes(",
        "Empty()",
    ] {
        assert!(detailed.contains(expected), "{expected} not in\n{detailed}");
    }
}

#[test]
fn terminals_are_not_commanded() {
    assert_eq!(printable("a\tb\nc ü"), "a\tb\nc ü");
    assert_eq!(printable("\u{1b}[31mred\r"), "\\u{1b}[31mred\\r");
}

#[test]
fn what_is_not_a_request_is_rejected() {
    let payload: Payload = Chunk::new(vec![0xff].into(), 1).into();
    assert!(render(Verbosity::Basic, Signal::Logs, &payload).is_err());
}

fn start(text: &str, sink: &Sink) -> RunningExporter {
    let options: DebugOptions = toml::from_str(text).unwrap();
    let context = exporter_context(&Signal::ALL);
    RunningExporter {
        authenticators: crate::auth::Authenticators::default(),
        senders: start_all(options.build_with(&context, sink).unwrap()),
        telemetry: context.telemetry,
        cut: context.cut,
    }
}

#[tokio::test]
async fn batches_are_delivered_whether_shown_or_not() {
    let seen = Arc::new(Mutex::new(String::new()));
    let taken = Arc::clone(&seen);
    let sink: Sink = Arc::new(move |text| {
        taken.lock().unwrap().push_str(text);
        Ok(())
    });
    let running = start("sampling_initial = 1\nsampling_thereafter = 0", &sink);
    for _ in 0..3 {
        for signal in [Signal::Traces, Signal::Logs] {
            let answer = running.send(signal, request(signal, "checkout", 1)).await;
            assert_eq!(answer, Answer::Delivered);
        }
    }
    let telemetry = running.stop().await;
    let seen = seen.lock().unwrap();
    // A second may have passed in between.
    assert!((2..6).contains(&seen.lines().count()), "{seen}");
    let bytes = |signal: &str| {
        let labels = format!("{{exporter=\"test\",otel_signal=\"{signal}\"}}");
        metric(&telemetry, &format!("tidegate_exporter_sent_bytes{labels}"))
    };
    assert_eq!(bytes("traces") + bytes("logs"), seen.len() as f64);
}

#[tokio::test]
async fn a_closed_terminal_is_a_refusal() {
    let sink: Sink = Arc::new(|_| Err(io::ErrorKind::BrokenPipe.into()));
    let running = start("", &sink);
    let answer = running
        .send(Signal::Logs, request(Signal::Logs, "checkout", 1))
        .await;
    assert!(matches!(answer, Answer::Refused(refusal) if refusal.message.contains("broken pipe")));
    running.stop().await;
}

#[test]
fn options_are_checked_and_the_example_holds_every_field() {
    let found = parse(&FACTORY, "verbosity = \"loud\"").unwrap_err();
    assert!(found.to_string().contains("loud"), "{found}");
    let example: toml::Table = include_str!("../../../../configs/agent/debug.toml")
        .parse()
        .unwrap();
    let found = example["exporters"]["debug"].as_table().unwrap();
    for key in toml::Table::try_from(DebugOptions::default())
        .unwrap()
        .keys()
    {
        assert!(found.contains_key(key), "{key} is not in the example");
    }
}

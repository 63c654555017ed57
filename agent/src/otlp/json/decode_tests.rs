//! [`decode`] against the serde types of `opentelemetry-proto`, and cases by hand: what is accepted and what is refused.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message as _;

use super::*;
use crate::otlp::testing::{Random, Tree, mutate_bytes, random_request};

const LIMIT: usize = 1 << 24;

fn to_json(tree: &Tree) -> String {
    match tree {
        Tree::Traces(request) => serde_json::to_string(request),
        Tree::Metrics(request) => serde_json::to_string(request),
        Tree::Logs(request) => serde_json::to_string(request),
    }
    .unwrap()
}

fn run(signal: Signal, text: &[u8]) -> Result<Decoded, JsonError> {
    fuzz_json_decode(signal, text);
    decode(signal, text, LIMIT)
}

fn from_json(signal: Signal, text: &str) -> Option<Tree> {
    Some(match signal {
        Signal::Traces => Tree::Traces(serde_json::from_str(text).ok()?),
        Signal::Metrics => Tree::Metrics(serde_json::from_str(text).ok()?),
        Signal::Logs => Tree::Logs(serde_json::from_str(text).ok()?),
    })
}

#[test]
fn what_the_serde_types_write_and_read_back_is_read_the_same() {
    let mut compared = 0;
    for signal in Signal::ALL {
        for seed in 0..200 {
            let tree = Tree::decode(signal, &random_request(signal, seed)).unwrap();
            let text = to_json(&tree);
            // The serde types lose NaN and the infinities, among others: there they are no yardstick.
            let read_back = from_json(signal, &text);
            if read_back.is_none_or(|read_back| read_back.encode() != tree.encode()) {
                continue;
            }
            compared += 1;
            let decoded = run(signal, text.as_bytes());
            let decoded =
                decoded.unwrap_or_else(|error| panic!("{signal} {seed}: {error}\n{text}"));
            assert_eq!(decoded.repaired_strings, 0, "{signal} {seed}");
            let found = Tree::decode(signal, &decoded.bytes).unwrap();
            assert!(
                found.encode() == tree.encode(),
                "{signal} {seed}\n{text}\n{}",
                to_json(&found)
            );
        }
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn damaged_text_is_decoded_soundly_or_refused() {
    for signal in Signal::ALL {
        for seed in 0..600 {
            let random = &mut Random::new(seed);
            let text =
                |seed| to_json(&Tree::decode(signal, &random_request(signal, seed)).unwrap());
            let mut bytes = text(seed % 40).into_bytes();
            let other = text(seed % 7).into_bytes();
            mutate_bytes(random, &mut bytes, &other);
            fuzz_json_decode(signal, &bytes);
        }
    }
}

/// A logs request with these members in its one record.
fn record_text(members: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{members}}}]}}]}}]}}"#)
}

/// The one record that these members give.
fn record(members: &[u8]) -> Result<(LogRecord, usize), String> {
    let text = record_text("@");
    let (before, after) = text.split_once('@').unwrap();
    let text = [before.as_bytes(), members, after.as_bytes()].concat();
    let decoded = run(Signal::Logs, &text).map_err(|error| error.to_string())?;
    let request = ExportLogsServiceRequest::decode(decoded.bytes.as_slice()).unwrap();
    let record = request.resource_logs[0].scope_logs[0].log_records[0].clone();
    Ok((record, decoded.repaired_strings))
}

fn accepts(members: &str, expected: LogRecord) {
    let found = record(members.as_bytes()).unwrap_or_else(|error| panic!("{members}: {error}"));
    assert_eq!(found, (expected, 0), "{members}");
}

fn refuses(members: &str, expected: &str) {
    match record(members.as_bytes()) {
        Ok(found) => panic!("{members}: {found:?}"),
        Err(error) => assert!(error.contains(expected), "{members}: {error}"),
    }
}

fn body(value: Value) -> LogRecord {
    LogRecord {
        body: Some(AnyValue { value: Some(value) }),
        ..LogRecord::default()
    }
}

fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

#[test]
fn every_kind_of_value_is_read() {
    let check = |value: &str, expected| accepts(&format!(r#""body":{{{value}}}"#), body(expected));
    check(r#""stringValue":"x""#, text("x"));
    check(r#""stringValue":"""#, text(""));
    check(r#""boolValue":true"#, Value::BoolValue(true));
    check(r#""boolValue":false"#, Value::BoolValue(false));
    check(
        r#""intValue":"-9223372036854775808""#,
        Value::IntValue(i64::MIN),
    );
    check(r#""intValue":0"#, Value::IntValue(0));
    check(r#""int_value":42"#, Value::IntValue(42));
    check(r#""doubleValue":0.1"#, Value::DoubleValue(0.1));
    check(r#""doubleValue":-0"#, Value::DoubleValue(-0.0));
    check(r#""doubleValue":5"#, Value::DoubleValue(5.0));
    check(r#""doubleValue":"1e3""#, Value::DoubleValue(1000.0));
    check(
        r#""doubleValue":"Infinity""#,
        Value::DoubleValue(f64::INFINITY),
    );
    check(
        r#""doubleValue":"-Infinity""#,
        Value::DoubleValue(f64::NEG_INFINITY),
    );
    check(r#""bytesValue":"AAH/""#, Value::BytesValue(vec![0, 1, 255]));
    check(
        r#""bytesValue":"AAH\/""#,
        Value::BytesValue(vec![0, 1, 255]),
    );
    check(r#""bytesValue":"AAH_""#, Value::BytesValue(vec![0, 1, 255]));
    check(r#""bytesValue":"AA==""#, Value::BytesValue(vec![0]));
    check(r#""bytesValue":"AA""#, Value::BytesValue(vec![0]));
    check(
        r#""arrayValue":{}"#,
        Value::ArrayValue(ArrayValue::default()),
    );
    let values = vec![
        AnyValue {
            value: Some(text("a")),
        },
        AnyValue::default(),
    ];
    let array = Value::ArrayValue(ArrayValue { values });
    check(
        r#""arrayValue":{"values":[{"stringValue":"a"},null]}"#,
        array.clone(),
    );
    check(r#""arrayValue":{"values":[{"stringValue":"a"},{}]}"#, array);
    let pair = KeyValue {
        key: "k".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::IntValue(1)),
        }),
        ..KeyValue::default()
    };
    check(
        r#""kvlistValue":{"values":[{"key":"k","value":{"intValue":"1"}}]}"#,
        Value::KvlistValue(KeyValueList { values: vec![pair] }),
    );
    let nan = record(br#""body":{"doubleValue":"NaN"}"#).unwrap().0;
    assert!(matches!(nan.body.unwrap().value, Some(Value::DoubleValue(n)) if n.is_nan()));
}

#[test]
fn fields_are_read_in_every_accepted_form() {
    let check = |members: &str, expected: LogRecord| accepts(members, expected);
    let with = |change: fn(&mut LogRecord)| {
        let mut record = LogRecord::default();
        change(&mut record);
        record
    };
    check("", with(|_| ()));
    check(
        r#""timeUnixNano":"18446744073709551615""#,
        with(|r| r.time_unix_nano = u64::MAX),
    );
    check(r#""timeUnixNano":7"#, with(|r| r.time_unix_nano = 7));
    check(r#""time_unix_nano":"7""#, with(|r| r.time_unix_nano = 7));
    check(r#""severityNumber":17"#, with(|r| r.severity_number = 17));
    check(
        r#""severityNumber":"SEVERITY_NUMBER_ERROR""#,
        with(|r| r.severity_number = 17),
    );
    check(r#""severityNumber":-1"#, with(|r| r.severity_number = -1));
    check(r#""severityNumber":99"#, with(|r| r.severity_number = 99));
    check(r#""flags":"4294967295""#, with(|r| r.flags = u32::MAX));
    check(
        r#""droppedAttributesCount":3"#,
        with(|r| r.dropped_attributes_count = 3),
    );
    check(
        r#""traceId":"0123456789ABCDEFabcdef0123456789""#,
        with(|r| {
            r.trace_id = vec![
                1, 35, 69, 103, 137, 171, 205, 239, 171, 205, 239, 1, 35, 69, 103, 137,
            ]
        }),
    );
    check(
        r#""spanId":"00000000000000ff""#,
        with(|r| r.span_id = vec![0, 0, 0, 0, 0, 0, 0, 255]),
    );
    check(r#""traceId":"","spanId":"""#, with(|_| ()));
    check(
        r#""traceId":null,"timeUnixNano":null,"body":null,"attributes":null"#,
        with(|_| ()),
    );
    check(r#""attributes":[]"#, with(|_| ()));
    check(
        r#""unknown":{"a":[1,{"b":null}],"c":"\u0041"},"flags":1"#,
        with(|r| r.flags = 1),
    );
    check(
        r#""sever\u0069tyText":"x""#,
        with(|r| r.severity_text = "x".to_owned()),
    );
    check(" \t\r\n\"flags\" : 1 ", with(|r| r.flags = 1));
}

#[test]
fn the_last_of_a_repeated_key_counts() {
    let check = |members: &str, expected: LogRecord| accepts(members, expected);
    let flags = |flags| LogRecord {
        flags,
        ..LogRecord::default()
    };
    check(r#""flags":1,"flags":2"#, flags(2));
    check(r#""flags":1,"flags":0"#, flags(0));
    check(
        r#""severityText":"x","severityText":"""#,
        LogRecord::default(),
    );
    check(
        r#""body":{"intValue":1,"stringValue":"x"}"#,
        body(text("x")),
    );
    check(
        r#""body":{"stringValue":"x","intValue":1}"#,
        body(Value::IntValue(1)),
    );
    let key = |key: &str| KeyValue {
        key: key.to_owned(),
        ..KeyValue::default()
    };
    check(
        r#""attributes":[{"key":"a"}],"attributes":[{"key":"b"}]"#,
        LogRecord {
            attributes: vec![key("a"), key("b")],
            ..LogRecord::default()
        },
    );
}

#[test]
fn wrong_values_are_refused() {
    let check = |members: &str, expected: &str| refuses(members, expected);
    check(r#""timeUnixNano":-1"#, "timeUnixNano");
    check(r#""timeUnixNano":"-1""#, "timeUnixNano");
    check(r#""timeUnixNano":1.5"#, "timeUnixNano");
    check(r#""timeUnixNano":"1.5""#, "timeUnixNano");
    check(r#""timeUnixNano":18446744073709551616"#, "timeUnixNano");
    check(r#""timeUnixNano":true"#, "timeUnixNano");
    check(r#""timeUnixNano":"""#, "timeUnixNano");
    check(r#""severityNumber":null"#, "severityNumber");
    check(
        r#""severityNumber":"SEVERITY_NUMBER_LOUD""#,
        "severityNumber",
    );
    check(r#""severityNumber":"17""#, "severityNumber");
    check(r#""severityNumber":1.5"#, "severityNumber");
    check(r#""flags":4294967296"#, "flags");
    check(r#""severityText":1"#, "severityText");
    check(r#""traceId":"0123""#, "invalid TraceID length");
    check(
        r#""spanId":"0123456789abcdef0123456789abcdef""#,
        "invalid SpanID length",
    );
    check(r#""spanId":"0123456789abcdeg""#, "hexadecimal");
    check(
        r#""traceId":"W47/95gDgQPSabYzgT/GDA==""#,
        "invalid TraceID length",
    );
    check(r#""traceId":1"#, "traceId");
    check(r#""body":{"boolValue":"true"}"#, "boolValue");
    check(r#""body":{"boolValue":1}"#, "boolValue");
    check(r#""body":{"intValue":1e3}"#, "intValue");
    check(r#""body":{"doubleValue":1e400}"#, "doubleValue");
    check(r#""body":{"doubleValue":NaN}"#, "doubleValue");
    check(r#""body":{"bytesValue":"A"}"#, "base64");
    check(r#""body":{"bytesValue":"A A="}"#, "base64");
    check(r#""body":"text""#, "an object");
    check(r#""attributes":{}"#, "an array");
    check(r#""attributes":[1]"#, "an object");
}

#[test]
fn text_that_is_not_json_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = run(Signal::Logs, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("", "ends inside");
    check("null", "an object");
    check("[]", "an object");
    check("\u{feff}{}", "an object");
    check("{} x", "after the value");
    check("{}{}", "after the value");
    check("{", "ends inside");
    check(r#"{"a""#, "ends inside");
    check(r#"{"a" 1}"#, "`:`");
    check(r#"{"a":1,}"#, "a key");
    check(r#"{"a":1 "b":2}"#, "`,`");
    check(r#"{"a":[1,]}"#, "a value");
    check(r#"{"a":[1}]}"#, "`,`");
    check(r#"{"a":nul}"#, "a value");
    check(r#"{"a":01}"#, "a number");
    check(r#"{"a":"\x"}"#, "escape");
    check("{\"a\":\"\n\"}", "control character");
    check(r#"{"resourceLogs":nothing}"#, "a value");
    check(r#"{'a':1}"#, "a key");
    assert_eq!(run(Signal::Logs, b" {} \n").unwrap().bytes, b"");
    assert_eq!(
        run(Signal::Logs, br#"{"resourceLogs":[]}"#).unwrap().bytes,
        b""
    );
}

#[test]
fn strings_that_are_not_unicode_are_repaired_and_counted() {
    let check = |bytes: &[u8], expected: &str, repaired: usize| {
        let members = [br#""severityText":""#, bytes, br#"""#].concat();
        let (record, count) = record(&members).unwrap();
        assert_eq!(
            (record.severity_text.as_str(), count),
            (expected, repaired),
            "{bytes:?}"
        );
    };
    check(b"plain \xc3\xa9", "plain é", 0);
    check(br"\u00e9\n", "é\n", 0);
    check(br"\ud83d\ude00", "😀", 0);
    check(br"a\ud83dz", "a\u{fffd}z", 1);
    check(br"\udc00\ud800", "\u{fffd}\u{fffd}", 1);
    check(b"a\xffz", "a\u{fffd}z", 1);
    check(b"\\n\xff", "\n\u{fffd}", 1);
    check(b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}", 1);
}

/// A record whose body is an array in an array, so many times.
fn nested_arrays(levels: usize) -> String {
    let open = r#"{"arrayValue":{"values":["#.repeat(levels);
    let close = "]}}".repeat(levels);
    record_text(&format!(r#""body":{open}{close}"#))
}

#[test]
fn nesting_is_bounded_and_needs_no_stack() {
    let check = |levels: usize, expected: bool| {
        let found = run(Signal::Logs, nested_arrays(levels).as_bytes());
        assert_eq!(found.is_ok(), expected, "{levels}: {found:?}");
    };
    check(1, true);
    check(20, true);
    check(47, true);
    check(51, false);
    check(100_000, false);
    let unknown = |levels: usize| {
        let text = format!(r#"{{"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        run(Signal::Logs, text.as_bytes()).is_ok()
    };
    assert!(unknown(9_999));
    assert!(!unknown(100_000));
}

#[test]
fn lengths_of_every_size_are_patched() {
    for size in [
        0, 1, 100, 120, 127, 128, 129, 16_000, 16_383, 16_384, 2_097_152,
    ] {
        let value = "x".repeat(size);
        let members = format!(r#""body":{{"stringValue":"{value}"}}"#);
        accepts(&members, body(text(&value)));
        let deep =
            nested_arrays(30).replacen("[]", &format!(r#"[{{"stringValue":"{value}"}}]"#), 1);
        let decoded = decode(Signal::Logs, deep.as_bytes(), LIMIT).unwrap();
        let request = ExportLogsServiceRequest::decode(decoded.bytes.as_slice()).unwrap();
        let encoded = request.encode_to_vec();
        let found = encoded
            .windows(size.max(1))
            .any(|window| window == value.as_bytes());
        assert!(found || size == 0, "{size}");
    }
}

#[test]
fn the_result_is_limited() {
    let text = record_text(&format!(r#""severityText":"{}""#, "x".repeat(1000)));
    assert!(decode(Signal::Logs, text.as_bytes(), 2000).is_ok());
    let error = decode(Signal::Logs, text.as_bytes(), 500).unwrap_err();
    assert_eq!(error.problem, Problem::TooLarge);
}

#[test]
fn a_request_reads_as_prost_writes_it() {
    let text = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},
        "scopeLogs":[{"scope":{"name":"n"},"logRecords":[{"timeUnixNano":"1"},{"timeUnixNano":"2"}],"schemaUrl":"u"}]}]}"#;
    let decoded = run(Signal::Logs, text).unwrap();
    let record = |time_unix_nano| LogRecord {
        time_unix_nano,
        ..LogRecord::default()
    };
    let mut expected = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![record(1), record(2)],
                schema_url: "u".to_owned(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    let pair = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue {
            value: Some(self::text("s")),
        }),
        ..KeyValue::default()
    };
    expected.resource_logs[0]
        .resource
        .get_or_insert_default()
        .attributes
        .push(pair);
    let scope = &mut expected.resource_logs[0].scope_logs[0].scope;
    scope.get_or_insert_default().name = "n".to_owned();
    assert_eq!(decoded.bytes, expected.encode_to_vec());
}

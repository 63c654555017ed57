//! What OTLP/JSON is read, what is refused, and that it agrees with the encoder on random requests.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::{decode, encode, fuzz_json_decode};
use crate::otlp::testing::{Random, Tree, mutate_bytes, random_request};
use crate::signal::Signal;

fn in_span(members: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#)
}

fn in_record(members: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{members}}}]}}]}}]}}"#)
}

fn span(members: &str) -> Result<Span, String> {
    let bytes =
        decode(Signal::Traces, in_span(members).as_bytes()).map_err(|error| error.to_string())?;
    let checked =
        crate::otlp::check(Signal::Traces, bytes.into()).map_err(|error| error.to_string())?;
    let request =
        ExportTraceServiceRequest::decode(checked.bytes).map_err(|error| error.to_string())?;
    Ok(request.resource_spans[0].scope_spans[0].spans[0].clone())
}

fn record(members: &[u8]) -> Result<LogRecord, String> {
    let mut text = in_record("@").into_bytes();
    let at = text.iter().position(|byte| *byte == b'@').unwrap();
    text.splice(at..=at, members.iter().copied());
    let bytes = decode(Signal::Logs, &text).map_err(|error| error.to_string())?;
    let checked =
        crate::otlp::check(Signal::Logs, bytes.into()).map_err(|error| error.to_string())?;
    let request =
        ExportLogsServiceRequest::decode(checked.bytes).map_err(|error| error.to_string())?;
    Ok(request.resource_logs[0].scope_logs[0].log_records[0].clone())
}

fn check_span(members: &str, expected: Span) {
    assert_eq!(span(members), Ok(expected), "{members}");
}

fn check_refused(members: &str) {
    assert!(span(members).is_err(), "{members}");
}

fn body(json: &str) -> Option<Value> {
    record(format!(r#""body":{json}"#).as_bytes())
        .unwrap()
        .body?
        .value
}

#[test]
fn ids_are_hexadecimal_in_either_case() {
    let trace_id = (0x50..0x60).collect::<Vec<u8>>();
    let expected = Span {
        trace_id,
        span_id: vec![0xab, 0xcd, 0xef, 1, 2, 3, 4, 5],
        ..Span::default()
    };
    check_span(
        r#""traceId":"505152535455565758595a5b5c5d5e5f","spanId":"ABCDEF0102030405""#,
        expected,
    );
    check_span(r#""traceId":"""#, Span::default());
    for wrong in [
        r#""traceId":"5051""#,
        r#""traceId":"505""#,
        r#""spanId":"EjRWeJCrze8=""#,
        r#""traceId":7"#,
    ] {
        check_refused(wrong);
    }
}

#[test]
fn enums_are_numbers_or_names() {
    let kind = |kind| Span {
        kind,
        ..Span::default()
    };
    check_span(r#""kind":3"#, kind(3));
    check_span(r#""kind":"SPAN_KIND_SERVER""#, kind(2));
    check_span(r#""kind":99"#, kind(99));
    for wrong in [
        r#""kind":"SERVER""#,
        r#""kind":null"#,
        r#""kind":1.5"#,
        r#""kind":3000000000"#,
    ] {
        check_refused(wrong);
    }
}

#[test]
fn whole_numbers_may_be_quoted_and_are_exact() {
    let start = |start_time_unix_nano| Span {
        start_time_unix_nano,
        ..Span::default()
    };
    check_span(
        r#""startTimeUnixNano":"18446744073709551615""#,
        start(u64::MAX),
    );
    check_span(
        r#""startTimeUnixNano":18446744073709551615"#,
        start(u64::MAX),
    );
    check_span(r#""startTimeUnixNano":1e3"#, start(1000));
    check_span(r#""start_time_unix_nano":5"#, start(5));
    check_span(r#""startTimeUnixNano":1,"startTimeUnixNano":2"#, start(2));
    check_span(r#""startTimeUnixNano":null"#, start(0));
    for wrong in [
        "-1",
        "1.5",
        "18446744073709551616",
        "\"\"",
        "\"x\"",
        "true",
        "01",
        "1.",
        "1e",
        "[1]",
    ] {
        check_refused(&format!(r#""startTimeUnixNano":{wrong}"#));
    }
}

#[test]
fn values_of_every_type() {
    let check = |json: &str, expected: Value| assert_eq!(body(json), Some(expected), "{json}");
    check(r#"{"stringValue":"a"}"#, Value::StringValue("a".to_owned()));
    check(r#"{"boolValue":false}"#, Value::BoolValue(false));
    check(
        r#"{"intValue":"-9223372036854775808"}"#,
        Value::IntValue(i64::MIN),
    );
    check(r#"{"intValue":7}"#, Value::IntValue(7));
    check(
        r#"{"doubleValue":"-Infinity"}"#,
        Value::DoubleValue(f64::NEG_INFINITY),
    );
    check(r#"{"doubleValue":1e-7}"#, Value::DoubleValue(1e-7));
    check(r#"{"doubleValue":"2.5"}"#, Value::DoubleValue(2.5));
    for text in ["/+8=", "_-8=", "/+8", "_-8"] {
        check(
            &format!(r#"{{"bytesValue":"{text}"}}"#),
            Value::BytesValue(vec![255, 239]),
        );
    }
    check(
        r#"{"string_value":"snake"}"#,
        Value::StringValue("snake".to_owned()),
    );
    assert!(
        matches!(body(r#"{"doubleValue":"NaN"}"#), Some(Value::DoubleValue(value)) if value.is_nan())
    );
    assert_eq!(body("{}"), None);
}

#[test]
fn strings_with_escapes_and_without_utf8() {
    let check = |json: &[u8], expected: &str| {
        let mut members = br#""severityText":"#.to_vec();
        members.extend_from_slice(json);
        assert_eq!(
            record(&members).unwrap().severity_text,
            expected,
            "{}",
            String::from_utf8_lossy(json)
        );
    };
    check(br#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{c}\n\r\tz");
    check(br#""\u00e9\ud83d\ude00""#, "\u{e9}\u{1f600}");
    check(br#""\ud83d-\ude00""#, "\u{fffd}-\u{fffd}");
    check(br#""\ud83d\u0041""#, "\u{fffd}A");
    check(b"\"a\xffz\"", "a\u{fffd}z");
    for wrong in [&b"\"\\x\""[..], b"\"\\u12\"", b"\"\n\"", b"\"open"] {
        let mut members = br#""severityText":"#.to_vec();
        members.extend_from_slice(wrong);
        assert!(
            record(&members).is_err(),
            "{}",
            String::from_utf8_lossy(wrong)
        );
    }
}

#[test]
fn unknown_keys_are_skipped_at_any_depth() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let name = Span {
        name: "a".to_owned(),
        ..Span::default()
    };
    check_span(
        &format!(r#""x":{{"y":[1,{{"z":null}},"s",true,[]]}},"deep":{deep},"name":"a""#),
        name,
    );
    check_refused(r#""x":[1,],"name":"a""#);
    check_refused(r#""x":{"y"},"name":"a""#);
    check_refused(&format!(r#""x":{}"#, "[".repeat(100_000)));
}

#[test]
fn known_messages_nest_as_deep_as_the_check_allows() {
    let nested = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        format!(r#""body":{open}{{"intValue":1}}{}"#, "]}}".repeat(levels))
    };
    // `record` has prost decode it too, whose limit it is.
    let deepest = (1..100).take_while(|levels| record(nested(*levels).as_bytes()).is_ok());
    assert_eq!(deepest.last(), Some(47));
    assert!(record(nested(100_000).as_bytes()).is_err());
}

#[test]
fn the_document_is_one_object_and_nothing_else() {
    let check = |text: &str, ok: bool| {
        assert_eq!(
            decode(Signal::Traces, text.as_bytes()).is_ok(),
            ok,
            "{text:?}"
        )
    };
    check("{}", true);
    check(" \r\n\t{} \n", true);
    check(r#"{"resourceSpans":null}"#, true);
    check(r#"{"resourceSpans":[]}"#, true);
    for wrong in [
        "",
        " ",
        "[]",
        "null",
        "1",
        "{",
        "{}}",
        "{} x",
        "\u{feff}{}",
        "{\"resourceSpans\":{}}",
        "{,}",
        "{\"a\":1,}",
    ] {
        check(wrong, false);
    }
}

#[test]
fn errors_say_what_and_where() {
    let error = decode(Signal::Traces, b"{\n  \"resourceSpans\": 7}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "resourceSpans must be an array at line 2 column 20"
    );
}

#[test]
fn what_the_encoder_writes_reads_back() {
    for signal in Signal::ALL {
        for seed in 0..300 {
            let request = random_request(signal, seed);
            let checked = crate::otlp::check(signal, request.into()).unwrap();
            let mut text = Vec::new();
            encode(signal, std::iter::once(checked.bytes.as_ref()), &mut text).unwrap();
            let decoded =
                decode(signal, &text).unwrap_or_else(|error| panic!("{signal} {seed}: {error}"));
            let tree = Tree::decode(signal, &decoded).unwrap();
            let mut again = Vec::new();
            encode(
                signal,
                std::iter::once(tree.encode().as_slice()),
                &mut again,
            )
            .unwrap();
            // Members stand in the order of the wire, which the tree does not keep.
            let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
            assert_eq!(read(&text), read(&again), "{signal} {seed}");
        }
    }
}

#[test]
fn mutated_text_never_panics() {
    let mut random = Random::new(7);
    for seed in 0..600 {
        let signal = Signal::ALL[seed as usize % 3];
        let checked = crate::otlp::check(signal, random_request(signal, seed).into()).unwrap();
        let mut text = Vec::new();
        encode(signal, std::iter::once(checked.bytes.as_ref()), &mut text).unwrap();
        let other = text.clone();
        for _ in 0..10 {
            mutate_bytes(&mut random, &mut text, &other);
            fuzz_json_decode(signal, &text);
        }
    }
}

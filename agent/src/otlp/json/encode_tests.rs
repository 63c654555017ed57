//! The encoder against prost: random wire bytes, every field, and awkward requests.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value as Json;

use super::*;
#[path = "encode_oracle.rs"]
mod oracle;

fn encoded(signal: Signal, chunks: &[&[u8]]) -> String {
    let mut out = Vec::new();
    encode(signal, chunks.iter().copied(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What an independent rendering of prost's reading gives.
fn rendered(signal: Signal, bytes: &[u8]) -> Json {
    match signal {
        Signal::Traces => oracle::traces(&ExportTraceServiceRequest::decode(bytes).unwrap()),
        Signal::Metrics => oracle::metrics(&ExportMetricsServiceRequest::decode(bytes).unwrap()),
        Signal::Logs => oracle::logs(&ExportLogsServiceRequest::decode(bytes).unwrap()),
    }
}

fn check(signal: Signal, chunks: &[&[u8]]) {
    let text = encoded(signal, chunks);
    let found: Json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    // Through text, because serde_json's parser rounds some doubles: both sides go through it.
    let expected = rendered(signal, &chunks.concat()).to_string();
    let expected: Json = serde_json::from_str(&expected).unwrap();
    assert_eq!(found, expected, "{text}");
    assert!(!text.contains('\n'));
}

/// Writes random messages of the schema: fields in any order, again and again, packed or not, with unknown ones.
struct Generator(u64);

impl Generator {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }

    fn number(&mut self) -> u64 {
        let edges = [0, 1, 127, 128, 1 << 31, u64::from(u32::MAX), u64::MAX];
        let doubles = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.1, 1e300];
        match self.below(3) {
            0 => edges[self.below(7) as usize],
            1 => doubles[self.below(6) as usize].to_bits(),
            _ => self.below(u64::MAX),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let samples = ["", "a", "\"\\\n\u{1}", "grüße", "\u{1f600}", "service.name"];
        samples[self.below(6) as usize].as_bytes().to_vec()
    }

    fn message(&mut self, schema: &Message, depth: u32) -> Vec<u8> {
        let mut wire = Vec::new();
        for _ in 0..self.below(if depth == 0 { 3 } else { 7 }) {
            if self.below(12) == 0 {
                delimited(&mut wire, 99, b"unknown");
                continue;
            }
            let field = &schema.fields[self.below(schema.fields.len() as u64) as usize];
            self.field(&mut wire, field, depth);
        }
        wire
    }

    fn field(&mut self, wire: &mut Vec<u8>, field: &FieldSchema, depth: u32) {
        let number = field.number;
        match field.form {
            Form::Message(_) | Form::Messages(_) if depth == 0 => {}
            Form::Message(schema) | Form::Messages(schema) => {
                let inner = self.message(schema, depth - 1);
                delimited(wire, number, &inner);
            }
            Form::String | Form::Strings | Form::Base64 => {
                let text = self.text();
                delimited(wire, number, &text);
            }
            Form::Id => {
                let length = if field.key.contains("traceId") { 16 } else { 8 };
                let byte = self.below(3) as u8;
                delimited(wire, number, &vec![byte; length * usize::from(byte < 2)]);
            }
            Form::Fixed32 => {
                varint(wire, u64::from(number << 3 | 5));
                let bits = self.number() as u32;
                wire.extend(bits.to_le_bytes());
            }
            Form::Fixed64s | Form::Doubles => self.fixed64s(wire, number),
            Form::Varints => self.varints(wire, number),
            Form::Double | Form::Fixed64 | Form::Sfixed64 => self.fixed64(wire, number),
            _ => {
                varint(wire, u64::from(number << 3));
                let bits = self.number();
                varint(wire, bits);
            }
        }
    }

    fn fixed64(&mut self, wire: &mut Vec<u8>, number: u32) {
        varint(wire, u64::from(number << 3 | 1));
        wire.extend(self.number().to_le_bytes());
    }

    fn fixed64s(&mut self, wire: &mut Vec<u8>, number: u32) {
        if self.below(2) == 0 {
            return self.fixed64(wire, number);
        }
        let packed: Vec<u8> = (0..self.below(4))
            .flat_map(|_| self.number().to_le_bytes())
            .collect();
        delimited(wire, number, &packed);
    }

    fn varints(&mut self, wire: &mut Vec<u8>, number: u32) {
        if self.below(2) == 0 {
            varint(wire, u64::from(number << 3));
            let bits = self.number();
            return varint(wire, bits);
        }
        let mut packed = Vec::new();
        for _ in 0..self.below(4) {
            let bits = self.number();
            varint(&mut packed, bits);
        }
        delimited(wire, number, &packed);
    }
}

fn varint(wire: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, wire);
}

fn delimited(wire: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(wire, u64::from(number << 3 | 2));
    varint(wire, bytes.len() as u64);
    wire.extend_from_slice(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_wire_bytes_read_as_prost_reads_them(seed: u64, cut in 0usize..4) {
        let mut generator = Generator(seed);
        for signal in Signal::ALL {
            let chunks: Vec<_> = (0..=cut).map(|_| generator.message(request(signal), 8)).collect();
            check(signal, &chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_was_encoded_decodes_to_the_same(seed: u64) {
        let mut generator = Generator(seed);
        for signal in Signal::ALL {
            let wire = generator.message(request(signal), 8);
            let text = encoded(signal, &[&wire]);
            fuzz_json_encode(signal, &wire);
            let again = crate::otlp::json::decode(signal, text.as_bytes()).unwrap();
            assert_eq!(encoded(signal, &[&again]), text);
        }
    }

    #[test]
    fn any_bytes_are_encoded_or_refused(bytes: Vec<u8>) {
        for signal in Signal::ALL {
            let mut out = Vec::new();
            if encode(signal, std::iter::once(bytes.as_slice()), &mut out).is_ok() {
                serde_json::from_slice::<Json>(&out).unwrap();
            }
            fuzz_json_encode(signal, &bytes);
        }
    }
}

#[test]
fn nothing_is_an_empty_object() {
    assert_eq!(encoded(Signal::Traces, &[]), "{}");
    assert_eq!(encoded(Signal::Logs, &[b"", b""]), "{}");
}

#[test]
fn messages_held_by_value_are_written_when_absent() {
    let mut wire = Vec::new();
    delimited(&mut wire, 1, &[0x12, 2, 0x12, 0]);
    assert_eq!(
        encoded(Signal::Traces, &[&wire]),
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"status":{}}],"scope":{}}],"resource":{}}]}"#
    );
}

#[test]
fn several_chunks_are_one_request() {
    let chunk = [0x0a, 0];
    assert_eq!(
        encoded(Signal::Logs, &[&chunk, &[], &chunk]),
        r#"{"resourceLogs":[{"resource":{}},{"resource":{}}]}"#
    );
}

#[test]
fn the_last_member_of_a_oneof_counts_and_starts_afresh() {
    // An array of one, then a string, then an empty array: prost keeps the empty array.
    let any = [0x2a, 2, 0x0a, 0, 0x0a, 1, b'x', 0x2a, 0];
    let mut body = Vec::new();
    delimited(&mut body, 5, &any);
    let mut record = Vec::new();
    delimited(&mut record, 2, &body);
    let mut scope = Vec::new();
    delimited(&mut scope, 2, &record);
    let mut wire = Vec::new();
    delimited(&mut wire, 1, &scope);
    assert!(encoded(Signal::Logs, &[&wire]).contains(r#""body":{"arrayValue":{}}"#));
    check(Signal::Logs, &[&wire]);
}

#[test]
fn nesting_is_bounded() {
    let mut any = Vec::new();
    for _ in 0..DEPTH_MAX {
        let mut array = Vec::new();
        delimited(&mut array, 1, &any);
        any.clear();
        delimited(&mut any, 5, &array);
    }
    let mut record = Vec::new();
    delimited(&mut record, 5, &any);
    let mut out = Vec::new();
    let schema = request(Signal::Logs);
    for field in [2, 2, 1] {
        let inner = std::mem::take(&mut record);
        delimited(&mut record, field, &inner);
    }
    assert_eq!(
        write_message(&mut out, schema, &[&record], DEPTH_MAX),
        Err(WireError::Depth)
    );
}

#[test]
fn golden_requests_read_as_prost_reads_them() {
    for (signal, bytes) in [
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
    ] {
        check(signal, &[bytes]);
    }
}

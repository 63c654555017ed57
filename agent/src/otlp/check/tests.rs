//! [`check`] against prost: random requests, mutations of them, and cases by hand.

use super::super::testing::{
    Random, Tree, mutate_bytes, mutate_fields, nested_values, random_request,
};
use super::*;

/// A field with `content`, for messages built by hand.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    super::super::rewrite::put_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// A logs request with one record.
fn log(record: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, record)))
}

fn run(signal: Signal, bytes: &[u8]) -> Result<Checked, WireError> {
    fuzz_check(signal, bytes);
    check(signal, Bytes::copy_from_slice(bytes))
}

#[test]
fn random_requests_pass_unchanged_and_are_counted() {
    for signal in Signal::ALL {
        for seed in 0..100 {
            let bytes = random_request(signal, seed);
            let tree = Tree::decode(signal, &bytes).unwrap();
            let checked = run(signal, &bytes).unwrap();
            assert_eq!(checked.bytes, bytes, "{signal} {seed}");
            assert_eq!(checked.items, tree.items(), "{signal} {seed}");
            assert_eq!(checked.repaired_strings, 0, "{signal} {seed}");
        }
    }
}

#[test]
fn damaged_bytes_are_judged_as_prost_does() {
    for signal in Signal::ALL {
        for seed in 0..400 {
            let random = &mut Random::new(seed);
            let mut bytes = random_request(signal, seed % 50);
            let other = random_request(random.one_of(&Signal::ALL), seed % 7);
            mutate_bytes(random, &mut bytes, &other);
            fuzz_check(signal, &bytes);
        }
    }
}

#[test]
fn odd_fields_are_judged_as_prost_does() {
    let (mut accepted, mut repaired, mut rewritten) = (0, 0, 0);
    for signal in Signal::ALL {
        for seed in 0..400 {
            let random = &mut Random::new(seed);
            let bytes = mutate_fields(random, signal, &random_request(signal, seed % 50));
            if let Ok(checked) = run(signal, &bytes) {
                accepted += 1;
                repaired += usize::from(checked.repaired_strings > 0);
                rewritten += usize::from(checked.bytes != bytes);
            }
        }
    }
    // The mutations reach all outcomes.
    assert!(accepted > 200, "{accepted}");
    assert!(repaired > 3, "{repaired}");
    assert!(rewritten > repaired + 20, "{rewritten}");
}

#[test]
fn depth_is_limited_as_in_prost() {
    for signal in Signal::ALL {
        for messages in [5, 6, 7, 20, 98, 99, 100] {
            let checked = run(signal, &nested_values(signal, messages));
            assert_eq!(checked.map(|checked| checked.items), Ok(1), "{messages}");
        }
        for messages in [101, 102, 10_000] {
            let checked = run(signal, &nested_values(signal, messages));
            assert_eq!(checked, Err(WireError::Depth), "{messages}");
        }
    }
}

#[test]
fn ids_of_wrong_length_are_refused() {
    let trace_id = |length| field(9, &vec![1; length]);
    let span_id = |length| field(10, &vec![1; length]);
    let check = |record: Vec<u8>, expected: Option<WireError>| {
        assert_eq!(run(Signal::Logs, &log(&record)).err(), expected);
    };
    check(trace_id(0), None);
    check(trace_id(16), None);
    check(trace_id(8), Some(WireError::TraceId));
    check(trace_id(17), Some(WireError::TraceId));
    check(span_id(0), None);
    check(span_id(8), None);
    check(span_id(16), Some(WireError::SpanId));
}

#[test]
fn invalid_strings_are_replaced_and_counted() {
    let check = |text: &[u8], expected: &str, count: usize| {
        // An unknown field, before and after, with an overlong key.
        let unknown = [0xfa, 0x87, 0x00, 1, 0xff];
        let record = |text: &[u8]| [&unknown, &field(3, text)[..], &unknown].concat();
        let checked = run(Signal::Logs, &log(&record(text))).unwrap();
        assert_eq!(checked.bytes, log(&record(expected.as_bytes())));
        assert_eq!(checked.repaired_strings, count);
        assert_eq!(checked.items, 1);
    };
    check(b"", "", 0);
    check("grüße".as_bytes(), "grüße", 0);
    check(b"a\xffb", "a\u{fffd}b", 1);
    check(b"\xe2\x82", "\u{fffd}", 1);
    // Three bytes for each: the lengths around it need more bytes than before.
    check(&[0x80; 60], &"\u{fffd}".repeat(60), 1);
    check(&[0x80; 6000], &"\u{fffd}".repeat(6000), 1);
}

#[test]
fn what_occurs_twice_is_merged() {
    let check = |before: &[&[u8]], after: &[&[u8]]| {
        let checked = run(Signal::Logs, &log(&before.concat())).unwrap();
        assert_eq!(checked.bytes, log(&after.concat()));
    };
    let text = |value: &str| field(1, value.as_bytes());
    let array = |values: &[&str]| {
        let values: Vec<_> = values.iter().map(|value| field(1, &text(value))).collect();
        field(5, &values.concat())
    };
    let body = |parts: &[&[u8]]| field(5, &parts.concat());
    // A oneof of two members: the last one stays.
    check(&[&body(&[&text("a"), &text("b")])], &[&body(&[&text("b")])]);
    check(
        &[&body(&[&array(&["a"]), &text("b")])],
        &[&body(&[&text("b")])],
    );
    // Equal message members are merged, unless another came between.
    check(
        &[&body(&[&array(&["a"]), &array(&["b"])])],
        &[&body(&[&array(&["a", "b"])])],
    );
    check(
        &[&body(&[&array(&["a"]), &text("b"), &array(&["c"])])],
        &[&body(&[&array(&["c"])])],
    );
    // A singular message in two parts, with a oneof across them.
    check(
        &[&body(&[&array(&["a"])]), &body(&[&array(&["b"])])],
        &[&body(&[&array(&["a", "b"])])],
    );
    check(
        &[&body(&[&text("a")]), &body(&[&text("b")])],
        &[&body(&[&text("b")])],
    );
}

#[test]
fn only_the_last_kind_of_data_counts() {
    let data = |kind: u8, points: usize| field(kind, &field(1, &[]).repeat(points));
    let check = |data: &[Vec<u8>], items: usize| {
        let request = field(1, &field(2, &field(2, &data.concat())));
        assert_eq!(run(Signal::Metrics, &request).unwrap().items, items);
    };
    check(&[], 0);
    check(&[data(5, 3)], 3);
    check(&[data(5, 3), data(5, 2)], 5);
    check(&[data(5, 3), data(7, 2)], 2);
    check(&[data(5, 3), data(7, 2), data(5, 1)], 1);
    check(&[data(9, 1), data(10, 1), data(11, 4)], 4);
}

#[test]
fn ascii_is_what_the_standard_library_says() {
    for length in 0..70 {
        let mut bytes = vec![0x7f; length];
        assert!(is_ascii(&bytes));
        for at in 0..length {
            bytes[at] = 0x80;
            assert!(!is_ascii(&bytes), "{at} of {length}");
            bytes[at] = 0x41;
        }
    }
}

#[test]
fn attributes_near_the_plain_ones_are_judged_as_prost_does() {
    let plain: [&[u8]; 10] = [
        &[0x0a, 1, b'k', 0x12, 3, 0x0a, 1, b'v'],
        &[0x0a, 0, 0x12, 2, 0x0a, 0],
        &[0x0a, 1, b'k', 0x12, 2, 0x10, 1],
        &[0x0a, 1, b'k', 0x12, 2, 0x18, 7],
        &[0x0a, 1, b'k', 0x12, 3, 0x18, 0xff, 0x7f],
        &[0x0a, 1, b'k', 0x12, 4, 0x18, 0xff, 0x80, 0x7f],
        &[
            0x0a, 1, b'k', 0x12, 10, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 0x7f,
        ],
        &[
            0x0a, 1, b'k', 0x12, 11, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1,
        ],
        &[0x0a, 1, b'k', 0x12, 9, 0x21, 0, 0, 0, 0, 0, 0, 0, 0],
        &[
            0x0a, 1, b'k', 0x12, 9, 0x21, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
    ];
    for attribute in plain {
        assert!(run(Signal::Logs, &log(&field(6, attribute))).is_ok());
        for at in 0..attribute.len() {
            for byte in (0..=0x20).chain(0x7d..=0x83).chain([0xff]) {
                let mut odd = attribute.to_vec();
                odd[at] = byte;
                fuzz_check(Signal::Logs, &log(&field(6, &odd)));
            }
        }
    }
    // Strings around the length at which a length takes two bytes.
    for length in 110..140 {
        let key = field(1, &vec![b'k'; length]);
        let value = field(2, &field(1, &vec![b'v'; length]));
        for attribute in [key.clone(), value.clone(), [key, value].concat()] {
            assert!(run(Signal::Logs, &log(&field(6, &attribute))).is_ok());
        }
    }
}

#[test]
fn runs_of_attributes_are_judged_as_prost_does() {
    let pairs: [&[u8]; 5] = [
        b"\x0a\x01k\x12\x05\x0a\x03get",
        &[0x0a, 1, b'n', 0x12, 3, 0x18, 0xf7, 3],
        b"\x0a\x04host\x12\x16\x0a\x14shop.eu.example.com.",
        &[
            0x0a, 1, b'd', 0x12, 9, 0x21, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
        b"\x0a\x01z\x12\x02\x10\x01",
    ];
    let of = |number: u8| -> Vec<u8> {
        let pairs = pairs.iter().flat_map(|pair| field(number, pair));
        pairs.collect()
    };
    let status_and_flags = [0x7a, 2, 0x18, 1, 0x85, 1, 1, 1, 0, 0];
    let span = [&of(9)[..], &status_and_flags].concat();
    let number = [&[0x31][..], &[0xff; 8], &of(7)].concat();
    let buckets = [&field(6, &[1; 16])[..], &field(7, &[1; 8]), &of(9)].concat();
    let point =
        |kind: u8, point: &[u8]| field(1, &field(2, &field(2, &field(kind, &field(1, point)))));
    for (signal, request) in [
        (Signal::Logs, log(&of(6))),
        (Signal::Traces, log(&span)),
        (Signal::Metrics, point(5, &number)),
        (Signal::Metrics, point(9, &buckets)),
    ] {
        assert_eq!(run(signal, &request).unwrap().items, 1, "{signal}");
        for at in 0..request.len() {
            for byte in (0..=0x20)
                .chain(0x78..=0x86)
                .chain([0x0a, 0x4a, 0xc3, 0xff])
            {
                let mut odd = request.clone();
                odd[at] = byte;
                fuzz_check(signal, &odd);
            }
        }
    }
}

//! [`split`] against prost's trees, and cases by hand for what prost does not see.

use super::super::rewrite::put_varint;
use super::super::testing::{Random, mutate_fields, random_request};
use super::*;

/// A field with `content`, for messages built by hand.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    put_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn check(signal: Signal, request: &[u8], items_max: usize, expected: &[(&[u8], usize)]) {
    fuzz_split(signal, request);
    let pieces = split(signal, &Bytes::copy_from_slice(request), items_max);
    let pieces: Vec<_> = pieces
        .iter()
        .map(|(bytes, items)| (&bytes[..], *items))
        .collect();
    assert_eq!(pieces, expected);
}

#[test]
fn random_requests_keep_every_item_in_order() {
    for signal in Signal::ALL {
        for seed in 0..60 {
            fuzz_split(signal, &random_request(signal, seed));
        }
    }
}

#[test]
fn odd_requests_keep_every_item_in_order() {
    for signal in Signal::ALL {
        for seed in 0..200 {
            let random = &mut Random::new(seed);
            let bytes = mutate_fields(random, signal, &random_request(signal, seed % 30));
            fuzz_split(signal, &bytes);
        }
    }
}

#[test]
fn what_stands_beside_items_is_repeated() {
    let (resource, unknown, url) = (field(1, b""), [0xfa, 0x87, 0x00, 1, 0xff], field(3, b"url"));
    let a = field(2, &field(5, b"a"));
    let b = field(2, &field(5, b"b"));
    let scope = |spans: &[&[u8]]| field(2, &[&unknown, &url[..], &spans.concat()].concat());
    // The unknown field stands between the containers, and is written before them where the resource is cut.
    let request = field(
        1,
        &[&resource[..], &scope(&[&a, &b]), &unknown, &scope(&[&b])].concat(),
    );
    let piece = |content: &[u8]| field(1, &[&resource[..], &unknown, content].concat());
    check(
        Signal::Traces,
        &request,
        1,
        &[
            (&piece(&scope(&[&a])), 1),
            (&piece(&scope(&[&b])), 1),
            (&piece(&scope(&[&b])), 1),
        ],
    );
    check(
        Signal::Traces,
        &request,
        2,
        &[(&piece(&scope(&[&a, &b])), 2), (&piece(&scope(&[&b])), 1)],
    );
    check(Signal::Traces, &request, 3, &[(&request, 3)]);
}

#[test]
fn metrics_are_cut_between_points() {
    let name = field(1, b"name");
    let point = |value: u8| field(1, &field(7, &field(1, &[b'k', value])));
    let temporality = [0x10, 2];
    let sum = |points: &[u8]| {
        let data = field(7, &[&temporality[..], points].concat());
        field(1, &field(2, &field(2, &[&name[..], &data].concat())))
    };
    check(
        Signal::Metrics,
        &sum(&[point(1), point(2), point(3)].concat()),
        2,
        &[
            (&sum(&[point(1), point(2)].concat()), 2),
            (&sum(&point(3)), 1),
        ],
    );
}

#[test]
fn containers_without_items_are_kept_as_they_are() {
    let empty = field(1, &field(2, b""));
    let one = field(1, &field(2, &field(2, b"")));
    check(Signal::Logs, b"", 1, &[]);
    check(Signal::Logs, &empty, 1, &[(&empty, 0)]);
    let request = [&empty[..], &one, &empty, &one, &empty].concat();
    check(
        Signal::Logs,
        &request,
        1,
        &[
            (&[&empty[..], &one, &empty].concat(), 1),
            (&[&one[..], &empty].concat(), 1),
        ],
    );
}

#[test]
fn uncut_containers_share_the_requests_memory() {
    let one = field(1, &field(2, &field(2, b"")));
    let request = Bytes::from(one.repeat(3));
    for (piece, _) in split(Signal::Traces, &request, 2) {
        assert!(request.as_ptr_range().contains(&piece.as_ptr()));
    }
}

#[test]
fn pieces_of_any_size_come_off_the_front() {
    let one = field(2, b"");
    let request = |spans: usize| field(1, &field(2, &one.repeat(spans)));
    let mut splitter = Splitter::new(Signal::Traces, request(10).into());
    let mut check = |items_max, expected: usize| {
        let piece = splitter.take(items_max);
        assert_eq!(piece, Some((request(expected).into(), expected)));
    };
    check(3, 3);
    check(1, 1);
    check(0, 1);
    check(usize::MAX, 5);
    assert_eq!(splitter.take(1), None);
}

//! The encoder against an independent flattening of prost's objects, and against the Collector's rows.

mod flatten;
mod golden;
mod random;

use proptest::prelude::*;

use super::super::native::Method;
use super::super::native::decode::{Row, decode, unframed};
use super::{Adjusted, Block, Encoder, Table};
use crate::batch::{Chunk, Payload};
use crate::signal::Signal;

/// Encodes requests as one batch.
fn encode(signal: Signal, method: Method, requests: &[Vec<u8>]) -> (Vec<Block>, Adjusted) {
    let mut encoder = Encoder::new(method).unwrap();
    encode_with(&mut encoder, signal, requests)
}

fn encode_with(
    encoder: &mut Encoder,
    signal: Signal,
    requests: &[Vec<u8>],
) -> (Vec<Block>, Adjusted) {
    let mut payload = Payload::default();
    for request in requests {
        payload.push(Chunk::new(request.clone().into(), 1));
    }
    let mut adjusted = Adjusted::default();
    let blocks = encoder.encode(signal, &payload, &mut adjusted).unwrap();
    (blocks, adjusted)
}

/// The rows of a block, which has the columns its table names.
fn rows(block: &Block, method: Method) -> Vec<Row> {
    let content = match method {
        Method::None => block.body.to_vec(),
        _ => unframed(&block.body),
    };
    let (rows, header) = decode(&content);
    assert_eq!(rows.len(), block.rows);
    let names: Vec<&str> = header.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, block.table.columns());
    rows
}

fn assert_same(table: Table, found: &[Row], expected: &[Row]) {
    assert_eq!(found.len(), expected.len(), "{table:?}");
    for (found, expected) in found.iter().zip(expected) {
        for (name, cell) in expected {
            let ours = found
                .get(name)
                .unwrap_or_else(|| panic!("{table:?} lacks {name}"));
            assert!(
                ours.same(cell),
                "{table:?} {name}: {ours:?} instead of {cell:?}"
            );
        }
        assert_eq!(found.len(), expected.len(), "{table:?}");
    }
}

/// The blocks are what prost's objects give, row by row.
fn check(signal: Signal, method: Method, requests: &[Vec<u8>]) {
    let (blocks, adjusted) = encode(signal, method, requests);
    let (expected, expected_adjusted) = flatten::flatten(signal, &requests.concat());
    let tables: Vec<Table> = blocks.iter().map(|block| block.table).collect();
    assert_eq!(tables, expected.keys().copied().collect::<Vec<_>>());
    assert_eq!(adjusted, expected_adjusted);
    for block in &blocks {
        assert_same(block.table, &rows(block, method), &expected[&block.table]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn any_request_gives_the_rows_of_its_objects(seed: u64, signal in 0..3usize, method in 0..3usize) {
        let signal = Signal::ALL[signal];
        let method = [Method::None, Method::Lz4, Method::Zstd][method];
        let mut random = random::Random(seed | 1);
        let requests: Vec<Vec<u8>> = (0..random.below(3) + 1)
            .map(|_| random::request(&mut random, signal))
            .collect();
        check(signal, method, &requests);
    }
}

#[test]
fn an_empty_batch_has_no_blocks() {
    for signal in Signal::ALL {
        assert_eq!(encode(signal, Method::Lz4, &[Vec::new()]).0, []);
    }
}

/// More rows, longer values and more distinct strings than any buffer starts with.
#[test]
fn large_batches_are_cut_into_frames_and_leave_nothing_behind() {
    let mut encoder = Encoder::new(Method::Lz4).unwrap();
    for signal in Signal::ALL {
        let large = random::many(&mut random::Random(7), signal, 3_000);
        let small = random::many(&mut random::Random(9), signal, 3);
        for request in [&small, &large, &small] {
            let (blocks, _) = encode_with(&mut encoder, signal, std::slice::from_ref(request));
            let (expected, _) = flatten::flatten(signal, request);
            for block in &blocks {
                assert_same(
                    block.table,
                    &rows(block, Method::Lz4),
                    &expected[&block.table],
                );
            }
        }
    }
}

/// A batch that fails in the middle leaves nothing in the columns.
#[test]
fn what_is_not_otlp_is_an_error_and_the_next_batch_is_whole() {
    let mut encoder = Encoder::new(Method::None).unwrap();
    for signal in Signal::ALL {
        let whole = random::many(&mut random::Random(5), signal, 40);
        let cut = whole[..whole.len() - 1].to_vec();
        let payload = Payload::from(Chunk::new(cut.into(), 1));
        assert!(
            encoder
                .encode(signal, &payload, &mut Adjusted::default())
                .is_err()
        );
        let (blocks, _) = encode_with(&mut encoder, signal, std::slice::from_ref(&whole));
        let (expected, _) = flatten::flatten(signal, &whole);
        for block in &blocks {
            assert_same(
                block.table,
                &rows(block, Method::None),
                &expected[&block.table],
            );
        }
    }
}

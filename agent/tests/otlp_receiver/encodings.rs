//! Content encodings over HTTP: accepted ones inflate to the same bytes, damaged ones are refused, bombs stop.

use std::io::Write;

use tidegate::batch::Transport;
use tidegate::component::RequestFailure;

use crate::support::{Harness, JSON, PROTOBUF, traces};

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With every optional part of the header.
fn gzip_with_name(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("body.pb")
        .comment("for a test")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

/// Without the size in the frame's header.
fn zstd_stream(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

pub(crate) fn snappy_framed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.into_inner().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;

const ENCODINGS: [(&str, Compress); 10] = [
    ("gzip", gzip),
    ("gzip", gzip_with_name),
    ("zstd", zstd),
    ("zstd", zstd_stream),
    ("zlib", zlib),
    ("deflate", zlib),
    ("snappy", snappy),
    ("snappy", snappy_framed),
    ("x-snappy-framed", snappy_framed),
    ("lz4", lz4),
];

async fn post(harness: &Harness, encoding: &str, body: &[u8]) -> u16 {
    let headers = [("content-type", PROTOBUF), ("content-encoding", encoding)];
    harness.post("/v1/traces", &headers, body).await.status
}

#[tokio::test]
async fn every_encoding_inflates_to_the_same_bytes() {
    let harness = Harness::start("");
    for spans in [1, 1000] {
        let body = traces(spans);
        for (name, compress) in ENCODINGS {
            for spelled in [name.to_owned(), name.to_uppercase(), format!("  {name} ")] {
                assert_eq!(
                    post(&harness, &spelled, &compress(&body)).await,
                    200,
                    "{spelled}"
                );
                let (_, items, bytes) = harness.last().unwrap();
                assert!(items == spans && bytes == body, "{spelled}");
            }
        }
        assert_eq!(post(&harness, "identity", &body).await, 200);
        assert_eq!(post(&harness, "", &body).await, 200);
    }
    let body = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}"#;
    let headers = [("content-type", JSON), ("content-encoding", "gzip")];
    let answer = harness.post("/v1/traces", &headers, &gzip(body)).await;
    assert_eq!((answer.status, harness.last().unwrap().1), (200, 2));
    harness.stop().await;
}

#[tokio::test]
async fn several_members_and_frames_are_one_body() {
    let harness = Harness::start("");
    let body = traces(100);
    let (first, second) = body.split_at(body.len() / 3);
    let check = async |name: &str, compress: Compress| {
        let parts = [compress(first), compress(second)].concat();
        assert_eq!(post(&harness, name, &parts).await, 200, "{name}");
        assert_eq!(harness.last().unwrap().2, body, "{name}");
    };
    check("gzip", gzip).await;
    check("gzip", gzip_with_name).await;
    check("zstd", zstd).await;
    check("snappy", snappy_framed).await;
    check("lz4", lz4).await;
    harness.stop().await;
}

#[tokio::test]
async fn other_encodings_and_damage_are_400() {
    let harness = Harness::start("");
    let body = traces(50);
    for name in ["br", "none", "gzip, gzip", "zstd,gzip", "x-gzip"] {
        assert_eq!(post(&harness, name, &gzip(&body)).await, 400, "{name}");
    }
    for (name, compress) in ENCODINGS {
        let good = compress(&body);
        for cut in [1, 5, good.len() / 2, good.len() - 1] {
            let status = post(&harness, name, &good[..good.len() - cut]).await;
            assert_eq!(status, 400, "{name} without the last {cut}");
        }
        for tail in [&b"x"[..], b"trailing garbage", &[0; 40]] {
            let status = post(&harness, name, &[&good, tail].concat()).await;
            assert_eq!(status, 400, "{name} followed by {tail:?}");
        }
        assert_eq!(
            post(&harness, name, b"neither this nor that").await,
            400,
            "{name}"
        );
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        let status = post(&harness, name, &flipped).await;
        assert!(
            status == 400 || !matches!(name, "gzip" | "zlib" | "deflate"),
            "{name} flipped"
        );
    }
    assert!(
        harness
            .failures()
            .iter()
            .all(|failure| *failure == (Transport::Http, RequestFailure::Failed))
    );
    harness.stop().await;
}

#[tokio::test]
async fn bombs_stop_at_the_limit_with_bounded_memory() {
    const LIMIT: usize = 50_000;
    let harness = Harness::start(&format!("max_request_body_size = {LIMIT}"));
    let bomb = vec![0; 2_000_000];
    let fits = vec![0; LIMIT];
    let exceeds = vec![0; LIMIT + 1];
    for (name, compress) in ENCODINGS {
        for (size, bytes, status) in [
            ("bomb", &bomb, 413),
            ("over", &exceeds, 413),
            ("fits", &fits, 400),
        ] {
            let compressed = compress(bytes);
            let status = if compressed.len() > LIMIT {
                413
            } else {
                status
            };
            assert_eq!(
                post(&harness, name, &compressed).await,
                status,
                "{name} {size}"
            );
        }
    }
    let largest = harness.largest_admission();
    assert!(largest <= LIMIT + 1, "{largest}");
    harness.stop().await;
}

#[tokio::test]
async fn inflating_asks_for_the_memory_it_needs() {
    let harness = Harness::start("");
    let body = traces(5_000);
    for (name, compress) in ENCODINGS {
        let compressed = compress(&body);
        let headers = [("content-type", PROTOBUF), ("content-encoding", name)];
        harness.capture.state.lock().unwrap().held_max = Some(body.len() / 2);
        let answer = harness.post("/v1/traces", &headers, &compressed).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("7")),
            "{name}"
        );
        harness.capture.state.lock().unwrap().held_max = Some(3 * body.len());
        assert_eq!(
            harness
                .post("/v1/traces", &headers, &compressed)
                .await
                .status,
            200,
            "{name}"
        );
    }
    harness.stop().await;
}

#[tokio::test]
async fn only_listed_encodings_are_accepted() {
    let harness = Harness::start("compression_algorithms = [\"\", \"zstd\"]");
    let body = traces(1);
    assert_eq!(post(&harness, "zstd", &zstd(&body)).await, 200);
    assert_eq!(post(&harness, "", &body).await, 200);
    assert_eq!(post(&harness, "gzip", &gzip(&body)).await, 400);
    harness.stop().await;
}

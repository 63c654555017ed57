//! Requests whose inflating and checking would hold a worker up: they are worked on beside the workers.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use super::decompress;
use super::door::Format;
use super::encoding::Encoding;
use crate::aside::{are_there_others, step_aside};

/// A request of this many bytes in protobuf is heavy.
///
/// Measured on the golden spans, repeated: checking takes 0.17 ms for each MiB, inflating gzip 0.2 ms where it compresses 17-fold
/// and 0.4 ms where it compresses 6-fold; a request of 20 MiB would hold a worker up for 8 to 12 ms. Handing a worker's
/// other tasks to another thread costs 12 to 20 us, which is 3 to 10 % of the work on a MiB.
const HEAVY: usize = 1 << 20;

/// JSON takes 3.7 ms for each MiB of text, before what came of it is checked.
const JSON_FACTOR: usize = 8;

/// As many as there are processors, so that small requests get their share of them.
static AT_ONCE: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, usize::from)));

/// Whether understanding a request of `body`, of which there may be `limit` bytes after inflating, is heavy.
pub(super) fn is_heavy(body: &[u8], encoding: Encoding, format: Format, limit: usize) -> bool {
    let size = decompress::expected_size(encoding, body).min(limit);
    match format {
        Format::Protobuf => size >= HEAVY,
        Format::Json => size >= HEAVY / JSON_FACTOR,
    }
}

/// Does `work` while other tasks of the worker go on; waits while too much of this kind is going on.
///
/// A runtime with a single thread has nothing beside it: there the work is done in place.
pub(super) async fn beside<T>(work: impl FnOnce() -> T) -> T {
    if !are_there_others() {
        return work();
    }
    let _permit = AT_ONCE.acquire().await.expect("nobody closes it");
    // Not `spawn_blocking`: that costs half as much again, and its threads would each have a decompressor of their own.
    step_aside(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heavy_depends_on_what_it_expands_to() {
        let gzip = |size: usize| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &vec![0; size]).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |size: usize| zstd::bulk::compress(&vec![0; size], 1).unwrap();
        let snappy = |size: usize| {
            snap::raw::Encoder::new()
                .compress_vec(&vec![0; size])
                .unwrap()
        };
        let check = |body: &[u8], encoding, format, expected: bool| {
            let found = is_heavy(body, encoding, format, 20 << 20);
            assert_eq!(found, expected, "{encoding:?} {format:?} {}", body.len());
        };
        let plain = vec![0; HEAVY];
        check(&plain, Encoding::Identity, Format::Protobuf, true);
        check(&plain[1..], Encoding::Identity, Format::Protobuf, false);
        check(&plain[..HEAVY / 4], Encoding::Identity, Format::Json, true);
        check(&plain[..HEAVY / 4], Encoding::Lz4, Format::Protobuf, true);
        for (encoding, body, small) in [
            (Encoding::Gzip, gzip(HEAVY), gzip(HEAVY - 1)),
            (Encoding::Zstd, zstd(HEAVY), zstd(HEAVY - 1)),
            (Encoding::Snappy, snappy(HEAVY), snappy(HEAVY - 1)),
        ] {
            check(&body, encoding, Format::Protobuf, true);
            check(&small, encoding, Format::Protobuf, false);
            check(&[], encoding, Format::Protobuf, false);
        }
        // What exceeds the limit is not inflated further.
        assert!(!is_heavy(&plain, Encoding::Lz4, Format::Protobuf, 4096));
    }
}

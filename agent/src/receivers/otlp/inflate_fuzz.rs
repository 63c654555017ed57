//! What the fuzzer does to the inflating of bodies: arbitrary bytes and damaged ones, in every encoding, with little room.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::decompress::{expected_size, inflate};
use super::encoding::Encoding;
use super::problem::Problem;
use super::room::Room;
use crate::ack::Refusal;
use crate::batch::{Batch, Transport};
use crate::component::{Intake, RequestFailure};
use crate::memory::{HeldBytes, Reservation};

/// Admits everything and remembers the most that was held.
#[derive(Default)]
struct Scales {
    held: HeldBytes,
    most: AtomicUsize,
}

impl Intake for Scales {
    fn admit(&self, bytes: usize) -> Result<Reservation, Refusal> {
        let reserved = self.held.reserve(bytes);
        self.most.fetch_max(self.held.bytes(), Ordering::Relaxed);
        Ok(reserved)
    }

    fn submit(&self, _batch: Batch, _transport: Transport) {}

    fn count_failure(&self, _transport: Transport, _failure: RequestFailure) {}

    fn count_repaired(&self, _transport: Transport, _strings: usize) {}
}

/// Inflates arbitrary bytes: for the fuzzer, which looks for panics and for memory that nobody admitted. The first byte chooses
/// the encoding, and whether the rest is what is inflated or is compressed first; the second the limit.
///
/// # Panics
/// Where the limit was exceeded, or what was compressed does not come out again.
#[doc(hidden)]
pub fn fuzz_inflate(input: &[u8]) {
    let [choice, limit, rest @ ..] = input else {
        return;
    };
    let encodings = Encoding::ALL;
    let encoding = encodings[usize::from(*choice) % encodings.len()];
    let limit = (usize::from(*limit) + 1) << 6;
    if choice & 0x80 == 0 {
        drop(inflated(encoding, rest, limit));
        return;
    }
    let compressed = compress(encoding, rest).expect("memory takes what is written to it");
    match inflated(encoding, &compressed, limit) {
        Ok(bytes) => assert_eq!(bytes, rest, "{encoding:?}"),
        Err(problem) => {
            assert_eq!(problem, Problem::TooLarge(limit), "{encoding:?}");
            assert!(
                rest.len() > limit,
                "{encoding:?}: too large, said of {}",
                rest.len()
            );
        }
    }
    let half = compressed.get(..compressed.len() / 2).unwrap_or_default();
    let found = inflated(encoding, half, limit);
    assert!(
        rest.is_empty() || found.as_deref() != Ok(rest),
        "{encoding:?}: half is enough"
    );
}

fn inflated(encoding: Encoding, input: &[u8], limit: usize) -> Result<Vec<u8>, Problem> {
    let scales = Scales::default();
    expected_size(encoding, input);
    let mut room = Room::new(&scales, limit);
    let result = inflate(encoding, input, &mut room).and_then(|()| room.finish());
    // The one byte that proves an excess.
    let most = scales.most.load(Ordering::Relaxed);
    assert!(
        most <= limit + 1,
        "{encoding:?}: {most} bytes held, the limit is {limit}"
    );
    let (bytes, reserved) = result?;
    assert!(bytes.len() <= limit, "{encoding:?}: {} bytes", bytes.len());
    assert!(
        reserved.bytes() >= bytes.len(),
        "{encoding:?}: not all of it is admitted"
    );
    Ok(bytes.into())
}

fn compress(encoding: Encoding, input: &[u8]) -> std::io::Result<Vec<u8>> {
    let fast = flate2::Compression::fast();
    match encoding {
        Encoding::Identity => Ok(input.to_vec()),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), fast);
            encoder.write_all(input)?;
            encoder.finish()
        }
        Encoding::Zlib | Encoding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), fast);
            encoder.write_all(input)?;
            encoder.finish()
        }
        Encoding::Zstd => zstd::bulk::compress(input, 1),
        Encoding::Snappy => snap::raw::Encoder::new()
            .compress_vec(input)
            .map_err(std::io::Error::other),
        Encoding::SnappyFramed => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            encoder.write_all(input)?;
            encoder
                .into_inner()
                .map_err(|error| std::io::Error::other(error.to_string()))
        }
        Encoding::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(input)?;
            encoder.finish().map_err(std::io::Error::other)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_comes_out_again_and_damage_is_found() {
        let text = include_bytes!("../../../tests/golden/traces.pb");
        for choice in 0..=u8::MAX {
            for length in [0, 1, 63, 65, text.len()] {
                let input = [&[choice, choice][..], &text[..length]].concat();
                fuzz_inflate(&input);
            }
        }
        for encoding in Encoding::ALL {
            let compressed = compress(encoding, text).unwrap();
            for at in (0..compressed.len()).step_by(7) {
                let mut damaged = compressed.clone();
                damaged[at] ^= 0x55;
                drop(inflated(encoding, &damaged, 1 << 14));
            }
        }
    }
}

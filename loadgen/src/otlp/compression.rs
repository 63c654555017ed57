//! Body compressions of OTLP and their names on the wire.

use std::fmt;
use std::io::{self, Read as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

/// What Go's and most SDKs' gzip writers use when nobody says otherwise.
const GZIP_LEVEL: u32 = 6;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// The value of `content-encoding` and `grpc-encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The compression with this wire name; `None` when it is not one of ours.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|compression| compression.name() == name)
    }

    pub(crate) fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes.to_vec()),
            Self::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
        }
    }

    /// Undoes [`Self::compress`].
    ///
    /// # Errors
    /// When the bytes are damaged or would expand to more than `limit` bytes.
    pub(crate) fn decompress(self, bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let read = match self {
            Self::None => bytes.take(limit + 1).read_to_end(&mut plain)?,
            Self::Gzip => flate2::read::MultiGzDecoder::new(bytes)
                .take(limit + 1)
                .read_to_end(&mut plain)?,
            Self::Zstd => zstd::Decoder::new(bytes)?
                .take(limit + 1)
                .read_to_end(&mut plain)?,
        };
        if read as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "body expands beyond the limit",
            ));
        }
        Ok(plain)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Gzip | Self::Zstd => self.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decompress_undoes_compress() {
        let bytes = b"telemetry, telemetry, telemetry".repeat(100);
        for compression in Compression::ALL {
            let packed = compression.compress(&bytes).unwrap();
            assert_eq!(
                compression.decompress(&packed, bytes.len() as u64).unwrap(),
                bytes
            );
            assert_eq!(
                Compression::from_name(compression.name()),
                Some(compression)
            );
        }
    }

    #[test]
    fn decompress_stops_at_the_limit() {
        for compression in Compression::ALL {
            let packed = compression.compress(&[0; 1000]).unwrap();
            assert!(
                compression.decompress(&packed, 999).is_err(),
                "{compression}"
            );
        }
    }
}

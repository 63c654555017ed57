//! Which content encoding a request has: parsing the header, and the set that is accepted.

use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// A content encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// None.
    Identity,
    /// RFC 1952, one or more members.
    Gzip,
    /// One or more frames.
    Zstd,
    /// RFC 1950.
    Zlib,
    /// RFC 1950 as well, as HTTP says.
    Deflate,
    /// The block format, or the framed one: told apart by its first bytes.
    Snappy,
    /// The framed format.
    SnappyFramed,
    /// The frame format.
    Lz4,
}

impl Encoding {
    /// The Collector's names; the empty one is identity.
    pub(super) const NAMES: [&'static str; 8] = [
        "",
        "gzip",
        "zstd",
        "zlib",
        "deflate",
        "snappy",
        "x-snappy-framed",
        "lz4",
    ];

    pub(super) const ALL: [Self; 8] = [
        Self::Identity,
        Self::Gzip,
        Self::Zstd,
        Self::Zlib,
        Self::Deflate,
        Self::Snappy,
        Self::SnappyFramed,
        Self::Lz4,
    ];

    /// The encoding of that name, in any case and with space around it. `identity` is also accepted.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case("identity") {
            return Some(Self::Identity);
        }
        Self::NAMES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .and_then(|position| Self::ALL.get(position).copied())
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Encodings(u8);

impl Encodings {
    /// Every encoding.
    pub(super) const ALL: Self = Self(u8::MAX);

    pub(super) fn insert(&mut self, encoding: Encoding) {
        self.0 |= encoding.bit();
    }

    fn contains(self, encoding: Encoding) -> bool {
        self.0 & encoding.bit() != 0
    }

    /// The encoding that `headers` declare, if it is in the set.
    ///
    /// # Errors
    /// The value that is not accepted: unknown, not listed, or more than one encoding.
    pub(super) fn of(self, headers: &HeaderMap) -> Result<Encoding, String> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let encoding = match (values.next(), values.next()) {
            (None, _) => Some(Encoding::Identity),
            (Some(value), None) => value.to_str().ok().and_then(Encoding::named),
            (Some(_), Some(_)) => None,
        };
        encoding
            .filter(|encoding| self.contains(*encoding))
            .ok_or_else(|| {
                let values: Vec<_> = headers
                    .get_all(CONTENT_ENCODING)
                    .iter()
                    .map(|value| String::from_utf8_lossy(value.as_bytes()))
                    .collect();
                values.join(", ")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: Encodings, values: &[&str]) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        set.of(&headers).ok()
    }

    #[test]
    fn content_encoding_is_read() {
        let check = |values: &[&str], expected: Option<Encoding>| {
            assert_eq!(of(Encodings::ALL, values), expected, "{values:?}");
        };
        check(&[], Some(Encoding::Identity));
        check(&[""], Some(Encoding::Identity));
        check(&["identity"], Some(Encoding::Identity));
        check(&["gzip"], Some(Encoding::Gzip));
        check(&["  GZip "], Some(Encoding::Gzip));
        check(&["zstd"], Some(Encoding::Zstd));
        check(&["zlib"], Some(Encoding::Zlib));
        check(&["deflate"], Some(Encoding::Deflate));
        check(&["snappy"], Some(Encoding::Snappy));
        check(&["x-snappy-framed"], Some(Encoding::SnappyFramed));
        check(&["lz4"], Some(Encoding::Lz4));
        for unknown in ["br", "none", "gzip, gzip", "gzip,zstd", "gzip;q=1"] {
            check(&[unknown], None);
        }
        check(&["gzip", "gzip"], None);
    }

    #[test]
    fn only_listed_encodings_are_accepted() {
        let mut set = Encodings::default();
        set.insert(Encoding::Gzip);
        assert_eq!(of(set, &["gzip"]), Some(Encoding::Gzip));
        assert_eq!(of(set, &["deflate"]), None);
        assert_eq!(of(set, &[]), None);
    }
}

//! An answer's encodings: ClickHouse's own blocks inside an HTTP content encoding.

use std::io::{self, Write};

use http::HeaderMap;

use super::frames::FrameWriter;
use super::parameters::Parameters;

/// An HTTP content encoding that we can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentEncoding {
    Identity,
    Gzip,
    Deflate,
    Lz4,
    Zstd,
}

impl ContentEncoding {
    /// The cheapest one that the client takes, unless the request turns compression off.
    pub(super) fn negotiate(parameters: &Parameters, headers: &HeaderMap) -> Self {
        // On by default since ClickHouse 25; an old client that says nothing sends no Accept-Encoding either.
        if parameters
            .setting("enable_http_compression")
            .is_some_and(|value| value == "0" || value == "false")
        {
            return Self::Identity;
        }
        let accepted = |name: &str| {
            headers
                .get_all(http::header::ACCEPT_ENCODING)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|item| is_accepted(item, name))
        };
        [Self::Lz4, Self::Zstd, Self::Gzip, Self::Deflate]
            .into_iter()
            .find(|encoding| encoding.name().is_some_and(accepted))
            .unwrap_or(Self::Identity)
    }

    /// The header's value; `None` for the identity.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Whether one item of Accept-Encoding, such as `gzip;q=0.5`, takes `name`.
fn is_accepted(item: &str, name: &str) -> bool {
    let (found, quality) = item.split_once(';').unwrap_or((item, ""));
    let refused = quality
        .trim()
        .strip_prefix("q=")
        .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0));
    found.trim().eq_ignore_ascii_case(name) && !refused
}

/// How an answer is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    pub(super) content: ContentEncoding,
    /// `compress=1`: ClickHouse's blocks, inside the content encoding.
    pub(super) framed: bool,
}

/// Writes an answer through its encodings.
pub(super) enum Encoder<W: Write> {
    Plain(Layer<W>),
    Framed(FrameWriter<Layer<W>>),
}

/// The content encoding over a writer.
pub(super) enum Layer<W: Write> {
    Identity(W),
    Gzip(flate2::write::GzEncoder<W>),
    Deflate(flate2::write::ZlibEncoder<W>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// The levels are the fastest: the other end is on this machine or near it.
const ZSTD_LEVEL: i32 = 1;

impl<W: Write> Encoder<W> {
    /// # Errors
    /// When zstd has no memory.
    pub(super) fn new(encoding: Encoding, inner: W) -> io::Result<Self> {
        let fast = flate2::Compression::fast();
        let layer = match encoding.content {
            ContentEncoding::Identity => Layer::Identity(inner),
            ContentEncoding::Gzip => Layer::Gzip(flate2::write::GzEncoder::new(inner, fast)),
            ContentEncoding::Deflate => {
                Layer::Deflate(flate2::write::ZlibEncoder::new(inner, fast))
            }
            ContentEncoding::Lz4 => Layer::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(inner))),
            ContentEncoding::Zstd => {
                Layer::Zstd(zstd::stream::write::Encoder::new(inner, ZSTD_LEVEL)?)
            }
        };
        Ok(if encoding.framed {
            Self::Framed(FrameWriter::new(layer))
        } else {
            Self::Plain(layer)
        })
    }

    /// Ends the encodings and returns the writer below.
    ///
    /// # Errors
    /// Those of the writer below.
    pub(super) fn finish(self) -> io::Result<W> {
        let layer = match self {
            Self::Plain(layer) => layer,
            Self::Framed(frames) => frames.finish()?,
        };
        match layer {
            Layer::Identity(inner) => Ok(inner),
            Layer::Gzip(encoder) => encoder.finish(),
            Layer::Deflate(encoder) => encoder.finish(),
            Layer::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Layer::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Layer<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Identity(inner) => inner.write(data),
            Self::Gzip(encoder) => encoder.write(data),
            Self::Deflate(encoder) => encoder.write(data),
            Self::Lz4(encoder) => encoder.write(data),
            Self::Zstd(encoder) => encoder.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(inner) => inner.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Deflate(encoder) => encoder.flush(),
            Self::Lz4(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(layer) => layer.write(data),
            Self::Framed(frames) => frames.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(layer) => layer.flush(),
            Self::Framed(frames) => frames.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::super::body::{Body, Chunk, RawBody};
    use super::*;

    const ALL: [ContentEncoding; 5] = [
        ContentEncoding::Identity,
        ContentEncoding::Gzip,
        ContentEncoding::Deflate,
        ContentEncoding::Lz4,
        ContentEncoding::Zstd,
    ];

    #[test]
    fn what_is_encoded_can_be_decoded() {
        let text: Vec<u8> = (0..300_000u32)
            .flat_map(|index| (index / 9).to_le_bytes())
            .collect();
        for content in ALL {
            for framed in [false, true] {
                let mut encoder = Encoder::new(Encoding { content, framed }, Vec::new()).unwrap();
                encoder.write_all(&text[..10]).unwrap();
                encoder.flush().unwrap();
                encoder.write_all(&text[10..]).unwrap();
                let encoded = encoder.finish().unwrap();
                let (sender, receiver) = mpsc::channel(2);
                sender.try_send(Chunk::Data(Bytes::from(encoded))).unwrap();
                sender.try_send(Chunk::End).unwrap();
                let mut decoded = Vec::new();
                let mut body = Body::open(RawBody::new(receiver), content.name(), framed).unwrap();
                body.read_to_end(&mut decoded).unwrap();
                assert!(decoded == text, "{content:?} {framed}");
            }
        }
    }

    #[test]
    fn the_cheapest_accepted_encoding_is_chosen() {
        let check = |accept: &'static str, query: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(
                http::header::ACCEPT_ENCODING,
                http::HeaderValue::from_static(accept),
            );
            let parameters = Parameters::parse(query, &headers).unwrap();
            assert_eq!(
                ContentEncoding::negotiate(&parameters, &headers),
                expected,
                "{accept} {query}"
            );
        };
        check("gzip, deflate, br", "", ContentEncoding::Gzip);
        check(
            "gzip, zstd",
            "enable_http_compression=1",
            ContentEncoding::Zstd,
        );
        check("gzip, zstd;q=0, lz4;q=0.1", "", ContentEncoding::Lz4);
        check(
            "gzip",
            "enable_http_compression=0",
            ContentEncoding::Identity,
        );
        check("br", "", ContentEncoding::Identity);
        check("", "", ContentEncoding::Identity);
    }
}

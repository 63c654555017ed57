//! The bodies of requests: JSON, plain or compressed, up to a limit.

use std::io::Read;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

use crate::problem::Problem;

/// How every body is refused that is not even JSON.
pub(crate) const NO_JSON: (&str, &str) = ("400", "The body is no JSON, or cannot be decompressed");
pub(crate) const TOO_LARGE: (&str, &str) = (
    "413",
    "The body is too large, as it is sent or once it is decompressed",
);
pub(crate) const UNSUPPORTED: (&str, &str) = (
    "415",
    "The body is not said to be JSON, or is said to have another encoding than gzip or deflate",
);

/// How a body was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    /// zlib's format, which HTTP calls `deflate`.
    Deflate,
}

impl Coding {
    /// One at most, besides any number of `identity`.
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let values = headers.get_all(header::CONTENT_ENCODING).iter();
        let given: Vec<_> = values
            .map(|it| String::from_utf8_lossy(it.as_bytes()).to_ascii_lowercase())
            .collect();
        let given = given.join(",");
        let names = given.split(',').map(str::trim);
        let names: Vec<_> = names
            .filter(|it| !it.is_empty() && *it != "identity")
            .collect();
        match names.as_slice() {
            [] => Ok(Self::Identity),
            ["gzip" | "x-gzip"] => Ok(Self::Gzip),
            ["deflate"] => Ok(Self::Deflate),
            other => Err(Problem::unsupported_coding(&other.join(", "))),
        }
    }

    /// What `body` was before it was compressed, if that is no more than `limit` bytes.
    fn undone(self, body: Bytes, limit: usize) -> Result<Bytes, Problem> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => decompressed(MultiGzDecoder::new(&*body), limit, |it| it.into_inner()),
            Self::Deflate => decompressed(ZlibDecoder::new(&*body), limit, |it| it.into_inner()),
        }
    }
}

/// `application/json`, with any parameters, in any case.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let given = if kind.is_empty() {
        "none".to_owned()
    } else {
        format!("`{kind}`")
    };
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the content type must be `application/json`, but it is {given}"),
    ))
}

/// The whole body as a JSON object of `shape`.
pub(crate) async fn read_json<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    shape: &str,
) -> Result<T, Problem> {
    require_json(headers)?;
    let coding = Coding::of(headers)?;
    let body = coding.undone(read_body(body, limit).await?, limit)?;
    let is_object = body.trim_ascii_start().starts_with(b"{");
    match serde_json::from_slice(&body) {
        Ok(value) if is_object => Ok(value),
        Err(error) if is_object || !error.is_data() => Err(Problem::of_json(&error, shape)),
        // It is JSON. An array of the right values is one of them: serde would take it for a struct.
        Ok(_) | Err(_) => Err(Problem::of_shape(shape, "it is no object")),
    }
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        if is_too_large(&error) {
            return too_large("the body", limit);
        }
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body could not be read: {error}"),
        )
    })
}

/// All that `decoder` gives, if that is no more than `limit` bytes; `rest` is what it has left of its input.
fn decompressed<'b, D: Read>(
    mut decoder: D,
    limit: usize,
    rest: fn(D) -> &'b [u8],
) -> Result<Bytes, Problem> {
    let mut whole = Vec::new();
    let read = decoder
        .by_ref()
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut whole);
    let bad = |what: &str| {
        let detail = format!("the body could not be decompressed: {what}");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    read.map_err(|error| bad(&error.to_string()))?;
    if whole.len() > limit {
        return Err(too_large("the decompressed body", limit));
    }
    match rest(decoder) {
        [] => Ok(whole.into()),
        _ => Err(bad("there is more after its end")),
    }
}

fn too_large(what: &str, limit: usize) -> Problem {
    let detail = format!("{what} is larger than the limit of {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn one_coding_at_most_is_undone() {
        let check = |given: &[&'static str], expected: Result<Coding, u16>| {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            let found = Coding::of(&headers).map_err(|it| it.status().as_u16());
            assert_eq!(found, expected, "{given:?}");
        };
        check(&[], Ok(Coding::Identity));
        check(&[" Identity"], Ok(Coding::Identity));
        check(&["GZip"], Ok(Coding::Gzip));
        check(&["x-gzip, identity"], Ok(Coding::Gzip));
        check(&["deflate"], Ok(Coding::Deflate));
        check(&["br"], Err(415));
        check(&["gzip, deflate"], Err(415));
        check(&["gzip", "gzip"], Err(415));
    }

    #[test]
    fn a_body_is_what_it_was_before_it_was_compressed_up_to_the_limit() {
        let check = |coding: Coding, body: Vec<u8>, expected: Result<&[u8], u16>| {
            let found = coding.undone(body.into(), 6);
            let found = found.map_err(|it| it.status().as_u16());
            assert_eq!(
                found.as_deref(),
                expected.as_ref().map(|it| *it),
                "{coding:?}"
            );
        };
        let (gz, de) = (Coding::Gzip, Coding::Deflate);
        check(gz, gzip(b"shop"), Ok(b"shop"));
        check(gz, [gzip(b"sh"), gzip(b"op")].concat(), Ok(b"shop"));
        check(de, zlib(b"shop"), Ok(b"shop"));
        check(gz, gzip(b"123456"), Ok(b"123456"));
        check(gz, gzip(&[b' '; 1_000_000]), Err(413));
        check(de, zlib(b"1234567"), Err(413));
        for (coding, whole) in [(gz, gzip(b"shop")), (de, zlib(b"shop"))] {
            check(coding, Vec::new(), Err(400));
            check(coding, b"{}".to_vec(), Err(400));
            check(coding, whole[..whole.len() - 1].to_vec(), Err(400));
            check(coding, [whole, b"more".to_vec()].concat(), Err(400));
        }
    }
}

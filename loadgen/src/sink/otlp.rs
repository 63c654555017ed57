//! OTLP endpoints that count what arrives and throw it away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;

use super::Counting;
use super::distinct::print_of;
use super::json;
use super::limits::{Gate, Reached};
use super::serve::{Body, drain, full, read_into, with_trailers};
use super::stats::{Found, Stats};
use crate::otlp::client::Protocol;
use crate::otlp::compression::Compression;
use crate::otlp::signal::Signal;

/// A request, as sent and unpacked.
const REQUEST_BYTES_MAX: usize = 1 << 30;
/// Flag and length before a gRPC message.
const PREFIX: usize = 5;
/// An empty `Export…ServiceResponse` with its gRPC prefix.
const EMPTY_MESSAGE: [u8; PREFIX] = [0; PREFIX];

#[derive(Debug)]
pub(crate) struct Otlp {
    stats: Arc<Stats>,
    protocol: Protocol,
    counting: Counting,
    /// Buffers of earlier requests, guarded while one is taken or put back: fresh memory for each request would cost more
    /// than reading it.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Buffers kept: more requests are rarely under way at the same time.
const SPARE_MAX: usize = 16;

impl Otlp {
    pub(crate) fn new(stats: Arc<Stats>, protocol: Protocol, counting: Counting) -> Self {
        Self {
            stats,
            protocol,
            counting,
            spare: Mutex::default(),
        }
    }

    /// Takes a request; the limit on bodies may refuse it.
    pub(super) async fn handle(
        &self,
        head: Parts,
        body: Incoming,
        gate: &Gate,
    ) -> Result<Result<Response<Body>, Reached>, hyper::Error> {
        let Some(signal) = Signal::from_path(head.uri.path()) else {
            drain(body).await?;
            return Ok(Ok(refusal(self.protocol, StatusCode::NOT_FOUND)));
        };
        if head.method != Method::POST {
            drain(body).await?;
            return Ok(Ok(only_post()));
        }
        let (bytes, items) = if self.counting != Counting::Requests {
            let mut whole = self.spare().pop().unwrap_or_default();
            let counted = match read_into(body, REQUEST_BYTES_MAX, &mut whole).await? {
                true => (
                    whole.len() as u64,
                    self.items(signal, &head.headers, &whole),
                ),
                false => (0, Err(Problem::TooLong)),
            };
            let mut spare = self.spare();
            if spare.len() < SPARE_MAX {
                whole.clear();
                spare.push(whole);
            }
            counted
        } else {
            (drain(body).await?, Ok(Found::Number(0)))
        };
        if let Err(reached) = gate.check_body(bytes) {
            return Ok(Err(reached));
        }
        let kind = format!("{signal} over {}", self.protocol);
        let answer = match &items {
            Ok(_) => success(self.protocol),
            Err(problem) => refusal_because(self.protocol, problem),
        };
        let items = items.map_err(|problem| problem.to_string());
        self.stats.received(&kind, signal.items(), bytes, items);
        Ok(Ok(answer))
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn items(&self, signal: Signal, headers: &HeaderMap, body: &[u8]) -> Result<Found, Problem> {
        let is_json = self.protocol == Protocol::Http && is_json(headers);
        let (message, encoding) = match self.protocol {
            Protocol::Http => (Some(body), headers.get(CONTENT_ENCODING)),
            Protocol::Grpc => {
                let compressed = body.first() == Some(&1);
                (
                    body.get(PREFIX..),
                    headers.get("grpc-encoding").filter(|_| compressed),
                )
            }
        };
        let message = message.ok_or_else(|| bad("shorter than a gRPC prefix"))?;
        let Some(encoding) = encoding else {
            return self.found(signal, message, is_json);
        };
        let compression = encoding.to_str().ok().and_then(Compression::from_name);
        let compression =
            compression.ok_or_else(|| bad(format!("cannot decompress {encoding:?}")))?;
        let plain = compression
            .decompress(message, REQUEST_BYTES_MAX as u64)
            .map_err(|error| bad(format!("cannot decompress: {error}")))?;
        self.found(signal, &plain, is_json)
    }

    fn found(&self, signal: Signal, message: &[u8], is_json: bool) -> Result<Found, Problem> {
        if is_json {
            let mut prints = Vec::new();
            json::each_item(signal, message, |item| prints.push(print_of(item))).map_err(bad)?;
            return Ok(match self.counting {
                Counting::Distinct => Found::Prints(prints),
                Counting::Requests | Counting::Items => Found::Number(prints.len() as u64),
            });
        }
        let found = match self.counting {
            Counting::Distinct => {
                let mut prints = Vec::new();
                let walked = signal.each_item(message, |item| prints.push(print_of(item)));
                walked.map(|()| Found::Prints(prints))
            }
            Counting::Requests | Counting::Items => signal.count(message).map(Found::Number),
        };
        found.map_err(|error| bad(error.to_string()))
    }
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("longer than 1 GiB")]
    TooLong,
    #[error("{0}")]
    Bad(String),
}

fn bad(why: impl Into<String>) -> Problem {
    Problem::Bad(why.into())
}

/// Whether the body is OTLP/JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|it| it.starts_with(b"application/json"))
}

fn only_post() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The client's fault; over HTTP the body is a `google.rpc.Status` that says why.
fn refusal_because(protocol: Protocol, problem: &Problem) -> Response<Body> {
    let status = match problem {
        Problem::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        Problem::Bad(_) => StatusCode::BAD_REQUEST,
    };
    let mut response = refusal(protocol, status);
    if protocol == Protocol::Http {
        let message = field(2, problem.to_string().as_bytes());
        *response.body_mut() = full(Bytes::from(message));
    }
    response
}

fn success(protocol: Protocol) -> Response<Body> {
    let mut response = match protocol {
        Protocol::Http => Response::new(full(Bytes::new())),
        Protocol::Grpc => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            Response::new(with_trailers(Bytes::from_static(&EMPTY_MESSAGE), trailers))
        }
    };
    response
        .headers_mut()
        .insert(CONTENT_TYPE, content_type(protocol));
    response
}

/// An answer that refuses a request with an HTTP status, or its gRPC counterpart.
pub(super) fn refusal(protocol: Protocol, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, content_type(protocol));
    match protocol {
        Protocol::Http => *response.status_mut() = status,
        Protocol::Grpc => {
            let code = match status.as_u16() {
                400 => "3",
                401 => "16",
                403 => "7",
                404 => "12",
                413 | 429 => "8",
                502..=504 => "14",
                _ => "13",
            };
            response
                .headers_mut()
                .insert("grpc-status", HeaderValue::from_static(code));
        }
    }
    response
}

/// Adds the hint on when to try again, as the protocol words it.
pub(super) fn hint(protocol: Protocol, response: &mut Response<Body>, seconds: u32) {
    let headers = response.headers_mut();
    match protocol {
        Protocol::Http => headers.insert(RETRY_AFTER, HeaderValue::from(seconds)),
        Protocol::Grpc => headers.insert("grpc-status-details-bin", retry_info(seconds)),
    };
}

/// A `google.rpc.Status` whose only detail is a `RetryInfo`, in base64.
fn retry_info(seconds: u32) -> HeaderValue {
    const URL: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";
    let mut duration = vec![0x08];
    prost::encoding::encode_varint(u64::from(seconds), &mut duration);
    let info = field(1, &duration);
    let any = [field(1, URL), field(2, &info)].concat();
    let status = field(3, &any);
    let value = tonic::metadata::MetadataValue::<tonic::metadata::Binary>::from_bytes(&status);
    HeaderValue::from_bytes(value.as_encoded_bytes()).expect("base64 is valid in a header")
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

fn content_type(protocol: Protocol) -> HeaderValue {
    HeaderValue::from_static(match protocol {
        Protocol::Http => "application/x-protobuf",
        Protocol::Grpc => "application/grpc",
    })
}

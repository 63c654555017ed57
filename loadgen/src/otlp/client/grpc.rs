//! OTLP over gRPC: hand-framed unary calls on one HTTP/2 connection.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tonic::Code;

use super::http::rejected_items;
use super::{ANSWER_BYTES_MAX, Outcome, Refusal, Target, connect, describe, secured};
use crate::otlp::compression::Compression;
use crate::otlp::wire::{Fields, Value};
use crate::tls::Tls;

/// Bytes before each message: compression flag and length.
const PREFIX: usize = 5;

pub(crate) struct GrpcConnection {
    authority: String,
    tls: Option<Tls>,
    uri: Uri,
    headers: HeaderMap,
    open: Option<Open>,
}

/// A connection and the task that drives it.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Open {
    async fn on<S>(stream: S) -> Result<Self, Cow<'static, str>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| describe(&error))?;
        // How the connection ended shows in the request that was on it.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }
}

impl GrpcConnection {
    pub(super) fn new(target: &Target) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if target.compression != Compression::None {
            headers.insert(
                "grpc-encoding",
                HeaderValue::from_static(target.compression.name()),
            );
        }
        let scheme = match target.tls {
            Some(_) => "https",
            None => "http",
        };
        let uri = format!("{scheme}://{}{}", target.authority, target.path);
        let uri = uri.parse().with_context(|| format!("`{uri}` is no URL"))?;
        Ok(Self {
            authority: target.authority.clone(),
            tls: target.tls.clone(),
            uri,
            headers,
            open: None,
        })
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) async fn send(&mut self, body: Bytes) -> Result<Outcome, Cow<'static, str>> {
        let mut request = hyper::Request::post(self.uri.clone())
            .body(Full::new(body))
            .expect("a parsed URL makes a valid request");
        *request.headers_mut() = self.headers.clone();
        let sender = match self.sender().await {
            Ok(sender) => sender,
            Err(cause) => return Ok(Outcome::NotSent(cause)),
        };
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| describe(&error))?;
        read_answer(answer).await
    }

    async fn connected(&self) -> Result<Open, Cow<'static, str>> {
        let stream = connect(&self.authority).await?;
        match &self.tls {
            Some(tls) => Open::on(secured(tls, stream).await?).await,
            None => Open::on(stream).await,
        }
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Cow<'static, str>> {
        let usable = match self.open.as_mut() {
            Some(open) => open.sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.open = None;
            // Boxed: it is rare, and larger than all else that a request needs.
            self.open = Some(Box::pin(self.connected()).await?);
        }
        self.open
            .as_mut()
            .map(|open| &mut open.sender)
            .ok_or(Cow::Borrowed("connection closed"))
    }
}

async fn read_answer(answer: hyper::Response<Incoming>) -> Result<Outcome, Cow<'static, str>> {
    let (head, body) = answer.into_parts();
    if !head.status.is_success() {
        return Ok(Outcome::Refused(Refusal {
            status: format!("HTTP {}", head.status.as_u16()).into(),
            may_retry: matches!(head.status.as_u16(), 429 | 502 | 503 | 504),
            retry_after: None,
        }));
    }
    let body = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => describe(error),
            None => "answer is too long".into(),
        })?;
    let trailers = body.trailers().cloned();
    let status = trailers
        .filter(|trailers| trailers.contains_key("grpc-status"))
        .unwrap_or(head.headers);
    let message = body.to_bytes();
    interpret(&status, message.get(PREFIX..).unwrap_or_default())
}

/// What trailers (or headers, where the answer has no body) and message mean.
fn interpret(status: &HeaderMap, message: &[u8]) -> Result<Outcome, Cow<'static, str>> {
    let code = status
        .get("grpc-status")
        .ok_or("answer without grpc-status")?;
    let code = Code::from_bytes(code.as_bytes());
    if code == Code::Ok {
        return Ok(Outcome::Accepted {
            rejected: rejected_items(message),
        });
    }
    let retry_after = retry_info(status);
    Ok(Outcome::Refused(Refusal {
        status: name(code).into(),
        may_retry: may_retry(code, retry_after),
        retry_after,
    }))
}

/// The codes that OTLP/gRPC calls retryable; `RESOURCE_EXHAUSTED` only when the server says when.
fn may_retry(code: Code, retry_after: Option<Duration>) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => retry_after.is_some(),
        _ => false,
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The delay in a `google.rpc.RetryInfo` among the details of a `google.rpc.Status`.
fn retry_info(status: &HeaderMap) -> Option<Duration> {
    use tonic::metadata::{BinaryMetadataValue, MetadataMap};

    let details = MetadataMap::from_headers(status.clone());
    let details: &BinaryMetadataValue = details.get_bin("grpc-status-details-bin")?;
    let details = details.to_bytes().ok()?;
    let mut any = Fields::new(&details)
        .flatten()
        .filter(|field| field.number == 3);
    any.find_map(|detail| {
        let url = detail.message().flatten().find(|field| field.number == 1)?;
        let value = detail.message().flatten().find(|field| field.number == 2)?;
        if url.bytes() != b"type.googleapis.com/google.rpc.RetryInfo" {
            return None;
        }
        let delay = value.message().flatten().find(|field| field.number == 1);
        Some(delay.map_or(Duration::ZERO, |delay| duration(delay.message())))
    })
}

/// A `google.protobuf.Duration`; a negative one is no time at all.
fn duration(fields: Fields<'_>) -> Duration {
    let (mut seconds, mut nanos) = (0_u64, 0_u32);
    for field in fields.flatten() {
        match (field.number, field.value) {
            (1, Value::Varint(value)) => seconds = value,
            (2, Value::Varint(value)) => nanos = u32::try_from(value).unwrap_or(0),
            _ => {}
        }
    }
    if seconds.cast_signed() < 0 {
        return Duration::ZERO;
    }
    Duration::new(seconds.min(u64::from(u32::MAX)), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(key, value)| (key.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn statuses_say_accepted_refused_and_when_to_come_back() {
        let check = |pairs: &[(&'static str, &'static str)], expected: Outcome| {
            assert_eq!(interpret(&status(pairs), &[]), Ok(expected), "{pairs:?}");
        };
        let refused = |status: &'static str, may_retry, retry_after| {
            Outcome::Refused(Refusal {
                status: status.into(),
                may_retry,
                retry_after,
            })
        };
        check(&[("grpc-status", "0")], Outcome::Accepted { rejected: 0 });
        check(
            &[("grpc-status", "3")],
            refused("INVALID_ARGUMENT", false, None),
        );
        check(&[("grpc-status", "14")], refused("UNAVAILABLE", true, None));
        check(
            &[("grpc-status", "8")],
            refused("RESOURCE_EXHAUSTED", false, None),
        );
        // Status { code: 8, details: [RetryInfo { retry_delay: 1.5 s }] }
        let details =
            "CAgaNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIARCAyrXuAQ";
        check(
            &[("grpc-status", "8"), ("grpc-status-details-bin", details)],
            refused(
                "RESOURCE_EXHAUSTED",
                true,
                Some(Duration::from_millis(1500)),
            ),
        );
    }

    #[test]
    fn an_answer_without_status_is_a_failure() {
        assert!(interpret(&HeaderMap::new(), &[]).is_err());
    }
}

//! OTLP over HTTP/1.1.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::{ANSWER_BYTES_MAX, Outcome, Refusal, Target, connect, describe, secured};
use crate::otlp::compression::Compression;
use crate::otlp::wire::{Fields, Value};
use crate::tls::Tls;

pub(crate) struct HttpConnection {
    authority: String,
    tls: Option<Tls>,
    path: Uri,
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
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| describe(&error))?;
        // How the connection ended shows in the request that was on it.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }
}

impl HttpConnection {
    pub(super) fn new(target: &Target) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        let host =
            HeaderValue::from_str(&target.authority).context("the host is no header value")?;
        headers.insert(HOST, host);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if target.compression != Compression::None {
            headers.insert(
                CONTENT_ENCODING,
                HeaderValue::from_static(target.compression.name()),
            );
        }
        let path = target.path.parse().context("the path is no URL path")?;
        Ok(Self {
            authority: target.authority.clone(),
            tls: target.tls.clone(),
            path,
            headers,
            open: None,
        })
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) async fn send(&mut self, body: Bytes) -> Result<Outcome, Cow<'static, str>> {
        let mut request = hyper::Request::post(self.path.clone())
            .body(Full::new(body))
            .expect("a parsed path makes a valid request");
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
    let body = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => describe(error),
            None => "answer is too long".into(),
        })?;
    if head.status.is_success() {
        return Ok(Outcome::Accepted {
            rejected: rejected_items(&body.to_bytes()),
        });
    }
    let status = head.status;
    Ok(Outcome::Refused(Refusal {
        status: Cow::Owned(status.as_u16().to_string()),
        may_retry: may_retry(status),
        retry_after: retry_after(&head.headers),
    }))
}

/// The statuses that OTLP/HTTP calls retryable.
fn may_retry(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// `Retry-After` in seconds. A date counts as no hint: a load test is over before clocks matter.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// `partial_success.rejected_…` of an `Export…ServiceResponse`; 0 when the answer has none.
pub(super) fn rejected_items(answer: &[u8]) -> u64 {
    let fields = Fields::new(answer)
        .flatten()
        .filter(|field| field.number == 1);
    let rejected = fields
        .flat_map(|partial| partial.message())
        .flatten()
        .find_map(|field| match (field.number, field.value) {
            (1, Value::Varint(items)) => Some(items),
            _ => None,
        });
    rejected.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    };
    use prost::Message as _;

    use super::*;

    #[test]
    fn rejected_items_are_read_from_the_answer() {
        let check = |partial_success, expected| {
            let answer = ExportLogsServiceResponse { partial_success };
            assert_eq!(rejected_items(&answer.encode_to_vec()), expected);
        };
        check(None, 0);
        check(Some(ExportLogsPartialSuccess::default()), 0);
        check(
            Some(ExportLogsPartialSuccess {
                rejected_log_records: 300,
                error_message: "no".to_owned(),
            }),
            300,
        );
        assert_eq!(rejected_items(b"OK"), 0);
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let check = |value: Option<&'static str>, expected| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            }
            assert_eq!(retry_after(&headers), expected, "{value:?}");
        };
        check(None, None);
        check(Some("3"), Some(Duration::from_secs(3)));
        check(Some(" 0 "), Some(Duration::ZERO));
        check(Some("Sat, 21 Nov 2026 00:00:00 GMT"), None);
    }
}

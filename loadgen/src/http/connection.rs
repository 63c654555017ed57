//! One keep-alive connection to the target: requests go out one at a time, and it is remade when it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderValue};
use http::{HeaderName, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::journey::Outgoing;
use super::options::Protocol;
use super::worker::{Answer, Executor, Failure, FailureKind};
use crate::tls::Tls;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Addresses that the target's name has, resolved once before the run.
///
/// # Errors
///
/// The name is unknown.
pub(crate) async fn resolve(uri: &Uri) -> anyhow::Result<Vec<SocketAddr>> {
    let host = uri.host().context("the URL has no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let default = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let port = uri.port_u16().unwrap_or(default);
    let found = tokio::net::lookup_host((bare, port)).await;
    let addresses: Vec<_> = found
        .with_context(|| format!("cannot resolve `{host}`"))?
        .collect();
    anyhow::ensure!(!addresses.is_empty(), "`{host}` has no address");
    Ok(addresses)
}

/// An answer's body is kept up to here; the rest is counted and let go.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// How workers talk to the target.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Tls>,
    pub(crate) trace_context: bool,
}

/// An HTTP/2 connection that several workers send streams on.
pub(crate) type Shared = Arc<tokio::sync::Mutex<Option<Open>>>;

/// A worker's connection; the next request remakes it where it is missing or closed.
pub(crate) struct Connection {
    wire: Wire,
    open: Option<Open>,
    /// Where it takes its stream from; `None` for a connection of its own.
    shared: Option<Shared>,
    random: StdRng,
}

/// An established connection. Dropping it closes it.
pub(crate) struct Open {
    sender: Sender,
    driver: Option<AbortHandle>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    pub(crate) fn new(wire: Wire, shared: Option<Shared>) -> Self {
        Self {
            wire,
            open: None,
            shared,
            random: StdRng::from_os_rng(),
        }
    }

    async fn connected(&mut self) -> Result<&mut Open, Failure> {
        let reusable = match &mut self.open {
            Some(open) => open.sender.ready().await,
            None => false,
        };
        if reusable {
            return Ok(self.open.as_mut().expect("a reusable connection is open"));
        }
        self.open = None;
        let open = match &self.shared {
            Some(shared) => self.stream(&Arc::clone(shared)).await?,
            None => Open::connect(&self.wire).await?,
        };
        Ok(self.open.insert(open))
    }

    /// A stream of a shared connection, which the first worker that finds it ended remakes.
    async fn stream(&self, shared: &Shared) -> Result<Open, Failure> {
        let mut slot = shared.lock().await;
        let usable = match &mut *slot {
            Some(open) => open.sender.ready().await,
            None => false,
        };
        if !usable {
            *slot = None;
            *slot = Some(Open::connect(&self.wire).await?);
        }
        let open = slot.as_ref().and_then(Open::stream);
        Ok(open.expect("connected just now, with HTTP/2"))
    }

    fn request(&mut self, outgoing: &Outgoing) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = match self.wire.protocol {
            Protocol::Http1 => origin_form(&outgoing.uri),
            Protocol::Http2 => outgoing.uri.clone(),
        };
        *request.headers_mut() = outgoing.headers.clone();
        if self.wire.protocol == Protocol::Http2 {
            // HTTP/2 carries the host in `:authority`.
            request.headers_mut().remove(HOST);
        }
        if self.wire.trace_context {
            request
                .headers_mut()
                .insert(TRACEPARENT, traceparent(&mut self.random));
        }
        request
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// A keep-alive connection may be closed by the target just as the request goes out; a request that was
    /// provably not sent goes out again on a new connection, once.
    async fn exchange(&mut self, outgoing: &Outgoing) -> Result<Answer, Failure> {
        let request = self.request(outgoing);
        let response = match self.connected().await?.sender.send(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                Some(unsent) => {
                    self.open = None;
                    let again = self.connected().await?.sender.send(unsent).await;
                    again.map_err(|error| Failure::new(FailureKind::Closed, &error.into_error()))?
                }
                None => return Err(Failure::of_exchange(&error.into_error())),
            },
        };
        read_answer(response, outgoing.keep_body).await
    }
}

impl Executor for Connection {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.connected().await.map(|_| ())
    }

    async fn execute(&mut self, request: &Outgoing) -> Result<Answer, Failure> {
        let answer = self.exchange(request).await;
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    fn abandon(&mut self) {
        self.open = None;
    }
}

impl Open {
    /// Another sender on the same connection, which goes on without it.
    fn stream(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                driver: None,
            }),
        }
    }

    async fn connect(wire: &Wire) -> Result<Self, Failure> {
        let failed = |error: &dyn std::error::Error| Failure::new(FailureKind::Connect, error);
        let stream = TcpStream::connect(wire.addresses.as_slice())
            .await
            .map_err(|it| failed(&it))?;
        stream.set_nodelay(true).map_err(|it| failed(&it))?;
        match &wire.tls {
            Some(tls) => {
                let stream = tls.connect(stream).await.map_err(|it| failed(&it))?;
                Self::speak(wire.protocol, stream).await
            }
            None => Self::speak(wire.protocol, stream).await,
        }
    }

    async fn speak<S>(protocol: Protocol, stream: S) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let failed = |error: &dyn std::error::Error| Failure::new(FailureKind::Connect, error);
        let io = TokioIo::new(stream);
        // The connections' own errors arrive at the request that was under way as well.
        match protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(io).await.map_err(|it| failed(&it))?;
                let driver = tokio::spawn(async move { drop(driver.await) }).abort_handle();
                Ok(Self {
                    sender: Sender::Http1(sender),
                    driver: Some(driver),
                })
            }
            Protocol::Http2 => {
                let handshake = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, driver) = handshake.map_err(|it| failed(&it))?;
                let driver = tokio::spawn(async move { drop(driver.await) }).abort_handle();
                Ok(Self {
                    sender: Sender::Http2(sender),
                    driver: Some(driver),
                })
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

impl Sender {
    /// Waits until a request can be sent; false if the connection has ended.
    async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

/// Counts the body and lets it go, but for what is to be kept: answers of any size cost no memory.
async fn read_answer(mut response: Response<Incoming>, keep: bool) -> Result<Answer, Failure> {
    let mut bytes = 0;
    let mut kept = BytesMut::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| Failure::new(FailureKind::Body, &error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        bytes += data.len() as u64;
        if keep && kept.len() + data.len() <= KEPT_BYTES_MAX {
            kept.extend_from_slice(data);
        }
    }
    let (parts, _) = response.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        bytes,
        headers: parts.headers,
        body: kept.freeze(),
    })
}

/// The path and query that HTTP/1.1 wants in its request line.
fn origin_form(uri: &Uri) -> Uri {
    let Some(path_and_query) = uri.path_and_query() else {
        return Uri::from_static("/");
    };
    Uri::from(path_and_query.clone())
}

/// A sampled W3C trace parent with random, non-zero ids.
fn traceparent(random: &mut StdRng) -> HeaderValue {
    let trace_id = random.random_range(1..=u128::MAX);
    let span_id = random.random_range(1..=u64::MAX);
    let text = format!("00-{trace_id:032x}-{span_id:016x}-01");
    HeaderValue::try_from(text).expect("hexadecimal digits and dashes are a header value")
}

impl Failure {
    fn of_exchange(error: &hyper::Error) -> Self {
        let kind = if error.is_parse() {
            FailureKind::Protocol
        } else {
            FailureKind::Closed
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_parents_are_valid_and_differ() {
        let mut random = StdRng::seed_from_u64(1);
        let first = traceparent(&mut random);
        let text = first.to_str().unwrap();
        let parts: Vec<_> = text.split('-').collect();
        assert_eq!(
            (parts[0], parts[1].len(), parts[2].len(), parts[3]),
            ("00", 32, 16, "01")
        );
        assert!(parts.iter().all(|part| {
            part.chars()
                .all(|it| it.is_ascii_hexdigit() && !it.is_ascii_uppercase())
        }));
        assert_ne!(first, traceparent(&mut random));
    }

    #[test]
    fn the_request_line_has_path_and_query_only() {
        let check = |uri: &'static str, expected: &str| {
            assert_eq!(origin_form(&Uri::from_static(uri)), expected)
        };
        check("http://127.0.0.1:1/a/b?c=d", "/a/b?c=d");
        check("http://127.0.0.1:1", "/");
    }
}

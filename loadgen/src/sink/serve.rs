//! Accepts connections and serves them with hyper, over HTTP/1.1 or HTTP/2 as they come.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 8192;
/// Large windows and frames: the sink must not be what holds a sender back.
const WINDOW: u32 = 16 << 20;
const FRAME: u32 = 1 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Which HTTP a listener speaks. Telling them apart by the first bytes would cost each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// One endpoint's work: takes a request, gives an answer.
pub(crate) trait Handler: Clone + Send + 'static {
    fn handle(
        self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, hyper::Error>> + Send;
}

pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener
        .local_addr()
        .context("a listener without address")?;
    Ok((listener, address))
}

/// Serves until the future is dropped; its connections end with it.
pub(crate) async fn serve<H: Handler>(listener: TcpListener, version: Version, handler: H) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, version, handler.clone()));
                }
                Err(error) => {
                    tracing::warn!("cannot accept: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection<H: Handler>(stream: TcpStream, version: Version, handler: H) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| handler.clone().handle(request));
    let ended = match version {
        Version::Http1 => {
            hyper::server::conn::http1::Builder::new()
                .serve_connection(stream, service)
                .await
        }
        Version::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .max_frame_size(FRAME)
                .serve_connection(stream, service)
                .await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection ended: {error}");
    }
}

pub(crate) fn full(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

/// A message and the trailers after it.
pub(crate) fn with_trailers(body: Bytes, trailers: HeaderMap) -> Body {
    Full::new(body)
        .with_trailers(async move { Some(Ok(trailers)) })
        .boxed_unsync()
}

/// Reads a body to its end and throws it away; returns its length.
pub(crate) async fn drain(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

/// Reads a body into an empty buffer; `false` when it is longer than `limit` (the rest is then read and thrown away).
pub(super) async fn read_into(
    mut body: Incoming,
    limit: usize,
    whole: &mut Vec<u8>,
) -> Result<bool, hyper::Error> {
    let declared = body.size_hint().exact().unwrap_or(0);
    whole.reserve(usize::try_from(declared).unwrap_or(limit).min(limit));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            drain(body).await?;
            return Ok(false);
        }
        whole.extend_from_slice(&data);
    }
    Ok(true)
}

/// Reads a body; `None` when it is longer than `limit` (the rest is then read and thrown away).
pub(crate) async fn read(mut body: Incoming, limit: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            drain(body).await?;
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

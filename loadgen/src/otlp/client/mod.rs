//! One connection to an OTLP endpoint, and what its answers mean.

mod grpc;
mod http;

use std::borrow::Cow;
use std::time::Duration;

use ::http::Uri;
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::compression::Compression;
use super::payload::Request;
use super::signal::Signal;
use crate::tls::{self, Tls};

/// An answer longer than this is not read to its end.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
pub(crate) enum Protocol {
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP/1.1.
    #[value(name = "http", alias = "http/protobuf")]
    #[serde(rename = "http")]
    Http,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Grpc => "gRPC",
            Self::Http => "HTTP",
        })
    }
}

/// How one request ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The server took it; of its items it `rejected` this many (OTLP partial success).
    Accepted { rejected: u64 },
    /// The server answered that it did not take it.
    Refused(Refusal),
    /// No answer: what became of the items is not known.
    Failed(Cow<'static, str>),
    /// No connection could be made, so that the server has seen nothing of it.
    NotSent(Cow<'static, str>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// HTTP status code or gRPC status name.
    pub(crate) status: Cow<'static, str>,
    /// Whether OTLP lets the sender try again.
    pub(crate) may_retry: bool,
    /// The server's hint (`Retry-After`, `RetryInfo`) on when.
    pub(crate) retry_after: Option<Duration>,
}

/// Where requests go and in which form.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// host:port to connect to and to name in requests.
    pub(crate) authority: String,
    /// Of an `https` endpoint.
    pub(crate) tls: Option<Tls>,
    pub(crate) path: String,
    pub(crate) protocol: Protocol,
    pub(crate) compression: Compression,
}

impl Target {
    /// Reads an endpoint such as `127.0.0.1:4318` or `http://localhost:4318/prefix`.
    ///
    /// # Errors
    /// When it is no URL, or one with a scheme other than http.
    pub(crate) fn new(
        endpoint: &str,
        protocol: Protocol,
        compression: Compression,
        signal: Signal,
    ) -> anyhow::Result<Self> {
        let nobody = tls::Options::default();
        Self::with_tls(endpoint, protocol, compression, signal, &nobody)
    }

    /// The same, or `https`, and whom to trust then.
    ///
    /// # Errors
    /// As [`Target::new`], or when there is nobody to trust.
    pub(crate) fn with_tls(
        endpoint: &str,
        protocol: Protocol,
        compression: Compression,
        signal: Signal,
        tls: &tls::Options,
    ) -> anyhow::Result<Self> {
        let uri = address(endpoint)?;
        let host = uri.host().unwrap_or_default();
        let (port, path) = match protocol {
            Protocol::Grpc => (4317, signal.grpc_path().to_owned()),
            Protocol::Http => (
                4318,
                format!("{}{}", uri.path().trim_end_matches('/'), signal.http_path()),
            ),
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(port));
        let application = match protocol {
            Protocol::Grpc => tls::HTTP2,
            Protocol::Http => tls::HTTP1,
        };
        let tls = tls.of(uri.scheme_str(), host, application)?;
        Ok(Self {
            authority,
            tls,
            path,
            protocol,
            compression,
        })
    }
}

/// Reads an endpoint, whose host it has in any case.
///
/// # Errors
/// When it is no URL, or one with a scheme other than http and https.
pub(crate) fn address(endpoint: &str) -> anyhow::Result<Uri> {
    let uri: Uri = endpoint
        .parse()
        .with_context(|| format!("`{endpoint}` is no address"))?;
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        bail!("`{endpoint}`: only http and https are supported");
    }
    if uri.host().is_none_or(str::is_empty) {
        bail!("`{endpoint}` has no host");
    }
    if uri.scheme().is_none() && uri.port().is_none() {
        bail!("`{endpoint}` has no port: write host:port");
    }
    Ok(uri)
}

/// A connection that is opened when first needed and again after it broke.
pub(crate) enum Connection {
    Http(http::HttpConnection),
    Grpc(grpc::GrpcConnection),
}

impl Connection {
    pub(crate) fn new(target: &Target) -> anyhow::Result<Self> {
        Ok(match target.protocol {
            Protocol::Http => Self::Http(http::HttpConnection::new(target)?),
            Protocol::Grpc => Self::Grpc(grpc::GrpcConnection::new(target)?),
        })
    }

    /// Sends one request and waits for its answer, for `timeout` at most. A connection that timed out is
    /// closed.
    pub(crate) async fn send(&mut self, request: &Request, timeout: Duration) -> Outcome {
        let sent = match self {
            Self::Http(connection) => {
                tokio::time::timeout(timeout, connection.send(request.message())).await
            }
            Self::Grpc(connection) => {
                tokio::time::timeout(timeout, connection.send(request.grpc_message())).await
            }
        };
        match sent {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(failure)) => {
                self.close();
                Outcome::Failed(failure)
            }
            Err(_) => {
                self.close();
                Outcome::Failed("timeout".into())
            }
        }
    }

    fn close(&mut self) {
        match self {
            Self::Http(connection) => connection.close(),
            Self::Grpc(connection) => connection.close(),
        }
    }
}

/// Names the kind of failure without details that differ each time, so that failures can be counted.
fn describe(error: &hyper::Error) -> Cow<'static, str> {
    if error.is_incomplete_message() {
        return "connection closed before the answer".into();
    }
    if error.is_canceled() || error.is_closed() {
        return "connection closed".into();
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
            return cause.kind().to_string().into();
        }
        source = cause.source();
    }
    error.to_string().into()
}

async fn connect(authority: &str) -> Result<TcpStream, Cow<'static, str>> {
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| format!("connect: {}", error.kind()))?;
    stream
        .set_nodelay(true)
        .map_err(|error| format!("connect: {}", error.kind()))?;
    Ok(stream)
}

/// # Errors
/// Why the handshake came to nothing.
async fn secured(tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>, Cow<'static, str>> {
    let secured = tls.connect(stream).await;
    secured.map_err(|error| format!("TLS: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_default_ports_and_prefixes() {
        let check = |endpoint, protocol, authority: &str, path: &str| {
            let target = Target::new(endpoint, protocol, Compression::None, Signal::Logs).unwrap();
            assert_eq!(
                (target.authority.as_str(), target.path.as_str()),
                (authority, path)
            );
        };
        check(
            "127.0.0.1:5000",
            Protocol::Http,
            "127.0.0.1:5000",
            "/v1/logs",
        );
        check(
            "http://localhost",
            Protocol::Http,
            "localhost:4318",
            "/v1/logs",
        );
        check(
            "http://localhost:1/in/",
            Protocol::Http,
            "localhost:1",
            "/in/v1/logs",
        );
        check(
            "http://[::1]",
            Protocol::Grpc,
            "[::1]:4317",
            Signal::Logs.grpc_path(),
        );
    }

    #[test]
    fn other_schemes_are_refused() {
        for endpoint in ["ftp://x", "", "http://", "nonsense"] {
            let target = Target::new(endpoint, Protocol::Http, Compression::None, Signal::Logs);
            assert!(target.is_err(), "{endpoint}");
        }
    }
}

//! Opening connections: names, addresses, TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::Place;
use crate::component::ComponentError;
use crate::net::client_tls::ClientTlsSettings;
use crate::telemetry::Counter;

/// For one address where there are more: a dead one must not use up the time of an attempt, 5 s by default.
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(2);

/// For an address with nothing after it, and for the TLS handshake: a dozen of the slowest round trips.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);

/// Addresses tried of a name that has many.
const ADDRESSES_MAX: usize = 8;

/// A byte stream: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Knows the way to one server.
pub(super) struct Connector {
    place: Place,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    opened: Counter,
}

impl Connector {
    /// The way to `place`, offering `protocol` by ALPN. Reads certificates; connects to nothing yet.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub(super) fn new(
        place: Place,
        tls: &ClientTlsSettings,
        protocol: &[u8],
        opened: Counter,
    ) -> Result<Self, ComponentError> {
        let tls = if place.tls {
            let name = match &tls.server_name {
                Some(name) => name.clone(),
                None => ServerName::try_from(place.host.clone()).map_err(|error| {
                    let attempted = format!("set up TLS for {}:{}", place.host, place.port);
                    ComponentError::new(attempted, error)
                        .at("tls.server_name_override")
                        .permanent()
                })?,
            };
            let config = tls.client_config(&[protocol]);
            let config = config.map_err(|cause| cause.below("tls"))?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Self { place, tls, opened })
    }

    /// A new connection.
    ///
    /// # Errors
    /// What was attempted and why it failed.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let Place { host, port, .. } = &self.place;
        let socket = self
            .connect_tcp()
            .await
            .map_err(|error| format!("connect to {host}:{port}: {error}"))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(socket),
            Some((connector, name)) => {
                let handshake = connector.connect(name.clone(), socket);
                let stream = tokio::time::timeout(CONNECT_TIME_MAX, handshake)
                    .await
                    .map_err(|_| format!("TLS with {host}:{port}: timed out"))?
                    .map_err(|error| format!("TLS with {host}:{port}: {error}"))?;
                Box::new(stream)
            }
        };
        self.opened.inc();
        Ok(stream)
    }

    async fn connect_tcp(&self) -> Result<TcpStream, String> {
        let found = tokio::net::lookup_host((self.place.host.as_str(), self.place.port)).await;
        let addresses: Vec<_> = found
            .map_err(|error| error.to_string())?
            .take(ADDRESSES_MAX)
            .collect();
        let describe = |address: &SocketAddr, cause: &str| match addresses.len() {
            1 => cause.to_owned(),
            _ => format!("{address}: {cause}"),
        };
        let mut problems = Vec::new();
        for (position, address) in addresses.iter().enumerate() {
            let limit = if position + 1 == addresses.len() {
                CONNECT_TIME_MAX
            } else {
                ADDRESS_TIME_MAX
            };
            match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    // Requests are written whole: waiting for more to write only delays their ends.
                    socket
                        .set_nodelay(true)
                        .map_err(|error| error.to_string())?;
                    return Ok(socket);
                }
                Ok(Err(error)) => problems.push(describe(address, &error.to_string())),
                Err(_) => problems.push(describe(address, "timed out")),
            }
        }
        if problems.is_empty() {
            return Err("the name has no address".to_owned());
        }
        Err(problems.join("; "))
    }
}

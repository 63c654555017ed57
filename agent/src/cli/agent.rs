//! How commands find the running agent and ask it: the endpoint of `service.admin`, over TCP or a unix socket.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::complain;
use crate::config::{ConfigSources, Source, load_configuration};
use crate::net::listen::Endpoint;

/// Which agent to ask.
#[derive(Debug, Clone, Args)]
pub(super) struct AgentArgs {
    /// Where the agent takes commands: `host:port` or `unix:/path`.
    #[arg(long, value_name = "ENDPOINT", value_parser = Endpoint::parse_any)]
    endpoint: Option<Endpoint>,
    /// The configuration that the agent runs with, to find out where it takes commands. May be repeated.
    #[arg(long, short, value_name = "FILE", num_args = 1.., conflicts_with = "endpoint")]
    config: Vec<String>,
}

/// Connecting on one machine takes no longer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

impl AgentArgs {
    /// Where it is.
    ///
    /// # Errors
    /// When nothing says so.
    pub(super) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        match &self.endpoint {
            Some(endpoint) => Ok(endpoint.clone()),
            None => self.configured(),
        }
    }

    /// Where the agent of this configuration takes commands. A configuration that is wrong, or was changed in just that,
    /// does not say.
    fn configured(&self) -> anyhow::Result<Endpoint> {
        if self.config.is_empty() {
            bail!("say which agent: --endpoint ENDPOINT, or --config FILE");
        }
        let sources = self.config.iter();
        let sources = ConfigSources {
            sources: sources
                .map(|argument| Source::from_argument(argument))
                .collect(),
            sets: Vec::new(),
        };
        match load_configuration(&sources) {
            Ok(found) => found.settings.admin.context(
                "this agent takes no commands: `service.admin.endpoint` is not set in its configuration",
            ),
            Err(found) => {
                complain(&found.to_string());
                bail!(
                    "the configuration is wrong, so it does not say where the agent is; --endpoint does"
                )
            }
        }
    }
}

/// A connection to the agent.
#[derive(Debug)]
pub(super) struct Link {
    client: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Link {
    /// # Errors
    /// When nobody is there.
    pub(super) async fn open(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let opening = async {
            match endpoint {
                Endpoint::Tcp { host, port, .. } => {
                    Self::over(TcpStream::connect((host.as_str(), *port)).await?).await
                }
                Endpoint::Unix(socket) => Self::over(UnixStream::connect(socket).await?).await,
            }
        };
        tokio::time::timeout(CONNECT_MAX, opening)
            .await
            .with_context(|| format!("no connection in {CONNECT_MAX:?}"))?
    }

    async fn over<S>(stream: S) -> anyhow::Result<Self>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // Whoever waits for the answer is told, too.
            drop(connection.await);
        });
        Ok(Self { client, connection })
    }

    /// Sends a request without a body; the answer's body comes as it comes.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tidegate")
            .body(Empty::<Bytes>::new())?;
        self.client.ready().await?;
        Ok(self.client.send_request(request).await?)
    }
}

/// All of an answer's body.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn body(response: Response<Incoming>) -> anyhow::Result<Bytes> {
    Ok(response.into_body().collect().await?.to_bytes())
}

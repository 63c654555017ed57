//! How commands find the running agent and ask it: the endpoint of `service.admin`, over TCP or a unix socket, with TLS and
//! credentials where it wants them.

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
use super::key::{Key, KeyArgs};
use crate::config::{ConfigSources, Settings, Source, load_configuration};
use crate::net::listen::Endpoint;
use crate::net::socket::Io;

/// Which agent to ask.
#[derive(Debug, Clone, Args)]
pub(super) struct AgentArgs {
    /// Where the agent takes commands: `host:port` or `unix:/path`.
    #[arg(long, value_name = "ENDPOINT", value_parser = Endpoint::parse_any)]
    endpoint: Option<Endpoint>,
    /// The configuration that the agent runs with, to find out where it takes commands, and with which token. May be repeated.
    #[arg(long, short, value_name = "FILE", num_args = 1.., conflicts_with = "endpoint")]
    config: Vec<String>,
    #[command(flatten)]
    key: KeyArgs,
}

/// Connecting on one machine takes no longer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An agent, and what opens its door.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    key: Key,
}

impl AgentArgs {
    /// Whom to ask, and with what.
    ///
    /// # Errors
    /// When nothing says so, or credentials cannot be read.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(Target {
                endpoint: endpoint.clone(),
                key: self.key.key(None)?,
            });
        }
        let settings = self.configured()?;
        let endpoint = settings.admin.clone().context(
            "this agent takes no commands: `service.admin.endpoint` is not set; send it SIGHUP",
        )?;
        Ok(Target {
            endpoint,
            key: self.key.key(Some(&settings))?,
        })
    }

    /// What the agent runs with. A configuration that is wrong, or was changed in just that, does not say.
    fn configured(&self) -> anyhow::Result<Settings> {
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
            Ok(found) => Ok(found.settings),
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
    connection: JoinHandle<hyper::Result<()>>,
    key: Key,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Link {
    /// # Errors
    /// When nobody is there.
    pub(super) async fn open(target: &Target) -> anyhow::Result<Self> {
        tokio::time::timeout(CONNECT_MAX, Self::connect(target))
            .await
            .with_context(|| format!("no connection in {CONNECT_MAX:?}"))?
    }

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        let Target { endpoint, key } = target;
        let stream: Box<dyn Io> = match endpoint {
            Endpoint::Tcp { host, port, .. } => {
                Box::new(TcpStream::connect((host.as_str(), *port)).await?)
            }
            Endpoint::Unix(socket) => Box::new(UnixStream::connect(socket).await?),
        };
        let stream = key.open(endpoint, stream).await?;
        let (client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        Ok(Self {
            client,
            connection,
            key: key.clone(),
        })
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
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tidegate")
            .body(Empty::<Bytes>::new())?;
        self.key.show(request.headers_mut());
        let answer = async {
            self.client.ready().await?;
            self.client.send_request(request).await
        };
        match answer.await {
            Ok(answer) => Ok(answer),
            // Why the connection has ended says more: that the agent wants another certificate, say.
            Err(error) => Err(match (&mut self.connection).await {
                Ok(Err(cause)) => cause.into(),
                _ => error.into(),
            }),
        }
    }
}

/// All of an answer's body.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn body(response: Response<Incoming>) -> anyhow::Result<Bytes> {
    Ok(response.into_body().collect().await?.to_bytes())
}

//! How commands find the running agent and ask it: the endpoint of `service.admin`, over TCP or a unix socket, with TLS and
//! credentials where it wants them.

use std::time::Duration;
use std::{fmt, io};

use anyhow::{Context as _, anyhow, bail};
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
use super::find::{Found, Places};
use super::key::{Key, KeyArgs};
use crate::config::Diagnostics;
use crate::net::listen::Endpoint;
use crate::net::socket::Io;

/// Which agent to ask.
#[derive(Debug, Clone, Args)]
pub(super) struct AgentArgs {
    /// Where the agent takes commands: `host:port` or `unix:/path`.
    #[arg(long, value_name = "ENDPOINT", value_parser = Endpoint::parse_any)]
    endpoint: Option<Endpoint>,
    /// The configuration that the agent runs with, to find out where it takes commands, and with which token. May be repeated.
    /// Without it: /etc/tidegate/agent.toml.
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
    /// To be tried in this order; at least one.
    endpoints: Vec<Endpoint>,
    key: Key,
    /// What is wrong with the configuration that was to say where the agent is.
    pub(super) wrong: Option<Diagnostics>,
}

/// Displays as where it is looked for.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.endpoints.iter().map(ToString::to_string).collect();
        f.write_str(&endpoints.join(" or "))
    }
}

impl AgentArgs {
    /// Whom to ask, and with what. What the operator should know of how it was found is told.
    ///
    /// # Errors
    /// When there is nobody to ask, or credentials cannot be read.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(Target {
                endpoints: vec![endpoint.clone()],
                key: self.key.key(None)?,
                wrong: None,
            });
        }
        let Found {
            endpoints,
            settings,
            wrong,
            guess,
        } = Places::of_this_host().find(&self.config)?;
        let target = Target {
            endpoints,
            key: self.key.key(settings.as_ref())?,
            wrong,
        };
        if let Some(why) = guess {
            complain(&format!("tidegate: warning: {why}; asking {target}\n"));
        }
        Ok(target)
    }

    /// Whether a configuration was named, which then has to be right.
    pub(super) fn names_configuration(&self) -> bool {
        !self.config.is_empty()
    }
}

/// A connection to the agent.
#[derive(Debug)]
pub(super) struct Link {
    client: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
    key: Key,
    /// The agent's host, as HTTP names it.
    host: String,
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
        tokio::time::timeout(CONNECT_MAX, Self::connect_to_any(target))
            .await
            .with_context(|| format!("no connection in {CONNECT_MAX:?}"))?
    }

    async fn connect_to_any(target: &Target) -> anyhow::Result<Self> {
        let mut failures = Vec::new();
        for endpoint in &target.endpoints {
            match dial(endpoint).await {
                Ok((stream, host)) => {
                    let stream = target.key.open(endpoint, stream).await?;
                    return Self::start(stream, host, target.key.clone()).await;
                }
                Err(error) => failures.push((endpoint, error)),
            }
        }
        match failures.as_slice() {
            [(_, error)] => bail!("{error}{}", advice(error)),
            _ => {
                let words = failures
                    .iter()
                    .map(|(endpoint, error)| format!("{endpoint}: {error}{}", advice(error)));
                bail!("{}", words.collect::<Vec<_>>().join("; "))
            }
        }
    }

    async fn start(stream: Box<dyn Io>, host: String, key: Key) -> anyhow::Result<Self> {
        let (client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        Ok(Self {
            client,
            connection,
            key,
            host,
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
            .header("host", &self.host)
            .body(Empty::<Bytes>::new())?;
        self.key.show(request.headers_mut());
        let answer = async {
            self.client.ready().await?;
            self.client.send_request(request).await
        };
        match answer.await {
            Ok(answer) => Ok(answer),
            // Why the connection has ended says more: that the agent wants another certificate, say.
            Err(error) => {
                let cause = match (&mut self.connection).await {
                    Ok(Err(cause)) => cause,
                    _ => error,
                };
                let hint = match cause.is_parse() && !self.key.has_tls() {
                    true => "; does it speak TLS? Then --tls, or --ca-file FILE",
                    false => "",
                };
                Err(anyhow!("{cause}{hint}"))
            }
        }
    }
}

/// The stream, and the name of the host at its end.
async fn dial(endpoint: &Endpoint) -> io::Result<(Box<dyn Io>, String)> {
    match endpoint {
        Endpoint::Tcp { host, port, .. } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // Other names for loopback addresses are not known to an agent that listens there.
            let host = match stream.peer_addr()?.ip().is_loopback() {
                true => format!("localhost:{port}"),
                false => endpoint.to_string(),
            };
            Ok((Box::new(stream), host))
        }
        Endpoint::Unix(socket) => {
            let stream = UnixStream::connect(socket).await?;
            Ok((Box::new(stream), "localhost".to_owned()))
        }
    }
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the socket is for root and for the agent's user and group"
        }
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => "; does the agent run?",
        _ => "",
    }
}

/// All of an answer's body.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn body(response: Response<Incoming>) -> anyhow::Result<Bytes> {
    Ok(response.into_body().collect().await?.to_bytes())
}

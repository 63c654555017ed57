//! A small HTTP/1 server for people, scrapers and load balancers: bounded, locked if wanted, gone when asked.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::server::conn::auto;

use crate::auth::{AuthOptions, AuthSettings, Authenticators, Denied, Guard, Reference, Side};
use crate::component::{BoxFuture, ComponentError, Shutdown};
use crate::config::Section;
use crate::net::Connection;
use crate::net::hosts;
use crate::net::listen;
use crate::net::serve::{Limits, Place, Server};
use crate::net::server_tls::TlsOptions;
use crate::net::sockets::Sockets;
use crate::net::tls::TlsSettings;
use crate::status::Reporter;

/// Scrapers and probes need a handful. When more come, the idlest make way.
const CONNECTIONS_MAX: usize = 256;

/// The buffer of a connection, and with it the largest request head.
const HEAD_MAX: usize = 16 * 1024;

/// Commands and pages may take their time; a client that neither sends its request nor reads the answer may not.
const LIMITS: Limits = Limits {
    head: Some(Duration::from_secs(10)),
    // Longer than most scrape intervals, so that scrapers keep their connections.
    idle: Some(Duration::from_secs(90)),
    write: Some(Duration::from_secs(30)),
    age: None,
    age_grace: None,
    connections: CONNECTIONS_MAX,
    // For answers under way once the server is told to stop.
    drain: Duration::from_secs(1),
};

/// What is answered: all at once, or as it comes.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What answers a request.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// Settings, and what was made of them.
pub(crate) type ServerTls = (TlsSettings, Arc<rustls::ServerConfig>);

/// How a server is locked: what it shows, and whom it asks. By default not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lock {
    tls: Option<TlsSettings>,
    auth: Option<AuthSettings>,
}

impl Lock {
    /// Validates the options `tls` and `auth` of a table; `prefix` is what stands before these keys: nothing, or such as
    /// `admin.`. Problems are reported to `section`.
    pub(crate) fn resolve(
        tls: Option<TlsOptions>,
        auth: Option<AuthOptions>,
        prefix: &str,
        section: &mut Section<'_>,
    ) -> Self {
        let key = |name: &str| format!("{prefix}{name}");
        Self {
            tls: tls.and_then(|tls| TlsSettings::resolve(tls, &key("tls"), section)),
            auth: auth.and_then(|auth| AuthSettings::resolve(auth, &key("auth"), section)),
        }
    }

    /// What it speaks TLS with, if it does; `protocols` are offered by ALPN, `prefix` as for [`Lock::resolve`].
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub(crate) fn tls(
        &self,
        protocols: &[&[u8]],
        prefix: &str,
    ) -> Result<Option<ServerTls>, ComponentError> {
        let tls = self.tls.as_ref().map(|tls| {
            let config = tls.server_config(protocols);
            config
                .map(|config| (tls.clone(), config))
                .map_err(|cause| cause.below(&format!("{prefix}tls")))
        });
        tls.transpose()
    }

    /// The files that are read when the server is built.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.tls
            .as_ref()
            .map(TlsSettings::files)
            .unwrap_or_default()
    }

    /// Whether TLS is spoken.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whom it asks.
    pub(crate) fn auth(&self) -> Option<&AuthSettings> {
        self.auth.as_ref()
    }

    /// The authenticator that is asked; `prefix` as for [`Lock::resolve`].
    pub(crate) fn authenticators(&self, prefix: &str) -> Vec<Reference> {
        let key = format!("{prefix}auth");
        let auth = self.auth.as_ref();
        auth.map(|auth| Reference::new(&key, auth, Side::Server))
            .into_iter()
            .collect()
    }

    /// Warns where strangers can reach `endpoint` and nobody asks who they are; `key` is that of the endpoint, `can` what
    /// they can do.
    pub(crate) fn warn_of_strangers(
        &self,
        endpoint: &listen::Endpoint,
        key: &str,
        can: &str,
        section: &mut Section<'_>,
    ) {
        let asks_certificate = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if endpoint.is_local() || self.auth.is_some() || asks_certificate {
            return;
        }
        let message = format!(
            "whoever reaches this address can {can}: set `auth`, or `tls.client_ca_file`, or listen on a loopback address"
        );
        section.warning(key, message);
    }
}

/// A bound socket that serves nobody yet.
pub(crate) struct Endpoint {
    place: Place<Pages>,
    tls: Option<ServerTls>,
    guard: Guard,
}

/// Where to serve at `endpoint`, which is written at `key`.
///
/// # Errors
/// When the address is taken or not this machine's.
pub(crate) fn place<S: Send + Sync + 'static>(
    sockets: &Sockets,
    endpoint: &listen::Endpoint,
    owner: &str,
    key: &str,
) -> Result<Place<S>, ComponentError> {
    Place::at(sockets, endpoint, owner).map_err(|cause| {
        let hint = match cause.kind() {
            _ if matches!(endpoint, listen::Endpoint::Unix(_)) => "",
            io::ErrorKind::AddrInUse => "; `ss -ltnp` names who listens there",
            io::ErrorKind::AddrNotAvailable => "; no interface of this host has this address",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "",
        };
        let error = ComponentError::new(format!("bind {endpoint}"), format!("{cause}{hint}"));
        match endpoint {
            // Nobody grants a capability to what is started again.
            listen::Endpoint::Tcp { .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
                error.at(key).permanent()
            }
            _ => error.at(key),
        }
    })
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Endpoint").field(&self.address()).finish()
    }
}

/// How the keys of a server are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    /// What stands before `tls` and `auth`: nothing, or such as `http.`.
    pub(crate) prefix: &'static str,
    /// The endpoint's.
    pub(crate) endpoint: &'static str,
}

impl Keys {
    /// Those of a component that has just one server.
    pub(crate) const PLAIN: Self = Self {
        prefix: "",
        endpoint: "endpoint",
    };
}

/// Binds `endpoint`, or shares the socket that is there, locked by `lock`. `owner` tells those apart that take any free port.
/// Called on the runtime.
///
/// # Errors
/// When the address is taken or not this machine's, or certificates cannot be used, with their keys.
pub(crate) fn bind(
    sockets: &Sockets,
    endpoint: &listen::Endpoint,
    owner: &str,
    keys: Keys,
    (lock, authenticators): (&Lock, &Authenticators),
) -> Result<Endpoint, ComponentError> {
    let place = place(sockets, endpoint, owner, keys.endpoint);
    let tls = lock.tls(&[b"http/1.1"], keys.prefix);
    let (place, tls) = ComponentError::both(place, tls)?;
    Ok(Endpoint {
        place,
        tls,
        guard: authenticators.guard(lock.auth.as_ref()),
    })
}

impl Endpoint {
    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.place.address()
    }

    /// Answers `GET` and `HEAD` with what `respond` makes of the path, until `shutdown`. As [`Endpoint::serve_with`].
    pub(crate) fn serve(
        self,
        respond: impl Fn(&str) -> Answer + Send + Sync + 'static,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let handler = move |request: Request<Incoming>| {
            let answer = match *request.method() {
                Method::GET | Method::HEAD => respond(request.uri().path()),
                _ => method_not_allowed("GET, HEAD"),
            };
            Box::pin(std::future::ready(answer)) as BoxFuture<'static, Answer>
        };
        self.serve_with(Arc::new(handler), shutdown)
    }

    /// Answers with what `handler` makes of each request, until `shutdown`. The call itself, on the runtime, takes the place
    /// over from whoever served there: connections stay, and the next request on each is answered by this.
    pub(crate) fn serve_with(
        self,
        handler: Handler,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let address = self.address().parse::<SocketAddr>();
        let for_this_host = address.is_ok_and(|address| address.ip().is_loopback());
        let mut builder = auto::Builder::new(self.place.tasks()).http1_only();
        builder
            .http1()
            .max_buf_size(HEAD_MAX)
            // The connection's own clock does that, without taking idleness for a slow head.
            .header_read_timeout(None);
        let server = Server {
            place: self.place,
            tls: self.tls,
            builder,
            service: Pages {
                handler,
                guard: self.guard,
                for_this_host,
            },
            limits: LIMITS,
            // Whoever asks here sees for himself that he gets no answer; the receivers tell the others.
            status: Reporter::default(),
        };
        let serving = server.run(async move { shutdown.triggered().await });
        async move {
            match serving {
                Ok(serving) => serving.await,
                Err(error) => tracing::error!(%error, "a server's socket cannot be watched"),
            }
        }
    }
}

/// Asks who it is, then answers.
struct Pages {
    handler: Handler,
    guard: Guard,
    /// Whether it listens on a loopback address, where no other host is meant.
    for_this_host: bool,
}

impl Service<Request<Incoming>> for Pages {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (guard, handler) = (self.guard.clone(), Arc::clone(&self.handler));
        if self.for_this_host && !hosts::is_meant_here(&request) {
            leave_unread(&request);
            return Box::pin(std::future::ready(Ok(misdirected())));
        }
        Box::pin(async move {
            match guard.check(request.headers()).await {
                Ok(()) => Ok(handler(request).await),
                Err(denied) => {
                    leave_unread(&request);
                    Ok(not_let_in(&denied))
                }
            }
        })
    }
}

fn leave_unread(request: &Request<Incoming>) {
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.body_left_unread();
    }
}

/// 421.
fn misdirected() -> Answer {
    let own = hosts::own_name();
    answer(
        StatusCode::MISDIRECTED_REQUEST,
        "text/plain; charset=utf-8",
        format!(
            "421 this is for this host only: name it by an IP address, as `localhost` or as `{own}`\n"
        ),
    )
}

/// 401, or 503 where credentials cannot be checked now.
fn not_let_in(denied: &Denied) -> Answer {
    let status = match denied.retry_after() {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::UNAUTHORIZED,
    };
    let text = format!("{} {}\n", status.as_str(), denied.message());
    let mut refused = answer(status, "text/plain; charset=utf-8", text);
    let headers = refused.headers_mut();
    match denied.retry_after() {
        Some(after) => headers.insert(header::RETRY_AFTER, after.as_secs().into()),
        None => headers.insert(header::WWW_AUTHENTICATE, denied.challenge().clone()),
    };
    refused
}

/// An answer of this type.
pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    streamed(status, content_type, Full::new(body.into()))
}

/// An answer whose body comes by and by.
pub(crate) fn streamed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Answer {
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}

/// 404.
pub(crate) fn not_found() -> Answer {
    answer(
        StatusCode::NOT_FOUND,
        "text/plain; charset=utf-8",
        "404 page not found\n",
    )
}

/// 405; `allowed` is what is.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut refused = answer(
        StatusCode::METHOD_NOT_ALLOWED,
        "text/plain; charset=utf-8",
        format!("405 method not allowed, supported: [{allowed}]\n"),
    );
    let allowed = header::HeaderValue::from_static(allowed);
    refused.headers_mut().insert(header::ALLOW, allowed);
    refused
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::testing::http_get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn respond(path: &str) -> Answer {
        answer(StatusCode::OK, "text/plain", path.to_owned())
    }

    /// Binds `endpoint`, open to everybody.
    fn bind_open(
        sockets: &Sockets,
        endpoint: &listen::Endpoint,
    ) -> Result<Endpoint, ComponentError> {
        let lock = (&Lock::default(), &Authenticators::default());
        bind(sockets, endpoint, "test", Keys::PLAIN, lock)
    }

    fn bind_text(text: &str) -> Result<Endpoint, ComponentError> {
        let endpoint = listen::Endpoint::parse("tcp", text).unwrap();
        bind_open(&Sockets::default(), &endpoint)
    }

    fn start() -> (SocketAddr, Shutdown, tokio::task::JoinHandle<()>) {
        let endpoint = bind_text("127.0.0.1:0").unwrap();
        let address = endpoint.address().parse().unwrap();
        let shutdown = Shutdown::default();
        let serving = tokio::spawn(endpoint.serve(respond, shutdown.clone()));
        (address, shutdown, serving)
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn only_reading_is_allowed() {
        let (address, shutdown, serving) = start();
        assert_eq!(http_get(address, "/x?y").await, (200, "/x".to_owned()));
        let answer = exchange(
            address,
            "HEAD / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
        let answer = exchange(
            address,
            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET, HEAD"),
            "{answer}"
        );
        let answer = exchange(address, "nonsense\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        shutdown.trigger();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn idle_connections_do_not_hold_up_the_end() {
        let (address, shutdown, serving) = start();
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut byte = [0];
        idle.read_exact(&mut byte).await.unwrap();
        shutdown.trigger();
        tokio::time::timeout(crate::testing::DEADLINE, serving)
            .await
            .unwrap()
            .unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    /// They wait to be accepted when the server is told to stop: the kernel has told them that somebody listens.
    #[tokio::test]
    async fn who_connected_before_the_end_is_answered() {
        let (address, shutdown, serving) = start();
        let request = b"GET /late HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let clients: Vec<_> = std::iter::repeat_with(|| {
            use std::io::Write as _;
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request).unwrap();
            stream
        })
        .take(20)
        .collect();
        shutdown.trigger();
        serving.await.unwrap();
        for mut stream in clients {
            use std::io::Read as _;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.ends_with("/late"),
                "{answer:?}"
            );
        }
    }

    #[tokio::test]
    async fn whoever_takes_over_keeps_the_connections() {
        let sockets = Sockets::default();
        let serve = |text: &'static str| {
            let endpoint = listen::Endpoint::parse("tcp", "127.0.0.1:0").unwrap();
            let endpoint = bind_open(&sockets, &endpoint).unwrap();
            let address: SocketAddr = endpoint.address().parse().unwrap();
            let shutdown = Shutdown::default();
            let respond = move |_: &str| answer(StatusCode::OK, "text/plain", text);
            (
                address,
                shutdown.clone(),
                tokio::spawn(endpoint.serve(respond, shutdown)),
            )
        };
        let (address, first_end, first) = serve("first");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut ask = async |expected: &str| {
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .await
                .unwrap();
            let mut answer = [0; 512];
            let length = stream.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]);
            assert!(answer.ends_with(expected), "{answer}");
        };
        ask("first").await;
        let (same, second_end, second) = serve("second");
        assert_eq!(address, same);
        first_end.trigger();
        first.await.unwrap();
        ask("second").await;
        second_end.trigger();
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_locked_page_opens_for_credentials_only() {
        use crate::auth::{Authenticator, Tokens, Way};
        use crate::secret::Secret;
        let (authenticators, shutdown) = (Authenticators::default(), Shutdown::default());
        let lock = Lock {
            tls: None,
            auth: Some(AuthSettings {
                authenticator: "test".to_owned(),
            }),
        };
        let sockets = Sockets::default();
        let free = listen::Endpoint::parse("tcp", "127.0.0.1:0").unwrap();
        let lock = (&lock, &authenticators);
        let endpoint = bind(&sockets, &free, "test", Keys::PLAIN, lock).unwrap();
        let address = endpoint.address().parse().unwrap();
        let serving = tokio::spawn(endpoint.serve(respond, shutdown.clone()));
        let ask = async |authorization: &str| {
            let head = "GET /page HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
            exchange(address, &format!("{head}{authorization}\r\n")).await
        };
        let answer = ask("").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"),
            "{answer}"
        );
        let tokens = Tokens::new(header::AUTHORIZATION, "Bearer", &[Secret::new("hunter2")]);
        let way = Way::Tokens(tokens.unwrap());
        let authenticator =
            Authenticator::new("test", way, &crate::telemetry::Telemetry::default());
        authenticators.slot("test").install(Arc::new(authenticator));
        let answer = ask("").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(
            answer.contains("www-authenticate: Bearer realm=\"tidegate\""),
            "{answer}"
        );
        let answer = ask("authorization: Bearer hunter3\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 401") && !answer.contains("hunter"),
            "{answer}"
        );
        let answer = ask("authorization: Bearer hunter2\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("/page"),
            "{answer}"
        );
        shutdown.trigger();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn only_who_names_this_host_is_answered_on_a_loopback_address() {
        let (address, shutdown, serving) = start();
        let ask = async |host: &str| {
            let head = "GET /page HTTP/1.1\r\nconnection: close\r\n";
            exchange(address, &format!("{head}{host}\r\n")).await
        };
        let answer = ask("host: evil.example\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 421") && answer.contains("421 this is for this host only"),
            "{answer}"
        );
        for host in ["", &format!("host: {address}\r\n")] {
            let answer = ask(host).await;
            assert!(answer.ends_with("/page"), "{host}: {answer}");
        }
        shutdown.trigger();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_unix_socket_takes_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let endpoint = listen::Endpoint::Unix(path.clone());
        let endpoint = bind_open(&Sockets::default(), &endpoint).unwrap();
        let shutdown = Shutdown::default();
        let serving = tokio::spawn(endpoint.serve(respond, shutdown.clone()));
        let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
        let request = b"GET /page HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("/page"), "{answer}");
        shutdown.trigger();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error() {
        let (address, shutdown, serving) = start();
        let failed = bind_text(&address.to_string()).unwrap_err();
        assert_eq!(failed.attempted, format!("bind {address}"));
        assert!(failed.cause.contains("in use"), "{failed}");
        shutdown.trigger();
        serving.await.unwrap();
    }
}

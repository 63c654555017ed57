//! A small HTTP/1 server for people, scrapers and load balancers: bounded, gone when asked.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::component::{BoxFuture, Shutdown};
use crate::net::listen::{self, Acceptor};
use crate::net::socket::Io;
use crate::net::sockets::{Key, Sockets};

/// Scrapers and probes need a handful; the rest wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take to send a request, and to be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long answers under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// The wait after a failed accept, as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is answered: all at once, or as it comes.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A bound socket that serves nobody yet.
#[derive(Debug)]
pub(crate) struct Endpoint {
    acceptor: Acceptor,
    address: String,
}

/// What answers a request.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// Binds `endpoint`, or shares the socket that is there. `owner` tells those apart that take any free port. Called on the
/// runtime.
pub(crate) fn bind(
    sockets: &Sockets,
    endpoint: &listen::Endpoint,
    owner: &str,
) -> io::Result<Endpoint> {
    let listener = sockets.listen(endpoint, &Key::new(endpoint, owner))?;
    Ok(Endpoint {
        address: listener.address().to_owned(),
        acceptor: listener.start()?,
    })
}

impl Endpoint {
    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Answers `GET` and `HEAD` with what `respond` makes of the path, until `shutdown`.
    pub(crate) async fn serve(
        self,
        respond: impl Fn(&str) -> Answer + Send + Sync + 'static,
        shutdown: Shutdown,
    ) {
        let handler = move |request: Request<Incoming>| {
            let answer = match *request.method() {
                Method::GET | Method::HEAD => respond(request.uri().path()),
                _ => method_not_allowed("GET, HEAD"),
            };
            Box::pin(std::future::ready(answer)) as BoxFuture<'static, Answer>
        };
        self.serve_with(Arc::new(handler), shutdown).await;
    }

    /// Answers with what `handler` makes of each request, until `shutdown`.
    pub(crate) async fn serve_with(self, handler: Handler, shutdown: Shutdown) {
        let acceptor = self.acceptor;
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                // Who shares the socket takes what comes from then on.
                biased;
                () = shutdown.triggered() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&acceptor, &room) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let connection =
                        serve_connection(stream, Arc::clone(&handler), shutdown.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(acceptor);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            connections.shutdown().await;
        }
    }
}

async fn accept(
    acceptor: &Acceptor,
    room: &Arc<Semaphore>,
) -> io::Result<(Box<dyn Io>, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    Ok((acceptor.accept().await?, permit))
}

async fn serve_connection(stream: Box<dyn Io>, handler: Handler, shutdown: Shutdown) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // Clients that go away or are too slow: theirs to know, ours to see when looking.
        debug!(%error, "a connection ended early");
    }
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
    use std::net::SocketAddr;

    use tokio::net::TcpStream;

    use super::*;
    use crate::testing::http_get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn respond(path: &str) -> Answer {
        answer(StatusCode::OK, "text/plain", path.to_owned())
    }

    fn bind_text(text: &str) -> io::Result<Endpoint> {
        let endpoint = listen::Endpoint::parse("tcp", text).unwrap();
        bind(&Sockets::default(), &endpoint, "test")
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
            "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
        let answer = exchange(
            address,
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
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
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
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

    #[tokio::test]
    async fn an_address_in_use_is_an_error() {
        let (address, shutdown, serving) = start();
        assert_eq!(
            bind_text(&address.to_string()).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        shutdown.trigger();
        serving.await.unwrap();
    }
}

//! The Prometheus endpoint: `GET /metrics` in the text format, version 0.0.4.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections, further ones wait to be accepted; [`HEADER_TIMEOUT`] to send a request's head.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::{Telemetry, names};
use crate::component::{ComponentError, Shutdown};
use crate::memory::HeldBytes;
use crate::process;

const CONNECTIONS_MAX: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after the system could not accept a connection, as when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound endpoint that does not answer yet.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

/// Binds the endpoint. Port 0 takes a free one. To be called on a runtime.
///
/// # Errors
/// When the address is taken or not this machine's.
pub fn bind(address: &SocketAddr) -> io::Result<Endpoint> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    Ok(Endpoint { listener, address })
}

impl Endpoint {
    /// Answers until `shutdown`; answers under way are finished.
    ///
    /// # Errors
    /// None today: what fails is one connection's business.
    pub async fn run(
        self,
        telemetry: Telemetry,
        held: HeldBytes,
        shutdown: Shutdown,
    ) -> Result<(), ComponentError> {
        info!(address = %self.address, "metrics endpoint listening");
        let page = Page {
            telemetry,
            held,
            started: Instant::now(),
        };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.triggered() => break,
                Some(_ended) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, page.clone(), shutdown.clone()));
                    }
                    Err(error) => {
                        warn!(%error, "metrics endpoint cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

async fn serve(stream: TcpStream, page: Page, shutdown: Shutdown) {
    let service = service_fn(|request| {
        let answer = page.answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "metrics connection ended early");
    }
}

/// What an answer is made from.
#[derive(Debug, Clone)]
struct Page {
    telemetry: Telemetry,
    held: HeldBytes,
    started: Instant,
}

impl Page {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        self.read_process();
        match self.telemetry.encode() {
            Ok(text) => {
                let mut answer = Response::new(Full::new(Bytes::from(text)));
                answer.headers_mut().insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
                );
                answer
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }

    /// Brings figures about the process up to date.
    fn read_process(&self) {
        let seconds = |spec, seconds| self.telemetry.set_seconds(spec, seconds);
        seconds(&names::PROCESS_UPTIME, self.started.elapsed().as_secs_f64());
        seconds(&names::PROCESS_CPU, process::cpu_seconds());
        let bytes = |spec, bytes: u64| {
            let gauge = self.telemetry.gauge(spec, &[]);
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        };
        bytes(&names::PROCESS_RSS, process::resident_bytes());
        bytes(&names::HELD_BYTES, self.held.bytes() as u64);
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_are_served_until_shutdown() {
        let endpoint = bind(&SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = endpoint.address;
        let shutdown = Shutdown::default();
        let run = endpoint.run(Telemetry::default(), HeldBytes::default(), shutdown.clone());
        let server = tokio::spawn(run);
        let answer = get(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\notelcol_process_memory_rss "), "{answer}");
        let answer = get(address, "/").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        shutdown.trigger();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}

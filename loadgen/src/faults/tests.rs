//! The proxy between a real client and a destination that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::sink::serve::{Body, Handler, full, read};

const INSERT: &str = "/?query=INSERT+INTO+t";

/// Answers `stored N bytes` and counts the inserts it has got whole.
#[derive(Clone, Default)]
struct Destination(Arc<AtomicUsize>);

impl Handler for Destination {
    async fn handle(
        self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<Body>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = read(body, 1 << 20).await?.unwrap_or_default();
        if head.uri.query().is_some() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        let answer = format!("stored {} bytes", body.len());
        Ok(http::Response::new(full(Bytes::from(answer))))
    }
}

struct Setup {
    proxy: Proxy,
    destination: Destination,
    client: Client<HttpConnector, Full<Bytes>>,
    /// How long an answer may take.
    patience: Duration,
}

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

impl Setup {
    async fn new(protocol: Protocol, faults: &[&str]) -> Self {
        let destination = Destination::default();
        let (listener, to) = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(serve(listener, Version::Http1, destination.clone()));
        let board = Arc::new(Board::new(1));
        board.set(
            faults
                .iter()
                .map(|text| Rule::parse(text).unwrap())
                .collect(),
        );
        let listen = "127.0.0.1:0".parse().unwrap();
        Self {
            proxy: Proxy::start(listen, to, protocol, board).unwrap(),
            destination,
            client: Client::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .build_http(),
            patience: PATIENCE,
        }
    }

    /// Status, exception header and body of the answer; the error's text if there is none in time.
    async fn send(&self, target: &str, bytes: usize) -> Result<(u16, bool, String), String> {
        let url = format!("http://{}{target}", self.proxy.address);
        let request = hyper::Request::post(url)
            .body(Full::new(Bytes::from(vec![b'x'; bytes])))
            .unwrap();
        let answer = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|e| e.to_string())?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            let exception = head.headers.contains_key("x-clickhouse-exception-code");
            let text = String::from_utf8(body.to_vec()).unwrap();
            Ok((head.status.as_u16(), exception, text))
        };
        tokio::time::timeout(self.patience, answer)
            .await
            .unwrap_or_else(|_| Err("timeout".to_owned()))
    }

    fn stored(&self) -> usize {
        self.destination.0.load(Ordering::SeqCst)
    }
}

/// Sends one insert with a fault: whether it is answered well, and how often it is stored. Then without.
async fn check(protocol: Protocol, fault: &str, answered: bool, stored: usize) {
    let mut setup = Setup::new(protocol, &[fault]).await;
    if fault.starts_with("black-hole") {
        // There is no answer to wait for.
        setup.patience = Duration::from_secs(1);
    }
    let answer = setup.send(INSERT, 10_000).await;
    setup.patience = PATIENCE;
    let well = answer
        .as_ref()
        .is_ok_and(|(status, _, body)| *status == 200 && body == "stored 10000 bytes");
    assert_eq!(well, answered, "{fault}: {answer:?}");
    assert_eq!(setup.stored(), stored, "{fault}");
    setup.proxy.board.set(Vec::new());
    let deadline = Instant::now() + 2 * PATIENCE;
    while setup.send(INSERT, 20).await != Ok((200, false, "stored 20 bytes".to_owned())) {
        assert!(Instant::now() < deadline, "{fault}: nothing passes again");
    }
}

#[tokio::test]
async fn faults_do_to_requests_what_they_are_called() {
    use Protocol::Http;
    check(Http, "refuse", false, 0).await;
    check(Http, "refuse:times=1:period=50ms", false, 0).await;
    check(Http, "delay:by=50ms", true, 1).await;
    check(Http, "cut-before", false, 0).await;
    check(Http, "cut-request", false, 0).await;
    check(Http, "cut-after", false, 1).await;
    check(Http, "cut-answer", false, 1).await;
    check(Http, "black-hole", false, 0).await;
    check(Http, "black-hole:read", false, 0).await;
    check(Http, "throttle:rate=100000", true, 1).await;
    check(Http, "slow:gap=1ms", true, 1).await;
    check(Http, "status", false, 0).await;
    check(Http, "status:forwarded", false, 1).await;
    check(Http, "exception", false, 0).await;
    check(Http, "exception:tagged:split", false, 0).await;
    check(Http, "exception:forwarded:bare", false, 1).await;
    check(Http, "cut-before:times=0", true, 1).await;
}

#[tokio::test]
async fn faults_do_to_connections_what_they_are_called() {
    use Protocol::Tcp;
    check(Tcp, "refuse", false, 0).await;
    check(Tcp, "delay:by=50ms", true, 1).await;
    check(Tcp, "cut-before", false, 0).await;
    check(Tcp, "cut-request", false, 0).await;
    check(Tcp, "cut-after", false, 1).await;
    check(Tcp, "cut-answer", false, 1).await;
    check(Tcp, "black-hole", false, 0).await;
    check(Tcp, "black-hole:read", false, 0).await;
    check(Tcp, "throttle:rate=100000", true, 1).await;
    check(Tcp, "slow:gap=1ms", true, 1).await;
}

#[tokio::test]
async fn answers_made_up_look_like_a_server_s() {
    let setup = Setup::new(Protocol::Http, &["exception:code=252:times=1"]).await;
    let (status, header, body) = setup.send(INSERT, 1).await.unwrap();
    assert_eq!((status, header), (200, true));
    assert!(body.starts_with("Code: 252. DB::Exception: "), "{body}");
    let bare = Rule::parse("exception:bare:times=1").unwrap();
    setup.proxy.board.set(vec![bare]);
    assert!(!setup.send(INSERT, 1).await.unwrap().1);
    let status = Rule::parse("status:code=429:retry-after=7").unwrap();
    setup.proxy.board.set(vec![status]);
    assert_eq!(setup.send(INSERT, 1).await.unwrap().0, 429);
    assert_eq!(setup.proxy.board.counts().injected["exception"], 2);
}

#[tokio::test]
async fn other_requests_pass_unless_all_are_meant() {
    let setup = Setup::new(Protocol::Http, &["cut-before"]).await;
    assert!(setup.send("/?query=SELECT+1", 5).await.is_ok());
    setup
        .proxy
        .board
        .set(vec![Rule::parse("cut-before:all").unwrap()]);
    assert!(setup.send("/?query=SELECT+1", 5).await.is_err());
    let counts = setup.proxy.board.counts();
    assert_eq!((counts.requests, counts.inserts, counts.answers), (2, 0, 1));
}

#[tokio::test]
async fn throttled_requests_share_the_rate() {
    let setup = Setup::new(Protocol::Http, &["throttle:rate=100000"]).await;
    let begun = Instant::now();
    let (one, two) = tokio::join!(setup.send(INSERT, 20_000), setup.send(INSERT, 20_000));
    assert!(one.is_ok() && two.is_ok());
    assert!(begun.elapsed() >= Duration::from_millis(350), "{begun:?}");
}

#[tokio::test]
async fn a_destination_that_is_away_is_a_reset() {
    // Bound and never listening: nobody else gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let to = socket.local_addr().unwrap();
    let board = Arc::new(Board::new(1));
    let listen = "127.0.0.1:0".parse().unwrap();
    let proxy = Proxy::start(listen, to, Protocol::Http, Arc::clone(&board)).unwrap();
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(board.counts().destination_failed, 1);
}

#[test]
fn status_faults_need_http() {
    assert!(control::parse(&["status".to_owned()], Protocol::Http).is_ok());
    assert!(control::parse(&["status".to_owned()], Protocol::Tcp).is_err());
    assert_eq!(every_fault(Protocol::Http).unwrap().len(), Fault::ALL.len());
    assert!(every_fault(Protocol::Tcp).unwrap().len() < Fault::ALL.len());
}

//! One request at a time over a connection that is kept: OTLP/HTTP on HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::connect::Connector;
use super::rope::{Message, Rope};
use crate::auth::Pass;

/// An answer is a few bytes, an error a few hundred: what is longer is not read.
const ANSWER_MAX: usize = 64 * 1024;

/// How long a connection may take to become ready again after an answer. A server that has answered before it read the
/// whole request may never read the rest.
const READY_TIME_MAX: Duration = Duration::from_millis(100);

/// What all consumers of one signal's queue have in common.
pub(super) struct Route {
    /// The way to the server.
    pub(super) connector: Connector,
    /// The path to post to.
    pub(super) path: Uri,
    /// All headers but the length.
    pub(super) headers: HeaderMap,
    /// What is shown besides, as it is at the time.
    pub(super) pass: Pass,
    /// When a connection without requests is closed.
    pub(super) idle: Option<Duration>,
    /// Whether a connection carries more than one request.
    pub(super) keep_alive: bool,
}

/// A consumer's client, with its connection.
pub(super) struct Client {
    route: Arc<Route>,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Message>,
    usage: Arc<Usage>,
    /// Drives the connection; ends with it.
    _driver: AbortOnDropHandle<()>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Its beginning, where it is longer than anybody should answer.
    pub(super) body: Bytes,
}

impl Client {
    /// Without a connection yet.
    pub(super) fn new(route: Arc<Route>) -> Self {
        Self {
            route,
            connection: None,
        }
    }

    /// Posts `body` and gives the answer. If the future is dropped, the connection is too.
    ///
    /// # Errors
    /// What went wrong on the way: nobody knows whether the server has the request.
    pub(super) async fn post(&mut self, body: &Rope) -> Result<Answer, String> {
        if let Some(connection) = self.connection.take()
            && let Some(answer) = self.post_on(connection, body).await?
        {
            return Ok(answer);
        }
        // The server had closed the kept connection: nothing of the request was sent.
        let connection = self.route.open().await?;
        let answer = self.post_on(connection, body).await?;
        answer.ok_or_else(|| "the server closes connections before they are used".to_owned())
    }

    /// Posts on one connection, and keeps it if it can be used again; `None` where it was closed before anything was sent.
    async fn post_on(
        &mut self,
        mut connection: Connection,
        body: &Rope,
    ) -> Result<Option<Answer>, String> {
        connection.usage.begin();
        if connection.sender.ready().await.is_err() {
            return Ok(None);
        }
        let request = self.route.request(body.clone());
        let response = match connection.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(error) if error.message().is_some() => return Ok(None),
            Err(error) => return Err(format!("send: {}", describe(error.error()))),
        };
        let (answer, complete) = read(response)
            .await
            .map_err(|error| format!("read the answer: {}", describe(&error)))?;
        if complete && self.route.keep_alive {
            let ready = tokio::time::timeout(READY_TIME_MAX, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                connection.usage.end();
                self.connection = Some(connection);
            }
        }
        Ok(Some(answer))
    }
}

impl Route {
    async fn open(&self) -> Result<Connection, String> {
        let stream = self.connector.connect().await?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| describe(&error))?;
        let usage = Arc::new(Usage::new());
        let driver = drive(connection, Arc::clone(&usage), self.idle);
        Ok(Connection {
            sender,
            usage,
            _driver: AbortOnDropHandle::new(tokio::spawn(driver)),
        })
    }

    fn request(&self, body: Rope) -> Request<Message> {
        let mut request = Request::new(Message::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        self.pass.show(request.headers_mut());
        request
    }
}

/// Moves bytes until the connection ends, or was not used for `idle`.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    usage: Arc<Usage>,
    idle: Option<Duration>,
) {
    let mut connection = std::pin::pin!(connection);
    let Some(idle) = idle else {
        // How it ended, the request under way is told.
        drop(connection.await);
        return;
    };
    let mut due = Instant::now() + idle;
    loop {
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = tokio::time::sleep_until(due) => {}
        }
        let idle_for = usage.idle_for();
        if idle_for >= idle {
            return;
        }
        due = Instant::now() + (idle - idle_for);
    }
}

/// Since when a connection is idle, if it is. Read by its driver only when its timer rings, so that requests wake nobody.
struct Usage {
    start: Instant,
    busy: AtomicBool,
    /// Milliseconds after `start` of the last end of a request.
    ended_ms: AtomicU64,
}

impl Usage {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            busy: AtomicBool::new(true),
            ended_ms: AtomicU64::new(0),
        }
    }

    fn begin(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ended_ms.store(now, Ordering::Relaxed);
        self.busy.store(false, Ordering::Relaxed);
    }

    fn idle_for(&self) -> Duration {
        if self.busy.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let ended = Duration::from_millis(self.ended_ms.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(ended)
    }
}

/// The answer, and whether all of it was read.
async fn read(response: Response<Incoming>) -> Result<(Answer, bool), hyper::Error> {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut complete = true;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let room = ANSWER_MAX - bytes.len();
        complete = data.len() <= room;
        bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
        if !complete {
            break;
        }
    }
    let answer = Answer {
        status: head.status,
        headers: head.headers,
        body: bytes.into(),
    };
    Ok((answer, complete))
}

/// The headers of every request: ours, and the user's over them.
pub(super) fn headers(
    host: &str,
    content_type: &'static str,
    encoding: Option<&'static str>,
    keep_alive: bool,
    users: &HeaderMap,
) -> Result<HeaderMap, String> {
    use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
    let mut headers = HeaderMap::with_capacity(users.len() + 5);
    let host = HeaderValue::try_from(host).map_err(|error| format!("the host: {error}"))?;
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, super::exporter::USER_AGENT_VALUE);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if !keep_alive {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in users {
        headers.insert(HeaderName::clone(name), value.clone());
    }
    Ok(headers)
}

/// An error and its causes, in a line.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

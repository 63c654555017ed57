//! Unary gRPC calls over HTTP/2 connections that all consumers of a signal share.
//!
//! The framing is done here rather than by tonic's codec: that would copy each message into one buffer, while here the
//! frames are cut out of the bytes as they lie.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::Connector;
use super::post::describe;
use super::request::PREFIX;
use super::rope::{Message, Rope};
use super::settings::{GrpcSettings, Ping};
use super::verdict::GrpcStatus;
use crate::auth::Pass;
use crate::signal::Signal;

/// An answer is a few bytes: what is longer is not read.
const ANSWER_MAX: usize = 64 * 1024;

/// Answers are small: with this window no call waits for another's answer to be read.
const WINDOW: u32 = 256 * 1024;

/// Where the calls of one signal go. Cloned handles of one connection carry them all.
pub(super) struct Channel {
    connector: Connector,
    ping: Option<Ping>,
    path: Uri,
    headers: HeaderMap,
    pass: Pass,
    /// Guards the connection that new calls use, if there is one.
    current: Mutex<Option<Arc<Link>>>,
    /// Held while connecting, so that only one consumer does it and the others use what it opened.
    connecting: tokio::sync::Mutex<()>,
}

/// A connection. Calls under way keep it, also after new ones go elsewhere.
struct Link {
    sender: SendRequest<Message>,
    /// Ends its tasks, and with them the connection.
    _tasks: DropGuard,
}

/// Runs what a connection needs for itself and its calls, until the connection is dropped.
#[derive(Debug, Clone)]
struct Tasks(CancellationToken);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let ended = self.0.clone();
        drop(tokio::spawn(async move {
            tokio::select! {
                _done = future => {}
                () = ended.cancelled_owned() => {}
            }
        }));
    }
}

/// How a call was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) http_status: StatusCode,
    pub(super) headers: HeaderMap,
    /// `None` if there was none: the answer does not come from a gRPC server, or the connection broke.
    pub(super) status: Option<GrpcStatus>,
    /// The message, where it is not compressed.
    pub(super) message: Bytes,
}

impl Channel {
    /// For the calls of one signal; connects to nothing yet.
    ///
    /// # Errors
    /// When the authority cannot be part of a request.
    pub(super) fn new(
        settings: &GrpcSettings,
        connector: Connector,
        pass: Pass,
        signal: Signal,
    ) -> Result<Self, http::Error> {
        Ok(Self {
            connector,
            ping: settings.ping,
            path: uri(settings, signal)?,
            headers: headers(settings),
            pass,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Makes one call, for which the server has `limit`. If the future is dropped, as when time is up, its stream is reset
    /// and later calls use a new connection.
    ///
    /// # Errors
    /// What went wrong on the way: nobody knows whether the server has the message.
    pub(super) async fn call(
        &self,
        message: &Rope,
        limit: Option<Duration>,
    ) -> Result<Answer, String> {
        if let Some(answer) = self.try_call(message, limit).await? {
            return Ok(answer);
        }
        // The connection had ended before anything was sent: once more, on another.
        let answer = self.try_call(message, limit).await?;
        answer.ok_or_else(|| "the server closes connections before they are used".to_owned())
    }

    /// Makes a call on the current connection, or a new one; `None` where that ended before anything was sent.
    async fn try_call(
        &self,
        message: &Rope,
        limit: Option<Duration>,
    ) -> Result<Option<Answer>, String> {
        let link = self.link().await?;
        let mut doubt = Doubt {
            channel: self,
            link: &link,
            dispelled: false,
        };
        let mut sender = link.sender.clone();
        let response = match sender.try_send_request(self.request(message, limit)).await {
            Ok(response) => response,
            Err(error) if error.message().is_some() => return Ok(None),
            Err(error) => return Err(format!("send: {}", describe(error.error()))),
        };
        let answer = read(response).await?;
        doubt.dispelled = true;
        Ok(Some(answer))
    }

    /// The connection for a new call.
    async fn link(&self) -> Result<Arc<Link>, String> {
        if let Some(link) = self.usable() {
            return Ok(link);
        }
        let _turn = self.connecting.lock().await;
        if let Some(link) = self.usable() {
            return Ok(link);
        }
        let stream = self.connector.connect().await?;
        let ended = CancellationToken::new();
        let tasks = Tasks(ended.clone());
        let (sender, connection) = builder(tasks.clone(), self.ping)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("HTTP/2: {}", describe(&error)))?;
        // How it ended, the calls under way are told.
        hyper::rt::Executor::execute(&tasks, connection);
        let link = Arc::new(Link {
            sender,
            _tasks: ended.drop_guard(),
        });
        *self.current() = Some(Arc::clone(&link));
        Ok(link)
    }

    fn usable(&self) -> Option<Arc<Link>> {
        let current = self.current();
        current
            .as_ref()
            .filter(|link| !link.sender.is_closed())
            .cloned()
    }

    /// Has new calls go elsewhere.
    fn forget(&self, link: &Arc<Link>) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|held| Arc::ptr_eq(held, link)) {
            *current = None;
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Arc<Link>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, message: &Rope, limit: Option<Duration>) -> Request<Message> {
        let mut request = Request::new(Message::from(message.clone()));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(limit) = limit {
            request
                .headers_mut()
                .insert("grpc-timeout", timeout_value(limit));
        }
        self.pass.show(request.headers_mut());
        request
    }
}

/// The suspicion that a connection is dead without knowing it, unless a call on it ends well.
struct Doubt<'a> {
    channel: &'a Channel,
    link: &'a Arc<Link>,
    dispelled: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.dispelled {
            self.channel.forget(self.link);
        }
    }
}

fn builder(tasks: Tasks, ping: Option<Ping>) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    if let Some(ping) = ping {
        builder
            .keep_alive_interval(ping.after)
            .keep_alive_timeout(ping.timeout)
            .keep_alive_while_idle(ping.while_idle);
    }
    builder
}

/// The address of the `Export` method of a signal.
fn uri(settings: &GrpcSettings, signal: Signal) -> Result<Uri, http::Error> {
    let path = match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    };
    let scheme = match settings.endpoint.place.tls {
        true => "https",
        false => "http",
    };
    Uri::builder()
        .scheme(scheme)
        .authority(settings.endpoint.authority.clone())
        .path_and_query(path)
        .build()
}

/// The headers of every call but for its deadline: ours, and the user's over them.
fn headers(settings: &GrpcSettings) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(settings.headers.len() + 5);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(USER_AGENT, super::exporter::USER_AGENT_VALUE);
    if let Some(encoding) = settings.packing.method.name() {
        headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
    }
    for (name, value) in &settings.headers {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

/// A time as gRPC writes it: at most eight digits and a unit, rounded up.
fn timeout_value(timeout: Duration) -> HeaderValue {
    const DIGITS_MAX: u128 = 99_999_999;
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    let text = match millis <= DIGITS_MAX {
        true => format!("{millis}m"),
        false => format!("{}S", millis.div_ceil(1000).min(DIGITS_MAX)),
    };
    HeaderValue::try_from(text).expect("digits and a letter are a valid header")
}

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, mut body) = response.into_parts();
    let mut status = GrpcStatus::find(&head.headers);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("read the answer: {}", describe(&error)))?;
        match frame.into_data() {
            // What is longer than any answer is not kept, but its trailers are waited for.
            Ok(data) if bytes.len() + data.len() <= ANSWER_MAX => bytes.extend_from_slice(&data),
            Ok(_) => {}
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                status = GrpcStatus::find(&trailers).or(status);
            }
        }
    }
    // We accept no compression, so a message that has the flag is none of ours.
    let message = match bytes.get(..PREFIX) {
        Some([0, ..]) => Bytes::from(bytes).slice(PREFIX..),
        _ => Bytes::new(),
    };
    Ok(Answer {
        http_status: head.status,
        headers: head.headers,
        status,
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_grpc_reads_them() {
        let check = |millis, expected: &str| {
            assert_eq!(timeout_value(Duration::from_millis(millis)), expected);
        };
        check(1, "1m");
        check(5000, "5000m");
        check(99_999_999, "99999999m");
        check(100_000_001, "100001S");
        assert_eq!(timeout_value(Duration::from_micros(1500)), "2m");
    }
}

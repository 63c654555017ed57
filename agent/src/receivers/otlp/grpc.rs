//! OTLP over gRPC: the three `Export` methods, carrying raw bytes.
//!
//! The framing is done here rather than by tonic's codec, because tonic gathers and inflates a message before a codec sees
//! it: a message could not be admitted before it is buffered, snappy could not be accepted, and gzip and zstd would be
//! inflated by growing a buffer instead of into one of the right size. Statuses are tonic's.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::Service;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::door::{Door, Format, Held};
use super::encoding::Encoding;
use super::lane::Place;
use super::problem::Problem;
use super::room::Room;
use super::{status, success};
use crate::ack::Rejected;
use crate::auth::{Denied, Guard};
use crate::net::Connection;
use crate::signal::{PerSignal, Signal};

/// The compression flag and the length of a message.
const PREFIX: usize = 5;

/// A message without bytes, not compressed: an `Export*ServiceResponse` that says all was taken.
const EMPTY_MESSAGE: &[u8] = &[0; PREFIX];

/// Encodings accepted, as the client is told.
const ACCEPTED: &str = "identity,gzip,zstd,snappy,deflate";

/// For a message that trickles in. There is no such field in the Collector; a minute is what OTLP over HTTP has by default.
const READ_TIME: Duration = Duration::from_secs(60);

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Serves the `Export` methods of the signals that have a door.
pub(super) struct GrpcService {
    pub(super) guard: Guard,
    pub(super) doors: Arc<PerSignal<Option<Arc<Door>>>>,
}

impl Service<Request<Incoming>> for GrpcService {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (guard, doors) = (self.guard.clone(), Arc::clone(&self.doors));
        Box::pin(async move { Ok(answer(&guard, &doors, request).await) })
    }
}

async fn answer<B>(
    guard: &Guard,
    doors: &PerSignal<Option<Arc<Door>>>,
    request: Request<B>,
) -> Response<Reply>
where
    B: Body,
    B::Error: std::fmt::Display,
{
    if request.method() != Method::POST {
        return bare(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !is_grpc(request.headers()) {
        return bare(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if let Err(denied) = guard.check(request.headers()).await {
        return not_let_in(&denied).into_http();
    }
    match export(doors, request).await {
        Ok(rejected) => {
            let mut response = Response::new(Reply::Success(message(rejected.as_ref())));
            response.headers_mut().insert(CONTENT_TYPE, GRPC);
            response
        }
        Err(status) => status.into_http(),
    }
}

/// An `Export*ServiceResponse` with its prefix.
fn message(rejected: Option<&Rejected>) -> Bytes {
    if rejected.is_none() {
        return Bytes::from_static(EMPTY_MESSAGE);
    }
    let response = success::to_protobuf(rejected);
    let length = u32::try_from(response.len()).expect("what is told of declined items is bounded");
    [&[0], &length.to_be_bytes()[..], &response].concat().into()
}

async fn export<B>(
    doors: &PerSignal<Option<Arc<Door>>>,
    request: Request<B>,
) -> Result<Option<Rejected>, Status>
where
    B: Body,
    B::Error: std::fmt::Display,
{
    let (parts, body) = request.into_parts();
    let door = signal_of(parts.uri.path())
        .and_then(|signal| doors[signal].as_ref())
        .ok_or_else(|| Status::unimplemented(format!("unknown method {}", parts.uri.path())))?;
    let connection = parts.extensions.get::<Connection>();
    let read = async {
        let encoding = encoding_of(&parts.headers)?;
        tokio::time::timeout(READ_TIME, read(door.room().of(connection), body, encoding))
            .await
            .unwrap_or(Err(Problem::Slow(READ_TIME)))
    };
    door.receive(read, Format::Protobuf, None)
        .await
        .map_err(|problem| to_status(&problem))
}

/// The signal whose service has this path.
fn signal_of(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let rest = value.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b";") || rest == b"+proto")
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let Some(value) = headers.get("grpc-encoding") else {
        return Ok(Encoding::Identity);
    };
    match value.as_bytes() {
        b"identity" => Ok(Encoding::Identity),
        b"gzip" => Ok(Encoding::Gzip),
        b"zstd" => Ok(Encoding::Zstd),
        b"snappy" => Ok(Encoding::Snappy),
        b"deflate" => Ok(Encoding::Deflate),
        other => Err(Problem::Encoding(
            String::from_utf8_lossy(other).into_owned(),
        )),
    }
}

/// The one message of the request, as it came, and the encoding it is in.
async fn read<B>(
    mut room: Room<'_>,
    body: B,
    declared: Encoding,
) -> Result<(Held, Encoding), Problem>
where
    B: Body,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    let mut prefix = Prefix::default();
    let mut place = Place::none();
    while let Some(frame) = place.read(body.frame()).await {
        let frame = frame.map_err(|error| Problem::Unreadable(error.to_string()))?;
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        while data.has_remaining() {
            let used = match prefix.length {
                None => {
                    let used = prefix.take(data.chunk(), &mut room).await?;
                    place = Place::take(prefix.length.unwrap_or(0)).await;
                    used
                }
                Some(length) => {
                    let missing = length - room.bytes.len();
                    let piece = data.chunk();
                    if piece.len() > missing {
                        return Err(malformed("more than one message in a unary call"));
                    }
                    room.append(piece)?;
                    piece.len()
                }
            };
            data.advance(used);
        }
    }
    if prefix.length != Some(room.bytes.len()) {
        return Err(malformed("the call ended before its message was complete"));
    }
    let encoding = match (prefix.compressed, declared) {
        (false, _) => Encoding::Identity,
        (true, Encoding::Identity) => {
            return Err(malformed("compressed message without grpc-encoding"));
        }
        (true, encoding) => encoding,
    };
    Ok((room.finish()?, encoding))
}

fn malformed(text: &str) -> Problem {
    Problem::Malformed(text.to_owned())
}

/// The five bytes before a message, gathered from wherever frames cut them.
#[derive(Default)]
struct Prefix {
    bytes: [u8; PREFIX],
    filled: usize,
    compressed: bool,
    length: Option<usize>,
}

impl Prefix {
    /// Takes what it needs from `data`, and once it is complete makes room for the message.
    async fn take(&mut self, data: &[u8], room: &mut Room<'_>) -> Result<usize, Problem> {
        let mut used = 0;
        for (slot, byte) in self.bytes.iter_mut().skip(self.filled).zip(data) {
            *slot = *byte;
            used += 1;
        }
        self.filled += used;
        if self.filled == PREFIX {
            let [flag, length @ ..] = self.bytes;
            if flag > 1 {
                return Err(malformed("invalid compression flag"));
            }
            self.compressed = flag == 1;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            room.enter(length).await?;
            self.length = Some(length);
        }
        Ok(used)
    }
}

fn to_status(problem: &Problem) -> Status {
    let code = match problem {
        Problem::TooLarge(_) => Code::ResourceExhausted,
        Problem::Slow(_) => Code::DeadlineExceeded,
        Problem::Encoding(_) => Code::Unimplemented,
        Problem::Unreadable(_) | Problem::Malformed(_) => Code::InvalidArgument,
        Problem::Refused(_) if problem.is_temporary() => Code::Unavailable,
        Problem::Refused(_) => Code::Internal,
    };
    let message = match problem {
        Problem::TooLarge(limit) => {
            format!("grpc: received message larger than max ({limit} bytes)")
        }
        Problem::Encoding(name) => {
            format!("grpc: Decompressor is not installed for grpc-encoding \"{name}\"")
        }
        _ => problem.message(),
    };
    let hint = problem.retry_after();
    let details = match hint {
        Some(_) => status::to_protobuf(code, &message, hint).into(),
        None => Bytes::new(),
    };
    let mut status = Status::with_details(code, message, details);
    if code == Code::Unimplemented {
        status
            .metadata_mut()
            .insert("grpc-accept-encoding", MetadataValue::from_static(ACCEPTED));
    }
    status
}

fn not_let_in(denied: &Denied) -> Status {
    let message = denied.message();
    if let Some(after) = denied.retry_after() {
        let details = status::to_protobuf(Code::Unavailable, message, Some(after));
        return Status::with_details(Code::Unavailable, message, details.into());
    }
    let mut status = Status::unauthenticated(message);
    if let Ok(challenge) = MetadataValue::try_from(denied.challenge().as_bytes()) {
        status.metadata_mut().insert("www-authenticate", challenge);
    }
    status
}

fn bare(status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::Empty);
    *response.status_mut() = status;
    response
}

/// The body of a response.
#[derive(Debug, Default)]
pub(super) enum Reply {
    /// Nothing: errors are all in the headers.
    #[default]
    Empty,
    /// A message, then the trailers that say success.
    Success(Bytes),
    /// Those trailers.
    Trailers,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::take(&mut *self) {
            Self::Empty => Poll::Ready(None),
            Self::Success(message) => {
                *self = Self::Trailers;
                Poll::Ready(Some(Ok(Frame::data(message))))
            }
            Self::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Success(message) => SizeHint::with_exact(message.len() as u64),
            Self::Empty | Self::Trailers => SizeHint::with_exact(0),
        }
    }
}

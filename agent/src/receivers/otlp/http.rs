//! OTLP over HTTP: routes, content types, statuses and error bodies.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, LOCATION, ORIGIN, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::body;
use super::cors::CorsSettings;
use super::door::{Door, Format, Held};
use super::encoding::Encodings;
use super::problem::Problem;
use super::room::Room;
use super::settings::HttpSettings;
use super::{status, success};
use crate::ack::Rejected;
use crate::auth::{Denied, Guard};
use crate::net::Connection;
use crate::signal::{PerSignal, Signal};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// What is left of a refused body is read and thrown away up to this size, so that the connection lives on: reading it costs
/// less than a new connection. Past that the connection is closed.
const DISCARD_MAX: u64 = 1 << 20;

/// And no longer than this.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// The router for the signals that have a door.
pub(super) fn router(
    settings: &HttpSettings,
    doors: PerSignal<Option<Arc<Door>>>,
    guard: Guard,
) -> Router {
    let mut router = Router::new();
    for signal in Signal::ALL {
        if let Some(door) = &doors[signal] {
            let route = Arc::new(Route {
                door: Arc::clone(door),
                encodings: settings.encodings,
                read_timeout: settings.read_timeout,
            });
            let handler = any(move |request: Request| post(Arc::clone(&route), request));
            router = router.route(&settings.paths[signal], handler);
        }
    }
    router = router.fallback(not_routed);
    if settings.auth.is_some() {
        router = router.layer(middleware::from_fn_with_state(guard, let_in));
    }
    if let Some(cors) = &settings.cors {
        let cors = Arc::new(cors.clone());
        router = router.layer(middleware::from_fn_with_state(cors, cross_origin));
    }
    if !settings.response_headers.is_empty() {
        let headers: Arc<[_]> = settings.response_headers.clone().into();
        router = router.layer(middleware::from_fn_with_state(headers, add_headers));
    }
    router
}

/// What the handler of a path knows.
struct Route {
    door: Arc<Door>,
    encodings: Encodings,
    read_timeout: Option<Duration>,
}

async fn post(route: Arc<Route>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    if parts.method != Method::POST {
        let mut response = plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "405 method not allowed, supported: [POST]",
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(format) = format_of(&parts.headers) else {
        return plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "415 unsupported media type, supported: [application/json, application/x-protobuf]",
        );
    };
    let connection = parts.extensions.get::<Connection>();
    match receive(&route, &parts.headers, connection, &mut body, format).await {
        Ok(rejected) => success(format, route.door.signal, rejected.as_ref()),
        Err(problem) => {
            discard(&parts.headers, &mut body).await;
            if let Some(connection) = connection
                && !body.is_end_stream()
            {
                connection.body_left_unread();
            }
            failure(format, &problem)
        }
    }
}

async fn receive(
    route: &Route,
    headers: &HeaderMap,
    connection: Option<&Connection>,
    body: &mut Body,
    format: Format,
) -> Result<Option<Rejected>, Problem> {
    let read = async {
        let encoding = route.encodings.of(headers).map_err(Problem::Encoding)?;
        let room = route.door.room().of(connection);
        let held = match route.read_timeout {
            None => read(room, body).await,
            Some(limit) => tokio::time::timeout(limit, read(room, body))
                .await
                .unwrap_or(Err(Problem::Slow(limit))),
        };
        Ok((held?, encoding))
    };
    let declared = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    route.door.receive(read, format, declared).await
}

async fn read(mut room: Room<'_>, body: &mut Body) -> Result<Held, Problem> {
    body::collect(body, &mut room).await?;
    room.finish()
}

/// Reads on after an early answer, within bounds.
async fn discard(headers: &HeaderMap, body: &mut Body) {
    let short = body
        .size_hint()
        .upper()
        .is_some_and(|left| left <= DISCARD_MAX);
    // Who waits for `100 Continue` has sent nothing yet, and need not.
    if !short || headers.contains_key(EXPECT) {
        return;
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // When the time is over the body is left unread, and the caller sees that.
    drop(tokio::time::timeout(DISCARD_TIME, rest).await);
}

/// The format named by `Content-Type`: any case, parameters ignored.
fn format_of(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(CONTENT_TYPE)?.as_bytes();
    let media_type = value.split(|byte| *byte == b';').next()?.trim_ascii();
    if media_type.eq_ignore_ascii_case(PROTOBUF.as_bytes()) {
        return Some(Format::Protobuf);
    }
    media_type
        .eq_ignore_ascii_case(JSON.as_bytes())
        .then_some(Format::Json)
}

fn success(format: Format, signal: Signal, rejected: Option<&Rejected>) -> Response {
    match format {
        Format::Protobuf => respond(StatusCode::OK, PROTOBUF, success::to_protobuf(rejected)),
        Format::Json => respond(StatusCode::OK, JSON, success::to_json(signal, rejected)),
    }
}

fn failure(format: Format, problem: &Problem) -> Response {
    let (status, hint) = (http_status(problem), problem.retry_after());
    status_response(status, format, &problem.message(), hint)
}

/// A `google.rpc.Status` in the format of the request.
fn status_response(
    status: StatusCode,
    format: Format,
    message: &str,
    hint: Option<Duration>,
) -> Response {
    let code = status::code_of(status);
    let mut response = match format {
        Format::Protobuf => {
            let body = status::to_protobuf(code, message, hint);
            respond(status, PROTOBUF, body.into())
        }
        Format::Json => {
            let body = status::to_json(code, message, hint);
            respond(status, JSON, body.into())
        }
    };
    if let Some(delay) = hint {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(status::whole_seconds(delay)));
    }
    response
}

fn http_status(problem: &Problem) -> StatusCode {
    match problem {
        Problem::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Problem::Slow(_) => StatusCode::REQUEST_TIMEOUT,
        Problem::Unreadable(_) | Problem::Encoding(_) | Problem::Malformed(_) => {
            StatusCode::BAD_REQUEST
        }
        Problem::Refused(_) if problem.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
        Problem::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    respond(status, TEXT, Bytes::from_static(text.as_bytes()))
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Answers paths without a route as Go's multiplexer does: a path with empty or dot segments is redirected to its clean
/// form, anything else is not found.
async fn not_routed(uri: Uri) -> Response {
    if let Some(clean) = clean_path(uri.path()) {
        let location = match uri.query() {
            Some(query) => format!("{clean}?{query}"),
            None => clean,
        };
        if let Ok(location) = HeaderValue::try_from(location) {
            let mut response = respond(StatusCode::TEMPORARY_REDIRECT, TEXT, Bytes::new());
            response.headers_mut().insert(LOCATION, location);
            return response;
        }
    }
    let mut response = plain(StatusCode::NOT_FOUND, "404 page not found\n");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The clean form of a path, if it is another.
fn clean_path(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

/// Asks who it is before anything is read. A preflight is answered before: a browser sends it without credentials.
async fn let_in(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Err(denied) = guard.check(request.headers()).await else {
        return next.run(request).await;
    };
    let (parts, mut body) = request.into_parts();
    discard(&parts.headers, &mut body).await;
    if let Some(connection) = parts.extensions.get::<Connection>()
        && !body.is_end_stream()
    {
        connection.body_left_unread();
    }
    not_let_in(&denied, format_of(&parts.headers))
}

fn not_let_in(denied: &Denied, format: Option<Format>) -> Response {
    let (message, hint) = (denied.message(), denied.retry_after());
    let status = match hint {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::UNAUTHORIZED,
    };
    let mut response = match format {
        None => plain(status, message),
        Some(format) => status_response(status, format, message, hint),
    };
    if hint.is_none() {
        let challenge = denied.challenge().clone();
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

async fn cross_origin(
    State(cors): State<Arc<CorsSettings>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(headers) = cors.preflight(request.method(), request.headers()) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = headers;
        return response;
    }
    let headers = cors.actual(request.headers().get(ORIGIN));
    let mut response = next.run(request).await;
    response.headers_mut().extend(headers);
    response
}

async fn add_headers(
    State(headers): State<Arc<[(HeaderName, HeaderValue)]>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in headers.iter() {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_in_go() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(clean_path(path).as_deref(), expected, "{path}");
        };
        check("/v1/traces", None);
        check("/v1/traces/", None);
        check("/", None);
        check("//v1/traces", Some("/v1/traces"));
        check("/v1//traces/", Some("/v1/traces/"));
        check("/v1/./traces", Some("/v1/traces"));
        check("/v1/../../traces", Some("/traces"));
        check("*", Some("/*"));
    }
}

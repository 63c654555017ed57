//! Responses: ClickHouse's headers around an answer.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::answer::{Answer, EXCEPTION_TAG_BYTES};
use super::encode::{ContentEncoding, Encoding};
use super::engine::Engine;
use super::exception::Exception;
use super::ffi::Statistics;
use super::parameters::Parameters;
use super::random;
use super::service::CancelOnDrop;

/// A response to a client.
pub(super) type HttpResponse = Response<BoxBody<Bytes, Infallible>>;

/// What the headers of one response say besides the answer.
pub(super) struct ResponseContext {
    query_id: String,
    version: String,
    time_zone: String,
    display_name: String,
    cors: bool,
    started: std::time::Instant,
    /// The mark around an exception in the middle of the answer.
    pub(super) exception_tag: String,
    pub(super) encoding: Encoding,
}

impl ResponseContext {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            query_id: new_query_id(),
            version: engine.version.clone(),
            time_zone: engine.time_zone.clone(),
            display_name: engine.display_name.clone(),
            cors: false,
            started: std::time::Instant::now(),
            exception_tag: new_exception_tag(),
            encoding: Encoding {
                content: ContentEncoding::Identity,
                framed: false,
            },
        }
    }

    /// Takes over what the request asks for.
    pub(super) fn read(&mut self, parameters: &Parameters) {
        if let Some(query_id) = &parameters.query_id {
            self.query_id.clone_from(query_id);
        }
        if let Some(time_zone) = parameters
            .setting("session_timezone")
            .filter(|name| !name.is_empty())
        {
            time_zone.clone_into(&mut self.time_zone);
        }
        self.cors = parameters.setting("add_http_cors_header") == Some("1");
    }

    fn respond(&self, status: StatusCode, body: BoxBody<Bytes, Infallible>) -> HttpResponse {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        set(
            &mut response,
            "x-clickhouse-server-display-name",
            &self.display_name,
        );
        set(&mut response, "x-clickhouse-query-id", &self.query_id);
        set(&mut response, "x-clickhouse-timezone", &self.time_zone);
        set(
            &mut response,
            "x-clickhouse-exception-tag",
            &self.exception_tag,
        );
        if let Some(encoding) = self.encoding.content.name() {
            set(&mut response, "content-encoding", encoding);
        }
        if self.cors {
            set(&mut response, "access-control-allow-origin", "*");
        }
        response
    }
}

/// Builds the response to a statement.
pub(super) fn build(
    context: &ResponseContext,
    answer: Answer,
    mut cancel: CancelOnDrop,
) -> HttpResponse {
    match answer {
        Answer::Failed { exception, body } => {
            cancel.disarm();
            let mut response = context.respond(exception.status(), Full::new(body).boxed());
            set(
                &mut response,
                "x-clickhouse-exception-code",
                &exception.code.to_string(),
            );
            set(&mut response, "content-type", "text/plain; charset=UTF-8");
            response
        }
        Answer::Complete {
            format,
            statistics,
            body,
        } => {
            cancel.disarm();
            let mut response = context.respond(StatusCode::OK, Full::new(body).boxed());
            set_format(&mut response, &format);
            let elapsed = context.started.elapsed().as_nanos();
            set(
                &mut response,
                "x-clickhouse-summary",
                &summary(&statistics, elapsed),
            );
            response
        }
        Answer::Streaming { format, pieces } => {
            let mut response = context.respond(StatusCode::OK, stream_body(pieces, cancel));
            set_format(&mut response, &format);
            response
        }
    }
}

/// The response to a request that did not get as far as a statement. It is not encoded.
pub(super) fn refusal(context: &ResponseContext, exception: &Exception) -> HttpResponse {
    let body = Full::new(Bytes::from(exception.render(&context.version))).boxed();
    let mut response = context.respond(exception.status(), body);
    response.headers_mut().remove(header::CONTENT_ENCODING);
    set(
        &mut response,
        "x-clickhouse-exception-code",
        &exception.code.to_string(),
    );
    set(&mut response, "content-type", "text/plain; charset=UTF-8");
    response
}

/// A short text.
pub(super) fn text(status: StatusCode, text: &str) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed());
    *response.status_mut() = status;
    set(&mut response, "content-type", "text/html; charset=UTF-8");
    response
}

/// The answer to a browser that asks what it may send.
pub(super) fn preflight() -> HttpResponse {
    let mut response = text(StatusCode::NO_CONTENT, "");
    set(&mut response, "access-control-allow-origin", "*");
    set(
        &mut response,
        "access-control-allow-methods",
        "POST, GET, OPTIONS",
    );
    set(
        &mut response,
        "access-control-allow-headers",
        "origin, x-requested-with, content-type, authorization",
    );
    set(&mut response, "access-control-max-age", "86400");
    response
}

fn stream_body(pieces: mpsc::Receiver<Bytes>, cancel: CancelOnDrop) -> BoxBody<Bytes, Infallible> {
    let frames = stream::unfold((pieces, cancel), |(mut pieces, mut cancel)| async move {
        match pieces.recv().await {
            Some(piece) => Some((Ok(Frame::data(piece)), (pieces, cancel))),
            None => {
                cancel.disarm();
                None
            }
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// Sets a header whose value may come from a client; one that no header can hold is left out.
fn set(response: &mut HttpResponse, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

fn set_format(response: &mut HttpResponse, format: &str) {
    set(response, "x-clickhouse-format", format);
    set(response, "content-type", content_type(format));
}

fn content_type(format: &str) -> &'static str {
    match format {
        "TabSeparatedWithNames"
        | "TabSeparatedWithNamesAndTypes"
        | "TabSeparated"
        | "TabSeparatedRaw"
        | "TSV"
        | "TSVRaw"
        | "TSVWithNames"
        | "TSVWithNamesAndTypes" => "text/tab-separated-values; charset=UTF-8",
        "CSV" => "text/csv; charset=UTF-8; header=absent",
        "CSVWithNames" | "CSVWithNamesAndTypes" => "text/csv; charset=UTF-8; header=present",
        "JSON"
        | "JSONCompact"
        | "JSONStrings"
        | "JSONCompactStrings"
        | "JSONColumns"
        | "JSONCompactColumns"
        | "JSONColumnsWithMetadata"
        | "JSONObjectEachRow" => "application/json; charset=UTF-8",
        name if name.starts_with("JSON") => "application/x-ndjson; charset=UTF-8",
        "XML" => "application/xml; charset=UTF-8",
        "Native"
        | "RowBinary"
        | "RowBinaryWithNames"
        | "RowBinaryWithNamesAndTypes"
        | "Parquet"
        | "ORC"
        | "Arrow"
        | "ArrowStream"
        | "Avro"
        | "MsgPack"
        | "Protobuf"
        | "Npy" => "application/octet-stream",
        _ => "text/plain; charset=UTF-8",
    }
}

/// The `X-ClickHouse-Summary` header: numbers as strings.
fn summary(statistics: &Statistics, elapsed_nanoseconds: u128) -> String {
    serde_json::json!({
        "read_rows": statistics.read_rows.to_string(),
        "read_bytes": statistics.read_bytes.to_string(),
        "written_rows": statistics.written_rows.to_string(),
        "written_bytes": statistics.written_bytes.to_string(),
        "total_rows_to_read": statistics.read_rows.to_string(),
        "result_rows": statistics.result_rows.to_string(),
        "result_bytes": statistics.result_bytes.to_string(),
        "elapsed_ns": elapsed_nanoseconds.to_string(),
    })
    .to_string()
}

/// A name for a query whose client gave none, in the form of a UUID.
fn new_query_id() -> String {
    let [high, low] = [random(), random()];
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// Lower-case letters, as ClickHouse makes them.
fn new_exception_tag() -> String {
    let letter = |bits: u64| char::from(b'a' + (bits % 26) as u8);
    (0..EXCEPTION_TAG_BYTES).map(|_| letter(random())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_ids_are_uuids() {
        let id = new_query_id();
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert_ne!(id, new_query_id());
    }

    #[test]
    fn content_types_are_clickhouse_s() {
        for (format, expected) in [
            ("TabSeparated", "text/tab-separated-values; charset=UTF-8"),
            ("CSVWithNames", "text/csv; charset=UTF-8; header=present"),
            ("JSON", "application/json; charset=UTF-8"),
            ("JSONEachRow", "application/x-ndjson; charset=UTF-8"),
            ("Native", "application/octet-stream"),
            ("Pretty", "text/plain; charset=UTF-8"),
        ] {
            assert_eq!(content_type(format), expected, "{format}");
        }
    }
}

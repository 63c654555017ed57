//! A ClickHouse HTTP endpoint that answers like a server, takes inserts and throws them away.

mod answer;
mod query;
mod rows;
mod schema;
mod tokens;
mod types;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;

use super::Counting;
use super::limits::{Gate, Reached};
use super::serve::{Body, drain, full, read};
use super::stats::{Found, Stats};
use query::{Insert, Reply, VERSION};
pub(crate) use rows::Packing;
use schema::Schema;
use tokens::Tokens;
pub(crate) use tokens::WINDOW;
pub(crate) use types::Type;

/// A statement in a body is not longer than this; inserts with the statement before the data are bounded
/// by what an insert may be.
const STATEMENT_BYTES_MAX: usize = 1 << 20;
const INSERT_BYTES_MAX: usize = 1 << 30;
/// `NOT_IMPLEMENTED` among ClickHouse's error codes.
const NOT_IMPLEMENTED: &str = "48";

/// An insert whose rows are counted when somebody asks.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) table: String,
    format: String,
    packing: Packing,
    types: Option<Vec<Type>>,
    is_distinct: bool,
    chunks: Vec<Bytes>,
}

impl Pending {
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// # Errors
    /// Why the rows cannot be counted.
    pub(crate) fn count(&self) -> Result<Found, String> {
        let body = self.chunks.concat();
        let (format, types) = (&self.format, self.types.as_deref());
        let found = match self.is_distinct {
            true => rows::prints(&body, self.packing, format, types).map(Found::Prints),
            false => rows::count(&body, self.packing, format, types).map(Found::Number),
        };
        found.map_err(|error| error.to_string())
    }
}

/// The endpoint's state.
#[derive(Debug)]
pub(crate) struct ClickHouse {
    stats: Arc<Stats>,
    counting: Counting,
    /// Held for the time of one look-up only.
    schema: Mutex<Schema>,
    /// The same.
    tokens: Mutex<Tokens>,
}

/// What a request's URL and headers say.
struct Asked {
    statement: String,
    default_format: Option<String>,
    /// How an insert's data is packed.
    packing: Packing,
    /// The answer is wanted in ClickHouse's own compressed blocks.
    is_compressed: bool,
    /// Of the protocol that the client speaks, which `Native` depends on.
    revision: u32,
    /// What an insert is called.
    token: Option<String>,
}

impl ClickHouse {
    /// It remembers `window` blocks of each table by their tokens.
    pub(crate) fn new(stats: Arc<Stats>, counting: Counting, window: u32) -> Self {
        Self {
            stats,
            counting,
            schema: Mutex::new(Schema::of_the_collector()),
            tokens: Mutex::new(Tokens::new(window)),
        }
    }

    /// Takes a request; the limit on bodies may refuse an insert.
    pub(super) async fn handle(
        &self,
        head: Parts,
        body: Incoming,
        gate: &Gate,
    ) -> Result<Result<Response<Body>, Reached>, hyper::Error> {
        let asked = Asked::new(&head);
        if let Some(insert) = Insert::parse(&asked.statement) {
            return self.insert(insert, &asked, body, gate).await;
        }
        self.ask(&head, &asked, body).await.map(Ok)
    }

    async fn ask(
        &self,
        head: &Parts,
        asked: &Asked,
        body: Incoming,
    ) -> Result<Response<Body>, hyper::Error> {
        if matches!(head.uri.path(), "/ping" | "/replicas_status") {
            drain(body).await?;
            return Ok(answer(StatusCode::OK, "Ok.\n".into()));
        }
        if asked.statement.is_empty() && head.method == http::Method::GET {
            return Ok(answer(StatusCode::OK, "Ok.\n".into()));
        }
        let limit = if asked.statement.is_empty() {
            INSERT_BYTES_MAX
        } else {
            STATEMENT_BYTES_MAX
        };
        let Some(body) = read(body, limit).await? else {
            return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE, "too large\n".into()));
        };
        Ok(self.statement(asked, &body))
    }

    async fn insert(
        &self,
        insert: Insert,
        asked: &Asked,
        mut body: Incoming,
        gate: &Gate,
    ) -> Result<Result<Response<Body>, Reached>, hyper::Error> {
        use http_body_util::BodyExt as _;

        let mut chunks = Vec::new();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                bytes += data.len() as u64;
                if self.counting != Counting::Requests {
                    chunks.push(data);
                }
            }
        }
        if let Err(reached) = gate.check_body(bytes) {
            return Ok(Err(reached));
        }
        self.received(insert, asked, chunks, bytes);
        Ok(Ok(answer(StatusCode::OK, Bytes::new())))
    }

    fn received(&self, insert: Insert, asked: &Asked, chunks: Vec<Bytes>, bytes: u64) {
        if let Some(token) = &asked.token {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            if !tokens.is_new(&insert.table, token) {
                return self.stats.deduplicated(insert.table);
            }
        }
        if self.counting == Counting::Requests {
            return self.stats.inserted(insert.table, bytes);
        }
        let types = self
            .schema
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .types(&insert.table, &insert.columns);
        let pending = Pending {
            table: insert.table,
            format: insert.format,
            packing: asked.packing,
            types,
            is_distinct: self.counting == Counting::Distinct,
            chunks,
        };
        self.stats.inserted_to_count(pending, bytes);
    }

    /// A statement from the URL or from the body, with the data of an insert behind it.
    fn statement(&self, asked: &Asked, body: &Bytes) -> Response<Body> {
        let mut statement = asked.statement.clone();
        if statement.is_empty() {
            let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let first = String::from_utf8_lossy(line);
            if let Some(insert) = Insert::parse(&first) {
                let data = body.slice(body.len().min(line.len() + 1)..);
                let bytes = data.len() as u64;
                self.received(insert, asked, vec![data], bytes);
                return answer(StatusCode::OK, Bytes::new());
            }
            statement = String::from_utf8_lossy(body).into_owned();
        }
        let reply = {
            let mut schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
            query::reply(&statement, &mut schema)
        };
        let rendered = match &reply {
            Reply::Done => Some(Vec::new()),
            Reply::Rows(rows) => {
                let format = query::format_of(&statement).or(asked.default_format.as_deref());
                let format = format.unwrap_or("TabSeparated");
                answer::render(rows, format, asked.revision)
            }
            Reply::Unknown => None,
        };
        self.stats.asked(&statement, rendered.is_some());
        match rendered {
            Some(body) if asked.is_compressed => {
                answer(StatusCode::OK, answer::compressed(&body).into())
            }
            Some(body) => answer(StatusCode::OK, body.into()),
            None => unknown(&statement),
        }
    }
}

impl Asked {
    fn new(head: &Parts) -> Self {
        let mut asked = Self {
            statement: String::new(),
            default_format: None,
            packing: Packing::Plain,
            is_compressed: false,
            revision: 0,
            token: None,
        };
        asked.packing = match head
            .headers
            .get(CONTENT_ENCODING)
            .map(HeaderValue::as_bytes)
        {
            Some(b"lz4") => Packing::Lz4,
            Some(b"gzip") => Packing::Gzip,
            Some(b"zstd") => Packing::Zstd,
            _ => Packing::Plain,
        };
        for pair in head.uri.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "query" => asked.statement = percent_decoded(value),
                "default_format" => asked.default_format = Some(percent_decoded(value)),
                "insert_deduplication_token" if !value.is_empty() => {
                    asked.token = Some(percent_decoded(value));
                }
                "decompress" if value == "1" => asked.packing = Packing::Blocks,
                "compress" => asked.is_compressed = value == "1",
                "client_protocol_version" => asked.revision = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        asked
    }
}

fn answer(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/tab-separated-values; charset=UTF-8"),
    );
    headers.insert(
        "x-clickhouse-server-display-name",
        HeaderValue::from_static("loadgen-sink"),
    );
    headers.insert("x-clickhouse-timezone", HeaderValue::from_static("UTC"));
    response
}

/// The answer to what the sink does not know: an exception as the server would word it.
fn unknown(statement: &str) -> Response<Body> {
    let start: String = statement.chars().take(200).collect();
    let text = format!(
        "Code: {NOT_IMPLEMENTED}. DB::Exception: loadgen's sink cannot answer: {start}. (NOT_IMPLEMENTED) \
         (version {VERSION})\n"
    );
    let mut response = answer(StatusCode::NOT_IMPLEMENTED, text.into());
    response.headers_mut().insert(
        "x-clickhouse-exception-code",
        HeaderValue::from_static(NOT_IMPLEMENTED),
    );
    response
}

/// A refusal of an insert as a server would word it.
pub(super) fn exception(status: StatusCode, retry_after: Option<u32>) -> Response<Body> {
    let (code, name) = match status.as_u16() {
        413 => ("307", "TOO_MANY_BYTES"),
        429 | 503 => ("202", "TOO_MANY_SIMULTANEOUS_QUERIES"),
        401 | 403 => ("516", "AUTHENTICATION_FAILED"),
        404 => ("60", "UNKNOWN_TABLE"),
        _ => ("1001", "STD_EXCEPTION"),
    };
    let text = format!(
        "Code: {code}. DB::Exception: loadgen's sink refuses this insert on purpose. ({name}) (version {VERSION})\n"
    );
    let mut response = answer(status, text.into());
    let headers = response.headers_mut();
    headers.insert(
        "x-clickhouse-exception-code",
        HeaderValue::from_static(code),
    );
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Undoes percent encoding of a query string's value; what is not UTF-8 after that is replaced.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .first_chunk::<2>()
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match (
            first,
            code.and_then(|digits| u8::from_str_radix(digits, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone() {
        let check = |text: &str, expected: &str| assert_eq!(percent_decoded(text), expected);
        check("INSERT+INTO%20t%28a%29", "INSERT INTO t(a)");
        check("100%", "100%");
        check("%zz%4", "%zz%4");
        check("%C3%A9", "é");
    }
}

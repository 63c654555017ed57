//! Runs one request's statement on a blocking thread: head, session, settings, then query, command or insert.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::thread;

use super::answer::AnswerWriter;
use super::body::{Body, RawBody};
use super::engine::Engine;
use super::exception::{BAD_ARGUMENTS, Exception, READONLY, SYNTAX_ERROR, UNKNOWN_EXCEPTION};
use super::ffi::{Connection, Statistics};
use super::form;
use super::native;
use super::parameters::{Parameters, SessionParameters};
use super::sessions::Sessions;
use super::settings::{self, Restore};
use super::statement::{InsertHead, Plain, Scan, scan};

/// The longest text of a statement without its rows. The engine's `max_query_size` (256 KiB unless set) is
/// checked by the engine; this only bounds what is buffered for it.
const STATEMENT_BYTES_MAX: usize = 16 << 20;
/// What is read at first to find an insert's head.
const HEAD_BYTES: u64 = 8 << 10;
/// Size of the pieces that rows are handed to the engine in.
const PIECE_BYTES: usize = 1 << 20;
/// What is read and thrown away of a failed insert's body, so that the client gets to read the answer.
const DISCARD_BYTES_MAX: u64 = 64 << 20;
/// What Linux holds in a pipe.
const PIPE_BYTES: usize = 64 << 10;
const DEFAULT_FORMAT: &str = "TabSeparated";

/// A request, ready to run.
pub(super) struct Work {
    pub(super) parameters: Parameters,
    pub(super) body: RawBody,
    pub(super) content_encoding: Option<String>,
    /// The body is a form with this boundary.
    pub(super) form_boundary: Option<String>,
    /// The request's method promises to change nothing.
    pub(super) read_only: bool,
    /// Marks the query, for [`Engine::kill`].
    pub(super) tag: String,
}

/// Runs the request and ends its answer.
pub(super) fn run(engine: &Engine, sessions: &Sessions, mut work: Work, mut answer: AnswerWriter) {
    let outcome = execute(engine, sessions, &mut work, &mut answer);
    if outcome.is_err() {
        // Best effort: an error here is the one the client is about to be told, or its own absence.
        let _discarded = io::copy(
            &mut work.body.clone().take(DISCARD_BYTES_MAX),
            &mut io::sink(),
        );
    }
    if let Err(exception) = &outcome {
        tracing::debug!(%exception, "statement failed");
    }
    if let Err(error) = answer.finish(outcome) {
        tracing::debug!(%error, "answer not delivered");
    }
}

fn execute(
    engine: &Engine,
    sessions: &Sessions,
    work: &mut Work,
    answer: &mut AnswerWriter,
) -> Result<Statistics, Exception> {
    let encoding = work.content_encoding.as_deref();
    let mut body = Body::open(work.body.clone(), encoding, work.parameters.decompress)?;
    if let Some(boundary) = &work.form_boundary {
        let form = read_form(&mut body)?;
        work.parameters.add_form(form::parse(&form, boundary)?)?;
    }
    let work = &*work;
    let parameters = &work.parameters;
    let (text, insert) = read_statement(&parameters.query, &mut body)?;
    let mut lease = Lease::take(engine, sessions, parameters.session.as_ref())?;
    match insert {
        Some(head) => with_settings(&mut lease, work, true, |connection| {
            answer.set_format(
                parameters
                    .default_format
                    .as_deref()
                    .unwrap_or(DEFAULT_FORMAT),
            );
            insert_rows(connection, parameters, &text, &head, &mut body)
        }),
        None => {
            let plain = Plain::parse(&text)?;
            with_settings(&mut lease, work, plain.changes, |connection| {
                answer_plain(engine, connection, work, &text, &plain, answer)
            })
        }
    }
}

fn read_form(body: &mut Body) -> Result<Vec<u8>, Exception> {
    let mut form = Vec::new();
    body.take(STATEMENT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut form)?;
    if form.len() > STATEMENT_BYTES_MAX {
        return Err(too_long());
    }
    Ok(form)
}

fn too_long() -> Exception {
    let message = format!("The statement is longer than {STATEMENT_BYTES_MAX} bytes.");
    Exception::new(SYNTAX_ERROR, message)
}

/// Reads the statement: all of it, or an insert's head with whatever rows came along.
fn read_statement(
    query: &[u8],
    body: &mut Body,
) -> Result<(Vec<u8>, Option<InsertHead>), Exception> {
    let mut text = query.to_vec();
    let mut step = HEAD_BYTES;
    let mut first = true;
    loop {
        let mut piece = Vec::new();
        let read = body.by_ref().take(step).read_to_end(&mut piece)? as u64;
        if first && !text.is_empty() && read > 0 {
            text.push(b'\n');
        }
        first = false;
        text.append(&mut piece);
        let complete = read < step;
        match scan(&text, complete) {
            Scan::Insert(head) => return Ok((text, Some(head))),
            Scan::Statement | Scan::Incomplete if complete => return Ok((text, None)),
            Scan::Statement | Scan::Incomplete => step = text.len() as u64,
        }
        if text.len() > STATEMENT_BYTES_MAX {
            return Err(too_long());
        }
    }
}

/// A connection for one request: fresh, or a session's.
struct Lease<'server> {
    sessions: &'server Sessions,
    session: Option<&'server SessionParameters>,
    connection: Option<Connection>,
    /// Whether the session may go on.
    intact: bool,
}

impl<'server> Lease<'server> {
    fn take(
        engine: &Engine,
        sessions: &'server Sessions,
        session: Option<&'server SessionParameters>,
    ) -> Result<Self, Exception> {
        let connection = match session {
            Some(session) => sessions.take(engine, session)?,
            None => engine.connect()?,
        };
        Ok(Self {
            sessions,
            session,
            connection: Some(connection),
            intact: true,
        })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        if let Some(session) = self.session {
            self.sessions
                .give_back(session, connection.filter(|_| self.intact));
        }
    }
}

/// Runs `statement` under the request's settings. A session gets its own settings back afterwards.
fn with_settings(
    lease: &mut Lease<'_>,
    work: &Work,
    changes: bool,
    statement: impl FnOnce(&mut Connection) -> Result<Statistics, Exception>,
) -> Result<Statistics, Exception> {
    let in_session = lease.session.is_some();
    let Some(connection) = lease.connection.as_mut() else {
        return Err(Exception::new(UNKNOWN_EXCEPTION, "The connection is gone."));
    };
    if !in_session {
        settings::apply(connection, &work.parameters, work.read_only)?;
        return statement(connection);
    }
    // `readonly` could not be taken back from a session, so it is judged here.
    let mut parameters = work.parameters.clone();
    parameters.settings.retain(|(name, _)| name != "readonly");
    let read_only = work.read_only
        || work
            .parameters
            .setting("readonly")
            .is_some_and(|value| value != "0");
    if read_only && changes {
        return Err(Exception::new(
            READONLY,
            "Cannot execute query in readonly mode.",
        ));
    }
    let restore = Restore::remember(connection, &parameters)?;
    lease.intact = false;
    settings::apply(connection, &parameters, false)?;
    let outcome = statement(connection);
    lease.intact = restore.restore(connection).is_ok();
    outcome
}

/// Streams rows into the engine. Nothing is inserted unless the body came to its end.
fn insert_rows(
    connection: &mut Connection,
    parameters: &Parameters,
    text: &[u8],
    head: &InsertHead,
    body: &mut Body,
) -> Result<Statistics, Exception> {
    let engine_error = |text: String| Exception::parse(&text);
    let mut stream = connection
        .insert(&text[..head.end], &head.format, &parameters.placeholders)
        .map_err(engine_error)?;
    let early = &text[head.data..];
    if !early.is_empty() {
        stream.append(early).map_err(engine_error)?;
    }
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        piece.clear();
        // An error here drops the stream, which cancels the insert.
        body.by_ref()
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece)?;
        if piece.is_empty() {
            return stream.finish().map_err(engine_error);
        }
        stream.append(&piece).map_err(engine_error)?;
    }
}

/// Runs a statement without rows.
fn answer_plain(
    engine: &Engine,
    connection: &mut Connection,
    work: &Work,
    text: &[u8],
    plain: &Plain<'_>,
    answer: &mut AnswerWriter,
) -> Result<Statistics, Exception> {
    let default = work
        .parameters
        .default_format
        .as_deref()
        .unwrap_or(DEFAULT_FORMAT);
    let format = plain.format.as_deref().unwrap_or(default);
    if !format.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Exception::new(
            BAD_ARGUMENTS,
            format!("'{format}' is no name for a format."),
        ));
    }
    answer.set_format(format);
    if plain.streams {
        match stream_query(engine, connection, work, plain, format, answer) {
            // Our clause must not show in the engine's message, nor be what is wrong: let it judge the original.
            Err(exception) if exception.is_syntax_error() => {}
            outcome => return outcome,
        }
    }
    let result = connection
        .query(text, format, &work.parameters.placeholders)
        .map_err(|text| Exception::parse(&text))?;
    // A failed write means that the client is gone; `finish` will notice.
    let _gone = answer.write_all(&result.bytes);
    Ok(result.statistics)
}

/// Runs a query whose answer comes through a pipe, so that an answer of any size takes little memory.
fn stream_query(
    engine: &Engine,
    connection: &mut Connection,
    work: &Work,
    plain: &Plain<'_>,
    format: &str,
    answer: &mut AnswerWriter,
) -> Result<Statistics, Exception> {
    let (reader, writer) = io::pipe()?;
    let sql = plain.writing_to(writer.as_raw_fd(), &work.tag, format);
    let convert = work.parameters.client_protocol_version >= native::REVISION_MIN
        && format.eq_ignore_ascii_case("Native");
    thread::scope(|scope| {
        let pump = thread::Builder::new()
            .name("localdb-answer".to_owned())
            .spawn_scoped(scope, || pump(engine, &work.tag, reader, answer, convert))?;
        let outcome = connection.query(&sql, format, &work.parameters.placeholders);
        // The pump reads to the end, which comes when no writer is left.
        drop(writer);
        let pumped = pump
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the answer's thread panicked")));
        match (outcome, pumped) {
            (Ok(result), Ok(())) => Ok(result.statistics),
            // The engine failed in the middle of a block; its reason is the one to tell.
            (Err(text), Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Exception::parse(&text))
            }
            (_, Err(error)) => Err(Exception::from(error)),
            (Err(text), Ok(())) => Err(Exception::parse(&text)),
        }
    })
}

/// Moves a query's output from the pipe into the answer. When the answer cannot go on, stops the query and
/// reads what it still writes, so that it is not left waiting.
fn pump(
    engine: &Engine,
    tag: &str,
    mut reader: io::PipeReader,
    answer: &mut AnswerWriter,
    convert: bool,
) -> io::Result<()> {
    let moved = if convert {
        native::convert(&mut reader, answer)
    } else {
        copy(&mut reader, answer)
    };
    if moved.is_err() {
        engine.kill(tag);
        io::copy(&mut reader, &mut io::sink())?;
    }
    moved
}

fn copy(reader: &mut impl Read, writer: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => writer.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

//! An embedded SQLite database with one thread for its connection, and a span and a duration for each query.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use opentelemetry::KeyValue;
use rusqlite::{Connection, ErrorCode, Params, Row, Transaction, TransactionBehavior};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::{Span, field};

use crate::measure::Measure;

/// Work that may wait for the connection: a few times what a load of many connections has under way. More is refused.
const WAITING_MAX: usize = 1_024;

/// How long a transaction waits for other processes with the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Switching to write-ahead logging does not wait for others by itself: several replicas may start at once.
const OPEN_ATTEMPTS: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(40);

/// A statement, and what the semantic conventions want to know of it.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) operation: &'static str,
    pub(crate) table: &'static str,
    pub(crate) text: &'static str,
}

/// Why the database did not do its work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DatabaseError {
    /// Too much other work waits.
    Overloaded,
    /// SQLite's own words.
    Failed(String),
}

/// How long the work that is already waiting may take at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

enum Job {
    Work(Box<dyn FnOnce(&mut Connection) + Send>),
    /// The last one. What it holds is dropped when the connection is closed.
    Close(oneshot::Sender<()>),
}

/// Hands work to the thread that has the connection. The thread ends with the last handle, or when one is told to close.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    jobs: mpsc::Sender<Job>,
    namespace: String,
    durations: Measure,
}

/// One transaction under way.
pub(crate) struct Session<'a> {
    transaction: Transaction<'a>,
    namespace: String,
    durations: Measure,
}

impl Database {
    /// Opens or creates the database: in `file`, or in memory. `prepare` runs once, before anything else.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, is no database, or `prepare` fails.
    pub(crate) fn open(
        file: Option<&Path>,
        durations: Measure,
        prepare: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> anyhow::Result<Self> {
        let namespace = file.map_or_else(|| ":memory:".to_owned(), |it| it.display().to_string());
        let connection = connect(file, &prepare)
            .with_context(|| format!("cannot open the database {namespace}"))?;
        let (jobs, waiting) = mpsc::channel::<Job>(WAITING_MAX);
        std::thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || work_off(connection, waiting))
            .context("cannot start the thread of the database")?;
        Ok(Self {
            jobs,
            namespace,
            durations,
        })
    }

    /// Runs `work` in a transaction that sees a state of the database, and changes nothing.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.run(TransactionBehavior::Deferred, work).await
    }

    /// Runs `work` in a transaction that no other writer interleaves with. It is undone if `work` fails.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.run(TransactionBehavior::Immediate, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (answer, answered) = oneshot::channel();
        let (namespace, durations) = (self.namespace.clone(), self.durations.clone());
        let span = Span::current();
        let job = Job::Work(Box::new(move |connection| {
            let result =
                span.in_scope(|| transact(connection, behavior, namespace, durations, work));
            // Whoever asked may have gone away; the work is done either way.
            drop(answer.send(result));
        }));
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => DatabaseError::Overloaded,
            TrySendError::Closed(_) => DatabaseError::Failed("it is closed".to_owned()),
        })?;
        match answered.await {
            Ok(result) => result.map_err(|error| DatabaseError::Failed(error.to_string())),
            Err(_) => Err(DatabaseError::Failed("its thread has ended".to_owned())),
        }
    }

    /// Ends the work that waits and closes the connection. The last connection to a file moves all of the write-ahead log
    /// into it; while other replicas have it open, the log stays with them.
    pub(crate) async fn close(&self) {
        let (closed, closes) = oneshot::channel();
        let close = async {
            if self.jobs.send(Job::Close(closed)).await.is_ok() {
                // Nothing is sent: the other half is dropped after the connection.
                drop(closes.await);
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            tracing::warn!(
                db.namespace = self.namespace,
                "the database is not closed in time"
            );
        }
    }
}

/// The thread of the database.
fn work_off(mut connection: Connection, mut waiting: mpsc::Receiver<Job>) {
    while let Some(job) = waiting.blocking_recv() {
        match job {
            Job::Work(work) => work(&mut connection),
            Job::Close(closed) => {
                drop(connection);
                drop(closed);
                return;
            }
        }
    }
}

fn transact<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    namespace: String,
    durations: Measure,
    work: impl FnOnce(&Session<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let session = Session {
        transaction: connection.transaction_with_behavior(behavior)?,
        namespace,
        durations,
    };
    let result = work(&session)?;
    session.transaction.commit()?;
    Ok(result)
}

impl Session<'_> {
    /// Runs a statement within a span, and maps the rows that it returns.
    pub(crate) fn query<T>(
        &self,
        statement: &Statement,
        parameters: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let started = Instant::now();
        let span = self.span(statement);
        let result = span.in_scope(|| {
            let mut prepared = self.transaction.prepare(statement.text)?;
            let rows = prepared.query_map(parameters, map)?;
            rows.collect::<rusqlite::Result<Vec<T>>>()
        });
        let mut attributes = vec![
            KeyValue::new("db.system.name", "sqlite"),
            KeyValue::new("db.operation.name", statement.operation),
            KeyValue::new("db.collection.name", statement.table),
        ];
        match &result {
            Ok(rows) => {
                span.record("db.response.returned_rows", rows.len() as i64);
            }
            Err(error) => {
                let kind = error_type(error);
                span.record("otel.status_code", "ERROR");
                span.record("error.type", kind.as_str());
                attributes.push(KeyValue::new("error.type", kind));
            }
        }
        span.in_scope(|| self.durations.record(started.elapsed(), &attributes));
        result
    }

    fn span(&self, statement: &Statement) -> Span {
        let summary = format!("{} {}", statement.operation, statement.table);
        tracing::info_span!(
            "database",
            otel.name = summary,
            otel.kind = "client",
            otel.status_code = field::Empty,
            db.system.name = "sqlite",
            db.namespace = self.namespace,
            db.operation.name = statement.operation,
            db.collection.name = statement.table,
            db.query.summary = summary,
            db.query.text = statement.text,
            db.response.returned_rows = field::Empty,
            "error.type" = field::Empty,
        )
    }
}

/// SQLite's code where there is one: a value from a short list.
fn error_type(error: &rusqlite::Error) -> String {
    error
        .sqlite_error_code()
        .map_or_else(|| "_OTHER".to_owned(), |code| format!("{code:?}"))
}

fn connect(
    file: Option<&Path>,
    prepare: &impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<Connection> {
    let mut attempt = 1;
    loop {
        match try_to_connect(file, prepare) {
            Err(error) if is_busy(&error) && attempt < OPEN_ATTEMPTS => attempt += 1,
            result => return result,
        }
        std::thread::sleep(OPEN_PAUSE);
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn try_to_connect(
    file: Option<&Path>,
    prepare: &impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<Connection> {
    let mut connection = file.map_or_else(Connection::open_in_memory, Connection::open)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What was committed outlives the process's death; only a power failure may take the last transactions.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    prepare(&transaction)?;
    transaction.commit()?;
    Ok(connection)
}

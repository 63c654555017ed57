//! The C interface of `libchdb.so`, loaded at run time, behind types that keep its ownership rules.
//!
//! Nothing outside this file is `unsafe`. The rules, from chDB's header: a result is destroyed once; an insert
//! stream is never null and is destroyed on every path; a connection outlives what it made and runs one
//! statement at a time; the engine stops when its last connection closes; `chdb_shutdown` comes after that.
#![allow(
    unsafe_code,
    reason = "the engine is a C library; this is the one place that calls it"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

type RawConnection = *mut c_void;
type RawResult = *mut c_void;
type RawStream = *mut c_void;

type Connect = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawConnection;
type CloseConnection = unsafe extern "C" fn(*mut RawConnection);
type WithParams<T> = unsafe extern "C" fn(
    RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> T;
type ResultBytes = unsafe extern "C" fn(RawResult) -> *mut c_char;
type ResultLength = unsafe extern "C" fn(RawResult) -> usize;
type ResultCount = unsafe extern "C" fn(RawResult) -> u64;
type ResultError = unsafe extern "C" fn(RawResult) -> *const c_char;
type DestroyResult = unsafe extern "C" fn(RawResult);
type StreamError = unsafe extern "C" fn(RawStream) -> *const c_char;
type StreamAppend = unsafe extern "C" fn(RawStream, *const c_void, usize) -> c_int;
type StreamDone = unsafe extern "C" fn(RawStream) -> RawResult;
type StreamEnd = unsafe extern "C" fn(RawStream);
type SetSignalHandlers = unsafe extern "C" fn(c_int);
type Shutdown = unsafe extern "C" fn() -> c_int;

/// `CHDBSuccess` of `chdb_state`.
const SUCCESS: c_int = 0;

/// The loaded library. It is never unloaded: the engine leaves exit handlers in it.
pub(super) struct Chdb {
    connect: Connect,
    close_connection: CloseConnection,
    query: WithParams<RawResult>,
    insert: WithParams<RawStream>,
    result_buffer: ResultBytes,
    result_length: ResultLength,
    result_error: ResultError,
    rows_read: ResultCount,
    bytes_read: ResultCount,
    storage_rows_read: ResultCount,
    storage_bytes_read: ResultCount,
    rows_written: ResultCount,
    bytes_written: ResultCount,
    destroy_result: DestroyResult,
    stream_error: StreamError,
    stream_append: StreamAppend,
    stream_done: StreamDone,
    stream_cancel: StreamEnd,
    stream_destroy: StreamEnd,
    shutdown: Shutdown,
    _library: ManuallyDrop<libloading::Library>,
}

impl Chdb {
    /// Loads the library and tells the engine to leave the process's signal handlers alone.
    ///
    /// # Errors
    /// The loader's message when the file is no library, or lacks a function this version of Tidegate calls.
    pub(super) fn load(path: &Path) -> Result<Arc<Self>, String> {
        // SAFETY: loading runs the library's constructors. The path is the operator's choice of engine, as a
        // program to execute would be; chDB's constructors have no preconditions.
        let library = unsafe { libloading::Library::new(path) }.map_err(|error| explain(&error))?;
        let signal_handlers: SetSignalHandlers =
            symbol(&library, c"chdb_set_signal_handlers_enabled")?;
        let chdb = Self {
            connect: symbol(&library, c"chdb_connect")?,
            close_connection: symbol(&library, c"chdb_close_conn")?,
            query: symbol(&library, c"chdb_query_with_params_n")?,
            insert: symbol(&library, c"chdb_stream_insert_with_params_n")?,
            result_buffer: symbol(&library, c"chdb_result_buffer")?,
            result_length: symbol(&library, c"chdb_result_length")?,
            result_error: symbol(&library, c"chdb_result_error")?,
            rows_read: symbol(&library, c"chdb_result_rows_read")?,
            bytes_read: symbol(&library, c"chdb_result_bytes_read")?,
            storage_rows_read: symbol(&library, c"chdb_result_storage_rows_read")?,
            storage_bytes_read: symbol(&library, c"chdb_result_storage_bytes_read")?,
            rows_written: symbol(&library, c"chdb_result_rows_written")?,
            bytes_written: symbol(&library, c"chdb_result_bytes_written")?,
            destroy_result: symbol(&library, c"chdb_destroy_query_result")?,
            stream_error: symbol(&library, c"chdb_stream_insert_error")?,
            stream_append: symbol(&library, c"chdb_stream_append")?,
            stream_done: symbol(&library, c"chdb_stream_done")?,
            stream_cancel: symbol(&library, c"chdb_stream_cancel_insert")?,
            stream_destroy: symbol(&library, c"chdb_destroy_insert_stream")?,
            shutdown: symbol(&library, c"chdb_shutdown")?,
            _library: ManuallyDrop::new(library),
        };
        // SAFETY: may be called at any time, takes a flag.
        unsafe { signal_handlers(0) };
        Ok(Arc::new(chdb))
    }

    /// Opens a connection; the first one starts the engine. `None` when the engine refused: it gives no reason.
    pub(super) fn connect(self: &Arc<Self>, arguments: &[String]) -> Option<Connection> {
        let owned: Vec<CString> = std::iter::once("clickhouse")
            .chain(arguments.iter().map(String::as_str))
            .map(CString::new)
            .collect::<Result<_, _>>()
            .ok()?;
        let mut argv: Vec<*mut c_char> =
            owned.iter().map(|text| text.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(argv.len()).ok()?;
        // SAFETY: `argv` holds `count` NUL-terminated strings that live past the call; the engine copies them.
        let slot = unsafe { (self.connect)(count, argv.as_mut_ptr()) };
        if slot.is_null() {
            return None;
        }
        // SAFETY: a non-null return points at a connection handle that lives until `chdb_close_conn`.
        let handle = unsafe { *slot };
        let connection = Connection {
            chdb: Arc::clone(self),
            slot,
            handle,
        };
        (!handle.is_null()).then_some(connection)
    }

    /// Stops the engine's threads once every connection is closed; `false` when some could not be stopped.
    pub(super) fn shutdown(&self) -> bool {
        // SAFETY: callable at any time from any thread; it refuses while a connection is open.
        unsafe { (self.shutdown)() == SUCCESS }
    }

    /// Copies what a result says and destroys it.
    fn take(&self, result: RawResult) -> Result<QueryResult, String> {
        if result.is_null() {
            return Err("the engine returned no result".to_owned());
        }
        // SAFETY: `result` is live until `destroy_result` below; the error text and the buffer belong to it and
        // are copied before that.
        let taken = unsafe {
            let error = (self.result_error)(result);
            if error.is_null() {
                let length = (self.result_length)(result);
                let buffer = (self.result_buffer)(result);
                let bytes = if length == 0 || buffer.is_null() {
                    Vec::new()
                } else {
                    std::slice::from_raw_parts(buffer.cast::<u8>(), length).to_vec()
                };
                Ok(QueryResult {
                    bytes,
                    statistics: Statistics {
                        result_rows: (self.rows_read)(result),
                        result_bytes: (self.bytes_read)(result),
                        read_rows: (self.storage_rows_read)(result),
                        read_bytes: (self.storage_bytes_read)(result),
                        written_rows: (self.rows_written)(result),
                        written_bytes: (self.bytes_written)(result),
                    },
                })
            } else {
                Err(CStr::from_ptr(error).to_string_lossy().into_owned())
            }
        };
        // SAFETY: destroyed once, and not used after.
        unsafe { (self.destroy_result)(result) };
        taken
    }
}

/// Looks a function up by name.
fn symbol<T: Copy>(library: &libloading::Library, name: &CStr) -> Result<T, String> {
    // SAFETY: the types in this file are the signatures of chDB's header for these names (26.7).
    unsafe { library.get::<T>(name.to_bytes_with_nul()) }
        .map(|found| *found)
        .map_err(|error| explain(&error))
}

/// The error with the loader's own words, which stand in its cause.
fn explain(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A value for a `{name:Type}` placeholder, in ClickHouse's escaped text form.
pub(super) type QueryParameter = (String, Vec<u8>);

/// What a statement read and wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Rows in the answer.
    pub(super) result_rows: u64,
    /// Bytes of the answer as columns in memory.
    pub(super) result_bytes: u64,
    /// Rows read from tables.
    pub(super) read_rows: u64,
    /// Bytes read from tables.
    pub(super) read_bytes: u64,
    /// Rows written, materialized views included.
    pub(super) written_rows: u64,
    /// Bytes written, materialized views included.
    pub(super) written_bytes: u64,
}

/// A finished statement's answer.
#[derive(Debug)]
pub(super) struct QueryResult {
    /// The answer in the format asked for.
    pub(super) bytes: Vec<u8>,
    /// What it took.
    pub(super) statistics: Statistics,
}

/// One session with the engine: its own settings, temporary tables and current database.
pub(super) struct Connection {
    chdb: Arc<Chdb>,
    slot: *mut RawConnection,
    handle: RawConnection,
}

// SAFETY: the header allows a connection to be used from any thread, one statement at a time; every method
// that runs one takes `&mut self`.
unsafe impl Send for Connection {}

impl Connection {
    /// Runs a statement to its end. `format` is used where the statement names none.
    ///
    /// # Errors
    /// The engine's exception text.
    pub(super) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[QueryParameter],
    ) -> Result<QueryResult, String> {
        let function = self.chdb.query;
        let result = self.call(function, sql, format, parameters);
        self.chdb.take(result)
    }

    /// Begins an insert whose rows follow in chunks. `sql` ends before its `FORMAT` or `VALUES`.
    ///
    /// # Errors
    /// The engine's exception text: no such table, no such column, no such format.
    pub(super) fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[QueryParameter],
    ) -> Result<InsertStream<'_>, String> {
        let function = self.chdb.insert;
        let handle = self.call(function, sql, format, parameters);
        // Wrapped before the check, so that a refused stream is destroyed too.
        let stream = InsertStream {
            chdb: Arc::clone(&self.chdb),
            handle,
            open: true,
            connection: PhantomData,
        };
        match stream.error() {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    fn call<T>(
        &mut self,
        function: WithParams<T>,
        sql: &[u8],
        format: &str,
        parameters: &[QueryParameter],
    ) -> T {
        let names: Vec<_> = parameters
            .iter()
            .map(|(name, _)| name.as_ptr().cast::<c_char>())
            .collect();
        let name_lengths: Vec<_> = parameters.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<_> = parameters
            .iter()
            .map(|(_, value)| value.as_ptr().cast::<c_char>())
            .collect();
        let value_lengths: Vec<_> = parameters.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: the handle is live; each pointer comes with its length, and the four arrays have
        // `parameters.len()` entries; the engine copies all of them before it returns.
        unsafe {
            function(
                self.handle,
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: closed once; streams borrow the connection, so none is left.
        unsafe { (self.chdb.close_connection)(self.slot) };
    }
}

/// An insert that has begun. Dropping it cancels it.
pub(super) struct InsertStream<'connection> {
    chdb: Arc<Chdb>,
    handle: RawStream,
    open: bool,
    connection: PhantomData<&'connection mut Connection>,
}

impl InsertStream<'_> {
    /// Hands over some bytes; waits while the engine is behind.
    ///
    /// # Errors
    /// The engine's exception text when the insert has failed.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), String> {
        // SAFETY: the handle is live and the bytes are copied before the call returns.
        let state =
            unsafe { (self.chdb.stream_append)(self.handle, data.as_ptr().cast(), data.len()) };
        if state == SUCCESS {
            return Ok(());
        }
        // The reason is only given by the end of the stream, which then inserts nothing.
        match self.close() {
            Err(reason) => Err(reason),
            Ok(_) => Err("the engine stopped reading the insert".to_owned()),
        }
    }

    /// Ends the data and waits until it is stored.
    ///
    /// # Errors
    /// The engine's exception text; the rows that were not yet written are dropped.
    pub(super) fn finish(mut self) -> Result<Statistics, String> {
        self.close().map(|result| result.statistics)
    }

    fn close(&mut self) -> Result<QueryResult, String> {
        self.open = false;
        // SAFETY: the handle is live; `open` lets this run once. The result is destroyed by `take`.
        let result = unsafe { (self.chdb.stream_done)(self.handle) };
        self.chdb.take(result)
    }

    fn error(&self) -> Option<String> {
        // SAFETY: the handle is live; the text belongs to it and is copied.
        unsafe {
            let error = (self.chdb.stream_error)(self.handle);
            (!error.is_null()).then(|| CStr::from_ptr(error).to_string_lossy().into_owned())
        }
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live; cancelling an ended or refused stream is a no-op; destroyed once.
        unsafe {
            if self.open {
                (self.chdb.stream_cancel)(self.handle);
            }
            (self.chdb.stream_destroy)(self.handle);
        }
    }
}

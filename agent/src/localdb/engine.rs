//! The running engine: its version, connections to it, and its orderly end.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};

use super::exception::{Exception, UNKNOWN_EXCEPTION};
use super::ffi::{Chdb, Connection};

/// What every session begins with, so that it behaves like a server's and not like `clickhouse local`.
const SESSION_ARGUMENTS: [&str; 5] = [
    // "selec" is a syntax error, not a column.
    "--implicit_select=0",
    "--allow_introspection_functions=0",
    // Files may change or shrink under a mapping.
    "--storage_file_read_method=pread",
    // The engine logs a harmless "Fatal" for each insert when stderr is a terminal.
    "--log-level=none",
    "--progress=off",
];

const CONFIG_FILE: &str = "localdb.xml";
const CONFIG: &str = "<!-- Server settings of ClickHouse for this data, read at start. -->\n<clickhouse>\n</clickhouse>\n";

/// The engine, one per process.
pub(super) struct Engine {
    chdb: Arc<Chdb>,
    arguments: Vec<String>,
    /// Keeps the engine running between requests, and kills queries.
    keeper: Mutex<Option<Connection>>,
    tags: AtomicU64,
    /// ClickHouse's version, such as `26.7.2.1`.
    pub(super) version: String,
    /// The time zone that the engine formats times in.
    pub(super) time_zone: String,
    /// The machine's name.
    pub(super) display_name: String,
}

impl Engine {
    /// Loads the library and opens the data at `path`, an absolute path. Takes up to seconds.
    ///
    /// # Errors
    /// A file that is not the library, or data that the engine does not open.
    pub(super) fn start(library: &Path, path: &Path) -> anyhow::Result<Self> {
        let chdb = Chdb::load(library)
            .map_err(anyhow::Error::msg)
            .with_context(|| {
                format!(
                    "cannot load the ClickHouse engine from {}",
                    library.display()
                )
            })?;
        let Some(path_text) = path.to_str() else {
            bail!(
                "the engine only takes paths that are UTF-8: {}",
                path.display()
            );
        };
        // Without one of its own, the engine would take a config.xml from the working directory.
        let config = path.join(CONFIG_FILE);
        if !config.exists() {
            std::fs::write(&config, CONFIG)
                .with_context(|| format!("cannot write {}", config.display()))?;
        }
        super::dedup_log::repair(path)
            .with_context(|| format!("cannot repair the record of inserts in {path_text}"))?;
        let mut arguments = vec![
            format!("--path={path_text}"),
            format!("--config-file={path_text}/{CONFIG_FILE}"),
        ];
        arguments.extend(SESSION_ARGUMENTS.map(str::to_owned));
        let Some(mut keeper) = chdb.connect(&arguments) else {
            bail!("the ClickHouse engine does not open {path_text}; its reason, if any, is above");
        };
        let facts = keeper
            .query(
                b"SELECT version(), timezone(), displayName() FORMAT TSVRaw",
                "TSVRaw",
                &[],
            )
            .map_err(anyhow::Error::msg)?;
        let facts = String::from_utf8_lossy(&facts.bytes).into_owned();
        let mut facts = facts.trim_end().split('\t').map(str::to_owned);
        let mut fact = move || facts.next().unwrap_or_default();
        Ok(Self {
            version: fact(),
            time_zone: fact(),
            display_name: fact(),
            chdb,
            arguments,
            keeper: Mutex::new(Some(keeper)),
            tags: AtomicU64::new(0),
        })
    }

    /// A fresh session: default settings, no temporary tables.
    ///
    /// # Errors
    /// When the engine is shutting down.
    pub(super) fn connect(&self) -> Result<Connection, Exception> {
        let refused = || Exception::new(UNKNOWN_EXCEPTION, "The engine takes no more connections.");
        self.chdb.connect(&self.arguments).ok_or_else(refused)
    }

    /// A mark for a query's text that no other query of this process has.
    pub(super) fn new_tag(&self) -> String {
        let number = self.tags.fetch_add(1, Ordering::Relaxed);
        format!("tidegate-localdb-{number}-")
    }

    /// Asks the query with this mark to stop. It does so at its next block.
    pub(super) fn kill(&self, tag: &str) {
        self.kill_where(&format!("position(query, '/*{tag}*/') > 0"));
    }

    /// Asks every query to stop.
    pub(super) fn kill_all(&self) {
        self.kill_where("query_id != queryID()");
    }

    fn kill_where(&self, condition: &str) {
        let sql = format!("KILL QUERY WHERE {condition} ASYNC");
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.as_mut()
            && let Err(error) = keeper.query(sql.as_bytes(), "Null", &[])
        {
            tracing::warn!(%error, "cannot stop a query");
        }
    }

    /// Closes the last connection, which writes everything down and stops the engine. All other connections
    /// must be closed before.
    pub(super) fn stop(&self) {
        let keeper = self
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(keeper);
        if !self.chdb.shutdown() {
            // With MergeTree tables the library reports a thread of its own as not stopped. The data is
            // closed by then: that is what closing the last connection does.
            tracing::debug!("the engine left a thread running");
        }
    }
}

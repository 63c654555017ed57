//! What is known of one server's tables: made or looked up on first use, forgotten after a schema error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::info;

use super::{Layout, Version, Watch, ddl};
use crate::exporters::clickhouse::encode::Table;
use crate::exporters::clickhouse::failure::Failure;
use crate::signal::{PerSignal, Signal};

/// What inserts depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// The server's version.
    pub(crate) version: Version,
    /// Optional columns that the signal's tables lack.
    pub(crate) lacking: Vec<&'static str>,
    /// When to look again, if some table does not remember inserts.
    look_again: Option<Instant>,
}

/// How long after somebody has changed a table it is noticed that it remembers inserts now.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Known {
    fn is_fresh(&self) -> bool {
        self.look_again.is_none_or(|time| Instant::now() < time)
    }
}

/// A server, and what is wanted of it.
#[derive(Clone, Copy)]
pub(crate) struct Server<'a> {
    /// Its address, for messages.
    pub(crate) url: &'a str,
    /// Speaks to it.
    pub(crate) client: &'a clickhouse::Client,
    /// Which tables.
    pub(crate) layout: &'a Layout,
    /// Whether they are made when they are not there.
    pub(crate) create: bool,
    /// Looks whether they remember inserts, where that was promised.
    pub(crate) watch: Option<&'a Watch>,
}

/// Columns that tables of an older generation lack.
const OPTIONAL: [&str; 1] = ["EventName"];

/// The schema on one server.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Guards what is known, for each signal; held while it is found out, so that one worker does it for all.
    known: PerSignal<Mutex<Option<Arc<Known>>>>,
}

impl Default for Schema {
    fn default() -> Self {
        Self {
            known: PerSignal::from_fn(|_| Mutex::new(None)),
        }
    }
}

impl Schema {
    /// What is known of the signal's tables; finds it out, and makes the tables if wanted, the first time.
    ///
    /// # Errors
    /// What the server or the way to it said. A failure is not remembered.
    pub(crate) async fn known(
        &self,
        server: Server<'_>,
        signal: Signal,
    ) -> Result<Arc<Known>, Failure> {
        let mut known = self.known[signal].lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.is_fresh()) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(find_out(server, signal).await?);
        if known.is_none() {
            info!(%signal, version = %found.version, lacking = ?found.lacking, "ClickHouse schema is ready");
        }
        *known = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Forgets what is known if it is still `outdated`.
    pub(crate) async fn forget(&self, signal: Signal, outdated: &Arc<Known>) {
        let mut known = self.known[signal].lock().await;
        if known
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, outdated))
        {
            *known = None;
        }
    }
}

async fn find_out(server: Server<'_>, signal: Signal) -> Result<Known, Failure> {
    let Server {
        url,
        client,
        layout,
        create,
        watch,
    } = server;
    let version: String = client.query_raw("SELECT version()").fetch_one().await?;
    let version = Version::parse(&version);
    if create {
        for statement in layout.statements(signal, version) {
            client.query_raw(&statement).execute().await?;
        }
    }
    let mut lacking = Vec::new();
    for table in Table::of(signal) {
        let columns = insertable_columns(client, layout, *table).await?;
        if columns.is_empty() {
            return Err(Failure::schema(format!(
                "there is no table {} in database {}, or no right to see it, and create_schema is {create}",
                layout.names.of(*table),
                layout.database
            )));
        }
        let expected = table.columns();
        lacking.extend(OPTIONAL.into_iter().filter(|optional| {
            expected.contains(optional) && !columns.iter().any(|column| column == optional)
        }));
    }
    let remembered = match watch {
        Some(watch) => watch.look(url, client, layout, signal).await?,
        None => true,
    };
    Ok(Known {
        version,
        lacking,
        look_again: (!remembered).then(|| Instant::now() + LOOK_AGAIN),
    })
}

async fn insertable_columns(
    client: &clickhouse::Client,
    layout: &Layout,
    table: Table,
) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT name FROM system.columns WHERE database = {} AND table = {} \
         AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')",
        ddl::literal(&layout.database),
        ddl::literal(layout.names.of(table)),
    );
    Ok(client.query_raw(&sql).fetch_all().await?)
}

//! Tables that do not remember inserts: what the exporter says and serves, and what turns it on.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tidegate::signal::Signal;
use tracing_subscriber::fmt::MakeWriter;

use crate::outage::Forgetful;
use crate::schema::{OLD_LOGS, records, spans};
use crate::support::{Database, Exporter};

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Listens until the guard is dropped.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(self.clone())
                .finish(),
        )
    }

    /// The lines about the promise that every row is stored once, taken out.
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| line.contains("exactly-once"))
            .map(str::to_owned)
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn kept(exporter: &Exporter, table: &str) -> Result<Option<u64>> {
    exporter.metric(&format!(
        "tidegate_clickhouse_exactly_once{{exporter=\"clickhouse\",table=\"{table}\"}}"
    ))
}

const TURN_ON: &str =
    "ALTER TABLE `old`.`otel_logs` MODIFY SETTING non_replicated_deduplication_window = 1000";

#[tokio::test]
async fn a_table_that_forgets_is_warned_of_until_it_is_altered() -> Result<()> {
    let database = Database::start()?;
    for sql in [
        "CREATE DATABASE old",
        OLD_LOGS,
        "ALTER TABLE old.otel_logs ADD COLUMN EventName String",
    ] {
        database.query(sql).await?;
    }
    let log = Log::default();
    let _listening = log.listen();
    let exporter = Exporter::to(&database.localdb.url, "database = \"old\"")?;
    exporter.store(Signal::Logs, records()).await?;
    exporter.store(Signal::Logs, records()).await?;
    let said = log.take();
    assert!(
        said.len() == 1 && said.iter().all(|line| line.contains(TURN_ON)),
        "{said:?}"
    );
    assert_eq!(kept(&exporter, "otel_logs")?, Some(0));

    // The column's absence makes it look again.
    for sql in [TURN_ON, "ALTER TABLE old.otel_logs DROP COLUMN EventName"] {
        database.query(sql).await?;
    }
    exporter.store(Signal::Logs, records()).await?;
    let said = log.take();
    assert!(
        said.len() == 1 && said.iter().all(|line| line.contains("is on")),
        "{said:?}"
    );
    assert_eq!(kept(&exporter, "otel_logs")?, Some(1));

    let proxy = Forgetful::start(database.address()?, 2).await?;
    let exporter = Exporter::to(&proxy.url, "database = \"old\"")?;
    exporter.store(Signal::Logs, records()).await?;
    assert_eq!(
        database.query("SELECT count() FROM old.otel_logs").await?,
        "400"
    );
    assert_eq!(log.take(), Vec::<String>::new());
    database.localdb.stop()
}

#[tokio::test]
async fn the_table_behind_the_view_is_looked_at_too() -> Result<()> {
    let database = Database::start()?;
    let log = Log::default();
    let _listening = log.listen();
    let exporter = Exporter::to(&database.localdb.url, "")?;
    exporter.store(Signal::Traces, spans()).await?;
    assert_eq!(
        log.take(),
        Vec::<String>::new(),
        "tables made here remember"
    );
    for table in ["otel_traces", "otel_traces_trace_id_ts"] {
        assert_eq!(kept(&exporter, table)?, Some(1), "{table}");
    }
    database
        .query("ALTER TABLE otel_traces_trace_id_ts MODIFY SETTING non_replicated_deduplication_window = 0")
        .await?;
    let exporter = Exporter::to(&database.localdb.url, "")?;
    exporter.store(Signal::Traces, spans()).await?;
    assert_eq!(kept(&exporter, "otel_traces")?, Some(1));
    assert_eq!(kept(&exporter, "otel_traces_trace_id_ts")?, Some(0));
    assert_eq!(log.take().len(), 1);
    database.localdb.stop()
}

#[tokio::test]
async fn who_accepts_duplicates_is_not_warned() -> Result<()> {
    let database = Database::start()?;
    for sql in ["CREATE DATABASE old", OLD_LOGS] {
        database.query(sql).await?;
    }
    let log = Log::default();
    let _listening = log.listen();
    for more in ["", "async_insert = true"] {
        let options = format!("database = \"old\"\ndelivery = \"at_least_once\"\n{more}");
        let exporter = Exporter::to(&database.localdb.url, &options)?;
        exporter.store(Signal::Logs, records()).await?;
        assert_eq!(kept(&exporter, "otel_logs")?, None);
    }
    assert_eq!(log.take(), Vec::<String>::new());
    database.localdb.stop()
}

#[tokio::test]
async fn several_servers_with_a_table_each_are_warned_of() -> Result<()> {
    let database = Database::start()?;
    let log = Log::default();
    let _listening = log.listen();
    let address = database.address()?;
    let both = format!("http://{address},http://localhost:{}", address.port());
    let exporter = Exporter::to(&both, "")?;
    exporter.store(Signal::Logs, records()).await?;
    let said = log.take();
    assert!(
        said.len() == 1 && said.iter().all(|line| line.contains("has its own")),
        "{said:?}"
    );
    assert_eq!(kept(&exporter, "otel_logs")?, Some(0));
    database.localdb.stop()
}

//! Results in ClickHouse: the table `benchmark_results` of HTTP runs, and the records of all runs.

mod records;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

pub(crate) use records::{Save, SavedRun};

/// Columns with their ClickHouse types. The first eight are those of the original benchmark; tables that
/// have only these get the rest added. Latencies are milliseconds; in open-loop runs they are measured
/// from the time a request fell due, and `service_*` from the time it was sent.
const COLUMNS: &[(&str, &str)] = &[
    ("timestamp", "DateTime64(3, 'UTC')"),
    ("endpoint", "String"),
    ("avg_latency", "Float64"),
    ("p95_latency", "Float64"),
    ("p99_latency", "Float64"),
    ("min_latency", "Float64"),
    ("max_latency", "Float64"),
    ("total_requests", "UInt64"),
    ("run_id", "String"),
    ("method", "String"),
    ("mode", "String"),
    ("protocol", "String"),
    ("p50_latency", "Float64"),
    ("p90_latency", "Float64"),
    ("p999_latency", "Float64"),
    ("service_avg_latency", "Float64"),
    ("service_p50_latency", "Float64"),
    ("service_p95_latency", "Float64"),
    ("service_p99_latency", "Float64"),
    ("service_max_latency", "Float64"),
    ("errors", "UInt64"),
    ("error_rate", "Float64"),
    ("throughput", "Float64"),
    ("duration", "Float64"),
    ("workers", "UInt32"),
    ("target_rate", "Float64"),
    ("late", "UInt64"),
    ("unsent", "UInt64"),
    ("bytes_received", "UInt64"),
    ("host", "String"),
    ("version", "String"),
    ("statuses", "Map(String, UInt64)"),
    ("error_kinds", "Map(String, UInt64)"),
];
const TABLE: &str = "benchmark_results";

/// ClickHouse's code for a table that does not exist.
const UNKNOWN_TABLE: &str = "UNKNOWN_TABLE";
/// Its code for a column that does not.
const UNKNOWN_COLUMN: &str = "UNKNOWN_IDENTIFIER";

/// Where results are stored.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Database {
    /// ClickHouse's HTTP address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8123")]
    clickhouse: String,
    /// ClickHouse database that holds the results
    #[arg(long, value_name = "NAME", default_value = "default")]
    database: String,
    /// ClickHouse user
    #[arg(long, value_name = "NAME", env = "CLICKHOUSE_USER")]
    user: Option<String>,
    /// ClickHouse password; better given by the environment
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "CLICKHOUSE_PASSWORD",
        hide_env_values = true
    )]
    password: Option<String>,
}

/// One run; field by field what [`COLUMNS`] says.
#[derive(Debug, Clone, Default, PartialEq, Row, Serialize, Deserialize)]
pub(crate) struct BenchmarkRow {
    /// Start of the run, Unix milliseconds.
    pub(crate) timestamp: i64,
    pub(crate) endpoint: String,
    pub(crate) avg_latency: f64,
    pub(crate) p95_latency: f64,
    pub(crate) p99_latency: f64,
    pub(crate) min_latency: f64,
    pub(crate) max_latency: f64,
    pub(crate) total_requests: u64,
    pub(crate) run_id: String,
    pub(crate) method: String,
    pub(crate) mode: String,
    pub(crate) protocol: String,
    pub(crate) p50_latency: f64,
    pub(crate) p90_latency: f64,
    pub(crate) p999_latency: f64,
    pub(crate) service_avg_latency: f64,
    pub(crate) service_p50_latency: f64,
    pub(crate) service_p95_latency: f64,
    pub(crate) service_p99_latency: f64,
    pub(crate) service_max_latency: f64,
    pub(crate) errors: u64,
    /// Share of failed and unsent requests, 0 to 1.
    pub(crate) error_rate: f64,
    /// Measured requests per second.
    pub(crate) throughput: f64,
    /// Measured seconds.
    pub(crate) duration: f64,
    pub(crate) workers: u32,
    /// Requests falling due per second; 0 in a closed loop.
    pub(crate) target_rate: f64,
    pub(crate) late: u64,
    pub(crate) unsent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) host: String,
    /// Version of loadgen.
    pub(crate) version: String,
    pub(crate) statuses: BTreeMap<String, u64>,
    pub(crate) error_kinds: BTreeMap<String, u64>,
}

/// A connection to the table.
pub(crate) struct Results {
    client: Client,
    address: String,
}

impl Database {
    /// # Errors
    ///
    /// A database name that would not be plain in a statement.
    pub(crate) fn open(&self) -> anyhow::Result<Results> {
        let plain = |it: char| it.is_ascii_alphanumeric() || it == '_';
        ensure!(
            !self.database.is_empty() && self.database.chars().all(plain),
            "the database name `{}` may hold letters, digits and `_` only",
            self.database
        );
        let mut client = Client::default()
            .with_url(&self.clickhouse)
            .with_database(&self.database);
        if let Some(user) = &self.user {
            client = client.with_user(user);
        }
        if let Some(password) = &self.password {
            client = client.with_password(password);
        }
        Ok(Results {
            client,
            address: format!("{} (database `{}`)", self.clickhouse, self.database),
        })
    }
}

impl Results {
    /// Makes the table where it is missing or lacks columns, and adds the row.
    ///
    /// # Errors
    ///
    /// ClickHouse cannot be reached or refuses a statement.
    pub(crate) async fn insert(&self, row: &BenchmarkRow) -> anyhow::Result<()> {
        within(self.try_insert(row))
            .await
            .with_context(|| format!("cannot save the result in ClickHouse at {}", self.address))
    }

    async fn try_insert(&self, row: &BenchmarkRow) -> clickhouse::error::Result<()> {
        self.client.query(&create_statement()).execute().await?;
        self.client.query(&upgrade_statement()).execute().await?;
        let mut insert = self.client.insert::<BenchmarkRow>(TABLE).await?;
        insert.write(row).await?;
        insert.end().await
    }

    /// The newest `limit` HTTP runs, newest first; of one endpoint where it is given. `None` if none has ever been
    /// saved.
    ///
    /// # Errors
    ///
    /// ClickHouse cannot be reached or refuses the statement.
    pub(crate) async fn recent(
        &self,
        endpoint: Option<&str>,
        limit: u32,
    ) -> anyhow::Result<Option<Vec<BenchmarkRow>>> {
        let filter = if endpoint.is_some() {
            "WHERE position(endpoint, ?) > 0"
        } else {
            ""
        };
        let sql =
            format!("SELECT ?fields FROM {TABLE} {filter} ORDER BY timestamp DESC, run_id LIMIT ?");
        let mut query = self.client.query(&sql);
        if let Some(endpoint) = endpoint {
            query = query.bind(endpoint);
        }
        match within(query.bind(limit).fetch_all()).await {
            Err(error) if error.to_string().contains(UNKNOWN_TABLE) => Ok(None),
            other => other.map(Some).with_context(|| {
                format!("cannot read {TABLE} from ClickHouse at {}", self.address)
            }),
        }
    }

    /// The server and database, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// A statement here is small; a server that takes longer is not going to answer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

async fn within<T>(
    statement: impl Future<Output = clickhouse::error::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => anyhow::bail!("no answer within {STATEMENT_TIMEOUT:?}"),
    }
}

fn create_statement() -> String {
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|(name, kind)| format!("    {name} {kind}"))
        .collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} (\n{}\n) ENGINE = MergeTree ORDER BY (endpoint, timestamp)",
        columns.join(",\n")
    )
}

fn upgrade_statement() -> String {
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|(name, kind)| format!("ADD COLUMN IF NOT EXISTS {name} {kind}"))
        .collect();
    format!("ALTER TABLE {TABLE} {}", columns.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_and_the_table_have_the_same_columns() {
        let columns: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
        assert_eq!(<BenchmarkRow as Row>::COLUMN_NAMES, columns);
    }

    #[test]
    fn odd_database_names_are_refused() {
        let open = |name: &str| {
            let address = "http://127.0.0.1:8123".to_owned();
            Database {
                clickhouse: address,
                database: name.to_owned(),
                user: None,
                password: None,
            }
            .open()
        };
        assert!(open("bench_2").is_ok());
        for name in ["", "a b", "a`b", "a;b", "naïve"] {
            assert!(open(name).is_err(), "{name} was accepted");
        }
    }
}

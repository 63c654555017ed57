//! Where rows go: the names of tables, the statements that make them, and what a server says it has.

mod ddl;
mod known;
mod memory;

use std::fmt;
use std::time::Duration;

pub(crate) use ddl::Engine;
pub(crate) use known::{Known, Schema, Server};
pub(crate) use memory::Watch;

use crate::exporters::clickhouse::encode::Table;
use crate::signal::Signal;

/// Where tables are, what they are called and how they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The database.
    pub(crate) database: String,
    /// For `ON CLUSTER`.
    pub(crate) cluster: Option<String>,
    /// The engine of tables that are made.
    pub(crate) engine: Engine,
    /// How long tables that are made keep rows; `None` is forever.
    pub(crate) ttl: Option<Duration>,
    /// Names of tables.
    pub(crate) names: Names,
}

/// Names of tables, without the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// Log records.
    pub(crate) logs: String,
    /// Spans.
    pub(crate) traces: String,
    /// Gauge points.
    pub(crate) gauge: String,
    /// Sum points.
    pub(crate) sum: String,
    /// Histogram points.
    pub(crate) histogram: String,
    /// Exponential histogram points.
    pub(crate) exponential_histogram: String,
    /// Summary points.
    pub(crate) summary: String,
}

impl Names {
    /// The name of a table.
    pub(crate) fn of(&self, table: Table) -> &str {
        match table {
            Table::Traces => &self.traces,
            Table::Logs => &self.logs,
            Table::Gauge => &self.gauge,
            Table::Sum => &self.sum,
            Table::Histogram => &self.histogram,
            Table::ExponentialHistogram => &self.exponential_histogram,
            Table::Summary => &self.summary,
        }
    }
}

impl Layout {
    fn full_name(&self, name: &str) -> String {
        format!("{}.{}", ddl::quoted(&self.database), ddl::quoted(name))
    }

    /// All statements for a signal's tables on a server of `version`, in order.
    pub(crate) fn statements(&self, signal: Signal, version: Version) -> Vec<String> {
        ddl::create_database(self)
            .into_iter()
            .chain(
                Table::of(signal)
                    .iter()
                    .flat_map(|table| ddl::create_table(self, *table, version)),
            )
            .collect()
    }

    /// The insert into `table`, without the columns it lacks.
    pub(crate) fn insert(&self, table: Table, lacking: &[&str]) -> String {
        let columns: Vec<String> = table
            .columns()
            .into_iter()
            .filter(|column| !lacking.contains(column))
            .map(ddl::quoted)
            .collect();
        format!(
            "INSERT INTO {} ({}) FORMAT Native",
            self.full_name(self.names.of(table)),
            columns.join(", ")
        )
    }
}

/// A server's version, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// The year.
    pub(crate) major: u32,
    /// The release in the year.
    pub(crate) minor: u32,
}

impl Version {
    /// Reads `26.7.3.1`; what cannot be read is 0.
    pub(crate) fn parse(text: &str) -> Self {
        let mut numbers = text.split('.').map(|part| part.parse().unwrap_or_default());
        Self {
            major: numbers.next().unwrap_or_default(),
            minor: numbers.next().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

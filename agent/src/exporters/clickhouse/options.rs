//! What a user writes under `[exporters.clickhouse]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::native::Method;
use crate::auth::AuthOptions;
use crate::config::Unsupported;
use crate::exporters::retry::RetryOptions;
use crate::exporters::sender::QueueOptions;
use crate::net::client_tls::ClientTlsOptions;
use crate::secret::Secret;
use crate::units::HumanDuration;

/// Options of the ClickHouse exporter.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// `http://host:8123` or `https://host:8443`; several separated by commas. Query parameters are settings.
    #[schemars(extend("x-required" = true))]
    pub(crate) endpoint: String,
    /// The user; wins over one in the endpoint.
    pub(crate) username: String,
    /// The password; wins over one in the endpoint.
    pub(crate) password: Secret,
    /// The database of all tables.
    pub(crate) database: String,
    /// Settings for every statement, as in the endpoint's query; `connection_open_strategy` among them.
    pub(crate) connection_params: BTreeMap<String, String>,
    /// `lz4`, `zstd` or `none`.
    pub(crate) compress: Compress,
    /// Whether the database, tables and views are made when they do not exist.
    pub(crate) create_schema: bool,
    /// How long the tables that are made keep rows; `0` means forever.
    pub(crate) ttl: HumanDuration,
    /// Makes tables with `ON CLUSTER`.
    pub(crate) cluster_name: String,
    /// The engine of the tables that are made.
    pub(crate) table_engine: EngineOptions,
    /// The table of log records.
    pub(crate) logs_table_name: String,
    /// The table of spans; the lookup table and its view are named after it.
    pub(crate) traces_table_name: String,
    /// The tables of data points.
    pub(crate) metrics_tables: MetricsTables,
    /// What the names of the tables of data points begin with, where `metrics_tables` does not say them.
    pub(crate) metrics_table_name: String,
    /// Whether the server gathers inserts. Off, unlike in the Collector: batches are formed here, and an insert is
    /// answered when its rows are stored.
    pub(crate) async_insert: bool,
    /// `exactly_once` or `at_least_once`.
    pub(crate) delivery: Delivery,
    /// For one attempt; `0` means no limit. After one that ran out of time the next has twice as long, up to four times this.
    pub(crate) timeout: HumanDuration,
    /// What to do when the server says "not now".
    pub(crate) retry_on_failure: RetryOptions,
    /// What waits for the server.
    pub(crate) sending_queue: QueueOptions,
    /// What to show to the server, instead of a user and a password.
    pub(crate) auth: Option<AuthOptions>,
    /// For servers at `https://`: whom to trust and what to show. The Collector's `configtls`.
    pub(crate) tls: Option<ClientTlsOptions>,
    /// Not supported; `false` is accepted.
    pub(crate) json: Unsupported,
    /// Accepted, without effect: there are no profiles.
    pub(crate) profiles_table_name: Unsupported,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            username: String::new(),
            password: Secret::default(),
            database: "default".to_owned(),
            connection_params: BTreeMap::new(),
            compress: Compress::Lz4,
            create_schema: true,
            ttl: HumanDuration::default(),
            cluster_name: String::new(),
            table_engine: EngineOptions::default(),
            logs_table_name: "otel_logs".to_owned(),
            traces_table_name: "otel_traces".to_owned(),
            metrics_tables: MetricsTables::default(),
            metrics_table_name: String::new(),
            async_insert: false,
            delivery: Delivery::ExactlyOnce,
            timeout: HumanDuration::from_secs(5),
            retry_on_failure: RetryOptions::default(),
            sending_queue: QueueOptions::default(),
            auth: None,
            tls: None,
            json: Unsupported::default(),
            profiles_table_name: Unsupported::default(),
        }
    }
}

/// How request bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compress {
    /// Fast.
    Lz4,
    /// Smaller, at twice the cost.
    Zstd,
    /// For a server on the same host.
    None,
}

impl Compress {
    pub(super) const fn method(self) -> Method {
        match self {
            Self::Lz4 => Method::Lz4,
            Self::Zstd => Method::Zstd,
            Self::None => Method::None,
        }
    }
}

/// What is promised about an insert whose answer got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    /// It is stored once. Tables that cannot do this are warned of.
    ExactlyOnce,
    /// It may be stored again.
    AtLeastOnce,
}

/// The engine of the tables that are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineOptions {
    /// `MergeTree`, `ReplicatedMergeTree` or another of that family.
    pub(crate) name: String,
    /// What stands in the engine's parentheses.
    pub(crate) params: String,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            name: "MergeTree".to_owned(),
            params: String::new(),
        }
    }
}

/// A table's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableName {
    /// The name, without the database.
    pub(crate) name: String,
}

/// The tables of data points.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MetricsTables {
    /// Gauges.
    pub(crate) gauge: TableName,
    /// Sums.
    pub(crate) sum: TableName,
    /// Summaries.
    pub(crate) summary: TableName,
    /// Histograms.
    pub(crate) histogram: TableName,
    /// Exponential histograms.
    pub(crate) exponential_histogram: TableName,
}

impl Default for MetricsTables {
    fn default() -> Self {
        Self::beginning_with("otel_metrics")
    }
}

impl MetricsTables {
    /// The Collector's names with another beginning.
    pub(super) fn beginning_with(prefix: &str) -> Self {
        let table = |kind: &str| TableName {
            name: format!("{prefix}_{kind}"),
        };
        Self {
            gauge: table("gauge"),
            sum: table("sum"),
            summary: table("summary"),
            histogram: table("histogram"),
            exponential_histogram: table("exponential_histogram"),
        }
    }
}

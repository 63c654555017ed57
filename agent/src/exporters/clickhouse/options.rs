//! What a user writes under `[exporters.clickhouse]`, and the settings made of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, Given, parse_endpoints};
use super::native::Method;
use super::schema::{Engine, Layout, Names};
use crate::config::Section;
use crate::exporters::retry::RetryOptions;
use crate::exporters::sender::{QueueOptions, SenderSettings};
use crate::secret::Secret;
use crate::units::HumanDuration;

/// Options of the ClickHouse exporter.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// `http://host:8123` or `https://host:8443`; several separated by commas. Query parameters are settings.
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
    /// Whether the server gathers inserts. Off, unlike in the Collector: batches are formed here, and an insert is
    /// answered when its rows are stored.
    pub(crate) async_insert: bool,
    /// For one attempt; `0` means no limit.
    pub(crate) timeout: HumanDuration,
    /// What to do when the server says "not now".
    pub(crate) retry_on_failure: RetryOptions,
    /// What waits for the server.
    pub(crate) sending_queue: QueueOptions,
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
            async_insert: false,
            timeout: HumanDuration::from_secs(5),
            retry_on_failure: RetryOptions::default(),
            sending_queue: QueueOptions::default(),
        }
    }
}

/// How request bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
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
    const fn method(self) -> Method {
        match self {
            Self::Lz4 => Method::Lz4,
            Self::Zstd => Method::Zstd,
            Self::None => Method::None,
        }
    }
}

/// The engine of the tables that are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineOptions {
    /// `MergeTree`, `ReplicatedMergeTree`, …
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableName {
    /// The name, without the database.
    pub(crate) name: String,
}

impl TableName {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }
}

/// The tables of data points.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
        Self {
            gauge: TableName::new("otel_metrics_gauge"),
            sum: TableName::new("otel_metrics_sum"),
            summary: TableName::new("otel_metrics_summary"),
            histogram: TableName::new("otel_metrics_histogram"),
            exponential_histogram: TableName::new("otel_metrics_exponential_histogram"),
        }
    }
}

/// Leaves room until 2106, where the server's `DateTime` ends.
const TTL_MAX: Duration = Duration::from_secs(50 * 366 * 86_400);

/// In which order servers are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The first that works, in the order given.
    InOrder,
    /// Any.
    Random,
    /// Each in turn.
    RoundRobin,
}

/// Validated settings of the ClickHouse exporter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// At least one.
    pub(crate) endpoints: Vec<Endpoint>,
    /// In which order they are tried.
    pub(crate) strategy: Strategy,
    /// How bodies are compressed.
    pub(crate) method: Method,
    /// Whether the schema is made when it does not exist.
    pub(crate) create_schema: bool,
    /// Where tables are, what they are called and how they are made.
    pub(crate) layout: Layout,
    /// Whether the server gathers inserts.
    pub(crate) async_insert: bool,
    /// Queue, retries, timeout.
    pub(crate) sender: SenderSettings,
}

impl Settings {
    /// Validates a component's table.
    pub(crate) fn parse(section: &mut Section<'_>) -> Option<Self> {
        let options: Options = section.options()?;
        let given = parse_endpoints(&options, section)?;
        let engine = engine(&options.table_engine, section);
        let database = given
            .database
            .clone()
            .unwrap_or_else(|| options.database.clone());
        check_names(&options, &database, section);
        let cluster = (!options.cluster_name.is_empty()).then(|| options.cluster_name.clone());
        let ttl = options.ttl.0;
        if ttl.subsec_nanos() != 0 {
            section.error("ttl", "must be a whole number of seconds");
        }
        if ttl > TTL_MAX {
            section.error("ttl", "must be at most 50 years: ClickHouse counts such times up to 2106 only, and would drop rows at once");
        }
        let sender = SenderSettings::resolve(
            section,
            options.timeout,
            &options.retry_on_failure,
            &options.sending_queue,
        );
        let Given {
            endpoints,
            strategy,
            async_insert,
            ..
        } = given;
        Some(Self {
            endpoints,
            strategy,
            method: options.compress.method(),
            create_schema: options.create_schema,
            layout: Layout {
                database,
                cluster,
                engine,
                ttl: (ttl != Duration::ZERO).then_some(ttl),
                names: Names {
                    logs: options.logs_table_name,
                    traces: options.traces_table_name,
                    gauge: options.metrics_tables.gauge.name,
                    sum: options.metrics_tables.sum.name,
                    histogram: options.metrics_tables.histogram.name,
                    exponential_histogram: options.metrics_tables.exponential_histogram.name,
                    summary: options.metrics_tables.summary.name,
                },
            },
            async_insert: async_insert.unwrap_or(options.async_insert),
            sender,
        })
    }
}

fn engine(options: &EngineOptions, section: &mut Section<'_>) -> Engine {
    let name = &options.name;
    if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        section.error(
            "table_engine.name",
            "must be the name of a table engine, such as `MergeTree` or `ReplicatedMergeTree`",
        );
    }
    Engine {
        name: name.clone(),
        params: options.params.clone(),
    }
}

fn check_names(options: &Options, database: &str, section: &mut Section<'_>) {
    let metrics = &options.metrics_tables;
    let names = [
        ("database", database),
        ("logs_table_name", &options.logs_table_name),
        ("traces_table_name", &options.traces_table_name),
        ("metrics_tables.gauge.name", &metrics.gauge.name),
        ("metrics_tables.sum.name", &metrics.sum.name),
        ("metrics_tables.summary.name", &metrics.summary.name),
        ("metrics_tables.histogram.name", &metrics.histogram.name),
        (
            "metrics_tables.exponential_histogram.name",
            &metrics.exponential_histogram.name,
        ),
    ];
    for (index, (key, name)) in names.iter().enumerate() {
        if name.is_empty() {
            section.error(key, "must not be empty");
        }
        let twin = names
            .iter()
            .take(index)
            .skip(1)
            .find(|(_, other)| other == name);
        if let Some((other, _)) = twin.filter(|_| index > 0) {
            section.error(key, format!("is the same table as {other}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostics;

    fn parse(text: &str) -> Result<Settings, String> {
        let mut found = Diagnostics::default();
        let settings = Section::from_text("exporters.clickhouse", text, &mut found)
            .and_then(|mut section| Settings::parse(&mut section));
        match settings {
            Some(settings) if !found.has_errors() => Ok(settings),
            _ => Err(found.to_string()),
        }
    }

    #[test]
    fn defaults_are_those_of_the_reference_but_for_async_insert() {
        let settings = parse("endpoint = 'http://localhost:8123'").unwrap();
        assert_eq!(settings.layout.database, "default");
        assert_eq!(
            settings.layout.names.exponential_histogram,
            "otel_metrics_exponential_histogram"
        );
        assert_eq!(settings.method, Method::Lz4);
        assert!(settings.create_schema && !settings.async_insert);
        assert_eq!((settings.layout.ttl, settings.layout.cluster), (None, None));
    }

    /// An endpoint in one line: address, user, password, settings.
    fn line(endpoint: &Endpoint) -> String {
        let Endpoint {
            url,
            username,
            password,
            settings,
        } = endpoint;
        let user = username.as_deref().unwrap_or("-");
        let password = password.as_ref().map_or("-", Secret::expose);
        format!("{url} {user} {password} {settings:?}")
    }

    #[test]
    fn endpoints_are_taken_apart() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = parse(text).unwrap().endpoints.iter().map(line).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("endpoint = 'http://ch'", &["http://ch:8123/ - - {}"]);
        check("endpoint = 'https://ch/x'", &["https://ch:8443/x - - {}"]);
        check(
            "endpoint = 'http://ch:9000?secure=true'",
            &["https://ch:9000/ - - {}"],
        );
        check(
            "endpoint = 'http://[::1]:8123'",
            &["http://[::1]:8123/ - - {}"],
        );
        check(
            "endpoint = 'http://a%40b:p%3aw@ch?max_threads=2&x=a+b'",
            &[r#"http://ch:8123/ a@b p:w {"max_threads": "2", "x": "a b"}"#],
        );
        check(
            "endpoint = 'http://a:1,b:2, http://c:3'",
            &[
                "http://a:1/ - - {}",
                "http://b:2/ - - {}",
                "http://c:3/ - - {}",
            ],
        );
        check(
            "endpoint = 'http://x:y@ch?username=u'\nusername = 'me'\npassword = 'pw'\n\
             connection_params = { max_threads = '1' }",
            &[r#"http://ch:8123/ me pw {"max_threads": "1"}"#],
        );
    }

    #[test]
    fn parameters_with_a_meaning_are_not_sent_as_settings() {
        let settings = parse(
            "endpoint = 'http://ch?database=d&connection_open_strategy=round_robin&async_insert=1&dial_timeout=5s'",
        )
        .unwrap();
        assert_eq!(settings.layout.database, "d");
        assert_eq!(settings.strategy, Strategy::RoundRobin);
        assert!(settings.async_insert);
        assert!(
            settings
                .endpoints
                .iter()
                .all(|endpoint| endpoint.settings.is_empty())
        );
    }

    #[test]
    fn mistakes_are_explained() {
        let check = |text: &str, expected: &str| {
            let problems = parse(text).unwrap_err();
            assert!(problems.contains(expected), "{text}: {problems}");
            assert!(!problems.contains("hunter2"), "{problems}");
        };
        check("", "endpoint: is required");
        check("endpoint = 'tcp://u:hunter2@ch:9000'", "native protocol");
        check("endpoint = 'clickhouse://ch:9000'", "native protocol");
        check("endpoint = 'ch:8123'", "has no scheme");
        check("endpoint = 'ftp://ch'", "`ftp` is not a scheme");
        check("endpoint = 'http://u:hunter2@ch:x'", "is not an address");
        check("endpoint = 'http://ch'\ncompress = 'gzip'", "lz4");
        check("endpoint = 'http://ch'\nunknown = 1", "unknown");
        check(
            "endpoint = 'http://ch'\nttl = '500000h'",
            "ttl: must be at most 50 years",
        );
        check(
            "endpoint = 'http://ch'\nttl = '1ms'",
            "ttl: must be a whole number",
        );
        check(
            "endpoint = 'http://ch'\ndatabase = ''",
            "database: must not be empty",
        );
        check(
            "endpoint = 'http://ch'\nlogs_table_name = 'otel_traces'",
            "same table",
        );
        check(
            "endpoint = 'http://ch'\ntable_engine = { name = 'Merge Tree' }",
            "table_engine.name",
        );
        check(
            "endpoint = 'http://ch?connection_open_strategy=first'",
            "in_order",
        );
    }
}

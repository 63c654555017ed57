//! Records of all kinds of runs in ClickHouse: whole in `loadgen_runs`, their figures in `loadgen_metrics`.

use anyhow::{Context as _, bail, ensure};
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::{Database, Results, UNKNOWN_COLUMN, UNKNOWN_TABLE, within};
use crate::record::{Better, Labels, Record, verdict};

const CREATE_RUNS: &str = "CREATE TABLE IF NOT EXISTS loadgen_runs (
    run_id String,
    kind String,
    name String,
    started DateTime64(3, 'UTC'),
    seconds Float64,
    passed UInt8,
    interrupted UInt8,
    host String,
    version String,
    record String CODEC(ZSTD(3)),
    no_verdict String DEFAULT JSONExtractString(record, 'no_verdict')
) ENGINE = MergeTree ORDER BY (started, run_id)";
/// For tables of an older version. Their rows, and those that it adds to them, have it from their records.
const UPGRADE_RUNS: &str = "ALTER TABLE loadgen_runs ADD COLUMN IF NOT EXISTS \
    no_verdict String DEFAULT JSONExtractString(record, 'no_verdict')";
const CREATE_METRICS: &str = "CREATE TABLE IF NOT EXISTS loadgen_metrics (
    run_id String,
    kind String,
    name String,
    started DateTime64(3, 'UTC'),
    metric String,
    labels Map(String, String),
    unit String,
    better String,
    repetition UInt32,
    value Float64
) ENGINE = MergeTree ORDER BY (metric, started, run_id)";
/// Fewer characters of a run id are more likely a typing error than a choice.
const PREFIX_MIN: usize = 6;

/// Whether and where to store the record of a run.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Results in ClickHouse")]
pub(crate) struct Save {
    /// Store the record in ClickHouse, for `loadgen history` and `loadgen compare`
    #[arg(long)]
    save: bool,
    #[command(flatten)]
    database: Database,
}

impl Save {
    /// The place to save to, if that was asked for; ask before the run, so that mistakes do not cost one.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub(crate) fn open(&self) -> anyhow::Result<Option<Results>> {
        self.save.then(|| self.database.open()).transpose()
    }
}

#[derive(Row, Serialize)]
struct RunRow<'a> {
    run_id: &'a str,
    kind: &'a str,
    name: &'a str,
    started: i64,
    seconds: f64,
    passed: u8,
    interrupted: u8,
    host: &'a str,
    version: &'a str,
    record: String,
    no_verdict: &'a str,
}

#[derive(Row, Serialize)]
struct MetricRow<'a> {
    run_id: &'a str,
    kind: &'a str,
    name: &'a str,
    started: i64,
    metric: &'a str,
    labels: &'a Labels,
    unit: &'a str,
    better: &'static str,
    repetition: u32,
    value: f64,
}

/// A saved run without its record.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub(crate) struct SavedRun {
    pub(crate) run_id: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Unix milliseconds.
    pub(crate) started: i64,
    pub(crate) seconds: f64,
    pub(crate) passed: u8,
    pub(crate) interrupted: u8,
    pub(crate) host: String,
    pub(crate) version: String,
    /// Why there is no verdict; empty if there is one.
    pub(crate) no_verdict: String,
    /// Medians of the metrics that have no labels.
    pub(crate) figures: Vec<(String, f64)>,
}

impl SavedRun {
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        let mut figures = self.figures.iter();
        figures.find(|it| it.0 == name).map(|it| it.1)
    }

    /// What came of it, in a word or two.
    pub(crate) fn verdict(&self) -> &'static str {
        let has_none = !self.no_verdict.is_empty();
        verdict(self.passed != 0, self.interrupted != 0, has_none)
    }
}

impl Results {
    /// Makes the tables where they are missing, and adds the record and its metrics.
    ///
    /// # Errors
    /// ClickHouse cannot be reached or refuses a statement.
    pub(crate) async fn save(&self, record: &Record) -> anyhow::Result<()> {
        let json = serde_json::to_string(record)?;
        within(self.try_save(record, json))
            .await
            .with_context(|| format!("cannot save the record in ClickHouse at {}", self.address))
    }

    async fn try_save(&self, record: &Record, json: String) -> clickhouse::error::Result<()> {
        self.client.query(CREATE_RUNS).execute().await?;
        self.client.query(UPGRADE_RUNS).execute().await?;
        self.client.query(CREATE_METRICS).execute().await?;
        let kind = record.kind.name();
        let mut metrics = self
            .client
            .insert::<MetricRow<'_>>("loadgen_metrics")
            .await?;
        for metric in &record.metrics {
            for (repetition, value) in (1..).zip(&metric.values) {
                let row = MetricRow {
                    run_id: &record.run_id,
                    kind,
                    name: &record.name,
                    started: record.started_unix_ms,
                    metric: &metric.name,
                    labels: &metric.labels,
                    unit: &metric.unit,
                    better: metric.better.name(),
                    repetition,
                    value: *value,
                };
                metrics.write(&row).await?;
            }
        }
        metrics.end().await?;
        // Last: a run that can be seen has its metrics.
        let mut runs = self.client.insert::<RunRow<'_>>("loadgen_runs").await?;
        let row = RunRow {
            run_id: &record.run_id,
            kind,
            name: &record.name,
            started: record.started_unix_ms,
            seconds: record.seconds,
            passed: record.passed.into(),
            interrupted: record.interrupted.into(),
            host: &record.environment.host,
            version: &record.environment.loadgen,
            record: json,
            no_verdict: record.no_verdict.as_deref().unwrap_or_default(),
        };
        runs.write(&row).await?;
        runs.end().await
    }

    /// The newest `limit` saved runs, newest first, of those whose name contains `name` and whose kind is `kind`;
    /// `None` if no record has ever been saved.
    ///
    /// # Errors
    /// ClickHouse cannot be reached or refuses the statement.
    pub(crate) async fn recent_runs(
        &self,
        name: Option<&str>,
        kind: Option<&str>,
        limit: u32,
    ) -> anyhow::Result<Option<Vec<SavedRun>>> {
        let kind = kind.unwrap_or_default();
        let read = async |no_verdict: &str| {
            let query = self.client.query(&select_runs(no_verdict));
            let query = query.bind(name.unwrap_or_default()).bind(kind).bind(kind);
            within(query.bind(limit).fetch_all()).await
        };
        let mut read_runs = read("no_verdict").await;
        if let Err(error) = &read_runs
            && error.to_string().contains(UNKNOWN_COLUMN)
        {
            // A table of an older version that nothing has been added to since, and which this user perhaps may only read.
            read_runs = read("JSONExtractString(record, 'no_verdict')").await;
        }
        match read_runs {
            Err(error) if error.to_string().contains(UNKNOWN_TABLE) => Ok(None),
            other => other.map(Some).with_context(|| {
                format!(
                    "cannot read loadgen_runs from ClickHouse at {}",
                    self.address
                )
            }),
        }
    }

    /// The saved record whose run id starts with `id`.
    ///
    /// # Errors
    /// When there is none or more than one, or ClickHouse cannot be reached.
    pub(crate) async fn record(&self, id: &str) -> anyhow::Result<Record> {
        ensure!(
            id.len() >= PREFIX_MIN && id.chars().all(|it| it.is_ascii_hexdigit()),
            "`{id}` is neither a file nor the id of a run ({PREFIX_MIN} or more of its hexadecimal digits)"
        );
        let query = self.client.query(
            "SELECT record FROM loadgen_runs WHERE startsWith(run_id, ?) ORDER BY run_id LIMIT 1 BY run_id LIMIT 2",
        );
        let found: Vec<String> = within(query.bind(id).fetch_all())
            .await
            .with_context(|| format!("cannot read run {id} from ClickHouse at {}", self.address))?;
        match found.as_slice() {
            [json] => {
                Record::parse(json).with_context(|| format!("run {id} as saved is no record"))
            }
            [] => bail!("{} has no run {id}", self.address),
            _ => bail!("more than one run starts with {id}: give more digits"),
        }
    }
}

/// Reads runs by a part of their name, their kind (twice), and how many; why they have no verdict from the expression.
fn select_runs(no_verdict: &str) -> String {
    format!(
        "SELECT run_id, kind, name, started, seconds, passed, interrupted, host, version, \
         why AS no_verdict, figures.figures AS figures FROM \
         (SELECT * EXCEPT record, {no_verdict} AS why FROM loadgen_runs \
         WHERE position(name, ?) > 0 AND (? = '' OR kind = ?) \
         ORDER BY started DESC, run_id LIMIT ?) AS runs \
         LEFT JOIN (SELECT run_id, groupArray((metric, value)) AS figures FROM \
         (SELECT run_id, metric, quantileExact(0.5)(value) AS value FROM loadgen_metrics \
         WHERE empty(labels) GROUP BY run_id, metric) GROUP BY run_id) AS figures USING run_id \
         ORDER BY started DESC, run_id"
    )
}

impl Better {
    fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Neither => "neither",
        }
    }
}

impl Database {
    /// Records named on a command line: files, or ids of saved runs.
    ///
    /// # Errors
    /// The first that is neither.
    pub(crate) async fn records(&self, names: &[String]) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::with_capacity(names.len());
        for name in names {
            let path = std::path::Path::new(name);
            let is_id = name.len() >= PREFIX_MIN && name.chars().all(|it| it.is_ascii_hexdigit());
            records.push(if path.exists() || !is_id {
                Record::read(path)?
            } else {
                self.open()?.record(name).await?
            });
        }
        Ok(records)
    }
}

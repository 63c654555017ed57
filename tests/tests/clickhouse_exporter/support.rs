//! An exporter in this process, fed with requests, and a database to look into.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use e2e::localdb::LocalDb;
use serde_json::Value;
use tidegate::ack::{Ack, Answer, Answered};
use tidegate::auth::Authenticators;
use tidegate::batch::{Chunk, Payload};
use tidegate::component::{ExporterContext, Sender, Shutdown};
use tidegate::config::{Diagnostics, Section};
use tidegate::exporters::EXPORTERS;
use tidegate::ledger::Ledger;
use tidegate::signal::{PerSignal, Signal};
use tidegate::telemetry::Telemetry;

/// Longer than anything here takes, short enough to fail.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A database in a folder of its own.
pub(crate) struct Database {
    pub(crate) localdb: LocalDb,
    _folder: tempfile::TempDir,
}

impl Database {
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let localdb = LocalDb::open(folder.path(), &[])?;
        Ok(Self {
            localdb,
            _folder: folder,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let address = self.localdb.url.strip_prefix("http://");
        Ok(address.context("an http URL")?.parse()?)
    }

    pub(crate) async fn query(&self, sql: &str) -> Result<String> {
        self.localdb.ask(sql).await
    }

    /// The rows of a table as JSON, maps as lists of keys and values.
    pub(crate) async fn rows(&self, table: &str) -> Result<Vec<Value>> {
        let sql = format!(
            "SELECT * FROM {table} FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers=1, \
             output_format_json_quote_denormals=1, output_format_json_map_as_array_of_tuples=1"
        );
        let text = self.query(&sql).await?;
        text.lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }
}

/// A running exporter.
pub(crate) struct Exporter {
    pub(crate) telemetry: Telemetry,
    senders: Vec<Sender>,
    ledger: Ledger,
}

impl Exporter {
    /// Builds an exporter from its table of the configuration.
    pub(crate) fn build(config: &str) -> Result<Self> {
        let factory = EXPORTERS
            .iter()
            .find(|factory| factory.kind == "clickhouse")
            .context("there is a clickhouse exporter")?;
        let mut found = Diagnostics::default();
        let settings = Section::from_text("exporters.clickhouse", config, &mut found)
            .and_then(|mut section| (factory.parse)(&mut section));
        ensure!(!found.has_errors(), "{found}");
        let telemetry = Telemetry::default();
        let context = ExporterContext {
            id: "clickhouse".to_owned(),
            signals: Signal::ALL.to_vec(),
            telemetry: telemetry.clone(),
            status: PerSignal::default(),
            progress: tidegate::progress::Progress::default(),
            taps: tidegate::tap::Taps::default(),
            cut: Shutdown::default(),
            leave: Shutdown::default(),
            authenticators: Authenticators::default(),
            inherited: Vec::new(),
        };
        let mut senders = settings
            .context("the settings are valid")?
            .build(&context)?;
        senders.iter_mut().for_each(Sender::start);
        let ledger = Ledger::new(&telemetry, "test", "clickhouse", Signal::Traces);
        Ok(Self {
            telemetry,
            senders,
            ledger,
        })
    }

    /// An exporter to `url` that retries fast, with more options.
    pub(crate) fn to(url: &str, more: &str) -> Result<Self> {
        Self::build(&format!(
            "endpoint = \"{url}\"\ntimeout = \"20s\"\n{more}\n\
             [retry_on_failure]\ninitial_interval = \"50ms\"\nmax_interval = \"200ms\"\n\
             [sending_queue]\nwait_for_result = true\n"
        ))
    }

    /// Queues a batch.
    pub(crate) fn push(&self, signal: Signal, payload: Payload) -> Result<Answered> {
        let sender = self
            .senders
            .iter()
            .find(|sender| sender.signal == signal)
            .context("every signal has a sender")?;
        let (ack, answered) = Ack::channel();
        let account = sender.queue.account("test", self.ledger.clone(), false);
        sender.queue.push(&account, payload, ack);
        Ok(answered)
    }

    /// Sends a request and waits until it is stored.
    pub(crate) async fn store(&self, signal: Signal, request: impl Into<Bytes>) -> Result<()> {
        let payload = Payload::from(Chunk::new(request.into(), 1));
        match tokio::time::timeout(DEADLINE, self.push(signal, payload)?).await? {
            Answer::Delivered => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    /// The value of a metric's line, such as `tidegate_clickhouse_inserted_rows{...}`.
    pub(crate) fn metric(&self, line: &str) -> Result<Option<u64>> {
        let text = String::from_utf8(self.telemetry.encode()?)?;
        Ok(text
            .lines()
            .find_map(|found| found.strip_prefix(line)?.trim().parse().ok()))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        for sender in &self.senders {
            sender.queue.close();
            sender
                .workers
                .iter()
                .for_each(tokio::task::JoinHandle::abort);
        }
    }
}

/// A request of the golden set.
pub(crate) fn golden_request(signal: Signal) -> Result<Bytes> {
    let path = golden_path(&format!("{}.pb", signal.name()));
    Ok(std::fs::read(path)?.into())
}

/// A file of the golden set.
pub(crate) fn golden_path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../agent/tests/golden")
        .join(name)
}

/// Waits until `done`.
pub(crate) async fn until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        ensure!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

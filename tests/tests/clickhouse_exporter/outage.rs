//! Servers that are away, answers that get lost, and the same insert sent twice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tidegate::ack::Answer;
use tidegate::batch::{Chunk, Payload};
use tidegate::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{DEADLINE, Database, Exporter, golden_request, until};

fn batch(signal: Signal) -> Result<Payload> {
    Ok(Chunk::new(golden_request(signal)?, 1).into())
}

/// A proxy that hands inserts on and loses the answers of the first `lost` of them.
pub(crate) struct Forgetful {
    pub(crate) url: String,
    inserts: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Forgetful {
    pub(crate) async fn start(to: SocketAddr, lost: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let inserts = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&inserts);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, to, Arc::clone(&seen), lost));
            }
        });
        Ok(Self {
            url,
            inserts,
            accepting,
        })
    }
}

impl Drop for Forgetful {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection: requests go through; the answer to an insert that is to be lost closes the connection instead.
async fn relay(
    mut client: TcpStream,
    to: SocketAddr,
    inserts: Arc<AtomicUsize>,
    lost: usize,
) -> Result<()> {
    let mut server = TcpStream::connect(to).await?;
    let mut up = vec![0; 64 << 10];
    let mut down = vec![0; 64 << 10];
    let mut losing = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let sent = up.get(..read?).unwrap_or_default();
                if sent.is_empty() {
                    return Ok(());
                }
                if String::from_utf8_lossy(sent).contains("INSERT+INTO") {
                    losing = inserts.fetch_add(1, Ordering::SeqCst) < lost;
                }
                server.write_all(sent).await?;
            }
            read = server.read(&mut down) => {
                let answered = down.get(..read?).unwrap_or_default();
                if answered.is_empty() || losing {
                    return Ok(());
                }
                client.write_all(answered).await?;
            }
        }
    }
}

#[tokio::test]
async fn an_insert_whose_answer_got_lost_is_stored_once() -> Result<()> {
    let database = Database::start()?;
    let proxy = Forgetful::start(database.address()?, 3).await?;
    let exporter = Exporter::to(&proxy.url, "")?;
    exporter
        .store(Signal::Traces, golden_request(Signal::Traces)?)
        .await?;
    assert_eq!(proxy.inserts.load(Ordering::SeqCst), 4);
    assert_eq!(
        database.query("SELECT count() FROM otel_traces").await?,
        "62"
    );
    let lookups = database
        .query("SELECT count(), uniqExact(TraceId) FROM otel_traces_trace_id_ts")
        .await?;
    let (rows, traces) = lookups.split_once('\t').context("two numbers")?;
    assert_eq!(rows, traces, "each trace is looked up once");
    // The same request again is another batch: it is stored again.
    exporter
        .store(Signal::Traces, golden_request(Signal::Traces)?)
        .await?;
    assert_eq!(
        database.query("SELECT count() FROM otel_traces").await?,
        "124"
    );
    database.localdb.stop()
}

#[tokio::test]
async fn of_five_tables_only_those_that_failed_are_sent_again() -> Result<()> {
    let database = Database::start()?;
    let proxy = Forgetful::start(database.address()?, 1).await?;
    let exporter = Exporter::to(&proxy.url, "")?;
    exporter
        .store(Signal::Metrics, golden_request(Signal::Metrics)?)
        .await?;
    assert_eq!(proxy.inserts.load(Ordering::SeqCst), 6);
    for (table, rows) in [
        ("gauge", "104"),
        ("sum", "72"),
        ("histogram", "32"),
        ("summary", "24"),
    ] {
        let count = format!("SELECT count() FROM otel_metrics_{table}");
        assert_eq!(database.query(&count).await?, rows, "{table}");
    }
    database.localdb.stop()
}

#[tokio::test]
async fn data_waits_for_a_server_that_is_away_at_the_start() -> Result<()> {
    // Somebody holds the port and answers nothing, until the server is there.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    drop(listener);
    let exporter = Exporter::to(&format!("http://{address}"), "")?;
    let answered = exporter.push(Signal::Logs, batch(Signal::Logs)?)?;
    let retried = "tidegate_exporter_attempts{exporter=\"clickhouse\",otel_signal=\"logs\",outcome=\"retry\"}";
    until(|| Ok(exporter.metric(retried)?.is_some_and(|count| count >= 2))).await?;
    let database = Database::start()?;
    let listener = TcpListener::bind(address).await?;
    let to = database.address()?;
    let proxy = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    assert_eq!(
        tokio::time::timeout(DEADLINE, answered).await?,
        Answer::Delivered
    );
    assert_eq!(
        database.query("SELECT count() FROM otel_logs").await?,
        "310"
    );
    proxy.abort();
    database.localdb.stop()
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over() -> Result<()> {
    let database = Database::start()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let down = listener.local_addr()?;
    drop(listener);
    for strategy in ["in_order", "random", "round_robin"] {
        let exporter = Exporter::to(
            &format!("http://{down},{}", database.localdb.url),
            &format!(
                "database = \"{strategy}\"\nconnection_params = {{ connection_open_strategy = \"{strategy}\" }}"
            ),
        )?;
        for _ in 0..3 {
            exporter
                .store(Signal::Logs, golden_request(Signal::Logs)?)
                .await?;
        }
        let count = format!("SELECT count() FROM {strategy}.otel_logs");
        assert_eq!(database.query(&count).await?, "930", "{strategy}");
    }
    database.localdb.stop()
}

#[tokio::test]
async fn a_wrong_password_keeps_the_data() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let localdb = e2e::localdb::LocalDb::open(folder.path(), &["--password", "secret"])?;
    let exporter = Exporter::to(&localdb.url, "username = \"default\"\npassword = \"wrong\"")?;
    exporter.push(Signal::Logs, batch(Signal::Logs)?)?;
    let attempts =
        "tidegate_exporter_attempts{exporter=\"clickhouse\",otel_signal=\"logs\",outcome=";
    let retried = format!("{attempts}\"retry\"}}");
    until(|| Ok(exporter.metric(&retried)?.is_some_and(|count| count >= 2))).await?;
    assert_eq!(
        exporter.metric(&format!("{attempts}\"rejected\"}}"))?,
        Some(0)
    );
    let right = Exporter::to(
        &localdb.url,
        "username = \"default\"\npassword = \"secret\"",
    )?;
    right
        .store(Signal::Logs, golden_request(Signal::Logs)?)
        .await?;
    localdb.stop()
}

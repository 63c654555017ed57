//! Official clients: the `clickhouse` crate and clickhouse-connect for Python.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clickhouse::{Client, Compression, Row};
use e2e::localdb::{LocalDb, build_dir};
use serde::{Deserialize, Serialize};
use tempfile::tempdir;

#[derive(Clone, Debug, Deserialize, PartialEq, Row, Serialize)]
struct Record {
    id: u64,
    name: String,
    value: Option<f64>,
    tags: Vec<String>,
}

fn record(id: u64) -> Record {
    Record {
        id,
        name: format!("name {id}"),
        value: (!id.is_multiple_of(3)).then_some(id as f64 / 2.0),
        tags: (0..id % 3).map(|tag| tag.to_string()).collect(),
    }
}

#[tokio::test]
async fn the_clickhouse_crate_writes_and_reads_rows() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    for compression in [Compression::Lz4, Compression::None] {
        let client = Client::default()
            .with_url(&database.url)
            .with_compression(compression);
        client.query("DROP TABLE IF EXISTS t").execute().await?;
        let create = "CREATE TABLE t (id UInt64, name String, value Nullable(Float64), tags Array(String)) \
                      ENGINE = MergeTree ORDER BY id";
        client.query(create).execute().await?;
        let mut insert = client.insert::<Record>("t").await?;
        for id in 0..20_000 {
            insert.write(&record(id)).await?;
        }
        insert.end().await?;
        let rows = client
            .query("SELECT ?fields FROM t ORDER BY id")
            .fetch_all::<Record>()
            .await?;
        ensure!(rows.len() == 20_000 && rows.iter().zip(0..).all(|(row, id)| *row == record(id)));
        let sql = "SELECT ?fields FROM t WHERE id = {id:UInt64} AND name = ?";
        let row = client
            .query(sql)
            .bind("name 7")
            .param("id", 7)
            .fetch_one::<Record>()
            .await?;
        assert_eq!(row, record(7));
        let threads = client
            .query("SELECT getSetting('max_threads')")
            .with_setting("max_threads", "3");
        assert_eq!(threads.fetch_one::<u8>().await?, 3);
    }
    Ok(())
}

#[tokio::test]
async fn the_clickhouse_crate_sees_errors_early_and_late() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    for compression in [Compression::Lz4, Compression::None] {
        let client = Client::default()
            .with_url(&database.url)
            .with_compression(compression);
        let error = client
            .query("SELECT * FROM nope")
            .execute()
            .await
            .err()
            .context("no error")?;
        assert!(error.to_string().contains("Code: 60"), "{error}");
        let sql = "SELECT throwIf(number = 2000000) FROM numbers(3000000) SETTINGS max_threads = 1";
        let late = client
            .query(sql)
            .fetch_all::<u8>()
            .await
            .err()
            .context("no late error")?;
        assert!(late.to_string().contains("Code: 395"), "{late}");
    }
    Ok(())
}

/// A Python environment with the client, made once in cargo's target folder.
fn python_environment() -> Result<PathBuf> {
    let requirements = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/requirements.txt");
    let environment = build_dir()?.join("python-clients");
    let python = environment.join("bin/python3");
    let stamp = environment.join("requirements.txt");
    let wanted = std::fs::read_to_string(requirements)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let run = |program: &std::ffi::OsStr, arguments: &[&std::ffi::OsStr]| -> Result<()> {
        let status = Command::new(program).args(arguments).status();
        let status = status.with_context(|| format!("cannot run {}", program.display()))?;
        ensure!(status.success(), "{} failed: {status}", program.display());
        Ok(())
    };
    run(
        "python3".as_ref(),
        &[
            "-m".as_ref(),
            "venv".as_ref(),
            "--clear".as_ref(),
            environment.as_os_str(),
        ],
    )?;
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        requirements,
    ];
    run(python.as_os_str(), &install.map(AsRef::as_ref))?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

#[test]
fn clickhouse_connect_works() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let port = database
        .url
        .rsplit(':')
        .next()
        .context("the URL has a port")?;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/clients/clickhouse_connect_test.py"
    );
    let output = Command::new(python_environment()?)
        .args([script, port])
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    database.stop()
}

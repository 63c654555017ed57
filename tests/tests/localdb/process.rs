//! The process: start, orderly end, crash, lock, and what it says when it cannot run.

use std::process::Command;

use anyhow::Result;
use e2e::binary;
use e2e::http::escape;
use e2e::localdb::LocalDb;
use tempfile::tempdir;
use tokio::io::AsyncWriteExt;

use crate::interface::eventually;

const TABLE: &str = "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a";

#[tokio::test]
async fn data_survives_an_orderly_end_and_a_crash() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask("CREATE DATABASE d").await?;
    database.ask(TABLE).await?;
    database
        .ask("INSERT INTO t SELECT number FROM numbers(1000)")
        .await?;
    database.stop()?;
    for round in 1..4u64 {
        let database = LocalDb::open(folder.path(), &[])?;
        let count = database.ask("SELECT count() FROM t").await?;
        assert_eq!(count, (1000 * round).to_string());
        assert_eq!(database.ask("EXISTS DATABASE d").await?, "1");
        let rows: String = (0..1000).map(|row| format!("{row}\n")).collect();
        assert_eq!(
            database
                .insert("INSERT INTO t FORMAT CSV", "", rows)
                .await?
                .status,
            200
        );
        database.signal("KILL");
        let (status, _) = database.wait();
        assert!(!status.success());
    }
    Ok(())
}

/// The engine notes an insert's token before its rows have their place. A kill in between must not make the
/// repetition a duplicate of nothing.
#[tokio::test]
async fn an_insert_that_a_crash_cut_short_is_stored_when_repeated() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let table = format!("{TABLE} SETTINGS non_replicated_deduplication_window = 100");
    database.ask(&table).await?;
    let insert = |token: &'static str| format!("insert_deduplication_token={token}");
    for token in ["one", "two"] {
        let sql = "INSERT INTO t FORMAT CSV";
        database.insert(sql, &insert(token), "1\n").await?;
    }
    let part =
        "SELECT path FROM system.parts WHERE table = 't' ORDER BY min_block_number DESC LIMIT 1";
    let part = database.ask(part).await?;
    database.signal("KILL");
    database.wait();
    std::fs::remove_dir_all(part)?;
    let database = LocalDb::open(folder.path(), &[])?;
    for token in ["one", "two", "two"] {
        let sql = "INSERT INTO t FORMAT CSV";
        database.insert(sql, &insert(token), "1\n").await?;
    }
    assert_eq!(database.ask("SELECT count() FROM t").await?, "2");
    database.stop()?;
    Ok(())
}

#[tokio::test]
async fn a_running_request_is_finished_before_the_end() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let slow = "SELECT sum(sleepEachRow(0.5)) FROM numbers(4) SETTINGS max_block_size = 1";
    let request = tokio::spawn({
        let url = database.url.clone();
        async move { e2e::http::send("POST", &url, &[], slow).await }
    });
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.5)%' AND query_id != queryID()";
    eventually("the query runs", || async {
        Ok(database.ask(running).await? == "1")
    })
    .await?;
    database.signal("INT");
    let reply = request.await??;
    assert_eq!((reply.status, reply.text().as_str()), (200, "0\n"));
    let (status, said) = database.wait();
    assert!(status.success(), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_does_not_end_is_stopped() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &["--shutdown-timeout", "1"])?;
    database.ask(TABLE).await?;
    database.ask("INSERT INTO t VALUES (1)").await?;
    let endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1";
    let request = tokio::spawn({
        let url = database.url.clone();
        async move { e2e::http::send("POST", &url, &[], endless).await }
    });
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%1000000000000%' AND query_id != queryID()";
    eventually("the query runs", || async {
        Ok(database.ask(running).await? == "1")
    })
    .await?;
    database.stop()?;
    // Whatever it got, it got it: the process is gone.
    let _answer = request.await?;
    let database = LocalDb::open(folder.path(), &[])?;
    assert_eq!(database.ask("SELECT count() FROM t").await?, "1");
    database.stop()
}

#[tokio::test]
async fn a_stalled_insert_does_not_hold_up_the_end() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &["--shutdown-timeout", "1"])?;
    database.ask(TABLE).await?;
    let address = database.url.trim_start_matches("http://").to_owned();
    let mut client = tokio::net::TcpStream::connect(&address).await?;
    let rows = "1\n".repeat(10_000);
    let query = escape("INSERT INTO t FORMAT CSV");
    let head = format!("POST /?query={query} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000");
    client
        .write_all(format!("{head}\r\n\r\n{rows}").as_bytes())
        .await?;
    let running = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO t %'";
    let begun = || async { Ok(database.ask(running).await? == "1") };
    eventually("the insert has begun", begun).await?;
    database.stop()?;
    let database = LocalDb::open(folder.path(), &[])?;
    assert_eq!(database.ask("SELECT count() FROM t").await?, "0");
    database.stop()
}

#[tokio::test]
async fn one_process_at_a_time_has_the_data() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let error = LocalDb::open(folder.path(), &[])
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        error.contains("another localdb is using the data in"),
        "{error}"
    );
    assert!(
        error.contains(&folder.path().display().to_string()),
        "{error}"
    );
    assert_eq!(database.ask("SELECT 1").await?, "1");
    database.stop()
}

#[tokio::test]
async fn a_stray_configuration_is_not_read() -> Result<()> {
    let folder = tempdir()?;
    std::fs::write(folder.path().join("config.xml"), "<clickhouse><broken")?;
    let database = LocalDb::open(folder.path(), &[])?;
    assert_eq!(database.ask("SELECT 1").await?, "1");
    database.stop()
}

#[test]
fn a_missing_library_is_explained() -> Result<()> {
    let folder = tempdir()?;
    let run = |arguments: &[&str]| -> Result<(bool, String)> {
        let output = Command::new(binary("tidegate"))
            .args(["localdb", "--listen", "127.0.0.1:0", "--path"])
            .arg(folder.path().join("data"))
            .args(arguments)
            .env_remove("TIDEGATE_CHDB_LIBRARY")
            .env("XDG_DATA_HOME", folder.path())
            .output()?;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let nowhere = folder.path().join("nowhere.so");
    let (success, said) = run(&["--library", &nowhere.to_string_lossy()])?;
    assert!(!success);
    for expected in [
        "nowhere.so",
        "tidegate localdb --fetch-only",
        "TIDEGATE_CHDB_LIBRARY",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let broken = folder.path().join("libchdb.so");
    std::fs::write(&broken, b"no library")?;
    let (success, said) = run(&["--library", &folder.path().to_string_lossy()])?;
    assert!(
        !success && said.contains("cannot load the ClickHouse engine from"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_taken_address_is_explained() -> Result<()> {
    let (folder, other) = (tempdir()?, tempdir()?);
    let database = LocalDb::open(folder.path(), &[])?;
    let address = database.url.trim_start_matches("http://");
    let output = Command::new(binary("tidegate"))
        .args(["localdb", "--listen", address, "--path"])
        .arg(other.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(&format!("cannot listen on {address}")),
        "{said}"
    );
    database.stop()
}

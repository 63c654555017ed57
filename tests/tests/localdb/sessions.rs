//! Who may do what, and what one request leaves to the next.

use anyhow::{Result, ensure};
use e2e::http::{escape, send};
use e2e::localdb::LocalDb;
use tempfile::tempdir;

use crate::interface::eventually;

#[tokio::test]
async fn settings_and_database_end_with_the_request() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask("CREATE DATABASE d").await?;
    let sql = "SELECT getSetting('max_threads') = 7, currentDatabase()";
    assert_eq!(
        database.post("max_threads=7&database=d", sql).await?.text(),
        "1\td\n"
    );
    assert_eq!(database.ask(sql).await?, "0\tdefault");
    let headers = [("x-clickhouse-database", "d")];
    let reply = send("POST", &database.url, &headers, "SELECT currentDatabase()").await?;
    assert_eq!(reply.text(), "d\n");
    database.ask("SET max_threads = 7").await?;
    assert_eq!(database.ask(sql).await?, "0\tdefault");
    Ok(())
}

#[tokio::test]
async fn get_only_reads() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database
        .ask("CREATE TABLE t (a UInt8) ENGINE = Memory")
        .await?;
    for (sql, code) in [
        ("SELECT 1", ""),
        ("SELECT 1 SETTINGS max_threads = 1", ""),
        ("INSERT INTO t VALUES (1)", "164"),
        ("DROP TABLE t", "164"),
        ("CREATE TABLE u (a UInt8) ENGINE = Memory", "164"),
    ] {
        for session in ["", "&session_id=s"] {
            let url = format!("{}/?query={}{session}", database.url, escape(sql));
            let reply = send("GET", &url, &[], "").await?;
            assert_eq!(
                reply.header("x-clickhouse-exception-code"),
                code,
                "{sql} {}",
                reply.text()
            );
        }
    }
    assert_eq!(database.ask("SELECT count() FROM t").await?, "0");
    Ok(())
}

#[tokio::test]
async fn sessions_keep_their_state_and_nothing_of_a_request() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let threads = "SELECT getSetting('max_threads')";
    for (parameters, sql, expected) in [
        ("session_id=a", "CREATE TEMPORARY TABLE t (a UInt8)", ""),
        ("session_id=a", "INSERT INTO t VALUES (1)", ""),
        ("session_id=a", "SELECT * FROM t", "1\n"),
        ("session_id=a", "SET max_threads = 9", ""),
        ("session_id=a&max_threads=4", threads, "4\n"),
        ("session_id=a", threads, "9\n"),
        ("session_id=a&session_check=1", "SELECT 1", "1\n"),
    ] {
        assert_eq!(
            database.post(parameters, sql).await?.text(),
            expected,
            "{parameters} {sql}"
        );
    }
    for (parameters, sql, code) in [
        ("session_id=b", "SELECT * FROM t", "60"),
        ("", "SELECT * FROM t", "60"),
        ("session_id=c&session_check=1", "SELECT 1", "372"),
    ] {
        let reply = database.post(parameters, sql).await?;
        assert_eq!(
            reply.header("x-clickhouse-exception-code"),
            code,
            "{parameters} {sql}"
        );
    }
    let slow = database.post(
        "session_id=d",
        "SELECT sleepEachRow(1) FROM numbers(2) FORMAT Null",
    );
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(1)%' \
                   AND query_id != queryID()";
    let locked = async {
        let is_running = || async { Ok(database.ask(running).await? == "1") };
        eventually("the slow query runs", is_running).await?;
        database.post("session_id=d", "SELECT 1").await
    };
    let (slow, locked) = tokio::join!(slow, locked);
    assert_eq!(slow?.status, 200);
    assert_eq!(locked?.header("x-clickhouse-exception-code"), "373");
    database
        .post("session_id=e&session_timeout=1", "SELECT 1")
        .await?;
    eventually("the session expires", || async {
        let reply = database
            .post("session_id=e&session_check=1&session_timeout=0", "SELECT 1")
            .await?;
        Ok(reply.header("x-clickhouse-exception-code") == "372")
    })
    .await
}

#[tokio::test]
async fn credentials_are_checked_where_asked_for() -> Result<()> {
    let folder = tempdir()?;
    let arguments = ["--user", "me", "--password", "secret"];
    let database = LocalDb::open(folder.path(), &arguments)?;
    for (parameters, headers, allowed) in [
        ("user=me&password=secret", vec![], true),
        (
            "",
            vec![("x-clickhouse-user", "me"), ("x-clickhouse-key", "secret")],
            true,
        ),
        ("", vec![("authorization", "Basic bWU6c2VjcmV0")], true),
        ("", vec![], false),
        ("user=me&password=wrong", vec![], false),
        ("user=default&password=secret", vec![], false),
    ] {
        let url = format!("{}/?{parameters}", database.url);
        let reply = send("POST", &url, &headers, "SELECT 1").await?;
        let expected = if allowed { (200, "") } else { (403, "516") };
        assert_eq!(
            (reply.status, reply.header("x-clickhouse-exception-code")),
            expected,
            "{url} {headers:?}"
        );
    }
    assert_eq!(
        send("GET", &format!("{}/ping", database.url), &[], "")
            .await?
            .status,
        200
    );
    Ok(())
}

#[tokio::test]
async fn many_clients_at_once_do_not_disturb_each_other() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &["--max-queries", "4"])?;
    database
        .ask("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await?;
    let client = |index: u64| {
        let database = &database;
        async move {
            for round in 0..5 {
                let threads = index % 8 + 1;
                let sql = format!("SELECT {index}, getSetting('max_threads')");
                let reply = database
                    .post(&format!("max_threads={threads}"), sql)
                    .await?;
                ensure!(
                    reply.text() == format!("{index}\t{threads}\n"),
                    "{}",
                    reply.text()
                );
                let row = format!("{}\n", index * 100 + round);
                let reply = database.insert("INSERT INTO t FORMAT CSV", "", row).await?;
                ensure!(reply.status == 200, "{}", reply.text());
            }
            Ok(())
        }
    };
    let clients: Vec<_> = (0..16).map(client).collect();
    for result in futures_join(clients).await {
        result?;
    }
    assert_eq!(
        database.ask("SELECT count(), uniqExact(a) FROM t").await?,
        "80\t80"
    );
    database.stop()
}

/// Runs futures at once and waits for all.
async fn futures_join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).map(Some).collect();
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if let Some(running) = future
                && let std::task::Poll::Ready(value) = running.as_mut().poll(context)
            {
                *result = Some(value);
                *future = None;
            }
        }
        match futures.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

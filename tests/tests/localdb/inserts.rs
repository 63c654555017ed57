//! Inserts: where the rows come from, what makes them count, and what they cost.

use anyhow::Result;
use e2e::http::{escape, send};
use e2e::localdb::LocalDb;
use tempfile::tempdir;
use tokio::io::AsyncWriteExt;

use crate::interface::eventually;

const TABLE: &str = "CREATE TABLE t (a UInt64, s String DEFAULT 'none') ENGINE = MergeTree ORDER BY a \
                     SETTINGS non_replicated_deduplication_window = 100";

#[tokio::test]
async fn rows_come_after_the_query_wherever_it_is() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask(TABLE).await?;
    for (query, body) in [
        ("INSERT INTO t FORMAT CSV", "1,x\n"),
        ("INSERT INTO t FORMAT CSV\n2,x\n", ""),
        ("", "INSERT INTO t FORMAT CSV\n3,x\n"),
        ("INSERT INTO t", "VALUES (4, 'x')"),
        ("INSERT INTO t VALUES", "(5, 'x'), (6, 'x')"),
        ("", "insert into t (s, a) values ('x', 7);"),
        (
            "",
            "INSERT INTO t FORMAT JSONEachRow {\"a\": 8, \"s\": \"x\"}",
        ),
        ("INSERT INTO {t:Identifier} FORMAT TSV", "9\tx"),
        (
            "INSERT INTO t (a) SETTINGS max_threads = 1 FORMAT CSV",
            "10\n",
        ),
        ("INSERT INTO t FORMAT CSVWithNames", "s,a\nx,11\n"),
    ] {
        let reply = database
            .post(&format!("query={}&param_t=t", escape(query)), body)
            .await?;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (200, ""),
            "{query} | {body}"
        );
    }
    assert_eq!(
        database
            .ask("SELECT count(), sum(a), countIf(s = 'x') FROM t")
            .await?,
        "11\t66\t10"
    );
    assert_eq!(database.ask("SELECT s FROM t WHERE a = 10").await?, "none");
    Ok(())
}

#[tokio::test]
async fn a_failed_insert_says_why_and_inserts_nothing() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask(TABLE).await?;
    for (sql, parameters, rows, code) in [
        ("INSERT INTO nope FORMAT CSV", "", "1,x\n", "60"),
        ("INSERT INTO t (b) FORMAT CSV", "", "1,x\n", "16"),
        ("INSERT INTO t FORMAT Nope", "", "1,x\n", "73"),
        ("INSERT INTO t FORMAT CSV", "", "1,x\ny,x\n", "27"),
        (
            "INSERT INTO t FORMAT Native",
            "",
            "\x02\x01\x01a\x06UInt64",
            "33",
        ),
        (
            "INSERT INTO t FORMAT CSV",
            "decompress=1",
            "1,x\n2,x\n3,x\n4,x\n5,x\n6,x\n7,x\n8,x\n",
            "40",
        ),
        ("INSERT INTO t FORMAT CSV", "nope=1", "1,x\n", "115"),
        (
            "INSERT INTO t SELECT * FROM input('a UInt64') FORMAT CSV",
            "",
            "1\n",
            "48",
        ),
        (
            "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV",
            "",
            "",
            "48",
        ),
    ] {
        let reply = database.insert(sql, parameters, rows).await?;
        let found = reply.header("x-clickhouse-exception-code");
        // A wrong size in a block's header is found before its checksum.
        assert!(
            found == code || (code == "40" && found == "271"),
            "{sql}: {}",
            reply.text()
        );
    }
    let url = format!(
        "{}/?query={}",
        database.url,
        escape("INSERT INTO t FORMAT CSV")
    );
    let reply = send("POST", &url, &[("content-encoding", "br")], "1,x\n").await?;
    assert_eq!(reply.header("x-clickhouse-exception-code"), "89");
    let reply = send(
        "POST",
        &url,
        &[("content-encoding", "gzip")],
        "1,x\n".repeat(10),
    )
    .await?;
    assert_eq!(reply.header("x-clickhouse-exception-code"), "271");
    assert_eq!(database.ask("SELECT count() FROM t").await?, "0");
    Ok(())
}

#[tokio::test]
async fn a_body_that_breaks_off_inserts_nothing() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask(TABLE).await?;
    let address = database.url.trim_start_matches("http://").to_owned();
    let running = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO t %'";
    let rows = "1,x\n".repeat(10_000);
    for head in [
        format!("Content-Length: 100000\r\n\r\n{rows}"),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{rows}\r\n",
            rows.len()
        ),
    ] {
        let mut client = tokio::net::TcpStream::connect(&address).await?;
        let query = escape("INSERT INTO t FORMAT CSV");
        let request = format!("POST /?query={query} HTTP/1.1\r\nHost: x\r\n{head}");
        client.write_all(request.as_bytes()).await?;
        eventually("the insert has begun", || async {
            Ok(database.ask(running).await? == "1")
        })
        .await?;
        drop(client);
        eventually("the insert has ended", || async {
            Ok(database.ask(running).await? == "0")
        })
        .await?;
        assert_eq!(database.ask("SELECT count() FROM t").await?, "0", "{head}");
    }
    Ok(())
}

#[tokio::test]
async fn a_repeated_deduplication_token_inserts_once() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask(TABLE).await?;
    for (sql, parameters, count) in [
        (
            "INSERT INTO t (a) FORMAT CSV",
            "insert_deduplication_token=x",
            "1",
        ),
        (
            "INSERT INTO t (a) FORMAT CSV",
            "insert_deduplication_token=x",
            "1",
        ),
        (
            "INSERT INTO t (a) FORMAT CSV",
            "insert_deduplication_token=y",
            "2",
        ),
        (
            "INSERT INTO t (a) SETTINGS insert_deduplication_token = 'x' FORMAT CSV",
            "",
            "2",
        ),
        (
            "INSERT INTO t (a) SETTINGS insert_deduplication_token = 'z' FORMAT CSV",
            "",
            "3",
        ),
    ] {
        let reply = database.insert(sql, parameters, "7\n").await?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(
            database.ask("SELECT count() FROM t").await?,
            count,
            "{sql} {parameters}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_body_of_many_blocks_is_one_part_in_bounded_memory() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask(TABLE).await?;
    let blocks = "SELECT number AS a, repeat('x', 50) AS s FROM numbers(100000) SETTINGS max_block_size = 8192 FORMAT Native";
    let blocks = database.post("compress=1", blocks).await?.body;
    let reply = database
        .insert(
            "INSERT INTO t FORMAT Native",
            "decompress=1",
            blocks.clone(),
        )
        .await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let parts = "SELECT count(), sum(rows) FROM system.parts WHERE table = 't' AND active";
    assert_eq!(database.ask(parts).await?, "1\t100000");
    // 580 MB of rows through a table that keeps none. The engine gathers blocks of up to 256 MB.
    database
        .ask("CREATE TABLE n (a UInt64, s String) ENGINE = Null")
        .await?;
    let (before, _) = database.memory()?;
    let many = blocks.repeat(100);
    let reply = database
        .insert("INSERT INTO n FORMAT Native", "decompress=1", many)
        .await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let summary: serde_json::Value = serde_json::from_str(reply.header("x-clickhouse-summary"))?;
    assert_eq!(summary["written_rows"], "10000000");
    let (_, peak) = database.memory()?;
    assert!(peak < before + (400 << 20), "{before} {peak}");
    Ok(())
}

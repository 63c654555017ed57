//! Answers: formats, encodings, revisions, size, and what happens in the middle of one.

use anyhow::Result;
use e2e::http::{escape, send};
use e2e::localdb::LocalDb;
use tempfile::tempdir;
use tokio::io::AsyncWriteExt;

use crate::interface::eventually;

#[tokio::test]
async fn every_format_is_one_whole_document_whatever_its_size() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let sql = "SELECT number AS n, toString(number) AS s FROM numbers(300000)";
    let json = database.post("", format!("{sql} FORMAT JSON")).await?;
    let document: serde_json::Value = serde_json::from_slice(&json.body)?;
    assert_eq!(
        (&document["rows"], &document["data"][299_999]["s"]),
        (&300_000.into(), &"299999".into())
    );
    let csv = database
        .post("default_format=CSVWithNames", sql)
        .await?
        .text();
    assert_eq!(csv.lines().count(), 300_001);
    assert!(csv.starts_with("\"n\",\"s\"\n0,\"0\"\n") && csv.ends_with("\n299999,\"299999\"\n"));
    for format in [
        "Native",
        "Parquet",
        "ArrowStream",
        "RowBinaryWithNamesAndTypes",
        "JSONColumns",
    ] {
        let body = database
            .post(&format!("default_format={format}"), sql)
            .await?
            .body;
        let check = format!("INSERT INTO FUNCTION null('n UInt64, s String') FORMAT {format}");
        let back = database.insert(&check, "", body).await?;
        assert_eq!(back.status, 200, "{format}: {}", back.text());
        let summary: serde_json::Value = serde_json::from_str(back.header("x-clickhouse-summary"))?;
        assert_eq!(summary["written_rows"], "300000", "{format}");
    }
    let headers = [("x-clickhouse-format", "CSV")];
    assert_eq!(
        send("POST", &database.url, &headers, "SELECT 'a'")
            .await?
            .text(),
        "\"a\"\n"
    );
    Ok(())
}

#[tokio::test]
async fn totals_and_extremes_are_in_the_answer() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let sql = "SELECT number % 2 AS k, count() AS c FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k FORMAT JSON";
    let document: serde_json::Value =
        serde_json::from_slice(&database.post("extremes=1", sql).await?.body)?;
    assert_eq!(document["totals"]["c"], 10);
    assert_eq!(document["extremes"]["max"]["k"], 1);
    Ok(())
}

#[tokio::test]
async fn answers_are_encoded_as_asked() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database
        .ask("CREATE TABLE t (n UInt64, s String) ENGINE = Memory")
        .await?;
    let sql = "SELECT number AS n, repeat('x', 20) AS s FROM numbers(200000) FORMAT Native";
    // What comes out encoded goes back in as it is: both directions at once.
    for (accept, expected, parameters, back) in [
        ("gzip, deflate", "gzip", "", ""),
        ("deflate", "deflate", "", ""),
        ("zstd", "zstd", "", ""),
        ("lz4", "lz4", "", ""),
        ("br", "", "", ""),
        ("gzip", "", "enable_http_compression=0", ""),
        ("", "", "compress=1", "decompress=1"),
        ("gzip", "gzip", "compress=1", "decompress=1"),
    ] {
        let url = format!("{}/?{parameters}", database.url);
        let reply = send("POST", &url, &[("accept-encoding", accept)], sql).await?;
        assert_eq!(
            reply.header("content-encoding"),
            expected,
            "{accept} {parameters}"
        );
        let compressed = !expected.is_empty() || !back.is_empty();
        assert_eq!(
            reply.body.len() < 4_000_000,
            compressed,
            "{accept} {}",
            reply.body.len()
        );
        database.ask("TRUNCATE TABLE t").await?;
        let url = format!(
            "{}/?query={}&{back}",
            database.url,
            escape("INSERT INTO t FORMAT Native")
        );
        let reply = send("POST", &url, &[("content-encoding", expected)], reply.body).await?;
        assert_eq!(reply.status, 200, "{accept} {parameters}: {}", reply.text());
        assert_eq!(
            database
                .ask("SELECT count(), sum(n), any(s) FROM t")
                .await?,
            "200000\t19999900000\txxxxxxxxxxxxxxxxxxxx"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_late_error_ends_the_answer_between_marks() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let sql = "SELECT throwIf(number = 3000000) FROM numbers(4000000) SETTINGS max_threads = 1, max_block_size = 10000";
    let reply = database.post("", sql).await?;
    let tag = reply.header("x-clickhouse-exception-tag");
    let text = reply.text();
    assert_eq!(reply.status, 200);
    assert!(
        text.ends_with(&format!(" {tag}\r\n__exception__\r\n")),
        "{}",
        text.len()
    );
    assert!(text.contains(&format!(
        "\r\n__exception__\r\n{tag}\r\nCode: 395. DB::Exception: "
    )));
    // Held back to the end, the same error still has its status.
    let reply = database.post("wait_end_of_query=1", sql).await?;
    assert_eq!(
        (reply.status, reply.header("x-clickhouse-exception-code")),
        (500, "395")
    );
    Ok(())
}

#[tokio::test]
async fn native_blocks_follow_the_client_s_revision() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let sql = "SELECT toUInt8(5) AS a, 'x' AS b FORMAT Native";
    let plain = b"\x02\x01\x01a\x05UInt8\x05\x01b\x06String\x01x".as_slice();
    let marked =
        b"\x01\x00\x02\xff\xff\xff\xff\x00\x02\x01\x01a\x05UInt8\x00\x05\x01b\x06String\x00\x01x"
            .as_slice();
    for (revision, expected) in [
        ("0", plain),
        ("54405", plain),
        ("54454", marked),
        ("54485", marked),
    ] {
        let body = database
            .post(&format!("client_protocol_version={revision}"), sql)
            .await?
            .body;
        assert_eq!(body, expected, "{revision}");
    }
    let types = "SELECT map('k', [1, 2]) AS m, toLowCardinality('l') AS l, tuple(1, 'a') AS t, toNullable(1) AS n, \
                 toDateTime64(0, 9) AS d, toDecimal128(1, 3) AS c, CAST(1, 'Variant(String, UInt8)') AS v, number \
                 FROM numbers(100000) FORMAT Native";
    let reply = database
        .post("client_protocol_version=54485", types)
        .await?;
    assert_eq!(reply.status, 200);
    assert!(
        !reply
            .body
            .windows(13)
            .any(|window| window == b"__exception__")
    );
    let opaque = "SELECT sumState(number) FROM numbers(2) FORMAT Native";
    let reply = database
        .post("client_protocol_version=54485", opaque)
        .await?;
    assert_eq!(
        (reply.status, reply.header("x-clickhouse-exception-code")),
        (501, "48")
    );
    Ok(())
}

#[tokio::test]
async fn a_query_stops_when_its_client_leaves() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    let address = database.url.trim_start_matches("http://").to_owned();
    for sql in [
        "SELECT number FROM numbers(1000000000000)",
        "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
    ] {
        let running = "SELECT count() FROM system.processes WHERE query LIKE '%1000000000000%' AND query_id != queryID()";
        let mut client = tokio::net::TcpStream::connect(&address).await?;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}",
            sql.len()
        );
        client.write_all(request.as_bytes()).await?;
        eventually("the query runs", || async {
            Ok(database.ask(running).await? == "1")
        })
        .await?;
        drop(client);
        eventually("the query stops", || async {
            Ok(database.ask(running).await? == "0")
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_large_answer_takes_little_memory() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    database.ask("SELECT 1").await?;
    let (before, _) = database.memory()?;
    let reply = database
        .post("", "SELECT number, repeat('x', 100) FROM numbers(3000000)")
        .await?;
    assert!(reply.body.len() > 300_000_000);
    let (_, peak) = database.memory()?;
    assert!(peak < before + (150 << 20), "{before} {peak}");
    Ok(())
}

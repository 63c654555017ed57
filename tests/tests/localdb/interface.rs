//! Queries: paths, headers, formats, parameters, settings, sessions, errors, encodings, cancellation.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::http::{escape, send};
use e2e::localdb::LocalDb;
use tempfile::tempdir;
use tokio::io::AsyncWriteExt;

/// Waits until `done` or 30 seconds have passed.
pub(crate) async fn eventually<F: Future<Output = Result<bool>>>(
    what: &str,
    mut done: impl FnMut() -> F,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done().await? {
        ensure!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn probes_and_unknown_paths_are_answered() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    for (method, path, status, body) in [
        ("GET", "/ping", 200, "Ok.\n"),
        ("HEAD", "/ping", 200, ""),
        ("GET", "/", 200, "Ok.\n"),
        ("GET", "/replicas_status", 200, "Ok.\n"),
        ("GET", "/?query=SELECT%201", 200, "1\n"),
        ("GET", "/query?query=SELECT%201", 200, "1\n"),
        ("POST", "/?query=SELECT%201", 200, "1\n"),
        ("OPTIONS", "/", 204, ""),
        ("DELETE", "/", 501, "Method DELETE is not known.\n"),
    ] {
        let reply = send(method, &format!("{}{path}", database.url), &[], "").await?;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (status, body),
            "{method} {path}"
        );
    }
    assert_eq!(
        send("GET", &format!("{}/nope", database.url), &[], "")
            .await?
            .status,
        404
    );
    database.stop()
}

#[tokio::test]
async fn answers_carry_clickhouse_s_headers() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    let reply = database
        .post("query_id=abc", "SELECT 1 FORMAT JSON")
        .await?;
    for (name, value) in [
        ("x-clickhouse-query-id", "abc"),
        ("x-clickhouse-format", "JSON"),
        (
            "x-clickhouse-timezone",
            database.query("SELECT timezone()").await?.as_str(),
        ),
        (
            "x-clickhouse-server-display-name",
            database.query("SELECT displayName()").await?.as_str(),
        ),
        ("content-type", "application/json; charset=UTF-8"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
    assert_eq!(
        database
            .post("", "SELECT 1")
            .await?
            .header("x-clickhouse-query-id")
            .len(),
        36
    );
    let summary: serde_json::Value = serde_json::from_str(reply.header("x-clickhouse-summary"))?;
    assert_eq!(
        (&summary["read_rows"], &summary["result_rows"]),
        (&"1".into(), &"1".into())
    );
    Ok(())
}

#[tokio::test]
async fn every_format_is_one_whole_document_whatever_its_size() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
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
    let database = LocalDb::start(folder.path())?;
    let sql = "SELECT number % 2 AS k, count() AS c FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k FORMAT JSON";
    let document: serde_json::Value =
        serde_json::from_slice(&database.post("extremes=1", sql).await?.body)?;
    assert_eq!(document["totals"]["c"], 10);
    assert_eq!(document["extremes"]["max"]["k"], 1);
    Ok(())
}

#[tokio::test]
async fn statements_of_every_kind_run() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    for (sql, expected) in [
        ("CREATE DATABASE d", ""),
        (
            "CREATE TABLE d.t (a UInt8, b String DEFAULT 'x') ENGINE = MergeTree ORDER BY a;",
            "",
        ),
        ("INSERT INTO d.t (a) VALUES (1), (2);", ""),
        (
            "INSERT INTO d.t SELECT number + 10, 'y' FROM numbers(2)",
            "",
        ),
        (
            "SELECT a, b FROM d.t ORDER BY a",
            "1\tx\n2\tx\n10\ty\n11\ty",
        ),
        ("FROM d.t SELECT sum(a)", "24"),
        (
            "WITH 5 AS n SELECT n FORMAT CSV SETTINGS max_threads = 1",
            "5",
        ),
        ("SELECT 1 -- a comment\nFORMAT CSV -- another", "1"),
        ("(SELECT 1) UNION ALL (SELECT 1)", "1\n1"),
        ("SHOW TABLES FROM d", "t"),
        ("SHOW TABLES FROM d SETTINGS max_threads = 1", "t"),
        ("EXISTS TABLE d.t", "1"),
        (
            "DESCRIBE TABLE d.t FORMAT JSONCompactEachRow",
            "[\"a\", \"UInt8\", \"\", \"\", \"\", \"\", \"\"]\n[\"b\", \"String\", \"DEFAULT\", \"'x'\", \"\", \"\", \"\"]",
        ),
        (
            "ALTER TABLE d.t DELETE WHERE a = 1 SETTINGS mutations_sync = 1",
            "",
        ),
        ("OPTIMIZE TABLE d.t FINAL", ""),
        ("SELECT count() FROM d.t", "3"),
        ("SELECT 1 FORMAT Null", ""),
        ("DROP DATABASE d", ""),
    ] {
        assert_eq!(database.query(sql).await?, expected, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn parameters_are_bound_not_spliced() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    for (value, sql, expected) in [
        ("41", "SELECT {x:UInt32} + 1", "42"),
        ("it's", "SELECT {x:String}", "it\\'s"),
        ("'; DROP", "SELECT {x:String}", "\\'; DROP"),
        ("['a','b']", "SELECT {x:Array(String)}[2]", "b"),
        ("system.one", "SELECT {x:String}", "system.one"),
        ("one", "SELECT count() FROM system.{x:Identifier}", "1"),
    ] {
        let reply = database
            .post(&format!("param_x={}", escape(value)), sql)
            .await?;
        assert_eq!(reply.text(), format!("{expected}\n"), "{sql} {value}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_and_database_end_with_the_request() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    database.query("CREATE DATABASE d").await?;
    let sql = "SELECT getSetting('max_threads') = 7, currentDatabase()";
    assert_eq!(
        database.post("max_threads=7&database=d", sql).await?.text(),
        "1\td\n"
    );
    assert_eq!(database.query(sql).await?, "0\tdefault");
    let headers = [("x-clickhouse-database", "d")];
    let reply = send("POST", &database.url, &headers, "SELECT currentDatabase()").await?;
    assert_eq!(reply.text(), "d\n");
    database.query("SET max_threads = 7").await?;
    assert_eq!(database.query(sql).await?, "0\tdefault");
    Ok(())
}

#[tokio::test]
async fn errors_have_clickhouse_s_code_status_and_text() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    for (parameters, sql, status, code, name) in [
        ("", "SELECT * FROM nope", 404, 60, "UNKNOWN_TABLE"),
        ("", "SELEC 1", 400, 62, "SYNTAX_ERROR"),
        ("", "SELECT 1 FROM", 400, 62, "SYNTAX_ERROR"),
        ("", "", 400, 62, "SYNTAX_ERROR"),
        ("", "SELECT 1; SELECT 2", 400, 62, "SYNTAX_ERROR"),
        ("", "SELECT nope", 404, 47, "UNKNOWN_IDENTIFIER"),
        ("", "SELECT nope(1)", 404, 46, "UNKNOWN_FUNCTION"),
        ("", "SELECT 1 FORMAT Nope", 404, 73, "UNKNOWN_FORMAT"),
        (
            "",
            "SELECT throwIf(1)",
            500,
            395,
            "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
        ),
        ("", "SELECT {x:UInt8}", 500, 456, "UNKNOWN_QUERY_PARAMETER"),
        ("database=nope", "SELECT 1", 404, 81, "UNKNOWN_DATABASE"),
        ("nope=1", "SELECT 1", 404, 115, "UNKNOWN_SETTING"),
        (
            "max_execution_time=x",
            "SELECT 1",
            400,
            72,
            "CANNOT_PARSE_NUMBER",
        ),
        (
            "readonly=1",
            "CREATE TABLE t (a UInt8) ENGINE = Memory",
            500,
            164,
            "READONLY",
        ),
        (
            "max_memory_usage=1000000",
            "SELECT groupArray(number) FROM numbers(10000000)",
            500,
            241,
            "MEMORY_LIMIT_EXCEEDED",
        ),
        (
            "max_execution_time=1",
            "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
            408,
            159,
            "TIMEOUT_EXCEEDED",
        ),
        (
            "",
            "SELECT 1 INTO OUTFILE '/tmp/never'",
            500,
            358,
            "INTO_OUTFILE_NOT_ALLOWED",
        ),
    ] {
        let reply = database.post(parameters, sql).await?;
        let text = reply.text();
        let found = (reply.status, reply.header("x-clickhouse-exception-code"));
        assert_eq!(found, (status, code.to_string().as_str()), "{sql}: {text}");
        assert!(
            text.starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{sql}: {text}"
        );
        assert!(
            text.contains(&format!("({name}) (version ")),
            "{sql}: {text}"
        );
        assert!(!text.contains("/proc/self"), "our own clause shows: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn get_only_reads() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    database
        .query("CREATE TABLE t (a UInt8) ENGINE = Memory")
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
    assert_eq!(database.query("SELECT count() FROM t").await?, "0");
    Ok(())
}

#[tokio::test]
async fn sessions_keep_their_state_and_nothing_of_a_request() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
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
    let locked = eventually("a second request finds the session locked", || async {
        let reply = database.post("session_id=d", "SELECT 1").await?;
        Ok(reply.header("x-clickhouse-exception-code") == "373")
    });
    let (slow, locked) = tokio::join!(slow, locked);
    assert_eq!(slow?.status, 200);
    locked?;
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
async fn answers_are_encoded_as_asked() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    database
        .query("CREATE TABLE t (n UInt64, s String) ENGINE = Memory")
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
        database.query("TRUNCATE TABLE t").await?;
        let url = format!(
            "{}/?query={}&{back}",
            database.url,
            escape("INSERT INTO t FORMAT Native")
        );
        let reply = send("POST", &url, &[("content-encoding", expected)], reply.body).await?;
        assert_eq!(reply.status, 200, "{accept} {parameters}: {}", reply.text());
        assert_eq!(
            database
                .query("SELECT count(), sum(n), any(s) FROM t")
                .await?,
            "200000\t19999900000\txxxxxxxxxxxxxxxxxxxx"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_late_error_ends_the_answer_between_marks() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
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
    let database = LocalDb::start(folder.path())?;
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
    let database = LocalDb::start(folder.path())?;
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
            Ok(database.query(running).await? == "1")
        })
        .await?;
        drop(client);
        eventually("the query stops", || async {
            Ok(database.query(running).await? == "0")
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_large_answer_takes_little_memory() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::start(folder.path())?;
    database.query("SELECT 1").await?;
    let (before, _) = database.memory()?;
    let reply = database
        .post("", "SELECT number, repeat('x', 100) FROM numbers(3000000)")
        .await?;
    assert!(reply.body.len() > 300_000_000);
    let (_, peak) = database.memory()?;
    assert!(peak < before + (150 << 20), "{before} {peak}");
    Ok(())
}

#[tokio::test]
async fn credentials_are_checked_where_asked_for() -> Result<()> {
    let folder = tempdir()?;
    let arguments = ["--user", "me", "--password", "secret"];
    let database = LocalDb::start_with(folder.path(), &arguments)?;
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
    let database = LocalDb::start_with(folder.path(), &["--max-queries", "4"])?;
    database
        .query("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
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
        database
            .query("SELECT count(), uniqExact(a) FROM t")
            .await?,
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

//! Statements: paths, headers, kinds, parameters and errors.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::http::{escape, send};
use e2e::localdb::LocalDb;
use tempfile::tempdir;

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
    let database = LocalDb::open(folder.path(), &[])?;
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
    let database = LocalDb::open(folder.path(), &[])?;
    let reply = database
        .post("query_id=abc", "SELECT 1 FORMAT JSON")
        .await?;
    for (name, value) in [
        ("x-clickhouse-query-id", "abc"),
        ("x-clickhouse-format", "JSON"),
        (
            "x-clickhouse-timezone",
            database.ask("SELECT timezone()").await?.as_str(),
        ),
        (
            "x-clickhouse-server-display-name",
            database.ask("SELECT displayName()").await?.as_str(),
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
async fn statements_of_every_kind_run() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
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
        assert_eq!(database.ask(sql).await?, expected, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn parameters_are_bound_not_spliced() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
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

/// Parameters, statement, status, code and name.
const ERRORS: &[(&str, &str, u16, u16, &str)] = &[
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
];

#[tokio::test]
async fn errors_have_clickhouse_s_code_status_and_text() -> Result<()> {
    let folder = tempdir()?;
    let database = LocalDb::open(folder.path(), &[])?;
    for &(parameters, sql, status, code, name) in ERRORS {
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

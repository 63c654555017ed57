//! `loadgen sink` as ClickHouse beside the real engine: both know a block by its token, for as long.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use e2e::{LocalDb, Service, binary, get, post};
use serde_json::Value;

/// Blocks by table and token: repeated at once, after others, after as many as are remembered, and in another table.
const BLOCKS: [(&str, &str); 12] = [
    ("t", "a"),
    ("t", "a"),
    ("t", "b"),
    ("u", "a"),
    ("t", "a"),
    ("t", "c"),
    ("t", "d"),
    ("t", "a"),
    ("t", "b"),
    ("u", "a"),
    ("t", "d"),
    ("t", "b"),
];

/// Rows in `t` and `u` after each block, as `count` finds them.
fn counts(url: &str, count: impl Fn(&str) -> u64) -> Vec<(u64, u64)> {
    for table in ["t", "u"] {
        let sql = format!(
            "CREATE TABLE {table} (x UInt64) ENGINE = MergeTree ORDER BY x \
             SETTINGS non_replicated_deduplication_window = 3"
        );
        assert_eq!(post(url, &[], sql.as_bytes()).unwrap().status, 200);
    }
    let mut counts = Vec::new();
    // All rows differ, so that nothing but the token can be known.
    for (number, (table, token)) in BLOCKS.iter().enumerate() {
        let insert = format!(
            "{url}/?insert_deduplication_token={token}&query=INSERT%20INTO%20{table}%20FORMAT%20JSONEachRow"
        );
        let row = format!("{{\"x\":{number}}}\n");
        let answer = post(&insert, &[], row.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        counts.push((count("t"), count("u")));
    }
    counts
}

#[test]
fn a_block_is_stored_once_for_as_long_as_a_server_would() {
    let folder = tempfile::tempdir().unwrap();
    let database = LocalDb::start(folder.path());
    let stored = counts(&database.url, |table| {
        let rows = database.query(&format!("SELECT count() FROM {table}"));
        rows.parse().unwrap()
    });

    let mut command = Command::new(binary("loadgen"));
    command.args(["sink", "--clickhouse", "127.0.0.1:0", "--distinct"]);
    command.args(["--deduplication-window", "3"]);
    let mut sink = Service::start("sink", &mut command, folder.path());
    let url = format!("http://{}", sink.address(&["\"clickhouse\":\""]));
    let stats =
        || -> Value { serde_json::from_str(&get(&format!("{url}/stats")).unwrap().body).unwrap() };
    let counted = counts(&url, |table| {
        stats()["tables"][table]["items"].as_u64().unwrap_or(0)
    });

    assert_eq!(counted, stored);
    let (rows, _) = stored.last().unwrap();
    let stats = stats();
    let skipped = stats["deduplicated_blocks"]["t"].as_u64().unwrap();
    assert_eq!(skipped + rows, 10, "{stats}");
    assert!(skipped > 2 && *rows > 4, "{stats}");
    assert_eq!(stats["deduplicated_blocks"]["u"], 1);
}

use super::*;

fn rows(statement: &str) -> Vec<Vec<Cell>> {
    match reply(statement, &mut Schema::of_the_collector()) {
        Reply::Rows(answer) => {
            assert!(
                answer
                    .rows
                    .iter()
                    .all(|row| row.len() == answer.columns.len())
            );
            answer.rows
        }
        other => panic!("{statement}: {other:?}"),
    }
}

#[test]
fn inserts_are_taken_apart() {
    let check = |statement: &str, table: &str, columns: &[&str], format: &str| {
        let insert = Insert::parse(statement).unwrap();
        assert_eq!(insert.table, table);
        assert_eq!(insert.columns, columns);
        assert_eq!(insert.format, format);
    };
    check(
        "INSERT INTO otel.otel_traces (a, `b.c`) FORMAT Native",
        "otel_traces",
        &["a", "b.c"],
        "Native",
    );
    check(
        "insert into `d`.`t` settings x=1 format RowBinary",
        "t",
        &[],
        "RowBinary",
    );
    check(
        "INSERT INTO t(\"a\") SETTINGS async_insert = 1 FORMAT JSONEachRow",
        "t",
        &["a"],
        "JSONEachRow",
    );
    check("INSERT INTO TABLE t VALUES", "t", &[], "Values");
    assert_eq!(Insert::parse("SELECT 1"), None);
    assert_eq!(Insert::parse("INSERTINTO x FORMAT y"), None);
}

#[test]
fn constants_are_answered() {
    assert_eq!(rows("SELECT version()"), [[text(VERSION)]]);
    assert_eq!(
        rows("SELECT displayName(), version(), revision(), timezone()"),
        [[
            text("loadgen-sink"),
            text(VERSION),
            Cell::U32(REVISION),
            text("UTC")
        ]]
    );
    assert_eq!(
        rows("SELECT version() AS v, timezone(), 1 FORMAT JSON"),
        [[text(VERSION), text("UTC"), Cell::U8(1)]]
    );
}

#[test]
fn tables_are_described() {
    assert_eq!(rows("EXISTS TABLE default.otel_logs"), [[Cell::U8(1)]]);
    assert_eq!(rows("EXISTS nothing"), [[Cell::U8(0)]]);
    assert_eq!(rows("DESC TABLE `otel`.`otel_traces`").len(), 22);
    assert_eq!(rows("DESCRIBE TABLE otel_traces FORMAT JSON").len(), 22);
    assert_eq!(rows("SHOW CREATE TABLE otel_logs").len(), 1);
    let query =
        "SELECT name, type, position FROM system.columns WHERE table = 'otel_traces_trace_id_ts'";
    assert_eq!(
        rows(query)[1],
        [text("Start"), text("DateTime"), Cell::U64(2)]
    );
    assert!(rows("SELECT name FROM system.columns WHERE table = 'absent'").is_empty());
    assert_eq!(
        rows("SELECT engine FROM system.tables WHERE name = 'otel_logs'"),
        [[text("Null")]]
    );
    assert!(rows("SELECT name, value FROM system.settings").is_empty());
}

#[test]
fn created_tables_exist() {
    let mut schema = Schema::of_the_collector();
    assert_eq!(
        reply("CREATE TABLE x.y (a String) ENGINE = Null", &mut schema),
        Reply::Done
    );
    assert_eq!(reply("EXISTS x.y", &mut schema), one("result", Cell::U8(1)));
}

#[test]
fn what_the_sink_cannot_know_it_does_not_make_up() {
    for statement in [
        "",
        "SELECT count() FROM otel_traces",
        "EXPLAIN x",
        "SELECT",
        "DESC nothing",
        "SELECT f()",
    ] {
        assert_eq!(
            reply(statement, &mut Schema::of_the_collector()),
            Reply::Unknown,
            "{statement}"
        );
    }
}

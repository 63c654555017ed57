"""Drives `tidegate localdb` with clickhouse-connect, ClickHouse's Python client. Argument: the port."""

import datetime
import decimal
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

PORT = int(sys.argv[1])
COLUMNS = ["id", "s", "n", "l", "a", "m", "t", "d", "e"]
ROWS = 50_000


def row(index):
    return [
        index,
        f"s{index}",
        None if index % 3 else index,
        f"l{index % 5}",
        [f"a{index}"],
        {"k": f"v{index}"},
        datetime.datetime(2024, 1, 1, 0, 0, index % 60),
        decimal.Decimal("1.5"),
        "a",
    ]


def error_of(client, sql, **arguments):
    try:
        client.query(sql, **arguments)
    except DatabaseError as error:
        return str(error)
    raise AssertionError(f"no error: {sql}")


def check_rows(compression):
    client = clickhouse_connect.get_client(host="127.0.0.1", port=PORT, compress=compression)
    client.command("DROP TABLE IF EXISTS cc")
    client.command(
        "CREATE TABLE cc (id UInt64, s String, n Nullable(Int32), l LowCardinality(String), a Array(String), "
        "m Map(String, String), t DateTime64(9), d Decimal(18, 4), e Enum8('a' = 1, 'b' = 2)) "
        "ENGINE = MergeTree ORDER BY id"
    )
    summary = client.insert("cc", [row(index) for index in range(ROWS)], column_names=COLUMNS)
    assert summary.written_rows == ROWS, summary.written_rows
    found = client.query("SELECT * FROM cc ORDER BY id").result_rows
    assert len(found) == ROWS, len(found)
    for index in (0, 1, 2, ROWS - 1):
        assert list(found[index]) == row(index), found[index]
    with client.query_row_block_stream("SELECT number FROM numbers(1000000)") as stream:
        assert sum(len(block) for block in stream) == 1_000_000
    client.raw_insert("cc", ["id"], b"1000001\n1000002\n", fmt="CSV")
    assert client.command("SELECT count() FROM cc WHERE id > 1000000") == 2


def check_queries():
    client = clickhouse_connect.get_client(host="127.0.0.1", port=PORT)
    assert client.ping()
    text = "it's\n\t\\ ü"
    parameters = {"x": 41, "s": text, "a": ["p", "q"]}
    found = client.query("SELECT {x:UInt32} + 1, {s:String}, {a:Array(String)}", parameters=parameters)
    assert found.result_rows == [(42, text, ["p", "q"])], found.result_rows
    assert client.query("SELECT %(x)s", parameters={"x": "a'b"}).result_rows == [("a'b",)]
    found = client.query("SELECT getSetting('max_threads')", settings={"max_threads": 5})
    assert found.result_rows == [(5,)], found.result_rows
    client.command("CREATE TEMPORARY TABLE session_table (a Int8)")
    assert client.command("SELECT count() FROM session_table") == 0
    client.command("CREATE DATABASE IF NOT EXISTS other")
    other = clickhouse_connect.get_client(host="127.0.0.1", port=PORT, database="other", username="any", password="x")
    assert other.command("SELECT currentDatabase()") == "other"
    assert client.raw_query("SELECT 1 AS x FORMAT JSONEachRow") == b'{"x":1}\n'


def check_errors():
    client = clickhouse_connect.get_client(host="127.0.0.1", port=PORT)
    assert "UNKNOWN_TABLE" in error_of(client, "SELECT * FROM nope")
    assert "SYNTAX_ERROR" in error_of(client, "SELECT (1")
    late = "SELECT throwIf(number = 3000000) FROM numbers(4000000)"
    assert "395" in error_of(client, late, settings={"max_threads": 1, "max_block_size": 1000})


for method in ("lz4", "zstd", "gzip", False):
    check_rows(method)
check_queries()
check_errors()
print("ok")

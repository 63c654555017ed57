"""What became of the telemetry: counts at each station, and the verdict on them."""

import json
import re

from processes import Failure, fetch

SIGNALS = ["spans", "metric_points", "log_records"]

# How each signal is called by target-svc, and where it lies in an OTLP/JSON request.
SERVICE_NAMES = {"spans": "spans", "metric_points": "metric_data_points", "log_records": "log_records"}
FILES = {"spans": "traces.jsonl", "metric_points": "metrics.jsonl", "log_records": "logs.jsonl"}


class ClickHouse:
    """Queries over HTTP."""

    def __init__(self, address):
        self.url = f"http://{address}/"

    def rows(self, sql):
        """Rows as lists of values."""
        text = fetch(self.url, sql + " FORMAT JSONCompactEachRow")
        return [json.loads(line) for line in text.splitlines()]

    def number(self, sql):
        return int(self.rows(sql)[0][0])

    def tables(self):
        return {row[0] for row in self.rows("SELECT name FROM system.tables WHERE database = currentDatabase()")}


def sent(path):
    """Per signal: what the service created, exported, failed to export and dropped."""
    counts = json.loads(path.read_text())
    return {signal: counts[name] for signal, name in SERVICE_NAMES.items()}


def agent_counters(address, prefix):
    """Per signal: the sum of the agent's counters `PREFIX_SIGNAL`, over all label values."""
    text = fetch(f"http://{address}/metrics")
    return {signal: sum_of(text, f"{prefix}_{signal}") for signal in SIGNALS}


def sum_of(text, name):
    values = re.findall(rf"^{re.escape(name)}(?:_total)?(?:\{{[^\n]*\}})? (\S+)", text, re.MULTILINE)
    return int(sum(float(value) for value in values))


def stored(clickhouse, files):
    """Per signal: rows in ClickHouse, and how many of them are there more than once."""
    tables = clickhouse.tables()
    metrics = sorted(it for it in tables if it.startswith("otel_metrics_"))
    points = [stored_in(clickhouse, it, metric_key(clickhouse, it)) for it in metrics]
    # Times in the metrics tables are whole seconds, so two collections within one may leave equal rows. The files
    # have the nanoseconds and tell how many of these there must be.
    again = sum(again for _, again in points) - equal_within_seconds(files / FILES["metric_points"])
    return {
        "spans": stored_in(clickhouse, "otel_traces", "TraceId, SpanId", tables),
        "metric_points": (sum(rows for rows, _ in points), max(0, again)),
        "log_records": stored_in(clickhouse, "otel_logs", "Timestamp, TraceId, SpanId, Body", tables),
    }


def stored_in(clickhouse, table, key, tables=None):
    if tables is not None and table not in tables:
        return 0, 0
    rows, again = clickhouse.rows(f"SELECT toInt64(count()), toInt64(count() - uniqExact({key})) FROM {table}")[0]
    return int(rows), int(again)


def metric_key(clickhouse, table):
    """What makes a point unique, as far as the table tells."""
    columns = clickhouse.rows(f"SELECT name FROM system.columns WHERE table = '{table}' AND database = currentDatabase()")
    names = {row[0] for row in columns}
    values = [it for it in ["Value", "Count", "Sum"] if it in names]
    return ", ".join(["MetricName", "Attributes", "ServiceName", "toDateTime(TimeUnix)"] + values)


def equal_within_seconds(path):
    """How many different points differ in nothing but the fraction of their second."""
    points = set()
    for request in requests_in(path):
        for metric, point in metric_points_of(request):
            values = [point.get(it) for it in ["asInt", "asDouble", "count", "sum"]]
            points.add((metric, json.dumps(point.get("attributes", [])), int(point["timeUnixNano"]), *values))
    by_second = {(metric, attributes, nanos // 10**9, *values) for metric, attributes, nanos, *values in points}
    return len(points) - len(by_second)


def in_files(folder):
    """Per signal: items in the files that the agent has written."""
    return {signal: count_lines(folder / name, signal) for signal, name in FILES.items()}


def count_lines(path, signal):
    count = {"spans": spans_in, "metric_points": points_in, "log_records": records_in}[signal]
    return sum(count(request) for request in requests_in(path))


def requests_in(path):
    """The requests in a file, one on each line; none if there is no file."""
    if not path.exists():
        return
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def spans_in(request):
    return sum(len(scope.get("spans", [])) for it in request["resourceSpans"] for scope in it.get("scopeSpans", []))


def records_in(request):
    return sum(len(scope.get("logRecords", [])) for it in request["resourceLogs"] for scope in it.get("scopeLogs", []))


def points_in(request):
    return sum(1 for _ in metric_points_of(request))


def metric_points_of(request):
    """Each data point with the name of its metric."""
    scopes = [scope for it in request["resourceMetrics"] for scope in it.get("scopeMetrics", [])]
    for metric in (metric for scope in scopes for metric in scope.get("metrics", [])):
        for data in metric.values():
            if isinstance(data, dict):
                yield from ((metric["name"], point) for point in data.get("dataPoints", []))


class Verdict:
    """Whether every station has the same counts."""

    def __init__(self, service, accepted, rows, files):
        self.sent = sum(service[it]["created"] for it in SIGNALS)
        self.stored = sum(rows[it][0] for it in SIGNALS)
        self.duplicated = sum(rows[it][1] for it in SIGNALS)
        # Counted for each signal: what one has too much does not make up for what another lacks.
        self.lost = sum(max(0, service[it]["created"] - (rows[it][0] - rows[it][1])) for it in SIGNALS)
        self.problems = [problem for it in SIGNALS for problem in problems_of(it, service[it], accepted[it], rows[it], files[it])]

    def __str__(self):
        counts = f"sent={self.sent} stored={self.stored} lost={self.lost} duplicated={self.duplicated}"
        if self.problems:
            return f"demo: FAILED {'; '.join(self.problems)}; {counts}"
        return f"demo: OK {counts}"


def problems_of(signal, service, accepted, rows, files):
    created, name = service["created"], signal.replace("_", " ")
    if created == 0:
        yield f"the service created no {name}"
    if service["exported"] != created:
        yield f"the service exported {service['exported']} of {created} {name}"
    if accepted != created:
        yield f"the agent accepted {accepted} of {created} {name}"
    if rows[0] != created or rows[1] != 0:
        yield f"ClickHouse holds {rows[0]} of {created} {name}, {rows[1]} of them twice"
    if files != created:
        yield f"the files hold {files} of {created} {name}"


def check_tables(clickhouse):
    missing = {"otel_traces", "otel_logs"} - clickhouse.tables()
    if missing:
        raise Failure(f"ClickHouse lacks the tables {', '.join(sorted(missing))}")

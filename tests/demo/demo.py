#!/usr/bin/env python3
"""The whole flow once: a service under load, the agent, ClickHouse and files, and whether the counts agree.

    python3 tests/demo/demo.py        (or: make demo)

Environment: DEMO_SECONDS (20), DEMO_RATE (1000 requests per second), DEMO_WORKERS (16),
DEMO_PROFILE (release; or debug), DEMO_BUILD (1; 0 takes the binaries as they are).
The data of each run stays in a folder under .data/demo; the newest three are kept.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

from counts import SIGNALS, ClickHouse, Verdict, agent_counters, check_tables, in_files, sent, stored
from processes import Failure, Ports, Process, answers, connects

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / ".data" / "demo"
RUNS_KEPT = 3

START_SECONDS = 60
STOP_SECONDS = 60
# The engine is fetched once, and a first release build takes minutes.
BUILD_SECONDS = 3600


class Options:
    """What the environment asks for."""

    def __init__(self):
        self.seconds = number("DEMO_SECONDS", 20)
        self.rate = number("DEMO_RATE", 1000)
        self.workers = number("DEMO_WORKERS", 16)
        self.profile = os.environ.get("DEMO_PROFILE", "release")
        if self.profile not in ("release", "debug"):
            raise Failure(f"DEMO_PROFILE is release or debug, not {self.profile}")
        self.build = os.environ.get("DEMO_BUILD", "1") != "0"
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.binaries = ROOT / target / self.profile

    def binary(self, name):
        path = self.binaries / name
        if not path.exists():
            raise Failure(f"{path} is not built")
        return path


class Demo:
    """The processes of a run. Leaving it ends those that are left."""

    def __init__(self, options):
        self.options = options
        self.folder = new_run()
        self.processes = []
        ports = Ports()
        self.clickhouse = ports.pick(8123)
        self.otlp_grpc = ports.pick(4317)
        self.otlp_http = ports.pick(4318)
        self.metrics = ports.pick(8888)
        self.service = ports.pick(8080)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()

    def start(self, name, binary, args, env=None):
        process = Process(name, [self.options.binary(binary), *args], self.folder, env)
        self.processes.append(process)
        return process

    def start_localdb(self):
        args = ["localdb", "--listen", self.clickhouse, "--path", self.folder / "db"]
        process = self.start("localdb", "tidegate", args)
        process.wait_until("answer to /ping", lambda: answers(f"http://{self.clickhouse}/ping"), START_SECONDS)
        return process

    def start_agent(self):
        env = {
            "DEMO_OTLP_GRPC": self.otlp_grpc,
            "DEMO_OTLP_HTTP": self.otlp_http,
            "DEMO_CLICKHOUSE": f"http://{self.clickhouse}",
            "DEMO_FILES": str(self.folder / "files"),
            "DEMO_METRICS": self.metrics,
        }
        process = self.start("agent", "tidegate", ["run", "--config", ROOT / "configs/agent/demo.toml"], env)
        ready = lambda: connects(self.otlp_grpc) and answers(f"http://{self.metrics}/metrics")
        process.wait_until("open ports", ready, START_SECONDS)
        return process

    def start_service(self):
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.otlp_grpc}", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
        args = ["--listen", self.service, "--counts-file", self.folder / "sent.json"]
        process = self.start("target-svc", "target-svc", args, env)
        process.wait_until("answer to /health", lambda: answers(f"http://{self.service}/health"), START_SECONDS)
        return process

    def run_load(self):
        """Shows the progress and the summary of loadgen as they come."""
        options = self.options
        args = ["http", f"http://{self.service}/api/vector/add", "--vector-size", 64]
        # A busy machine may leave requests unsent; that shows in the summary and is no failure here.
        args += ["--max-error-rate", 1, "--rate", options.rate, "--workers", options.workers, "--duration", f"{options.seconds}s"]
        args += ["--json", self.folder / "load.json", "--save", "--clickhouse", f"http://{self.clickhouse}"]
        process = self.start("loadgen", "loadgen", args)
        process.wait(options.seconds + STOP_SECONDS)
        print(process.log.read_text(), flush=True)
        load = json.loads((self.folder / "load.json").read_text())
        if load["errors"]:
            raise Failure(f"{load['errors']} of {load['requests']} requests failed")


def main():
    signal.signal(signal.SIGTERM, interrupt)
    try:
        verdict = run(Options())
    except Failure as failure:
        reason, _, details = str(failure).partition("\n")
        if details:
            print(details, flush=True)
        print(f"demo: FAILED {reason}", flush=True)
        return 1
    except KeyboardInterrupt:
        print("demo: FAILED interrupted", flush=True)
        return 130
    print(verdict, flush=True)
    return 1 if verdict.problems else 0


def interrupt(*_):
    raise KeyboardInterrupt


def run(options):
    prepare(options)
    with Demo(options) as demo:
        say(f"ClickHouse, agent and service start ({demo.folder.relative_to(ROOT)})")
        localdb = demo.start_localdb()
        agent = demo.start_agent()
        service = demo.start_service()

        say(f"Load: {options.rate} requests per second for {options.seconds} s")
        demo.run_load()

        for process in (localdb, agent, service):
            process.check_running()
        say("Stopping the service, which sends what is left, and the agent, which stores it")
        service.stop(STOP_SECONDS)
        created = sent(demo.folder / "sent.json")
        accepted = agent_counters(demo.metrics, "otelcol_receiver_accepted")
        agent_use = agent.stop(STOP_SECONDS)

        clickhouse = ClickHouse(demo.clickhouse)
        check_tables(clickhouse)
        rows = stored(clickhouse, demo.folder / "files")
        files = in_files(demo.folder / "files")
        report(created, accepted, rows, files)
        report_endpoints(clickhouse)
        report_use(agent_use, created)
        localdb.stop(STOP_SECONDS)
        report_data(options, demo)
    return Verdict(created, accepted, rows, files)


def prepare(options):
    """Builds the binaries and fetches the engine, where that has not been done."""
    if options.build:
        say("Building")
        profile = ["--release"] if options.profile == "release" else []
        execute(["cargo", "build", *profile, "-p", "tidegate", "-p", "target-svc", "-p", "loadgen"])
    say("The embedded ClickHouse engine")
    execute([str(options.binary("tidegate")), "localdb", "--fetch-only"])


def execute(command):
    """Runs a command in the foreground; it is ended with the demo."""
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        status = child.wait(BUILD_SECONDS)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if status != 0:
        raise Failure(f"`{' '.join(command)}` ended with status {status}")


def new_run():
    """A fresh folder for this run. The oldest runs beyond those kept are removed."""
    runs = DATA / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for old in sorted(runs.iterdir())[: -(RUNS_KEPT - 1)]:
        print(f"removing the data of an old run, {old.relative_to(ROOT)}")
        shutil.rmtree(old)
    folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir()
    return folder


def report(created, accepted, rows, files):
    say("Telemetry, from the service to the tables")
    head = ["", "created", "sent", "failed", "dropped", "accepted", "stored", "twice", "in files"]
    lines = []
    for signal_name in SIGNALS:
        count = created[signal_name]
        lines.append([
            signal_name.replace("_", " "), count["created"], count["exported"], count["failed"], count["dropped"],
            accepted[signal_name], *rows[signal_name], files[signal_name],
        ])
    table(head, lines)


def report_endpoints(clickhouse):
    say("Slowest endpoints by the 95th percentile of their spans, milliseconds")
    rows = clickhouse.rows(
        "SELECT SpanName, toInt64(count()), round(quantile(0.5)(Duration) / 1e6, 3), "
        "round(quantile(0.95)(Duration) / 1e6, 3) AS p95, round(max(Duration) / 1e6, 3) "
        "FROM otel_traces WHERE SpanKind = 'Server' GROUP BY SpanName ORDER BY p95 DESC LIMIT 10"
    )
    table(["endpoint", "spans", "p50", "p95", "max"], rows)


def report_use(use, created):
    items = sum(created[it]["created"] for it in SIGNALS)
    say("The agent, from start to end")
    per_million = use.cpu_seconds / items * 1e6 if items else 0
    print(f"CPU {use.cpu_seconds:.2f} s ({per_million:.1f} s per million items), peak memory {use.peak_bytes / 2**20:.1f} MiB")


def report_data(options, demo):
    folder = demo.folder.relative_to(ROOT)
    tidegate = options.binary("tidegate")
    tidegate = tidegate.relative_to(ROOT) if tidegate.is_relative_to(ROOT) else tidegate
    say("The data stays; to look at it")
    print(f"{tidegate} localdb --path {folder}/db --listen 127.0.0.1:8123")
    print("curl 'http://127.0.0.1:8123/' --data-binary "
          "\"SELECT SpanName, count(), quantile(0.95)(Duration) / 1e6 AS p95_ms FROM otel_traces GROUP BY SpanName FORMAT PrettyCompact\"")
    print(f"{tidegate.parent}/loadgen history")
    print(f"files: {folder}/files, logs: {folder}/*.log\n")


def table(head, rows):
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        first = row[0].ljust(widths[0])
        print("  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip())


def say(text):
    print(f"\n== {text}", flush=True)


def number(name, default):
    text = os.environ.get(name, str(default))
    if not text.isdigit() or int(text) == 0:
        raise Failure(f"{name} is a whole number above 0, not `{text}`")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

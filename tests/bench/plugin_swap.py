#!/usr/bin/env python3
"""How soon a plugin's new file and configuration show in what comes out, and what idle plugins cost in memory.

    plugin_swap.py AGENT PLUGIN.wasm

PLUGIN is the example set-attribute. An agent passes spans on to this script over OTLP while its plugin's file is replaced,
its configuration is changed and it is asked to reload; each swap is timed from the signal to the first span that has
the new value. Then agents with 0, 1 and 9 plugins idle. Loopback only; part of `make bench`.
"""

import http.client
import http.server
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

SWAPS = 20
# The agent compiles a file that it has not seen.
SWAP_MAX = 30.0
START_MAX = 30.0
PLUGINS = 9

SPAN = (
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",'
    b'"spanId":"eee19b7ec3c1b174","name":"swap","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}'
)


class Sink(http.server.ThreadingHTTPServer):
    """Takes OTLP and notes when a value that is waited for is first seen."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.wanted = b""
        self.seen = threading.Event()
        self.seen_at = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.wanted and self.server.wanted in body and not self.server.seen.is_set():
            self.server.seen_at = time.monotonic()
            self.server.seen.set()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Agent:
    """An agent with `plugins` pipelines of spans, each with a plugin of its own; with one pipeline and none, if it is 0."""

    def __init__(self, binary, folder, wasm, sink, plugins):
        self.binary, self.folder, self.wasm, self.sink, self.plugins = binary, folder, wasm, sink, plugins
        self.config = folder / "agent.toml"
        self.write("first")
        log = open(folder / "agent.log", "w+")
        environment = os.environ | {"XDG_CACHE_HOME": str(folder.parent / "cache")}
        self.process = subprocess.Popen(
            [binary, "run", "--config", self.config], stderr=log, env=environment
        )
        self.ports = self.listening(log.name)

    def write(self, value):
        names = [f"traces/{number}" for number in range(max(1, self.plugins))]
        tables = [
            f"""
[receivers."otlp/{number}".protocols.http]
endpoint = "127.0.0.1:0"
[service.pipelines."{name}"]
receivers = ["otlp/{number}"]
exporters = ["otlp_http"]
"""
            for number, name in enumerate(names)
        ]
        for number in range(self.plugins):
            tables[number] += f"""processors = ["wasm/{number}"]
[processors."wasm/{number}"]
path = "{self.wasm}"
[processors."wasm/{number}".config]
key = "swap"
value = "{value}"
"""
        text = f"""
[exporters.otlp_http]
endpoint = "http://127.0.0.1:{self.sink.server_address[1]}"
compression = "none"
[service.reload]
watch = false
[service.telemetry.metrics]
level = "none"
{"".join(tables)}"""
        self.config.write_text(text)

    def listening(self, log):
        end = time.monotonic() + START_MAX
        while time.monotonic() < end:
            text = pathlib.Path(log).read_text()
            if "everything is ready" in text:
                return [
                    int(line.rsplit(":", 1)[1].strip().strip('"'))
                    for line in text.splitlines()
                    if 'listening receiver="otlp/' in line
                ]
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise SystemExit(f"the agent did not start:\n{pathlib.Path(log).read_text()}")

    def memory_mib(self):
        """What is resident, with pages of files such as its own code; and of that what it has made for itself."""
        lines = (line.split() for line in open(f"/proc/{self.process.pid}/smaps_rollup"))
        kib = {words[0]: int(words[1]) for words in lines if words[0] in ("Rss:", "Anonymous:")}
        return kib["Rss:"] / 1024, kib["Anonymous:"] / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def send_until(port, stop, refused):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while not stop.is_set():
        connection.request("POST", "/v1/traces", SPAN, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            refused.append(answer.status)
    connection.close()


def with_custom_section(wasm, text):
    """The same plugin in another file: components may carry sections that nobody reads."""
    content = bytes([4]) + b"note" + text.encode()
    return wasm + bytes([0, len(content)]) + content


def replace(path, content):
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


def swaps(binary, folder, plugin, sink):
    """Seconds of each swap: of the first to a file never seen, and of those to files in the cache."""
    wasm = folder / "plugin.wasm"
    variants = [with_custom_section(plugin, text) for text in ("a", "b")]
    replace(wasm, variants[0])
    agent = Agent(binary, folder, wasm, sink, 1)
    stop, refused = threading.Event(), []
    sender = threading.Thread(target=send_until, args=(agent.ports[0], stop, refused))
    sender.start()
    took = []
    try:
        for number in range(1 + SWAPS):
            value = f"value-{number:04}"
            sink.wanted = b""
            sink.seen.clear()
            sink.wanted = value.encode()
            replace(wasm, variants[(number + 1) % 2])
            agent.write(value)
            asked = time.monotonic()
            agent.process.send_signal(signal.SIGHUP)
            if not sink.seen.wait(SWAP_MAX):
                log = (folder / "agent.log").read_text()
                raise SystemExit(f"the new plugin was not seen in {SWAP_MAX} s:\n{log}")
            took.append(sink.seen_at - asked)
    finally:
        stop.set()
        sender.join()
        agent.stop()
    if refused:
        raise SystemExit(f"{len(refused)} requests were refused while a plugin was swapped: {set(refused)}")
    return took[0], took[1:]


def idle_mib(binary, folder, plugin, sink, plugins):
    wasm = folder / "plugin.wasm"
    replace(wasm, plugin)
    agent = Agent(binary, folder, wasm, sink, plugins)
    try:
        # Each has worked once, so that what a first call takes is counted.
        for port in agent.ports:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", "/v1/traces", SPAN, {"Content-Type": "application/json"})
            if connection.getresponse().status != 200:
                raise SystemExit("the agent does not take a span")
            connection.close()
        return agent.memory_mib()
    finally:
        agent.stop()


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    binary, plugin = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes()
    sink = Sink()
    with tempfile.TemporaryDirectory() as root:
        folders = iter(range(10))

        def folder():
            made = pathlib.Path(root) / str(next(folders))
            made.mkdir()
            return made

        first, later = swaps(binary, folder(), plugin, sink)
        # Compiling leaves memory behind: the file is in the cache for those that count.
        idle_mib(binary, folder(), plugin, sink, 1)
        none, one, many = (idle_mib(binary, folder(), plugin, sink, plugins) for plugins in (0, 1, PLUGINS))
    print(f"swap, to a file never seen           {first * 1e3:10.1f} ms (it is compiled)")
    print(
        f"swap, to a file in the cache         {statistics.median(later) * 1e3:10.1f} ms"
        f" (median of {SWAPS}; least {min(later) * 1e3:.1f}, greatest {max(later) * 1e3:.1f}; goal 100)"
    )
    each = [(all_of_them - first) / (PLUGINS - 1) for all_of_them, first in zip(many, one)]
    for what, (resident, own) in {
        "idle agent without a plugin": none,
        "idle agent with one": one,
        f"each further, mean of {PLUGINS - 1}; goal 4": each,
    }.items():
        print(f"{what:<37}{resident:10.1f} MiB resident, {own:.1f} of them not from files")


if __name__ == "__main__":
    main()

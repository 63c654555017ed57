"""Sends uniquely numbered log records over OTLP/HTTP all the time, and remembers what was answered to each request."""

import collections
import http.client
import json
import select
import threading
import time

ITEMS = 10  # in each request


def is_closed(connection):
    """Whether the server has ended an idle connection, which clients look at before they use one again."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


class Sender:
    """A few connections that send until they are stopped. No number is sent twice."""

    def __init__(self, run, port=4318, connections=4):
        self.run, self.port = run, port
        self.numbers = iter(range(1 << 40))
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        # How requests ended, by word, and the first number of each.
        self.firsts = collections.defaultdict(list)
        self.slowest = 0.0
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(connections)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def work(self):
        connection = None
        while not self.stopping.is_set():
            with self.lock:
                first = next(self.numbers) * ITEMS
            started = time.monotonic()
            if connection is not None and is_closed(connection):
                connection.close()
                connection = None
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                outcome = self.post(connection, first)
            except ConnectionRefusedError:
                outcome = "refused connection"
            except (OSError, http.client.HTTPException):
                outcome = "broken"
            if outcome in ("broken", "refused connection"):
                connection.close()
                connection = None
            with self.lock:
                self.firsts[outcome].append(first)
                self.slowest = max(self.slowest, time.monotonic() - started)
            # A steady load that leaves the machine time for everything else.
            self.stopping.wait(0.01 if outcome == "accepted" else 0.05)

    def post(self, connection, first):
        records = [
            {
                "timeUnixNano": str(time.time_ns()),
                "severityText": "INFO",
                "body": {"stringValue": "numbered"},
                "attributes": [
                    {"key": "run", "value": {"stringValue": self.run}},
                    {"key": "n", "value": {"stringValue": str(number)}},
                ],
            }
            for number in range(first, first + ITEMS)
        ]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "proof"}}]}
        body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/logs", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 200:
            return "accepted" if b"rejected" not in text else "partial"
        return f"status {answer.status}"

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def count(self, outcome):
        with self.lock:
            return len(self.firsts[outcome])

    def judge(self, stored):
        """Compares with how often each number is stored. What was accepted is stored once; what was refused is not; what had
        no answer may be either."""
        lost = doubled = 0
        for outcome, firsts in self.firsts.items():
            for first in firsts:
                for number in range(first, first + ITEMS):
                    times = stored.pop(number, 0)
                    doubled += times > 1
                    lost += outcome == "accepted" and times == 0
                    doubled += outcome not in ("accepted", "broken") and times == 1
        ended = {outcome: len(firsts) * ITEMS for outcome, firsts in sorted(self.firsts.items())}
        return {
            "items": ended,
            "lost": lost,
            "doubled": doubled,
            "never sent": len(stored),
            "slowest request": f"{self.slowest:.2f} s",
        }

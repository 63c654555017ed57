"""Processes of the demo: started in groups of their own, waited for, and never left behind."""

import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failure(Exception):
    """The demo cannot go on; the message says why."""


class Usage:
    """What an ended process has used: CPU seconds and peak memory in bytes."""

    def __init__(self, usage):
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.peak_bytes = usage.ru_maxrss * 1024


class Process:
    """A child with its output in a log file. It dies with the demo, even if that is killed."""

    def __init__(self, name, command, folder, env=None):
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1", **(env or {})},
                start_new_session=True,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    def running(self):
        return self.child.returncode is None and self._reap(os.WNOHANG) is None

    def check_running(self):
        if not self.running():
            raise Failure(f"{self.name} ended with status {self.child.returncode}\n{self.tail()}")

    def wait_until(self, what, condition, seconds):
        """Calls `condition` until it is true. Fails if the process ends or the time does."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.running():
                raise Failure(f"{self.name} ended before {what}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise Failure(f"{self.name}: no {what} within {seconds} s\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, seconds):
        """Asks the process to end (SIGTERM) and returns what it has used."""
        if self.running():
            os.kill(self.child.pid, signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds):
        """Waits for a good end and returns what the process has used."""
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} did not end within {seconds} s\n{self.tail()}")
            time.sleep(0.02)
        if self.child.returncode != 0:
            raise Failure(f"{self.name} ended with status {self.child.returncode}\n{self.tail()}")
        return self.usage

    def kill(self):
        """Ends the process and everything it has started."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if self.child.returncode is None:
            self._reap(0)

    def tail(self, lines=15):
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {self.name}| {line[:300]}" for line in text[-lines:])

    def _reap(self, options):
        pid, status, usage = os.wait4(self.child.pid, options)
        if pid == 0:
            return None
        self.usage = Usage(usage)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        return self.child.returncode


class Ports:
    """The usual port where it is free, any free one otherwise; none twice."""

    def __init__(self):
        self.taken = set()

    def pick(self, usual):
        for port in [usual] + [0] * 50:
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                found = probe.getsockname()[1]
            if found not in self.taken:
                self.taken.add(found)
                return f"127.0.0.1:{found}"
        raise Failure("no free port on 127.0.0.1")


def fetch(url, body=None, seconds=60):
    """The body of the answer to a GET, or to a POST of `body`."""
    data = None if body is None else body.encode()
    try:
        with urllib.request.urlopen(url, data, timeout=seconds) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise Failure(f"{url} answers {error.code}: {error.read().decode(errors='replace')[:500]}") from error
    except OSError as error:
        raise Failure(f"{url} cannot be reached: {error}") from error


def answers(url):
    """Whether a GET of `url` succeeds."""
    try:
        fetch(url, seconds=2)
        return True
    except Failure:
        return False


def connects(address):
    """Whether somebody listens at `HOST:PORT`."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
        return True
    except OSError:
        return False

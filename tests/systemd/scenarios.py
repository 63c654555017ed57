#!/usr/bin/env python3
"""The service under a real systemd, from installing it to stopping it. Run by `boot.sh`, as root of a machine that is thrown away:

    tests/systemd/boot.sh python3 REPOSITORY/tests/systemd/scenarios.py TIDEGATE            the binary, and the units in systemd/
    tests/systemd/boot.sh python3 REPOSITORY/tests/systemd/scenarios.py --package FILE      what is in the package

Ends with 0 if everything held, 1 if not.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE))

import sender  # noqa: E402

PATIENCE = 60  # seconds for anything; the machine may be busy
WATCHDOG = 3  # seconds, instead of 30: the tests wait for it
EXPOSURE_MAX = 2.0
CONFIG = pathlib.Path("/etc/tidegate/agent.toml")
BINARY = pathlib.Path("/usr/bin/tidegate")
PASSWORD = "hunter2-from-a-credential"

PACKAGE = sys.argv[sys.argv.index("--package") + 1] if "--package" in sys.argv else None

results = []


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def run(*command, status=0):
    """What it printed; fails unless it ends with `status` (`None`: any)."""
    done = subprocess.run(command, text=True, capture_output=True, timeout=2 * PATIENCE)
    if status is not None and done.returncode != status:
        output = done.stdout + done.stderr
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}, not {status}:\n{output}")
    return done.stdout + done.stderr


def eventually(what, probe):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


def show(name, unit="tidegate.service"):
    return run("systemctl", "show", "--property", name, "--value", unit).strip()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def query(sql):
    request = urllib.request.Request("http://127.0.0.1:8123/", sql.encode())
    request.add_header("X-ClickHouse-User", "default")
    request.add_header("X-ClickHouse-Key", PASSWORD)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def edit(old, new):
    text = CONFIG.read_text()
    check(old in text, f"{old!r} is in {CONFIG}")
    draft = CONFIG.with_suffix(".new")
    draft.write_text(text.replace(old, new))
    draft.chmod(0o644)
    draft.rename(CONFIG)


def drop_in(unit, text):
    folder = pathlib.Path(f"/etc/systemd/system/{unit}.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.conf").write_text(text)


def restarts():
    return int(show("NRestarts"))


def restarted(since):
    """Waits until systemd has started it again, and it is ready."""
    eventually("a restart", lambda: restarts() > since and show("ActiveState") == "active")


# === the scenarios, in order ===


def install(binary):
    """From the repository, as docs/systemd.md says."""
    units = REPOSITORY / "systemd"
    shutil.copy(binary, BINARY)
    for unit in ("tidegate.service", "tidegate.socket", "tidegate-localdb.service"):
        shutil.copy(units / unit, "/etc/systemd/system")
    run("systemd-sysusers", str(units / "tidegate.sysusers"))
    (CONFIG.parent / "credentials").mkdir(parents=True, mode=0o700)
    shutil.copy(units / "agent.toml", CONFIG)


def install_package():
    run("dpkg", "--install", PACKAGE)
    check(show("ActiveState") == "active", "the package starts the service")
    check(show("ActiveState", "tidegate.socket") == "active", "the package listens")
    check(show("ActiveState", "tidegate-localdb.service") == "inactive", "no database unasked")
    for page in ("tidegate.1", "tidegate-run.1"):
        check(pathlib.Path(f"/usr/share/man/man1/{page}.gz").exists(), page)
    check(pathlib.Path("/usr/share/bash-completion/completions/tidegate").exists(), "completions")
    run("systemctl", "stop", "tidegate.service", "tidegate.socket")


def units_are_right():
    names = ["tidegate.service", "tidegate.socket", "tidegate-localdb.service"]
    complaints = run("systemd-analyze", "verify", "--man=no", *names)
    check("tidegate" not in complaints, complaints)
    scores = {}
    for unit in ("tidegate.service", "tidegate-localdb.service"):
        text = run("systemd-analyze", "security", "--no-pager", unit, status=None)
        scores[unit] = float(re.search(r"exposure level for \S+: ([0-9.]+)", text).group(1))
        check(scores[unit] <= EXPOSURE_MAX, f"{unit} is exposed {scores[unit]}")
    return scores


def start():
    """Active only when it is ready; the database's password comes as a credential, readable for root only."""
    secret = CONFIG.parent / "credentials" / "clickhouse-password"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o400)
    drop_in("tidegate-localdb.service", f"[Service]\nEnvironment=TIDEGATE_LOCALDB_PASSWORD={PASSWORD}\n")
    drop_in("tidegate.service", f"[Service]\nWatchdogSec={WATCHDOG}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "tidegate-localdb.service")
    run("systemctl", "start", "tidegate.socket")
    check(show("ActiveState") == "inactive", "the socket alone starts nothing")
    run("systemctl", "start", "tidegate.service")
    # Asked once: it was ready when `systemctl start` returned.
    status, page = get("http://127.0.0.1:13133/")
    check(status == 200, page)
    check("3 pipelines" in show("StatusText"), show("StatusText"))
    check(show("User") == "tidegate" and pathlib.Path("/var/lib/tidegate/queue").is_dir(), "its own folder")
    log = run("journalctl", "--unit", "tidegate.service", "--output", "json", "--no-pager")
    entries = [json.loads(line) for line in log.splitlines()]
    ready = [entry for entry in entries if "everything is ready" in str(entry["MESSAGE"])]
    check(ready and ready[-1]["PRIORITY"] == "6", "levels are priorities")
    check(not ready[-1]["MESSAGE"].startswith(("20", "<")), ready[-1]["MESSAGE"])
    check(not any(entry["PRIORITY"] in "0123" for entry in entries), "a good start has no errors")
    check("nothing in the configuration does" not in log, "every socket is served")


def reload_good():
    pid, before = show("MainPID"), restarts()
    edit("limit_percentage = 20", "limit_percentage = 21")
    run("systemctl", "reload", "tidegate.service")
    check(show("MainPID") == pid and restarts() == before, "it is the same process")
    check(show("ActiveState") == "active", show("ActiveState"))


def reload_bad():
    pid, text = show("MainPID"), CONFIG.read_text()
    edit("[processors.batch]", "[processors.batch]\ntimeuot = 1")
    output = run("systemctl", "reload", "tidegate.service", status=1)
    check(show("ActiveState") == "active" and show("SubState") == "running", output)
    check(show("MainPID") == pid, "it is the same process")
    check("timeuot" in show("StatusText"), show("StatusText"))
    log = run("journalctl", "--unit", "tidegate.service", "--identifier", "tidegate", "--output", "json", "--no-pager")
    reasons = [entry for entry in map(json.loads, log.splitlines()) if "timeuot" in str(entry["MESSAGE"])]
    check(any(entry["_PID"] != pid for entry in reasons), "the command that failed says why")
    CONFIG.write_text(text)
    run("systemctl", "reload", "tidegate.service")
    check("refused" not in show("StatusText"), show("StatusText"))


def find():
    """Commands find the service, whether or not they can read its configuration."""
    text, gone = CONFIG.read_text(), "/etc/tidegate/gone.toml"
    check("unchanged" in run("tidegate", "reload"), "without anything")
    check("unchanged" in run("tidegate", "reload", "--config", str(CONFIG)), "with its configuration")
    check('"pipelines"' in run("tidegate", "top", "--once", "--json"), "top")
    edit("[processors.batch]", "[processors.batch]\ntimeuot = 1")
    for named in ([], ["--config", str(CONFIG)]):
        output = run("tidegate", "reload", *named, status=78)
        check("timeuot" in output and "refused: the agent runs as before" in output, output)
    CONFIG.write_text(text)
    output = run("tidegate", "reload", "--config", gone, status=78)
    check(gone in output and ("unchanged" in output or "reloaded" in output), output)
    # It moves to where its configuration says, and is found on the way there; back, where it says nothing, it notices by itself.
    edit("[service]\n", '[service]\nadmin.endpoint = "127.0.0.1:13134"\n')
    run("systemctl", "reload", "tidegate.service")
    check("unchanged" in run("tidegate", "reload"), "where its configuration says")
    check(not pathlib.Path("/run/tidegate/admin.sock").exists(), "the socket is gone")
    CONFIG.write_text(text)
    eventually("it to be back", lambda: "unchanged" in run("tidegate", "reload", status=None))
    run("systemctl", "stop", "tidegate.socket", "tidegate.service")
    output = run("tidegate", "reload", status=1)
    check("/run/tidegate/admin.sock: there is none" in output, output)
    run("systemctl", "start", "tidegate.socket", "tidegate.service")


def start_without_secrets():
    """The folder of credentials is empty: what has a default runs with that, and what has none is named."""
    secret = CONFIG.parent / "credentials" / "clickhouse-password"
    aside = CONFIG.parent / secret.name
    secret.rename(aside)
    run("systemctl", "restart", "tidegate.service")
    check(show("ActiveState") == "active" and get("http://127.0.0.1:13133/")[0] == 200, "it starts")
    text = CONFIG.read_text()
    edit("${credential:clickhouse-password:-}", "${credential:clickhouse-password}")
    output = run("systemctl", "reload", "tidegate.service", status=1)
    check("clickhouse-password" in show("StatusText"), show("StatusText") + output)
    CONFIG.write_text(text)
    aside.rename(secret)
    run("systemctl", "restart", "tidegate.service")
    check(show("ActiveState") == "active", show("ActiveState"))


def refuse_start():
    """A configuration that is wrong at the start ends the service, and it is not tried again and again."""
    text, before = CONFIG.read_text(), restarts()
    edit("[processors.batch]", "[processors.batch]\ntimeuot = 1")
    run("systemctl", "stop", "tidegate.socket", "tidegate.service")
    run("systemctl", "start", "tidegate.service", status=1)
    check(show("ExecMainStatus") == "78" and show("ActiveState") == "failed", show("ExecMainStatus"))
    CONFIG.write_text(text)
    run("systemctl", "start", "tidegate.socket", "tidegate.service")
    check(restarts() <= before, "it was not tried again")


def restart_wrong(load):
    """Clients that knock start it again, but not in a circle; when the configuration is mended, that is all it takes."""
    text, begun = CONFIG.read_text(), time.time()
    edit("[processors.batch]", "[processors.batch]\ntimeuot = 1")
    run("systemctl", "restart", "tidegate.service", status=1)
    failed = time.monotonic()
    while time.monotonic() < failed + 10:
        check(show("ActiveState", "tidegate.socket") == "active", "the sockets stay open")
        time.sleep(0.2)
    log = run("journalctl", "--unit", "tidegate.service", f"--since=@{begun:.0f}", "--no-pager", "--output=cat")
    tries = log.count("the configuration is not valid")
    check(2 <= tries <= 10, f"it was tried {tries} times in 10 s")
    accepted = load.count("accepted")
    CONFIG.write_text(text)
    eventually("accepted requests", lambda: load.count("accepted") > accepted + 20)
    check(load.count("refused connection") == 0, "a connection was refused")


def kill(load):
    for _ in range(3):
        before, accepted = restarts(), load.count("accepted")
        run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "tidegate.service")
        restarted(before)
        eventually("accepted requests", lambda: load.count("accepted") > accepted + 20)


def stop_process():
    """It does not move at all: the watchdog notices."""
    before = restarts()
    os.kill(int(show("MainPID")), 19)
    eventually("the watchdog", lambda: show("Result") == "watchdog" or restarts() > before)
    restarted(before)


def hang():
    """Its runtime's threads hang, and others, such as the watchdog's own, do not."""
    pid, before = int(show("MainPID")), restarts()
    command = [sys.executable, HERE / "freeze.py", str(pid), "tokio-rt"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as freezing:
        check(int(freezing.stdout.readline()) > 0, "there are threads to stop")
        eventually("the watchdog", lambda: show("Result") == "watchdog" or restarts() > before)
        restarted(before)
    log = run("journalctl", "--unit", "tidegate.service", f"_PID={pid}", "--no-pager")
    check("something hangs" in log, "the log says what hangs")


def database_away(load):
    """A destination that is down for several times the watchdog's interval is no hang."""
    before, pid = restarts(), show("MainPID")
    run("systemctl", "stop", "tidegate-localdb.service")
    end = time.monotonic() + 3 * WATCHDOG
    accepted = load.count("accepted")
    while time.monotonic() < end:
        time.sleep(0.2)
    check(restarts() == before and show("MainPID") == pid, "it was restarted")
    check(load.count("accepted") > accepted, "it takes data meanwhile")
    run("systemctl", "start", "tidegate-localdb.service")


def upgrade(load):
    """Another binary takes the old one's place under load; clients notice nothing but a wait."""
    before = load.count("refused connection")
    for _ in range(1 if PACKAGE else 3):
        accepted, old = load.count("accepted"), show("MainPID")
        if PACKAGE:
            run("dpkg", "--install", PACKAGE)
        else:
            new = BINARY.with_suffix(".new")
            shutil.copy(BINARY, new)
            new.rename(BINARY)
            run("systemctl", "restart", "tidegate.service")
        check(show("MainPID") != old, "another process")
        check(not os.readlink(f"/proc/{show('MainPID')}/exe").endswith("(deleted)"), "the new binary")
        eventually("accepted requests", lambda: load.count("accepted") > accepted + 20)
    check(load.count("refused connection") == before, "a connection was refused")


def upgrade_refused():
    """A new version that refuses the configuration does not take the old one's place."""
    pid, text = show("MainPID"), CONFIG.read_text()
    edit("[processors.batch]", "[processors.batch]\ntimeuot = 1")
    output = run("dpkg", "--install", PACKAGE)
    check("refuses /etc/tidegate/agent.toml" in output and "timeuot" in output, output)
    check(show("MainPID") == pid and show("ActiveState") == "active", "the old one runs")
    CONFIG.write_text(text)


def drain(load):
    """A stop may take as long as the agent needs, longer than the unit allows, because it asks for the time."""
    drop_in("tidegate.service", f"[Service]\nWatchdogSec={WATCHDOG}\nTimeoutStopSec=2\n")
    run("systemctl", "daemon-reload")
    edit('drain_timeout = "5s"', 'drain_timeout = "6s"')
    run("systemctl", "reload", "tidegate.service")
    run("systemctl", "stop", "tidegate-localdb.service")
    accepted = load.count("accepted")
    eventually("accepted requests", lambda: load.count("accepted") > accepted + 5)
    # The socket stays: clients wait.
    started = time.monotonic()
    run("systemctl", "stop", "tidegate.service")
    took = time.monotonic() - started
    check(took > 5, f"it stopped after {took:.1f} s")
    run("systemctl", "start", "tidegate-localdb.service", "tidegate.service")
    log = run("journalctl", "--unit", "tidegate.service", "--no-pager")
    check("stays in the logs on disk" in log, "it was not killed, and what was not delivered stays on disk")


def stop():
    run("systemctl", "stop", "tidegate.service", "tidegate.socket")
    check(show("Result") == "success" and show("ActiveState") == "inactive", show("Result"))
    check(not pathlib.Path("/run/tidegate/admin.sock").exists(), "its socket for commands is gone")


def activate():
    """With the socket alone, the first client starts the service."""
    run("systemctl", "start", "tidegate.socket")
    load = sender.Sender("activated", connections=1).start()
    eventually("an accepted request", lambda: load.count("accepted") > 0)
    load.stop()
    check(set(load.firsts) == {"accepted"}, load.firsts)
    check(show("ActiveState") == "active", "it was started")
    return load


def delivered(load):
    """Everything that was accepted is stored, once."""

    def queued():
        _, page = get("http://127.0.0.1:8888/metrics")
        lines = [line for line in page.splitlines() if line.startswith("tidegate_ledger_queued_items{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    eventually("an empty queue", lambda: queued() == 0)
    rows = query(
        "SELECT LogAttributes['n'], count() FROM otel_logs "
        f"WHERE LogAttributes['run'] = '{load.run}' GROUP BY 1 FORMAT TabSeparated"
    )
    stored = {int(number): int(times) for number, times in (row.split("\t") for row in rows.splitlines())}
    found = load.judge(stored)
    check(found["lost"] == found["doubled"] == found["never sent"] == 0, found)
    check(load.count("refused connection") == 0, found)
    check(load.count("accepted") > 0, found)
    return found


def remove():
    run("dpkg", "--remove", "tidegate")
    check(show("LoadState") in ("not-found", "masked"), show("LoadState"))
    check(CONFIG.exists() and pathlib.Path("/var/lib/tidegate").exists(), "removing keeps the data")
    run("dpkg", "--purge", "tidegate")
    check(not CONFIG.exists(), "purging does not keep the configuration")


# === running them ===


def scenario(function, *arguments):
    name = function.__name__.replace("_", " ")
    started = time.monotonic()
    found = function(*arguments)
    took = time.monotonic() - started
    print(f"ok   {name:<18} {took:5.1f} s   {json.dumps(found) if isinstance(found, dict) else ''}", flush=True)
    results.append(name)
    return found


def under_load(*functions):
    for function in functions:
        load = sender.Sender(function.__name__).start()
        eventually("the first requests", lambda: load.count("accepted") > 5)
        scenario(function, *([load] if function.__code__.co_argcount else []))
        accepted = load.count("accepted")
        eventually("the last requests", lambda: load.count("accepted") > accepted + 5)
        load.stop()
        scenario(delivered, load)


def main():
    if PACKAGE:
        scenario(install_package)
    else:
        scenario(install, sys.argv[1])
    run("systemctl", "daemon-reload")
    scenario(units_are_right)
    scenario(start)
    scenario(reload_good)
    scenario(reload_bad)
    scenario(find)
    scenario(start_without_secrets)
    scenario(refuse_start)
    under_load(restart_wrong, kill, stop_process, hang, database_away, upgrade, drain)
    if PACKAGE:
        scenario(upgrade_refused)
    scenario(stop)
    load = scenario(activate)
    scenario(delivered, load)
    scenario(stop)
    if PACKAGE:
        scenario(remove)
    print(f"{len(results)} scenarios held")


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, OSError, subprocess.SubprocessError) as problem:
        print(f"FAILED after {len(results)} scenarios: {problem}", file=sys.stderr)
        for unit in ("tidegate.service", "tidegate-localdb.service"):
            print(run("systemctl", "status", "--lines=0", "--no-pager", unit, status=None), file=sys.stderr)
            print(run("journalctl", "--unit", unit, "--lines=60", "--no-pager", status=None), file=sys.stderr)
        sys.exit(1)

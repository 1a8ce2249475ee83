#!/usr/bin/env python3
"""Compares the binary with the service that it takes after, on one PostgreSQL: `scripts/original.py DIRECTORY BINARY`.

DIRECTORY contains the published application, a FastAPI service: `app/main.py` and `requirements.txt`. pip installs what it
requires into an environment under `target`. Both services run as one process, on databases of one PostgreSQL server that
this script starts, with a hundred items each. `wrk` drives them in turns with 16 connections. Prints ratios, and the machine.
"""

import contextlib
import json
import os
import pathlib
import platform
import pwd
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

PAIRS = 10
SECONDS = 2
CONNECTIONS = 16
ITEMS = 100
# PostgreSQL refuses to run as root.
ACCOUNTS = ("postgres", "nobody")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, holds, seconds=60):
    """Waits until `holds` returns true."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"original.py: {what} did not come up")
        time.sleep(0.1)


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def programs():
    """The directory of PostgreSQL's programs: of the newest version that Debian has installed, or of the one in the path."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = found or [path for path in [shutil.which("postgres")] if path]
    if not found:
        sys.exit("original.py: PostgreSQL is missing (Debian: apt install postgresql)")
    return pathlib.Path(found[-1]).resolve().parent


def start(stack, command, **options):
    """Starts a process that is stopped at the end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def start_postgres(stack, directory):
    """Starts a server that trusts every local user, and creates two databases. Returns the beginning of their URLs."""
    user = {}
    if os.geteuid() == 0:
        account = next(entry for entry in pwd.getpwall() if entry.pw_name in ACCOUNTS)
        os.chown(directory, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    tools, data, port = programs(), f"{directory}/data", free_port()
    initdb = [tools / "initdb", "-D", data, "--username", "bench", "--auth", "trust", "--encoding", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=directory, **user)
    start(stack, [tools / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", directory], cwd=directory, **user)
    until("PostgreSQL", lambda: accepts(port))
    for name in ("original", "ours"):
        create = [tools / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", name]
        until(f"the database {name}", lambda: subprocess.run(create, stderr=subprocess.DEVNULL).returncode == 0)
    return f"//bench@127.0.0.1:{port}"


def environment(directory):
    """A Python environment with what the application requires. Returns its interpreter."""
    venv = pathlib.Path("target/tmp/original")
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    requirements = ["-r", str(directory / "requirements.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], check=True)
    return python.absolute()


class Service:
    """A running service."""

    def __init__(self, stack, port, command, **options):
        self.process = start(stack, command, **options)
        self.url = f"http://127.0.0.1:{port}"
        until(self.url, lambda: accepts(port))

    def fill(self):
        for number in range(ITEMS):
            item = {"name": f"name {number}", "email": f"name{number}@example.org"}
            request = urllib.request.Request(f"{self.url}/data", json.dumps(item).encode(), {"content-type": "application/json"})
            urllib.request.urlopen(request).close()

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def turn(self, path):
        """Requests a second, and the service's processor time for each."""
        before = self.processor_seconds()
        wrk = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{SECONDS}s", self.url + path]
        said = subprocess.run(wrk, check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in said or "Socket errors" in said:
            sys.exit(f"original.py: not all requests were answered well:\n{said}")
        requests = int(re.search(r"(\d+) requests in", said)[1])
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
        return rate, (self.processor_seconds() - before) / requests


def compare(original, ours, path):
    """Prints how many times as many requests ours answers, and the processor time of the original for one over ours."""
    for service in (original, ours):
        service.turn(path)
    rates, costs = [], []
    for pair in range(PAIRS):
        # The order changes, so that coming second costs neither more.
        turns = {service: service.turn(path) for service in ([original, ours] if pair % 2 else [ours, original])}
        rates.append(turns[ours][0] / turns[original][0])
        costs.append(turns[original][1] / turns[ours][1])
    low, middle, high = statistics.quantiles(rates, n=4)
    print(f"GET {path:<12} {middle:6.1f} times as many a second ({low:.1f} to {high:.1f}), {statistics.median(costs):.1f} times less processor time for each")


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} processors, {model[1] if model else platform.machine()}"


def main():
    directory, binary = pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2]).absolute()
    python = environment(directory)
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(scratch, 0o755)
        cluster = stack.enter_context(tempfile.TemporaryDirectory())
        database = start_postgres(stack, cluster)
        port = free_port()
        command = [python, "-m", "uvicorn", "app.main:app", "--host", "127.0.0.1", "--port", str(port)]
        variables = {**os.environ, "DATABASE_URL": f"postgresql+psycopg2:{database}/original"}
        original = Service(stack, port, command, cwd=directory, env=variables)
        port = free_port()
        command = [binary, "--listen", f"127.0.0.1:{port}", "--log", "error", "--database-url", f"postgres:{database}/ours"]
        ours = Service(stack, port, command, cwd=scratch)
        print(f"\nbeside the original, one process each, {CONNECTIONS} connections, one PostgreSQL, on {machine()}")
        memory = original.resident() / ours.resident()
        for service in (original, ours):
            service.fill()
        for path in ("/data", "/data?limit=5"):
            compare(original, ours, path)
        print(f"at the start   {memory:6.1f} times less resident memory")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Lists the functions that run when the service starts, answers and rests: `scripts/used-functions.py BINARY… > scripts/used-functions.ld`.

The list is a script for the linker, which `make dist` uses to put these functions side by side. The kernel maps a program in
blocks of 64 KiB around each page that is used, so that they would otherwise bring most of the program into memory. A list that
is old costs memory, and nothing else: the linker ignores what it does not find.

Names are listed without the hashes of the compiler, so that most of them outlive its updates. Where several functions then have
one name, those that run are listed with their hashes first, and their namesakes at the end: they are used if the hashes change.

Needs gdb, which stops once at each function, and binaries of `make dist` with their symbols: the one with all features, and the
one of `make dist ARGS=--no-default-features`, whose hashes differ. Takes some minutes for each.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

try:
    import gdb
except ImportError:
    gdb = None

PATHS = ["/", "/data", "/data/1", "/data?limit=5", "/metrics", "/livez", "/readyz", "/none"]
ITEM = b'{"name": "Ada", "email": "ada@example.com"}'
# Long enough for all that happens from time to time.
REST_SECONDS = 20


def symbols(binary):
    """The names of each function by its address in the file."""
    found = {}
    listed = subprocess.run(["nm", binary], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] in "tTwW":
            found.setdefault(int(parts[0], 16), []).append(parts[2])
    return found


def trace():
    """Within gdb: runs the program, and writes the names of functions in the order in which they are first called."""
    binary, listing = os.environ["BINARY"], os.environ["LISTING"]
    called = []

    class Once(gdb.Breakpoint):
        def __init__(self, address, names):
            super().__init__(f"*{address}", gdb.BP_BREAKPOINT, internal=True)
            self.names = names

        def stop(self):
            called.extend(self.names)
            self.enabled = False
            return False

    for setting in ("pagination off", "confirm off", "breakpoint always-inserted on", "print thread-events off", "auto-load libthread-db off"):
        gdb.execute(f"set {setting}")
    gdb.execute("handle all nostop noprint pass")
    gdb.execute("starti")
    pid = gdb.selected_inferior().pid
    name = os.path.realpath(binary)
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    base = next(int(line.split("-")[0], 16) for line in maps if line.endswith(name))
    for address, names in symbols(binary).items():
        Once(base + address, names)
    try:
        gdb.execute("continue")
    except gdb.error as error:
        print(f"gdb: {error}", file=sys.stderr)
    pathlib.Path(listing).write_text("\n".join(called))


def use(line):
    """Sends requests to the service that says where it listens, lets it rest, and stops it."""
    authority = line.split("http://")[1].strip()
    for path in PATHS:
        for accept in ("*/*", "application/openmetrics-text"):
            ask(authority, path, headers={"accept": accept})
    ask(authority, "/data", data=ITEM, headers={"content-type": "application/json"})
    ask(authority, "/data/1")
    time.sleep(REST_SECONDS)


def ask(authority, path, **request):
    try:
        urllib.request.urlopen(urllib.request.Request(f"http://{authority}{path}", **request), timeout=300).read()
    except urllib.error.HTTPError:
        pass


def pattern(name):
    """A name without what changes with the compiler or with other code."""
    name = re.sub(r"\.llvm\.\d+$", "", name)
    name = re.sub(r"17h[0-9a-f]{16}E.*$", "17h*", name)
    name = re.sub(r"Cs[0-9A-Za-z]+_(?=\d)", "Cs*_", name)
    return re.sub(r"\.(constprop|isra|part|cold|lto_priv)\.\d+.*$", "*", name)


def main():
    called = {binary: called_by(binary) for binary in map(os.path.realpath, sys.argv[1:])}
    print("/* Written by scripts/used-functions.py. */\nSECTIONS\n{\n  .text.used :\n  {")
    for name in in_order(called):
        # Cold functions are in sections named `.text.unlikely.…`.
        print(f"    *(.text*.{name})")
    print("  }\n}\nINSERT BEFORE .text;")


def called_by(binary):
    """The names of the functions that a binary calls, in the order of their first calls."""
    with tempfile.TemporaryDirectory() as folder:
        listing = os.path.join(folder, "called")
        command = ["gdb", "-batch", "-x", os.path.realpath(__file__), "--args", binary]
        command += ["--listen", "127.0.0.1:0", "--log", "error", "--database-url", "sqlite://x.db"]
        environment = dict(os.environ, BINARY=binary, LISTING=listing)
        run = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        line = next(line for line in run.stdout if "listening on http://" in line)
        drain = threading.Thread(target=run.stdout.read)
        drain.start()
        use(line)
        children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        run.wait()
        drain.join()
        return dict.fromkeys(pathlib.Path(listing).read_text().split())


def in_order(called):
    """The patterns of the functions that the binaries call, and after them those of their namesakes."""
    unused = set()
    for binary, names in called.items():
        unused |= {pattern(name) for all_names in symbols(binary).values() for name in all_names if name not in names}
    names = [name for names in called.values() for name in names]
    used = [exact(name) if pattern(name) in unused else pattern(name) for name in names]
    return dict.fromkeys(used + [pattern(name) for name in names])


def exact(name):
    """A name without what the compiler appends after its hash."""
    return re.sub(r"\.llvm\.\d+$", "", name)


if gdb:
    trace()
else:
    main()

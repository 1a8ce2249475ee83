#!/usr/bin/env python3
"""Runs `cargo test` with the given arguments, and lists the slowest ten tests at the end.

Stable Rust cannot report how long a test takes. The harness starts the tests of a binary in the order of their names, as
many at a time as it has threads, and reports each when it ends. That is enough to compute when each one started.
Tests of documentation are passed through without times. The exit code is that of cargo.
"""

import os
import re
import subprocess
import sys
import time

# The tests of this binary run one at a time, whatever the number of threads: each waits for its turn.
ONE_AT_A_TIME = "exclusive"
SHOWN = 10

RUNNING = re.compile(r"\s+Running (?:unittests )?\S+ \(\S*?([^/\s]+?)-[0-9a-f]{16}(?:\.exe)?\)")
STARTED = re.compile(r"running \d+ tests?$")
ENDED = re.compile(r"test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)")


def threads():
    """The number of tests that run at a time, as the harness determines it."""
    return int(os.environ.get("RUST_TEST_THREADS") or len(os.sched_getaffinity(0)))


def durations(began, ended, at_a_time):
    """The seconds that each test took, from `(name, end)` in the order of the ends."""
    if at_a_time == 1:
        starts = [began] + [end for _, end in ended]
        return [(end - start, name) for (name, end), start in zip(ended, starts)]
    # A test starts when a thread is free: at first, or when an earlier test ends.
    starts = [began] * at_a_time + [end for _, end in ended]
    started = dict(zip(sorted(name for name, _ in ended), starts))
    return [(end - started[name], name) for name, end in ended]


class Watch:
    """Reads what cargo prints, and collects how long the tests take."""

    def __init__(self):
        self.taken = []
        self.binary = None
        self.began = None
        self.ended = []

    def line(self, line):
        now = time.monotonic()
        if match := RUNNING.match(line):
            self.binary = match[1]
        elif line.lstrip().startswith("Doc-tests "):
            self.binary = None
        elif STARTED.match(line):
            self.began, self.ended = now, []
        elif match := ENDED.match(line):
            if match[2] != "ignored":
                self.ended.append((match[1], now))
        elif line.startswith("test result: ") and self.binary:
            at_a_time = 1 if self.binary == ONE_AT_A_TIME else threads()
            for seconds, name in durations(self.began, self.ended, at_a_time):
                self.taken.append((seconds, f"{self.binary} {name}"))

    def report(self):
        print(f"\nThe slowest {SHOWN} tests, in seconds:")
        for seconds, name in sorted(self.taken, reverse=True)[:SHOWN]:
            print(f"{seconds:7.1f}  {name}")


def main():
    command = [os.environ.get("CARGO") or "cargo", "test", *sys.argv[1:]]
    watch = Watch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as cargo:
        for line in cargo.stdout:
            watch.line(line)
            # A test that passed is no news.
            if not re.match(r"test \S.* \.\.\. ok$", line):
                print(line, end="", flush=True)
    watch.report()
    return cargo.returncode


if __name__ == "__main__":
    sys.exit(main())

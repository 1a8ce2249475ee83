"""Reads an OpenMetrics exposition from stdin with the reference parser, and writes what it says to stdout as JSON.

The reference writer then writes it anew, and the parser reads that: both readings must be equal. Exits with 1, and the
reason on stderr, where the parser does not accept it or they are not.
"""

import json
import sys

from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families


class Read:
    """What has been read, as the registry that the reference writer wants."""

    def __init__(self, families):
        self.families = families

    def collect(self):
        return self.families


def exemplar(read):
    """An exemplar, or None; its time in whole seconds and nanoseconds."""
    return read and {
        "labels": read.labels,
        "value": repr(float(read.value)),
        "at": [read.timestamp.sec, read.timestamp.nsec],
    }


def describe(families):
    """What has been read, in plain values; numbers as text, for NaN equals nothing, itself not excepted."""
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "unit": family.unit,
            "samples": [
                {
                    "name": sample.name,
                    "labels": sample.labels,
                    "value": repr(float(sample.value)),
                    "at": sample.timestamp and [sample.timestamp.sec, sample.timestamp.nsec],
                    "exemplar": exemplar(sample.exemplar),
                }
                for sample in family.samples
            ],
            "native": [],
        }
        for family in families
    ]


def main() -> int:
    text = sys.stdin.buffer.read().decode("utf-8")
    try:
        families = list(text_string_to_metric_families(text))
        again = generate_latest(Read(families)).decode("utf-8")
        round_trip = describe(text_string_to_metric_families(again))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    # The parser passes over a sample that comes a second time.
    lines = sum(1 for line in text.split("\n") if line and not line.startswith("#"))
    if lines != sum(len(family.samples) for family in families):
        print("a sample stands there twice", file=sys.stderr)
        return 1
    described = describe(families)
    if described != round_trip:
        print(f"changed by a round trip:\n{described}\n{round_trip}", file=sys.stderr)
        return 1
    json.dump(described, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Reads an OpenMetrics exposition from stdin with the reference parser, and writes it back as JSON.

Exits with 1, and the parser's words on stderr, where the parser does not accept it.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def main() -> int:
    text = sys.stdin.buffer.read().decode("utf-8")
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(
        [
            {
                "name": family.name,
                "type": family.type,
                "unit": family.unit,
                "samples": [
                    {"name": sample.name, "labels": sample.labels, "value": repr(float(sample.value))}
                    for sample in family.samples
                ],
            }
            for family in families
        ],
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

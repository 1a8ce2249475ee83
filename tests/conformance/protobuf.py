"""Reads a protobuf exposition from stdin with Google's decoder, and writes what it says to stdout as JSON.

The messages are those of metrics.proto in https://github.com/prometheus/client_model, described here and built at run
time, so that no compiler is needed. The JSON has the shape of openmetrics.py's: samples under the names that OpenMetrics
gives them, and native histograms besides. Exits with 1, and the reason on stderr, where the exposition breaks a rule.
"""

import json
import math
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from google.protobuf.message import DecodeError

PACKAGE = "io.prometheus.client"
KINDS = ["counter", "gauge", "summary", "unknown", "histogram"]

# Each message: name, number and type of its fields; a star means repeated, a capital another message.
SCHEMA = {
    "LabelPair": "name 1 string, value 2 string",
    "Timestamp": "seconds 1 int64, nanos 2 int32",
    "Exemplar": "label 1 *LabelPair, value 2 double, timestamp 3 Timestamp",
    "Gauge": "value 1 double",
    "Counter": "value 1 double, exemplar 2 Exemplar, created_timestamp 3 Timestamp",
    "Quantile": "quantile 1 double, value 2 double",
    "Summary": "sample_count 1 uint64, sample_sum 2 double, quantile 3 *Quantile, created_timestamp 4 Timestamp",
    "Untyped": "value 1 double",
    "Bucket": "cumulative_count 1 uint64, upper_bound 2 double, exemplar 3 Exemplar, cumulative_count_float 4 double",
    "BucketSpan": "offset 1 sint32, length 2 uint32",
    "Histogram": "sample_count 1 uint64, sample_sum 2 double, bucket 3 *Bucket, sample_count_float 4 double,"
    " schema 5 sint32, zero_threshold 6 double, zero_count 7 uint64, zero_count_float 8 double,"
    " negative_span 9 *BucketSpan, negative_delta 10 *sint64, negative_count 11 *double,"
    " positive_span 12 *BucketSpan, positive_delta 13 *sint64, positive_count 14 *double,"
    " created_timestamp 15 Timestamp, exemplars 16 *Exemplar",
    "Metric": "label 1 *LabelPair, gauge 2 Gauge, counter 3 Counter, summary 4 Summary, untyped 5 Untyped,"
    " timestamp_ms 6 int64, histogram 7 Histogram",
    "MetricFamily": "name 1 string, help 2 string, type 3 int32, metric 4 *Metric, unit 5 string",
}


def build_class():
    """The class of a MetricFamily."""
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=PACKAGE, syntax="proto2")
    for message, fields in SCHEMA.items():
        described = file.message_type.add(name=message)
        for field in fields.split(","):
            name, number, kind = field.split()
            repeated = kind.startswith("*")
            kind = kind.lstrip("*")
            added = described.field.add(name=name, number=int(number))
            added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            if kind[0].isupper():
                added.type = added.TYPE_MESSAGE
                added.type_name = f".{PACKAGE}.{kind}"
            else:
                added.type = getattr(added, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.MetricFamily"))


def delimited(data):
    """The messages of a stream in which each is preceded by its length."""
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if at + length > len(data):
            raise ValueError("a message is cut off")
        yield data[at : at + length]
        at += length


def expect_known(message):
    """Refuses fields that the schema does not have, at any depth."""
    if len(unknown_fields.UnknownFieldSet(message)) > 0:
        raise ValueError(f"unknown fields in {message}")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.label == field.LABEL_REPEATED else [value]:
                expect_known(part)


def labels_of(pairs):
    labels = {pair.name: pair.value for pair in pairs}
    if len(labels) != len(pairs):
        raise ValueError(f"a label twice in {pairs}")
    return labels


def exemplar(message):
    return {
        "labels": labels_of(message.label),
        "value": repr(message.value),
        "at": [message.timestamp.seconds, message.timestamp.nanos],
    }


def native_of(histogram):
    """The native part: index and count of each populated bucket, checked against the count of all."""
    buckets, index, count, deltas = [], 0, 0, iter(histogram.positive_delta)
    for position, span in enumerate(histogram.positive_span):
        if position > 0 and span.offset <= 0:
            raise ValueError("spans that touch or go back")
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            if count < 0:
                raise ValueError("a negative count")
            if count > 0:
                buckets.append([index, count])
            index += 1
    if next(deltas, None) is not None:
        raise ValueError("more deltas than buckets in the spans")
    if histogram.zero_count + sum(count for _, count in buckets) != histogram.sample_count:
        raise ValueError("the native buckets do not add up to the count")
    return {
        "schema": histogram.schema,
        "zero_threshold": repr(histogram.zero_threshold),
        "zero_count": histogram.zero_count,
        "buckets": buckets,
        "exemplars": [exemplar(each) for each in histogram.exemplars],
    }


def samples_of(base, kind, metric):
    """The samples of one series as OpenMetrics names them."""
    labels = labels_of(metric.label)
    samples = []

    def add(suffix, value, of_sample=None, more={}):
        samples.append(
            {"name": base + suffix, "labels": {**labels, **more}, "value": repr(float(value)), "exemplar": of_sample}
        )

    value = getattr(metric, "untyped" if kind == "unknown" else kind)
    if kind == "counter":
        add("_total", value.value, exemplar(value.exemplar) if value.HasField("exemplar") else None)
    elif kind in ("gauge", "unknown"):
        add("", value.value)
    else:
        if kind == "summary":
            for quantile in value.quantile:
                add("", quantile.value, more={"quantile": repr(quantile.quantile)})
        else:
            infinite = False
            before = 0
            for bucket in value.bucket:
                if bucket.cumulative_count < before:
                    raise ValueError(f"{base}: a bucket with less than the one before")
                before = bucket.cumulative_count
                infinite = infinite or math.isinf(bucket.upper_bound)
                of_bucket = exemplar(bucket.exemplar) if bucket.HasField("exemplar") else None
                add("_bucket", bucket.cumulative_count, of_bucket, {"le": repr(bucket.upper_bound)})
            if not infinite:
                add("_bucket", value.sample_count, more={"le": "inf"})
        add("_count", value.sample_count)
        add("_sum", value.sample_sum)
    if kind in ("counter", "histogram") and value.HasField("created_timestamp"):
        created = value.created_timestamp
        add("_created", float(f"{created.seconds}.{created.nanos:09}"))
    return samples


def read(data):
    family_class = build_class()
    families = []
    for message in delimited(data):
        family = family_class.FromString(message)
        expect_known(family)
        kind = KINDS[family.type]
        base = family.name.removesuffix("_total") if kind == "counter" else family.name
        native = [
            {"name": base, "labels": labels_of(metric.label), **native_of(metric.histogram)}
            for metric in family.metric
            if len(metric.histogram.positive_span) > 0
        ]
        samples = [sample for metric in family.metric for sample in samples_of(base, kind, metric)]
        families.append(
            {
                "name": base,
                "type": kind,
                "help": family.help,
                "unit": family.unit,
                "samples": samples,
                "native": native,
            }
        )
    return families


def main() -> int:
    try:
        families = read(sys.stdin.buffer.read())
    except (ValueError, IndexError, DecodeError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(families, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

//! The protobuf exposition: length-delimited `io.prometheus.client.MetricFamily` messages, written by hand.
//!
//! Field numbers are those of `metrics.proto` in <https://github.com/prometheus/client_model>. The schema is proto2:
//! fields have presence, so zeros are written.

mod buckets;
mod wire;

use std::time::Duration;

use buckets::push_buckets;
use wire::{
    DOUBLE_FIELD, FIXED_64, LENGTH, VARINT, field_length, push_block, push_bytes, push_double,
    push_tag, push_uint, push_varint, varint_length, zigzag,
};

use super::descriptor::{FamilyDescription, MetricKind};
use super::exemplar::Exemplar;
use super::exposition::{HistogramValue, Labels, NativeReading, Value};
use super::native::ZERO_THRESHOLD;

/// Appends the fields of a family before its metrics: name, help, type and unit.
pub(crate) fn push_head(out: &mut Vec<u8>, family: &FamilyDescription) {
    push_bytes(out, 1, family.name.as_bytes());
    push_bytes(out, 2, family.help.as_bytes());
    push_uint(
        out,
        3,
        match family.kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Summary => 2,
            MetricKind::Unknown => 3,
            MetricKind::Histogram => 4,
        },
    );
    let unit = family.unit.as_str();
    if !unit.is_empty() {
        push_bytes(out, 5, unit.as_bytes());
    }
}

/// Appends one label as a field of a metric.
pub(crate) fn push_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let length = field_length(name.len()) + field_length(value.len());
    push_tag(out, 1, LENGTH);
    push_varint(out, length as u64);
    push_bytes(out, 1, name.as_bytes());
    push_bytes(out, 2, value.as_bytes());
}

/// Buffers that are reused for each series.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The value of a metric.
    body: Vec<u8>,
    /// The counts of its native buckets.
    deltas: Vec<u8>,
}

/// Appends one series as a metric of a family; `timestamp` is in milliseconds.
pub(crate) fn push_series(
    out: &mut Vec<u8>,
    Scratch { body, deltas }: &mut Scratch,
    labels: Labels<'_>,
    value: Value<'_>,
    created: Option<Duration>,
    timestamp: Option<i64>,
) {
    body.clear();
    let field = match value {
        Value::Gauge(number) => {
            push_double(body, 1, number.as_f64());
            2
        }
        Value::Counter(number) => {
            push_double(body, 1, number.as_f64());
            push_time(body, 3, created);
            3
        }
        Value::Summary {
            count,
            sum,
            quantiles,
        } => {
            push_uint(body, 1, count);
            push_double(body, 2, sum);
            for (quantile, value) in quantiles {
                push_tag(body, 3, LENGTH);
                push_varint(body, 2 * DOUBLE_FIELD);
                push_double(body, 1, *quantile);
                push_double(body, 2, *value);
            }
            4
        }
        Value::Unknown(number) => {
            push_double(body, 1, number);
            5
        }
        Value::Histogram(histogram) => {
            push_histogram(body, deltas, histogram);
            push_time(body, 15, created);
            7
        }
    };
    let stamp = timestamp.map(i64::cast_unsigned);
    let stamped = stamp.map_or(0, |stamp| 1 + varint_length(stamp));
    let length = labels.protobuf.len() + field_length(body.len()) + stamped;
    push_tag(out, 4, LENGTH);
    push_varint(out, length as u64);
    out.extend_from_slice(labels.protobuf);
    push_bytes(out, field, body);
    if let Some(stamp) = stamp {
        push_uint(out, 6, stamp);
    }
}

/// How many bytes the length takes that precedes a message.
pub(crate) fn delimiter_length(length: usize) -> usize {
    varint_length(length as u64)
}

/// Writes the length that precedes a message, into as many bytes as it takes.
pub(crate) fn write_delimiter(out: &mut [u8], length: usize) {
    let mut left = length as u64;
    let last = out.len() - 1;
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = (left & 0x7f) as u8 | if at < last { 0x80 } else { 0 };
        left >>= 7;
    }
}

fn push_histogram(out: &mut Vec<u8>, deltas: &mut Vec<u8>, histogram: HistogramValue<'_>) {
    let reading = histogram.reading;
    // Prometheus requires that the count and the native buckets agree. The classic ones are read later, and may be ahead.
    let count = if histogram.native {
        reading.native.count()
    } else {
        reading.classic.last().copied().unwrap_or(0)
    };
    push_uint(out, 1, count);
    push_double(out, 2, reading.sum);
    if reading.exemplars.is_empty() {
        for (bound, cumulative) in histogram.bounds.values.iter().zip(&reading.classic) {
            push_plain_bucket(out, *bound, (*cumulative).min(count));
        }
    } else {
        let bounds = histogram.bounds.values.iter().copied();
        let buckets = bounds.chain([f64::INFINITY]).zip(&reading.classic);
        for ((bound, cumulative), exemplar) in buckets.zip(&reading.exemplars) {
            if bound.is_finite() || exemplar.is_some() {
                push_bucket(out, bound, (*cumulative).min(count), exemplar.as_ref());
            }
        }
    }
    if histogram.native {
        push_native(out, deltas, &reading.native);
    }
}

/// Appends a bucket without an exemplar. Those with small counts are written as a whole.
#[inline]
fn push_plain_bucket(out: &mut Vec<u8>, bound: f64, cumulative: u64) {
    const TAG: u64 = 3 << 3 | LENGTH as u64;
    const COUNT_TAG: u64 = 1 << 3 | VARINT as u64;
    const BOUND_TAG: u64 = 2 << 3 | FIXED_64 as u64;
    let (varint, varint_length) = match cumulative {
        0..0x80 => (cumulative, 1),
        0x80..0x4000 => (cumulative & 0x7f | 0x80 | cumulative >> 7 << 8, 2),
        _ => return push_bucket(out, bound, cumulative, None),
    };
    let length = 1 + varint_length + 9;
    let head = TAG | (length as u64) << 8 | COUNT_TAG << 16 | varint << 24;
    let head = u128::from(head | BOUND_TAG << (24 + 8 * varint_length));
    let bucket = head | u128::from(bound.to_bits()) << (32 + 8 * varint_length);
    push_block(out, bucket.to_le_bytes(), 2 + length);
}

#[inline]
fn push_bucket(out: &mut Vec<u8>, bound: f64, cumulative: u64, exemplar: Option<&Exemplar>) {
    let plain = 1 + varint_length(cumulative) as u64 + DOUBLE_FIELD;
    let labelled = exemplar.map_or(0, |exemplar| field_length(exemplar_length(exemplar)));
    push_tag(out, 3, LENGTH);
    push_varint(out, plain + labelled as u64);
    push_uint(out, 1, cumulative);
    push_double(out, 2, bound);
    if let Some(exemplar) = exemplar {
        push_exemplar(out, 3, exemplar);
    }
}

fn push_native(out: &mut Vec<u8>, deltas: &mut Vec<u8>, native: &NativeReading) {
    push_tag(out, 5, VARINT);
    push_varint(out, zigzag(i64::from(native.schema)));
    push_double(out, 6, ZERO_THRESHOLD);
    push_uint(out, 7, native.zero_count);
    push_buckets(out, deltas, native);
    for exemplar in &native.exemplars {
        push_exemplar(out, 16, exemplar);
    }
}

/// The length of an exemplar's two labels: names of 8 and 7 bytes, values of 32 and 16.
const EXEMPLAR_LABELS: usize = (2 + (2 + 8) + (2 + 32)) + (2 + (2 + 7) + (2 + 16));

fn exemplar_length(exemplar: &Exemplar) -> usize {
    let time = time_length(exemplar.at);
    EXEMPLAR_LABELS + field_length(time) + 9
}

fn push_exemplar(out: &mut Vec<u8>, field: u32, exemplar: &Exemplar) {
    push_tag(out, field, LENGTH);
    push_varint(out, exemplar_length(exemplar) as u64);
    for (name, value) in [
        ("trace_id", &exemplar.span.trace_hex()[..]),
        ("span_id", &exemplar.span.span_hex()[..]),
    ] {
        push_tag(out, 1, LENGTH);
        push_varint(
            out,
            (field_length(name.len()) + field_length(value.len())) as u64,
        );
        push_bytes(out, 1, name.as_bytes());
        push_bytes(out, 2, value);
    }
    push_double(out, 2, exemplar.value);
    push_time(out, 3, Some(exemplar.at));
}

fn time_length(at: Duration) -> usize {
    2 + varint_length(at.as_secs()) + varint_length(u64::from(at.subsec_nanos()))
}

fn push_time(out: &mut Vec<u8>, field: u32, at: Option<Duration>) {
    if let Some(at) = at {
        push_tag(out, field, LENGTH);
        push_varint(out, time_length(at) as u64);
        push_uint(out, 1, at.as_secs());
        push_uint(out, 2, u64::from(at.subsec_nanos()));
    }
}

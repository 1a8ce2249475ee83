//! The OpenMetrics 1.0 exposition, with units, exemplars and, where they are asked for, times of creation.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::time::Duration;

use super::exemplar::Exemplar;
use super::exposition::{Bounds, Header, HistogramValue, Labels, Value};
use super::line::{push_name, push_number, push_open};
use super::number::{LabelStyle, label_float, push_f64, push_u64};
use super::time::push_seconds;

/// The last line of an exposition.
pub(crate) const EOF: &[u8] = b"# EOF\n";

/// Appends the lines of one series; `timestamp` is in milliseconds since the Unix epoch.
pub(crate) fn push_series(
    out: &mut Vec<u8>,
    header: &Header,
    labels: Labels<'_>,
    value: Value<'_>,
    created: Option<Duration>,
    timestamp: Option<i64>,
) {
    let name = header.description.base();
    let end = |out: &mut Vec<u8>| {
        if let Some(timestamp) = timestamp {
            out.push(b' ');
            push_milliseconds(out, timestamp);
        }
        out.push(b'\n');
    };
    match value {
        Value::Counter(number) => {
            push_name(out, name, "_total", labels.text);
            push_number(out, number);
            end(out);
        }
        Value::Gauge(number) => {
            push_name(out, name, "", labels.text);
            push_number(out, number);
            end(out);
        }
        Value::Unknown(number) => {
            push_name(out, name, "", labels.text);
            push_f64(out, number);
            end(out);
        }
        Value::Histogram(histogram) => push_histogram(out, name, labels.text, histogram, end),
        Value::Summary {
            count,
            sum,
            quantiles,
        } => {
            for (quantile, value) in quantiles {
                push_open(out, name, "", labels.text);
                let quantile = label_float(*quantile, LabelStyle::OpenMetrics);
                out.extend_from_slice(format!("quantile=\"{quantile}\"}} ").as_bytes());
                push_f64(out, *value);
                end(out);
            }
            push_name(out, name, "_count", labels.text);
            push_u64(out, count);
            end(out);
            if is_total(sum) {
                push_name(out, name, "_sum", labels.text);
                push_f64(out, sum);
                end(out);
            }
        }
    }
    let since = matches!(value, Value::Counter(_) | Value::Histogram(_));
    if let (true, Some(created)) = (since, created) {
        push_name(out, name, "_created", labels.text);
        push_seconds(out, created);
        out.push(b'\n');
    }
}

/// Whether a counter or a sum may have this value: these only rise.
pub(crate) fn is_total(value: f64) -> bool {
    value >= 0.0
}

/// Whether a histogram is written with its sum: not where the sum may fall. `_count` is there if and only if `_sum` is.
/// <https://prometheus.io/docs/specs/om/open_metrics_spec/#histogram-1>
pub(crate) fn has_sum(bounds: &Bounds, sum: f64) -> bool {
    is_total(sum) && bounds.values.first().is_none_or(|lowest| *lowest >= 0.0)
}

fn push_histogram(
    out: &mut Vec<u8>,
    name: &str,
    labels: &str,
    histogram: HistogramValue<'_>,
    end: impl Fn(&mut Vec<u8>),
) {
    let first = out.len();
    push_open(out, name, "_bucket", labels);
    let prefix = first..out.len();
    let reading = histogram.reading;
    let bounds = histogram.bounds.openmetrics.iter();
    for (at, (bound, count)) in bounds.zip(&reading.classic).enumerate() {
        if at > 0 {
            out.extend_from_within(prefix.clone());
        }
        bound.push(out);
        push_u64(out, *count);
        match reading.exemplars.get(at) {
            Some(Some(exemplar)) => {
                push_exemplar(out, exemplar);
                out.push(b'\n');
            }
            _ => end(out),
        }
    }
    if !has_sum(histogram.bounds, reading.sum) {
        return;
    }
    push_name(out, name, "_count", labels);
    push_u64(out, reading.classic.last().copied().unwrap_or(0));
    end(out);
    push_name(out, name, "_sum", labels);
    push_f64(out, reading.sum);
    end(out);
}

/// Appends ` # {trace_id="…",span_id="…"} value timestamp`: 64 characters of labels, of 128 allowed.
fn push_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    out.extend_from_slice(b" # {trace_id=\"");
    out.extend_from_slice(&exemplar.span.trace_hex());
    out.extend_from_slice(b"\",span_id=\"");
    out.extend_from_slice(&exemplar.span.span_hex());
    out.extend_from_slice(b"\"} ");
    push_f64(out, exemplar.value);
    out.push(b' ');
    push_seconds(out, exemplar.at);
}

/// Appends milliseconds as decimal seconds.
fn push_milliseconds(out: &mut Vec<u8>, milliseconds: i64) {
    if milliseconds < 0 {
        out.push(b'-');
    }
    push_seconds(out, Duration::from_millis(milliseconds.unsigned_abs()));
}

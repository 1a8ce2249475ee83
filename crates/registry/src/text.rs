//! The text exposition 0.0.4: no exemplars, no units, no times of creation.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use super::exposition::{Header, HistogramValue, Labels, Value};
use super::line::{push_name, push_number, push_open};
use super::number::{LabelStyle, label_float, push_f64, push_i64, push_u64};

/// Appends the lines of one series; `timestamp` is in milliseconds since the Unix epoch.
pub(crate) fn push_series(
    out: &mut Vec<u8>,
    header: &Header,
    labels: Labels<'_>,
    value: Value<'_>,
    timestamp: Option<i64>,
) {
    let name = header.name();
    let end = |out: &mut Vec<u8>| {
        if let Some(timestamp) = timestamp {
            out.push(b' ');
            push_i64(out, timestamp);
        }
        out.push(b'\n');
    };
    match value {
        Value::Counter(number) | Value::Gauge(number) => {
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
                let quantile = label_float(*quantile, LabelStyle::Go);
                out.extend_from_slice(format!("quantile=\"{quantile}\"}} ").as_bytes());
                push_f64(out, *value);
                end(out);
            }
            push_name(out, name, "_sum", labels.text);
            push_f64(out, sum);
            end(out);
            push_name(out, name, "_count", labels.text);
            push_u64(out, count);
            end(out);
        }
    }
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
    let counts = &histogram.reading.classic;
    for (at, (bound, count)) in histogram.bounds.text.iter().zip(counts).enumerate() {
        if at > 0 {
            out.extend_from_within(prefix.clone());
        }
        bound.push(out);
        push_u64(out, *count);
        end(out);
    }
    push_name(out, name, "_sum", labels);
    push_f64(out, histogram.reading.sum);
    end(out);
    push_name(out, name, "_count", labels);
    push_u64(out, counts.last().copied().unwrap_or(0));
    end(out);
}

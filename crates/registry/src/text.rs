//! The two text expositions: Prometheus' text 0.0.4 and OpenMetrics 1.0.
//!
//! One walk writes the sample lines of both. OpenMetrics differs in the names of counters, in the notation of float
//! labels, in the unit of timestamps and in the order of sum and count. It alone has exemplars and times of creation.
//!
//! - <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
//! - <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::time::Duration;

use super::exemplar::Exemplar;
use super::exposition::{Bounds, Header, HistogramValue, Number, Value};
use super::label::push_escaped;
use super::number::{LabelStyle, label_float, push_f64, push_i64, push_u64};
use super::time::push_seconds;

/// The last line of an OpenMetrics exposition.
pub(crate) const EOF: &[u8] = b"# EOF\n";

/// Whether OpenMetrics allows this value for a counter or a sum: these only rise.
pub(crate) fn is_total(value: f64) -> bool {
    value >= 0.0
}

/// Whether OpenMetrics has the sum of a histogram: not if the sum may fall. `_count` is there if and only if `_sum` is.
/// <https://prometheus.io/docs/specs/om/open_metrics_spec/#histogram-1>
pub(crate) fn has_sum(bounds: &Bounds, sum: f64) -> bool {
    is_total(sum) && bounds.values.first().is_none_or(|lowest| *lowest >= 0.0)
}

/// Appends the lines of one series in text 0.0.4; `timestamp` is in milliseconds since the Unix epoch.
#[inline]
pub(crate) fn push_text(
    out: &mut Vec<u8>,
    header: &Header,
    labels: &str,
    value: Value<'_>,
    timestamp: Option<i64>,
) {
    push_lines::<false, false>(out, header.name(), labels, value, None, timestamp);
}

/// Appends the lines of one series in OpenMetrics; `timestamp` is in milliseconds since the Unix epoch.
#[inline]
pub(crate) fn push_openmetrics(
    out: &mut Vec<u8>,
    header: &Header,
    labels: &str,
    value: Value<'_>,
    created: Option<Duration>,
    timestamp: Option<i64>,
) {
    push_lines::<true, false>(
        out,
        header.description.base(),
        labels,
        value,
        created,
        timestamp,
    );
}

/// As [`push_text`], in text 1.0.0, with the name of the family within the braces.
pub(crate) fn push_quoted_text(
    out: &mut Vec<u8>,
    header: &Header,
    labels: &str,
    value: Value<'_>,
    timestamp: Option<i64>,
) {
    let name = escaped(header.name());
    push_lines::<false, true>(out, &name, labels, value, None, timestamp);
}

/// As [`push_openmetrics`], with the name of the family within the braces.
pub(crate) fn push_quoted_openmetrics(
    out: &mut Vec<u8>,
    header: &Header,
    labels: &str,
    value: Value<'_>,
    created: Option<Duration>,
    timestamp: Option<i64>,
) {
    let name = escaped(header.description.base());
    push_lines::<true, true>(out, &name, labels, value, created, timestamp);
}

fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    push_escaped(&mut escaped, name, true);
    escaped
}

#[inline]
fn push_lines<const OPENMETRICS: bool, const QUOTED: bool>(
    out: &mut Vec<u8>,
    name: &str,
    labels: &str,
    value: Value<'_>,
    created: Option<Duration>,
    timestamp: Option<i64>,
) {
    let mut lines = SampleLines::<OPENMETRICS, QUOTED> {
        out,
        name,
        labels,
        timestamp,
    };
    lines.push_value(value);
    if let (Value::Counter(_) | Value::Histogram(_), Some(created)) = (value, created) {
        lines.push_name("_created");
        push_seconds(lines.out, created);
        lines.out.push(b'\n');
    }
}

/// The sample lines of one series. `QUOTED`: the name goes within the braces, as in `{"größe_total",a="1"} 1`.
struct SampleLines<'a, const OPENMETRICS: bool, const QUOTED: bool> {
    out: &'a mut Vec<u8>,
    /// The name of the family, without the suffixes of its samples; escaped where it is quoted.
    name: &'a str,
    /// `a="1",b="2"`, escaped.
    labels: &'a str,
    timestamp: Option<i64>,
}

impl<const OPENMETRICS: bool, const QUOTED: bool> SampleLines<'_, OPENMETRICS, QUOTED> {
    #[inline]
    fn push_value(&mut self, value: Value<'_>) {
        match value {
            Value::Counter(number) if OPENMETRICS => self.push_sample("_total", number),
            Value::Counter(number) | Value::Gauge(number) => self.push_sample("", number),
            Value::Unknown(number) => self.push_sample("", Number::Float(number)),
            Value::Histogram(histogram) => self.push_histogram(histogram),
            Value::Summary {
                count,
                sum,
                quantiles,
            } => self.push_summary(count, sum, quantiles),
        }
    }

    fn push_histogram(
        &mut self,
        HistogramValue {
            bounds, reading, ..
        }: HistogramValue<'_>,
    ) {
        let first = self.out.len();
        self.push_open("_bucket");
        let prefix = first..self.out.len();
        let rendered = if OPENMETRICS {
            &bounds.openmetrics
        } else {
            &bounds.text
        };
        for (at, (bound, count)) in rendered.iter().zip(&reading.classic).enumerate() {
            if at > 0 {
                self.out.extend_from_within(prefix.clone());
            }
            bound.push(self.out);
            push_u64(self.out, *count);
            match reading.exemplars.get(at) {
                Some(Some(exemplar)) if OPENMETRICS => {
                    push_exemplar(self.out, exemplar);
                    self.out.push(b'\n');
                }
                _ => self.end(),
            }
        }
        let count = reading.classic.last().copied().unwrap_or(0);
        if !OPENMETRICS {
            self.push_sample("_sum", Number::Float(reading.sum));
            self.push_sample("_count", Number::Unsigned(count));
        } else if has_sum(bounds, reading.sum) {
            self.push_sample("_count", Number::Unsigned(count));
            self.push_sample("_sum", Number::Float(reading.sum));
        }
    }

    fn push_summary(&mut self, count: u64, sum: f64, quantiles: &[(f64, f64)]) {
        let style = if OPENMETRICS {
            LabelStyle::OpenMetrics
        } else {
            LabelStyle::Go
        };
        for (quantile, value) in quantiles {
            self.push_open("");
            let quantile = label_float(*quantile, style);
            (self.out).extend_from_slice(format!("quantile=\"{quantile}\"}} ").as_bytes());
            push_f64(self.out, *value);
            self.end();
        }
        if !OPENMETRICS {
            self.push_sample("_sum", Number::Float(sum));
        }
        self.push_sample("_count", Number::Unsigned(count));
        if OPENMETRICS && is_total(sum) {
            self.push_sample("_sum", Number::Float(sum));
        }
    }

    /// Appends a whole line.
    #[inline]
    fn push_sample(&mut self, suffix: &str, number: Number) {
        self.push_name(suffix);
        match number {
            Number::Unsigned(value) => push_u64(self.out, value),
            Number::Signed(value) => push_i64(self.out, value),
            Number::Float(value) => push_f64(self.out, value),
        }
        self.end();
    }

    /// Appends everything of a line before its value: `name_suffix{labels} `.
    #[inline]
    fn push_name(&mut self, suffix: &str) {
        if QUOTED {
            self.push_open(suffix);
            self.out.pop();
            self.out.extend_from_slice(b"} ");
            return;
        }
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        if self.labels.is_empty() {
            self.out.push(b' ');
        } else {
            self.out.push(b'{');
            self.out.extend_from_slice(self.labels.as_bytes());
            self.out.extend_from_slice(b"} ");
        }
    }

    /// Appends everything of a line before its last label: `name_suffix{labels,`.
    #[inline]
    fn push_open(&mut self, suffix: &str) {
        if QUOTED {
            self.out.extend_from_slice(b"{\"");
            self.out.extend_from_slice(self.name.as_bytes());
            self.out.extend_from_slice(suffix.as_bytes());
            self.out.extend_from_slice(b"\",");
            self.push_labels();
            return;
        }
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        self.out.push(b'{');
        self.push_labels();
    }

    /// Appends the labels, each with a comma behind it.
    #[inline]
    fn push_labels(&mut self) {
        if !self.labels.is_empty() {
            self.out.extend_from_slice(self.labels.as_bytes());
            self.out.push(b',');
        }
    }

    /// Appends the timestamp, if there is one, and ends the line. It is in milliseconds in text, in seconds in
    /// OpenMetrics.
    #[inline]
    fn end(&mut self) {
        if let Some(timestamp) = self.timestamp {
            self.out.push(b' ');
            if OPENMETRICS {
                if timestamp < 0 {
                    self.out.push(b'-');
                }
                push_seconds(self.out, Duration::from_millis(timestamp.unsigned_abs()));
            } else {
                push_i64(self.out, timestamp);
            }
        }
        self.out.push(b'\n');
    }
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

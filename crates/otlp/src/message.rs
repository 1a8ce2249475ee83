//! From the families of a registry to the messages of OTLP.
//!
//! Names, help texts and labels stay as a scrape in UTF-8 shows them, except that a dotted name has no suffixes: what is
//! `http.server.request.duration_seconds` there is `http.server.request.duration` in seconds here. Types are mapped as
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/> maps them:
//!
//! | family | metric |
//! |---|---|
//! | counter | monotonic cumulative sum |
//! | gauge, unknown | gauge |
//! | histogram with native buckets | cumulative exponential histogram |
//! | histogram with classic buckets only | cumulative histogram |
//! | summary | summary |

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint,
        Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};
use prost::Message;
use vitals_registry::{
    Clock, Collected, FamilyDescription, MetricKind, Number, Registry, Unit, VisitedBuckets,
    VisitedExemplar, VisitedHistogram, VisitedLabels, VisitedSeries, VisitedValue, Visitor,
};

/// The most data points in one request. It bounds the memory that a push takes, and the size of a request: a histogram's
/// point has some hundred bytes.
const MOST_POINTS: usize = 1000;

/// The most buckets of a point, the empty ones between the populated ones included. All 64 octaves that the registry keeps
/// in its table fit at full resolution.
const MOST_BUCKETS: u32 = 2048;

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// Where metrics come from: what all requests of a push have in common.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) clock: Clock,
    /// When the process started, since the Unix epoch: the start of the totals that collectors read.
    pub(crate) started: Duration,
}

/// Encodes all metrics, and passes each request on while the next one is not begun. Stops where `send` returns false.
pub(crate) fn encode(
    registry: &Registry,
    collected: &[Collected],
    origin: &Origin,
    send: &mut dyn FnMut(Vec<u8>) -> bool,
) {
    let mut writer = MessageWriter {
        origin,
        send,
        goes_on: true,
        metrics: Vec::new(),
        points: 0,
        now: (origin.clock)(),
        family: None,
        is_begun: false,
    };
    registry.visit(collected, &mut writer);
    writer.flush();
}

/// Collects metrics until a request is full.
struct MessageWriter<'a> {
    origin: &'a Origin,
    send: &'a mut dyn FnMut(Vec<u8>) -> bool,
    /// Whether `send` still wants requests.
    goes_on: bool,
    metrics: Vec<Metric>,
    points: usize,
    /// When the points of this request were read.
    now: Duration,
    family: Option<FamilyDescription>,
    /// Whether the last metric is that of the family.
    is_begun: bool,
}

impl MessageWriter<'_> {
    fn flush(&mut self) {
        let metrics = std::mem::take(&mut self.metrics);
        self.points = 0;
        self.is_begun = false;
        if metrics.is_empty() || !self.goes_on {
            return;
        }
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: self.origin.resource.clone(),
                    ..Resource::default()
                }),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        let body = request.encode_to_vec();
        drop(request);
        self.goes_on = (self.send)(body);
        self.now = (self.origin.clock)();
    }
}

impl Visitor for MessageWriter<'_> {
    fn family(&mut self, family: &FamilyDescription) {
        self.family = Some(family.clone());
        self.is_begun = false;
    }

    fn series(&mut self, series: VisitedSeries<'_>) {
        if !self.goes_on {
            return;
        }
        if self.points == MOST_POINTS {
            self.flush();
        }
        let Some(family) = &self.family else {
            return;
        };
        if !self.is_begun {
            self.is_begun = true;
            self.metrics.push(start_metric(family));
        }
        let point = PointHead::new(&series, self.now, self.origin.started);
        let Some(metric) = self.metrics.last_mut() else {
            return;
        };
        push_point(metric, family.kind, point, series.value);
        self.points += 1;
    }
}

/// A metric without data points.
fn start_metric(family: &FamilyDescription) -> Metric {
    let is_unknown = family.kind == MetricKind::Unknown;
    Metric {
        metadata: (is_unknown.then(|| text_attribute("prometheus.type", "unknown")))
            .into_iter()
            .collect(),
        name: metric_name(family).to_owned(),
        description: family.help.clone(),
        unit: ucum(family.unit).to_owned(),
        ..Metric::default()
    }
}

/// The name of a family. A dotted name is one of OpenTelemetry: unit and type are fields, and no part of it.
fn metric_name(family: &FamilyDescription) -> &str {
    let name = family.name.as_str();
    if !name.contains('.') {
        return name;
    }
    let is_counter = family.kind == MetricKind::Counter;
    let base = name.strip_suffix("_total").filter(|_| is_counter);
    let base = base.unwrap_or(name);
    let stem = base.strip_suffix(family.unit.as_str());
    let stem = stem.and_then(|stem| stem.strip_suffix('_'));
    stem.unwrap_or(base)
}

/// A unit in the Unified Code for Units of Measure, as the conventions write units.
fn ucum(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        _ => "",
    }
}

/// What every data point begins with.
struct PointHead {
    attributes: Vec<KeyValue>,
    start_time_unix_nano: u64,
    time_unix_nano: u64,
}

impl PointHead {
    /// Times are in nanoseconds since the Unix epoch. A series that a collector read has counted since `started`.
    fn new(series: &VisitedSeries<'_>, now: Duration, started: Duration) -> Self {
        let read_at = series.timestamp.map_or(now, |milliseconds| {
            Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
        });
        Self {
            attributes: attributes(series.labels.clone()),
            start_time_unix_nano: nanoseconds(series.created.unwrap_or(started).min(read_at)),
            time_unix_nano: nanoseconds(read_at),
        }
    }
}

pub(crate) fn nanoseconds(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// Labels as attributes. To Prometheus, a label with an empty value is no label.
fn attributes(labels: VisitedLabels<'_>) -> Vec<KeyValue> {
    labels
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| text_attribute(name, value))
        .collect()
}

/// Who says so: this library.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "actix-vitals".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// An attribute whose value is a text.
pub(crate) fn text_attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn push_point(metric: &mut Metric, kind: MetricKind, head: PointHead, value: VisitedValue<'_>) {
    match value {
        VisitedValue::Number(number) => push_number(metric, kind, head, number),
        VisitedValue::Histogram(histogram) => match histogram.native() {
            Some(native) => push_exponential(metric, head, histogram, native),
            None => push_classic(metric, head, histogram),
        },
        VisitedValue::Summary {
            count,
            sum,
            quantiles,
        } => push_summary(metric, head, count, sum, quantiles),
        // No other value exists.
        _ => {}
    }
}

fn push_number(metric: &mut Metric, kind: MetricKind, head: PointHead, number: Number) {
    let as_float = || number_data_point::Value::AsDouble(number.as_f64());
    let value = match number {
        Number::Unsigned(value) => {
            i64::try_from(value).map_or_else(|_| as_float(), number_data_point::Value::AsInt)
        }
        Number::Signed(value) => number_data_point::Value::AsInt(value),
        Number::Float(_) => as_float(),
    };
    let mut point = NumberDataPoint {
        attributes: head.attributes,
        start_time_unix_nano: head.start_time_unix_nano,
        time_unix_nano: head.time_unix_nano,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    if kind == MetricKind::Counter {
        let data = metric.data.get_or_insert_with(|| {
            Data::Sum(Sum {
                data_points: Vec::new(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            })
        });
        if let Data::Sum(sum) = data {
            sum.data_points.push(point);
        }
    } else {
        // A level has no beginning.
        point.start_time_unix_nano = 0;
        let data = metric
            .data
            .get_or_insert_with(|| Data::Gauge(Gauge::default()));
        if let Data::Gauge(gauge) = data {
            gauge.data_points.push(point);
        }
    }
}

fn push_exponential(
    metric: &mut Metric,
    head: PointHead,
    histogram: VisitedHistogram<'_>,
    native: VisitedBuckets<'_>,
) {
    let (scale, positive) = dense_buckets(native);
    let point = ExponentialHistogramDataPoint {
        attributes: head.attributes,
        start_time_unix_nano: head.start_time_unix_nano,
        time_unix_nano: head.time_unix_nano,
        count: histogram.count(),
        sum: known_sum(histogram),
        scale,
        zero_count: native.zero_count(),
        zero_threshold: native.zero_threshold(),
        positive: Some(positive),
        exemplars: histogram.exemplars().map(to_exemplar).collect(),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = metric.data.get_or_insert_with(|| {
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: Vec::new(),
            aggregation_temporality: CUMULATIVE,
        })
    });
    if let Data::ExponentialHistogram(histogram) = data {
        histogram.data_points.push(point);
    }
}

/// The scale, and every bucket from the first populated one to the last.
///
/// A schema and a scale are the same number, and so are the buckets, but for their index: bucket `i` of OTLP is
/// `base^i < v <= base^(i+1)`, one less than in Prometheus. Where the buckets are too far apart, their resolution is halved
/// until they fit, which merges pairs of neighbours and keeps every count.
fn dense_buckets(native: VisitedBuckets<'_>) -> (i32, Buckets) {
    let mut populated = native.populated().map(|(index, _)| index - 1);
    let Some(first) = populated.next() else {
        return (native.schema(), Buckets::default());
    };
    let last = populated.last().unwrap_or(first);
    let mut halvings = 0;
    while (last >> halvings).abs_diff(first >> halvings) >= MOST_BUCKETS {
        halvings += 1;
    }
    let offset = first >> halvings;
    let length = (last >> halvings).abs_diff(offset) as usize + 1;
    let mut bucket_counts = vec![0; length];
    for (index, count) in native.populated() {
        let at = ((index - 1) >> halvings).abs_diff(offset) as usize;
        bucket_counts[at] += count;
    }
    let buckets = Buckets {
        offset,
        bucket_counts,
    };
    (native.schema() - halvings, buckets)
}

fn push_classic(metric: &mut Metric, head: PointHead, histogram: VisitedHistogram<'_>) {
    let mut below = 0;
    let bucket_counts = histogram.classic().map(|(_, cumulative)| {
        let count = cumulative - below;
        below = cumulative;
        count
    });
    let point = HistogramDataPoint {
        bucket_counts: bucket_counts.collect(),
        explicit_bounds: (histogram.classic())
            .map(|(bound, _)| bound)
            .filter(|bound| bound.is_finite())
            .collect(),
        attributes: head.attributes,
        start_time_unix_nano: head.start_time_unix_nano,
        time_unix_nano: head.time_unix_nano,
        count: histogram.count(),
        sum: known_sum(histogram),
        exemplars: histogram.exemplars().map(to_exemplar).collect(),
        ..HistogramDataPoint::default()
    };
    let data = metric.data.get_or_insert_with(|| {
        Data::Histogram(Histogram {
            data_points: Vec::new(),
            aggregation_temporality: CUMULATIVE,
        })
    });
    if let Data::Histogram(histogram) = data {
        histogram.data_points.push(point);
    }
}

/// The sum; none where observations may have been negative, so that it is no counter.
fn known_sum(histogram: VisitedHistogram<'_>) -> Option<f64> {
    let may_be_negative = histogram
        .classic()
        .next()
        .is_some_and(|(bound, _)| bound < 0.0);
    let sum = histogram.sum();
    (!may_be_negative && (sum >= 0.0 || sum.is_nan())).then_some(sum)
}

fn to_exemplar(exemplar: VisitedExemplar) -> Exemplar {
    Exemplar {
        time_unix_nano: nanoseconds(exemplar.at),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
        trace_id: exemplar.span.trace_id.to_be_bytes().to_vec(),
        span_id: exemplar.span.span_id.to_be_bytes().to_vec(),
        ..Exemplar::default()
    }
}

fn push_summary(
    metric: &mut Metric,
    head: PointHead,
    count: u64,
    sum: f64,
    quantiles: &[(f64, f64)],
) {
    let point = SummaryDataPoint {
        attributes: head.attributes,
        start_time_unix_nano: head.start_time_unix_nano,
        time_unix_nano: head.time_unix_nano,
        count,
        sum,
        quantile_values: (quantiles.iter())
            .map(|(quantile, value)| ValueAtQuantile {
                quantile: *quantile,
                value: *value,
            })
            .collect(),
        ..SummaryDataPoint::default()
    };
    let data = metric
        .data
        .get_or_insert_with(|| Data::Summary(Summary::default()));
    if let Data::Summary(summary) = data {
        summary.data_points.push(point);
    }
}

#[cfg(test)]
mod tests;

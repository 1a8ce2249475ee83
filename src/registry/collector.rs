//! Collectors: rows that are read at scrape time from somewhere else, and their way into the expositions.
//!
//! Whatever a collector returns, the exposition stays valid: what it may not contain is left out, and the collector's
//! error counter tells of it. One collector never costs another's rows.

use std::collections::HashSet;
use std::error::Error;
use std::ops::Add;
use std::panic::{AssertUnwindSafe, catch_unwind};

use prometheus::proto::{self, MetricType};

use super::descriptor::{FamilyDescription, Kind, Unit};
use super::encoder::Encoder;
use super::exposition::{Bounds, Header, HistogramValue, Labels, Number, Reading, Value};
use super::family::Exposed;
use super::label::{is_label_name, is_metric_name, push_pair};
use super::protobuf;

/// Bridged series that one step of a walk writes.
const BATCH: usize = 64;

/// A source of rows that are read at scrape time.
pub trait Collector: Send + Sync + 'static {
    /// The value of the `collector` label in `vitals_collector_errors_total`; unique in a registry.
    fn name(&self) -> &'static str;

    /// The families that rows may come in, for documentation.
    fn describe(&self) -> Vec<FamilyDescription>;

    /// Reads the rows of this moment, on a thread that may block.
    ///
    /// A scrape that gets tired of waiting goes on without these rows, and later ones skip this collector until it has
    /// returned; each time counts as one error.
    ///
    /// Where this errs, the rows pushed before are exposed nevertheless; where it panics, they are not. Either counts
    /// as one error.
    fn collect(
        &self,
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// A collector of the `prometheus` crate under a name of its own.
pub(crate) struct Foreign {
    name: &'static str,
    collector: Box<dyn prometheus::core::Collector>,
}

impl Foreign {
    pub(crate) fn new(name: &'static str, collector: Box<dyn prometheus::core::Collector>) -> Self {
        Self { name, collector }
    }
}

impl Collector for Foreign {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        let descs = self.collector.desc();
        let mut families = describe_rows(&self.collector.collect());
        for family in &mut families {
            if let Some(desc) = descs.iter().find(|desc| desc.fq_name == family.name) {
                family.labels.clone_from(&desc.variable_labels);
            }
        }
        families
    }

    fn collect(
        &self,
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        rows.extend(self.collector.collect());
        Ok(())
    }
}

/// An embedded registry of the `prometheus` crate.
pub(crate) struct Embedded(pub(crate) prometheus::Registry);

impl Collector for Embedded {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        describe_rows(&self.0.gather())
    }

    fn collect(
        &self,
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        rows.extend(self.0.gather());
        Ok(())
    }
}

/// Descriptions by the rows themselves, with the labels of the first.
fn describe_rows(rows: &[proto::MetricFamily]) -> Vec<FamilyDescription> {
    rows.iter()
        .map(|row| {
            let labels = row
                .get_metric()
                .first()
                .map_or(&[][..], |metric| metric.get_label());
            FamilyDescription {
                labels: labels.iter().map(|label| label.name().to_owned()).collect(),
                ..describe_row(row)
            }
        })
        .collect()
}

fn describe_row(row: &proto::MetricFamily) -> FamilyDescription {
    let mut family = FamilyDescription {
        name: row.name().to_owned(),
        kind: match row.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::GAUGE => Kind::Gauge,
            MetricType::HISTOGRAM => Kind::Histogram,
            MetricType::SUMMARY => Kind::Summary,
            MetricType::UNTYPED => Kind::Unknown,
        },
        unit: Unit::None,
        help: row.help().to_owned(),
        labels: Vec::new(),
    };
    family.unit = Unit::of_name(family.base());
    family
}

/// The rows of one collector, as an exposition shows them.
pub(crate) struct Gathered {
    pub(crate) families: Vec<Bridged>,
    /// Whether the collector returned rows that cannot be exposed.
    pub(crate) faulty: bool,
}

/// Appends what a collector returns; whether all went well. Where it panics, nothing is appended.
pub(crate) fn read(collector: &dyn Collector, rows: &mut Vec<proto::MetricFamily>) -> bool {
    let before = rows.len();
    let outcome = catch_unwind(AssertUnwindSafe(|| collector.collect(rows)));
    if outcome.is_err() {
        rows.truncate(before);
    }
    matches!(outcome, Ok(Ok(())))
}

/// The sum of a family's series, if it is one of counters or gauges and has any.
pub(crate) fn sum(row: &proto::MetricFamily) -> Option<f64> {
    let series = row.get_metric().iter();
    match row.get_field_type() {
        MetricType::COUNTER => series
            .map(|metric| metric.get_counter().value())
            .reduce(Add::add),
        MetricType::GAUGE => series
            .map(|metric| metric.get_gauge().value())
            .reduce(Add::add),
        _ => None,
    }
}

/// Takes the rows that are valid and do not write samples of a name in `claimed`. Each series gets the labels in
/// `constant` that it does not have.
pub(crate) fn bridge(
    rows: &[proto::MetricFamily],
    constant: &[(String, String)],
    claimed: &mut HashSet<String>,
) -> Gathered {
    let mut faulty = false;
    let mut families = Vec::new();
    for row in rows.iter().filter(|row| !row.get_metric().is_empty()) {
        let description = describe_row(row);
        let names = description.sample_names();
        let taken = names.iter().any(|name| claimed.contains(name));
        if taken || !is_metric_name(&description.name) {
            faulty = true;
            continue;
        }
        let (series, complete) = convert(row, description.kind, constant);
        faulty |= !complete;
        if !series.is_empty() {
            claimed.extend(names);
            families.push(Bridged {
                header: Header::new(description),
                series,
            });
        }
    }
    Gathered { families, faulty }
}

/// A family that a collector returned, for one scrape.
pub(crate) struct Bridged {
    header: Header,
    series: Vec<BridgedSeries>,
}

struct BridgedSeries {
    text: String,
    protobuf: Vec<u8>,
    timestamp: Option<i64>,
    value: BridgedValue,
}

enum BridgedValue {
    Counter(f64),
    Gauge(f64),
    Unknown(f64),
    Histogram(Box<(Bounds, Reading)>),
    Summary {
        count: u64,
        sum: f64,
        quantiles: Vec<(f64, f64)>,
    },
}

impl BridgedValue {
    fn as_value(&self) -> Value<'_> {
        match self {
            BridgedValue::Counter(value) => Value::Counter(Number::Float(*value)),
            BridgedValue::Gauge(value) => Value::Gauge(Number::Float(*value)),
            BridgedValue::Unknown(value) => Value::Unknown(*value),
            BridgedValue::Histogram(histogram) => Value::Histogram(HistogramValue {
                bounds: &histogram.0,
                reading: &histogram.1,
                native: false,
            }),
            BridgedValue::Summary {
                count,
                sum,
                quantiles,
            } => Value::Summary {
                count: *count,
                sum: *sum,
                quantiles,
            },
        }
    }
}

impl Exposed for Bridged {
    fn header(&self) -> &Header {
        &self.header
    }

    fn encode(
        &self,
        from: usize,
        encoder: &mut Encoder,
        _: &mut Reading,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        if from == 0 {
            encoder.head(out, &self.header);
        }
        for series in self.series.iter().skip(from).take(BATCH) {
            let labels = Labels {
                text: &series.text,
                protobuf: &series.protobuf,
            };
            let value = series.value.as_value();
            encoder.series(out, &self.header, labels, value, None, series.timestamp);
        }
        (from + BATCH < self.series.len()).then_some(from + BATCH)
    }
}

/// The valid series of a row, each label set once; and whether that is all of them.
fn convert(
    row: &proto::MetricFamily,
    kind: Kind,
    constant: &[(String, String)],
) -> (Vec<BridgedSeries>, bool) {
    let mut seen = HashSet::new();
    let metrics = row.get_metric();
    let series: Vec<_> = (metrics.iter())
        .filter_map(|metric| {
            let (text, protobuf) = convert_labels(metric.get_label(), kind, constant, &mut seen)?;
            let value = convert_value(metric, kind)?;
            let timestamp = metric.timestamp_ms();
            Some(BridgedSeries {
                text,
                protobuf,
                timestamp: (timestamp != 0).then_some(timestamp),
                value,
            })
        })
        .collect();
    let complete = series.len() == metrics.len();
    (series, complete)
}

/// Renders labels; none where they are invalid, or have been seen before in whatever order.
fn convert_labels(
    labels: &[proto::LabelPair],
    kind: Kind,
    constant: &[(String, String)],
    seen: &mut HashSet<String>,
) -> Option<(String, Vec<u8>)> {
    let reserved = match kind {
        Kind::Histogram => "le",
        Kind::Summary => "quantile",
        _ => "",
    };
    let mut sorted: Vec<_> = labels
        .iter()
        .map(|label| (label.name(), label.value()))
        .collect();
    let missing = (constant.iter())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| *name != reserved && labels.iter().all(|own| own.name() != *name));
    sorted.extend(missing);
    sorted.sort_unstable();
    let valid = sorted
        .iter()
        .all(|(name, _)| is_label_name(name) && *name != reserved)
        && sorted.windows(2).all(|pair| pair[0].0 != pair[1].0);
    let (mut text, mut protobuf) = (String::new(), Vec::new());
    for (name, value) in sorted {
        push_pair(&mut text, name, value);
        protobuf::push_label(&mut protobuf, name, value);
    }
    (valid && seen.insert(text.clone())).then_some((text, protobuf))
}

/// A metric's value; none where OpenMetrics could not hold it.
fn convert_value(metric: &proto::Metric, kind: Kind) -> Option<BridgedValue> {
    Some(match kind {
        Kind::Counter => {
            let value = metric.get_counter().get_value();
            BridgedValue::Counter((value >= 0.0).then_some(value)?)
        }
        Kind::Gauge => BridgedValue::Gauge(metric.get_gauge().get_value()),
        Kind::Unknown => BridgedValue::Unknown(untyped_value(metric)?),
        Kind::Histogram => {
            let (bounds, reading) = convert_histogram(metric.get_histogram())?;
            BridgedValue::Histogram(Box::new((bounds, reading)))
        }
        Kind::Summary => {
            let summary = metric.get_summary();
            let quantiles: Vec<_> = (summary.get_quantile().iter())
                .map(|quantile| (quantile.quantile(), quantile.value()))
                .collect();
            let ordered = quantiles.is_sorted_by(|a, b| a.0 < b.0);
            let shares = quantiles.iter().all(|(quantile, value)| {
                (0.0..=1.0).contains(quantile) && (value.is_nan() || *value >= 0.0)
            });
            let sum = summary.sample_sum();
            (ordered && shares && sum >= 0.0).then(|| BridgedValue::Summary {
                count: summary.sample_count(),
                sum,
                quantiles,
            })?
        }
    })
}

/// A histogram with ascending bounds and counts; none where they are not.
fn convert_histogram(histogram: &proto::Histogram) -> Option<(Bounds, Reading)> {
    let count = histogram.get_sample_count();
    let (mut bounds, mut classic) = (Vec::new(), Vec::new());
    for bucket in histogram.get_bucket() {
        let bound = bucket.upper_bound();
        if bound != f64::INFINITY {
            bounds.push(bound);
            classic.push(bucket.cumulative_count());
        } else if bucket.cumulative_count() != count {
            return None;
        }
    }
    classic.push(count);
    let sum = histogram.get_sample_sum();
    let valid = bounds.iter().all(|bound| bound.is_finite())
        && bounds.is_sorted_by(|a, b| a < b)
        && classic.is_sorted()
        && sum >= 0.0;
    valid.then(|| {
        let reading = Reading {
            sum,
            classic,
            ..Reading::default()
        };
        (Bounds::new(&bounds), reading)
    })
}

/// The value of an untyped metric.
///
/// The `prometheus` crate has two models, by its `protobuf` feature, and no accessor that stands in both; their debug
/// output does.
fn untyped_value(metric: &proto::Metric) -> Option<f64> {
    let mut bare = metric.clone();
    bare.take_label();
    let text = format!("{bare:?}");
    let untyped = &text[text.find("untyped:")?..];
    let value = &untyped[untyped.find("value:")? + "value:".len()..];
    let value = value.trim_start().trim_start_matches("Some(");
    let end = value.find([',', ')', '}', ' ']).unwrap_or(value.len());
    value[..end].parse().ok()
}

/// The value of a counter or gauge by whichever accessor the model of the `prometheus` crate has: `get_value` without
/// its `protobuf` feature, `value` with it. An inherent method goes before these, so one of the two is always real.
#[allow(
    dead_code,
    reason = "which of the two is called depends on that feature"
)]
trait Scalar {
    fn get_value(&self) -> f64;
    fn value(&self) -> f64;
}

impl Scalar for proto::Counter {
    fn get_value(&self) -> f64 {
        self.value()
    }

    fn value(&self) -> f64 {
        self.get_value()
    }
}

impl Scalar for proto::Gauge {
    fn get_value(&self) -> f64 {
        self.value()
    }

    fn value(&self) -> f64 {
        self.get_value()
    }
}

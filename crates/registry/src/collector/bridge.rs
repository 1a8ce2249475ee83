//! The rows of a collector as the expositions write them: what each format can hold, and what none can.

use std::collections::HashSet;

use prometheus::proto;

use super::fault::{Fault, FaultKind};
use crate::descriptor::{FamilyDescription, Kind};
use crate::encoder::Encoder;
use crate::exposition::{Bounds, Header, HistogramValue, Labels, Number, Reading, Value};
use crate::family::Exposed;
use crate::label::{is_label_name, push_pair};
use crate::negotiate::Format;
use crate::{openmetrics, protobuf};

/// Bridged series that one step of a walk writes.
const BATCH: usize = 64;

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
    /// Leaves out what OpenMetrics does not allow; fails where that is all of it.
    fn fit_openmetrics(&mut self, found: &mut HashSet<FaultKind>) -> Result<(), FaultKind> {
        match self {
            Self::Counter(value) if openmetrics::is_total(*value) => {}
            Self::Counter(_) => return Err(FaultKind::NegativeCounter),
            Self::Gauge(_) | Self::Unknown(_) => {}
            Self::Histogram(histogram) => {
                let (bounds, reading) = &**histogram;
                if !openmetrics::has_sum(bounds, reading.sum) {
                    found.insert(FaultKind::NegativeSum);
                }
            }
            Self::Summary { sum, quantiles, .. } => {
                let before = quantiles.len();
                quantiles.retain(|(_, value)| value.is_nan() || *value >= 0.0);
                if quantiles.len() < before {
                    found.insert(FaultKind::NegativeQuantile);
                }
                if !openmetrics::is_total(*sum) {
                    found.insert(FaultKind::NegativeSum);
                }
            }
        }
        Ok(())
    }

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

/// A family out of the rows of one name.
pub(super) struct Row<'a> {
    pub(super) description: FamilyDescription,
    pub(super) metrics: Vec<&'a proto::Metric>,
}

impl Row<'_> {
    /// What `format` can hold of the family; none where that is no series. Each series gets the labels in `constant` that
    /// it does not have. What is left out is put into `faults`.
    pub(super) fn bridge(
        self,
        constant: &[(String, String)],
        format: Format,
        faults: &mut Vec<Fault>,
    ) -> Option<Bridged> {
        let kind = self.description.kind;
        let mut found = HashSet::new();
        let mut seen = HashSet::new();
        let mut series = Vec::with_capacity(self.metrics.len());
        for metric in &self.metrics {
            let converted = convert(metric, kind, constant, format, &mut seen, &mut found);
            match converted {
                Ok(converted) => series.push(converted),
                Err(fault) => {
                    found.insert(fault);
                }
            }
        }
        let name = &self.description.name;
        faults.extend(found.into_iter().map(|kind| Fault::of_family(name, kind)));
        (!series.is_empty()).then(|| Bridged {
            header: Header::new(self.description),
            series,
        })
    }
}

/// Returns one series, or the fault of the whole series. Faults of its parts are put into `found`.
fn convert(
    metric: &proto::Metric,
    kind: Kind,
    constant: &[(String, String)],
    format: Format,
    seen: &mut HashSet<String>,
    found: &mut HashSet<FaultKind>,
) -> Result<BridgedSeries, FaultKind> {
    let (text, protobuf) = convert_labels(metric.get_label(), kind, constant, seen)?;
    let value = convert_value(metric, kind, found)?;
    let timestamp = metric.timestamp_ms();
    let mut series = BridgedSeries {
        text,
        protobuf,
        timestamp: (timestamp != 0).then_some(timestamp),
        value,
    };
    if format == Format::OpenMetrics {
        series.value.fit_openmetrics(found)?;
    }
    Ok(series)
}

/// Renders labels, unless they are invalid, or were seen before in any order.
fn convert_labels(
    labels: &[proto::LabelPair],
    kind: Kind,
    constant: &[(String, String)],
    seen: &mut HashSet<String>,
) -> Result<(String, Vec<u8>), FaultKind> {
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
    if !valid {
        return Err(FaultKind::InvalidLabels);
    }
    let (mut text, mut protobuf) = (String::new(), Vec::new());
    // To Prometheus, a label with an empty value is no label.
    let mut identity = String::new();
    for (name, value) in sorted {
        push_pair(&mut text, name, value);
        protobuf::push_label(&mut protobuf, name, value);
        if !value.is_empty() {
            push_pair(&mut identity, name, value);
        }
    }
    if seen.insert(identity) {
        Ok((text, protobuf))
    } else {
        Err(FaultKind::DuplicateSeries)
    }
}

/// A metric's value. Any number is accepted: text and protobuf hold them all.
fn convert_value(
    metric: &proto::Metric,
    kind: Kind,
    found: &mut HashSet<FaultKind>,
) -> Result<BridgedValue, FaultKind> {
    Ok(match kind {
        Kind::Counter => BridgedValue::Counter(metric.get_counter().get_value()),
        Kind::Gauge => BridgedValue::Gauge(metric.get_gauge().get_value()),
        Kind::Unknown => BridgedValue::Unknown(untyped_value(metric).ok_or(FaultKind::Unreadable)?),
        Kind::Histogram => {
            let histogram = convert_histogram(metric.get_histogram());
            BridgedValue::Histogram(Box::new(histogram.ok_or(FaultKind::InvalidBuckets)?))
        }
        Kind::Summary => {
            let summary = metric.get_summary();
            BridgedValue::Summary {
                count: summary.sample_count(),
                sum: summary.sample_sum(),
                quantiles: convert_quantiles(summary.get_quantile(), found),
            }
        }
    })
}

/// The quantiles between 0 and 1 in their order, each once.
fn convert_quantiles(
    quantiles: &[proto::Quantile],
    found: &mut HashSet<FaultKind>,
) -> Vec<(f64, f64)> {
    let mut valid: Vec<_> = quantiles
        .iter()
        // Zero has no sign here.
        .map(|quantile| (quantile.quantile() + 0.0, quantile.value()))
        .filter(|(quantile, _)| (0.0..=1.0).contains(quantile))
        .collect();
    valid.sort_by(|a, b| a.0.total_cmp(&b.0));
    valid.dedup_by(|a, b| a.0.total_cmp(&b.0).is_eq());
    if valid.len() < quantiles.len() {
        found.insert(FaultKind::InvalidQuantile);
    }
    valid
}

/// A histogram by its buckets in the order of their bounds; none where they contradict each other or its count. The last
/// bucket, of everything, may be missing: that is the count.
fn convert_histogram(histogram: &proto::Histogram) -> Option<(Bounds, Reading)> {
    let count = histogram.get_sample_count();
    let mut buckets: Vec<_> = histogram
        .get_bucket()
        .iter()
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
        .chain([(f64::INFINITY, count)])
        .collect();
    if buckets
        .iter()
        .any(|(bound, _)| bound.is_nan() || *bound == f64::NEG_INFINITY)
    {
        return None;
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup();
    let rises = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
    let finite: Vec<_> = buckets[..buckets.len() - 1]
        .iter()
        .map(|(bound, _)| *bound)
        .collect();
    rises.then(|| {
        let reading = Reading {
            sum: histogram.get_sample_sum(),
            classic: buckets.iter().map(|(_, cumulative)| *cumulative).collect(),
            ..Reading::default()
        };
        (Bounds::new(&finite), reading)
    })
}

/// The value of an untyped metric.
///
/// The `prometheus` crate has two models, by its `protobuf` feature. No accessor exists in both, but their debug output
/// is the same.
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
pub(super) trait Scalar {
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

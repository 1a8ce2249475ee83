//! The bridge: converts the rows of a collector to what a format can hold, and leaves out the rest.

use std::collections::HashSet;

use super::fault::{Fault, FaultKind};
use crate::builder::DEFAULT_NATIVE_BUCKETS;
use crate::descriptor::{FamilyDescription, MetricKind};
use crate::encoder::Encoder;
use crate::escaping::is_same_label;
use crate::exposition::{
    Bounds, Header, HistogramReading, HistogramValue, Labels, NativeReading, Number, Value,
};
use crate::family::{Exposed, Sample};
use crate::histogram::HistogramSnapshot;
use crate::label::{is_label_name, may_be_label_name, push_pair};
use crate::native::{SCHEMA, ZERO_THRESHOLD, index, lower};
use crate::negotiate::Format;
use crate::row::{RowValue, SeriesRow};
use crate::visit::VisitSeries;
use crate::{protobuf, text};

/// The number of series that one step of a walk writes.
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
    Histogram(Box<(Bounds, HistogramReading)>),
    Summary {
        count: u64,
        sum: f64,
        quantiles: Vec<(f64, f64)>,
    },
}

impl BridgedValue {
    /// Removes what OpenMetrics does not allow, or fails if that is all.
    fn fit_openmetrics(&mut self, found: &mut HashSet<FaultKind>) -> Result<(), FaultKind> {
        match self {
            Self::Counter(value) if text::is_total(*value) => {}
            Self::Counter(_) => return Err(FaultKind::NegativeCounter),
            Self::Gauge(_) | Self::Unknown(_) => {}
            Self::Histogram(histogram) => {
                let (bounds, reading) = &**histogram;
                if !text::has_sum(bounds, reading.sum) {
                    found.insert(FaultKind::NegativeSum);
                }
            }
            Self::Summary { sum, quantiles, .. } => {
                let before = quantiles.len();
                quantiles.retain(|(_, value)| value.is_nan() || *value >= 0.0);
                if quantiles.len() < before {
                    found.insert(FaultKind::NegativeQuantile);
                }
                if !text::is_total(*sum) {
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
                native: !histogram.1.native.is_empty(),
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
        _: &mut HistogramReading,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        if from == 0 {
            encoder.head(out, &self.header);
        }
        for series in self.series.iter().skip(from).take(BATCH) {
            let (labels, value) = (series.labels(), series.value.as_value());
            encoder.series(out, &self.header, labels, value, None, series.timestamp);
        }
        (from + BATCH < self.series.len()).then_some(from + BATCH)
    }

    fn visit(&self, _: &mut HistogramReading, visit: &mut VisitSeries<'_>) {
        for series in &self.series {
            let (labels, value) = (series.labels(), series.value.as_value());
            visit(labels, value, None, series.timestamp);
        }
    }

    /// Returns 0. Only the sums of declared families are asked for.
    fn sum(&self, _: Sample, _: &[(usize, &str)]) -> f64 {
        0.0
    }
}

impl BridgedSeries {
    fn labels(&self) -> Labels<'_> {
        Labels {
            text: &self.text,
            protobuf: &self.protobuf,
        }
    }
}

/// A family with all rows of its name.
pub(super) struct MergedFamily<'a> {
    pub(super) description: FamilyDescription,
    pub(super) series: Vec<&'a SeriesRow>,
}

impl MergedFamily<'_> {
    /// Returns what `format` can hold of the family, or `None` if that is no series. Each series gets the labels in
    /// `constant` that it does not have. A fault is added to `faults` for each part that is left out.
    pub(super) fn bridge(
        self,
        constant: &[(String, String)],
        format: Format,
        faults: &mut Vec<Fault>,
    ) -> Option<Bridged> {
        let kind = self.description.kind;
        let mut found = HashSet::new();
        let mut seen = HashSet::new();
        let mut series = Vec::with_capacity(self.series.len());
        for row in &self.series {
            match convert(row, kind, constant, format, &mut seen, &mut found) {
                Ok(converted) => series.push(converted),
                Err(fault) => {
                    found.insert(fault);
                }
            }
        }
        let name = &self.description.name;
        faults.extend(found.into_iter().map(|kind| Fault::of_family(name, kind)));
        let mut labels = self.series.iter().flat_map(|row| row.labels());
        let is_utf8 = labels.any(|(name, _)| !is_label_name(name));
        let mut header = Header::new(self.description);
        header.is_utf8 |= is_utf8;
        (!series.is_empty()).then_some(Bridged { header, series })
    }
}

/// Returns one series, or the fault of the whole series. Faults of its parts are added to `found`.
fn convert(
    row: &SeriesRow,
    kind: MetricKind,
    constant: &[(String, String)],
    format: Format,
    seen: &mut HashSet<String>,
    found: &mut HashSet<FaultKind>,
) -> Result<BridgedSeries, FaultKind> {
    let (text, protobuf) = convert_labels(row, kind, constant, seen)?;
    let mut series = BridgedSeries {
        text,
        protobuf,
        timestamp: row.timestamp,
        value: convert_value(&row.value, kind, found)?,
    };
    if format == Format::OpenMetrics {
        series.value.fit_openmetrics(found)?;
    }
    Ok(series)
}

/// Renders labels, unless they are invalid, or an earlier series has the same in any order.
fn convert_labels(
    row: &SeriesRow,
    kind: MetricKind,
    constant: &[(String, String)],
    seen: &mut HashSet<String>,
) -> Result<(String, Vec<u8>), FaultKind> {
    let reserved = match kind {
        MetricKind::Histogram => "le",
        MetricKind::Summary => "quantile",
        _ => "",
    };
    let mut sorted: Vec<_> = row.labels().collect();
    let missing = (constant.iter())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| {
            *name != reserved && row.labels().all(|(own, _)| !is_same_label(own, name))
        });
    sorted.extend(missing);
    sorted.sort_unstable();
    let valid = sorted
        .iter()
        .all(|(name, _)| may_be_label_name(name) && *name != reserved)
        && has_distinct_names(&sorted);
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

/// Whether all names of sorted labels differ, as they are and by every escaping scheme.
fn has_distinct_names(sorted: &[(&str, &str)]) -> bool {
    if sorted.iter().all(|(name, _)| is_label_name(name)) {
        return sorted.windows(2).all(|pair| pair[0].0 != pair[1].0);
    }
    (sorted.iter().enumerate()).all(|(at, (name, _))| {
        sorted[..at]
            .iter()
            .all(|(other, _)| !is_same_label(other, name))
    })
}

/// Returns the value of a series. Any number is accepted: text and protobuf can hold all of them.
fn convert_value(
    value: &RowValue,
    kind: MetricKind,
    found: &mut HashSet<FaultKind>,
) -> Result<BridgedValue, FaultKind> {
    match (kind, value) {
        (MetricKind::Counter, RowValue::Number(number)) => Ok(BridgedValue::Counter(*number)),
        (MetricKind::Gauge, RowValue::Number(number)) => Ok(BridgedValue::Gauge(*number)),
        (MetricKind::Unknown, RowValue::Number(number)) => Ok(BridgedValue::Unknown(*number)),
        (MetricKind::Histogram, RowValue::Histogram(histogram)) => {
            let histogram = convert_histogram(histogram).ok_or(FaultKind::InvalidBuckets)?;
            Ok(BridgedValue::Histogram(Box::new(histogram)))
        }
        (
            MetricKind::Summary,
            RowValue::Summary {
                count,
                sum,
                quantiles,
            },
        ) => Ok(BridgedValue::Summary {
            count: *count,
            sum: *sum,
            quantiles: convert_quantiles(quantiles, found),
        }),
        _ => Err(FaultKind::WrongType),
    }
}

/// Returns the quantiles between 0 and 1 in ascending order, each once.
fn convert_quantiles(quantiles: &[(f64, f64)], found: &mut HashSet<FaultKind>) -> Vec<(f64, f64)> {
    let mut valid: Vec<_> = quantiles
        .iter()
        // Adding 0 removes the sign of a zero.
        .map(|(quantile, value)| (quantile + 0.0, *value))
        .filter(|(quantile, _)| (0.0..=1.0).contains(quantile))
        .collect();
    valid.sort_by(|a, b| a.0.total_cmp(&b.0));
    valid.dedup_by(|a, b| a.0.total_cmp(&b.0).is_eq());
    if valid.len() < quantiles.len() {
        found.insert(FaultKind::InvalidQuantile);
    }
    valid
}

/// Returns a histogram with its classic buckets in ascending order, or `None` if its buckets contradict each other or its
/// count. The infinite classic bucket may be missing, as it holds the count.
fn convert_histogram(histogram: &HistogramSnapshot) -> Option<(Bounds, HistogramReading)> {
    let mut buckets = histogram.classic.clone();
    buckets.push((f64::INFINITY, histogram.count));
    if buckets
        .iter()
        .any(|(bound, _)| bound.is_nan() || *bound == f64::NEG_INFINITY)
    {
        return None;
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup();
    let rises = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
    let native = convert_native(histogram)?;
    let finite: Vec<_> = buckets[..buckets.len() - 1]
        .iter()
        .map(|(bound, _)| *bound)
        .collect();
    rises.then(|| {
        let reading = HistogramReading {
            sum: histogram.sum,
            classic: buckets.iter().map(|(_, cumulative)| *cumulative).collect(),
            native,
            ..HistogramReading::default()
        };
        (Bounds::new(&finite), reading)
    })
}

/// Returns the native buckets, at a resolution of at most [`DEFAULT_NATIVE_BUCKETS`] populated ones, or `None` if their
/// indices are not ascending or not those of a float, or if their counts do not add up to the histogram's.
fn convert_native(histogram: &HistogramSnapshot) -> Option<NativeReading> {
    let mut native = NativeReading {
        schema: SCHEMA,
        zero_count: histogram.zero_count,
        buckets: histogram.native.clone(),
        ..NativeReading::default()
    };
    if !native.is_empty() {
        let range = index(ZERO_THRESHOLD)..=index(f64::INFINITY);
        let valid = native.buckets.is_sorted_by(|a, b| a.0 < b.0)
            && native.buckets.iter().all(|(at, _)| range.contains(at));
        let mut counts = native.buckets.iter().map(|(_, count)| *count);
        let sum = counts.try_fold(histogram.zero_count, u64::checked_add);
        if !valid || sum != Some(histogram.count) {
            return None;
        }
        native.schema = lower(&mut native.buckets, DEFAULT_NATIVE_BUCKETS);
    }
    Some(native)
}

//! The converter from the `prometheus` crate: its collectors and its registry as collectors of this crate.
//!
//! Nothing else in this crate reads the rows of that crate. It has two models of a row, by its feature `protobuf`, which
//! another crate of the same build may enable. The converter compiles with both.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use prometheus::proto::{self, MetricType};

use super::Collector;
use crate::descriptor::{FamilyDescription, MetricKind, Unit};
use crate::histogram::HistogramSnapshot;
use crate::row::{FamilyRows, RowValue};

/// A collector of the `prometheus` crate, under a name of its own.
pub(crate) struct Foreign {
    name: &'static str,
    collector: Box<dyn prometheus::core::Collector>,
    last: LastFamilies,
}

impl Foreign {
    pub(crate) fn new(name: &'static str, collector: Box<dyn prometheus::core::Collector>) -> Self {
        Self {
            name,
            collector,
            last: LastFamilies::default(),
        }
    }
}

impl Collector for Foreign {
    fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the collector's own descriptions. These lack the types of the families, which are known after the first
    /// reading.
    fn describe(&self) -> Vec<FamilyDescription> {
        let last = self.last.describe();
        let describe = |desc: &prometheus::core::Desc| {
            let known = last.iter().find(|known| known.name == desc.fq_name);
            let mut family = known.cloned().unwrap_or_else(|| FamilyDescription {
                name: desc.fq_name.clone(),
                kind: MetricKind::Unknown,
                unit: Unit::of_name(&desc.fq_name),
                help: desc.help.clone(),
                labels: Vec::new(),
            });
            family.labels.clone_from(&desc.variable_labels);
            family
        };
        self.collector.desc().into_iter().map(describe).collect()
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        append(&self.collector.collect(), &self.last, rows)
    }
}

/// An embedded registry of the `prometheus` crate.
pub(crate) struct Embedded {
    registry: prometheus::Registry,
    last: LastFamilies,
}

impl Embedded {
    pub(crate) fn new(registry: prometheus::Registry) -> Self {
        Self {
            registry,
            last: LastFamilies::default(),
        }
    }
}

impl Collector for Embedded {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    /// Returns the descriptions from the last scrape: the registry has no newer ones without collecting.
    fn describe(&self) -> Vec<FamilyDescription> {
        self.last.describe()
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        append(&self.registry.gather(), &self.last, rows)
    }
}

/// The families of the last reading: all that is known of families that their collector does not describe.
#[derive(Debug, Default)]
struct LastFamilies(Mutex<Vec<FamilyDescription>>);

impl LastFamilies {
    /// Remembers the families of `rows`.
    fn remember(&self, rows: &[FamilyRows]) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = last.len() == rows.len()
            && (last.iter().zip(rows))
                .all(|(last, row)| last.name == row.name && last.kind == row.kind);
        if !unchanged {
            *last = rows.iter().map(FamilyRows::describe).collect();
        }
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}

/// Appends the converted families to `rows`, and remembers them.
fn append(
    families: &[proto::MetricFamily],
    last: &LastFamilies,
    rows: &mut Vec<FamilyRows>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let before = rows.len();
    let mut outcome = Ok(());
    for family in families {
        match convert(family) {
            Ok(family) => rows.push(family),
            Err(error) => outcome = Err(error.into()),
        }
    }
    last.remember(&rows[before..]);
    outcome
}

/// An untyped value, which the protobuf model of the `prometheus` crate has no accessor for.
#[derive(Debug, thiserror::Error)]
#[error("an untyped value cannot be read with the feature `protobuf` of the crate `prometheus`")]
pub(crate) struct UntypedValue;

/// Converts the rows of one family.
pub(crate) fn convert(family: &proto::MetricFamily) -> Result<FamilyRows, UntypedValue> {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => MetricKind::Counter,
        MetricType::GAUGE => MetricKind::Gauge,
        MetricType::HISTOGRAM => MetricKind::Histogram,
        MetricType::SUMMARY => MetricKind::Summary,
        MetricType::UNTYPED => MetricKind::Unknown,
    };
    let mut rows = FamilyRows::new(family.name().to_owned(), kind, family.help().to_owned());
    for metric in family.get_metric() {
        let labels = metric.get_label().iter();
        let labels = labels.map(|label| (label.name().to_owned(), label.value().to_owned()));
        let value = convert_value(metric, kind)?;
        match metric.timestamp_ms() {
            0 => rows.push(labels, value),
            timestamp => rows.push_at(labels, value, timestamp),
        }
    }
    Ok(rows)
}

fn convert_value(metric: &proto::Metric, kind: MetricKind) -> Result<RowValue, UntypedValue> {
    #[allow(
        unused_imports,
        reason = "the protobuf model does not need the one, the plain model not the other"
    )]
    use missing::{NumberAccessors as _, UntypedAccessors as _};

    Ok(match kind {
        MetricKind::Counter => RowValue::Number(metric.get_counter().value()),
        MetricKind::Gauge => RowValue::Number(metric.get_gauge().value()),
        MetricKind::Unknown => {
            #[allow(
                deprecated,
                clippy::useless_conversion,
                reason = "which applies depends on the model"
            )]
            let value = Option::<f64>::from(metric.get_untyped().get_value());
            RowValue::Number(value.ok_or(UntypedValue)?)
        }
        MetricKind::Histogram => RowValue::Histogram(convert_histogram(metric.get_histogram())),
        MetricKind::Summary => {
            let summary = metric.get_summary();
            let quantiles = summary.get_quantile().iter();
            RowValue::Summary {
                count: summary.sample_count(),
                sum: summary.sample_sum(),
                quantiles: quantiles
                    .map(|quantile| (quantile.quantile(), quantile.value()))
                    .collect(),
            }
        }
    })
}

fn convert_histogram(histogram: &proto::Histogram) -> HistogramSnapshot {
    let buckets = histogram.get_bucket().iter();
    HistogramSnapshot {
        count: histogram.get_sample_count(),
        sum: histogram.get_sample_sum(),
        classic: buckets
            .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
            .collect(),
        ..HistogramSnapshot::default()
    }
}

/// Accessors that only one of the two models of the `prometheus` crate has. An inherent method takes precedence over the
/// method of a trait, so each of these is called only with the model that lacks it.
#[allow(dead_code, reason = "which are called depends on the model")]
mod missing {
    use prometheus::proto;

    /// The value of a counter or gauge: `get_value` in the plain model, `value` in the protobuf model.
    pub(super) trait NumberAccessors {
        fn get_value(&self) -> f64;
        fn value(&self) -> f64;
    }

    impl NumberAccessors for proto::Counter {
        fn get_value(&self) -> f64 {
            self.value()
        }

        fn value(&self) -> f64 {
            self.get_value()
        }
    }

    impl NumberAccessors for proto::Gauge {
        fn get_value(&self) -> f64 {
            self.value()
        }

        fn value(&self) -> f64 {
            self.get_value()
        }
    }

    /// The untyped value, which the protobuf model has no accessor for.
    pub(super) trait UntypedAccessors {
        fn get_untyped(&self) -> NoUntyped;
    }

    #[derive(Clone, Copy)]
    pub(super) struct NoUntyped;

    impl NoUntyped {
        #[allow(clippy::unused_self, reason = "called as the accessor is")]
        pub(super) fn get_value(self) -> Option<f64> {
            None
        }
    }

    impl UntypedAccessors for proto::Metric {
        fn get_untyped(&self) -> NoUntyped {
            NoUntyped
        }
    }
}

//! Rows: what a collector returns when it is read.
//!
//! A [`FamilyRows`] is one family with its series at one moment. A [`ReadFamily`] describes such a family once, as a
//! constant, and makes its rows. Whether a format can hold a row is decided later, in [`collector`](super::collector).

use std::borrow::Cow;

use super::descriptor::{FamilyDescription, MetricKind, Unit};
use super::histogram::HistogramSnapshot;

/// A family as a collector returns it: its name, type and help text, and its series.
///
/// The unit of the family is the one that its name ends in, such as `_seconds`.
///
/// ```
/// use vitals_registry::{FamilyRows, MetricKind};
///
/// let mut stock = FamilyRows::new("shop_stock", MetricKind::Gauge, "Items in stock, by article.");
/// stock.push([("article", "book")], 12.0);
/// stock.push([("article", "pen")], 3.0);
/// assert_eq!(stock.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyRows {
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: MetricKind,
    pub(crate) help: Cow<'static, str>,
    pub(crate) series: Vec<SeriesRow>,
}

/// One series of a family.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeriesRow {
    /// Name and value, in any order.
    pub(crate) labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub(crate) value: RowValue,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp: Option<i64>,
}

/// The value of a series.
///
/// ```
/// use vitals_registry::{FamilyRows, MetricKind, RowValue};
///
/// let mut sizes = FamilyRows::new("shop_order_bytes", MetricKind::Summary, "Sizes of orders.");
/// sizes.push_single(RowValue::Summary { count: 2, sum: 300.0, quantiles: vec![(0.5, 100.0)] });
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RowValue {
    /// The value of a counter, of a gauge, or of unknown type.
    Number(f64),
    /// The value of a histogram. Without native buckets (and zero count), it is exposed as a classic histogram.
    Histogram(HistogramSnapshot),
    /// The value of a summary.
    Summary {
        /// The number of observations.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Pairs of a quantile, between 0 and 1, and its value.
        quantiles: Vec<(f64, f64)>,
    },
}

impl From<f64> for RowValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<HistogramSnapshot> for RowValue {
    fn from(value: HistogramSnapshot) -> Self {
        Self::Histogram(value)
    }
}

impl FamilyRows {
    /// A family without series. A counter goes by its full name, which ends in `_total`.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        kind: MetricKind,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            help: help.into(),
            series: Vec::new(),
        }
    }

    /// Adds a series with these labels, pairs of a name and a value in any order.
    ///
    /// A value that is not of the family's type is left out of the exposition, and counted as an error of the collector.
    pub fn push<L, K, V>(&mut self, labels: L, value: impl Into<RowValue>)
    where
        L: IntoIterator<Item = (K, V)>,
        K: Into<Cow<'static, str>>,
        V: Into<Cow<'static, str>>,
    {
        self.push_row(labels, value.into(), None);
    }

    /// Adds a series without labels.
    pub fn push_single(&mut self, value: impl Into<RowValue>) {
        self.push([("", ""); 0], value);
    }

    /// Adds a series whose value is from another time than now, in milliseconds since the Unix epoch.
    pub fn push_at<L, K, V>(&mut self, labels: L, value: impl Into<RowValue>, timestamp_ms: i64)
    where
        L: IntoIterator<Item = (K, V)>,
        K: Into<Cow<'static, str>>,
        V: Into<Cow<'static, str>>,
    {
        self.push_row(labels, value.into(), Some(timestamp_ms));
    }

    fn push_row<L, K, V>(&mut self, labels: L, value: RowValue, timestamp: Option<i64>)
    where
        L: IntoIterator<Item = (K, V)>,
        K: Into<Cow<'static, str>>,
        V: Into<Cow<'static, str>>,
    {
        let labels = labels.into_iter();
        self.series.push(SeriesRow {
            labels: labels
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            value,
            timestamp,
        });
    }

    /// The name of the family.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Each series: its labels, as pairs of a name and a value, and its value.
    pub fn iter(&self) -> impl Iterator<Item = (impl Iterator<Item = (&str, &str)>, &RowValue)> {
        self.series.iter().map(|row| (row.labels(), &row.value))
    }

    /// The description of the family, with the labels of its first series.
    pub(crate) fn describe(&self) -> FamilyDescription {
        let labels = self.series.first().map_or(&[][..], |row| &row.labels);
        FamilyDescription {
            labels: labels.iter().map(|(name, _)| name.to_string()).collect(),
            ..self.head()
        }
    }

    /// The description of the family, without labels.
    pub(crate) fn head(&self) -> FamilyDescription {
        let mut family = FamilyDescription {
            name: self.name.to_string(),
            kind: self.kind,
            unit: Unit::None,
            help: self.help.to_string(),
            labels: Vec::new(),
        };
        family.unit = Unit::of_name(family.base());
        family
    }

    /// The sum of the series, if this is a family of counters or gauges and has any.
    pub(crate) fn sum(&self) -> Option<f64> {
        if !matches!(self.kind, MetricKind::Counter | MetricKind::Gauge) {
            return None;
        }
        let numbers = self.series.iter().filter_map(|row| match row.value {
            RowValue::Number(number) => Some(number),
            _ => None,
        });
        numbers.reduce(|sum, number| sum + number)
    }
}

impl SeriesRow {
    /// The labels as pairs of a name and a value.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// A counter or gauge whose values are read at scrape time, as a constant: a collector describes the family and makes
/// its rows by it.
///
/// ```
/// use vitals_registry::{ReadFamily, Unit};
///
/// const STOCK: ReadFamily =
///     ReadFamily::gauge("shop_stock", Unit::None, "Items in stock, by article.").labels(&["article"]);
///
/// assert_eq!(STOCK.describe().labels, ["article"]);
/// let rows = STOCK.series([(["book"], 12.0), (["pen"], 3.0)]);
/// assert_eq!((rows.name(), rows.len()), ("shop_stock", 2));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ReadFamily {
    /// The full name; a counter's ends in `_total`.
    pub name: &'static str,
    /// A counter or a gauge.
    pub kind: MetricKind,
    /// The unit, which the name ends in.
    pub unit: Unit,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The help text.
    pub help: &'static str,
}

impl ReadFamily {
    /// A gauge without labels.
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self {
            name,
            kind: MetricKind::Gauge,
            unit,
            labels: &[],
            help,
        }
    }

    /// A counter without labels.
    pub const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self {
            kind: MetricKind::Counter,
            ..Self::gauge(name, unit, help)
        }
    }

    /// The same family with these labels.
    #[must_use]
    pub const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    /// The description of the family.
    pub fn describe(&self) -> FamilyDescription {
        FamilyDescription {
            name: self.name.to_owned(),
            kind: self.kind,
            unit: self.unit,
            help: self.help.to_owned(),
            labels: self.labels.iter().map(|&label| label.to_owned()).collect(),
        }
    }

    /// The family with one series, which has no labels.
    pub fn single(&self, value: f64) -> FamilyRows {
        let mut rows = FamilyRows::new(self.name, self.kind, self.help);
        rows.push_single(value);
        rows
    }

    /// The family with a series for each set of label values, which are in the order of the labels' names.
    pub fn series<V, S>(&self, series: impl IntoIterator<Item = (V, f64)>) -> FamilyRows
    where
        V: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut rows = FamilyRows::new(self.name, self.kind, self.help);
        for (values, value) in series {
            let values = values.into_iter().map(|value| value.as_ref().to_owned());
            rows.push(self.labels.iter().copied().zip(values), value);
        }
        rows
    }
}

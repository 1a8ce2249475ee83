//! A visit: one walk over everything that is exposed, as values instead of text, for a protocol that this crate does not
//! write.
//!
//! [`Registry::visit`] passes each family and each of its series to a [`Visitor`]. The values are those of the protobuf
//! exposition: histograms come with their native buckets.

use std::fmt;
use std::time::Duration;

use super::descriptor::FamilyDescription;
use super::exemplar::SpanContext;
use super::exposition::{HistogramReading, HistogramValue, Labels, Number, Value};
use super::native::ZERO_THRESHOLD;
use super::negotiate::Format;
use super::scrape::NameFilter;
use super::{Collected, Registry};

/// Receives the families of a registry, each followed by its series. [`Registry::visit`] has an example.
pub trait Visitor {
    /// A family. It may have no series.
    fn family(&mut self, family: &FamilyDescription);

    /// A series of the last family.
    fn series(&mut self, series: VisitedSeries<'_>);
}

/// One series at this moment. [`Registry::visit`] has an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VisitedSeries<'a> {
    /// The labels, the constant ones included.
    pub labels: VisitedLabels<'a>,
    /// When the series began to count, since the Unix epoch; `None` where a collector returned it.
    pub created: Option<Duration>,
    /// When the value was read, in milliseconds since the Unix epoch; `None` if that is now.
    pub timestamp: Option<i64>,
    /// The value.
    pub value: VisitedValue<'a>,
}

/// The value of a series. [`Registry::visit`] has an example.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum VisitedValue<'a> {
    /// The value of a counter, of a gauge, or of unknown type.
    Number(Number),
    /// The value of a histogram.
    Histogram(VisitedHistogram<'a>),
    /// The value of a summary.
    Summary {
        /// The number of observations.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Pairs of a quantile and its value, ascending.
        quantiles: &'a [(f64, f64)],
    },
}

impl<'a> From<Value<'a>> for VisitedValue<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Counter(number) | Value::Gauge(number) => Self::Number(number),
            Value::Unknown(number) => Self::Number(Number::Float(number)),
            Value::Histogram(value) => Self::Histogram(VisitedHistogram(value)),
            Value::Summary {
                count,
                sum,
                quantiles,
            } => Self::Summary {
                count,
                sum,
                quantiles,
            },
        }
    }
}

/// The labels of a series: an iterator over pairs of a name and a value. [`VisitedHistogram`] has an example.
#[derive(Clone)]
pub struct VisitedLabels<'a> {
    /// As [`protobuf::push_label`](super::protobuf::push_label) wrote them: a series keeps its labels in no other form that
    /// can be read without unescaping.
    fields: &'a [u8],
}

impl<'a> VisitedLabels<'a> {
    /// The labels in fields of a protobuf metric.
    pub(crate) fn new(fields: &'a [u8]) -> Self {
        Self { fields }
    }
}

impl<'a> Iterator for VisitedLabels<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let mut pair = take_field(&mut self.fields)?;
        let name = take_field(&mut pair)?;
        let value = take_field(&mut pair)?;
        Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
    }
}

impl fmt::Debug for VisitedLabels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone()).finish()
    }
}

/// Takes the content of the next length-delimited field.
fn take_field<'a>(fields: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (_tag, rest) = fields.split_first()?;
    let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
    let (length, rest) = rest.split_at(end + 1);
    let length = length
        .iter()
        .rev()
        .fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    let content = rest.get(..length)?;
    *fields = &rest[length..];
    Some(content)
}

/// The value of a histogram.
///
/// ```
/// use std::time::Duration;
///
/// use vitals_registry::{Descriptor, FamilyDescription, Registry, VisitedSeries, VisitedValue, Visitor};
///
/// /// Counts the observations by native bucket, over all series.
/// #[derive(Default)]
/// struct Buckets(Vec<(i32, u64)>);
///
/// impl Visitor for Buckets {
///     fn family(&mut self, _: &FamilyDescription) {}
///
///     fn series(&mut self, series: VisitedSeries<'_>) {
///         if let VisitedValue::Histogram(histogram) = series.value {
///             assert_eq!(histogram.exemplars().count(), 0);
///             assert!(series.labels.eq([("article", "book")]));
///             self.0.extend(histogram.native().into_iter().flat_map(|buckets| buckets.populated()));
///         }
///     }
/// }
///
/// # fn main() -> Result<(), vitals_registry::RegistryError> {
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let sizes = registry.histogram(Descriptor::new("shop_order_size", "Sizes.", ["article"]), &[10.0]);
/// let registry = registry.build()?;
/// sizes.series(["book"]).observe(1.0);
/// let mut buckets = Buckets::default();
/// registry.visit(&[], &mut buckets);
/// assert_eq!(buckets.0, [(0, 1)]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct VisitedHistogram<'a>(HistogramValue<'a>);

impl<'a> VisitedHistogram<'a> {
    /// The number of observations: those of the native buckets, or of the classic ones where there are no others.
    pub fn count(&self) -> u64 {
        let reading = self.0.reading;
        match self.native() {
            Some(_) => reading.native.count(),
            None => reading.classic.last().copied().unwrap_or(0),
        }
    }

    /// The sum of the observations.
    pub fn sum(&self) -> f64 {
        self.0.reading.sum
    }

    /// The native buckets; `None` for a histogram of a collector that has classic ones only.
    pub fn native(&self) -> Option<VisitedBuckets<'a>> {
        self.0.native.then_some(VisitedBuckets(self.0.reading))
    }

    /// Upper bound and cumulative count of each classic bucket, ascending; the last bound is infinite.
    pub fn classic(&self) -> impl Iterator<Item = (f64, u64)> + use<'a> {
        let bounds = self.0.bounds.values.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.0.reading.classic.iter().copied())
    }

    /// The exemplars: of the native buckets, or of the classic ones where there are no others.
    pub fn exemplars(&self) -> impl Iterator<Item = VisitedExemplar> + use<'a> {
        let HistogramReading {
            exemplars, native, ..
        } = self.0.reading;
        let (native, classic) = if self.0.native {
            (&native.exemplars[..], &[][..])
        } else {
            (&[][..], &exemplars[..])
        };
        let exemplars = native.iter().chain(classic.iter().flatten());
        exemplars.map(|exemplar| VisitedExemplar {
            value: exemplar.value,
            at: exemplar.at,
            span: exemplar.span,
        })
    }
}

/// One observation with the span that it was made in. [`VisitedHistogram`] has an example.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct VisitedExemplar {
    /// The observed value.
    pub value: f64,
    /// When it was observed, since the Unix epoch.
    pub at: Duration,
    /// The span.
    pub span: SpanContext,
}

/// The native buckets of a histogram. [`VisitedHistogram`] has an example.
#[derive(Clone, Copy, Debug)]
pub struct VisitedBuckets<'a>(&'a HistogramReading);

impl<'a> VisitedBuckets<'a> {
    /// The resolution, from -4 to 5: bucket `i` takes `base^(i-1) < v <= base^i`, where `base` is `2^(2^-schema)`.
    pub fn schema(&self) -> i32 {
        self.0.native.schema
    }

    /// The largest value of the zero bucket.
    pub fn zero_threshold(&self) -> f64 {
        ZERO_THRESHOLD
    }

    /// The observations in the zero bucket.
    pub fn zero_count(&self) -> u64 {
        self.0.native.zero_count
    }

    /// Index and count of each populated bucket, ascending.
    pub fn populated(&self) -> impl Iterator<Item = (i32, u64)> + use<'a> {
        let native = &self.0.native;
        native
            .octaves
            .buckets()
            .chain(native.buckets.iter().copied())
    }
}

impl Registry {
    /// Passes every family to `visitor`, with rows that were read before, in the order of an exposition. A declared
    /// family's values are read during the visit. No lock is held while the visitor runs.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use vitals_registry::{
    ///     Descriptor, FamilyDescription, Number, Registry, VisitedSeries, VisitedValue, Visitor,
    /// };
    ///
    /// #[derive(Default)]
    /// struct Totals(Vec<(String, f64)>);
    ///
    /// impl Visitor for Totals {
    ///     fn family(&mut self, family: &FamilyDescription) {
    ///         self.0.push((family.name.clone(), 0.0));
    ///     }
    ///
    ///     fn series(&mut self, series: VisitedSeries<'_>) {
    ///         if let (Some((_, total)), VisitedValue::Number(number)) = (self.0.last_mut(), series.value) {
    ///             *total += number.as_f64();
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), vitals_registry::RegistryError> {
    /// let mut registry = Registry::builder(|| Duration::ZERO);
    /// let orders = registry.counter(Descriptor::new("shop_orders_total", "Orders.", ["article"]));
    /// let registry = registry.build()?;
    /// orders.series(["book"]).add(2);
    /// orders.series(["pen"]).add(3);
    /// let mut totals = Totals::default();
    /// registry.visit(&[], &mut totals);
    /// assert_eq!(totals.0[0], ("shop_orders_total".to_owned(), 5.0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn visit(&self, collected: &[Collected], visitor: &mut dyn Visitor) {
        let mut reading = HistogramReading::default();
        for family in self.exposed(Format::Protobuf, &NameFilter::all(), collected) {
            visitor.family(&family.header().description);
            family.visit(&mut reading, &mut |labels, value, created, timestamp| {
                visitor.series(VisitedSeries {
                    labels: VisitedLabels::new(labels.protobuf),
                    created,
                    timestamp,
                    value: value.into(),
                });
            });
        }
    }
}

/// Receives a series: its labels, its value, when it began, and the time of its value in milliseconds.
pub(crate) type VisitSeries<'a> =
    dyn FnMut(Labels<'_>, Value<'_>, Option<Duration>, Option<i64>) + 'a;

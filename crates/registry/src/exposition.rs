//! The input of all encoders: the head of a family, and the labels and the value of a series.

use super::descriptor::{FamilyDescription, MetricKind};
use super::exemplar::Exemplar;
use super::label::{is_label_name, is_metric_name, push_escaped, push_metric_name};
use super::number::{Block, LabelStyle, label_float};
use super::octaves::Octaves;

/// A number as a family holds it: integers stay exact.
///
/// ```
/// use vitals_registry::Number;
///
/// assert!((Number::Unsigned(3).as_f64() - 3.0).abs() < f64::EPSILON);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// The value of a counter of whole numbers.
    Unsigned(u64),
    /// The value of a gauge.
    Signed(i64),
    /// Any other value.
    Float(f64),
}

impl Number {
    /// The nearest float.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Unsigned(value) => value as f64,
            Number::Signed(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

/// A series' value at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Counter(Number),
    Gauge(Number),
    Histogram(HistogramValue<'a>),
    Summary {
        count: u64,
        sum: f64,
        /// Quantile and value.
        quantiles: &'a [(f64, f64)],
    },
    Unknown(f64),
}

/// A histogram's value, with the bounds it is written with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistogramValue<'a> {
    pub(crate) bounds: &'a Bounds,
    pub(crate) reading: &'a HistogramReading,
    /// Whether there are native buckets.
    pub(crate) native: bool,
}

/// The state of a histogram as an exposition reads it, in buffers that one scrape reuses.
#[derive(Debug, Default)]
pub(crate) struct HistogramReading {
    pub(crate) sum: f64,
    /// Cumulative counts, `+Inf` last.
    pub(crate) classic: Vec<u64>,
    /// Empty, or one entry for each classic bucket.
    pub(crate) exemplars: Vec<Option<Exemplar>>,
    pub(crate) native: NativeReading,
}

/// The native side of a [`HistogramReading`].
#[derive(Debug, Default)]
pub(crate) struct NativeReading {
    pub(crate) schema: i32,
    pub(crate) zero_count: u64,
    /// The buckets by octaves, ascending. Empty if the resolution was lowered, or if a bucket is outside of all octaves.
    pub(crate) octaves: Octaves,
    /// Otherwise, index and count of the populated buckets, ascending.
    pub(crate) buckets: Vec<(i32, u64)>,
    pub(crate) exemplars: Vec<Exemplar>,
}

impl NativeReading {
    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.zero_count == 0 && self.octaves.is_empty() && self.buckets.is_empty()
    }

    /// The sum of all buckets.
    pub(crate) fn count(&self) -> u64 {
        let buckets: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        self.zero_count + self.octaves.count() + buckets
    }
}

/// The labels of a series, rendered for text and for protobuf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    /// `a="1",b="2"`, escaped; empty without labels.
    pub(crate) text: &'a str,
    /// The label fields of a protobuf metric.
    pub(crate) protobuf: &'a [u8],
}

/// The classic bounds of a histogram, rendered once.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// Without `+Inf`.
    pub(crate) values: Box<[f64]>,
    /// `le="0.5"} `, `+Inf` last.
    pub(crate) text: Box<[Block]>,
    /// The same with OpenMetrics' canonical numbers.
    pub(crate) openmetrics: Box<[Block]>,
}

impl Bounds {
    /// Renders `values`, which are ascending and without `+Inf`.
    pub(crate) fn new(values: &[f64]) -> Self {
        let render = |style| {
            (values.iter().chain(&[f64::INFINITY]))
                .map(|bound| Block::new(&format!("le=\"{}\"}} ", label_float(*bound, style))))
                .collect()
        };
        Self {
            values: values.into(),
            text: render(LabelStyle::Go),
            openmetrics: render(LabelStyle::OpenMetrics),
        }
    }
}

/// The head of a family, rendered once.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) description: FamilyDescription,
    /// The comment lines of text 0.0.4.
    pub(crate) text: Box<str>,
    /// The comment lines of OpenMetrics.
    pub(crate) openmetrics: Box<str>,
    /// Whether the family or one of its labels has a name that not every scraper knows.
    pub(crate) is_utf8: bool,
}

impl Header {
    pub(crate) fn new(description: FamilyDescription) -> Self {
        Self {
            text: text_head(&description).into(),
            openmetrics: openmetrics_head(&description).into(),
            is_utf8: !is_metric_name(&description.name)
                || description.labels.iter().any(|name| !is_label_name(name)),
            description,
        }
    }

    /// The family's full name.
    pub(crate) fn name(&self) -> &str {
        &self.description.name
    }
}

fn text_head(family: &FamilyDescription) -> String {
    let mut name = String::new();
    push_metric_name(&mut name, &family.name);
    let name = name.as_str();
    let kind = match family.kind {
        MetricKind::Unknown => "untyped",
        kind => kind.as_str(),
    };
    let mut head = String::new();
    if !family.help.is_empty() {
        head.extend(["# HELP ", name, " "]);
        push_escaped(&mut head, &family.help, false);
        head.push('\n');
    }
    head.extend(["# TYPE ", name, " ", kind, "\n"]);
    head
}

fn openmetrics_head(family: &FamilyDescription) -> String {
    let mut name = String::new();
    push_metric_name(&mut name, family.base());
    let name = name.as_str();
    let mut head = format!("# TYPE {name} {}\n", family.kind.as_str());
    let unit = family.unit.as_str();
    if !unit.is_empty() {
        head.extend(["# UNIT ", name, " ", unit, "\n"]);
    }
    if !family.help.is_empty() {
        head.extend(["# HELP ", name, " "]);
        push_escaped(&mut head, &family.help, true);
        head.push('\n');
    }
    head
}

//! Descriptions of families: what they are declared with, what is documented of them, and the rules for both.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use super::escaping::{Escaping, is_same_label};
use super::family::{Core, Family, LabelledFamily};
use super::label;
use super::label_set::LabelSet;

/// The unit of a family, which OpenMetrics and protobuf expose. The family's name ends in it.
///
/// ```
/// use vitals_registry::Unit;
///
/// assert_eq!(Unit::Seconds.as_str(), "seconds");
/// assert_eq!(Unit::None.as_str(), "");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// No unit: the number of things.
    #[default]
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The unit as it appears in names; empty for none.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
        }
    }

    /// The unit that a family's name (without `_total`) ends in.
    pub(crate) fn of_name(name: &str) -> Self {
        [Unit::Seconds, Unit::Bytes]
            .into_iter()
            .find(|unit| unit.ends(name))
            .unwrap_or_default()
    }

    /// Whether `name` ends in this unit as a word of its own.
    fn ends(self, name: &str) -> bool {
        name.strip_suffix(self.as_str())
            .is_some_and(|rest| self == Unit::None || rest.ends_with('_'))
    }
}

/// The type of a family.
///
/// ```
/// use vitals_registry::MetricKind;
///
/// assert_eq!(MetricKind::Counter.as_str(), "counter");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A total that only rises.
    Counter,
    /// A level that goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Quantiles that the instrumented code computed. Only collectors have these.
    Summary,
    /// A number of a collector whose type is not known.
    Unknown,
}

impl MetricKind {
    /// The name of the type in OpenMetrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
            MetricKind::Unknown => "unknown",
        }
    }
}

/// What a family is declared with: its name, help text, unit and label names.
///
/// A counter goes by its full name, which ends in `_total`. A label whose name is empty is not shown, and its values are
/// ignored: a name that is chosen at run time can leave a label out.
///
/// Names may be any text, such as `http.server.request.duration_seconds`. A scraper that does not allow UTF-8 gets them by
/// the [escaping scheme](crate::Escaping) that it asks for; two names that a scheme makes the same are rejected.
///
/// ```
/// use vitals_registry::{Descriptor, Unit};
///
/// let waits = Descriptor::new("queue_wait_seconds", "Time that jobs waited.", ["queue"])
///     .unit(Unit::Seconds)
///     .max_series(100);
/// # let _ = waits;
/// ```
#[derive(Clone, Debug)]
pub struct Descriptor<const N: usize> {
    head: FamilyHead,
    labels: [String; N],
}

/// What a family with the labels of `L` is declared with. [`LabelSet::descriptor`] creates one.
///
/// ```
/// use vitals_registry::{LabelSet, Unit, label_set};
///
/// label_set! {
///     struct QueueLabels { queue: &'static str }
/// }
///
/// let waits = QueueLabels::descriptor("queue_wait_seconds", "Time that jobs waited.")
///     .unit(Unit::Seconds)
///     .max_series(100);
/// # let _ = waits;
/// ```
pub struct LabelledDescriptor<L> {
    head: FamilyHead,
    labels: PhantomData<fn(&L)>,
}

/// What a family is declared with, without its labels.
#[derive(Clone, Debug)]
pub struct FamilyHead {
    pub(crate) name: String,
    help: String,
    unit: Unit,
    /// The budget of the family, if it is not that of the registry.
    pub(crate) max_series: Option<usize>,
    /// Whether labels with an empty value are left out.
    pub(crate) omits_empty: bool,
}

impl FamilyHead {
    fn new(name: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            unit: Unit::None,
            max_series: None,
            omits_empty: false,
        }
    }

    /// The description of the family as one of `kind`, with those of the labels that have a name.
    pub(crate) fn describe(&self, kind: MetricKind, labels: &[String]) -> FamilyDescription {
        let shown = labels.iter().filter(|name| !name.is_empty());
        FamilyDescription {
            name: self.name.clone(),
            kind,
            unit: self.unit,
            help: self.help.clone(),
            labels: shown.cloned().collect(),
        }
    }
}

impl<const N: usize> Descriptor<N> {
    /// Describes a family without a unit.
    pub fn new(name: impl Into<String>, help: impl Into<String>, labels: [&str; N]) -> Self {
        Self {
            head: FamilyHead::new(name, help),
            labels: labels.map(str::to_owned),
        }
    }

    /// Sets the unit, which the name ends in.
    #[must_use]
    pub fn unit(mut self, unit: Unit) -> Self {
        self.head.unit = unit;
        self
    }

    /// Sets the most series that the family may have, in place of [the registry's](crate::RegistryBuilder::max_series).
    #[must_use]
    pub fn max_series(mut self, max_series: usize) -> Self {
        self.head.max_series = Some(max_series);
        self
    }

    /// Leaves out each label of a series whose value is empty. To Prometheus, such a label is no label in any case.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vitals_registry::{Counter, Descriptor, Family, Format, Registry};
    ///
    /// let mut registry = Registry::builder(|| Duration::ZERO);
    /// let queries = Descriptor::new("queries_total", "Queries that ended.", ["operation", "pool"]);
    /// let queries: Family<Counter, 2> = registry.counter(queries.omit_empty_labels());
    /// queries.series(["select", ""]).inc();
    /// let text = registry.build()?.encode(Format::Text);
    /// assert!(String::from_utf8_lossy(&text).contains("queries_total{operation=\"select\"} 1"));
    /// # Ok::<(), vitals_registry::RegistryError>(())
    /// ```
    #[must_use]
    pub fn omit_empty_labels(mut self) -> Self {
        self.head.omits_empty = true;
        self
    }
}

impl<L: LabelSet> LabelledDescriptor<L> {
    /// Describes a family without a unit.
    pub(crate) fn new(name: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            head: FamilyHead::new(name, help),
            labels: PhantomData,
        }
    }

    /// Sets the unit, which the name ends in.
    #[must_use]
    pub fn unit(mut self, unit: Unit) -> Self {
        self.head.unit = unit;
        self
    }

    /// Sets the most series that the family may have, in place of [the registry's](crate::RegistryBuilder::max_series).
    #[must_use]
    pub fn max_series(mut self, max_series: usize) -> Self {
        self.head.max_series = Some(max_series);
        self
    }
}

impl<L> fmt::Debug for LabelledDescriptor<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.head, f)
    }
}

/// A description that a family can be declared with. A [`Descriptor`] declares a [`Family`], a [`LabelledDescriptor`] a
/// [`LabelledFamily`].
pub trait FamilyDescriptor: sealed::Declare {}

impl<const N: usize> FamilyDescriptor for Descriptor<N> {}

impl<L: LabelSet> FamilyDescriptor for LabelledDescriptor<L> {}

/// The part of a description that is private to the registry.
pub(crate) mod sealed {
    use std::sync::Arc;

    use super::{
        Core, Descriptor, Family, FamilyHead, LabelSet, LabelledDescriptor, LabelledFamily,
    };

    pub trait Declare {
        type Declared<M>;

        /// The head, and the names of the labels: empty for a label that is not shown.
        fn into_parts(self) -> (FamilyHead, Vec<String>);

        /// The family of `core`, which was made from these labels.
        fn family<M>(labels: &[String], core: Arc<Core<M>>) -> Self::Declared<M>;
    }

    impl<const N: usize> Declare for Descriptor<N> {
        type Declared<M> = Family<M, N>;

        fn into_parts(self) -> (FamilyHead, Vec<String>) {
            (self.head, self.labels.into())
        }

        fn family<M>(labels: &[String], core: Arc<Core<M>>) -> Family<M, N> {
            let shown = |at: usize| labels.get(at).is_some_and(|name| !name.is_empty());
            Family::of(core, std::array::from_fn(shown))
        }
    }

    impl<L: LabelSet> Declare for LabelledDescriptor<L> {
        type Declared<M> = LabelledFamily<M, L>;

        fn into_parts(self) -> (FamilyHead, Vec<String>) {
            let labels = L::NAMES.iter().map(|&name| name.to_owned());
            (self.head, labels.collect())
        }

        fn family<M>(_: &[String], core: Arc<Core<M>>) -> LabelledFamily<M, L> {
            LabelledFamily::of(core)
        }
    }
}

/// The description of a family, for documentation.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// registry.gauge(Descriptor::new("queue_length", "Jobs that wait.", ["queue"]));
/// let description = &registry.build()?.describe()[0];
/// assert_eq!((description.name.as_str(), description.kind.as_str()), ("queue_length", "gauge"));
/// assert_eq!(description.labels, ["queue"]);
/// # Ok::<(), vitals_registry::RegistryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyDescription {
    /// The full name; a counter's ends in `_total`.
    pub name: String,
    /// The type.
    pub kind: MetricKind,
    /// The unit.
    pub unit: Unit,
    /// The help text, unescaped.
    pub help: String,
    /// The names of the labels, without the constant ones.
    pub labels: Vec<String>,
}

impl FamilyDescription {
    /// The family's name in OpenMetrics. A counter's family has no `_total`, which its sample has.
    pub(crate) fn base(&self) -> &str {
        match self.kind {
            MetricKind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            _ => &self.name,
        }
    }

    /// The suffixes that the names of samples add to the [base](Self::base), in any format.
    fn suffixes(&self) -> &'static [&'static str] {
        match self.kind {
            MetricKind::Counter => &["", "_total", "_created"],
            MetricKind::Gauge | MetricKind::Unknown => &[""],
            MetricKind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
            MetricKind::Summary => &["", "_count", "_sum", "_created"],
        }
    }

    /// The names that this family takes up in OpenMetrics: its own, and those of its samples, as they are and by every
    /// escaping scheme.
    pub(crate) fn sample_names(&self) -> Vec<String> {
        let mut names = self.own_sample_names();
        if !label::is_metric_name(&self.name) {
            for scheme in Escaping::CHANGING {
                names.extend(self.escaped(scheme).own_sample_names());
            }
            names.sort_unstable();
            names.dedup();
        }
        names
    }

    fn own_sample_names(&self) -> Vec<String> {
        let base = self.base();
        let suffixes = self.suffixes().iter();
        suffixes.map(|suffix| format!("{base}{suffix}")).collect()
    }

    /// The same family with its names by an escaping scheme.
    pub(crate) fn escaped(&self, scheme: Escaping) -> Self {
        let labels = self.labels.iter().map(|name| scheme.label_name(name));
        Self {
            name: scheme.metric_name(&self.name),
            labels: labels.collect(),
            ..self.clone()
        }
    }

    /// The names that this family takes in text 0.0.4 and protobuf: a counter takes one, and no family takes `_created`.
    pub(crate) fn plain_sample_names(&self) -> Vec<String> {
        if self.kind == MetricKind::Counter {
            let mut names = vec![self.name.clone()];
            if !label::is_metric_name(&self.name) {
                let schemes = Escaping::CHANGING.iter();
                names.extend(schemes.map(|scheme| scheme.metric_name(&self.name)));
            }
            return names;
        }
        let mut names = self.sample_names();
        names.retain(|name| !name.ends_with("_created") || *name == self.name);
        names
    }

    /// Whether the family has a sample of this name, in any format and by any escaping scheme.
    pub(crate) fn has_sample(&self, name: &str) -> bool {
        let is_escaped = |scheme: &Escaping| self.escaped(*scheme).has_own_sample(name);
        self.has_own_sample(name)
            || !label::is_metric_name(&self.name) && Escaping::CHANGING.iter().any(is_escaped)
    }

    fn has_own_sample(&self, name: &str) -> bool {
        let suffix = name.strip_prefix(self.base());
        suffix.is_some_and(|suffix| self.suffixes().contains(&suffix)) || name == self.name
    }

    /// Checks the names and the unit.
    pub(crate) fn validate(&self) -> Result<(), RegistryError> {
        // A counter `_total` would have no name in OpenMetrics.
        if self.base().is_empty() {
            return Err(RegistryError::InvalidName(self.name.clone()));
        }
        if self.kind == MetricKind::Counter && !self.name.ends_with("_total") {
            return Err(RegistryError::CounterWithoutTotal(self.name.clone()));
        }
        if self.help.trim().is_empty() {
            return Err(RegistryError::MissingHelp(self.name.clone()));
        }
        if !self.unit.ends(self.base()) {
            return Err(RegistryError::UnitNotInName {
                family: self.name.clone(),
                unit: self.unit.as_str(),
            });
        }
        for (at, name) in self.labels.iter().enumerate() {
            let reserved = self.kind == MetricKind::Histogram && name == "le";
            if !label::may_be_label_name(name) || reserved {
                return Err(RegistryError::InvalidLabel {
                    family: self.name.clone(),
                    label: name.clone(),
                });
            }
            if (self.labels[..at].iter()).any(|earlier| is_same_label(earlier, name)) {
                return Err(RegistryError::DuplicateLabel {
                    family: self.name.clone(),
                    label: name.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The reason why a registry cannot be built, or a collector cannot be registered.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry, RegistryError};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// registry.counter(Descriptor::new("jobs", "Jobs that ended.", []));
/// let error = registry.build().unwrap_err();
/// assert_eq!(error, RegistryError::CounterWithoutTotal("jobs".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A family's name is empty, or nothing but the suffix of a counter.
    #[error("the metric name {0:?} is empty, apart from the suffix _total")]
    InvalidName(String),
    /// A counter's name lacks its suffix.
    #[error("the counter {0:?} must have a name that ends in _total")]
    CounterWithoutTotal(String),
    /// A family has no help text.
    #[error("the family {0:?} has no help text")]
    MissingHelp(String),
    /// A family's name does not end in its unit.
    #[error("the family {family:?} is in {unit}, but its name does not end in it")]
    UnitNotInName {
        /// The family.
        family: String,
        /// Its unit.
        unit: &'static str,
    },
    /// A label's name is empty, or reserved.
    #[error("the family {family:?} cannot have a label named {label:?}")]
    InvalidLabel {
        /// The family.
        family: String,
        /// The label.
        label: String,
    },
    /// A family has two labels of one name, counting the constant ones, or two whose names an escaping scheme makes the same.
    #[error("the family {family:?} has the label {label:?} twice")]
    DuplicateLabel {
        /// The family.
        family: String,
        /// The label.
        label: String,
    },
    /// Two families would write samples of one name.
    #[error("the family {family:?} would write the sample {sample:?}, which another family writes")]
    DuplicateFamily {
        /// The family that came second.
        family: String,
        /// The name that both claim.
        sample: String,
    },
    /// A histogram's bounds are not finite, negative, or not ascending.
    #[error("the buckets of {0:?} must be finite numbers of at least 0 in ascending order")]
    InvalidBuckets(String),
    /// A setting came after the first family was declared.
    #[error("the setting {0} must come before the first family")]
    LateSetting(&'static str),
    /// Two collectors have one name.
    #[error("a collector named {0:?} is already registered")]
    DuplicateCollector(String),
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

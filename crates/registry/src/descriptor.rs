//! What a family is called, measures and is labelled with; and what may be wrong with that.

use std::io;

use super::label;

/// The unit of a family, told to OpenMetrics and protobuf; the family's name ends in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// No unit: things are counted.
    #[default]
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The unit as it stands in names; empty where there is none.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A total that only rises.
    Counter,
    /// A level that goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Quantiles that the instrumented code computed; from bridged collectors only.
    Summary,
    /// Whatever a bridged collector leaves untyped.
    Unknown,
}

impl Kind {
    /// The name of the type in OpenMetrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
            Kind::Unknown => "unknown",
        }
    }
}

/// A family as declared: its name, help text, unit and label names.
///
/// A counter is described by its full sample name (`http_requests_total`). A label whose name is empty is not shown; its
/// value must be the same for all series that the shown labels do not tell apart.
#[derive(Clone, Debug)]
pub struct Descriptor<const N: usize> {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) unit: Unit,
    pub(crate) labels: [String; N],
}

impl<const N: usize> Descriptor<N> {
    /// A family without a unit.
    pub fn new(name: impl Into<String>, help: impl Into<String>, labels: [&str; N]) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            unit: Unit::None,
            labels: labels.map(str::to_owned),
        }
    }

    /// The same family, measured in `unit`.
    #[must_use]
    pub fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// The names of the labels that are shown.
    fn shown_labels(&self) -> impl Iterator<Item = &str> {
        let names = self.labels.iter().map(String::as_str);
        names.filter(|name| !name.is_empty())
    }

    /// The description of this family as one of `kind`.
    pub(crate) fn describe(&self, kind: Kind) -> FamilyDescription {
        FamilyDescription {
            name: self.name.clone(),
            kind,
            unit: self.unit,
            help: self.help.clone(),
            labels: self.shown_labels().map(str::to_owned).collect(),
        }
    }
}

/// A family as documented: what `docs/METRICS.md` has a row for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyDescription {
    /// The full name; a counter's ends in `_total`.
    pub name: String,
    /// The type.
    pub kind: Kind,
    /// The unit.
    pub unit: Unit,
    /// The help text, unescaped.
    pub help: String,
    /// The names of the labels, without the constant ones.
    pub labels: Vec<String>,
}

impl FamilyDescription {
    /// The family's name in OpenMetrics, where a counter's leaves `_total` to its sample.
    pub(crate) fn base(&self) -> &str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            _ => &self.name,
        }
    }

    /// The suffixes that a sample's name may have behind the [base](Self::base) of its family, in any format.
    fn suffixes(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Counter => &["", "_total", "_created"],
            Kind::Gauge | Kind::Unknown => &[""],
            Kind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
            Kind::Summary => &["", "_count", "_sum", "_created"],
        }
    }

    /// The names that this family takes up in OpenMetrics: its own, and those of its samples.
    pub(crate) fn sample_names(&self) -> Vec<String> {
        let base = self.base();
        let suffixes = self.suffixes().iter();
        suffixes.map(|suffix| format!("{base}{suffix}")).collect()
    }

    /// The names that this family takes up in text 0.0.4 and protobuf: a counter has one, and nothing has a time of
    /// creation.
    pub(crate) fn plain_sample_names(&self) -> Vec<String> {
        if self.kind == Kind::Counter {
            return vec![self.name.clone()];
        }
        let mut names = self.sample_names();
        names.retain(|name| !name.ends_with("_created") || *name == self.name);
        names
    }

    /// Whether a sample of this name is one of this family, in any format.
    pub(crate) fn has_sample(&self, name: &str) -> bool {
        let suffix = name.strip_prefix(self.base());
        suffix.is_some_and(|suffix| self.suffixes().contains(&suffix)) || name == self.name
    }

    /// What is wrong with the names and the unit, if anything.
    pub(crate) fn validate(&self) -> Result<(), RegistryError> {
        // A counter `_total` would have no name in OpenMetrics.
        if !label::is_metric_name(&self.name) || !label::is_metric_name(self.base()) {
            return Err(RegistryError::InvalidName(self.name.clone()));
        }
        if self.kind == Kind::Counter && !self.name.ends_with("_total") {
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
            let reserved = self.kind == Kind::Histogram && name == "le";
            if !label::is_label_name(name) || reserved {
                return Err(RegistryError::InvalidLabel {
                    family: self.name.clone(),
                    label: name.clone(),
                });
            }
            if self.labels[..at].contains(name) {
                return Err(RegistryError::DuplicateLabel {
                    family: self.name.clone(),
                    label: name.clone(),
                });
            }
        }
        Ok(())
    }
}

/// What keeps a registry from being built, or a collector from being registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A family's name is outside the grammar of metric names.
    #[error("the metric name {0:?} is not of the form [a-zA-Z_:][a-zA-Z0-9_:]*")]
    InvalidName(String),
    /// A counter's name lacks its suffix.
    #[error("the counter {0:?} must have a name that ends in _total")]
    CounterWithoutTotal(String),
    /// A family without a help text.
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
    /// A label's name is outside the grammar of label names, or reserved.
    #[error("the family {family:?} cannot have a label named {label:?}")]
    InvalidLabel {
        /// The family.
        family: String,
        /// The label.
        label: String,
    },
    /// A family has two labels of one name, counting the constant ones.
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
    /// A histogram's bounds are unusable.
    #[error("the buckets of {0:?} must be finite numbers of at least 0 in ascending order")]
    InvalidBuckets(String),
    /// A setting came after the first family was declared.
    #[error("the setting {0} must come before the first family")]
    LateSetting(&'static str),
    /// Two collectors of one name.
    #[error("a collector named {0:?} is already registered")]
    DuplicateCollector(String),
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

//! The faults of collectors, and which of them were reported already.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The most faults of one collector that are remembered, and thus reported.
const MOST: usize = 64;

/// The longest name of a family in a fault, in characters.
const LONGEST_NAME: usize = 120;

/// A fault of a collector, or a row that a format cannot hold. It contains no label and no value.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Fault, Registry};
///
/// fn report(collector: &str, fault: &Fault) {
///     let family = fault.family().unwrap_or("a collector");
///     eprintln!("{collector}: {family} {}", fault.kind());
/// }
///
/// let registry = Registry::builder(|| Duration::ZERO).on_fault(report).build();
/// # assert!(registry.is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    family: Option<String>,
    kind: FaultKind,
    detail: Option<String>,
}

/// The kinds of faults.
///
/// ```
/// use vitals_registry::FaultKind;
///
/// assert_eq!(FaultKind::Hanging.to_string(), "does not return in time");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// It panicked while it described its families.
    #[error("panicked while it described its families")]
    PanickedDescribing,
    /// It panicked while it was read.
    #[error("panicked while it was read")]
    Panicked,
    /// It returned an error.
    #[error("returned an error")]
    Failed,
    /// It did not return in time, or has not returned since.
    #[error("does not return in time")]
    Hanging,
    /// The family's name is empty, or nothing but the suffix of a counter.
    #[error("has a name that is empty, apart from the suffix _total")]
    InvalidName,
    /// An earlier family writes samples of the same name.
    #[error("would write a sample that another family writes")]
    NameTaken,
    /// A label's name is invalid, reserved, or a duplicate.
    #[error("has a series with a label whose name is invalid, reserved, or there twice")]
    InvalidLabels,
    /// Two series have the same labels.
    #[error("has two series with the same labels")]
    DuplicateSeries,
    /// The buckets of a histogram contradict each other or its count.
    #[error("has a histogram whose buckets contradict each other or its count")]
    InvalidBuckets,
    /// A quantile is not between 0 and 1, or a duplicate.
    #[error("has a quantile that is not between 0 and 1, or there twice")]
    InvalidQuantile,
    /// A value is not of the type of its family.
    #[error("has a value that is not of the family's type")]
    WrongType,
    /// Only in OpenMetrics: an earlier family has the name, without the suffix of its samples.
    #[error("is left out of OpenMetrics, where another family has its name")]
    NameTakenInOpenMetrics,
    /// Only in OpenMetrics: a counter is negative or not a number.
    #[error(
        "has a series that OpenMetrics cannot hold: a counter that is negative or not a number"
    )]
    NegativeCounter,
    /// Only in OpenMetrics: a sum is negative or not a number, or its values may be negative.
    #[error("is without its sum in OpenMetrics, which has none that is negative or not a number")]
    NegativeSum,
    /// Only in OpenMetrics: a quantile's value is negative.
    #[error("has a quantile that OpenMetrics cannot hold: its value is negative")]
    NegativeQuantile,
}

impl FaultKind {
    /// Whether this is an error of the collector, and not a limit of the format.
    pub fn is_error(self) -> bool {
        !matches!(
            self,
            Self::NameTakenInOpenMetrics
                | Self::NegativeCounter
                | Self::NegativeSum
                | Self::NegativeQuantile
        )
    }

    /// Whether the fault ends when the collector is read without it.
    fn is_passing(self) -> bool {
        matches!(self, Self::Panicked | Self::Failed | Self::Hanging)
    }
}

impl Fault {
    /// A fault of the collector as a whole.
    pub(crate) fn of_collector(kind: FaultKind) -> Self {
        Self {
            family: None,
            kind,
            detail: None,
        }
    }

    /// The error that the collector returned.
    pub(super) fn failed(error: &dyn fmt::Display) -> Self {
        Self {
            detail: Some(error.to_string()),
            ..Self::of_collector(FaultKind::Failed)
        }
    }

    /// A fault of one family.
    pub(super) fn of_family(family: &str, kind: FaultKind) -> Self {
        Self {
            family: Some(family.chars().take(LONGEST_NAME).collect()),
            ..Self::of_collector(kind)
        }
    }

    /// The family with the fault, or `None` for the whole collector.
    pub fn family(&self) -> Option<&str> {
        self.family.as_deref()
    }

    /// The kind of fault.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The message of the collector's error. It is not checked, and may contain anything.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

/// The faults of one collector that have been reported.
#[derive(Debug, Default)]
pub(crate) struct Reported(Mutex<HashSet<(Option<String>, FaultKind)>>);

impl Reported {
    /// Returns those of `faults` that are new. A fault that can end, such as an error, is new again after a reading without it.
    pub(crate) fn only_new(&self, mut faults: Vec<Fault>) -> Vec<Fault> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, kind)| {
            !kind.is_passing() || faults.iter().any(|fault| fault.kind == *kind)
        });
        faults
            .retain(|fault| known.len() < MOST && known.insert((fault.family.clone(), fault.kind)));
        faults
    }
}

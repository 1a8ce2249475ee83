//! What all queries of a service have counted, whether their statements are kept or not.

use crate::database::families::DatabaseFamilies;
use vitals_registry::{Counter, Family, Histogram, HistogramSnapshot};

/// Where the totals of all queries are counted.
#[derive(Debug)]
pub(crate) struct Counted {
    /// By system and operation.
    seconds: Family<Histogram, 2>,
    /// By the same.
    unattributed: Family<Counter, 2>,
    /// Of statements alone: the family of errors counts those of transaction control, too.
    errors: Counter,
}

impl Counted {
    /// The totals that are in `families`.
    pub(crate) fn new(families: &DatabaseFamilies) -> Self {
        Self {
            seconds: families.query_seconds.clone(),
            unattributed: families.unattributed.clone(),
            errors: Counter::new(1),
        }
    }

    /// A statement failed.
    pub(super) fn failed(&self) {
        self.errors.inc();
    }

    /// The totals since the start.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals {
            errors: self.errors.value(),
            ..Totals::default()
        };
        self.seconds
            .for_each(|_, series| totals.seconds.merge(&series.snapshot()));
        self.unattributed
            .for_each(|_, series| totals.unattributed += series.value());
        totals
    }
}

/// The figures of some queries.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) seconds: HistogramSnapshot,
    pub(super) errors: u64,
    pub(super) unattributed: u64,
}

impl Totals {
    /// Adds the figures of one statement.
    pub(super) fn add(&mut self, seconds: &HistogramSnapshot, errors: u64, unattributed: u64) {
        self.seconds.merge(seconds);
        self.errors += errors;
        self.unattributed += unattributed;
    }

    /// Returns these figures less `part`.
    pub(super) fn since(&self, part: &Self) -> Self {
        Self {
            seconds: self.seconds.delta(&part.seconds),
            errors: self.errors.saturating_sub(part.errors),
            unattributed: self.unattributed.saturating_sub(part.unattributed),
        }
    }
}

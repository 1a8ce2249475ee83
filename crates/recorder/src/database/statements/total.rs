//! The counts of all queries of a service, whether their statements are kept or not.

use crate::database::families::DatabaseFamilies;
use vitals_registry::{Counter, Family, Histogram, HistogramSnapshot};

/// The families and counters that contain the totals.
#[derive(Debug)]
pub(crate) struct Counted {
    /// By system, operation and pool.
    seconds: Family<Histogram, 3>,
    /// By system, operation and pool.
    unattributed: Family<Counter, 3>,
    /// Errors of statements. The family of errors includes those of transaction control.
    errors: Counter,
}

impl Counted {
    /// Reads the totals from `families`.
    pub(crate) fn new(families: &DatabaseFamilies) -> Self {
        Self {
            seconds: families.query_seconds.clone(),
            unattributed: families.unattributed.clone(),
            errors: Counter::new(1),
        }
    }

    /// Counts a failed statement.
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

/// The sums of some queries.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) seconds: HistogramSnapshot,
    pub(super) errors: u64,
    pub(super) unattributed: u64,
}

impl Totals {
    /// Adds those of one statement.
    pub(super) fn add(&mut self, statement: &Self) {
        self.seconds.merge(&statement.seconds);
        self.errors += statement.errors;
        self.unattributed += statement.unattributed;
    }

    /// Returns the difference to `part`.
    pub(super) fn since(&self, part: &Self) -> Self {
        Self {
            seconds: self.seconds.delta(&part.seconds),
            errors: self.errors.saturating_sub(part.errors),
            unattributed: self.unattributed.saturating_sub(part.unattributed),
        }
    }
}

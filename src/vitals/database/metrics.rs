//! The series behind the families, all resolved once: recording looks nothing up.
//!
//! Every series exists from the start at 0, so that the first error of a kind is an increase from 0 and not the birth of a
//! series, which `rate()` and `increase()` would not see.

use std::sync::Arc;
use std::time::Duration;

use crate::registry::{Counter, Gauge, Histogram, SpanContext};

use super::error::ErrorKind;
use super::families::Families;
use super::verb::Operation;

/// How a transaction ended: the values of the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    RolledBack,
}

impl Outcome {
    const ALL: [Self; 2] = [Self::Committed, Self::RolledBack];

    const fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A counter and the histogram of how long each of what it counts took.
#[derive(Debug)]
struct Timed {
    count: Arc<Counter>,
    seconds: Arc<Histogram>,
}

impl Timed {
    fn record(&self, took: Duration, span: Option<&SpanContext>) {
        self.count.inc();
        self.seconds.observe_with(took.as_secs_f64(), span);
    }
}

/// The series of the database, shared by all its recorders.
#[derive(Debug)]
pub(super) struct Metrics {
    queries: [Timed; Operation::ALL.len()],
    query_errors: [[Arc<Counter>; ErrorKind::ALL.len()]; Operation::ALL.len()],
    transactions: [Timed; Outcome::ALL.len()],
    /// Callers that wait for a connection.
    pub(super) pool_waiters: Arc<Gauge>,
    /// How long they waited.
    pub(super) pool_wait_seconds: Arc<Histogram>,
    /// How long connections were out.
    pub(super) pool_hold_seconds: Arc<Histogram>,
    /// Callers that gave up.
    pub(super) pool_timeouts: Arc<Counter>,
    opened: Timed,
    /// Connections that could not be opened.
    pub(super) connection_open_errors: Arc<Counter>,
}

impl Metrics {
    /// Resolves every series of `families`.
    pub(super) fn new(families: &Families) -> Self {
        Self {
            queries: Operation::ALL.map(|operation| Timed {
                count: families.queries.series([operation.label()]),
                seconds: families.query_seconds.series([operation.label()]),
            }),
            query_errors: Operation::ALL.map(|operation| {
                ErrorKind::ALL.map(|kind| {
                    families
                        .query_errors
                        .series([operation.label(), kind.label()])
                })
            }),
            transactions: Outcome::ALL.map(|outcome| Timed {
                count: families.transactions.series([outcome.label()]),
                seconds: families.transaction_seconds.series([outcome.label()]),
            }),
            pool_waiters: families.pool_waiters.get(),
            pool_wait_seconds: families.pool_wait_seconds.get(),
            pool_hold_seconds: families.pool_hold_seconds.get(),
            pool_timeouts: families.pool_timeouts.get(),
            opened: Timed {
                count: families.connections_opened.get(),
                seconds: families.connection_open_seconds.get(),
            },
            connection_open_errors: families.connection_open_errors.get(),
        }
    }

    /// A query came to its end, well or not.
    pub(super) fn query(&self, operation: Operation, took: Duration, span: Option<&SpanContext>) {
        self.queries[operation.index()].record(took, span);
    }

    /// A statement failed.
    pub(super) fn error(&self, operation: Operation, kind: ErrorKind) {
        self.query_errors[operation.index()][kind.index()].inc();
    }

    /// An outermost transaction came to its end.
    pub(super) fn transaction(&self, outcome: Outcome, took: Duration, span: Option<&SpanContext>) {
        self.transactions[outcome as usize].record(took, span);
    }

    /// A connection was opened.
    pub(super) fn opened(&self, took: Duration) {
        self.opened.record(took, None);
    }
}

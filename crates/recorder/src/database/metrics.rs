//! The series of one database and of one pool, resolved once, so that recording looks nothing up.
//!
//! Every series exists from the start with the value 0. The first error of a kind is then an increase from 0; `rate()` and
//! `increase()` do not see the first value of a new series.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use vitals_registry::{Counter, Gauge, Histogram, SpanContext};

use super::error::ErrorKind;
use super::families::DatabaseFamilies;
use super::sql::Operation;

/// The outcome of a transaction: the values of the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionOutcome {
    Committed,
    RolledBack,
}

impl TransactionOutcome {
    const ALL: [Self; 2] = [Self::Committed, Self::RolledBack];

    const fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Why a caller got no connection: the values of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The queue was full.
    Saturated,
    /// No connection was free within the pool's timeout.
    Timeout,
    /// The caller dropped its future while it waited.
    Cancelled,
}

impl Rejection {
    const ALL: [Self; 3] = [Self::Saturated, Self::Timeout, Self::Cancelled];

    const fn label(self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A counter, and the histogram of the durations of what it counts.
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

/// The series of one database, shared by the recorders of its connections.
#[derive(Debug)]
pub(super) struct Metrics {
    queries: [Timed; Operation::ALL.len()],
    unattributed: [Arc<Counter>; Operation::ALL.len()],
    logged_unattributed: Arc<AtomicBool>,
    query_errors: [[Arc<Counter>; ErrorKind::ALL.len()]; Operation::ALL.len()],
    transactions: [Timed; TransactionOutcome::ALL.len()],
}

/// The series of one pool.
#[derive(Debug)]
pub(super) struct PoolMetrics {
    /// Callers that wait for a connection.
    pub(super) waiters: Arc<Gauge>,
    /// How long they waited.
    pub(super) wait_seconds: Arc<Histogram>,
    /// How long connections were out.
    pub(super) hold_seconds: Arc<Histogram>,
    timeouts: Arc<Counter>,
    rejected: [Arc<Counter>; Rejection::ALL.len()],
    opened: Timed,
    /// Connections that could not be opened.
    pub(super) open_errors: Arc<Counter>,
}

impl Metrics {
    /// Resolves the series of `families` for databases of one system.
    pub(super) fn new(families: &DatabaseFamilies, system: &str) -> Self {
        let naming = families.naming;
        let system = naming.only(system);
        let operation = |operation: Operation| [system, naming.operation(operation.label())];
        Self {
            queries: Operation::ALL.map(operation).map(|values| Timed {
                count: families.queries.series(values),
                seconds: families.query_seconds.series(values),
            }),
            unattributed: Operation::ALL
                .map(operation)
                .map(|values| families.unattributed.series(values)),
            logged_unattributed: Arc::clone(&families.logged_unattributed),
            query_errors: Operation::ALL.map(operation).map(|[system, operation]| {
                ErrorKind::ALL
                    .map(|kind| (families.query_errors).series([system, operation, kind.label()]))
            }),
            transactions: TransactionOutcome::ALL.map(|outcome| Timed {
                count: families.transactions.series([outcome.label()]),
                seconds: families.transaction_seconds.series([outcome.label()]),
            }),
        }
    }

    /// Counts a query that ended, with or without an error.
    pub(super) fn query(&self, operation: Operation, took: Duration, span: Option<&SpanContext>) {
        self.queries[operation.index()].record(took, span);
    }

    /// Counts a query that ran outside of any request and job. The first is logged, with the remedy.
    #[cold]
    pub(super) fn unattributed(&self, operation: Operation) {
        self.unattributed[operation.index()].inc();
        // Without the middleware no query can belong to a request.
        if cfg!(feature = "http") && !self.logged_unattributed.swap(true, Relaxed) {
            tracing::warn!(
                operation = operation.label(),
                "a query ran outside of any request or job: use actix_vitals::block in place of web::block, \
                 wrap threads and tasks with carry or carry_future, and background work with Vitals::job \
                 (logged once; db_queries_unattributed_total counts them)"
            );
        }
    }

    /// Counts a failed statement.
    pub(super) fn error(&self, operation: Operation, kind: ErrorKind) {
        self.query_errors[operation.index()][kind.index()].inc();
    }

    /// Counts an outermost transaction that ended.
    pub(super) fn transaction(
        &self,
        outcome: TransactionOutcome,
        took: Duration,
        span: Option<&SpanContext>,
    ) {
        self.transactions[outcome as usize].record(took, span);
    }
}

impl PoolMetrics {
    /// Resolves the series of `families` for the pool `name`.
    pub(super) fn new(families: &DatabaseFamilies, name: &str) -> Self {
        let pool = [name];
        Self {
            waiters: families.pool_waiters.series(pool),
            wait_seconds: families.pool_wait_seconds.series(pool),
            hold_seconds: families.pool_hold_seconds.series(pool),
            timeouts: families.pool_timeouts.series(pool),
            rejected: Rejection::ALL
                .map(|reason| families.pool_rejected.series([name, reason.label()])),
            opened: Timed {
                count: families.connections_opened.get(),
                seconds: (families.connection_open_seconds).series([families.naming.only(name)]),
            },
            open_errors: families.connection_open_errors.get(),
        }
    }

    /// Counts a caller that got no connection.
    pub(super) fn rejected(&self, reason: Rejection) {
        self.rejected[reason as usize].inc();
        if reason == Rejection::Timeout {
            self.timeouts.inc();
        }
    }

    /// Counts a connection that was opened in an unknown time.
    pub(super) fn opened_untimed(&self) {
        self.opened.count.inc();
    }

    /// Counts a connection that was opened.
    pub(super) fn opened(&self, took: Duration) {
        self.opened.record(took, None);
    }
}

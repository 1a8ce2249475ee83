//! The series of one database and of one pool, resolved once, so that recording looks nothing up.
//!
//! Every series exists from the start with the value 0. The first error of a kind is then an increase from 0; `rate()` and
//! `increase()` do not see the first value of a new series.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use vitals_registry::{Counter, CounterWriter, Gauge, Histogram, HistogramWriter, SpanContext};

use super::error::ErrorKind;
use super::families::DatabaseFamilies;
use super::holders::PoolHolders;
use super::sql::Operation;
use super::wait::WaitEnd;
use crate::context::{self, Attribution};
use crate::naming::Naming;

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

/// A [`Timed`] that one connection records into.
#[derive(Debug)]
struct TimedWriter {
    count: CounterWriter,
    seconds: HistogramWriter,
}

impl TimedWriter {
    fn new(timed: &Timed) -> Self {
        Self {
            count: timed.count.writer(),
            seconds: timed.seconds.writer(),
        }
    }

    #[inline]
    fn record(&self, seconds: f64, span: Option<&SpanContext>) {
        self.count.inc();
        self.seconds.observe_with(seconds, span);
    }
}

/// The series of queries as one connection records into them: by plain stores, because one thread at a time has the
/// connection. Those of an operation are claimed with its first query.
#[derive(Debug, Default)]
pub(super) struct QueryWriters {
    writers: [Option<TimedWriter>; Operation::ALL.len()],
    /// Whether the series have the label `pool`.
    are_labelled: bool,
}

impl QueryWriters {
    /// Counts a query that ended, with or without an error.
    #[inline]
    pub(super) fn query(
        &mut self,
        metrics: &Metrics,
        operation: Operation,
        seconds: f64,
        attribution: Attribution,
    ) {
        if self.are_labelled != metrics.series.is_labelled() {
            self.relabel();
        }
        let writer = &mut self.writers[operation.index()];
        let writer = writer
            .get_or_insert_with(|| TimedWriter::new(&metrics.series.queries[operation.index()]));
        if attribution == Attribution::Sampled {
            writer.record(seconds, attribution.span().as_ref());
        } else {
            writer.record(seconds, None);
        }
    }

    /// Forgets the series without the label, which exists from now on.
    #[cold]
    fn relabel(&mut self) {
        *self = Self {
            are_labelled: true,
            ..Self::default()
        };
    }
}

/// The histograms of a pool as one of its connections records into them: by plain stores.
#[derive(Debug)]
pub(super) struct PoolWriters {
    wait_seconds: HistogramWriter,
    hold_seconds: HistogramWriter,
}

impl PoolWriters {
    pub(super) fn new(metrics: &PoolMetrics) -> Self {
        Self {
            wait_seconds: metrics.wait_seconds.writer(),
            hold_seconds: metrics.hold_seconds.writer(),
        }
    }

    /// The same as [`PoolMetrics::waited`].
    #[inline]
    pub(super) fn waited(&self, end: &WaitEnd) {
        (self.wait_seconds).observe_with(end.waited.as_secs_f64(), end.span.as_ref());
    }

    /// The same as [`PoolMetrics::held`].
    #[inline]
    pub(super) fn held(&self, held: Duration) {
        let span = context::current_span();
        (self.hold_seconds).observe_with(held.as_secs_f64(), span.as_ref());
    }
}

/// Series that get the label `pool` when there is a second pool: see [`names`](super::names).
///
/// What is counted afterwards is in the series with the label.
#[derive(Debug)]
struct Relabelled<T> {
    first: T,
    labelled: OnceLock<T>,
}

impl<T> Relabelled<T> {
    fn new(first: T) -> Self {
        Self {
            first,
            labelled: OnceLock::new(),
        }
    }

    #[inline]
    fn is_labelled(&self) -> bool {
        self.labelled.get().is_some()
    }
}

impl<T> Deref for Relabelled<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.labelled.get().unwrap_or(&self.first)
    }
}

/// The series of the queries and transactions of one pool, or of connections outside of any pool. Shared by the recorders
/// of the connections.
#[derive(Debug)]
pub(super) struct Metrics {
    system: &'static str,
    series: Relabelled<QuerySeries>,
    logged_unattributed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct QuerySeries {
    queries: [Timed; Operation::ALL.len()],
    unattributed: [Arc<Counter>; Operation::ALL.len()],
    query_errors: [[Arc<Counter>; ErrorKind::ALL.len()]; Operation::ALL.len()],
    transactions: [Timed; TransactionOutcome::ALL.len()],
}

/// The series of one pool.
#[derive(Debug)]
pub(super) struct PoolMetrics {
    /// Callers that wait for a connection.
    pub(super) waiters: Arc<Gauge>,
    /// How long they waited.
    wait_seconds: Arc<Histogram>,
    /// How long connections were out.
    hold_seconds: Arc<Histogram>,
    timeouts: Arc<Counter>,
    rejected: [Arc<Counter>; Rejection::ALL.len()],
    openings: Relabelled<OpeningSeries>,
    /// Who holds the connections, and who waits for one.
    pub(super) holders: Arc<PoolHolders>,
}

#[derive(Debug)]
struct OpeningSeries {
    opened: Timed,
    errors: Arc<Counter>,
}

impl QuerySeries {
    fn new(families: &DatabaseFamilies, system: &str, pool: &str) -> Self {
        let naming = families.naming;
        let system = naming.only(system);
        let labels = |operation: Operation| [system, naming.operation(operation.label()), pool];
        Self {
            queries: Operation::ALL.map(labels).map(|values| Timed {
                count: families.queries.series(values),
                seconds: families.query_seconds.series(values),
            }),
            unattributed: Operation::ALL
                .map(labels)
                .map(|values| families.unattributed.series(values)),
            query_errors: Operation::ALL.map(labels).map(|[system, operation, pool]| {
                ErrorKind::ALL.map(|kind| {
                    (families.query_errors).series([system, operation, kind.label(), pool])
                })
            }),
            transactions: TransactionOutcome::ALL.map(|outcome| {
                let values = [outcome.label(), pool];
                Timed {
                    count: families.transactions.series(values),
                    seconds: families.transaction_seconds.series(values),
                }
            }),
        }
    }
}

impl OpeningSeries {
    fn new(families: &DatabaseFamilies, name: &str, label: &str) -> Self {
        // OpenTelemetry's conventions have the label in any case.
        let label_of_seconds = match families.naming {
            Naming::Vitals => label,
            Naming::OpenTelemetry => name,
        };
        Self {
            opened: Timed {
                count: families.connections_opened.series([label]),
                seconds: (families.connection_open_seconds).series([label_of_seconds]),
            },
            errors: families.connection_open_errors.series([label]),
        }
    }
}

impl Metrics {
    /// Resolves the series of `families` for a database of this system. `label` is the value of the label `pool`: empty
    /// outside of any pool, and for the only one.
    pub(super) fn new(families: &DatabaseFamilies, system: &'static str, label: &str) -> Self {
        Self {
            system,
            series: Relabelled::new(QuerySeries::new(families, system, label)),
            logged_unattributed: Arc::clone(&families.logged_unattributed),
        }
    }

    /// Counts in series with the label from now on.
    pub(super) fn label(&self, families: &DatabaseFamilies, name: &str) {
        let labelled = &self.series.labelled;
        labelled.get_or_init(|| QuerySeries::new(families, self.system, name));
    }

    /// Counts a query that ran outside of any request and job. The first is logged, with the remedy.
    #[cold]
    pub(super) fn unattributed(&self, operation: Operation) {
        self.series.unattributed[operation.index()].inc();
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
        self.series.query_errors[operation.index()][kind.index()].inc();
    }

    /// Counts an outermost transaction that ended.
    pub(super) fn transaction(
        &self,
        outcome: TransactionOutcome,
        took: Duration,
        span: Option<&SpanContext>,
    ) {
        self.series.transactions[outcome as usize].record(took, span);
    }
}

impl PoolMetrics {
    /// Resolves the series of `families` for the pool `name`. `label` is the label of its openings.
    pub(super) fn new(families: &DatabaseFamilies, name: &str, label: &str) -> Self {
        let pool = [name];
        Self {
            waiters: families.pool_waiters.series(pool),
            wait_seconds: families.pool_wait_seconds.series(pool),
            hold_seconds: families.pool_hold_seconds.series(pool),
            timeouts: families.pool_timeouts.series(pool),
            rejected: Rejection::ALL
                .map(|reason| families.pool_rejected.series([name, reason.label()])),
            openings: Relabelled::new(OpeningSeries::new(families, name, label)),
            holders: PoolHolders::new(families, name),
        }
    }

    /// Counts openings in series with the label from now on.
    pub(super) fn label(&self, families: &DatabaseFamilies, name: &str) {
        let labelled = &self.openings.labelled;
        labelled.get_or_init(|| OpeningSeries::new(families, name, name));
    }

    /// Observes a wait.
    pub(super) fn waited(&self, end: &WaitEnd) {
        (self.wait_seconds).observe_with(end.waited.as_secs_f64(), end.span.as_ref());
    }

    /// Observes how long a connection was out that this thread returns.
    pub(super) fn held(&self, held: Duration) {
        let span = context::current_span();
        (self.hold_seconds).observe_with(held.as_secs_f64(), span.as_ref());
    }

    /// Counts a caller that got no connection.
    pub(super) fn rejected(&self, reason: Rejection) {
        self.rejected[reason as usize].inc();
        if reason == Rejection::Timeout {
            self.timeouts.inc();
        }
        if reason != Rejection::Cancelled {
            self.holders.rejected();
        }
    }

    /// Counts a connection that was opened in an unknown time.
    pub(super) fn opened_untimed(&self) {
        self.openings.opened.count.inc();
    }

    /// Counts a connection that was opened.
    pub(super) fn opened(&self, took: Duration) {
        self.openings.opened.record(took, None);
    }

    /// Counts a connection that could not be opened.
    pub(super) fn open_failed(&self) {
        self.openings.errors.inc();
    }
}

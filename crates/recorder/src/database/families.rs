//! The families of databases and pools: their names, labels and help texts.

use std::sync::{Arc, atomic::AtomicBool};

use crate::naming::Naming;
use vitals_registry::{
    Counter, Descriptor, Family, FloatCounter, Gauge, Histogram, RegistryBuilder, Unit,
};

/// The label for the name of a pool in OpenTelemetry's conventions.
pub(super) const POOL_NAME: &str = "db.client.connection.pool.name";

/// The families that the recorders of databases fill.
///
/// The levels of the pools are not among them: [`PoolLevels`](crate::database::PoolLevels) reads these at the scrape.
///
/// A label that is not shown has an empty value: the system of a database in our naming, and the pool of queries where it is
/// the only one.
#[derive(Clone, Debug)]
pub struct DatabaseFamilies {
    pub(super) naming: Naming,
    /// By system, operation and pool.
    pub queries: Family<Counter, 3>,
    /// By system, operation and pool.
    pub query_seconds: Family<Histogram, 3>,
    /// By system, operation and pool.
    pub unattributed: Family<Counter, 3>,
    /// Whether the log has a line about unattributed queries.
    pub(super) logged_unattributed: Arc<AtomicBool>,
    /// By system, operation, kind of error and pool.
    pub(super) query_errors: Family<Counter, 4>,
    /// By outcome and pool.
    pub(super) transactions: Family<Counter, 2>,
    /// By outcome and pool.
    pub(super) transaction_seconds: Family<Histogram, 2>,
    /// By pool.
    pub pool_waiters: Family<Gauge, 1>,
    /// By pool.
    pub(super) pool_wait_seconds: Family<Histogram, 1>,
    /// By pool.
    pub(super) pool_hold_seconds: Family<Histogram, 1>,
    /// By pool and endpoint.
    pub(super) pool_held_seconds: Family<FloatCounter, 2>,
    /// By pool.
    pub(super) pool_timeouts: Family<Counter, 1>,
    /// By pool and reason.
    pub(super) pool_rejected: Family<Counter, 2>,
    /// By pool.
    pub(super) connections_opened: Family<Counter, 1>,
    /// By pool.
    pub(super) connection_open_errors: Family<Counter, 1>,
    /// By pool.
    pub(super) connection_open_seconds: Family<Histogram, 1>,
    /// Statements whose plan changed.
    pub(super) plan_changes: Arc<Counter>,
    pub(super) locations_captured: Family<Counter, 0>,
}

impl DatabaseFamilies {
    /// Declares the families, with `latency_buckets` (in seconds) for the histograms.
    pub fn declare(
        registry: &mut RegistryBuilder,
        naming: Naming,
        latency_buckets: &[f64],
    ) -> Self {
        let [operation, kind, pool, endpoint] =
            naming.labels(["operation", "kind", "pool", "endpoint"]);
        let operation = [naming.only("db.system.name"), operation, pool];
        Self {
            naming,
            queries: registry.counter(counts(
                "db_queries_total",
                "Queries that the database finished, failed ones included, by what the statement does; pings and transaction control are not counted.",
                operation,
            )),
            query_seconds: registry.histogram(
                seconds(
                    naming.family("db_query_duration_seconds"),
                    "Time from handing a query to the database until its result was read or dropped, by what the statement does.",
                    operation,
                ),
                latency_buckets,
            ),
            unattributed: registry.counter(counts(
                "db_queries_unattributed_total",
                "Queries that ran outside of any request and job, by what the statement does: on a thread or task that carries no context, as with a plain web::block.",
                operation,
            )),
            logged_unattributed: Arc::default(),
            query_errors: registry.counter(counts(
                "db_query_errors_total",
                "Statements that the database answered with an error, by what the statement does and what went wrong; failures to begin or commit a transaction are counted under the operation other.",
                [operation[0], operation[1], kind, pool],
            )),
            transactions: registry.counter(counts(
                "db_transactions_total",
                "Transactions that ended, by outcome; nested ones are part of the outermost.",
                ["outcome", pool],
            )),
            transaction_seconds: registry.histogram(
                seconds(
                    "db_transaction_duration_seconds",
                    "Time from the beginning of an outermost transaction to its end, during which its locks were held.",
                    ["outcome", pool],
                ),
                latency_buckets,
            ),
            pool_waiters: registry.gauge(Descriptor::new(
                naming.family("db_pool_waiters"),
                "Callers waiting for a connection of the pool at this moment; above 0 for long, the pool is too small or the database too slow.",
                [pool],
            )),
            pool_wait_seconds: registry.histogram(
                seconds(
                    naming.family("db_pool_wait_seconds"),
                    "Time that callers waited for a connection of the pool, observed once per caller, whether it got one, left or reached the timeout.",
                    [pool],
                ),
                latency_buckets,
            ),
            pool_hold_seconds: registry.histogram(
                seconds(
                    naming.family("db_pool_hold_seconds"),
                    "Time that connections were out of the pool, from checkout to return: what bounds the pool's throughput.",
                    [pool],
                ),
                latency_buckets,
            ),
            pool_held_seconds: held_seconds(registry, pool, endpoint),
            pool_timeouts: registry.counter(timeouts(naming, pool)),
            pool_rejected: registry.counter(Descriptor::new(
                "db_pool_rejected_total",
                "Callers that got no connection of the pool: saturated when the queue was full, timeout when none was free in time, cancelled when the caller left while it waited.",
                [pool, "reason"],
            )),
            connections_opened: registry.counter(counts(
                "db_connections_opened_total",
                "Connections that the pool opened; a steady rate means that connections do not live long.",
                [pool],
            )),
            connection_open_errors: registry.counter(counts(
                "db_connection_open_errors_total",
                "Attempts to open a connection that failed: the database is down, unreachable, full, or refuses the credentials.",
                [pool],
            )),
            connection_open_seconds: registry.histogram(
                seconds(
                    naming.family("db_connection_open_seconds"),
                    "Time to open a connection, of the attempts that succeeded.",
                    [pool],
                ),
                latency_buckets,
            ),
            plan_changes: plan_changes(registry),
            locations_captured: registry.counter(captures()),
        }
    }
}

fn held_seconds(
    registry: &mut RegistryBuilder,
    pool: &str,
    endpoint: &str,
) -> Family<FloatCounter, 2> {
    registry.float_counter(
        Descriptor::new(
            "db_pool_held_seconds_total",
            "Time that connections were out of the pool, as in the hold times, by the endpoint or job that had them; unattributed outside of both.",
            [pool, endpoint],
        )
        .unit(Unit::Seconds),
    )
}

/// The changes of plans, from 0 on.
fn plan_changes(registry: &mut RegistryBuilder) -> Arc<Counter> {
    let changes = registry.counter(Descriptor::new(
        "db_statement_plan_changes_total",
        "Statements for which the database was found to choose another plan than before; /ops/statements/{id} has both.",
        [],
    ));
    changes.get()
}

#[cfg(test)]
impl DatabaseFamilies {
    /// The families of a registry that only a test has.
    pub(super) fn of_a_test() -> Self {
        let mut registry = vitals_registry::Registry::builder(|| std::time::Duration::from_secs(1));
        Self::declare(&mut registry, Naming::Vitals, &[0.001, 1.0])
    }
}

fn timeouts(naming: Naming, pool: &str) -> Descriptor<1> {
    let help = "Callers that got no connection within the pool's timeout.";
    Descriptor::new(naming.family("db_pool_timeouts_total"), help, [pool])
}

fn captures() -> Descriptor<0> {
    let help = "Stacks that were captured to find the line of code of a suspicious statement: at most one an hour for each statement and endpoint.";
    Descriptor::new("db_statement_locations_captured_total", help, [])
}

/// Describes a family. The label of the only pool is left out, because it is empty.
fn counts<const N: usize>(name: &str, help: &str, labels: [&str; N]) -> Descriptor<N> {
    Descriptor::new(name, help, labels).omit_empty_labels()
}

fn seconds<const N: usize>(name: &str, help: &str, labels: [&str; N]) -> Descriptor<N> {
    counts(name, help, labels).unit(Unit::Seconds)
}

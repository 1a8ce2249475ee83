//! Builds pools: their settings, and how their parts are connected.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2::{self, ConnectionManager, R2D2Connection};

use super::super::checks::{CHECK_AFTER, Checks};
use super::super::explainable::{self, Explainable};
use super::super::manager::{Connector, Manager, Opener, OutageLog};
use super::super::recorders::Recorders;
use super::super::system::system_of;
use super::checkout::Pool;
use super::error::{CheckoutError, failure};
use super::holds::Holds;
use super::probe::{HealthCheck, PoolProbe};
use crate::database::Database;
use crate::database::health::DatabaseHealth;
use crate::database::names::{self, NamedPool};
use crate::database::sql::Dialect;

/// The default capacity of the wait queue.
const DEFAULT_MAX_WAITERS: usize = 1024;

/// Builds an instrumented [`Pool`].
pub struct PoolBuilder<C>
where
    C: R2D2Connection + Send + 'static,
{
    builder: r2d2::Builder<Manager<C>>,
    database: Database,
    name: String,
    system: &'static str,
    max_waiters: usize,
    check_after: Duration,
    opener: Option<Opener<C>>,
    health_check: Option<HealthCheck<C>>,
}

impl<C> fmt::Debug for PoolBuilder<C>
where
    C: R2D2Connection + Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("max_waiters", &self.max_waiters)
            .finish_non_exhaustive()
    }
}

impl<C> PoolBuilder<C>
where
    C: R2D2Connection + Send + 'static,
{
    /// A builder with the settings of `builder`.
    pub(crate) fn new(builder: r2d2::Builder<Manager<C>>, database: Database) -> Self {
        Self {
            builder,
            database,
            name: names::DEFAULT.to_owned(),
            system: system_of::<C::Backend>(),
            max_waiters: DEFAULT_MAX_WAITERS,
            check_after: CHECK_AFTER,
            opener: None,
            health_check: None,
        }
    }

    /// Opens connections with `open`, in place of the connection manager with its URL.
    ///
    /// For an enum of Diesel's `MultiConnection`, whose `establish` tries each database in turn and drops their errors. The
    /// queries of `open` itself are not recorded.
    #[must_use]
    pub fn opener(
        mut self,
        open: impl Fn() -> diesel::ConnectionResult<C> + Send + Sync + 'static,
    ) -> Self {
        self.opener = Some(Box::new(open));
        self
    }

    /// Sets the name of the pool, for the label `pool` of its metrics. The default is `default`. Characters beyond the 64th are
    /// left out.
    ///
    /// The name of an open pool is unique: a second pool of the same name gets a number, as in `default-2`. Beyond 32 names,
    /// further pools share the name `overflow`.
    ///
    /// Queries, transactions, errors and openings of connections have the label from the moment that a service has a second
    /// name. What was counted before stays in the series without the label.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the name of the database system. The default follows from Diesel's backend. It is `other_sql` where the
    /// backend does not determine the system, as for an enum of Diesel's `MultiConnection`.
    ///
    /// The reader of statements takes the [`Dialect`](crate::database::sql::Dialect) from this name. Of a database that it does
    /// not know it shows less: nothing that is a value in any dialect. OpenTelemetry's naming has a label for it.
    #[must_use]
    pub fn system(mut self, name: &'static str) -> Self {
        self.system = name;
        self
    }

    /// Sets the check that `/readyz` and `/health` run on an idle connection of the pool. The default is Diesel's ping.
    ///
    /// Its queries belong to the request that asks. The families of the pool do not count it. If all connections are busy,
    /// it is not run: the pool is then ready if the database has answered recently or accepts a further connection. The log
    /// shows known phrases of its error only: see [`without_values`](crate::database::without_values).
    #[must_use]
    pub fn health_check(
        mut self,
        check: impl Fn(&mut C) -> diesel::QueryResult<()> + Send + Sync + 'static,
    ) -> Self {
        self.health_check = Some(Box::new(check));
        self
    }

    /// Sets how many callers of [`Pool::run`] may wait for a connection. The default is 1024. With 0, callers that would
    /// have to wait are rejected.
    #[must_use]
    pub fn max_waiters(mut self, max_waiters: usize) -> Self {
        self.max_waiters = max_waiters;
        self
    }

    /// Sets how long after the server's last answer a connection is used without a check. The default is 500 ms, as in
    /// `HikariCP`. With zero, each connection is checked before each use, as r2d2 does. Only a pool of r2d2 with
    /// `test_on_check_out`, which is its default, checks connections at all.
    ///
    /// A check is a round trip to the server. A connection that is lost in this time fails its next statement, is counted in
    /// `db_query_errors_total` and closed, and all idle connections are checked. [`Pool::read`] then runs its work again.
    #[must_use]
    pub fn check_after(mut self, check_after: Duration) -> Self {
        self.check_after = check_after;
        self
    }
}

impl<C> PoolBuilder<C>
where
    C: R2D2Connection + Explainable + Send + 'static,
{
    /// Opens the pool, and waits until its first connections are open.
    ///
    /// # Errors
    ///
    /// If they are not open within the pool's timeout.
    pub fn build(self, manager: ConnectionManager<C>) -> Result<Pool<C>, CheckoutError> {
        let health = Arc::default();
        self.open(manager, &health, |builder, manager| {
            builder.build(manager).map_err(|_| failure(&health))
        })
    }

    /// Opens the pool without waiting for its connections: for a service that starts while its database is down.
    pub fn build_unchecked(self, manager: ConnectionManager<C>) -> Pool<C> {
        let opened =
            self.open::<std::convert::Infallible>(manager, &Arc::default(), |builder, manager| {
                Ok(builder.build_unchecked(manager))
            });
        match opened {
            Ok(pool) => pool,
            Err(never) => match never {},
        }
    }

    fn open<E>(
        self,
        manager: ConnectionManager<C>,
        health: &Arc<DatabaseHealth>,
        open: impl FnOnce(r2d2::Builder<Manager<C>>, Manager<C>) -> Result<r2d2::Pool<Manager<C>>, E>,
    ) -> Result<Pool<C>, E> {
        let NamedPool {
            name,
            metrics,
            pool_metrics,
        } = self.database.name_pool(&self.name, self.system);
        health.of_pool(&name);
        let log = OutageLog {
            health: Arc::clone(health),
        };
        let builder = self
            .builder
            .event_handler(Box::new(Holds))
            .error_handler(Box::new(log));
        let connector = Arc::new(Connector::new(manager, self.opener));
        let probe = PoolProbe::new(Arc::clone(&connector), self.health_check);
        let holders = Arc::clone(&pool_metrics.holders);
        let dialect = Dialect::of_system(self.system);
        let opener = explainable::opener(&connector);
        let explainer = self.database.explain(&name, dialect, opener);
        holders.locks.explained_by(&explainer);
        let manager = Manager::new(
            connector,
            Recorders::of_pool(&self.database, &name, metrics, self.system),
            Arc::clone(&pool_metrics),
            Arc::clone(health),
            Checks::after(self.check_after),
        );
        let pool = open(builder, manager)?;
        let pool = Pool::new(
            pool,
            pool_metrics,
            Arc::clone(health),
            self.max_waiters,
            name,
            probe,
            explainer,
        );
        self.database.levels().add(pool.watched(), &holders);
        Ok(pool)
    }
}

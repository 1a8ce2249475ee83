//! An asynchronous pool: its builder, its level and its health check.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio::sync::Mutex;

use super::explainable::{self, AsyncExplainable, Opener};
use super::held::Held;
use super::manager::{AsyncManager, Openings, muted};
use super::recorder::Muted;
use super::{Database, Recorders, driver_of, system_of};
use crate::clock;
use crate::database::driver_message::is_connection_limit;
use crate::database::explaining::Explainer;
use crate::database::health::{DatabaseHealth, HealthCheckLog};
use crate::database::levels::{AnyPool, Pinging, PoolLevel, Unanswered};
use crate::database::metrics::PoolMetrics;
use crate::database::names::{self, NamedPool};
use crate::database::wait::Wait;

/// For this long after an answer of the database, a busy pool is ready without a question.
const RECENTLY: Duration = Duration::from_millis(500);

/// The longest time that a health check waits for an idle connection that another caller takes in the meantime.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// What an [`AsyncPool`] needs of the pool that it wraps. It is implemented for the pools of deadpool, bb8 and mobc.
pub trait NativePool: Clone + Send + Sync + 'static {
    /// The connections.
    type Connection: AsyncConnection + 'static;

    /// A connection that was taken from the pool.
    type Taken: DerefMut<Target = Self::Connection> + Send;

    /// How many connections there are, and how many are in use.
    #[doc(hidden)]
    fn level(&self) -> PoolLevel;

    /// Takes a connection from the pool, with the check of the pool.
    #[doc(hidden)]
    fn take(&self) -> impl Future<Output = Result<Self::Taken, String>> + Send;
}

/// Builds an instrumented pool of connections of diesel-async.
///
/// The methods `deadpool`, `bb8` and `mobc` build a pool of that crate.
pub struct AsyncPoolBuilder<M> {
    database: Database,
    manager: M,
    name: String,
    system: Option<&'static str>,
}

impl<M> AsyncPoolBuilder<M> {
    pub(super) fn new(database: Database, manager: M) -> Self {
        Self {
            database,
            manager,
            name: names::DEFAULT.to_owned(),
            system: None,
        }
    }

    /// Sets the name of the pool, for the label `pool` of its metrics. The default is `default`.
    ///
    /// The rules are those of [`PoolBuilder::name`](crate::database::PoolBuilder::name).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the name of the database system. The default follows from Diesel's backend.
    ///
    /// The reader of statements takes the [`Dialect`](crate::database::sql::Dialect) from this name. OpenTelemetry's naming has a label for it.
    #[must_use]
    pub fn system(mut self, name: &'static str) -> Self {
        self.system = Some(name);
        self
    }

    /// Wraps the manager, and returns what the pool is built from.
    pub(super) fn parts<C: AsyncConnection>(self) -> Parts<M> {
        let system = self.system.unwrap_or_else(system_of::<C::Backend>);
        let NamedPool {
            name,
            metrics,
            pool_metrics,
        } = self.database.name_pool(&self.name, system);
        let health = Arc::<DatabaseHealth>::default();
        health.of_pool(&name);
        let openings = Openings {
            recorders: Recorders::of_pool(&self.database, &name, metrics, system),
            pool_metrics,
            driver: driver_of::<C>(),
            health,
        };
        Parts {
            manager: AsyncManager {
                inner: Arc::new(self.manager),
                openings: Arc::new(openings),
            },
            database: self.database,
            name,
        }
    }
}

impl<M> fmt::Debug for AsyncPoolBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncPoolBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a pool is built from.
pub(super) struct Parts<M> {
    pub(super) manager: AsyncManager<M>,
    pub(super) database: Database,
    pub(super) name: Arc<str>,
}

/// An instrumented pool of connections of diesel-async. Cheap to clone.
///
/// It dereferences to the pool `P` of the crate that it was built with.
pub struct AsyncPool<P: NativePool> {
    inner: Arc<AsyncPoolInner<P>>,
}

struct AsyncPoolInner<P: NativePool> {
    native: P,
    name: Arc<str>,
    metrics: Arc<PoolMetrics>,
    health: Arc<DatabaseHealth>,
    open: Opener<P::Connection>,
    /// Ends with the pool.
    _explainer: Arc<Explainer>,
    /// Held by the health check that runs.
    turn: Mutex<()>,
    /// How many connections of the pool health checks hold.
    probing: AtomicU32,
    log: HealthCheckLog,
}

impl<P: NativePool> AsyncPool<P> {
    pub(super) fn new<F>(
        native: P,
        (database, name, openings): (&Database, Arc<str>, &Openings),
        open: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<P::Connection, String>> + Send + 'static,
        P::Connection: AsyncExplainable,
    {
        let open: Opener<P::Connection> = Arc::new(move || Box::pin(open()));
        let dialect = openings.recorders.dialect();
        let explainer = database.explain(&name, dialect, explainable::opener(&open));
        let holders = &openings.pool_metrics.holders;
        holders.locks.explained_by(&explainer);
        let inner = Arc::new(AsyncPoolInner {
            native,
            name,
            metrics: Arc::clone(&openings.pool_metrics),
            health: Arc::clone(&openings.health),
            open,
            _explainer: explainer,
            turn: Mutex::new(()),
            probing: AtomicU32::new(0),
            log: HealthCheckLog::default(),
        });
        let level = Arc::downgrade(&inner);
        database
            .levels()
            .add(level as Weak<dyn AnyPool>, &openings.pool_metrics.holders);
        Self { inner }
    }

    /// The name of the pool in its metrics: the name from the builder, with a number if another open pool has that name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(super) fn native(&self) -> &P {
        &self.inner.native
    }

    /// Observes the wait for a connection that `get` returns. `is_timeout` says whether an error is the pool's timeout, and
    /// `taken_at` where the application asked for the connection.
    pub(super) async fn wait<O, E>(
        &self,
        get: impl Future<Output = Result<O, E>>,
        is_timeout: impl FnOnce(&E) -> bool,
        taken_at: &'static Location<'static>,
    ) -> Result<Held<O>, E>
    where
        O: DerefMut<Target = P::Connection>,
    {
        let AsyncPoolInner {
            metrics, health, ..
        } = &*self.inner;
        let wait = Wait::begin(metrics, clock::now(), false);
        match get.await {
            Ok(object) => {
                let end = wait.over();
                let (metrics, health) = (Arc::clone(metrics), Arc::clone(health));
                Ok(Held::new(object, metrics, health, &end, taken_at))
            }
            Err(error) => {
                if is_timeout(&error) {
                    wait.timed_out();
                } else {
                    wait.failed();
                }
                Err(error)
            }
        }
    }
}

impl<P: NativePool> Clone for AsyncPool<P> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<P: NativePool> Deref for AsyncPool<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.inner.native
    }
}

impl<P: NativePool> fmt::Debug for AsyncPool<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncPool")
            .field("name", &self.inner.name)
            .field("level", &self.inner.native.level())
            .finish_non_exhaustive()
    }
}

impl<P: NativePool> AsyncPoolInner<P> {
    /// Asks the database, on an idle connection if there is one.
    async fn ask(&self) -> Result<(), String> {
        let level = self.native.level();
        let open = level.idle + level.checked_out;
        if level.idle > 0 {
            let _probing = Probing::begin(&self.probing);
            let taken = tokio::time::timeout(PROBE_PATIENCE, self.native.take()).await;
            // Otherwise other callers have taken the idle connections.
            if let Ok(taken) = taken {
                let mut connection = taken?;
                return ask(&mut *connection).await;
            }
        }
        if open > 0 && self.health.answered_within(RECENTLY) {
            return Ok(());
        }
        match (self.open)().await {
            Ok(mut connection) => ask(&mut connection).await,
            Err(error) if open > 0 && is_connection_limit(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Runs a query that is not recorded.
async fn ask<C: AsyncConnection>(connection: &mut C) -> Result<(), String> {
    let muted = muted(connection);
    let answer = connection.batch_execute("SELECT 1").await;
    Muted::end(muted);
    answer.map_err(|error| error.to_string())
}

impl<P: NativePool> AnyPool for AsyncPoolInner<P> {
    fn name(&self) -> &str {
        &self.name
    }

    fn level(&self) -> PoolLevel {
        let mut level = self.native.level();
        // A connection that a health check holds counts as idle.
        let probing = u64::from(self.probing.load(Ordering::Relaxed)).min(level.checked_out);
        level.checked_out -= probing;
        level.idle += probing;
        level
    }

    fn ping(self: Arc<Self>) -> Pinging {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let answer = self.ask().await;
            let error = answer.as_ref().err().map(String::as_str);
            self.log.note(&self.name, error);
            answer.map_err(|_| Unanswered)
        })
    }
}

/// A health check that may hold a connection of the pool.
struct Probing<'a>(&'a AtomicU32);

impl<'a> Probing<'a> {
    fn begin(probing: &'a AtomicU32) -> Self {
        probing.fetch_add(1, Ordering::Relaxed);
        Self(probing)
    }
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

//! How many connections the pools have, read at the scrape, and whether their databases answer.
//!
//! Contains the collector [`PoolLevels`] and what it needs of a pool of any kind, [`AnyPool`].

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::families::POOL_NAME;
use super::holders::{PoolHolders, PoolReport};
use super::pool_watch;
use super::statements::Statements;
use crate::naming::Naming;
use vitals_registry::{Collector, FamilyDescription, FamilyRows, ReadFamily, Unit};

/// The connections of one pool, or of several, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolLevel {
    /// Connections in use.
    pub checked_out: u64,
    /// Connections that are open and free.
    pub idle: u64,
    /// The most connections that may be open.
    pub max: u64,
}

impl Add for PoolLevel {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            checked_out: self.checked_out + other.checked_out,
            idle: self.idle + other.idle,
            max: self.max + other.max,
        }
    }
}

/// A pool of connections of any type.
pub(super) trait AnyPool: Send + Sync {
    /// The name of the pool in its metrics.
    fn name(&self) -> &str;

    fn level(&self) -> PoolLevel;

    /// Asks the database on a connection of the pool.
    fn ping(self: Arc<Self>) -> Pinging;
}

/// The answer of a database, in the future.
pub(super) type Pinging = std::pin::Pin<Box<dyn Future<Output = Result<(), Unanswered>>>>;

/// The database of a pool did not answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the database did not answer")]
pub struct Unanswered;

const CHECKED_OUT: ReadFamily = ReadFamily::gauge(
    "db_pool_checked_out_connections",
    Unit::None,
    "Connections of the pool that are in use; while all are in use, callers wait.",
)
.labels(&["pool"]);
const IDLE: ReadFamily = ReadFamily::gauge(
    "db_pool_idle_connections",
    Unit::None,
    "Connections of the pool that are open and free.",
)
.labels(&["pool"]);
const MAX: ReadFamily = ReadFamily::gauge(
    "db_pool_max_connections",
    Unit::None,
    "The most connections that the pool opens.",
)
.labels(&["pool"]);

/// Both kinds in one family, as OpenTelemetry's conventions have it.
const COUNT: ReadFamily = ReadFamily::gauge(
    "db.client.connection.count",
    Unit::None,
    "Connections of the pool that are open, by whether they are used or idle; while all are used, callers wait.",
)
.labels(&[POOL_NAME, "db.client.connection.state"]);
const MAX_OF_POOL: ReadFamily = ReadFamily {
    name: "db.client.connection.max",
    ..MAX
}
.labels(&[POOL_NAME]);

/// Reads the levels of the pools at each scrape. Without any pool, it has no rows.
#[derive(Clone)]
pub struct PoolLevels {
    naming: Naming,
    pools: Arc<SharedPools>,
}

/// The pools of one monitoring.
pub(super) struct SharedPools {
    /// How long a connection may be held before it is reported; `None` if none is.
    pub(super) leak_threshold: Option<Duration>,
    /// The statements that their connections run.
    pub(super) statements: Statements,
    pools: Mutex<Vec<WatchedPool>>,
    is_watched: AtomicBool,
}

/// A pool, and what is known of its connections. The second needs no reference to the pool, which would keep it open.
pub(super) type WatchedPool = (Weak<dyn AnyPool>, Arc<PoolHolders>);

impl SharedPools {
    /// The pools that are open, and perhaps some that are closed.
    pub(super) fn watched(&self) -> Vec<WatchedPool> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<WatchedPool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolLevels {
    /// A collector without any pool. Connections that are held for longer than the threshold are reported.
    pub(super) fn new(
        naming: Naming,
        leak_threshold: Option<Duration>,
        statements: &Statements,
    ) -> Self {
        Self {
            naming,
            pools: Arc::new(SharedPools {
                leak_threshold,
                statements: statements.clone(),
                pools: Mutex::default(),
                is_watched: AtomicBool::new(false),
            }),
        }
    }

    /// Adds a pool, for as long as it is open.
    pub(super) fn add(&self, pool: Weak<dyn AnyPool>, holders: &Arc<PoolHolders>) {
        let mut pools = self.pools.lock();
        // Closed ones, also where nobody reads the levels.
        pools.retain(|(pool, _)| pool.strong_count() > 0);
        pools.push((pool, Arc::clone(holders)));
        drop(pools);
        if !self.pools.is_watched.swap(true, Relaxed) {
            pool_watch::start(Arc::downgrade(&self.pools));
        }
    }

    /// The pools that are open.
    fn open(&self) -> Vec<(Arc<dyn AnyPool>, Arc<PoolHolders>)> {
        let mut pools = self.pools.lock();
        pools.retain(|(pool, _)| pool.strong_count() > 0);
        let open = pools.iter();
        open.filter_map(|(pool, holders)| Some((pool.upgrade()?, Arc::clone(holders))))
            .collect()
    }

    /// The pools that it reads.
    #[cfg(test)]
    pub(super) fn shared(&self) -> &SharedPools {
        &self.pools
    }

    /// The current levels, by the name of the pool.
    fn read(&self) -> BTreeMap<String, PoolLevel> {
        let mut levels = BTreeMap::<_, PoolLevel>::new();
        for (pool, _) in self.open() {
            let sum = levels.entry(pool.name().to_owned()).or_default();
            *sum = *sum + pool.level();
        }
        levels
    }

    /// The sum of all pools; `None` if there are none.
    pub fn sum(&self) -> Option<PoolLevel> {
        self.read().into_values().reduce(Add::add)
    }

    /// Who holds the connections of each open pool, and who waits for one. Needs nothing from the threads that do.
    pub fn reports(&self) -> Vec<PoolReport> {
        let open = self.open().into_iter();
        open.map(|(pool, holders)| holders.report(Arc::clone(holders.pool()), pool.level()))
            .collect()
    }

    /// How long a connection may be held before it is reported; `None` if none is.
    pub fn leak_threshold(&self) -> Option<Duration> {
        self.pools.leak_threshold
    }

    /// Whether the databases of all pools answer; `None` if there is no pool.
    pub async fn ping(&self) -> Option<Result<(), Unanswered>> {
        let pools = self.open();
        if pools.is_empty() {
            return None;
        }
        for (pool, _) in pools {
            if let Err(unanswered) = pool.ping().await {
                return Some(Err(unanswered));
            }
        }
        Some(Ok(()))
    }
}

impl fmt::Debug for PoolLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolLevels").finish_non_exhaustive()
    }
}

impl Collector for PoolLevels {
    fn name(&self) -> &'static str {
        "database_pool"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        let families: &[ReadFamily] = match self.naming {
            Naming::Vitals => &[CHECKED_OUT, IDLE, MAX],
            Naming::OpenTelemetry => &[COUNT, MAX_OF_POOL],
        };
        families.iter().map(ReadFamily::describe).collect()
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let pools = self.read();
        if pools.is_empty() {
            return Ok(());
        }
        let series = |family: &ReadFamily, value: fn(&PoolLevel) -> u64| {
            family.series((pools.iter()).map(|(name, level)| ([name], value(level) as f64)))
        };
        match self.naming {
            Naming::Vitals => {
                rows.push(series(&CHECKED_OUT, |level| level.checked_out));
                rows.push(series(&IDLE, |level| level.idle));
                rows.push(series(&MAX, |level| level.max));
            }
            Naming::OpenTelemetry => {
                let states = pools.iter().flat_map(|(name, level)| {
                    [("used", level.checked_out), ("idle", level.idle)]
                        .map(|(state, count)| ([name.as_str(), state], count as f64))
                });
                rows.push(COUNT.series(states));
                rows.push(series(&MAX_OF_POOL, |level| level.max));
            }
        }
        Ok(())
    }
}

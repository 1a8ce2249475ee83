//! How full the pools are, read when somebody looks, and whether their databases answer.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus::proto::MetricFamily;

use super::super::families::POOL_NAME;
use crate::registry::{Collector, FamilyDescription, Unit};
use crate::vitals::naming::Naming;
use crate::vitals::reading::Reading;

/// What one pool, or several, hold at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    /// Connections in use.
    pub(crate) checked_out: u64,
    /// Connections that are open and free.
    pub(crate) idle: u64,
    /// Connections that are opened at most.
    pub(crate) max: u64,
}

impl Add for Level {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            checked_out: self.checked_out + other.checked_out,
            idle: self.idle + other.idle,
            max: self.max + other.max,
        }
    }
}

/// What can be asked of a pool of whatever connections.
pub(super) trait AnyPool: Send + Sync {
    fn level(&self) -> Level;

    /// Whether the database answers on a connection of the pool.
    #[cfg(feature = "ops")]
    fn ping(self: Arc<Self>) -> Pinging;
}

/// A question to a database.
#[cfg(feature = "ops")]
pub(super) type Pinging = std::pin::Pin<Box<dyn Future<Output = Result<(), Unanswered>>>>;

/// The database of a pool did not answer.
#[cfg(feature = "ops")]
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the database did not answer")]
pub(crate) struct Unanswered;

const CHECKED_OUT: Reading = Reading::gauge(
    "db_pool_checked_out_connections",
    Unit::None,
    "Connections of the pool that are in use; at the maximum for long, callers wait.",
);
const IDLE: Reading = Reading::gauge(
    "db_pool_idle_connections",
    Unit::None,
    "Connections of the pool that are open and free.",
);
const MAX: Reading = Reading::gauge(
    "db_pool_max_connections",
    Unit::None,
    "Connections that the pool opens at most.",
);

/// In use and free, together.
const COUNT: Reading = Reading::gauge(
    "db_client_connection_count",
    Unit::None,
    "Connections of the pool that are open, by whether they are used or idle; all used for long, callers wait.",
)
.labels(&[POOL_NAME, "db_client_connection_state"]);
const MAX_OF_POOL: Reading = Reading {
    name: "db_client_connection_max",
    ..MAX
}
.labels(&[POOL_NAME]);

/// Reads how full the pools are, when somebody looks. Pools of one name are added up, and all of them where the naming
/// does not tell pools apart; without any, there are no rows.
#[derive(Clone)]
pub(crate) struct Levels {
    naming: Naming,
    pools: Arc<Mutex<Vec<Named>>>,
}

/// A pool, as long as there is one.
struct Named {
    name: String,
    pool: Weak<dyn AnyPool>,
}

impl Levels {
    /// Of no pool yet.
    pub(crate) fn new(naming: Naming) -> Self {
        Self {
            naming,
            pools: Arc::default(),
        }
    }

    /// One more pool, as long as there is one.
    pub(super) fn add(&self, name: String, pool: Weak<dyn AnyPool>) {
        self.lock().push(Named { name, pool });
    }

    /// The levels now, by name.
    fn read(&self) -> BTreeMap<String, Level> {
        let pools: Vec<_> = {
            let mut pools = self.lock();
            pools.retain(|named| named.pool.strong_count() > 0);
            let living = pools
                .iter()
                .map(|named| Some((named.name.clone(), named.pool.upgrade()?)));
            living.flatten().collect()
        };
        let mut levels = BTreeMap::<_, Level>::new();
        for (name, pool) in pools {
            let sum = levels.entry(name).or_default();
            *sum = *sum + pool.level();
        }
        levels
    }

    /// All pools added up; nothing, where there are none.
    #[cfg(feature = "dashboard")]
    pub(crate) fn sum(&self) -> Option<Level> {
        self.read().into_values().reduce(Add::add)
    }

    /// Whether the database of every pool answers, on a connection of it.
    #[cfg(feature = "ops")]
    pub(crate) async fn ping(&self) -> Result<(), Unanswered> {
        let pools: Vec<_> = (self.lock().iter())
            .filter_map(|named| named.pool.upgrade())
            .collect();
        for pool in pools {
            pool.ping().await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Named>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels").finish_non_exhaustive()
    }
}

impl Collector for Levels {
    fn name(&self) -> &'static str {
        "database_pool"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        let readings: &[Reading] = match self.naming {
            Naming::Vitals => &[CHECKED_OUT, IDLE, MAX],
            Naming::OpenTelemetry => &[COUNT, MAX_OF_POOL],
        };
        readings.iter().map(Reading::describe).collect()
    }

    fn collect(&self, rows: &mut Vec<MetricFamily>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let pools = self.read();
        if pools.is_empty() {
            return Ok(());
        }
        match self.naming {
            Naming::Vitals => {
                let level = pools.into_values().fold(Level::default(), Add::add);
                rows.push(CHECKED_OUT.single(level.checked_out as f64));
                rows.push(IDLE.single(level.idle as f64));
                rows.push(MAX.single(level.max as f64));
            }
            Naming::OpenTelemetry => {
                let states = pools.iter().flat_map(|(name, level)| {
                    [("used", level.checked_out), ("idle", level.idle)]
                        .map(|(state, count)| ([name.as_str(), state], count))
                });
                let states: Vec<_> = states.collect();
                let states = states
                    .iter()
                    .map(|(values, count)| (&values[..], *count as f64));
                rows.push(COUNT.series(states));
                let most: Vec<_> = (pools.iter())
                    .map(|(name, level)| ([name.as_str()], level.max))
                    .collect();
                let most = most.iter().map(|(values, max)| (&values[..], *max as f64));
                rows.push(MAX_OF_POOL.series(most));
            }
        }
        Ok(())
    }
}

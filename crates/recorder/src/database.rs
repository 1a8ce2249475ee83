//! The database as its clients see it: queries, transactions, connections and pools.
//!
//! Contains [`Database`], from which a service gets its recorders and pools, and the families that these fill.
//!
//! - `families`, `metrics`: the families, and the series of one database or pool
//! - `names`: the names of pools, which queries have as a label where there are several
//! - `sql`, `statements`: reads the text of statements, and keeps the cost of each
//! - `levels`, `wait`, `health`: what pools of any kind have in common
//! - `holders`, `held_seconds`, `pool_watch`: who holds connections: now, in all, and in the log
//! - `locks`: who waits for a lock of the database, and who holds it
//! - `explaining`, `plans`: the connection that asks a database about itself, and the plans that it asks for
//! - `connection`: all that depends on Diesel
//!
//! No secret gets into a metric, a log line or an error of this module. It keeps no text of a statement but its shape, no
//! bind value and no URL.

#[cfg(feature = "diesel")]
mod connection;
mod driver_message;
mod error;
mod explaining;
mod families;
mod health;
mod held_seconds;
mod holders;
mod levels;
mod locks;
mod metrics;
mod names;
mod plans;
mod pool_watch;
pub mod sql;
mod statements;
mod wait;

use crate::context::StatementShapes as _;
use crate::{
    naming::Naming,
    suspicions::{SuspicionSettings, Suspicions},
};

#[cfg(feature = "diesel-async")]
pub use connection::{
    AsyncExplainable, AsyncManager, AsyncPool, AsyncPoolBuilder, Held, NativePool, bb8, deadpool,
    mobc, record_async_error, set_async_instrumentation,
};
#[cfg(feature = "diesel")]
pub use connection::{
    CheckoutError, Connection, Explainable, Manager, Opaque, Pool, PoolBuilder, QueryError,
    QueryRecorder, RunError, Typed, Wrapped, record_error, set_instrumentation,
};
pub use driver_message::without_values;
pub use error::ErrorKind;
pub use families::DatabaseFamilies;
pub(crate) use held_seconds::{EndpointHeldSeconds, HeldSeconds};
pub use holders::{HeldConnection, HoldActivity, PoolReport, WaitingCaller};
pub use levels::{PoolLevel, PoolLevels, Unanswered};
pub use locks::{LockParty, LockPartyKind, LockReport, LockWait};
pub use plans::{Plan, PlanChange, PlanFlag, PlanFlagKind, PlanReport, PlanStep};
pub use pool_watch::{LEAK_THRESHOLD, WAIT_THRESHOLD};
pub use statements::{
    Fullness, Order, StatementDetail, StatementFilter, StatementMinute, StatementReport, Statements,
};

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use explaining::Explainers;
#[cfg(feature = "diesel")]
use explaining::{Explainer, Open};
use names::{NamedPool, PoolNames};
use plans::Plans;
#[cfg(feature = "diesel")]
use plans::Study;
#[cfg(feature = "diesel")]
use sql::Dialect;
use statements::{Counted, DEFAULT_CAPACITY};

/// What is recorded of databases.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseSettings {
    /// The most statements that are kept.
    pub statements: usize,
    /// How long a connection may be held before it is reported; zero reports none.
    pub leak_threshold: Duration,
    /// When a statement is suspicious.
    pub suspicions: SuspicionSettings,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            statements: DEFAULT_CAPACITY,
            leak_threshold: LEAK_THRESHOLD,
            suspicions: SuspicionSettings::default(),
        }
    }
}

/// The recorders of everything about databases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    families: DatabaseFamilies,
    statements: Statements,
    levels: PoolLevels,
    names: PoolNames,
    explainers: Explainers,
    plans: Plans,
}

impl Database {
    /// Returns recorders that fill `families`, with these settings.
    pub fn new(families: DatabaseFamilies, settings: DatabaseSettings) -> Self {
        if families.naming == Naming::Vitals {
            // The series of a service with one pool, or none, exist from the start.
            metrics::Metrics::new(&families, "", "");
            families.connection_open_seconds.series([""]);
        }
        families.connections_opened.series([""]);
        families.connection_open_errors.series([""]);
        let statements = Statements::new(
            settings.statements,
            Counted::new(&families),
            Suspicions::new(settings.suspicions, families.locations_captured.get()),
        );
        Self {
            levels: PoolLevels::new(
                families.naming,
                Some(settings.leak_threshold).filter(|time| !time.is_zero()),
                &statements,
            ),
            statements,
            names: PoolNames::default(),
            explainers: Explainers::default(),
            plans: Plans::new(false, Arc::clone(&families.plan_changes)),
            families,
        }
    }

    /// Whether the plans of the costliest statements are asked for, on a connection of its own for each pool. Default false.
    /// Call it before the first pool is opened.
    #[must_use]
    pub fn with_plans(mut self, wanted: bool) -> Self {
        self.plans = Plans::new(wanted, Arc::clone(&self.families.plan_changes));
        if wanted {
            self.statements.keep_texts();
        }
        self
    }

    /// What is known of the plan of a statement. The database is asked soon, and the answer is in a later report.
    pub fn plan(&self, statement: NonZeroU32) -> PlanReport {
        let pool = self.statements.pool(statement);
        let explainer = pool.and_then(|pool| self.explainers.of(&pool));
        let report = (self.plans).report(&self.statements, statement, explainer.is_some());
        if let Some(explainer) = explainer {
            explainer.look();
        }
        report
    }

    /// Asks the database of a pool about itself, on connections that `open` opens, as long as the result is owned.
    #[cfg(feature = "diesel")]
    fn explain(&self, pool: &Arc<str>, dialect: Dialect, open: Open) -> Arc<Explainer> {
        let study = Study::new(pool, dialect, &self.plans, &self.statements);
        let explainer = Explainer::new(pool, dialect, open, study);
        self.explainers.add(pool, &explainer);
        explainer
    }

    /// The families that queries and pools are counted in.
    pub fn families(&self) -> &DatabaseFamilies {
        &self.families
    }

    /// Names a pool of a database of this system, and resolves its series.
    fn name_pool(&self, wanted: &str, system: &'static str) -> NamedPool {
        self.names.take(wanted, system, &self.families)
    }

    /// The database system of the pool of this name, as OpenTelemetry's conventions name it; without a name, that of all
    /// pools. `None` if it is not known, or if the pools have several.
    pub fn system(&self, pool: Option<&str>) -> Option<&'static str> {
        self.names.system(pool)
    }

    /// The statements that cost most.
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Returns the collector that reports how full the table of statements is. Register it once.
    pub fn fullness(&self) -> Fullness {
        Fullness(self.statements.clone())
    }

    /// The collector of the levels of the pools. Register it once.
    pub fn levels(&self) -> &PoolLevels {
        &self.levels
    }
}

//! The database as its clients feel it: queries, transactions, connections and the pool.
//!
//! Here: [`Database`], which makes instrumented pools and recorders, and the families they fill. How a statement's verb is
//! found, what Diesel reports and how the pool admits its callers is told in the modules below.
//!
//! Nothing that could hold a secret goes into a metric, a log line or an error of this module: no statement, no bind, no URL.

mod error;
mod families;
#[cfg(test)]
mod fixture;
mod hooks;
mod manager;
mod metrics;
mod pool;
mod recorder;
pub mod verb;

use std::sync::Arc;

use diesel::r2d2::{self, R2D2Connection};

pub use error::ErrorKind;
pub use families::Families;
pub use hooks::{Carried, Hooks};
pub use manager::Manager;
pub use pool::{CheckoutError, Connection, Levels, Pool, PoolBuilder, RunError};
pub use recorder::{Recorder, record_error};

/// The recorders of everything about the database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    metrics: Arc<metrics::Metrics>,
    hooks: Hooks,
    levels: Levels,
}

impl Database {
    /// Recorders that fill `families`, and ask `hooks` for the request that a query is run for.
    pub fn new(families: &Families, hooks: Hooks) -> Self {
        Self {
            metrics: Arc::new(metrics::Metrics::new(families)),
            hooks,
            levels: Levels::default(),
        }
    }

    /// A builder of instrumented pools, with the settings of `builder`.
    ///
    /// Its event handler and its error handler are replaced; its connection customizer is kept, and what that runs on a new
    /// connection is counted like any other query.
    pub fn instrument<C>(&self, builder: r2d2::Builder<Manager<C>>) -> PoolBuilder<C>
    where
        C: R2D2Connection + Send + 'static,
    {
        PoolBuilder::new(
            builder,
            Arc::clone(&self.metrics),
            self.hooks,
            self.levels.clone(),
        )
    }

    /// A recorder for a connection outside of any pool: `connection.set_instrumentation(database.recorder())`.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.metrics), self.hooks)
    }

    /// The collector of the pools' levels, to be registered once.
    pub fn levels(&self) -> Levels {
        self.levels.clone()
    }
}

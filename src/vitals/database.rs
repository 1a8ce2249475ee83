//! The database as its clients feel it: queries, transactions, connections and the pool.
//!
//! Here: [`Database`], which makes instrumented pools and recorders, and the families they fill. How a statement's verb is
//! found, what Diesel reports, what each statement costs and how the pool admits its callers is told in the modules below.
//!
//! Nothing that could hold a secret goes into a metric, a log line or an error of this module: no statement's text but its
//! shape, no bind, no URL.

mod error;
mod families;
#[cfg(test)]
mod fixture;
mod manager;
mod metrics;
mod pool;
mod recorder;
mod statements;
pub mod verb;

use std::sync::Arc;

use diesel::r2d2::{self, R2D2Connection};

pub use error::ErrorKind;
pub use families::Families;
pub use manager::{Manager, without_quotations};
pub use pool::{CheckoutError, Connection, Levels, Pool, PoolBuilder, RunError};
pub use recorder::{Recorder, record_error};
pub use statements::{Order, StatementReport, Statements};

/// The recorders of everything about the database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    metrics: Arc<metrics::Metrics>,
    statements: Statements,
    levels: Levels,
}

impl Database {
    /// Recorders that fill `families`.
    pub fn new(families: &Families) -> Self {
        Self {
            metrics: Arc::new(metrics::Metrics::new(families)),
            statements: Statements::default(),
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
            self.statements.clone(),
            self.levels.clone(),
        )
    }

    /// A recorder for a connection outside of any pool: `connection.set_instrumentation(database.recorder())`.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.metrics), self.statements.clone())
    }

    /// The statements that cost most.
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// The collector of the pools' levels, to be registered once.
    pub fn levels(&self) -> Levels {
        self.levels.clone()
    }
}

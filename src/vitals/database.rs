//! The database as its clients feel it: queries, transactions, connections and the pool.
//!
//! Here: `Database`, which makes instrumented pools and recorders, and the families they fill. How a statement's verb is
//! found, what Diesel reports, what each statement costs and how the pool admits its callers is told in the modules below.
//!
//! Nothing that could hold a secret goes into a metric, a log line or an error of this module: no statement's text but its
//! shape, no bind, no URL.

mod error;
mod families;
#[cfg(test)]
mod fixture;
mod forward;
mod instrumentation;
mod manager;
mod metrics;
mod pool;
mod recorder;
pub mod sql;
mod statements;
mod system;

use std::sync::Arc;

use diesel::r2d2::{self, R2D2Connection};

use crate::vitals::naming::Naming;

pub use error::ErrorKind;
pub use instrumentation::set_instrumentation;
pub use manager::{Manager, without_quotations};
pub use pool::{
    CheckoutError, Connection, Opaque, Pool, PoolBuilder, QueryError, RunError, Typed, Wrapped,
};
pub use recorder::{Recorder, record_error};
pub use statements::{Order, StatementReport, Statements};

pub(crate) use families::Families;
pub(crate) use pool::Levels;

use statements::{Counted, DEFAULT_CAPACITY, Fullness};
use system::system_of;

/// The recorders of everything about the database; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    families: Families,
    statements: Statements,
    levels: Levels,
}

impl Database {
    /// Returns recorders that fill `families`, and keep at most this many statements; by default 1,000.
    pub(crate) fn new(families: Families, statements: Option<usize>) -> Self {
        if families.naming == Naming::Vitals {
            // By these names all databases share their series, which exist from the start.
            metrics::Metrics::new(&families, "");
        }
        Self {
            statements: Statements::new(
                statements.unwrap_or(DEFAULT_CAPACITY),
                Counted::new(&families),
            ),
            levels: Levels::new(families.naming),
            families,
        }
    }

    /// A builder of instrumented pools, with the settings of `builder`.
    ///
    /// Its event handler and its error handler are replaced; its connection customizer is kept, and what that runs on a new
    /// connection is counted like any other query.
    pub(crate) fn instrument<C>(&self, builder: r2d2::Builder<Manager<C>>) -> PoolBuilder<C>
    where
        C: R2D2Connection + Send + 'static,
    {
        PoolBuilder::new(
            builder,
            self.families.clone(),
            self.statements.clone(),
            self.levels.clone(),
        )
    }

    /// Has a connection outside of any pool recorded.
    pub(crate) fn instrument_connection<C: diesel::Connection>(&self, connection: &mut C) {
        instrumentation::install(connection, self.recorder::<C>());
    }

    /// A recorder for a connection outside of any pool, of the type `C`.
    fn recorder<C: diesel::Connection>(&self) -> Recorder {
        let system = system_of::<C>();
        let metrics = metrics::Metrics::new(&self.families, system);
        let dialect = sql::Dialect::of_system(system);
        Recorder::new(Arc::new(metrics), self.statements.clone(), dialect)
    }

    /// What is counted of queries.
    #[cfg(feature = "dashboard")]
    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// The statements that cost most.
    pub(crate) fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Returns the collector that reports how full the table of statements is. Register it once.
    pub(crate) fn fullness(&self) -> Fullness {
        Fullness(self.statements.clone())
    }

    /// The collector of the pools' levels, to be registered once.
    pub(crate) fn levels(&self) -> &Levels {
        &self.levels
    }
}

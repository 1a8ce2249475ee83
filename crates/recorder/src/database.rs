//! The database as its clients feel it: queries, transactions, connections and the pool.
//!
//! Here: `Database`, which makes instrumented pools and recorders, and the families they fill. How a statement's verb is
//! found, what Diesel reports, what each statement costs and how the pool admits its callers is told in the modules below.
//!
//! Nothing that could hold a secret goes into a metric, a log line or an error of this module: no statement's text but its
//! shape, no bind, no URL.

#[cfg(feature = "diesel")]
mod diesel_error;
mod error;
mod families;
#[cfg(test)]
#[cfg(feature = "diesel")]
mod fixture;
#[cfg(feature = "diesel")]
mod forward;
#[cfg(feature = "diesel")]
mod instrumentation;
mod levels;
#[cfg(feature = "diesel")]
mod manager;
mod metrics;
#[cfg(feature = "diesel")]
mod pool;
#[cfg(feature = "diesel")]
mod recorder;
pub mod sql;
mod statements;
#[cfg(feature = "diesel")]
mod system;

use crate::naming::Naming;

pub use error::ErrorKind;
pub use families::Families;
#[cfg(feature = "diesel")]
pub use instrumentation::set_instrumentation;
pub use levels::{Level, Levels, Unanswered};
#[cfg(feature = "diesel")]
pub use manager::{Manager, without_quotations};
#[cfg(feature = "diesel")]
pub use pool::{
    CheckoutError, Connection, Opaque, Pool, PoolBuilder, QueryError, RunError, Typed, Wrapped,
};
#[cfg(feature = "diesel")]
pub use recorder::{Recorder, record_error};
pub use statements::{Fullness, Order, StatementReport, Statements};

use statements::{Counted, DEFAULT_CAPACITY};

/// The recorders of everything about the database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    families: Families,
    statements: Statements,
    levels: Levels,
}

impl Database {
    /// Returns recorders that fill `families`, and keep at most this many statements; by default 1,000.
    pub fn new(families: Families, statements: Option<usize>) -> Self {
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

    /// The families that queries and pools are counted in.
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// The statements that cost most.
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Returns the collector that reports how full the table of statements is. Register it once.
    pub fn fullness(&self) -> Fullness {
        Fullness(self.statements.clone())
    }

    /// The collector of the pools' levels. Register it once.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }
}

#[cfg(feature = "diesel")]
impl Database {
    /// A builder of instrumented pools, with the settings of `builder`.
    ///
    /// Its event handler and its error handler are replaced. Its connection customizer is kept, and what that runs on a new
    /// connection is counted like any other query.
    pub fn instrument<C>(&self, builder: diesel::r2d2::Builder<Manager<C>>) -> PoolBuilder<C>
    where
        C: diesel::r2d2::R2D2Connection + Send + 'static,
    {
        PoolBuilder::new(
            builder,
            self.families.clone(),
            self.statements.clone(),
            self.levels.clone(),
        )
    }

    /// Records a connection outside of any pool.
    pub fn instrument_connection<C: diesel::Connection>(&self, connection: &mut C) {
        instrumentation::install(connection, self.recorder::<C>());
    }

    /// A recorder for a connection outside of any pool, of the type `C`.
    fn recorder<C: diesel::Connection>(&self) -> Recorder {
        let system = system::system_of::<C>();
        let metrics = metrics::Metrics::new(&self.families, system);
        let dialect = sql::Dialect::of_system(system);
        Recorder::new(
            std::sync::Arc::new(metrics),
            self.statements.clone(),
            dialect,
        )
    }
}

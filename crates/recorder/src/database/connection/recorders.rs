//! What the recorders of the connections of one pool share, or what the recorder of a connection outside of any pool has.

use std::sync::Arc;

use super::recorder::{Driver, QueryRecorder};
use crate::database::Database;
use crate::database::metrics::Metrics;
use crate::database::sql::Dialect;
use crate::database::statements::Statements;
use crate::database::statements::connection_statements::ConnectionStatements;

/// Makes the recorder of each connection of a pool.
#[derive(Clone, Debug)]
pub(super) struct Recorders {
    metrics: Arc<Metrics>,
    statements: Statements,
    dialect: Dialect,
    pool: Arc<str>,
}

impl Recorders {
    /// For the connections of the pool of this name, to a database of this system.
    pub(super) fn of_pool(
        database: &Database,
        pool: &Arc<str>,
        metrics: Arc<Metrics>,
        system: &str,
    ) -> Self {
        Self {
            metrics,
            statements: database.statements().clone(),
            dialect: Dialect::of_system(system),
            pool: Arc::clone(pool),
        }
    }

    /// For a connection outside of any pool, to a database of this system.
    pub(super) fn of_no_pool(database: &Database, system: &'static str) -> Self {
        let metrics = Arc::new(Metrics::new(database.families(), system, ""));
        Self::of_pool(database, &Arc::from(""), metrics, system)
    }

    /// Whether the database is PostgreSQL, or speaks its dialect.
    pub(super) fn are_of_postgres(&self) -> bool {
        self.dialect == Dialect::PostgreSql
    }

    /// The dialect of the database.
    #[cfg(feature = "diesel-async")]
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns a recorder for one connection.
    pub(super) fn recorder(&self, driver: Driver) -> QueryRecorder {
        let known = ConnectionStatements::new(
            self.statements.clone(),
            self.dialect,
            Arc::clone(&self.pool),
        );
        QueryRecorder::new(Arc::clone(&self.metrics), known, driver)
    }
}

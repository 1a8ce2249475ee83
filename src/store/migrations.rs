//! The migrations, which are part of the binary and run at every start.

use std::error::Error;

use diesel::{
    backend::Backend, connection::SimpleConnection as _, migration::MigrationSource,
    result::Error as DieselError,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::Connection;
#[cfg(feature = "postgres")]
use super::postgres;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// A write that changes nothing. It fails on a read-only file, on which SQLite begins even a transaction for writing. So that
/// the start fails, and not the first request.
const SQLITE_WRITE: &str = "DELETE FROM __diesel_schema_migrations WHERE FALSE";

/// Why the migrations did not run.
#[derive(Debug)]
pub(super) enum MigrationError {
    /// The database cannot be written.
    Unusable(DieselError),
    /// A migration failed. All are rolled back.
    Failed(Box<dyn Error + Send + Sync>),
}

impl From<DieselError> for MigrationError {
    fn from(error: DieselError) -> Self {
        Self::Unusable(error)
    }
}

/// Runs all pending migrations in one transaction, and returns their number.
///
/// The transaction takes a lock first: of two instances that start on one database, the second one waits and then has nothing
/// to do. On SQLite it is the write lock, and
/// [`LOCK_TIMEOUT_AT_START`](super::connection::LOCK_TIMEOUT_AT_START) bounds the wait.
pub(super) fn run(connection: &mut Connection) -> Result<usize, MigrationError> {
    match connection {
        #[cfg(feature = "postgres")]
        Connection::Postgres(connection) => postgres::migrate(connection),
        Connection::Sqlite(connection) => connection.immediate_transaction(|connection| {
            let migrations = run_pending(connection, SQLITE)?;
            connection.batch_execute(SQLITE_WRITE)?;
            Ok(migrations)
        }),
    }
}

/// Runs the migrations that have not run yet, and returns their number.
pub(super) fn run_pending<C, B>(
    connection: &mut C,
    migrations: impl MigrationSource<B>,
) -> Result<usize, MigrationError>
where
    C: MigrationHarness<B>,
    B: Backend,
{
    connection
        .run_pending_migrations(migrations)
        .map(|versions| versions.len())
        .map_err(MigrationError::Failed)
}

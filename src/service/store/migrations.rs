//! The migrations, built into the binary, and their run at start.

use std::error::Error;

use diesel::Connection as _;
use diesel::backend::Backend;
use diesel::connection::SimpleConnection as _;
use diesel::migration::MigrationSource;
use diesel::result::Error as DieselError;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::Connection;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The advisory lock that instances take turns by. Any number does that nobody else is likely to use: "vitals".
const POSTGRES_LOCK: i64 = 0x76_69_74_61_6c_73;

/// A write that changes nothing. SQLite begins a transaction for writing on a file that it may only read, too; so that is
/// found out now, not at the first request.
const SQLITE_WRITE: &str = "DELETE FROM __diesel_schema_migrations WHERE FALSE";

/// Why the tables could not be brought up to date.
#[derive(Debug)]
pub(super) enum MigrationError {
    /// The database does not take a write at all.
    Unusable(DieselError),
    /// A migration failed, and all were rolled back.
    Failed(Box<dyn Error + Send + Sync>),
}

impl From<DieselError> for MigrationError {
    fn from(error: DieselError) -> Self {
        Self::Unusable(error)
    }
}

/// Brings the tables up to date, all or nothing, and gives the number of migrations run.
///
/// The transaction takes a lock first. So of two services that start on one database the second waits for the first
/// and then finds nothing to do. SQLite's is the write lock.
pub(super) fn run(connection: &mut Connection) -> Result<usize, MigrationError> {
    match connection {
        Connection::Postgres(connection) => connection.transaction(|connection| {
            connection.batch_execute(&format!("SELECT pg_advisory_xact_lock({POSTGRES_LOCK})"))?;
            run_pending(connection, POSTGRES)
        }),
        Connection::Sqlite(connection) => connection.immediate_transaction(|connection| {
            let migrations = run_pending(connection, SQLITE)?;
            connection.batch_execute(SQLITE_WRITE)?;
            Ok(migrations)
        }),
    }
}

fn run_pending<C, B>(
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

//! The migrations, which are part of the binary and run at every start.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use actix_vitals::database::ErrorKind;
use diesel::{
    Connection as _, PgConnection, RunQueryDsl as _, backend::Backend,
    connection::SimpleConnection as _, dsl::sql, migration::MigrationSource,
    result::Error as DieselError, select, sql_types::Bool,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::Connection;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The advisory lock of the instance that migrates: the bytes of "vitals", a number that others hardly use.
const POSTGRES_LOCK: i64 = 0x76_69_74_61_6c_73;

/// How long the migrations of PostgreSQL wait for a lock: of another instance that migrates, or of a long transaction. A
/// `lock_timeout` of the URL, the role, the database or the server takes precedence.
const POSTGRES_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// A write that changes nothing. It fails on a read-only file, on which SQLite begins even a transaction for writing. So that
/// the start fails, and not the first request.
const SQLITE_WRITE: &str = "DELETE FROM __diesel_schema_migrations WHERE FALSE";

/// Why the migrations did not run.
#[derive(Debug)]
pub(super) enum MigrationError {
    /// The database cannot be written.
    Unusable(DieselError),
    /// Another instance has held the migration lock for this long.
    LockTimeout(Duration),
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
        Connection::Postgres(connection) => connection.transaction(|connection| {
            take_postgres_lock(connection)?;
            run_pending(connection, POSTGRES)
        }),
        Connection::Sqlite(connection) => connection.immediate_transaction(|connection| {
            let migrations = run_pending(connection, SQLITE)?;
            connection.batch_execute(SQLITE_WRITE)?;
            Ok(migrations)
        }),
    }
}

/// Takes the lock until the transaction ends. If another session holds it, logs that before it waits.
fn take_postgres_lock(connection: &mut PgConnection) -> Result<(), MigrationError> {
    let milliseconds = POSTGRES_LOCK_TIMEOUT.as_millis();
    connection.batch_execute(&format!(
        "SELECT set_config('lock_timeout', '{milliseconds}', true) WHERE current_setting('lock_timeout') = '0'"
    ))?;
    let is_taken = select(sql::<Bool>(&format!(
        "pg_try_advisory_xact_lock({POSTGRES_LOCK})"
    )));
    if is_taken.get_result(connection)? {
        return Ok(());
    }
    tracing::warn!(
        "waiting for the migration lock, which another instance holds (advisory lock {POSTGRES_LOCK})"
    );
    let started = Instant::now();
    connection
        .batch_execute(&format!("SELECT pg_advisory_xact_lock({POSTGRES_LOCK})"))
        .map_err(|error| match ErrorKind::of(&error) {
            Some(ErrorKind::Timeout) => MigrationError::LockTimeout(started.elapsed()),
            _ => error.into(),
        })
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

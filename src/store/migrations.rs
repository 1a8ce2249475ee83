//! The migrations, built into the binary, and their run at start.

use std::error::Error;
use std::time::{Duration, Instant};

use diesel::backend::Backend;
use diesel::connection::SimpleConnection as _;
use diesel::dsl::sql;
use diesel::migration::MigrationSource;
use diesel::result::Error as DieselError;
use diesel::sql_types::Bool;
use diesel::{Connection as _, PgConnection, RunQueryDsl as _, select};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::Connection;
use actix_vitals::database::ErrorKind;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The advisory lock that instances take turns by. Any number does that nobody else is likely to use: "vitals".
const POSTGRES_LOCK: i64 = 0x76_69_74_61_6c_73;

/// How long the migrations of PostgreSQL wait for another session: for the instance that migrates, or for a table that a
/// long transaction uses. Unless the URL, the role, the database or the server has a `lock_timeout` of its own.
const POSTGRES_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// A write that changes nothing. SQLite begins a transaction for writing on a file that it may only read, too; so that is
/// found out now, not at the first request.
const SQLITE_WRITE: &str = "DELETE FROM __diesel_schema_migrations WHERE FALSE";

/// Why the tables could not be brought up to date.
#[derive(Debug)]
pub(super) enum MigrationError {
    /// The database does not take a write at all.
    Unusable(DieselError),
    /// Another instance held the migration lock for this long.
    LockTimeout(Duration),
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
/// and then finds nothing to do. SQLite's is the write lock, which [`BUSY_TIMEOUT`](super::connection::BUSY_TIMEOUT)
/// bounds the wait for.
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

/// Takes the lock for as long as the transaction lasts. Where another session has it, the log says so before the wait.
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

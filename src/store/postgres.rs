//! PostgreSQL: how a connection is opened, pooled, migrated and renewed. A build without the feature `postgres` lacks this
//! module.
//!
//! The statements about items are those of SQLite, too: `queries` has them.

use std::time::{Duration, Instant};

use actix_vitals::{
    Vitals,
    database::{ErrorKind, Pool},
};
use chrono::NaiveDateTime;
use diesel::{
    Connection as _, ConnectionError, ConnectionResult, PgConnection, QueryResult,
    RunQueryDsl as _,
    connection::{CacheSize, SimpleConnection as _},
    deserialize::{self, FromSql},
    dsl::sql,
    pg::{Pg, PgValue},
    r2d2, select,
    sql_types::{Bool, Timestamp},
};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::{
    connection::Connection,
    migrations::{MigrationError, run_pending},
    pool::no_url,
    queries,
    stale::StaleStatements,
    stored_time::StoredTime,
};
use crate::settings::{DatabaseSettings, PostgresUrl};

/// Parameters for libpq that the URL does not set
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>).
///
/// By default, libpq waits forever for a server that has disappeared. With these, connecting fails after three seconds, and a
/// dead connection after about five. So the pool opens new connections within five seconds of the server's return.
const PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "3"),
    ("keepalives_idle", "3"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
    ("fallback_application_name", "actix-vitals"),
];

/// How much longer than the pool timeout a caller waits.
pub(super) const MARGIN: Duration = Duration::from_millis(100);

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock of the instance that migrates: the bytes of "vitals", a number that others hardly use.
const LOCK: i64 = 0x76_69_74_61_6c_73;

/// How long the migrations wait for a lock: of another instance that migrates, or of a long transaction. A `lock_timeout` of
/// the URL, the role, the database or the server takes precedence.
const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Drops the session's prepared statements on the server, and repeats Diesel's set-up of a session, which `DISCARD ALL` resets.
const RENEW: &str =
    "DEALLOCATE ALL; SET TIME ZONE 'UTC'; SET CLIENT_ENCODING TO 'UTF8'; SET bytea_output TO 'hex'";

/// Opens a connection. Diesel selects UTC and UTF-8.
pub(super) fn open(url: &PostgresUrl) -> ConnectionResult<PgConnection> {
    PgConnection::establish(&url.with_defaults(&PARAMETERS))
}

/// Opens the pool. Its connections are tested before each use, unless the server has answered on them recently. A restart
/// of the server closes all idle connections, and Diesel would not notice. The pool timeout limits statements.
///
/// The pool opens its connections while the service runs already. The migrations have shown that the server can be reached.
pub(super) fn open_pool(
    settings: &DatabaseSettings,
    url: &PostgresUrl,
    vitals: &Vitals,
    stale: &StaleStatements,
) -> Pool<Connection> {
    let builder = r2d2::Pool::builder()
        .max_size(settings.pool_size)
        .connection_timeout(settings.pool_timeout)
        .test_on_check_out(true);
    let stale = stale.clone();
    let (url, limit) = (url.clone(), settings.pool_timeout);
    vitals
        .instrument(builder)
        .system("postgresql")
        .check_after(settings.pool_check_after)
        .health_check(move |connection| stale.run(connection, queries::probe))
        .opener(move || {
            let mut connection = open(&url)?;
            limit_statements(&mut connection, limit)
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
            Ok(Connection::Postgres(connection))
        })
        .build_unchecked(no_url())
}

/// Makes the server cancel statements of this connection after `limit`. A `statement_timeout` of the URL, the role, the database
/// or the server takes precedence.
fn limit_statements(connection: &mut PgConnection, limit: Duration) -> QueryResult<()> {
    // The maximum of PostgreSQL, about 25 days.
    let limit_ms = limit.as_millis().clamp(1, i32::MAX as u128);
    connection.batch_execute(&format!(
        "SELECT set_config('statement_timeout', '{limit_ms}', false) \
         WHERE current_setting('statement_timeout') = '0'"
    ))
}

/// Drops all prepared statements. The next ones get new names. The session is set up again, with this time limit of statements.
pub(super) fn renew(connection: &mut PgConnection, limit: Duration) -> QueryResult<()> {
    connection.set_prepared_statement_cache_size(CacheSize::Disabled);
    connection.set_prepared_statement_cache_size(CacheSize::Unbounded);
    connection.batch_execute(RENEW)?;
    limit_statements(connection, limit)
}

/// Runs all pending migrations in one transaction, and returns their number.
pub(super) fn migrate(connection: &mut PgConnection) -> Result<usize, MigrationError> {
    connection.transaction(|connection| {
        take_lock(connection)?;
        run_pending(connection, MIGRATIONS)
    })
}

/// Takes the lock until the transaction ends. If another session holds it, logs that before it waits.
fn take_lock(connection: &mut PgConnection) -> Result<(), MigrationError> {
    let milliseconds = MIGRATION_LOCK_TIMEOUT.as_millis();
    connection.batch_execute(&format!(
        "SELECT set_config('lock_timeout', '{milliseconds}', true) WHERE current_setting('lock_timeout') = '0'"
    ))?;
    let is_taken = select(sql::<Bool>(&format!("pg_try_advisory_xact_lock({LOCK})")));
    if is_taken.get_result(connection)? {
        return Ok(());
    }
    tracing::warn!(
        "waiting for the migration lock, which another instance holds (advisory lock {LOCK})"
    );
    let started = Instant::now();
    connection
        .batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})"))
        .map_err(|error| match ErrorKind::of(&error) {
            Some(ErrorKind::Timeout) => {
                let seconds = started.elapsed().as_secs();
                let cause = format!("another instance has held the migration lock for {seconds} s");
                MigrationError::Failed(cause.into())
            }
            _ => error.into(),
        })
}

impl FromSql<Timestamp, Pg> for StoredTime {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        <NaiveDateTime as FromSql<Timestamp, Pg>>::from_sql(value).map(Self::from)
    }
}

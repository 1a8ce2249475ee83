//! Opens a connection and sets it up.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use diesel::{
    Connection as _, ConnectionError, ConnectionResult, PgConnection, QueryResult,
    SqliteConnection, connection::SimpleConnection,
};

use super::any_connection::AnyConnection;
use crate::settings::{DatabaseSettings, DatabaseUrl, PostgresUrl, SqliteLocation};

pub(super) use super::any_connection::AnyConnection as Connection;

/// How long the first connection to SQLite waits for another process that writes.
pub(super) const LOCK_TIMEOUT_AT_START: Duration = Duration::from_secs(5);

/// A writer that has waited for its connection for this part of the timeout gets the rest of it for the lock of SQLite.
const LATE: u32 = 10;

/// The configuration of every connection to SQLite, apart from its wait for locks.
///
/// - `journal_mode = WAL`: readers and the writer do not block each other.
/// - `synchronous = FULL`: a commit returns when the write-ahead log is on the disk, so that an acknowledged write
///   survives `kill -9` and a power failure. With `NORMAL`, which is usual with WAL, a power failure loses the last commits
///   (<https://www.sqlite.org/pragma.html#pragma_synchronous>). `fullfsync` does the same on macOS.
/// - `foreign_keys`: off by default on each connection.
const SQLITE_SETUP: &str = "\
    PRAGMA journal_mode = WAL; \
    PRAGMA synchronous = FULL; \
    PRAGMA fullfsync = ON; \
    PRAGMA checkpoint_fullfsync = ON; \
    PRAGMA foreign_keys = ON;";

/// Parameters for libpq that the URL does not set
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>).
///
/// By default, libpq waits forever for a server that has disappeared. With these, connecting fails after three seconds, and a
/// dead connection after about five. So the pool opens new connections within five seconds of the server's return.
const POSTGRES_PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "3"),
    ("keepalives_idle", "3"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
    ("fallback_application_name", "actix-vitals"),
];

/// Opens a connection. The driver's error may repeat parts of the URL.
pub(super) fn open(url: &DatabaseUrl) -> ConnectionResult<Connection> {
    match url {
        DatabaseUrl::Postgres(url) => {
            PgConnection::establish(&postgres_address(url)).map(AnyConnection::Postgres)
        }
        DatabaseUrl::Sqlite(location) => {
            SqliteConnection::establish(&sqlite_address(location)).map(AnyConnection::Sqlite)
        }
    }
}

fn postgres_address(url: &PostgresUrl) -> String {
    url.with_defaults(&POSTGRES_PARAMETERS)
}

fn sqlite_address(location: &SqliteLocation) -> String {
    match location {
        SqliteLocation::Memory => ":memory:".to_owned(),
        SqliteLocation::File(path) if path.is_absolute() => path.to_string_lossy().into_owned(),
        // Without `./`, SQLite takes `file:…` for a URI and `:memory:` for a database in memory.
        SqliteLocation::File(path) => format!("./{}", path.display()),
    }
}

/// Returns the function by which the pool opens a connection and sets it up. The pool timeout limits statements of PostgreSQL,
/// and waits for locks of SQLite.
pub(super) fn opener(
    settings: &DatabaseSettings,
) -> impl Fn() -> ConnectionResult<Connection> + use<> {
    let (url, limit) = (settings.url.clone(), settings.pool_timeout);
    move || {
        let mut connection = open(&url)?;
        set_up(&mut connection, limit)
            .and_then(|()| limit_statements(&mut connection, limit))
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }
}

/// Sets up a new connection, which waits for locks of SQLite for `lock_timeout`. PostgreSQL needs nothing: Diesel selects UTC
/// and UTF-8.
pub(super) fn set_up(connection: &mut Connection, lock_timeout: Duration) -> QueryResult<()> {
    match connection {
        AnyConnection::Postgres(_) => Ok(()),
        AnyConnection::Sqlite(sqlite) => {
            // Setting up may wait for a lock.
            wait_for_locks(sqlite, lock_timeout)?;
            sqlite.batch_execute(SQLITE_SETUP)
        }
    }
}

/// Sets how long a connection waits while another process writes.
pub(super) fn wait_for_locks(
    connection: &mut impl SimpleConnection,
    timeout: Duration,
) -> QueryResult<()> {
    // SQLite takes zero for no wait, and larger numbers than these for zero.
    let milliseconds = timeout.as_millis().min(i32::MAX as u128);
    connection.batch_execute(&format!("PRAGMA busy_timeout = {milliseconds}"))
}

/// How long the only connection of writers waits for the lock of SQLite.
#[derive(Debug)]
pub(super) struct LockTimeout {
    full: Duration,
    /// Whether the last caller was late, so that the connection waits for less.
    is_short: AtomicBool,
}

impl LockTimeout {
    /// A connection that waits for `full`, as it is [set up](set_up).
    pub(super) fn new(full: Duration) -> Self {
        Self {
            full,
            is_short: AtomicBool::new(false),
        }
    }

    /// Lets the connection wait for the rest of the timeout of a caller that has `waited` already. For a caller that has hardly
    /// waited, that is all of it.
    ///
    /// Nothing is changed back after the work: an error of Diesel belongs to the statement that was the last to finish.
    pub(super) fn set(&self, connection: &mut Connection, waited: Duration) -> QueryResult<()> {
        if waited > self.full / LATE {
            self.is_short.store(true, Relaxed);
            wait_for_locks(connection, self.full.saturating_sub(waited))?;
        } else if self.is_short.load(Relaxed) {
            wait_for_locks(connection, self.full)?;
            self.is_short.store(false, Relaxed);
        }
        Ok(())
    }
}

/// Makes PostgreSQL cancel statements of this connection after `limit`. A `statement_timeout` of the URL, the role, the database
/// or the server takes precedence.
pub(super) fn limit_statements(connection: &mut Connection, limit: Duration) -> QueryResult<()> {
    match connection {
        AnyConnection::Postgres(connection) => {
            // The maximum of PostgreSQL, about 25 days.
            let limit_ms = limit.as_millis().clamp(1, i32::MAX as u128);
            connection.batch_execute(&format!(
                "SELECT set_config('statement_timeout', '{limit_ms}', false) \
                 WHERE current_setting('statement_timeout') = '0'"
            ))
        }
        AnyConnection::Sqlite(_) => Ok(()),
    }
}

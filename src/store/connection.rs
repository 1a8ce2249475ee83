//! Opens a connection and sets it up.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use diesel::{
    Connection as _, ConnectionError, ConnectionResult, QueryResult, SqliteConnection,
    connection::SimpleConnection,
};

use super::any_connection::AnyConnection;
#[cfg(feature = "postgres")]
use super::postgres;
use crate::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};

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

/// Opens a connection. The driver's error may repeat parts of the URL.
pub(super) fn open(url: &DatabaseUrl) -> ConnectionResult<Connection> {
    match url {
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(url) => postgres::open(url).map(AnyConnection::Postgres),
        DatabaseUrl::Sqlite(location) => {
            SqliteConnection::establish(&sqlite_address(location)).map(AnyConnection::Sqlite)
        }
    }
}

fn sqlite_address(location: &SqliteLocation) -> String {
    match location {
        SqliteLocation::Memory => ":memory:".to_owned(),
        SqliteLocation::File(path) if path.is_absolute() => path.to_string_lossy().into_owned(),
        // Without `./`, SQLite takes `file:…` for a URI and `:memory:` for a database in memory.
        SqliteLocation::File(path) => format!("./{}", path.display()),
    }
}

/// Returns the function by which a pool of SQLite opens a connection and sets it up. The pool timeout limits waits for locks.
pub(super) fn opener(
    settings: &DatabaseSettings,
) -> impl Fn() -> ConnectionResult<Connection> + use<> {
    let (url, limit) = (settings.url.clone(), settings.pool_timeout);
    move || {
        let mut connection = open(&url)?;
        set_up(&mut connection, limit).map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }
}

/// Sets up a new connection, which waits for locks of SQLite for `lock_timeout`. PostgreSQL needs nothing.
pub(super) fn set_up(connection: &mut Connection, lock_timeout: Duration) -> QueryResult<()> {
    match connection {
        #[cfg(feature = "postgres")]
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

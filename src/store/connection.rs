//! One connection: how it is opened and how it is set up.

use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{
    Connection as _, ConnectionError, ConnectionResult, PgConnection, QueryResult, SqliteConnection,
};

use super::any_connection::AnyConnection;
use crate::settings::{DatabaseSettings, DatabaseUrl, PostgresUrl, SqliteLocation};

pub(super) use super::any_connection::AnyConnection as Connection;

/// How long a writer waits for another, which may be of another process, before it fails. Of SQLite.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection to SQLite is told before its first use, apart from [`BUSY_TIMEOUT`].
///
/// - `journal_mode = WAL`: readers and a writer do not wait for each other.
/// - `synchronous = FULL`: a commit returns when the write-ahead log is on the disk, so that an acknowledged write
///   survives `kill -9` and the loss of power. `NORMAL`, the usual companion of WAL, would lose the last commits with
///   the power (<https://www.sqlite.org/pragma.html#pragma_synchronous>). `fullfsync` asks macOS for the same.
/// - `foreign_keys`: SQLite checks them only when asked, connection by connection.
const SQLITE_SETUP: &str = "\
    PRAGMA journal_mode = WAL; \
    PRAGMA synchronous = FULL; \
    PRAGMA fullfsync = ON; \
    PRAGMA checkpoint_fullfsync = ON; \
    PRAGMA foreign_keys = ON;";

/// What libpq is told where the URL does not say otherwise
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>).
///
/// By itself it waits without end for a server that has gone without a word. So an attempt to connect ends after three
/// seconds, and a connection that nothing comes back on after a few: the pool has then opened new ones within five
/// seconds of the server's return.
const POSTGRES_PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "3"),
    ("keepalives_idle", "3"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
    ("fallback_application_name", "actix-vitals"),
];

/// Opens a connection. The error is the driver's own, and may repeat parts of the URL.
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
        // A bare `file:…` would be taken for a URI, and a bare `:memory:` for no file at all.
        SqliteLocation::File(path) => format!("./{}", path.display()),
    }
}

/// How the pool opens a connection: to these settings' database, set up, and with no statement longer than the pool
/// timeout where there is a server to see to that.
pub(super) fn opener(
    settings: &DatabaseSettings,
) -> impl Fn() -> ConnectionResult<Connection> + use<> {
    let (url, limit) = (settings.url.clone(), settings.pool_timeout);
    move || {
        let mut connection = open(&url)?;
        set_up(&mut connection)
            .and_then(|()| limit_statements(&mut connection, limit))
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }
}

/// Sets a new connection up, for any use. PostgreSQL needs nothing: Diesel asks for UTC and UTF-8 by itself.
pub(super) fn set_up(connection: &mut Connection) -> QueryResult<()> {
    match connection {
        AnyConnection::Postgres(_) => Ok(()),
        AnyConnection::Sqlite(connection) => {
            let busy_timeout_ms = BUSY_TIMEOUT.as_millis();
            connection.batch_execute(&format!(
                "PRAGMA busy_timeout = {busy_timeout_ms}; {SQLITE_SETUP}"
            ))
        }
    }
}

/// Has PostgreSQL give up a statement of this connection after `limit`, unless the URL, the role, the database or the
/// server has a limit of its own.
pub(super) fn limit_statements(connection: &mut Connection, limit: Duration) -> QueryResult<()> {
    match connection {
        AnyConnection::Postgres(connection) => {
            // The largest that PostgreSQL takes, about 25 days.
            let limit_ms = limit.as_millis().clamp(1, i32::MAX as u128);
            connection.batch_execute(&format!(
                "SELECT set_config('statement_timeout', '{limit_ms}', false) \
                 WHERE current_setting('statement_timeout') = '0'"
            ))
        }
        AnyConnection::Sqlite(_) => Ok(()),
    }
}

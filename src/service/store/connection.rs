//! One connection: its type, how it is opened and how it is set up.

use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{self, CustomizeConnection};
use diesel::sqlite::SqliteConnection;

use crate::service::settings::{DatabaseUrl, SqliteLocation};

/// A connection to whichever database the settings name.
pub(super) type Connection = SqliteConnection;

/// How long a writer waits for another, which may be of another process, before it fails.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection is told before its first use, apart from [`BUSY_TIMEOUT`].
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

/// The address as the driver wants it.
pub(super) fn address(url: &DatabaseUrl) -> String {
    match url {
        DatabaseUrl::Sqlite(SqliteLocation::Memory) => ":memory:".to_owned(),
        DatabaseUrl::Sqlite(SqliteLocation::File(path)) if path.is_absolute() => {
            path.to_string_lossy().into_owned()
        }
        // A bare `file:…` would be taken for a URI, and a bare `:memory:` for no file at all.
        DatabaseUrl::Sqlite(SqliteLocation::File(path)) => format!("./{}", path.display()),
    }
}

/// Sets a new connection up.
pub(super) fn set_up(connection: &mut Connection) -> diesel::QueryResult<()> {
    let busy_timeout_ms = BUSY_TIMEOUT.as_millis();
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = {busy_timeout_ms}; {SQLITE_SETUP}"
    ))
}

/// Sets up each connection that the pool opens.
#[derive(Debug)]
pub(super) struct SetUp;

impl CustomizeConnection<Connection, r2d2::Error> for SetUp {
    fn on_acquire(&self, connection: &mut Connection) -> Result<(), r2d2::Error> {
        set_up(connection).map_err(r2d2::Error::QueryError)
    }
}

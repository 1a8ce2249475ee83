//! One type for a connection to either database.
//!
//! The derived code uses the name `Connection` for Diesel's trait, so this file must not contain another item of that name.

#[cfg(feature = "postgres")]
use diesel::PgConnection;
use diesel::{MultiConnection, SqliteConnection};

/// A connection to the configured database.
///
/// `connection::open` opens it. The derived `establish` would try both databases, and lose the error of the right one.
#[derive(MultiConnection)]
pub(super) enum AnyConnection {
    /// A connection to a PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres(PgConnection),
    /// A connection to an SQLite database in a file or in memory.
    Sqlite(SqliteConnection),
}

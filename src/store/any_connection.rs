//! A connection to either database, as one type.
//!
//! The derive writes `Connection` for Diesel's trait, so no other item of that name may stand in this file.

use diesel::{MultiConnection, PgConnection, SqliteConnection};

/// A connection to whichever database the settings name.
///
/// Its `establish` would try one after the other, and say of neither what went wrong: `connection::open` knows which.
#[derive(MultiConnection)]
pub(super) enum AnyConnection {
    /// To a PostgreSQL server.
    Postgres(PgConnection),
    /// To an SQLite file, or to one in memory.
    Sqlite(SqliteConnection),
}

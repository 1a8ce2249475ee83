//! The store: the items in a database, behind async functions.
//!
//! `queries` has the statements, `schema` the tables, `models` and `stored_time` the rows, `pool` the connections. Nothing here
//! is about HTTP.

mod any_connection;
mod connection;
mod error;
mod file;
mod migrations;
mod models;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod queries;
mod schema;
mod stale;
mod stored_time;

use actix_vitals::Vitals;
use chrono::{NaiveDateTime, SubsecRound as _, Utc};

use self::{
    connection::{Connection, LOCK_TIMEOUT_AT_START},
    migrations::MigrationError,
    pool::StorePools,
};
use crate::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};

pub use self::{
    error::{OpenError, StoreError, described},
    models::{Item, ItemFields, Page, PageCursor, PageRequest},
};

/// The name of the job that runs the migrations.
const MIGRATIONS: &str = "migrations";

/// The name of the job that completes the file of SQLite at the end.
const COMPLETION: &str = "completion";

/// The items in the configured database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    connections: StorePools,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, which `vitals` watches, and runs the migrations. Blocks.
    pub fn open(settings: &DatabaseSettings, vitals: &Vitals) -> Result<Self, OpenError> {
        let in_memory = settings.url == DatabaseUrl::Sqlite(SqliteLocation::Memory);
        if !in_memory {
            // A connection outside the pool returns the cause of a failure. The pool would only report a timeout.
            vitals.job_blocking(MIGRATIONS, || {
                migrate(&mut open_first(&settings.url)?, &settings.url)
            })?;
        }
        let connections =
            StorePools::open(settings, vitals).map_err(|error| unreachable(settings, &error))?;
        if in_memory {
            vitals.job_blocking(MIGRATIONS, || {
                let migrated =
                    connections.run_here(|connection| migrate(connection, &settings.url));
                migrated.map_err(|error| unreachable(settings, &error))?
            })?;
        }
        Ok(Self { connections })
    }

    /// Writes what is only in the log of an SQLite file to the file itself, before the process ends. Blocks.
    pub fn complete_file(&self, vitals: &Vitals) {
        let completed = vitals.job_blocking(COMPLETION, || self.connections.complete_file());
        if let Err(error) = completed {
            let cause = one_line(&error.to_string());
            tracing::warn!(
                cause,
                "the log beside the database file has writes that the file lacks: keep both together"
            );
        }
    }

    /// Stores a new item with the current time.
    pub async fn create(&self, fields: ItemFields) -> Result<Item, StoreError> {
        self.connections
            .write(move |connection| queries::insert(connection, &fields, now()))
            .await
    }

    /// Reads a page of the list, newest first, then by descending id. `encode` runs on the blocking thread that has read the
    /// page, so that encoding a long page does not block an event loop.
    pub async fn list<T, F>(&self, wanted: PageRequest, encode: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(Page) -> T + Send + 'static,
    {
        self.connections
            .read(move |connection| queries::list(connection, &wanted), encode)
            .await
    }

    /// Returns the item with this id, if there is one.
    pub async fn find(&self, id: i64) -> Result<Option<Item>, StoreError> {
        self.connections
            .read(
                move |connection| queries::find(connection, id),
                std::convert::identity,
            )
            .await
    }

    /// Replaces the fields of the item with this id, and returns the new item, if there is one.
    pub async fn replace(&self, id: i64, fields: ItemFields) -> Result<Option<Item>, StoreError> {
        self.connections
            .write(move |connection| queries::replace(connection, id, &fields))
            .await
    }

    /// Deletes the item with this id, and returns it, if there is one.
    pub async fn delete(&self, id: i64) -> Result<Option<Item>, StoreError> {
        self.connections
            .write(move |connection| queries::delete(connection, id))
            .await
    }
}

/// The error for a database that cannot be opened.
fn unreachable(settings: &DatabaseSettings, cause: &dyn std::error::Error) -> OpenError {
    OpenError::Unreachable {
        database: settings.url.to_string(),
        cause: cause.to_string(),
    }
}

/// Opens the first connection, outside the pool.
fn open_first(url: &DatabaseUrl) -> Result<Connection, OpenError> {
    let mut connection = connection::open(url).map_err(|error| OpenError::Unreachable {
        database: url.to_string(),
        cause: one_line(&error.to_string()),
    })?;
    connection::set_up(&mut connection, LOCK_TIMEOUT_AT_START).map_err(|error| {
        OpenError::Unusable {
            database: url.to_string(),
            cause: one_line(&error.to_string()),
        }
    })?;
    Ok(connection)
}

/// Runs the migrations, and logs their number.
fn migrate(connection: &mut Connection, url: &DatabaseUrl) -> Result<(), OpenError> {
    let database = url.to_string();
    match migrations::run(connection) {
        Ok(migrations) => {
            tracing::info!(%database, migrations, "database open");
            Ok(())
        }
        Err(MigrationError::Unusable(cause)) => Err(OpenError::Unusable {
            database,
            cause: one_line(&cause.to_string()),
        }),
        Err(MigrationError::Failed(cause)) => Err(OpenError::Migration {
            database,
            cause: one_line(&cause.to_string()),
        }),
    }
}

/// The driver's message on one line, without quotations, which may repeat parts of the URL. The URL itself contains no quotes:
/// its settings reject them. libpq writes several lines, and some of them are questions to a person, which are left out.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.ends_with('?'))
        .map(|line| line.trim_end_matches('.'))
        .collect();
    let line = lines.join("; ");
    let mut quoted = false;
    let mut parts = line.split('"');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        quoted = !quoted;
        shown.push_str(if quoted { "\"…\"" } else { part });
    }
    shown
}

/// The current time in UTC, in microseconds, which both databases store exactly.
fn now() -> NaiveDateTime {
    Utc::now().naive_utc().trunc_subsecs(6)
}

#[cfg(test)]
mod tests;

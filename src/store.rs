//! The store: items in a database, behind functions that do not block.
//!
//! It knows nothing of HTTP. Its statements are in `queries`, its tables in `schema`, its rows in `models`.

mod any_connection;
mod connection;
mod error;
mod file;
mod migrations;
mod models;
mod pool;
mod queries;
mod schema;
mod stale;

use chrono::{NaiveDateTime, SubsecRound as _, Utc};

use self::connection::Connection;
use self::migrations::MigrationError;
use self::pool::StorePools;
use crate::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};
use actix_vitals::Vitals;
use actix_vitals::database::without_quotations;

pub use self::error::{OpenError, StoreError};
pub use self::models::{Item, ItemFields, Page, PageCursor, PageRequest};

/// The job that runs the migrations of the tables.
const MIGRATIONS: &str = "migrations";

/// The items, in the database that the settings name. Cheap to clone.
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
    /// Opens the database, to be watched by `vitals`, and brings its tables up to date. Blocks.
    pub fn open(settings: &DatabaseSettings, vitals: &Vitals) -> Result<Self, OpenError> {
        let in_memory = settings.url == DatabaseUrl::Sqlite(SqliteLocation::Memory);
        if !in_memory {
            // A connection outside the pool says what is wrong with it; the pool would say that it waited in vain.
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

    /// Stores a new item, created now.
    pub async fn create(&self, fields: ItemFields) -> Result<Item, StoreError> {
        self.connections
            .write(move |connection| queries::insert(connection, &fields, now()))
            .await
    }

    /// Reads a part of the list, newest first; of the same instant, the highest id first. `encode` runs on the blocking
    /// thread that has read it, so that no event loop waits for a long list to be written out.
    pub async fn list<T, F>(&self, wanted: PageRequest, encode: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Page) -> T + Send + 'static,
    {
        self.connections
            .read(move |connection| queries::list(connection, &wanted), encode)
            .await
    }

    /// The item of this id, if there is one.
    pub async fn find(&self, id: i64) -> Result<Option<Item>, StoreError> {
        self.connections
            .read(
                move |connection| queries::find(connection, id),
                std::convert::identity,
            )
            .await
    }

    /// Gives the item of this id new fields, if there is one, and returns it as it is then.
    pub async fn replace(&self, id: i64, fields: ItemFields) -> Result<Option<Item>, StoreError> {
        self.connections
            .write(move |connection| queries::replace(connection, id, &fields))
            .await
    }

    /// Deletes the item of this id, if there is one, and returns it as it was.
    pub async fn delete(&self, id: i64) -> Result<Option<Item>, StoreError> {
        self.connections
            .write(move |connection| queries::delete(connection, id))
            .await
    }
}

/// The database cannot be opened, for this reason.
fn unreachable(settings: &DatabaseSettings, cause: &dyn std::error::Error) -> OpenError {
    OpenError::Unreachable {
        database: settings.url.to_string(),
        cause: cause.to_string(),
    }
}

/// The first connection, opened by hand.
fn open_first(url: &DatabaseUrl) -> Result<Connection, OpenError> {
    let mut connection = connection::open(url).map_err(|error| OpenError::Unreachable {
        database: url.to_string(),
        cause: one_line(&error.to_string()),
    })?;
    connection::set_up(&mut connection).map_err(|error| OpenError::Unusable {
        database: url.to_string(),
        cause: one_line(&error.to_string()),
    })?;
    Ok(connection)
}

/// Brings the tables up to date.
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
        Err(MigrationError::LockTimeout(timeout)) => Err(OpenError::Migration {
            database,
            cause: format!(
                "another instance has held the migration lock for {} s",
                timeout.as_secs()
            ),
        }),
        Err(MigrationError::Failed(cause)) => Err(OpenError::Migration {
            database,
            cause: one_line(&cause.to_string()),
        }),
    }
}

/// What the driver says, without what it repeats of the URL, and on one line: libpq takes several.
fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    without_quotations(&words.join(" "))
}

/// The time in UTC, to the microsecond: as exact as every database keeps it.
fn now() -> NaiveDateTime {
    Utc::now().naive_utc().trunc_subsecs(6)
}

#[cfg(test)]
mod tests;

//! The store: items in a database, behind functions that do not block.
//!
//! It knows nothing of HTTP. Its statements are in `queries`, its tables in `schema`, its rows in `models`.

mod connection;
mod error;
mod migrations;
mod models;
mod pool;
mod queries;
mod schema;

use chrono::{NaiveDateTime, SubsecRound as _, Utc};
use diesel::Connection as _;

use self::connection::Connection;
use self::migrations::MigrationError;
use self::pool::Connections;
use crate::service::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};

pub use self::error::{OpenError, StoreError};
pub use self::models::{Item, ItemFields};

/// The items, in the database that the settings name. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    connections: Connections,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, brings its tables up to date and fills the pool. Blocks.
    pub fn open(settings: &DatabaseSettings) -> Result<Self, OpenError> {
        let database = settings.url.to_string();
        let migrated = if settings.url == DatabaseUrl::Sqlite(SqliteLocation::Memory) {
            let connections = Connections::new(settings);
            let run = connections.run_here(settings.pool_timeout, migrations::run);
            let run = run.map_err(|error| OpenError::Unreachable {
                database: database.clone(),
                cause: error.to_string(),
            })?;
            run.map(|count| (connections, count))
        } else {
            // A connection outside the pool says what is wrong with it; the pool would say that it waited in vain.
            let mut first = open_first(&settings.url)?;
            migrations::run(&mut first).map(|count| (Connections::new(settings), count))
        };
        let (connections, count) = migrated.map_err(|error| match error {
            MigrationError::Unusable(cause) => OpenError::Unusable {
                database: database.clone(),
                cause: cause.to_string(),
            },
            MigrationError::Failed(cause) => OpenError::Migration {
                database: database.clone(),
                cause: cause.to_string(),
            },
        })?;
        tracing::info!(%database, migrations = count, "database open");
        Ok(Self { connections })
    }

    /// Stores a new item, created now.
    pub async fn create(&self, fields: ItemFields) -> Result<Item, StoreError> {
        self.connections
            .write(move |connection| queries::insert(connection, &fields, now()))
            .await
    }

    /// At most `limit` items after the first `skip`, newest first; of the same instant, the highest id first.
    pub async fn list(&self, skip: i64, limit: i64) -> Result<Vec<Item>, StoreError> {
        self.connections
            .read(move |connection| queries::list(connection, skip, limit))
            .await
    }

    /// The item of this id, if there is one.
    pub async fn find(&self, id: i64) -> Result<Option<Item>, StoreError> {
        self.connections
            .read(move |connection| queries::find(connection, id))
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

    /// Reads from the database, to find out whether it can be reached.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.connections.read(queries::probe).await
    }
}

/// The first connection, opened by hand.
fn open_first(url: &DatabaseUrl) -> Result<Connection, OpenError> {
    let mut connection = Connection::establish(&connection::address(url)).map_err(|error| {
        OpenError::Unreachable {
            database: url.to_string(),
            cause: error.to_string(),
        }
    })?;
    connection::set_up(&mut connection).map_err(|error| OpenError::Unusable {
        database: url.to_string(),
        cause: error.to_string(),
    })?;
    Ok(connection)
}

/// The time in UTC, to the microsecond: as exact as every database keeps it.
fn now() -> NaiveDateTime {
    Utc::now().naive_utc().trunc_subsecs(6)
}

#[cfg(test)]
mod tests;

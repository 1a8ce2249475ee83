//! The pool of connections, and the way off the event loops: nothing else of the store knows either.

use std::time::Duration;

use diesel::r2d2::{self, ConnectionManager, HandleError};

use super::connection::{self, Connection};
use super::error::StoreError;
use crate::service::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};

/// The connections that the store works on.
#[derive(Clone)]
pub(super) struct Connections {
    pool: r2d2::Pool<ConnectionManager<Connection>>,
}

impl Connections {
    /// Describes the pool; its first connection is opened soon, by a thread of the pool's own.
    pub(super) fn new(settings: &DatabaseSettings) -> Self {
        let manager = ConnectionManager::new(connection::address(&settings.url));
        let builder = r2d2::Pool::builder()
            .connection_timeout(settings.pool_timeout)
            .connection_customizer(Box::new(connection::SetUp))
            .error_handler(Box::new(LogFailure));
        let builder = match settings.url {
            // The data lives as long as its only connection: it must neither be joined by another nor retire.
            DatabaseUrl::Sqlite(SqliteLocation::Memory) => builder
                .max_size(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_on_check_out(false),
            // A file does not go away as a server may, so there is nothing to ping. One connection always stays, for
            // the last to close would check-point and remove the write-ahead log each time.
            DatabaseUrl::Sqlite(SqliteLocation::File(_)) => builder
                .max_size(settings.pool_size)
                .min_idle(Some(1))
                .test_on_check_out(false),
        };
        Self {
            pool: builder.build_unchecked(manager),
        }
    }

    /// Runs `work` on a connection, on a thread that may block.
    ///
    /// When the caller goes away meanwhile, the work is finished all the same.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> diesel::QueryResult<T> + Send + 'static,
    {
        let pool = self.pool.clone();
        tokio::task::spawn_blocking(move || {
            let mut connection = pool.get().map_err(|_| StoreError::Overloaded)?;
            work(&mut connection).map_err(StoreError::from)
        })
        .await
        .map_err(|_| StoreError::Panicked)?
    }

    /// Runs `work` on a connection, on this thread. For the start, when there is no event loop to hold up.
    pub(super) fn run_here<T>(
        &self,
        wait: Duration,
        work: impl FnOnce(&mut Connection) -> T,
    ) -> Result<T, StoreError> {
        let mut connection = self
            .pool
            .get_timeout(wait)
            .map_err(|_| StoreError::Overloaded)?;
        Ok(work(&mut connection))
    }
}

/// Logs why a connection could not be opened; the pool tries again by itself.
#[derive(Debug)]
struct LogFailure;

impl HandleError<r2d2::Error> for LogFailure {
    fn handle_error(&self, error: r2d2::Error) {
        tracing::warn!(cause = %error, "no connection to the database could be opened");
    }
}

//! The pool of connections, the way off the event loops, and the order of writers: nothing else of the store knows
//! any of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::r2d2::{self, ConnectionManager, HandleError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::{self, Connection};
use super::error::StoreError;
use crate::service::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};

/// Most writers that hold a thread and a connection, and never more than half of the pool; the others queue without.
const WRITERS_AT_THE_HEAD: u32 = 3;

/// The connections that the store works on.
#[derive(Clone)]
pub(super) struct Connections {
    pool: r2d2::Pool<ConnectionManager<Connection>>,
    /// How long a caller waits, for its turn and a connection together.
    patience: Duration,
    /// The order of writers, where the database has one at a time.
    queue: Option<Arc<WriteQueue>>,
}

/// Lets writers write one after the other.
///
/// SQLite would leave it to them: each sleeps for up to a tenth of a second between two tries, so that under load some
/// wait for seconds while others pass them, and all hold connections that readers could use. Here they queue, first
/// come, first served, and hold nothing meanwhile. The few at its head have a thread and a connection already, so that
/// the next begins as soon as the one before it is done.
struct WriteQueue {
    head: Arc<Semaphore>,
    turn: Mutex<()>,
}

impl WriteQueue {
    fn new(pool_size: u32) -> Self {
        let head = (pool_size / 2).clamp(1, WRITERS_AT_THE_HEAD);
        Self {
            head: Arc::new(Semaphore::new(head as usize)),
            turn: Mutex::new(()),
        }
    }
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
            patience: settings.pool_timeout,
            queue: match settings.url {
                DatabaseUrl::Sqlite(_) => Some(Arc::new(WriteQueue::new(settings.pool_size))),
            },
        }
    }

    /// Runs `work`, which only reads, on a connection, on a thread that may block.
    ///
    /// When the caller goes away meanwhile, the work is finished all the same.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> diesel::QueryResult<T> + Send + 'static,
    {
        self.run(self.patience, work).await
    }

    /// Runs `work`, which may write, when its turn has come; otherwise as [`Self::read`] does.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> diesel::QueryResult<T> + Send + 'static,
    {
        let Some(queue) = self.queue.clone() else {
            return self.run(self.patience, work).await;
        };
        let since = Instant::now();
        let place = timeout(self.patience, Arc::clone(&queue.head).acquire_owned())
            .await
            .map_err(|_| StoreError::Busy)?;
        let patience = self.patience.saturating_sub(since.elapsed());
        self.run(patience, move |connection| {
            // A writer that panicked leaves nothing behind: its transaction is rolled back.
            let turn = queue.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = work(connection);
            drop(turn);
            // Kept to here, even where the caller has gone away.
            drop(place);
            outcome
        })
        .await
    }

    async fn run<T, F>(&self, patience: Duration, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> diesel::QueryResult<T> + Send + 'static,
    {
        let pool = self.pool.clone();
        tokio::task::spawn_blocking(move || {
            let mut connection = pool
                .get_timeout(patience)
                .map_err(|_| StoreError::Overloaded)?;
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

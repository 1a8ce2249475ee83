//! The pools of connections: two for a file of SQLite, and one otherwise.
//!
//! Work on a connection runs on a blocking thread. The other modules of the store use no pool.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_vitals::{
    Vitals,
    database::{CheckoutError, Pool, RunError},
};
use diesel::{
    ConnectionError, QueryResult,
    connection::SimpleConnection as _,
    r2d2::{self, ConnectionManager},
};
use scheduled_thread_pool::ScheduledThreadPool;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{
    connection::{self, Connection, LockTimeout},
    error::{ConnectionsError, StoreError, WorkError},
    file::DatabaseFile,
    queries,
    stale::StaleStatements,
};
#[cfg(feature = "postgres")]
use crate::settings::PostgresUrl;
use crate::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};

/// The name of SQLite's pool of readers.
const READERS: &str = "readers";

/// The name of SQLite's pool of writers.
const WRITERS: &str = "writers";

/// The pools of the store.
///
/// SQLite allows one writer at a time. Others retry after sleeping for up to a tenth of a second, in no order: under load
/// some wait for seconds, and waiting writers could hold all connections, so that readers wait as well. So one connection is
/// for writers, which queue for it in order. The other connections are for readers, which never wait for a writer
/// (docs/decisions/two-sqlite-pools.md).
///
/// PostgreSQL needs none of that, but it may become unreachable without closing a connection. So the wait for it is bounded.
#[derive(Clone)]
pub(super) struct StorePools {
    readers: Pool<Connection>,
    writers: Pool<Connection>,
    /// The file of an SQLite database. `None` for one in memory and for PostgreSQL.
    file: Option<Arc<DatabaseFile>>,
    /// Prepares stale statements again.
    stale: StaleStatements,
    /// How long a writer waits for the lock of SQLite.
    lock_timeout: Arc<LockTimeout>,
    /// How long a caller waits for PostgreSQL: for a connection and for the work on it.
    patience: Option<Duration>,
}

impl StorePools {
    /// Opens the pools, which `vitals` watches. Blocks.
    pub(super) fn open(
        settings: &DatabaseSettings,
        vitals: &Vitals,
    ) -> Result<Self, ConnectionsError> {
        match &settings.url {
            #[cfg(feature = "postgres")]
            DatabaseUrl::Postgres(url) => Ok(Self::of_server(settings, url, vitals)),
            DatabaseUrl::Sqlite(location) => Self::of_file(settings, location, vitals),
        }
    }

    #[cfg(feature = "postgres")]
    fn of_server(settings: &DatabaseSettings, url: &PostgresUrl, vitals: &Vitals) -> Self {
        let stale = StaleStatements::new(settings.pool_timeout);
        let pool = postgres::open_pool(settings, url, vitals, &stale);
        Self {
            readers: pool.clone(),
            writers: pool,
            file: None,
            stale,
            lock_timeout: Arc::new(LockTimeout::new(settings.pool_timeout)),
            patience: settings.pool_timeout.checked_add(postgres::MARGIN),
        }
    }

    fn of_file(
        settings: &DatabaseSettings,
        location: &SqliteLocation,
        vitals: &Vitals,
    ) -> Result<Self, ConnectionsError> {
        // Connections to a file are opened once, so one thread is enough for both pools.
        let opener = Arc::new(ScheduledThreadPool::builder().num_threads(1).build());
        let file = match location {
            SqliteLocation::File(path) => Some(DatabaseFile::watch(path)?),
            SqliteLocation::Memory => None,
        };
        let open = |name, size| {
            let check = health_check(name, file.clone(), settings.pool_timeout);
            open_pool_of_file(settings, vitals, name, size, &opener, file.clone(), check)
        };
        let (readers, writers) = match location {
            SqliteLocation::File(_) if settings.pool_size > 1 => {
                (open(READERS, settings.pool_size - 1)?, open(WRITERS, 1)?)
            }
            // Data in memory belongs to its only connection.
            SqliteLocation::File(_) | SqliteLocation::Memory => {
                let pool = open("default", 1)?;
                (pool.clone(), pool)
            }
        };
        Ok(Self {
            readers,
            writers,
            file,
            stale: StaleStatements::new(settings.pool_timeout),
            lock_timeout: Arc::new(LockTimeout::new(settings.pool_timeout)),
            patience: None,
        })
    }

    /// Runs `work`, which only reads, on a connection, and passes its result to `finish`, on a blocking thread. `work` may run
    /// again: see [`StaleStatements::run`] and [`Pool::read`].
    ///
    /// Work that has begun is completed even if the caller is dropped. The connection is listed with the place of this call.
    #[track_caller]
    pub(super) fn read<T, U, F, E>(
        &self,
        work: F,
        finish: E,
    ) -> impl Future<Output = Result<U, StoreError>>
    where
        U: Send + 'static,
        F: Fn(&mut Connection) -> QueryResult<T> + Send + 'static,
        E: Fn(T) -> U + Send + 'static,
    {
        let stale = self.stale.clone();
        let work = move |connection: &mut Connection| stale.run(connection, &work).map(&finish);
        // Within an `async` block, the caller would be this line.
        self.wait_for(self.readers.read(work))
    }

    /// Runs `work`, which may write in one statement, on the connection of writers. Otherwise like [`Self::read`].
    ///
    /// On a file of SQLite, the waits for the connection and for the lock of the file take hardly longer than the timeout.
    #[track_caller]
    pub(super) fn write<T, F>(&self, work: F) -> impl Future<Output = Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Fn(&mut Connection) -> QueryResult<T> + Send + 'static,
    {
        let (file, stale) = (self.file.clone(), self.stale.clone());
        let (called, lock_timeout) = (Instant::now(), Arc::clone(&self.lock_timeout));
        let work = move |connection: &mut Connection| {
            let waited = called.elapsed();
            let work = |connection: &mut Connection| stale.run(connection, work);
            let Some(file) = &file else {
                return work(connection).map_err(WorkError::Query);
            };
            file.write(|| {
                lock_timeout.set(connection, waited)?;
                work(connection)
            })
        };
        self.wait_for(self.writers.run(work))
    }

    /// Waits for the work, at most for `patience`.
    ///
    /// Work that has begun continues and keeps its connection. The server cancels a statement after the pool timeout, and TCP
    /// closes a connection without traffic.
    async fn wait_for<T, E>(
        &self,
        work: impl Future<Output = Result<T, RunError<E>>>,
    ) -> Result<T, StoreError>
    where
        E: Into<StoreError>,
    {
        let Some(patience) = self.patience else {
            return Ok(work.await?);
        };
        match tokio::time::timeout(patience, work).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(StoreError::Unfinished),
        }
    }

    /// Writes what the log of an SQLite file has to the file itself. A connection that is still open when the process ends
    /// leaves its log behind, and whoever copies the file alone would lose what only the log has. Blocks.
    pub(super) fn complete_file(&self) -> QueryResult<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let completed = self.run_here(|connection| {
            file.check_path()?;
            connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")
        });
        // Without a connection, the log stays, which the next start reads.
        completed.unwrap_or(Ok(()))
    }

    /// Runs `work` on a connection, on this thread. For the start and the end, when no event loop can be blocked.
    pub(super) fn run_here<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> T,
    ) -> Result<T, CheckoutError> {
        Ok(work(&mut *self.writers.get()?))
    }
}

/// The health check of a pool of SQLite. The pool of readers reads the table, the pool of writers writes to the file.
fn health_check(
    name: &'static str,
    file: Option<Arc<DatabaseFile>>,
    lock_timeout: Duration,
) -> impl Fn(&mut Connection) -> QueryResult<()> + Send + Sync + 'static {
    move |connection| {
        if name != WRITERS {
            queries::probe(connection)?;
        }
        match &file {
            Some(file) if name == READERS => file.check_beside_writer(),
            Some(file) => file.check(connection, lock_timeout),
            None => Ok(()),
        }
    }
}

/// Most connections to a file that are opened at the start. Others are opened when they are needed: thousands would take longer
/// than the pool's timeout.
const MOST_AT_START: u32 = 100;

/// A pool of SQLite, whose connections stay open. Unlike a server, a file needs no ping before each use, and idle connections
/// to it cost little. Data in memory would be lost with its connection.
fn open_pool_of_file(
    settings: &DatabaseSettings,
    vitals: &Vitals,
    name: &str,
    size: u32,
    opener: &Arc<ScheduledThreadPool>,
    file: Option<Arc<DatabaseFile>>,
    health_check: impl Fn(&mut Connection) -> QueryResult<()> + Send + Sync + 'static,
) -> Result<Pool<Connection>, CheckoutError> {
    let builder = r2d2::Pool::builder()
        .thread_pool(Arc::clone(opener))
        .max_size(size)
        .min_idle(Some(size.min(MOST_AT_START)))
        .connection_timeout(settings.pool_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_on_check_out(false);
    let open = connection::opener(settings);
    vitals
        .instrument(builder)
        .name(name)
        .system("sqlite")
        .health_check(health_check)
        .opener(move || {
            if let Some(file) = &file {
                // SQLite would create the file or the log that was removed, and the loss would no longer be noticed.
                let checked = file.check_path();
                checked.map_err(ConnectionError::CouldntSetupConfiguration)?;
            }
            let connection = open()?;
            if let Some(file) = &file {
                file.opened();
            }
            Ok(connection)
        })
        .build(no_url())
}

/// The manager for pools whose opener has the URL.
pub(super) fn no_url() -> ConnectionManager<Connection> {
    ConnectionManager::new(String::new())
}

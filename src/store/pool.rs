//! The pools of connections, the way off the event loops, and the order of writers: nothing else of the store knows
//! any of them.

use std::sync::Arc;
use std::time::Duration;

use diesel::QueryResult;
use diesel::r2d2::{self, ConnectionManager};
use parking_lot::Mutex;
use scheduled_thread_pool::ScheduledThreadPool;

use super::connection::{self, BUSY_TIMEOUT, Connection};
use super::error::{ConnectionsError, StoreError, WorkError};
use super::file::DatabaseFile;
use super::queries;
use super::stale::StaleStatements;
use crate::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};
use actix_vitals::Vitals;
use actix_vitals::database::{CheckoutError, Pool, RunError};

/// The name of SQLite's pool of readers.
const READERS: &str = "readers";

/// The name of SQLite's pool of writers.
const WRITERS: &str = "writers";

/// Most connections that are kept for writers, and never more than half of all.
const MOST_WRITERS: u32 = 3;

/// How much longer than the pool timeout an answer of PostgreSQL may take.
const MARGIN: Duration = Duration::from_millis(100);

/// The connections that the store works on.
///
/// SQLite has one writer at a time, and leaves it to the writers to find each other: each sleeps for up to a tenth of a
/// second between two tries, so that under load some wait for seconds while others pass them, and between them they
/// hold all connections, with the readers waiting behind. So a few connections are for writers, who queue for them
/// first come, first served, and take turns. The others are for readers, who never wait for a writer.
///
/// PostgreSQL does all that itself, but it may go away, even without a word. So no caller waits for it without end.
#[derive(Clone)]
pub(super) struct StorePools {
    readers: Pool<Connection>,
    writers: Pool<Connection>,
    /// The file of SQLite's, if there is one.
    file: Option<Arc<DatabaseFile>>,
    /// Whose turn it is to write.
    turn: Option<Arc<Mutex<()>>>,
    /// Prepares statements again that the server no longer takes.
    stale: StaleStatements,
    /// How long a caller waits, for a connection and for the work on it.
    patience: Option<Duration>,
}

impl StorePools {
    /// Opens all connections, to be watched by `vitals`. Blocks.
    pub(super) fn open(
        settings: &DatabaseSettings,
        vitals: &Vitals,
    ) -> Result<Self, ConnectionsError> {
        let stale = StaleStatements::new(settings.pool_timeout);
        let DatabaseUrl::Sqlite(location) = &settings.url else {
            let pool = open_pool_of_server(settings, vitals, &stale);
            return Ok(Self {
                readers: pool.clone(),
                writers: pool,
                file: None,
                turn: None,
                stale,
                patience: settings.pool_timeout.checked_add(MARGIN),
            });
        };
        // Connections to a file are opened once, so that one thread will do for all pools of them.
        let opener = Arc::new(ScheduledThreadPool::builder().num_threads(1).build());
        let turn = Arc::default();
        let file = match location {
            SqliteLocation::File(path) => Some(DatabaseFile::watch(path)?),
            SqliteLocation::Memory => None,
        };
        let open = |name, size| {
            let check = health_check(name, file.clone(), Arc::clone(&turn));
            open_pool_of_file(settings, vitals, name, size, &opener, file.clone(), check)
        };
        let (readers, writers) = match location {
            SqliteLocation::File(_) if settings.pool_size > 1 => {
                let writers = (settings.pool_size / 2).min(MOST_WRITERS);
                (
                    open(READERS, settings.pool_size - writers)?,
                    open(WRITERS, writers)?,
                )
            }
            // Data in memory lives in its only connection.
            SqliteLocation::File(_) | SqliteLocation::Memory => {
                let pool = open("default", 1)?;
                (pool.clone(), pool)
            }
        };
        Ok(Self {
            readers,
            writers,
            file,
            turn: Some(turn),
            stale,
            patience: None,
        })
    }

    /// Runs `work`, which only reads, on a connection, and `finish` with what it read, on a thread that may block. `work`
    /// may run twice: see [`StaleStatements::run`].
    ///
    /// When the caller goes away, work that has begun is finished all the same.
    pub(super) async fn read<T, U, F, E>(&self, work: F, finish: E) -> Result<U, StoreError>
    where
        U: Send + 'static,
        F: Fn(&mut Connection) -> QueryResult<T> + Send + 'static,
        E: FnOnce(T) -> U + Send + 'static,
    {
        let stale = self.stale.clone();
        let work = move |connection: &mut Connection| stale.run(connection, work).map(finish);
        self.wait_for(self.readers.run(work)).await
    }

    /// Runs `work`, which may write in one statement, when its turn has come; otherwise as [`Self::read`] does.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Connection) -> QueryResult<T> + Send + 'static,
    {
        let (turn, file) = (self.turn.clone(), self.file.clone());
        let stale = self.stale.clone();
        let work = move |connection: &mut Connection| {
            let _turn = match &turn {
                Some(turn) => {
                    let turn = turn.try_lock_for(BUSY_TIMEOUT);
                    Some(turn.ok_or(WorkError::TurnMissed)?)
                }
                None => None,
            };
            let work = || stale.run(connection, work);
            match &file {
                Some(file) => file.write(work),
                None => work().map_err(WorkError::Query),
            }
        };
        self.wait_for(self.writers.run(work)).await
    }

    /// Waits for the work, but not for longer than a caller may be left waiting.
    ///
    /// Work that has begun by then still ends by itself, and keeps its connection until it does: the server gives up a
    /// statement after the pool timeout, and the network a connection on which nothing moves.
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
            Err(_) => Err(StoreError::Unanswered),
        }
    }

    /// Runs `work` on a connection, on this thread. For the start, when there is no event loop to hold up.
    pub(super) fn run_here<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> T,
    ) -> Result<T, CheckoutError> {
        Ok(work(&mut *self.writers.get()?))
    }
}

/// What `/readyz` asks of a pool of SQLite's. The table is read on the pool that reads.
fn health_check(
    name: &'static str,
    file: Option<Arc<DatabaseFile>>,
    turn: Arc<Mutex<()>>,
) -> impl Fn(&mut Connection) -> QueryResult<()> + Send + Sync + 'static {
    move |connection| {
        if name != WRITERS {
            queries::probe(connection)?;
        }
        match &file {
            Some(file) if name == READERS => file.check_place(),
            Some(file) => file.check(connection, &turn),
            None => Ok(()),
        }
    }
}

/// Connections to a file that a start waits for. A larger pool opens the others when they are needed: thousands would take
/// longer than the pool's timeout.
const MOST_AT_START: u32 = 100;

/// A pool whose connections are open, and stay so: a file does not go away as a server may, so there is nothing to be
/// gained by a ping before each use, nor by closing what is idle. Data in memory would be lost with its connection.
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
            let connection = open()?;
            if let Some(file) = &file {
                file.opened();
            }
            Ok(connection)
        })
        .build(no_url())
}

/// A pool whose connections are looked at before each use: one that was lost while it was idle, as all are when the
/// server starts anew, costs nobody his answer. Diesel would not notice by itself, and give it out again and again.
///
/// It fills itself while the service already runs. Whether the server can be reached at all was seen before.
fn open_pool_of_server(
    settings: &DatabaseSettings,
    vitals: &Vitals,
    stale: &StaleStatements,
) -> Pool<Connection> {
    let builder = r2d2::Pool::builder()
        .max_size(settings.pool_size)
        .connection_timeout(settings.pool_timeout)
        .test_on_check_out(true);
    let stale = stale.clone();
    vitals
        .instrument(builder)
        .system("postgresql")
        .health_check(move |connection| stale.run(connection, queries::probe))
        .opener(connection::opener(settings))
        .build_unchecked(no_url())
}

/// The opener knows the address.
fn no_url() -> ConnectionManager<Connection> {
    ConnectionManager::new(String::new())
}

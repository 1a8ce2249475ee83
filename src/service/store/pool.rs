//! The pools of connections, the way off the event loops, and the order of writers: nothing else of the store knows
//! any of them.

use std::sync::Arc;

use diesel::QueryResult;
use diesel::r2d2::{self, ConnectionManager};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use parking_lot::Mutex;

use super::connection::{self, BUSY_TIMEOUT, Connection};
use super::error::StoreError;
use crate::service::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};
use crate::vitals::Vitals;
use crate::vitals::database::{CheckoutError, Pool};

/// Most connections that are kept for writers, and never more than half of all.
const MOST_WRITERS: u32 = 3;

/// The connections that the store works on.
///
/// SQLite has one writer at a time, and leaves it to the writers to find each other: each sleeps for up to a tenth of a
/// second between two tries, so that under load some wait for seconds while others pass them, and between them they
/// hold all connections, with the readers waiting behind. So a few connections are for writers, who queue for them
/// first come, first served, and take turns. The others are for readers, who never wait for a writer.
#[derive(Clone)]
pub(super) struct Connections {
    readers: Pool<Connection>,
    writers: Pool<Connection>,
    turn: Arc<Mutex<()>>,
}

impl Connections {
    /// Opens all connections, to be watched by `vitals`. Blocks.
    pub(super) fn open(
        settings: &DatabaseSettings,
        vitals: &Vitals,
    ) -> Result<Self, CheckoutError> {
        let open = |size| open_pool(settings, vitals, size);
        let turn = Arc::default();
        match settings.url {
            // The data lives in its only connection.
            DatabaseUrl::Sqlite(SqliteLocation::Memory) => Self::shared(open(1)?, turn),
            DatabaseUrl::Sqlite(SqliteLocation::File(_)) if settings.pool_size == 1 => {
                Self::shared(open(1)?, turn)
            }
            DatabaseUrl::Sqlite(SqliteLocation::File(_)) => {
                let writers = (settings.pool_size / 2).min(MOST_WRITERS);
                Ok(Self {
                    readers: open(settings.pool_size - writers)?,
                    writers: open(writers)?,
                    turn,
                })
            }
        }
    }

    /// Readers and writers on the same connections.
    #[allow(clippy::unnecessary_wraps, reason = "all ways to open end alike")]
    fn shared(pool: Pool<Connection>, turn: Arc<Mutex<()>>) -> Result<Self, CheckoutError> {
        Ok(Self {
            readers: pool.clone(),
            writers: pool,
            turn,
        })
    }

    /// Runs `work`, which only reads, on a connection, on a thread that may block.
    ///
    /// When the caller goes away, work that has begun is finished all the same.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> QueryResult<T> + Send + 'static,
    {
        Ok(self.readers.run(work).await?)
    }

    /// Runs `work`, which may write, when its turn has come; otherwise as [`Self::read`] does.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> QueryResult<T> + Send + 'static,
    {
        let turn = Arc::clone(&self.turn);
        let work = move |connection: &mut Connection| {
            let _turn = turn.try_lock_for(BUSY_TIMEOUT).ok_or_else(locked)?;
            work(connection)
        };
        Ok(self.writers.run(work).await?)
    }

    /// Runs `work` on a connection, on this thread. For the start, when there is no event loop to hold up.
    pub(super) fn run_here<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> T,
    ) -> Result<T, CheckoutError> {
        Ok(work(&mut *self.writers.get()?))
    }
}

/// The turn did not come, for another process has the database: what SQLite itself would say.
fn locked() -> DieselError {
    DieselError::DatabaseError(
        DatabaseErrorKind::Unknown,
        Box::new("database is locked".to_owned()),
    )
}

/// A pool whose connections are open, and stay so: a file does not go away as a server may, so there is nothing to be
/// gained by a ping before each use, nor by closing what is idle. Data in memory would be lost with its connection.
fn open_pool(
    settings: &DatabaseSettings,
    vitals: &Vitals,
    size: u32,
) -> Result<Pool<Connection>, CheckoutError> {
    let builder = r2d2::Pool::builder()
        .max_size(size)
        .connection_timeout(settings.pool_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_on_check_out(false)
        .connection_customizer(Box::new(connection::SetUp));
    vitals
        .instrument(builder)
        .build(ConnectionManager::new(connection::address(&settings.url)))
}

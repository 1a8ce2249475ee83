//! How a connection of diesel-async answers the questions of the explaining connection.
//!
//! The explaining thread has a runtime of its own for it, so that no event loop of the application does this work.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::InstrumentationEvent;
use diesel::deserialize::FromSql;
use diesel::query_builder::{QueryFragment, SqlQuery};
use diesel::sql_types::Text;
use diesel::{QueryResult, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl};
use tokio::runtime::{Builder, Runtime};

use crate::database::connection::explainable::{LoadedRow, ask_error};
use crate::database::explaining::{Answer, AskError, Asked, Open, TextRow};

/// How long the thread awaits the opening of the connection, or an answer. The server ends statements sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection of diesel-async that can load rows of text, as every one can.
///
/// A pool opens one such connection of its own, to ask the database for plans and for the holders of locks.
pub trait AsyncExplainable: AsyncConnection {
    /// Runs one statement, and returns its rows with their columns as text.
    #[doc(hidden)]
    fn text_rows(
        &mut self,
        sql: &str,
    ) -> impl Future<Output = QueryResult<Vec<Vec<Option<String>>>>> + Send;
}

impl<C> AsyncExplainable for C
where
    C: AsyncConnection,
    String: FromSql<Text, C::Backend>,
    SqlQuery: QueryFragment<C::Backend>,
    C::Backend: 'static,
{
    async fn text_rows(&mut self, sql: &str) -> QueryResult<Vec<Vec<Option<String>>>> {
        let rows: Vec<LoadedRow> = sql_query(sql).load(self).await?;
        Ok(rows.into_iter().map(|LoadedRow(columns)| columns).collect())
    }
}

/// Opens a connection outside of the pool.
pub(super) type Opener<C> =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<C, String>> + Send>> + Send + Sync>;

/// Returns the function that opens the explaining connection as the pool opens its own.
pub(super) fn opener<C: AsyncExplainable + 'static>(open: &Opener<C>) -> Open {
    let open = Arc::clone(open);
    Box::new(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|_| AskError::Unreachable)?;
        let opened = runtime.block_on(async { tokio::time::timeout(PATIENCE, open()).await });
        let mut connection = opened
            .map_err(|_| AskError::Unreachable)?
            .map_err(|_| AskError::Unreachable)?;
        // The default instrumentation of the application is not meant for these statements.
        connection.set_instrumentation(|_: InstrumentationEvent<'_>| {});
        Ok(Box::new(Awaited {
            connection: Some(connection),
            runtime: Some(runtime),
        }) as Box<dyn Asked>)
    })
}

/// A connection of diesel-async, and the runtime that it needs. Both are there until it is dropped.
struct Awaited<C> {
    connection: Option<C>,
    runtime: Option<Runtime>,
}

impl<C> Awaited<C> {
    fn wait<'a, T>(&'a mut self, ask: impl AsyncFnOnce(&'a mut C) -> QueryResult<T>) -> Answer<T> {
        let (Some(connection), Some(runtime)) = (&mut self.connection, &self.runtime) else {
            return Err(AskError::Unreachable);
        };
        let answer =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(connection)).await });
        answer
            .map_err(|_| AskError::Unreachable)?
            .map_err(|error| ask_error(&error))
    }
}

impl<C: AsyncExplainable> Asked for Awaited<C> {
    fn run(&mut self, sql: &str) -> Answer<()> {
        self.wait(async |connection| connection.batch_execute(sql).await)
    }

    fn rows(&mut self, sql: &str) -> Answer<Vec<TextRow>> {
        self.wait(async |connection| connection.text_rows(sql).await)
    }
}

impl<C> Drop for Awaited<C> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let entered = runtime.enter();
            drop(self.connection.take());
            drop(entered);
            // Does not wait for a query that a `SyncConnectionWrapper` still runs on a thread.
            runtime.shutdown_background();
        }
    }
}

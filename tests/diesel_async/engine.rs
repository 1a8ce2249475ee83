//! The operations of each type of asynchronous connection, and its database.

use std::any::Any;

use actix_vitals::database::AsyncExplainable;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection as _, AsyncMysqlConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Notify;

use crate::mariadb::Mariadb;
use crate::support::postgres::Cluster;
use crate::support::server::Data as _;
use crate::support::tools;

diesel::table! {
    items (id) {
        id -> Integer,
        name -> Text,
    }
}

/// An asynchronous connection of SQLite.
pub(crate) type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection>;

/// A connection that the tests can use. Each call is one query, unless it says otherwise.
pub(crate) trait Engine: AsyncExplainable + 'static {
    /// The URL of an empty database, and what keeps it. `None` if the programs of the database are missing.
    fn database() -> Option<(String, Box<dyn Any>)>;

    /// The URL of a database that does not exist.
    const NOWHERE: &str;

    /// Creates the table with two rows, in three queries.
    async fn create(&mut self) -> QueryResult<()>;
    async fn count(&mut self) -> QueryResult<i64>;
    /// Reads at most this many rows of a stream, and drops it. Returns how many there were.
    async fn stream(&mut self, most: usize) -> QueryResult<usize>;
    async fn name_of(&mut self, id: i32) -> QueryResult<Option<String>>;
    async fn insert(&mut self, id: i32, name: &str) -> QueryResult<usize>;
    async fn rename(&mut self, id: i32, name: &str) -> QueryResult<usize>;
    async fn raw(&mut self, sql: &str) -> QueryResult<usize>;
    /// Runs for at least half a second.
    async fn sleep(&mut self) -> QueryResult<usize>;
    /// Inserts two rows in nested transactions, and rolls the outer one back unless `commits`.
    async fn transact(&mut self, id: i32, commits: bool) -> QueryResult<()>;
    /// Inserts a row in a transaction, notifies, and then runs for at least half a second in it.
    async fn transact_slowly(&mut self, id: i32, inserted: &Notify) -> QueryResult<()>;
}

macro_rules! impl_engine {
    ($connection:ty, $database:expr, $nowhere:expr, $sleep:expr) => {
        impl Engine for $connection {
            const NOWHERE: &str = $nowhere;

            fn database() -> Option<(String, Box<dyn Any>)> {
                $database
            }

            async fn create(&mut self) -> QueryResult<()> {
                self.raw("DROP TABLE IF EXISTS items").await?;
                let columns = "id INTEGER PRIMARY KEY, name VARCHAR(99) NOT NULL UNIQUE";
                self.raw(&format!("CREATE TABLE items ({columns})")).await?;
                self.raw("INSERT INTO items VALUES (1, 'one'), (2, 'two')")
                    .await?;
                Ok(())
            }

            async fn count(&mut self) -> QueryResult<i64> {
                items::table.count().get_result(self).await
            }

            async fn stream(&mut self, most: usize) -> QueryResult<usize> {
                let names = items::table.select(items::name);
                let rows = names.load_stream::<String>(self).await?;
                let rows: Vec<_> = rows.take(most).try_collect().await?;
                Ok(rows.len())
            }

            async fn name_of(&mut self, id: i32) -> QueryResult<Option<String>> {
                let query = items::table.find(id).select(items::name);
                query.first(self).await.optional()
            }

            async fn insert(&mut self, id: i32, name: &str) -> QueryResult<usize> {
                diesel::insert_into(items::table)
                    .values((items::id.eq(id), items::name.eq(name.to_owned())))
                    .execute(self)
                    .await
            }

            async fn rename(&mut self, id: i32, name: &str) -> QueryResult<usize> {
                diesel::update(items::table.find(id))
                    .set(items::name.eq(name.to_owned()))
                    .execute(self)
                    .await
            }

            async fn raw(&mut self, sql: &str) -> QueryResult<usize> {
                diesel::sql_query(sql.to_owned()).execute(self).await
            }

            async fn sleep(&mut self) -> QueryResult<usize> {
                self.raw($sleep).await
            }

            async fn transact(&mut self, id: i32, commits: bool) -> QueryResult<()> {
                let result = self
                    .transaction(async |connection| {
                        connection.insert(id, &format!("a{id}")).await?;
                        connection
                            .transaction(async |connection| {
                                connection.insert(id + 1, &format!("b{id}")).await
                            })
                            .await?;
                        if commits {
                            Ok(())
                        } else {
                            Err(Error::RollbackTransaction)
                        }
                    })
                    .await;
                match result {
                    Err(Error::RollbackTransaction) => Ok(()),
                    result => result,
                }
            }

            async fn transact_slowly(&mut self, id: i32, inserted: &Notify) -> QueryResult<()> {
                self.transaction(async |connection| {
                    connection.insert(id, &format!("slow{id}")).await?;
                    inserted.notify_one();
                    connection.sleep().await.map(drop)
                })
                .await
            }
        }
    };
}

impl_engine!(
    AsyncPgConnection,
    postgres(),
    "postgres://nobody@127.0.0.1:1/nowhere",
    "SELECT pg_sleep(1.5)"
);
impl_engine!(
    AsyncMysqlConnection,
    mariadb(),
    "mysql://nobody@127.0.0.1:1/nowhere",
    "SELECT SLEEP(1.5)"
);
impl_engine!(
    AsyncSqliteConnection,
    sqlite(),
    "/nowhere/items.db",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 5000000) SELECT max(x) FROM c"
);

#[allow(
    clippy::unnecessary_wraps,
    reason = "the programs of other databases may be missing"
)]
fn sqlite() -> Option<(String, Box<dyn Any>)> {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("items.db").display().to_string();
    Some((url, Box::new(directory)))
}

fn postgres() -> Option<(String, Box<dyn Any>)> {
    let programs = tools::postgres("diesel-async on PostgreSQL")?;
    let database = Cluster::shared(&programs).database();
    Some((database.url(), Box::new(database)))
}

fn mariadb() -> Option<(String, Box<dyn Any>)> {
    let server = Mariadb::shared("diesel-async on MariaDB")?;
    Some((server.create_database(), Box::new(server)))
}

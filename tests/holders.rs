//! Pools of r2d2 whose connections are all held: by a leak, by slow queries, by queries that wait for a lock, and by
//! transactions that wait for their clients. In a process of its own: the log's subscriber is everybody's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use actix_vitals::Vitals;
use actix_vitals::database::{Explainable, Pool};
use diesel::connection::{SimpleConnection, TransactionManager};
use diesel::r2d2::{self, ConnectionManager, R2D2Connection};
use diesel::{Connection as _, PgConnection, SqliteConnection};
use support::exhausted::{Occupied, PATIENCE, Reason, SIZE, assert_explained};
use support::postgres::Cluster;
use support::server::Data as _;
use support::tools;

impl<C> Occupied for Pool<C>
where
    C: R2D2Connection + Explainable + Send + 'static,
{
    async fn open(vitals: &Vitals, name: &'static str, url: &str) -> Self {
        let builder = r2d2::Pool::builder()
            .max_size(SIZE)
            .connection_timeout(PATIENCE);
        let pool = vitals.instrument(builder).name(name);
        pool.build(ConnectionManager::new(url)).unwrap()
    }

    async fn leak(&self) {
        let pool = self.clone();
        let take = move || std::mem::forget(pool.get().unwrap());
        actix_vitals::block(take).await.unwrap();
    }

    async fn run(&self, sql: &'static str) {
        // A caller that gets no connection in time is part of the tests.
        drop(
            self.run(move |connection| connection.batch_execute(sql))
                .await,
        );
    }

    async fn run_locked(&self, before: &'static str, sql: &'static str) {
        let work = move |connection: &mut C| {
            connection.batch_execute(before)?;
            connection.batch_execute(sql)
        };
        self.run(work).await.unwrap();
    }

    async fn transact(&self, client: impl Future<Output = ()>) {
        let mut connection = self.get().unwrap();
        C::TransactionManager::begin_transaction(&mut *connection).unwrap();
        connection
            .batch_execute("SELECT count(*) FROM items")
            .unwrap();
        client.await;
        C::TransactionManager::commit_transaction(&mut *connection).unwrap();
    }
}

const ITEMS: &str = "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(99));
    INSERT INTO items VALUES (1, 'one')";

fn on_sqlite(name: &'static str, reason: Reason) {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("items.db").display().to_string();
    let mut connection = SqliteConnection::establish(&url).unwrap();
    connection.batch_execute(ITEMS).unwrap();
    drop(connection);
    assert_explained::<Pool<SqliteConnection>>(name, &url, reason, "tests/holders.rs:");
}

fn on_postgres(name: &'static str, reason: Reason) {
    let Some(programs) = tools::postgres("holders on PostgreSQL") else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    database.execute(ITEMS);
    let url = database.url();
    assert_explained::<Pool<PgConnection>>(name, &url, reason, "tests/holders.rs:");
}

#[test]
fn a_leak_on_sqlite() {
    on_sqlite("leak_sqlite", Reason::Leak);
}

#[test]
fn a_slow_query_on_sqlite() {
    on_sqlite("slow_sqlite", Reason::SlowQuery);
}

#[test]
fn a_lock_on_sqlite() {
    on_sqlite("lock_sqlite", Reason::Lock);
}

#[test]
fn a_slow_client_on_sqlite() {
    on_sqlite("client_sqlite", Reason::SlowClient);
}

#[test]
fn a_leak_on_postgresql() {
    on_postgres("leak_postgresql", Reason::Leak);
}

#[test]
fn a_slow_query_on_postgresql() {
    on_postgres("slow_postgresql", Reason::SlowQuery);
}

#[test]
fn a_lock_on_postgresql() {
    on_postgres("lock_postgresql", Reason::Lock);
}

#[test]
fn a_slow_client_on_postgresql() {
    on_postgres("client_postgresql", Reason::SlowClient);
}

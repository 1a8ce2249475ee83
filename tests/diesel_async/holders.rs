//! Asynchronous pools whose connections are all held.

use actix_vitals::Vitals;
use actix_vitals::database::{bb8, deadpool, mobc};
use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};

use crate::engine::{AsyncSqliteConnection, Engine};
use crate::pools::TestPool;
use crate::support::exhausted::{Occupied, Reason, SIZE, assert_explained};

/// A pool that requests can occupy.
#[derive(Clone)]
struct Tested<P>(P);

impl<P: TestPool + Send> Occupied for Tested<P> {
    async fn open(vitals: &Vitals, name: &'static str, url: &str) -> Self {
        let pool = P::open(vitals, name, url, SIZE).await;
        pool.get().await.unwrap().create().await.unwrap();
        Self(pool)
    }

    async fn leak(&self) {
        std::mem::forget(self.0.get().await.unwrap());
    }

    async fn run(&self, sql: &'static str) {
        // A caller that gets no connection in time is part of the tests.
        if let Ok(mut connection) = self.0.get().await {
            // SQLite may be locked while another holder commits.
            drop(connection.raw(sql).await);
        }
    }

    async fn run_locked(&self, before: &'static str, sql: &'static str) {
        let mut connection = self.0.get().await.unwrap();
        connection.raw(before).await.unwrap();
        connection.raw(sql).await.unwrap();
    }

    async fn transact(&self, client: impl Future<Output = ()>) {
        let mut connection = self.0.get().await.unwrap();
        let connection = &mut *connection;
        Manager::<P>::begin_transaction(connection).await.unwrap();
        connection.count().await.unwrap();
        client.await;
        Manager::<P>::commit_transaction(connection).await.unwrap();
    }
}

type Manager<P> = <<P as TestPool>::Connection as AsyncConnection>::TransactionManager;

fn explained<P: TestPool + Send>(name: &'static str, reason: Reason) {
    if let Some((url, _database)) = P::Connection::database() {
        assert_explained::<Tested<P>>(name, &url, reason, "tests/diesel_async/pools.rs:");
    }
}

macro_rules! on_each_pool {
    ($($module:ident: $pool:ty;)*) => {
        $(
            mod $module {
                use super::*;

                #[test]
                fn a_leak() {
                    explained::<$pool>(concat!(stringify!($module), "_leak"), Reason::Leak);
                }

                #[test]
                fn a_slow_query() {
                    explained::<$pool>(concat!(stringify!($module), "_slow"), Reason::SlowQuery);
                }

                #[test]
                fn a_lock() {
                    explained::<$pool>(concat!(stringify!($module), "_lock"), Reason::Lock);
                }

                #[test]
                fn a_slow_client() {
                    explained::<$pool>(concat!(stringify!($module), "_client"), Reason::SlowClient);
                }
            }
        )*
    };
}

on_each_pool! {
    deadpool_sqlite: deadpool::Pool<AsyncSqliteConnection>;
    bb8_sqlite: bb8::Pool<AsyncSqliteConnection>;
    mobc_sqlite: mobc::Pool<AsyncSqliteConnection>;
    deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    bb8_postgresql: bb8::Pool<AsyncPgConnection>;
    mobc_postgresql: mobc::Pool<AsyncPgConnection>;
}

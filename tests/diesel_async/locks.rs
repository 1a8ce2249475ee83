//! Asynchronous pools whose connections wait for locks of PostgreSQL.

use actix_vitals::Vitals;
use actix_vitals::database::{bb8, deadpool, mobc};
use diesel_async::AsyncPgConnection;

use crate::engine::Engine;
use crate::pools::TestPool;
use crate::support::locked::{Locking, SIZE, assert_a_chain_is_named, assert_a_convoy_is_named};

/// A pool whose connections can hold locks.
#[derive(Clone)]
struct Tested<P>(P);

impl<P: TestPool + Send> Locking for Tested<P> {
    async fn open(vitals: &Vitals, name: &'static str, url: &str) -> Self {
        let pool = P::open(vitals, name, url, SIZE).await;
        pool.get().await.unwrap().create().await.unwrap();
        Self(pool)
    }

    async fn transact(&self, sql: &'static [&'static str], client: impl Future<Output = ()>) {
        let mut connection = self.0.get().await.unwrap();
        for sql in ["BEGIN"].iter().chain(sql) {
            connection.raw(sql).await.unwrap();
        }
        client.await;
        connection.raw("COMMIT").await.unwrap();
    }
}

macro_rules! on_each_pool {
    ($($module:ident: $pool:ty;)*) => {
        $(
            mod $module {
                use super::*;

                #[test]
                fn a_convoy() {
                    if let Some((url, _database)) = AsyncPgConnection::database() {
                        assert_a_convoy_is_named::<Tested<$pool>>("convoy", &url);
                    }
                }

                #[test]
                fn a_chain() {
                    if let Some((url, _database)) = AsyncPgConnection::database() {
                        assert_a_chain_is_named::<Tested<$pool>>("chain", &url);
                    }
                }
            }
        )*
    };
}

on_each_pool! {
    deadpool_locks: deadpool::Pool<AsyncPgConnection>;
    bb8_locks: bb8::Pool<AsyncPgConnection>;
    mobc_locks: mobc::Pool<AsyncPgConnection>;
}

//! A pool that is not of this library, whose connections record: its pings are no queries, and everything else is one.

use actix_vitals::Vitals;
use actix_vitals::database::Order;
use diesel::sql_types::Integer;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, PoolError};
use diesel_async::{AsyncMysqlConnection, AsyncPgConnection};
use futures_util::FutureExt as _;

use crate::app;
use crate::engine::{AsyncSqliteConnection, Engine};

/// A pool of one connection, which is checked each time that it is taken.
async fn open<C>(vitals: &Vitals, url: &str) -> bb8::Pool<AsyncDieselConnectionManager<C>>
where
    C: Engine,
    AsyncDieselConnectionManager<C>: bb8::ManageConnection<Connection = C, Error = PoolError>,
{
    let mut config = ManagerConfig::<C>::default();
    let vitals = vitals.clone();
    config.custom_setup = Box::new(move |url| {
        let vitals = vitals.clone();
        async move {
            let mut connection = C::establish(url).await?;
            vitals.instrument_async_connection(&mut connection);
            Ok(connection)
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    bb8::Pool::builder()
        .max_size(1)
        .build(manager)
        .await
        .unwrap()
}

macro_rules! of_a_foreign_pool_only_the_pings_are_left_out {
    ($($test:ident: $connection:ty;)*) => {$(
        #[actix_web::test]
        async fn $test() {
            use diesel::prelude::*;
            use diesel_async::RunQueryDsl;

            let Some((url, _database)) = <$connection>::database() else {
                return;
            };
            let vitals = Vitals::builder().build().unwrap();
            let pool = open::<$connection>(&vitals, &url).await;
            for _ in 0..3 {
                drop(pool.get().await.unwrap());
            }
            let count = |name: &str| app::scrape(&vitals).sum(name, &[]);
            assert_eq!((count("db_queries_total"), count("db_statements")), (0.0, 0.0));
            pool.get().await.unwrap().create().await.unwrap();
            for round in 0..5 {
                let mut connection = pool.get().await.unwrap();
                connection.count().await.unwrap();
                connection.name_of(round).await.unwrap();
                connection.raw("SELECT 7").await.unwrap();
                // By the type of the ping.
                let value = diesel::select((round + 2).into_sql::<Integer>());
                assert_eq!(value.get_result::<i32>(&mut *connection).await, Ok(round + 2));
            }
            let rows = vitals.statements().report(Order::Calls, 20);
            let selects = rows.iter().filter(|row| row.statement.starts_with("SELECT"));
            let mut calls: Vec<_> = selects.map(|row| row.calls).collect();
            calls.sort_unstable();
            // `SELECT 7` and the selected value have the same shape.
            assert_eq!(calls, [5, 5, 10], "{rows:#?}");
            assert_eq!((count("db_queries_total"), count("db_statements")), (23.0, 6.0));
        }
    )*};
}

of_a_foreign_pool_only_the_pings_are_left_out! {
    sqlite: AsyncSqliteConnection;
    postgresql: AsyncPgConnection;
    mariadb: AsyncMysqlConnection;
}

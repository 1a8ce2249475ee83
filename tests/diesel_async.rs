//! Connections of diesel-async in pools of deadpool, bb8 and mobc, on real databases: known traffic moves every family by
//! exactly the right amount. Needs the feature `diesel-async`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "a test may panic and print; counts are whole numbers, which floats represent exactly"
)]

mod support;

#[path = "mysql/mariadb.rs"]
mod mariadb;

#[path = "diesel_async/app.rs"]
mod app;
#[path = "diesel_async/chaos.rs"]
mod chaos;
#[path = "diesel_async/dropped.rs"]
mod dropped;
#[path = "diesel_async/engine.rs"]
mod engine;
#[path = "diesel_async/foreign.rs"]
mod foreign;
#[path = "diesel_async/holders.rs"]
mod holders;
#[path = "diesel_async/locks.rs"]
mod locks;
#[path = "diesel_async/plans.rs"]
mod plans;
#[path = "diesel_async/pools.rs"]
mod pools;
#[path = "diesel_async/queued.rs"]
mod queued;
#[path = "diesel_async/traffic.rs"]
mod traffic;
#[path = "diesel_async/unanswered.rs"]
mod unanswered;
#[path = "diesel_async/waiting.rs"]
mod waiting;

use std::any::Any;
use std::time::{Duration, Instant};

use actix_vitals::database::{bb8, deadpool, mobc};
use diesel_async::{AsyncMysqlConnection, AsyncPgConnection};

use app::TestApp;
use chaos::chaos_leaves_an_exact_ledger;
use dropped::{
    a_client_that_leaves_its_query_on_sqlite_harms_nobody_else,
    a_dropped_query_is_counted_as_cancelled_once, a_dropped_transaction_is_rolled_back,
    a_query_that_is_dropped_and_run_again_is_counted_twice,
};
use engine::{AsyncSqliteConnection, Engine};
use pools::TestPool;
use traffic::{
    a_query_whose_rows_are_streamed_is_counted_once,
    known_traffic_moves_every_family_by_exactly_the_right_amount,
    pipelined_queries_are_each_counted_once,
};
use unanswered::{
    a_caller_that_leaves_during_the_check_leaves_no_answer_behind,
    a_dropped_health_check_leaves_no_answer_behind,
    a_query_dropped_beside_the_pool_leaves_no_answer_behind,
};
use waiting::{
    a_caller_that_gets_no_connection_in_time_is_one_timeout,
    a_caller_that_leaves_is_counted_as_cancelled,
    a_connection_that_its_server_closed_is_lost_in_the_log, a_pool_is_ready_idle_or_busy,
    an_unreachable_database_is_an_open_error, every_opening_is_counted_and_timed,
    the_levels_are_those_of_the_pool,
};

/// Each test, on each pool of each database.
macro_rules! on_each_pool {
    ($tests:tt $($module:ident: $pool:ty;)*) => {
        $(on_each_pool!(@ $module, $pool, $tests);)*
    };
    (@ $module:ident, $pool:ty, { $($test:ident)* }) => {
        mod $module {
            use super::*;
            $(
                #[actix_web::test]
                async fn $test() {
                    super::$test::<$pool>().await;
                }
            )*
        }
    };
}

on_each_pool! {
    {
        known_traffic_moves_every_family_by_exactly_the_right_amount
        a_caller_that_gets_no_connection_in_time_is_one_timeout
        a_caller_that_leaves_is_counted_as_cancelled
        the_levels_are_those_of_the_pool
        a_pool_is_ready_idle_or_busy
        every_opening_is_counted_and_timed
        an_unreachable_database_is_an_open_error
        a_query_whose_rows_are_streamed_is_counted_once
    }
    deadpool_sqlite: deadpool::Pool<AsyncSqliteConnection>;
    bb8_sqlite: bb8::Pool<AsyncSqliteConnection>;
    mobc_sqlite: mobc::Pool<AsyncSqliteConnection>;
    deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    bb8_postgresql: bb8::Pool<AsyncPgConnection>;
    mobc_postgresql: mobc::Pool<AsyncPgConnection>;
    deadpool_mariadb: deadpool::Pool<AsyncMysqlConnection>;
    bb8_mariadb: bb8::Pool<AsyncMysqlConnection>;
    mobc_mariadb: mobc::Pool<AsyncMysqlConnection>;
}

// Dropping a query of a `SyncConnectionWrapper` panics on a runtime of one thread, as that of the test.
on_each_pool! {
    { a_dropped_query_is_counted_as_cancelled_once }
    cancelled_deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    cancelled_bb8_postgresql: bb8::Pool<AsyncPgConnection>;
    cancelled_mobc_postgresql: mobc::Pool<AsyncPgConnection>;
    cancelled_deadpool_mariadb: deadpool::Pool<AsyncMysqlConnection>;
    cancelled_bb8_mariadb: bb8::Pool<AsyncMysqlConnection>;
    cancelled_mobc_mariadb: mobc::Pool<AsyncMysqlConnection>;
}

// mobc closes each connection of diesel-async 0.9.2, so that a health check finds none.
on_each_pool! {
    { a_dropped_health_check_leaves_no_answer_behind }
    health_check_deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    health_check_bb8_postgresql: bb8::Pool<AsyncPgConnection>;
    health_check_deadpool_mariadb: deadpool::Pool<AsyncMysqlConnection>;
    health_check_bb8_mariadb: bb8::Pool<AsyncMysqlConnection>;
}

on_each_pool! {
    {
        a_caller_that_leaves_during_the_check_leaves_no_answer_behind
        a_query_dropped_beside_the_pool_leaves_no_answer_behind
    }
    unanswered_deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    unanswered_bb8_postgresql: bb8::Pool<AsyncPgConnection>;
    unanswered_mobc_postgresql: mobc::Pool<AsyncPgConnection>;
    unanswered_deadpool_mariadb: deadpool::Pool<AsyncMysqlConnection>;
    unanswered_bb8_mariadb: bb8::Pool<AsyncMysqlConnection>;
    unanswered_mobc_mariadb: mobc::Pool<AsyncMysqlConnection>;
}

on_each_pool! {
    { a_client_that_leaves_its_query_on_sqlite_harms_nobody_else }
    left_deadpool_sqlite: deadpool::Pool<AsyncSqliteConnection>;
    left_bb8_sqlite: bb8::Pool<AsyncSqliteConnection>;
    left_mobc_sqlite: mobc::Pool<AsyncSqliteConnection>;
}

// deadpool closes a connection of PostgreSQL that has noticed its end without a check, and mobc each one.
on_each_pool! {
    { a_connection_that_its_server_closed_is_lost_in_the_log }
    lost_bb8_postgresql: bb8::Pool<AsyncPgConnection>;
}

// After a dropped query, an `AsyncMysqlConnection` cannot be used any more.
on_each_pool! {
    { a_query_that_is_dropped_and_run_again_is_counted_twice pipelined_queries_are_each_counted_once }
    pipelined_deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    pipelined_bb8_postgresql: bb8::Pool<AsyncPgConnection>;
    pipelined_mobc_postgresql: mobc::Pool<AsyncPgConnection>;
}

// The manager of diesel-async 0.9.2 returns the opposite of what mobc expects: mobc keeps the connections with an open
// transaction and closes the others.
on_each_pool! {
    { a_dropped_transaction_is_rolled_back }
    rolled_back_deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    rolled_back_bb8_postgresql: bb8::Pool<AsyncPgConnection>;
    rolled_back_deadpool_mariadb: deadpool::Pool<AsyncMysqlConnection>;
    rolled_back_bb8_mariadb: bb8::Pool<AsyncMysqlConnection>;
}

on_each_pool! {
    { chaos_leaves_an_exact_ledger }
    chaos_deadpool_postgresql: deadpool::Pool<AsyncPgConnection>;
    chaos_bb8_postgresql: bb8::Pool<AsyncPgConnection>;
}

/// The application over a database of its own.
async fn app_on<P: TestPool>(size: u32) -> Option<(TestApp<P>, Box<dyn Any>)> {
    let (url, database) = P::Connection::database()?;
    Some((app::start(&url, size).await, database))
}

/// The gauges of the pool are at rest.
async fn is_at_rest<P: TestPool>(app: &TestApp<P>) {
    let pool = [("pool", "default")];
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let scrape = app.scrape();
        let waiters = scrape.value("db_pool_waiters", &pool);
        let used = scrape.value("db_pool_checked_out_connections", &pool);
        if (waiters, used) == (0.0, 0.0) {
            return;
        }
        assert!(Instant::now() < deadline, "{waiters} waiters, {used} used");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        actix_web::rt::time::sleep(Duration::from_millis(2)).await;
    }
}

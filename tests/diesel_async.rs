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
#[path = "diesel_async/unanswered.rs"]
mod unanswered;

use std::any::Any;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use actix_vitals::database::{Order, bb8, deadpool, mobc};
use actix_web::http::StatusCode;
use actix_web::{App, HttpServer, web};
use diesel::prelude::*;
use diesel::sql_types::{Double, Text};
use diesel_async::{AsyncConnection, AsyncMysqlConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::future::{join_all, join4};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use app::TestApp;
use engine::{AsyncSqliteConnection, Engine};
use pools::{PATIENCE, TestPool};
use support::database_counts::{database_counts, expected_counts, of_queries, openings};
use support::exposition::Exposition;
use support::log::Log;
use unanswered::{
    a_caller_that_leaves_during_the_check_leaves_no_answer_behind,
    a_dropped_health_check_leaves_no_answer_behind,
    a_query_dropped_beside_the_pool_leaves_no_answer_behind,
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

/// The hold times of the endpoints add up to those of the pool.
fn all_holds_are_accounted_for<P: TestPool>(app: &TestApp<P>) {
    let scrape = app.scrape();
    let holds = scrape.series("db_pool_hold_seconds_sum");
    let held = scrape.series("db_pool_held_seconds_total");
    let sum = |series: &[(_, f64)]| series.iter().map(|(_, value)| value).sum::<f64>();
    let (holds, held) = (sum(&holds), sum(&held));
    assert!(holds > 0.0 && held >= 0.99 * holds, "{held} of {holds}");
    assert!(held <= 1.000_001 * holds, "{held} of {holds}");
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

async fn known_traffic_moves_every_family_by_exactly_the_right_amount<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(3).await else {
        return;
    };
    for round in 0..3 {
        for (endpoint, status, queries, connections, more) in [
            ("/none", 200, &[][..], 0.0, &[][..]),
            ("/one", 200, &[("select", 1.0)], 1.0, &[]),
            ("/three", 200, &[("select", 2.0), ("update", 1.0)], 1.0, &[]),
            (
                "/loop",
                200,
                &[("select", 50.0)],
                1.0,
                &[("http_n_plus_one_suspected_total /loop GET", 1.0)],
            ),
            (
                "/unique",
                409,
                &[("insert", 1.0)],
                1.0,
                &[("db_query_errors_total unique_violation insert", 1.0)],
            ),
            (
                "/commit",
                200,
                &[("delete", 1.0), ("insert", 2.0)],
                1.0,
                &[
                    ("db_transactions_total committed", 1.0),
                    ("db_transaction_duration_seconds_count committed", 1.0),
                ],
            ),
            (
                "/rollback",
                200,
                &[("insert", 2.0)],
                1.0,
                &[
                    ("db_transactions_total rolled_back", 1.0),
                    ("db_transaction_duration_seconds_count rolled_back", 1.0),
                ],
            ),
            ("/join", 200, &[("select", 3.0)], 3.0, &[]),
            ("/spawn", 200, &[("select", 1.0)], 1.0, &[]),
        ] {
            let before = app.scrape();
            assert_eq!(app.get(endpoint).await, status, "{endpoint}");
            is_at_rest(&app).await;
            assert_eq!(
                database_counts(&before, &app.scrape()),
                expected_counts(endpoint, queries, connections, more),
                "{endpoint}, round {round}"
            );
        }
        let before = app.scrape();
        assert_eq!(app.get("/stray").await, 200);
        is_at_rest(&app).await;
        let mut stray = of_queries(&[("select", 1.0)], 1.0);
        stray.extend(
            [
                "db_queries_unattributed_total select",
                "http_request_db_queries_count /stray GET",
                "http_request_db_seconds_count /stray GET",
            ]
            .map(|name| (name.to_owned(), 1.0)),
        );
        assert_eq!(database_counts(&before, &app.scrape()), stray);
    }
    all_holds_are_accounted_for(&app);
    let held = |endpoint| {
        let labels = [("pool", "default"), ("endpoint", endpoint)];
        app.scrape().value("db_pool_held_seconds_total", &labels)
    };
    for endpoint in ["/one", "/loop", "/join", "/spawn", "unattributed"] {
        assert!(held(endpoint) > 0.0, "{endpoint}");
    }
}

async fn a_caller_that_gets_no_connection_in_time_is_one_timeout<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    let held = app.pool.get().await.unwrap();
    let before = app.scrape();
    let started = Instant::now();
    assert!(app.pool.get().await.is_err());
    assert!(started.elapsed() >= PATIENCE);
    assert_eq!(
        database_counts(&before, &app.scrape()),
        BTreeMap::from([
            ("db_pool_rejected_total default timeout".to_owned(), 1.0),
            ("db_pool_timeouts_total default".to_owned(), 1.0),
            ("db_pool_wait_seconds_count default".to_owned(), 1.0),
        ])
    );
    drop(held);
    is_at_rest(&app).await;
    assert_eq!(app.get("/one").await, 200);
}

async fn a_caller_that_leaves_is_counted_as_cancelled<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    let held = app.pool.get().await.unwrap();
    let before = app.scrape();
    let waited = tokio::time::timeout(Duration::from_millis(30), app.pool.get()).await;
    assert!(waited.is_err());
    assert_eq!(
        database_counts(&before, &app.scrape()),
        BTreeMap::from([
            ("db_pool_rejected_total default cancelled".to_owned(), 1.0),
            ("db_pool_wait_seconds_count default".to_owned(), 1.0),
        ])
    );
    drop(held);
    is_at_rest(&app).await;
    assert_eq!(app.get("/one").await, 200);
}

async fn the_levels_are_those_of_the_pool<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(3).await else {
        return;
    };
    let mut held = Vec::new();
    for used in 0..=3 {
        is_level(&app, f64::from(used)).await;
        if used < 3 {
            held.push(app.pool.get().await.unwrap());
        }
    }
    drop(held);
    is_level(&app, 0.0).await;
}

/// The exposed level has this many connections in use, and agrees with the status of the pool.
async fn is_level<P: TestPool>(app: &TestApp<P>, used: f64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let scrape = app.scrape();
        let level = ["checked_out", "idle", "max"]
            .map(|part| format!("db_pool_{part}_connections"))
            .map(|name| scrape.value(&name, &[("pool", "default")]));
        let status = app.pool.status().await;
        if level[0] == used && level == status {
            return;
        }
        assert!(Instant::now() < deadline, "{used}: {level:?} {status:?}");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_pool_is_ready_idle_or_busy<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    assert_eq!(app.get("/readyz").await, 200);
    let before = app.scrape();
    assert_eq!(app.get("/readyz").await, 200);
    let held = app.pool.get().await.unwrap();
    // Longer than an answer counts as recent.
    actix_web::rt::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(app.get("/readyz").await, 200);
    drop(held);
    let mut moved = database_counts(&before, &app.scrape());
    moved.retain(|name, _| name.starts_with("db_"));
    assert_eq!(
        moved,
        BTreeMap::from([
            ("db_pool_hold_seconds_count default".to_owned(), 1.0),
            ("db_pool_wait_seconds_count default".to_owned(), 1.0),
        ]),
        "of the test alone"
    );
}

async fn every_opening_is_counted_and_timed<P: TestPool>() {
    let Some((url, _database)) = P::Connection::database() else {
        return;
    };
    let vitals = Vitals::builder().build().unwrap();
    let before = app::scrape(&vitals);
    let pool = P::open(&vitals, "default", &url, 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(pool.get().await.unwrap());
    }
    let [used, idle, _] = pool.status().await;
    assert_eq!(used, 3.0);
    assert_eq!(openings(&before, &app::scrape(&vitals)), used + idle);
}

async fn an_unreachable_database_is_an_open_error<P: TestPool>() {
    let vitals = Vitals::builder().build().unwrap();
    let pool = P::open(&vitals, "default", P::Connection::NOWHERE, 1).await;
    let before = app::scrape(&vitals);
    assert!(pool.get().await.is_err());
    let after = app::scrape(&vitals);
    let mut rises = database_counts(&before, &after);
    // bb8 tries again until the timeout.
    let errors = rises.remove("db_connection_open_errors_total ");
    assert!(errors >= Some(1.0), "{errors:?}");
    rises.retain(|name, _| !name.contains("timeout"));
    let waits = ("db_pool_wait_seconds_count default".to_owned(), 1.0);
    assert_eq!(rises, BTreeMap::from([waits]));
    assert_eq!(openings(&before, &after), 0.0);
}

async fn a_dropped_query_is_counted_as_cancelled_once<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    for _ in 0..3 {
        let before = app.scrape();
        assert_eq!(app.get("/dropped").await, 200);
        is_at_rest(&app).await;
        let cancelled = [("db_query_errors_total cancelled select", 1.0)];
        assert_eq!(
            database_counts(&before, &app.scrape()),
            expected_counts("/dropped", &[("select", 1.0)], 1.0, &cancelled)
        );
        let before = app.scrape();
        assert_eq!(
            app.get_with_body("/one").await,
            (StatusCode::OK, String::new())
        );
        is_at_rest(&app).await;
        assert_eq!(
            database_counts(&before, &app.scrape()),
            expected_counts("/one", &[("select", 1.0)], 1.0, &[])
        );
    }
}

/// Whether its stream is read to the end or not.
async fn a_query_whose_rows_are_streamed_is_counted_once<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    for (most, expected) in [(10, 2), (1, 1), (0, 0), (10, 2)] {
        let before = app.scrape();
        let mut connection = app.pool.get().await.unwrap();
        assert_eq!(connection.stream(most).await.unwrap(), expected);
        drop(connection);
        is_at_rest(&app).await;
        let queries = database_counts(&before, &app.scrape());
        for family in ["db_queries_total", "db_query_duration_seconds_count"] {
            let name = format!("{family} select");
            assert_eq!(queries.get(&name), Some(&1.0), "{most}: {queries:?}");
        }
        let has_errors = queries.keys().any(|name| name.contains("errors"));
        assert!(!has_errors, "{most}: {queries:?}");
    }
}

async fn a_query_that_is_dropped_and_run_again_is_counted_twice<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    let before = app.scrape();
    assert_eq!(
        app.get_with_body("/retried").await,
        (StatusCode::OK, String::new())
    );
    is_at_rest(&app).await;
    let cancelled = [("db_query_errors_total cancelled select", 1.0)];
    assert_eq!(
        database_counts(&before, &app.scrape()),
        expected_counts("/retried", &[("select", 2.0)], 1.0, &cancelled)
    );
}

async fn a_dropped_transaction_is_rolled_back<P: TestPool>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    let before = app.scrape();
    assert_eq!(app.get("/dropped_transaction").await, 200);
    is_at_rest(&app).await;
    let queries = [("insert", 1.0), ("select", 1.0)];
    let more = [
        ("db_query_errors_total cancelled select", 1.0),
        ("db_transactions_total rolled_back", 1.0),
        ("db_transaction_duration_seconds_count rolled_back", 1.0),
    ];
    assert_eq!(
        database_counts(&before, &app.scrape()),
        expected_counts("/dropped_transaction", &queries, 1.0, &more)
    );
    let count = app.pool.get().await.unwrap().count().await;
    assert_eq!(count, Ok(2));
}

async fn a_connection_that_its_server_closed_is_lost_in_the_log<P>()
where
    P: TestPool<Connection = AsyncPgConnection>,
{
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::WARN));
    let Some((url, _database)) = AsyncPgConnection::database() else {
        return;
    };
    let app = app::start::<P>(&url, 1).await;
    let mut administrator = AsyncPgConnection::establish(&url).await.unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let killed = diesel::sql_query(kill).execute(&mut administrator).await;
    assert_eq!(killed, Ok(1));
    assert_eq!(app.get("/one").await, 200);
    let log = log.lines();
    let of_health = |line: &&String| line.contains("database::health");
    let lines: Vec<_> = log.iter().filter(of_health).collect();
    let lost = "a pooled connection to the database was lost, and is replaced";
    assert!(lines.len() == 1 && lines[0].contains(lost), "{log:#?}");
}

/// diesel-async blocks until a dropped query of SQLite has ended. A worker of Actix cannot block in that way: it panics.
async fn a_client_that_leaves_its_query_on_sqlite_harms_nobody_else<P>()
where
    P: TestPool<Connection = AsyncSqliteConnection> + Send + Sync,
{
    let (url, _database) = AsyncSqliteConnection::database().unwrap();
    let vitals = Vitals::builder().build().unwrap();
    let pool = P::open(&vitals, "default", &url, 1).await;
    pool.get().await.unwrap().create().await.unwrap();
    let (monitor, data) = (vitals.http(), web::Data::new(pool));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .configure(app::routes::<P>)
            .wrap(monitor.clone())
    })
    .h1_allow_half_closed(false)
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let of = |status: &str, path: &str| {
        let labels = [("endpoint", path), ("http_status", status)];
        app::scrape(&vitals).sum("http_requests_total", &labels)
    };
    for round in 1..=3 {
        let mut leaver = std::net::TcpStream::connect(address).unwrap();
        leaver
            .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        until("the request is served", || {
            app::scrape(&vitals).sum("inprogress_requests", &[]) > 0.0
        })
        .await;
        drop(leaver);
        until("the request is counted", || {
            of("499", "/slow") == f64::from(round)
        })
        .await;
        let answer = client.get(format!("http://{address}/one")).send().await;
        assert_eq!(answer.unwrap().status(), 200);
        until("the answer is counted", || {
            of("200", "/one") == f64::from(round)
        })
        .await;
    }
    // mobc takes a connection back on a task of its own.
    for name in ["db_pool_checked_out_connections", "db_pool_waiters"] {
        until(name, || app::scrape(&vitals).sum(name, &[]) == 0.0).await;
    }
    handle.stop(false).await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        actix_web::rt::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn pipelined_queries_are_each_counted_once<P: TestPool<Connection = AsyncPgConnection>>() {
    let Some((app, _database)) = app_on::<P>(1).await else {
        return;
    };
    let before = app.scrape();
    let connection = app.pool.get().await.unwrap();
    let sleep = |seconds: f64| {
        let mut connection = &*connection;
        async move {
            diesel::select(
                diesel::dsl::sql::<Text>("pg_sleep(")
                    .bind::<Double, _>(seconds)
                    .sql(")::text"),
            )
            .get_result::<String>(&mut connection)
            .await
        }
    };
    let name = |id: i32| {
        let mut connection = &*connection;
        let query = engine::items::table.find(id).select(engine::items::name);
        async move { query.first::<String>(&mut connection).await }
    };
    let (short, long, one, two) = join4(sleep(0.1), sleep(0.2), name(1), name(2)).await;
    assert!(short.is_ok() && long.is_ok());
    assert_eq!(
        (one.unwrap(), two.unwrap()),
        ("one".to_owned(), "two".to_owned())
    );
    drop(connection);
    is_at_rest(&app).await;
    let after = app.scrape();
    let queries = database_counts(&before, &after);
    assert_eq!(queries.get("db_queries_total select"), Some(&4.0));
    assert_eq!(
        queries.get("db_query_duration_seconds_count select"),
        Some(&4.0)
    );
    assert!(
        !queries.keys().any(|name| name.contains("errors")),
        "{queries:?}"
    );
    // PostgreSQL runs them one after the other: 0.1 s, and 0.3 s for each of the others.
    let sum = |scrape: &Exposition| {
        scrape.value("db_query_duration_seconds_sum", &[("operation", "select")])
    };
    let sum = sum(&after) - sum(&before);
    assert!(sum >= 0.99, "{sum}");
    let statements = app.vitals.statements().report(Order::Calls, 10);
    let calls = |part: &str| {
        let rows = statements.iter().filter(|row| row.statement.contains(part));
        rows.map(|row| (row.calls, row.errors)).collect::<Vec<_>>()
    };
    assert_eq!(calls("pg_sleep"), [(2, 0)]);
    assert_eq!(calls("\"items\".\"name\""), [(2, 0)]);
}

/// Random actions of the test of chaos; `VITALS_CHAOS_ACTIONS` sets another number.
const CHAOS_ACTIONS: u64 = 2_000;

/// Clients that act at the same time, on a pool of two connections.
const CHAOS_CLIENTS: u64 = 200;

/// What the clients know of their own actions.
#[derive(Debug, Default)]
struct Ledger {
    actions: AtomicU64,
    /// Calls of `get`.
    gets: AtomicU64,
    /// Connections that `get` returned.
    held: AtomicU64,
    /// Queries whose future was created.
    started: AtomicU64,
    /// Queries whose future returned.
    ended: AtomicU64,
    /// Those that returned an error of a lost connection.
    lost: AtomicU64,
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    AtomicU64::load(count, Relaxed)
}

impl Ledger {
    async fn query(&self, connection: &mut AsyncPgConnection, sql: &str) {
        add(&self.started);
        let result = diesel::sql_query(sql.to_owned()).execute(connection).await;
        add(&self.ended);
        if let Err(error) = result {
            let error = error.to_string();
            let lost = ["connection", "communicating"];
            if lost.iter().any(|word| error.contains(word)) {
                add(&self.lost);
            }
        }
    }
}

/// Drops a future after some polls.
async fn drop_after<F: Future>(future: F, polls: u64) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        let polled = future.as_mut().poll(cx).map(drop);
        if left == 0 { Poll::Ready(()) } else { polled }
    })
    .await;
}

async fn act<P: TestPool<Connection = AsyncPgConnection>>(
    pool: &P,
    ledger: &Ledger,
    random: &mut StdRng,
) {
    let kind = random.random_range(0..1000);
    let queries = random.random_range(1..4);
    let work = async {
        add(&ledger.gets);
        let Ok(mut connection) = pool.get().await else {
            return;
        };
        add(&ledger.held);
        match kind {
            0..2 => {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                ledger.query(&mut connection, kill).await;
            }
            2..300 => {
                let result = connection
                    .transaction(async |connection| {
                        ledger.query(connection, "SELECT count(*) FROM items").await;
                        Err::<(), _>(diesel::result::Error::RollbackTransaction)
                    })
                    .await;
                assert!(result.is_err());
            }
            _ => {
                for _ in 0..queries {
                    ledger
                        .query(&mut connection, "SELECT pg_sleep(0.0005)")
                        .await;
                }
            }
        }
    };
    if random.random_bool(0.3) {
        drop_after(work, random.random_range(1..12)).await;
    } else {
        work.await;
    }
}

async fn chaos_leaves_an_exact_ledger<P: TestPool<Connection = AsyncPgConnection>>() {
    let Some((app, _database)) = app_on::<P>(2).await else {
        return;
    };
    let actions = std::env::var("VITALS_CHAOS_ACTIONS").ok();
    let actions = actions.map_or(CHAOS_ACTIONS, |actions| actions.parse().unwrap());
    let before = app.scrape();
    let ledger = Ledger::default();
    let clients = (0..CHAOS_CLIENTS).map(|seed| {
        let (pool, ledger) = (app.pool.clone(), &ledger);
        async move {
            let mut random = StdRng::seed_from_u64(seed);
            while read(&ledger.actions) < actions {
                add(&ledger.actions);
                act(&pool, ledger, &mut random).await;
            }
        }
    });
    join_all(clients).await;
    is_at_rest(&app).await;
    // Both connections can still be had.
    let both = (app.pool.get().await.unwrap(), app.pool.get().await.unwrap());
    drop(both);
    is_at_rest(&app).await;
    let moved = database_counts(&before, &app.scrape());
    let sum = |name: &str, part: &str| -> u64 {
        let samples = moved
            .iter()
            .filter(|(sample, _)| sample.split(' ').next() == Some(name) && sample.contains(part));
        samples.map(|(_, rise)| *rise as u64).sum()
    };
    let why = format!("{ledger:?}: {moved:?}");
    assert_eq!(sum("db_queries_total", ""), read(&ledger.started), "{why}");
    let counted = sum("db_query_duration_seconds_count", "");
    assert_eq!(counted, read(&ledger.started), "{why}");
    // diesel-async reports no end of a query that is under way when its connection is lost.
    let dropped = read(&ledger.started) - read(&ledger.ended);
    let cancelled = sum("db_query_errors_total", "cancelled select");
    let possible = dropped..=dropped + read(&ledger.lost);
    assert!(
        possible.contains(&cancelled),
        "{cancelled}, {possible:?}, {why}"
    );
    // Two calls and two connections are those of the end.
    let holds = sum("db_pool_hold_seconds_count", "");
    assert_eq!(holds, read(&ledger.held) + 2, "{why}");
    let waits = sum("db_pool_wait_seconds_count", "");
    assert_eq!(waits, read(&ledger.gets) + 2, "{why}");
    let left = sum("db_pool_rejected_total", "cancelled");
    let timeouts = sum("db_pool_rejected_total", "timeout");
    assert!(holds + left + timeouts <= waits, "{why}");
    assert!(dropped > 0 && left > 0, "{why}");
    println!("{actions} actions: {why}");
}

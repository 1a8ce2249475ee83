//! Waits for a connection, the levels of a pool, and how its connections are opened and lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use crate::app::{self, TestApp};
use crate::engine::Engine;
use crate::pools::{PATIENCE, TestPool};
use crate::support::database_counts::{database_counts, openings};
use crate::support::log::Log;
use crate::{app_on, is_at_rest};

pub(crate) async fn a_caller_that_gets_no_connection_in_time_is_one_timeout<P: TestPool>() {
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

pub(crate) async fn a_caller_that_leaves_is_counted_as_cancelled<P: TestPool>() {
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

pub(crate) async fn the_levels_are_those_of_the_pool<P: TestPool>() {
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

pub(crate) async fn a_pool_is_ready_idle_or_busy<P: TestPool>() {
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

pub(crate) async fn every_opening_is_counted_and_timed<P: TestPool>() {
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

pub(crate) async fn an_unreachable_database_is_an_open_error<P: TestPool>() {
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

pub(crate) async fn a_connection_that_its_server_closed_is_lost_in_the_log<P>()
where
    P: TestPool<Connection = AsyncPgConnection>,
{
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::WARN));
    let Some((url, _database)) = AsyncPgConnection::database() else {
        return;
    };
    let app = app::start::<P>(&url, 1).await;
    // The explaining connection is another one of this database.
    let named = (app.pool.get_native().await)
        .raw("SET application_name = 'pooled'")
        .await;
    assert_eq!(named, Ok(0));
    let mut administrator = AsyncPgConnection::establish(&url).await.unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'pooled'";
    let killed = diesel::sql_query(kill).execute(&mut administrator).await;
    assert_eq!(killed, Ok(1));
    assert_eq!(app.get("/one").await, 200);
    let log = log.lines();
    let of_health = |line: &&String| line.contains("database::health");
    let lines: Vec<_> = log.iter().filter(of_health).collect();
    let lost = "a pooled connection to the database was lost, and is replaced";
    assert!(lines.len() == 1 && lines[0].contains(lost), "{log:#?}");
}

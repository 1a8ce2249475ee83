//! Known traffic: how much each family moves by it.

use actix_vitals::database::Order;
use diesel::prelude::*;
use diesel::sql_types::{Double, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::join4;

use crate::app::TestApp;
use crate::engine::{self, Engine};
use crate::pools::TestPool;
use crate::support::database_counts::{database_counts, expected_counts, of_queries};
use crate::support::exposition::Exposition;
use crate::{app_on, is_at_rest};

pub(crate) async fn known_traffic_moves_every_family_by_exactly_the_right_amount<P: TestPool>() {
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

/// Whether its stream is read to the end or not.
pub(crate) async fn a_query_whose_rows_are_streamed_is_counted_once<P: TestPool>() {
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

pub(crate) async fn pipelined_queries_are_each_counted_once<
    P: TestPool<Connection = AsyncPgConnection>,
>() {
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

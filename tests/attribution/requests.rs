//! Queries of requests: their counts, wherever the request runs them, and what `Server-Timing` shows of them.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_vitals::Builder;
use actix_vitals::registry::Format;
use diesel::r2d2::{self, ConnectionManager};

use crate::exposition::Exposition;
use crate::support::database_counts::{database_counts, of_queries};
use crate::{Backed, COUNTS, QUERIES, app_on, defaults, moved, moves_exactly};

pub(crate) async fn known_traffic_moves_every_family_by_exactly_the_right_amount<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(2, defaults).await else {
        return;
    };
    for _ in 0..3 {
        moves_exactly(&app, "/none", &[], &[]).await;
        moves_exactly(&app, "/one", &[("select", 1.0)], &[]).await;
        let three = [("select", 2.0), ("update", 1.0)];
        moves_exactly(&app, "/three", &three, &[]).await;
        moves_exactly(&app, "/few", &[("select", 9.0)], &[]).await;
        let in_a_loop = [("http_n_plus_one_suspected_total /loop GET", 1.0)];
        moves_exactly(&app, "/loop", &[("select", 50.0)], &in_a_loop).await;
        let rolled_back = [
            ("db_transactions_total rolled_back", 1.0),
            ("db_transaction_duration_seconds_count rolled_back", 1.0),
        ];
        moves_exactly(&app, "/nested", &[("insert", 3.0)], &rolled_back).await;
        let failed = [("db_query_errors_total unique_violation insert", 1.0)];
        moves_exactly(&app, "/unique", &[("insert", 1.0)], &failed).await;
    }
}

/// A pool that keeps r2d2's type.
pub(crate) async fn a_plain_pool_counts_like_an_instrumented_one<C: Backed>() {
    let Some((url, _database)) = C::database() else {
        return;
    };
    let vitals = Builder::default().build().unwrap();
    let scrape = || {
        let text = vitals.registry().encode(Format::Text);
        Exposition::parse(&String::from_utf8(text).unwrap()).unwrap()
    };
    let before = scrape();
    let builder = r2d2::Pool::builder()
        .max_size(2)
        // The pool opens its connections within that time.
        .connection_timeout(Duration::from_secs(2));
    let pool = vitals
        .monitor("default", builder, ConnectionManager::<C>::new(url))
        .unwrap();
    let opened = |scrape: &Exposition| scrape.sum_rise(&before, "db_connections_opened_total", &[]);
    assert_eq!(opened(&scrape()), 2.0);
    for _ in 0..3 {
        let before = scrape();
        let mut held = pool.get().unwrap();
        for number in 0..6 {
            held.raw(&format!("SELECT {number}")).unwrap();
        }
        let result = held.transaction(|_| Err::<(), _>(diesel::result::Error::RollbackTransaction));
        assert!(result.is_err());
        let other = pool.get().unwrap();
        assert!(pool.get().is_err());
        drop((held, other));
        let mut expected = of_queries(&[("select", 6.0)], 2.0);
        expected.extend(
            [
                ("db_pool_rejected_total default timeout", 1.0),
                ("db_pool_timeouts_total default", 1.0),
                ("db_pool_wait_seconds_count default", 3.0),
                ("db_queries_unattributed_total select", 6.0),
                ("db_transactions_total rolled_back", 1.0),
                ("db_transaction_duration_seconds_count rolled_back", 1.0),
            ]
            .map(|(name, rise)| (name.to_owned(), rise)),
        );
        assert_eq!(database_counts(&before, &scrape()), expected);
    }
    assert_eq!(opened(&scrape()), 2.0);
}

pub(crate) async fn queries_on_other_threads_and_tasks_belong_to_their_request<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(3, defaults).await else {
        return;
    };
    for (endpoint, queries, waits) in [
        ("/block", 2.0, 1.0),
        ("/tasks", 3.0, 3.0),
        ("/thread", 2.0, 1.0),
    ] {
        let before = app.scrape();
        assert_eq!(app.get(endpoint).await.status, 200, "{endpoint}");
        let route = format!("{endpoint} GET");
        assert_eq!(
            moved(&before, &app.scrape(), &COUNTS),
            BTreeMap::from([
                (format!("http_request_db_queries_count {route}"), 1.0),
                (format!("http_request_db_queries_sum {route}"), queries),
                (format!("http_request_db_seconds_count {route}"), 1.0),
                ("db_queries_total select".to_owned(), queries),
                ("db_pool_wait_seconds_count default".to_owned(), waits),
            ]),
            "{endpoint}"
        );
    }
}

pub(crate) async fn a_query_in_the_synchronous_part_of_a_middleware_belongs_to_its_request<
    C: Backed,
>() {
    let Some((app, _database)) = app_on::<C>(2, defaults).await else {
        return;
    };
    let before = app.scrape();
    for _ in 0..193 {
        assert_eq!(app.get("/auth/one").await.status, 200);
    }
    assert_eq!(
        moved(&before, &app.scrape(), &QUERIES),
        BTreeMap::from([
            ("db_queries_total select".to_owned(), 386.0),
            (
                "http_request_db_queries_sum /auth/one GET".to_owned(),
                386.0
            ),
        ])
    );
}

pub(crate) async fn a_query_that_outlives_its_request_is_attributed_at_its_end<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let before = app.scrape();
    assert_eq!(app.get("/late").await.status, 503);
    let queries = [
        "http_request_db_queries_count",
        "http_request_db_queries_sum",
        "db_queries_total",
    ];
    assert!(
        moved(&before, &app.scrape(), &queries).is_empty(),
        "the query is not done yet"
    );
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while moved(&before, &app.scrape(), &queries).len() < 3 {
        assert!(std::time::Instant::now() < deadline, "never attributed");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        moved(&before, &app.scrape(), &queries),
        BTreeMap::from([
            ("http_request_db_queries_count /late GET".to_owned(), 1.0),
            ("http_request_db_queries_sum /late GET".to_owned(), 1.0),
            ("db_queries_total select".to_owned(), 1.0),
        ])
    );
    assert_eq!(
        app.statements("").await[0]["endpoints"],
        serde_json::json!(["GET /late"])
    );
}

pub(crate) async fn a_wait_for_the_pool_is_in_server_timing<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.server_timing(true)).await else {
        return;
    };
    let before = app.scrape();
    let held = app.pool.get().unwrap();
    let release = async {
        while app.scrape().get("db_pool_waiters", &[("pool", "default")]) != Some(1.0) {
            actix_web::rt::time::sleep(Duration::from_millis(1)).await;
        }
        actix_web::rt::time::sleep(Duration::from_millis(60)).await;
        drop(held);
    };
    let (answer, ()) = futures_util::future::join(app.get("/one"), release).await;
    let timing = answer
        .headers
        .get("server-timing")
        .unwrap()
        .to_str()
        .unwrap();
    let parts: Vec<&str> = timing.split(", ").collect();
    let duration = |part: &str, name: &str| -> f64 {
        let rest = part
            .strip_prefix(name)
            .unwrap()
            .strip_prefix(";dur=")
            .unwrap();
        rest.split(';').next().unwrap().parse().unwrap()
    };
    let (database, pool, app_time) = (
        duration(parts[0], "db"),
        duration(parts[1], "pool"),
        duration(parts[2], "app"),
    );
    assert!(parts[0].ends_with(";desc=\"1 query\""), "{timing}");
    assert!(database > 0.0 && pool >= 60.0, "{timing}");
    assert!(app_time >= database + pool, "{timing}");
    let after = app.scrape();
    // The test itself took a connection first.
    assert_eq!(
        moved(
            &before,
            &after,
            &["db_pool_wait_seconds_count", "http_request_db_queries_sum"]
        ),
        BTreeMap::from([
            ("db_pool_wait_seconds_count default".to_owned(), 2.0),
            ("http_request_db_queries_sum /one GET".to_owned(), 1.0),
        ])
    );
    // The wait is not time in the database: both report the same time.
    let seconds = moved(&before, &after, &["http_request_db_seconds_sum"]);
    let agrees = |seconds: &f64| (seconds * 1000.0 - database).abs() < 1.0;
    assert!(seconds.values().all(agrees), "{seconds:?}, {timing}");
}

pub(crate) async fn no_response_has_server_timing_by_default<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    assert!(!app.get("/one").await.headers.contains_key("server-timing"));
}

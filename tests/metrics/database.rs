//! The database metrics: each route runs a known number of queries, and each query uses the pool in a known way.

use std::time::Duration;

use diesel::{Connection as _, PgConnection, connection::SimpleConnection as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::exposition::Exposition;
use crate::support::postgres::Cluster;
use crate::support::server::{Data as _, Server};
use crate::support::settled::{expect_count, settled};
use crate::support::{tools, wait};

const OPERATIONS: [&str; 5] = ["select", "insert", "update", "delete", "other"];

/// The increase of the queries of each operation, in the order of [`OPERATIONS`].
fn rises(after: &Exposition, before: &Exposition, name: &str) -> [f64; 5] {
    OPERATIONS.map(|operation| after.sum_rise(before, name, &[("operation", operation)]))
}

#[tokio::test]
async fn each_route_runs_its_known_queries_and_no_other() {
    let server = Server::start();
    let id = server.create("Ada").await;
    let item = format!("/data/{id}");
    let body = json!({"name": "Ada", "email": "ada@example.com"});
    let cases: [(Method, &str, &Value, [f64; 5]); 11] = [
        (Method::POST, "/data", &body, [0.0, 1.0, 0.0, 0.0, 0.0]),
        (Method::POST, "/data", &json!({}), [0.0; 5]),
        (
            Method::GET,
            "/data",
            &Value::Null,
            [1.0, 0.0, 0.0, 0.0, 0.0],
        ),
        (Method::GET, &item, &Value::Null, [1.0, 0.0, 0.0, 0.0, 0.0]),
        (
            Method::GET,
            "/data/999",
            &Value::Null,
            [1.0, 0.0, 0.0, 0.0, 0.0],
        ),
        (Method::PUT, &item, &body, [0.0, 0.0, 1.0, 0.0, 0.0]),
        (
            Method::DELETE,
            &item,
            &Value::Null,
            [0.0, 0.0, 0.0, 1.0, 0.0],
        ),
        (
            Method::DELETE,
            &item,
            &Value::Null,
            [0.0, 0.0, 0.0, 1.0, 0.0],
        ),
        (
            Method::GET,
            "/health",
            &Value::Null,
            [1.0, 0.0, 0.0, 0.0, 0.0],
        ),
        (Method::GET, "/livez", &Value::Null, [0.0; 5]),
        (Method::GET, "/nowhere", &Value::Null, [0.0; 5]),
    ];
    let mut before = settled(&server).await;
    for (method, path, body, expected) in cases {
        if body.is_null() {
            server.request(method.clone(), path).send().await.unwrap();
        } else {
            server.send(method.clone(), path, body).await;
        }
        let after = settled(&server).await;
        let what = format!("{method} {path}, by {OPERATIONS:?}");
        assert_eq!(
            rises(&after, &before, "db_queries_total"),
            expected,
            "{what}"
        );
        assert_eq!(
            rises(&after, &before, "db_query_duration_seconds_count"),
            expected,
            "{what}"
        );
        let seconds: f64 = rises(&after, &before, "db_query_duration_seconds_sum")
            .iter()
            .sum();
        let some = expected.iter().sum::<f64>() > 0.0;
        assert!(
            if some { seconds > 0.0 } else { seconds == 0.0 },
            "{what}: {seconds} s"
        );
        before = after;
    }
}

#[tokio::test]
async fn every_operation_is_exposed_from_the_start() {
    let server = Server::start();
    let scrape = server.scrape().await;
    for operation in OPERATIONS {
        scrape.value("db_queries_total", &[("operation", operation)]);
        for pool in ["readers", "writers"] {
            let labels = [("operation", operation), ("pool", pool)];
            scrape.value("db_queries_total", &labels);
        }
    }
}

#[tokio::test]
async fn a_pool_at_rest_holds_only_idle_connections() {
    let server = Server::start_with(&["--pool-size", "3"]);
    server.create("Ada").await;
    let scrape = settled(&server).await;
    let pools =
        |name: &str| ["readers", "writers"].map(|pool| scrape.value(name, &[("pool", pool)]));
    let none = [0.0, 0.0];
    assert_eq!(pools("db_pool_checked_out_connections"), none);
    assert_eq!(pools("db_pool_waiters"), none);
    assert_eq!(pools("db_pool_max_connections"), [2.0, 1.0]);
    let idle: f64 = pools("db_pool_idle_connections").iter().sum();
    assert!((1.0..=3.0).contains(&idle), "{idle} idle");
    assert_eq!(pools("db_pool_timeouts_total"), none);
    for reason in ["saturated", "timeout", "cancelled"] {
        for pool in ["readers", "writers"] {
            let labels = [("pool", pool), ("reason", reason)];
            expect_count(scrape.value("db_pool_rejected_total", &labels), 0, reason);
        }
    }
    expect_count(
        scrape.sum("db_connection_open_errors_total", &[]),
        0,
        "failed openings",
    );
    let opened = scrape.sum("db_connections_opened_total", &[]);
    assert!(
        opened >= idle && opened <= 4.0,
        "{opened} opened, {idle} idle"
    );
    let timed = scrape.sum("db_connection_open_seconds_count", &[]);
    assert!(timed == opened, "{timed} timed, {opened} opened");
}

#[tokio::test]
async fn each_checkout_is_waited_for_once_and_held_once() {
    let server = Server::start();
    let id = server.create("Ada").await;
    let before = settled(&server).await;
    for _ in 0..5 {
        server.get(&format!("/data/{id}")).await;
    }
    let after = settled(&server).await;
    for name in ["db_pool_wait_seconds", "db_pool_hold_seconds"] {
        let count = format!("{name}_count");
        let [readers, writers] =
            ["readers", "writers"].map(|pool| after.rise(&before, &count, &[("pool", pool)]));
        expect_count(readers, 5, name);
        expect_count(writers, 0, name);
    }
    let readers = [("pool", "readers")];
    assert!(after.rise(&before, "db_pool_hold_seconds_sum", &readers) > 0.0);
}

/// Waits for these numbers of checked-out connections, waiting callers and idle connections.
async fn pool_comes_to(server: &Server, levels: [f64; 3]) -> Exposition {
    wait::until("the pool", Duration::from_secs(10), async || {
        let scrape = server.scrape().await;
        let seen = [
            "db_pool_checked_out_connections",
            "db_pool_waiters",
            "db_pool_idle_connections",
        ]
        .map(|name| scrape.value(name, &[("pool", "default")]));
        if seen == levels {
            Ok(scrape)
        } else {
            Err(format!("it is at {seen:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn a_full_pool_shows_who_holds_and_who_waits_and_counts_who_gives_up() {
    let test = "a_full_pool_shows_who_holds_and_who_waits_and_counts_who_gives_up";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    // Longer than the pool timeout, so that a statement keeps its connection when its request has been answered.
    database.execute(
        "DO $$ BEGIN
             EXECUTE format('ALTER DATABASE %I SET statement_timeout = 60000', current_database());
         END $$",
    );
    // The scrapes and the readiness below are asked for within the timeout.
    let flags = ["--pool-size", "1", "--pool-timeout", "5s"];
    let server = Server::start_on(database, &flags);
    server.create("Ada").await;
    let before = settled(&server).await;

    // Another connection locks the table, so a creation holds the only connection of the pool.
    let mut blocker = PgConnection::establish(&server.data().url()).unwrap();
    blocker
        .batch_execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let item = json!({"name": "Holder", "email": "ada@example.com"});
    let holder = server.send(Method::POST, "/data", &item);
    let others = async {
        // The second request must come after the first one has the connection.
        pool_comes_to(&server, [1.0, 0.0, 0.0]).await;
        let watch = async {
            let full = pool_comes_to(&server, [1.0, 1.0, 0.0]).await;
            let in_progress = full.value("inprogress_requests", &[]);
            expect_count(in_progress, 3, "holder, waiter and scrape");
            let ready = server.get("/readyz").await;
            assert_eq!(ready.status, 200, "busy is not gone: {}", ready.text);
        };
        let (refused, ()) = tokio::join!(server.get("/data"), watch);
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert_eq!(refused.header("content-type"), "application/problem+json");
    };
    let (held, ()) = tokio::join!(holder, others);
    assert_eq!(held.status, 503, "{}", held.text);
    blocker.batch_execute("COMMIT").unwrap();

    pool_comes_to(&server, [0.0, 0.0, 1.0]).await;
    let after = settled(&server).await;
    let pool = [("pool", "default")];
    expect_count(
        after.rise(&before, "db_pool_timeouts_total", &pool),
        1,
        "timeouts",
    );
    expect_count(after.value("db_pool_waiters", &pool), 0, "waiters");
    expect_count(
        after.value("db_pool_checked_out_connections", &pool),
        0,
        "checked out",
    );
    let rejected = ["saturated", "timeout", "cancelled"].map(|reason| {
        after.rise(
            &before,
            "db_pool_rejected_total",
            &[pool[0], ("reason", reason)],
        )
    });
    assert_eq!(rejected, [0.0, 1.0, 0.0]);
    let held = after.rise(&before, "db_pool_hold_seconds_sum", &pool);
    assert!(held > 1.0, "the holder held for {held} s");
    assert_eq!(
        rises(&after, &before, "db_queries_total")[..2],
        [0.0, 1.0],
        "who gave up ran no query"
    );
}

//! Queries and transactions whose future is dropped.

use std::io::Write as _;

use actix_vitals::Vitals;
use actix_web::http::StatusCode;
use actix_web::{App, HttpServer, web};

use crate::app;
use crate::engine::{AsyncSqliteConnection, Engine};
use crate::pools::TestPool;
use crate::support::database_counts::{database_counts, expected_counts};
use crate::{app_on, is_at_rest, until};

pub(crate) async fn a_dropped_query_is_counted_as_cancelled_once<P: TestPool>() {
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

pub(crate) async fn a_query_that_is_dropped_and_run_again_is_counted_twice<P: TestPool>() {
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

pub(crate) async fn a_dropped_transaction_is_rolled_back<P: TestPool>() {
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

/// diesel-async blocks until a dropped query of SQLite has ended. A worker of Actix cannot block in that way: it panics.
pub(crate) async fn a_client_that_leaves_its_query_on_sqlite_harms_nobody_else<P>()
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

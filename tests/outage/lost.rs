//! Connections that are lost between two uses: no read loses its answer, a write that does is answered with 503, and
//! everything is counted once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::exposition::Exposition;
use crate::support::postgres::{Cluster, Database};
use crate::support::server::Server;
use crate::support::settled::{expect_count, settled};
use crate::support::{tools, wait};

/// Requests at a time, more than there are connections.
const AT_A_TIME: usize = 8;

/// How long the pool may take to open its connections.
const BOUND: Duration = Duration::from_secs(60);

/// A service whose connections are not checked before each use; `None` once the skip of `test` is recorded.
async fn start(test: &str) -> Option<(Arc<Database>, Server, i64)> {
    let database = Cluster::shared(&tools::postgres(test)?).database();
    let flags = ["--pool-size=4", "--pool-check-after=1h"];
    let server = Server::start_on(database.clone(), &flags);
    let id = server.create("Ada").await;
    read(&server, id).await;
    Some((database, server, id))
}

/// Ends all connections, once each of them is open: an opening that fails would be an outage.
async fn lose_connections(server: &Server, database: &Database) {
    wait::until("four connections", BOUND, async || {
        let scrape = server.scrape().await;
        let idle = scrape.value("db_pool_idle_connections", &[("pool", "default")]);
        (idle >= 4.0).then_some(()).ok_or(idle)
    })
    .await;
    database.terminate_backends();
}

/// Reads the list and an item, several at a time.
async fn read(server: &Server, id: i64) {
    let item = format!("/data/{id}");
    let reads = (0..AT_A_TIME).map(|number| {
        let path = if number % 2 == 0 { "/data" } else { &item };
        server.get(path)
    });
    for answer in join_all(reads).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.contains("Ada"), "{}", answer.text);
    }
}

/// How many statements failed because their connection was lost.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter has a small whole number"
)]
fn losses(before: &Exposition, after: &Exposition, operation: &str) -> usize {
    let labels = [("operation", operation), ("kind", "connection_lost")];
    after.sum_rise(before, "db_query_errors_total", &labels) as usize
}

/// Each statement is counted once, and so are the connections that were taken for them.
fn counts_statements(before: &Exposition, after: &Exposition, operation: &str, expected: usize) {
    let labels = [("operation", operation)];
    for name in ["db_queries_total", "db_query_duration_seconds_count"] {
        let counted = after.sum_rise(before, name, &labels);
        expect_count(counted, expected, &format!("{name} of {operation}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_between_two_uses_costs_no_read_its_answer() {
    let test = "a_connection_that_is_lost_between_two_uses_costs_no_read_its_answer";
    let Some((database, server, id)) = start(test).await else {
        return;
    };
    let before = settled(&server).await;
    let rounds = 5;
    for _ in 0..rounds {
        lose_connections(&server, &database).await;
        read(&server, id).await;
    }
    let after = settled(&server).await;
    let lost = losses(&before, &after, "select");
    assert!(lost >= rounds, "{lost} connections were found lost");
    // Each read ran once, and once more if its connection was lost.
    let runs = rounds * AT_A_TIME + lost;
    counts_statements(&before, &after, "select", runs);
    for name in [
        "db_pool_wait_seconds_count",
        "db_pool_hold_seconds_count",
        "http_request_db_queries_sum",
    ] {
        expect_count(after.sum_rise(&before, name, &[]), runs, name);
    }
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_a_lost_connection_is_answered_with_503_and_the_next_one_succeeds() {
    let test = "a_write_on_a_lost_connection_is_answered_with_503_and_the_next_one_succeeds";
    let Some((database, server, id)) = start(test).await else {
        return;
    };
    let before = settled(&server).await;
    let rounds = 5;
    for _ in 0..rounds {
        read(&server, id).await;
        lose_connections(&server, &database).await;
        let item = json!({"name": "Grace", "email": "grace@example.com"});
        let refused = server.send(Method::POST, "/data", &item).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert!(!refused.header("retry-after").is_empty());
        let created = server.send(Method::POST, "/data", &item).await;
        assert_eq!(created.status, 201, "{}", created.text);
    }
    let after = settled(&server).await;
    assert_eq!(losses(&before, &after, "insert"), rounds);
    counts_statements(&before, &after, "insert", rounds * 2);
    let refused = [("method", "POST"), ("http_status", "503")];
    let refused = after.sum_rise(&before, "http_requests_total", &refused);
    expect_count(refused, rounds, "answers with 503");
    let items = server.get("/data").await.text;
    assert_eq!(items.matches("\"Grace\"").count(), rounds);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_that_are_replaced_are_one_line_of_the_log() {
    let test = "lost_connections_that_are_replaced_are_one_line_of_the_log";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    let flags = ["--pool-size=4", "--pool-check-after=0s"];
    let server = Server::start_on(database.clone(), &flags);
    let id = server.create("Ada").await;
    for _ in 0..5 {
        read(&server, id).await;
        lose_connections(&server, &database).await;
    }
    read(&server, id).await;
    let lost = "a pooled connection to the database was lost, and is replaced";
    let log = server.log_with(lost, 1).await;
    assert_eq!(log.matches(lost).count(), 1, "{log}");
    assert_eq!(
        log.matches("no connection to the database").count(),
        0,
        "{log}"
    );
    assert_eq!(log.matches("accepts connections again").count(), 0, "{log}");
    assert_eq!(server.stop(), Some(0));
}

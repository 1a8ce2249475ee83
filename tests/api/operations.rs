//! The endpoints for operators and visitors beside the data: greeting, health, liveness, readiness, the scrape.

use reqwest::Method;

use super::{start, start_with};
use crate::problem::expect_problem;
use crate::server::Answer;
use crate::snapshot::expect_stored;

#[tokio::test]
async fn a_healthy_service_says_so() {
    let server = start();
    let health = server.get("/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.header("content-type"), "application/json");
    expect_stored("healthy", &health.json());
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_unreachable_database_is_told_by_health_and_readiness_but_not_by_liveness() {
    let server = start_with(&["--pool-size", "1", "--pool-timeout", "200ms"]);
    server.create("Ada").await;
    // The table goes away under the running service, which no query survives.
    server
        .data()
        .execute("ALTER TABLE items RENAME TO elsewhere");

    let health = server.get("/health").await;
    assert_eq!(health.status, 503, "{}", health.text);
    let told = health.json();
    assert_eq!(
        (&told["status"], &told["database"]),
        (&"error".into(), &"unreachable".into())
    );
    assert!(
        told["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty()),
        "{told}"
    );
    assert!(
        !health.text.contains("vitals.db")
            && !health.text.contains("127.0.0.1")
            && !health.text.contains("items"),
        "{told}"
    );
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/livez").await.status, 200);
    let refused = expect_problem(&server.get("/data").await, 503, "a query that fails");
    assert!(!refused.to_string().contains("items"), "{refused}");
}

#[tokio::test]
async fn the_greeting_links_to_what_there_is() {
    let server = start();
    let greeting = server.get("/").await;
    assert_eq!(greeting.status, 200);
    for path in ["/data", "/health", "/metrics"] {
        assert!(
            greeting.text.contains(path),
            "{path} is not in {}",
            greeting.text
        );
    }
}

#[tokio::test]
async fn the_operators_endpoints_move_to_a_listener_of_their_own() {
    let mut server = start_with(&["--ops-listen", "127.0.0.1:0"]);
    let operators = server.next_address();
    assert_ne!(operators, server.url(""));
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        expect_problem(&server.get(path).await, 404, path);
        let there = reqwest::get(format!("{operators}{path}"))
            .await
            .expect("an answer");
        assert_eq!(there.status(), 200, "{path}");
    }
    server.create("Ada").await;
    let there = reqwest::get(format!("{operators}/data"))
        .await
        .expect("an answer");
    assert_eq!(there.status(), 404, "the data stays on the public listener");
}

#[tokio::test]
async fn the_scrape_refuses_other_methods() {
    let server = start();
    for path in ["/metrics", "/health", "/livez", "/readyz"] {
        let answer = Answer::of(server.request(Method::POST, path)).await;
        expect_problem(&answer, 405, path);
        assert!(
            answer.header("allow").contains("GET"),
            "{path} allows {}",
            answer.header("allow")
        );
    }
}

#[tokio::test]
async fn a_stop_signal_ends_the_service_in_order() {
    let server = start();
    server.create("Ada").await;
    assert_eq!(server.stop(), Some(0));
}

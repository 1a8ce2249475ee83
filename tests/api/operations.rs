//! The endpoints beside the data: greeting, description, health, liveness, readiness, the scrape.

use reqwest::Method;

use super::{start, start_with};
use crate::api::problem::expect_problem;
use crate::api::snapshot::expect_stored;
use crate::support::server::Answer;

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
async fn an_unreachable_database_shows_in_health_and_readiness_but_not_in_liveness() {
    // The connection is opened within the timeout, too.
    let server = start_with(&["--pool-size", "1", "--pool-timeout", "1s"]);
    server.create("Ada").await;
    // Removes the table of the running service, so that each query fails.
    server
        .data()
        .execute("ALTER TABLE items RENAME TO elsewhere");

    let health = server.get("/health").await;
    assert_eq!(health.status, 503, "{}", health.text);
    let problem = health.json();
    assert_eq!(
        (&problem["status"], &problem["database"]),
        (&"error".into(), &"unreachable".into())
    );
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty()),
        "{problem}"
    );
    assert!(
        !health.text.contains("vitals.db")
            && !health.text.contains("127.0.0.1")
            && !health.text.contains("items"),
        "{problem}"
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
    let greeting = greeting.json();
    let links = greeting["links"].as_object().expect("links");
    for path in ["/data", "/docs", "/health", "/metrics", "/openapi.json"] {
        assert_eq!(links[&path[1..]], path);
    }
    for path in links.values().filter_map(serde_json::Value::as_str) {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_operators_endpoints_move_to_a_listener_of_their_own() {
    let mut server = start_with(&["--ops-listen", "127.0.0.1:0"]);
    let operators = server.next_address();
    assert_ne!(operators, server.url(""));
    for path in ["/livez", "/readyz", "/health", "/metrics", "/docs"] {
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

    let public = server.get("/openapi.json").await.json();
    assert!(public["paths"]["/metrics"].is_null() && public["paths"]["/data"].is_object());
    let there = reqwest::get(format!("{operators}/openapi.json"))
        .await
        .expect("an answer");
    let whole: serde_json::Value = there.json().await.expect("JSON");
    assert!(whole["paths"]["/metrics"].is_object());
    assert_eq!(whole["paths"]["/data"]["servers"][0]["url"], server.url(""));
}

#[tokio::test]
async fn the_page_about_the_api_loads_from_its_own_server_alone() {
    let server = start();
    let page = server.get("/docs").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let parts: Vec<&str> = ["href=\"", "src=\""]
        .iter()
        .flat_map(|attribute| page.text.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .filter(|part| !part.starts_with("data:"))
        .collect();
    assert_eq!(parts.len(), 3, "{}", page.text);
    for part in parts {
        let path = format!("/{part}");
        let plain = server.get(&path).await;
        assert_eq!(
            (plain.status, plain.header("content-encoding")),
            (200, ""),
            "{path}"
        );
        assert_eq!(plain.header("x-content-type-options"), "nosniff", "{path}");
        let packed = server
            .request(Method::GET, &path)
            .header("accept-encoding", "gzip");
        let packed = packed.send().await.expect("an answer");
        assert_eq!(packed.headers()["vary"], "Accept-Encoding", "{path}");
        if !path.ends_with("initializer.js") {
            assert_eq!(packed.headers()["content-encoding"], "gzip", "{path}");
        }
    }
    let start = server.get("/docs/swagger-initializer.js").await.text;
    assert!(
        start.contains("\"url\": \"openapi.json\"") && !start.contains("://"),
        "{start}"
    );
    expect_problem(
        &server.get("/docs/index.html").await,
        404,
        "no part of the page",
    );
}

#[tokio::test]
async fn what_is_only_read_refuses_other_methods() {
    let server = start();
    for path in [
        "/metrics",
        "/health",
        "/livez",
        "/readyz",
        "/docs",
        "/openapi.json",
    ] {
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

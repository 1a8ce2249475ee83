//! The line of code of suspicious statements, and what is suspected of them.

use std::time::{Duration, Instant};

use actix_vitals::Builder;
use serde_json::Value;

use crate::{
    Backed,
    app::{Engine, TestApp},
    app_on, defaults,
    support::log::Log,
};

/// The first look-up of an unoptimised test takes seconds on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// Waits for a line of the log with this text.
pub(crate) async fn logged(log: &Log, text: &str) -> String {
    let deadline = Instant::now() + BOUND;
    loop {
        let lines = log.lines();
        if let Some(line) = lines.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        assert!(Instant::now() < deadline, "{text}: {lines:?}");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the service answers about the statements with this text in their shape.
async fn details<C: Engine>(app: &TestApp<C>, text: &str) -> Vec<Value> {
    let mut details = Vec::new();
    for statement in app.statements("").await {
        if statement["statement"].as_str().unwrap().contains(text) {
            let answer = app
                .get(&format!("/ops/statements/{}", statement["id"]))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            details.push(serde_json::from_str(&answer.body).unwrap());
        }
    }
    details
}

/// Waits until the line of the statements with this text is known, and returns their code locations.
async fn locations<C: Engine>(app: &TestApp<C>, text: &str) -> Vec<Value> {
    let deadline = Instant::now() + BOUND;
    loop {
        let details = details(app, text).await;
        let lists = details
            .iter()
            .map(|detail| detail["code_locations"].as_array().unwrap());
        let found: Vec<Value> = lists.flatten().cloned().collect();
        let is_known = |location: &Value| {
            location["line"].is_u64() || location["note"] != "the stack is not symbolised yet"
        };
        if !found.is_empty() && found.iter().all(is_known) {
            return found;
        }
        assert!(Instant::now() < deadline, "{details:?}");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
}

fn repeated<C: Engine>(app: &TestApp<C>, endpoint: &str, kind: &str) -> f64 {
    let labels = [("method", "GET"), ("endpoint", endpoint), ("kind", kind)];
    (app.scrape().series("http_repeated_queries_total").iter())
        .filter(|(of_series, _)| {
            labels
                .iter()
                .all(|(name, value)| of_series[*name] == *value)
        })
        .map(|(_, value)| value)
        .sum()
}

pub(crate) async fn a_loop_is_named_with_its_kind_and_its_line<C: Backed>() {
    for (endpoint, kind, statement, message, function) in [
        ("/loop", "n_plus_one", "items", "N+1", "name_of"),
        (
            "/same",
            "identical",
            "items",
            "with the same values",
            "name_of",
        ),
        (
            "/serial",
            "serial",
            "FROM items",
            "read the same rows",
            "raw",
        ),
    ] {
        let log = Log::default();
        let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::TRACE));
        let Some((app, _database)) = app_on::<C>(1, defaults).await else {
            return;
        };
        // The line of serial reads is found in the second request, and logged in the third.
        for _ in 0..3 {
            assert_eq!(app.get(endpoint).await.status, 200);
        }
        assert_eq!(repeated(&app, endpoint, kind), 3.0, "{endpoint}");
        for other in ["n_plus_one", "identical", "serial"] {
            assert!(
                other == kind || repeated(&app, endpoint, other) == 0.0,
                "{other}"
            );
        }
        let found = locations(&app, statement).await;
        let location = &found[0];
        assert_eq!(location["endpoint"], endpoint, "{found:?}");
        assert_eq!(location["method"], "GET");
        assert_eq!(location["suspicions"][0]["suspicion"], kind, "{found:?}");
        assert!(location["suspicions"][0]["advice"].is_string());
        assert_eq!(location["file"], "tests/attribution/app.rs", "{found:?}");
        let named = location["function"].as_str().unwrap();
        assert!(named.contains(function), "{named}");
        let line = logged(&log, message).await;
        let at = format!("at=\"tests/attribution/app.rs:{} in ", location["line"]);
        assert!(line.contains(&at), "{at}: {line}");
        assert!(line.contains(&format!("kind=\"{kind}\"")), "{line}");
        assert!(line.contains(&format!("endpoint=\"{endpoint}\"")), "{line}");
        let lines = log.lines();
        let count = lines
            .iter()
            .filter(|line| line.contains("a request or job ran"))
            .count();
        assert_eq!(count, 1, "{lines:?}");
    }
}

pub(crate) async fn a_stack_is_captured_once_for_each_statement_and_endpoint<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    let captured = || {
        app.scrape()
            .value("db_statement_locations_captured_total", &[])
    };
    for _ in 0..20 {
        app.get("/loop").await;
        app.get("/same").await;
    }
    assert_eq!(captured(), 2.0);
    let endpoints: Vec<_> = locations(&app, "items").await;
    let mut endpoints: Vec<_> = endpoints
        .iter()
        .map(|location| location["endpoint"].as_str().unwrap())
        .collect();
    endpoints.sort_unstable();
    assert_eq!(endpoints, ["/loop", "/same"]);
}

pub(crate) async fn a_slow_statement_is_logged_with_its_line<C: Backed>() {
    let everything_is_slow = |builder: Builder| builder.slow_query(Duration::from_nanos(1));
    let Some((app, _database)) = app_on::<C>(1, everything_is_slow).await else {
        return;
    };
    assert_eq!(app.get("/slow_count").await.status, 200);
    // The query ran on a thread of the pool.
    let line = logged(&crate::LOG, "endpoint=\"/slow_count\"").await;
    for part in [
        "threshold of slow queries",
        "at=\"tests/attribution/app.rs:",
        "method=\"GET\"",
        "operation=\"select\"",
        "COUNT",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let found = locations(&app, "COUNT").await;
    assert_eq!(found[0]["suspicions"][0]["suspicion"], "slow", "{found:?}");
}

pub(crate) async fn a_slow_statement_that_is_not_kept_is_logged_with_its_operation<C: Backed>() {
    let one_is_kept = |builder: Builder| builder.slow_query(Duration::from_nanos(1)).statements(1);
    let Some((app, _database)) = app_on::<C>(1, one_is_kept).await else {
        return;
    };
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::TRACE));
    let mut connection = app.pool.get().unwrap();
    connection.raw("SELECT 1").unwrap();
    let deadline = Instant::now() + BOUND;
    // At most one line a second is written, on this thread: no line of code is looked for.
    loop {
        connection.raw("DELETE FROM items WHERE id = 4711").unwrap();
        let lines = log.lines();
        let mut of_other = lines.iter().filter(|line| line.contains("(other)"));
        if of_other.any(|line| line.contains("operation=\"delete\"")) {
            break;
        }
        assert!(Instant::now() < deadline, "{lines:?}");
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn harmless_requests_raise_nothing<C: Backed>() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::TRACE));
    let patient = |builder: Builder| builder.slow_query(Duration::from_secs(3600));
    let Some((app, _database)) = app_on::<C>(1, patient).await else {
        return;
    };
    for _ in 0..5 {
        for endpoint in ["/none", "/one", "/three", "/few", "/two_columns", "/nested"] {
            app.get(endpoint).await;
        }
    }
    let scrape = app.scrape();
    assert_eq!(
        scrape.value("db_statement_locations_captured_total", &[]),
        0.0
    );
    assert!(scrape.series("http_repeated_queries_total").is_empty());
    assert!(
        !log.text().contains("a request or job ran"),
        "{}",
        log.text()
    );
}

pub(crate) async fn no_line_is_found_if_that_is_turned_off<C: Backed>() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::TRACE));
    let without = |builder: Builder| builder.code_locations(false);
    let Some((app, _database)) = app_on::<C>(1, without).await else {
        return;
    };
    app.get("/loop").await;
    app.get("/serial").await;
    // Nothing is waited for: the lines are there when the requests are over.
    let lines = log.lines();
    let suspicions: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("a request or job ran"))
        .collect();
    assert_eq!(suspicions.len(), 2, "{lines:?}");
    assert!(
        suspicions.iter().all(|line| !line.contains(" at=")),
        "{lines:?}"
    );
    assert_eq!(
        app.scrape()
            .value("db_statement_locations_captured_total", &[]),
        0.0
    );
    for detail in details(&app, "items").await {
        assert_eq!(detail["code_locations"], Value::Array(Vec::new()));
    }
}

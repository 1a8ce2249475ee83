//! The filter of the log at run time: `PUT /ops/log` of the real binary.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::server::{Answer, Server};
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(30);

async fn put(server: &Server, query: &str) -> Answer {
    Answer::of(server.request(Method::PUT, &format!("/ops/log?{query}"))).await
}

/// The filter that `GET /ops` shows.
async fn shown(server: &Server) -> Value {
    server.get("/ops").await.json()["log"].clone()
}

/// The number of the log's lines of level `trace` after one more request.
async fn traces(server: &Server) -> usize {
    assert_eq!(server.get("/livez").await.status, 200);
    server.stderr().matches("TRACE").count()
}

#[tokio::test]
async fn another_filter_is_used_for_its_time_and_each_change_is_logged() {
    let server = Server::start_with(&["--log", "warn"]);
    let at_rest = json!({"filter": "warn", "configured": "warn", "until": null});
    assert_eq!(shown(&server).await, at_rest);
    assert_eq!(traces(&server).await, 0);

    let answer = put(&server, "filter=warn,actix_http%3Dtrace&seconds=2").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["filter"], "warn,actix_http=trace");
    wait::until("a line of level trace", BOUND, async || {
        let traces = traces(&server).await;
        (traces > 0).then_some(()).ok_or(traces)
    })
    .await;

    wait::until("the configured filter", BOUND, async || {
        let shown = shown(&server).await;
        (shown == at_rest).then_some(()).ok_or(shown)
    })
    .await;
    let [changed, configured] = [
        "the filter of the log is changed",
        "the filter of the log is the configured one again",
    ];
    // The lines before it have been read, too.
    server.log_with(configured, 1).await;
    let before = traces(&server).await;
    assert_eq!(traces(&server).await, before, "no line follows");

    let log = server.stderr();
    for line in [changed, configured] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_filter_that_is_not_valid_changes_nothing() {
    let server = Server::start();
    let before = shown(&server).await;
    for query in [
        "",
        "filter=info",
        "filter=loud&seconds=1",
        "filter=info&seconds=0",
    ] {
        let answer = put(&server, query).await;
        assert_eq!(answer.status, 422, "{query}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert_eq!(
        Answer::of(server.request(Method::GET, "/ops/log"))
            .await
            .status,
        405
    );
    assert_eq!(shown(&server).await, before);
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_change_the_filter() {
    let server = Server::start();
    let request = server.request(Method::PUT, "/ops/log?filter=off&seconds=60");
    let answer = Answer::of(request.header("sec-fetch-site", "cross-site")).await;
    assert_eq!(answer.status, 403);
    assert_eq!(shown(&server).await["until"], Value::Null);
}

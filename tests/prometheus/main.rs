//! A real Prometheus scrapes a real server under load and answers every query of the cookbook.
//!
//! The cookbook itself, `docs/promql.md`, is the list of queries: none stands here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

#[path = "../support/exposition.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod exposition;
#[path = "../support/prometheus.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod prometheus;
#[path = "../support/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;
#[path = "../support/tools.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tools;
#[path = "../support/wait.rs"]
mod wait;

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::json;

use prometheus::Prometheus;
use server::Server;

/// How long a query may go without an answer: rates need two scrapes of a series that exists.
const ANSWER_BOUND: Duration = Duration::from_secs(60);

/// The queries of the cookbook, in order.
fn cookbook() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/promql.md");
    promql_blocks(&std::fs::read_to_string(path).expect("the cookbook can be read"))
}

/// The contents of all fenced blocks marked `promql`.
fn promql_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in markdown.lines() {
        match (&mut open, line.trim()) {
            (None, "```promql") => open = Some(Vec::new()),
            (Some(lines), "```") => {
                blocks.push(lines.join("\n"));
                open = None;
            }
            (Some(lines), _) => lines.push(line),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a promql block that does not end");
    blocks
}

/// Creates, reads, lists, replaces and deletes without end, with a refused request in every round.
async fn keep_busy(url: String) {
    let client = Client::builder()
        .no_proxy()
        .build()
        .expect("an HTTP client");
    let item = json!({"name": "Ada", "email": "ada@example.com", "message": "hello"});
    let send = async |method: Method, path: String, body: Option<&serde_json::Value>| {
        let mut request = client.request(method, format!("{url}{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        response.text().await
    };
    let round = async || {
        let created = send(Method::POST, "/data".into(), Some(&item)).await?;
        let created: serde_json::Value = serde_json::from_str(&created).unwrap_or_default();
        let item_path = format!("/data/{}", created["id"]);
        send(Method::GET, "/data?limit=10".into(), None).await?;
        send(Method::GET, item_path.clone(), None).await?;
        send(Method::PUT, item_path.clone(), Some(&item)).await?;
        send(Method::DELETE, item_path.clone(), None).await?;
        send(Method::GET, item_path, None).await?;
        Ok::<_, reqwest::Error>(())
    };
    // The server goes away at the end of the test; nobody is interested in that error.
    while round().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks one query until it answers; the error tells what is wrong with the last answer.
async fn answers(prometheus: &Prometheus, query: &str) -> Result<(), String> {
    let elements = prometheus.query(query).await?;
    if elements.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    match elements.iter().find(|element| !element.value.is_finite()) {
        Some(odd) => Err(format!("{:?} is {}", odd.labels, odd.value)),
        None => Ok(()),
    }
}

async fn every_query_answers(test: &str, flags: &[&str]) {
    let Some(binary) = tools::prometheus(test) else {
        return;
    };
    let server = Server::start();
    let load = tokio::spawn(keep_busy(server.url("")));
    let prometheus = Prometheus::start(&binary, server.authority(), flags).await;
    wait::until("the first scrape", ANSWER_BOUND, || {
        prometheus.target_is_up()
    })
    .await;
    for query in cookbook() {
        wait::until(&format!("an answer to {query}"), ANSWER_BOUND, || {
            answers(&prometheus, &query)
        })
        .await;
    }
    assert!(!load.is_finished(), "the load ended before its time");
    load.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_cookbook_answers() {
    every_query_answers("every_query_of_the_cookbook_answers", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_counts_what_was_sent() {
    let Some(binary) = tools::prometheus("prometheus_counts_what_was_sent") else {
        return;
    };
    let server = Server::start();
    let prometheus = Prometheus::start(&binary, server.authority(), &[]).await;
    for number in 0..7 {
        server.create(&format!("Visitor {number}")).await;
    }
    let query = r#"http_requests_total{method="POST", endpoint="/data", http_status="201"}"#;
    wait::until(
        "seven creations in Prometheus",
        ANSWER_BOUND,
        async || match prometheus.query(query).await?.as_slice() {
            [one] if (one.value - 7.0).abs() < f64::EPSILON => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

#[test]
fn the_cookbook_is_read_as_written() {
    let markdown = "text\n```promql\na\n  + b\n```\n```sh\nno\n```\n```promql\nc\n```\n";
    assert_eq!(promql_blocks(markdown), ["a\n  + b", "c"]);
    assert!(cookbook().len() >= 15, "the cookbook lost its queries");
}

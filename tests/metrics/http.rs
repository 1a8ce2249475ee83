//! The request metrics: each request increases exactly its own series, and the sizes by exactly its bytes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::server::{Answer, Server};
use crate::support::settled::{expect_count, settled};
use crate::support::wait;

const ITEM: &str = r#"{"name":"Ada","email":"ada@example.com","message":"hello"}"#;

/// A request, and the labels under which it must be counted.
struct Known {
    method: Method,
    path: String,
    body: Option<&'static str>,
    endpoint: &'static str,
    status: u16,
}

fn known(
    method: Method,
    path: &str,
    body: Option<&'static str>,
    endpoint: &'static str,
    status: u16,
) -> Known {
    Known {
        method,
        path: path.to_owned(),
        body,
        endpoint,
        status,
    }
}

/// Sends the request, checks its status, and returns the number of bytes of its body.
async fn send(server: &Server, known: &Known) -> usize {
    let mut request = server.request(known.method.clone(), &known.path);
    if let Some(body) = known.body {
        request = request
            .header("content-type", "application/json")
            .body(body);
    }
    let answer = Answer::of(request).await;
    assert_eq!(
        answer.status, known.status,
        "{} {}: {}",
        known.method, known.path, answer.text
    );
    answer.text.len()
}

#[tokio::test]
async fn each_request_moves_its_own_series_by_one_and_its_sizes_by_its_bytes() {
    let server = Server::start();
    let id = server.create("Ada").await;
    let item = format!("/data/{id}");
    let brew = Method::from_bytes(b"BREW").unwrap();
    let cases = [
        known(Method::GET, "/data", None, "/data", 200),
        known(Method::GET, "/data?limit=0", None, "/data", 422),
        known(Method::POST, "/data", Some(ITEM), "/data", 201),
        known(Method::POST, "/data", Some("{"), "/data", 400),
        known(Method::POST, "/data", Some("{}"), "/data", 422),
        known(Method::PATCH, "/data", None, "/data", 405),
        known(Method::GET, &item, None, "/data/{item_id}", 200),
        known(Method::GET, "/data/999", None, "/data/{item_id}", 404),
        known(Method::PUT, &item, Some(ITEM), "/data/{item_id}", 200),
        known(Method::DELETE, &item, None, "/data/{item_id}", 200),
        known(Method::DELETE, &item, None, "/data/{item_id}", 404),
        known(Method::GET, "/nowhere", None, "unmatched", 404),
        known(Method::GET, "/data/1/2/3", None, "unmatched", 404),
        known(Method::GET, "/health", None, "/health", 200),
        known(Method::GET, "/livez", None, "/livez", 200),
        known(Method::GET, "/readyz", None, "/readyz", 200),
        known(Method::GET, "/", None, "/", 200),
        known(brew, "/data", None, "/data", 405),
    ];
    let mut before = settled(&server).await;
    for case in &cases {
        let received = send(&server, case).await;
        let after = settled(&server).await;
        let what = format!("{} {}", case.method, case.path);
        let method = if case.status == 405 {
            "other"
        } else {
            case.method.as_str()
        };
        let status = case.status.to_string();
        let by_status = [
            ("method", method),
            ("endpoint", case.endpoint),
            ("http_status", status.as_str()),
        ];
        let by_endpoint = &by_status[..2];
        let sent = case.body.map_or(0, str::len);

        for (name, labels) in [
            ("http_requests_total", by_status.as_slice()),
            ("http_request_duration_seconds_count", by_status.as_slice()),
            ("http_request_size_bytes_count", by_endpoint),
            ("http_response_size_bytes_count", by_endpoint),
        ] {
            expect_count(
                after.rise(&before, name, labels),
                1,
                &format!("{name} of {what}"),
            );
        }
        let read = after.rise(&before, "http_request_size_bytes_sum", by_endpoint);
        // A handler that rejects a body does not read it. One that needs it has read all of it.
        if case.status < 400 {
            expect_count(read, sent, &format!("bytes received by {what}"));
        } else {
            assert!(read <= sent as f64, "{what}: {read} bytes read of {sent}");
        }
        let written = after.rise(&before, "http_response_size_bytes_sum", by_endpoint);
        expect_count(written, received, &format!("bytes sent by {what}"));
        let seconds = after.rise(&before, "http_request_duration_seconds_sum", &by_status);
        assert!(seconds > 0.0 && seconds < 60.0, "{what} took {seconds} s");

        // Apart from it, only the scrapes before this one are counted.
        let others = after.sum_rise(&before, "http_requests_total", &[])
            - after.sum_rise(&before, "http_requests_total", &[("endpoint", "/metrics")]);
        expect_count(others, 1, &format!("all requests while {what} was sent"));
        before = after;
    }
}

#[tokio::test]
async fn a_scrape_is_counted_by_the_next_one() {
    let server = Server::start();
    let labels = [
        ("method", "GET"),
        ("endpoint", "/metrics"),
        ("http_status", "200"),
    ];
    settled(&server).await;
    let before = settled(&server).await;
    let between = server.get("/metrics").await;
    let after = settled(&server).await;
    assert!(after.rise(&before, "http_requests_total", &labels) >= 2.0);
    let largest = after.value("http_response_size_bytes_sum", &labels[..2]);
    assert!(largest >= between.text.len() as f64);
}

#[tokio::test]
async fn a_compressed_scrape_is_counted_by_its_compressed_bytes() {
    let server = Server::start();
    let labels = [("method", "GET"), ("endpoint", "/metrics")];
    let sum = "http_response_size_bytes_sum";
    let first = server.get("/metrics").await;
    let before = settled(&server).await;
    let request = server
        .request(Method::GET, "/metrics")
        .header("accept-encoding", "gzip");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let compressed = response.bytes().await.unwrap().len();
    let after = settled(&server).await;
    let plain = after.rise(&before, sum, &labels) - compressed as f64;
    // The rest are the uncompressed scrapes from `before` on: at least one, each about as long as the first.
    assert!(
        plain >= first.text.len() as f64 * 0.9,
        "{plain} beside {compressed}"
    );
    assert!(
        compressed * 3 < first.text.len(),
        "{compressed} of {}",
        first.text.len()
    );
}

#[tokio::test]
async fn a_head_request_sends_no_bytes() {
    let server = Server::start();
    let before = settled(&server).await;
    Answer::of(server.request(Method::HEAD, "/data")).await;
    let after = settled(&server).await;
    let labels = [("method", "HEAD"), ("endpoint", "/data")];
    expect_count(
        after.rise(&before, "http_response_size_bytes_count", &labels),
        1,
        "answers",
    );
    expect_count(
        after.rise(&before, "http_response_size_bytes_sum", &labels),
        0,
        "bytes",
    );
    let labels = [
        ("method", "HEAD"),
        ("endpoint", "/data"),
        ("http_status", "200"),
    ];
    expect_count(
        after.rise(&before, "http_requests_total", &labels),
        1,
        "requests",
    );
}

#[tokio::test]
async fn a_request_is_in_progress_until_it_is_answered() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let (early, late) = ITEM.split_at(10);
    write!(
        stream,
        "POST /data HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{early}",
        server.authority(),
        ITEM.len()
    )
    .unwrap();
    let in_progress = async |expected: f64| {
        wait::until("the gauge", Duration::from_secs(10), async || {
            let level = server.scrape().await.value("inprogress_requests", &[]);
            if level == expected {
                Ok(())
            } else {
                Err(format!("it is {level}"))
            }
        })
        .await;
    };
    in_progress(2.0).await;
    let counted = settled_total(&server).await;
    assert!(counted < 1.0, "it is counted before it is answered");
    stream.write_all(late.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    in_progress(1.0).await;
    expect_count(settled_total(&server).await, 1, "creations");
}

async fn settled_total(server: &Server) -> f64 {
    server
        .scrape()
        .await
        .sum("http_requests_total", &[("method", "POST")])
}

#[tokio::test]
async fn an_excluded_endpoint_is_not_recorded() {
    let server = Server::start_with(&["--exclude", "/livez,/data/{item_id},unmatched"]);
    for path in ["/livez", "/nowhere", "/data/1", "/health", "/data"] {
        server.get(path).await;
    }
    let scrape = settled(&server).await;
    for endpoint in ["/livez", "/data/{item_id}", "unmatched"] {
        expect_count(
            scrape.sum("http_requests_total", &[("endpoint", endpoint)]),
            0,
            endpoint,
        );
    }
    for endpoint in ["/health", "/data"] {
        expect_count(
            scrape.sum("http_requests_total", &[("endpoint", endpoint)]),
            1,
            endpoint,
        );
    }
}

#[tokio::test]
async fn two_hundred_concurrent_requests_are_counted_as_two_hundred() {
    // No write is rejected because the disk is slow.
    let server = Server::start_with(&["--pool-timeout=60s"]);
    let before = settled(&server).await;
    let requests = (0..200).map(|number| {
        let server = &server;
        async move {
            let body = json!({"name": format!("Visitor {number}"), "email": "ada@example.com"});
            assert_eq!(server.send(Method::POST, "/data", &body).await.status, 201);
        }
    });
    futures_util::future::join_all(requests).await;
    let after = settled(&server).await;
    let labels = [
        ("method", "POST"),
        ("endpoint", "/data"),
        ("http_status", "201"),
    ];
    expect_count(
        after.rise(&before, "http_requests_total", &labels),
        200,
        "requests",
    );
    expect_count(
        after.sum_rise(&before, "db_queries_total", &[("operation", "insert")]),
        200,
        "inserts",
    );
}

#[tokio::test]
async fn the_operators_endpoints_are_watched_by_a_recorder_of_their_own() {
    let server = Server::start();
    let before = settled(&server).await;
    server.get("/health").await;
    server.create("Ada").await;
    let after = settled(&server).await;
    let labels = [
        ("endpoint", "/health"),
        ("method", "GET"),
        ("status", "200"),
    ];
    expect_count(
        after.rise(&before, "ops_http_requests_total", &labels),
        1,
        "health checks",
    );
    expect_count(
        after.rise(&before, "ops_http_requests_duration_seconds_count", &labels),
        1,
        "durations",
    );
    expect_count(
        after.sum("ops_http_requests_total", &[("endpoint", "/data")]),
        0,
        "requests for data",
    );
}

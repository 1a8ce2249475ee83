//! The same limits over HTTP/2, where one connection has many requests.

use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::client::{Builder, SendRequest};
use http::{Request, StatusCode};
use reqwest::Method;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::limits::guarded::{BOUND, GRACE, Guarded};
use crate::support::wait::until;

/// Opens an HTTP/2 connection. `window` is the initial flow-control window of each answer.
pub(crate) async fn speak(
    authority: &str,
    window: u32,
) -> (SendRequest<Bytes>, JoinHandle<Instant>) {
    let stream = TcpStream::connect(authority).await.expect("a connection");
    let (requests, connection) = Builder::new()
        .initial_window_size(window)
        .handshake(stream)
        .await
        .expect("HTTP/2");
    let ended = tokio::spawn(async move {
        let _closed_or_reset = connection.await;
        Instant::now()
    });
    (requests, ended)
}

pub(crate) fn get(authority: &str, path: &str) -> Request<()> {
    let url = format!("http://{authority}{path}");
    Request::get(url).body(()).expect("a request")
}

/// Waits for the end of the connection, and returns its time.
async fn end(ended: JoinHandle<Instant>) -> Instant {
    let ended = timeout(BOUND, ended)
        .await
        .expect("the server ends the connection");
    ended.expect("no panic")
}

#[tokio::test]
async fn an_http_2_connection_without_a_request_ends() {
    let guarded = Guarded::start(&["--head-timeout=500ms", "--idle-timeout=1s"]);
    let authority = guarded.server.authority();

    let began = Instant::now();
    let (_requests, silent) = speak(authority, 65_535).await;
    let silent = end(silent).await - began;
    assert!(silent < Duration::from_millis(500) + GRACE, "{silent:?}");

    let (mut requests, idle) = speak(authority, 65_535).await;
    // The server waits from its answer on, which it has sent between these two times.
    let asked = Instant::now();
    let (answer, _) = requests.send_request(get(authority, "/"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    let answered = Instant::now();
    let ended = end(idle).await;
    assert!(
        ended - asked > Duration::from_millis(900),
        "{:?}",
        ended - asked
    );
    let idle = ended - answered;
    assert!(idle < Duration::from_secs(1) + GRACE, "{idle:?}");

    guarded.wait_for_quiet().await;
    assert_eq!(guarded.ended("head_timeout").await, 1);
    assert_eq!(guarded.ended("idle").await, 1);
}

#[tokio::test]
async fn a_late_body_ends_its_request_and_not_its_connection() {
    let guarded = Guarded::start(&["--body-timeout=500ms"]);
    let authority = guarded.server.authority();
    let (mut requests, connection) = speak(authority, 65_535).await;
    let post = Request::post(format!("http://{authority}/data"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (answer, body) = requests.send_request(post, false).unwrap();
    let late = timeout(BOUND, answer).await.expect("an answer").unwrap();
    assert_eq!(late.status(), StatusCode::REQUEST_TIMEOUT);
    let (answer, _) = requests.send_request(get(authority, "/"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    drop((requests, body, late));
    end(connection).await;
    guarded.wait_for_quiet().await;
    assert_eq!(guarded.outcomes().await, [("closed".to_owned(), 1)]);
}

#[tokio::test]
async fn an_answer_without_a_window_ends_the_connection() {
    let guarded = Guarded::start(&["--response-timeout=1s", "--head-timeout=5s"]);
    let message = "x".repeat(10_000);
    let item = serde_json::json!({"name": "a", "email": "a@example.com", "message": message});
    guarded.server.send(Method::POST, "/data", &item).await;
    let authority = guarded.server.authority();
    let (mut requests, ended) = speak(authority, 100).await;
    let began = Instant::now();
    let (answer, _) = requests
        .send_request(get(authority, "/data"), true)
        .unwrap();
    // The body is not read.
    let _answer = answer.await.unwrap();
    let waited = end(ended).await - began;
    assert!(waited > Duration::from_millis(900), "{waited:?}");
    assert!(waited < Duration::from_secs(1) + GRACE, "{waited:?}");
    guarded.wait_for(&["response_timeout"], 1).await;
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_is_not_given_up() {
    let guarded = Guarded::start(&["--response-timeout=1s"]);
    let message = "x".repeat(2_000);
    let item = serde_json::json!({"name": "a", "email": "a@example.com", "message": message});
    for _ in 0..60 {
        guarded.server.send(Method::POST, "/data", &item).await;
    }
    let authority = guarded.server.authority();
    let (mut requests, _connection) = speak(authority, 8 * 1024).await;
    let (answer, _) = requests
        .send_request(get(authority, "/data"), true)
        .unwrap();
    let mut body = answer.await.unwrap().into_body();
    let (mut bytes, began) = (0, Instant::now());
    while let Some(part) = body.data().await {
        let part = part.expect("the server does not give it up");
        bytes += part.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
        body.flow_control().release_capacity(part.len()).unwrap();
    }
    assert!(bytes > 120_000, "{bytes}");
    assert!(began.elapsed() > Duration::from_secs(1));
}

#[tokio::test]
async fn a_large_head_is_rejected_and_the_connection_continues() {
    let guarded = Guarded::start(&[]);
    let authority = guarded.server.authority();
    let (mut requests, connection) = speak(authority, 65_535).await;
    for _ in 0..3 {
        let mut large = get(authority, "/");
        let value = "a".repeat(16 * 1024).parse().unwrap();
        large.headers_mut().insert("large", value);
        let (answer, _) = requests.send_request(large, true).unwrap();
        let answer = timeout(BOUND, answer).await.expect("an answer").unwrap();
        assert_eq!(answer.status(), 431);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let (answer, _) = requests.send_request(get(authority, "/"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);

    drop(requests);
    connection.abort();
    guarded.wait_for_quiet().await;
    // Each is a request, and the connection has no error.
    let answered = [("200".to_owned(), 1), ("431".to_owned(), 3)].into();
    assert_eq!(guarded.answered().await, answered);
    assert_eq!(guarded.outcomes().await, [("closed".to_owned(), 1)]);
}

#[tokio::test]
async fn all_of_300_concurrent_requests_of_one_client_are_answered() {
    // No request is rejected because a busy machine keeps it waiting for a connection to the database.
    let guarded = Guarded::start(&["--pool-timeout=60s"]);
    let authority = guarded.server.authority();
    let (requests, _connection) = speak(authority, 65_535).await;
    let asked = (0..300).map(|_| {
        let (requests, request) = (requests.clone(), get(authority, "/data"));
        tokio::spawn(async move {
            let mut requests = requests.ready().await.expect("a free stream");
            let (answer, _) = requests.send_request(request, true).expect("it is sent");
            let answer = answer.await.expect("an answer");
            let status = answer.status();
            let mut body = answer.into_body();
            while let Some(part) = body.data().await {
                let part = part.expect("the whole answer");
                let room = body.flow_control();
                room.release_capacity(part.len())
                    .expect("the capacity was used");
            }
            status
        })
    });
    let asked: Vec<JoinHandle<StatusCode>> = asked.collect();
    for answer in asked {
        let status = timeout(BOUND, answer).await.expect("an answer in time");
        assert_eq!(status.expect("no panic"), StatusCode::OK);
    }
    let counted = guarded.scrape().await;
    let labels = [
        ("endpoint", "/data"),
        ("http_status", "200"),
        ("method", "GET"),
    ];
    assert_eq!(counted.value("http_requests_total", &labels), 300.0);
}

#[tokio::test]
async fn an_address_has_as_many_requests_as_connections() {
    let guarded = Guarded::start(&["--max-connections-per-address=600"]);
    let authority = guarded.server.authority();
    let mut waiting = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..2 {
        let (mut requests, connection) = speak(authority, 65_535).await;
        for _ in 0..301 {
            let post = Request::post(format!("http://{authority}/data"))
                .header("content-type", "application/json")
                .body(())
                .unwrap();
            requests = requests.ready().await.unwrap();
            waiting.push(requests.send_request(post, false).unwrap());
        }
        connections.push((requests, connection));
    }
    // The other requests wait for their bodies.
    let (answers, bodies): (FuturesUnordered<_>, Vec<_>) = waiting.into_iter().unzip();
    let rejected: Vec<_> = timeout(BOUND, answers.take(2).collect())
        .await
        .expect("answers");
    for rejected in rejected {
        let rejected = rejected.unwrap();
        assert_eq!(rejected.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(rejected.headers()["retry-after"], "1");
    }
    let (requests, _) = &mut connections[0];
    let (rejected, _) = requests.send_request(get(authority, "/"), true).unwrap();
    assert_eq!(
        rejected.await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(guarded.answered().await, [("503".to_owned(), 3)].into());
    drop((bodies, connections));
    until("the abandoned requests to end", BOUND, || async {
        let (mut requests, _connection) = speak(authority, 65_535).await;
        let (answer, _) = requests.send_request(get(authority, "/"), true).unwrap();
        match answer.await.unwrap().status() {
            StatusCode::OK => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn an_endless_head_is_rejected_while_it_arrives() {
    let guarded = Guarded::start(&[]);
    for (frames, size, why) in [(12, 16 * 1024, "large frames"), (20, 0, "empty frames")] {
        let mut raw = guarded.connect().await;
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        raw.send(frame(1, &[])).await;
        for number in 0..frames {
            // Literal headers without indexing, each with another name.
            let headers = (0..size / 8).flat_map(|header| {
                let name = format!("{number:02x}{header:03x}");
                [&[0, 5], name.as_bytes(), &[0]].concat()
            });
            let headers: Vec<u8> = headers.collect();
            raw.send(frame(9, &headers)).await;
        }
        let ended = raw.end().await;
        assert!(ended.after < GRACE, "{why}: {ended:?}");
        assert!(!guarded.server.stderr().contains("panic"), "{why}");
    }
    guarded.wait_for(&["headers_too_large"], 2).await;
    assert_eq!(guarded.ended_in(&["malformed", "reset", "error"]).await, 0);
}

/// A frame of the first stream.
fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, 0, 0, 0, 0, 1], content].concat()
}

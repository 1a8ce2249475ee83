//! HTTP/2 requests that their clients abandon, one by one or with the connection: the handlers end, and the requests are
//! counted as 499, as over HTTP/1.

use actix_web::web::Bytes;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::{Request, StatusCode};
use reqwest::{ClientBuilder, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::limits::guarded::{BOUND, Guarded};
use crate::limits::http_2::speak;
use crate::support::wait::until;

const ITEM: &[u8] = br#"{"name":"a","email":"a@example.org"}"#;

/// Requests in progress, and their connection.
struct Pending {
    requests: Vec<(ResponseFuture, SendStream<Bytes>)>,
    connection: JoinHandle<Instant>,
}

/// Sends four requests, with or without their bodies, and waits until they are in progress.
async fn pending(guarded: &Guarded, is_whole: bool) -> Pending {
    let authority = guarded.server.authority();
    let (mut sender, connection) = speak(authority, 65_535).await;
    let mut requests = Vec::new();
    for _ in 0..4 {
        let post = Request::post(format!("http://{authority}/data"))
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        sender = sender.ready().await.unwrap();
        let (answer, mut body) = sender.send_request(post, false).unwrap();
        if is_whole {
            body.send_data(ITEM.into(), true).unwrap();
        }
        requests.push((answer, body));
    }
    in_progress(guarded, 4).await;
    Pending {
        requests,
        connection,
    }
}

/// Waits until this many requests are in progress.
async fn in_progress(guarded: &Guarded, count: u32) {
    until(
        &format!("{count} requests in progress"),
        BOUND,
        async || match guarded.scrape().await.value("inprogress_requests", &[]) {
            level if level == f64::from(count) => Ok(()),
            level => Err(format!("{level}")),
        },
    )
    .await;
}

/// Abandons four requests, one by one and then with their connection, and checks that each is counted.
async fn give_up(guarded: &Guarded, pending: Pending, counted_before: u64) {
    let mut requests = pending.requests.into_iter();
    let (answer, mut body) = requests.next().expect("the first of four");
    body.send_reset(Reason::CANCEL);
    in_progress(guarded, 3).await;
    // Dropping a request resets its stream too.
    drop((answer, body, requests.next()));
    in_progress(guarded, 2).await;
    pending.connection.abort();
    in_progress(guarded, 0).await;

    let counted = guarded.scrape().await;
    let left = [
        ("endpoint", "/data"),
        ("http_status", "499"),
        ("method", "POST"),
    ];
    let aborted = [
        ("endpoint", "/data"),
        ("method", "POST"),
        ("phase", "before_head"),
    ];
    let expected = (counted_before + 4) as f64;
    assert_eq!(counted.value("http_requests_total", &left), expected);
    assert_eq!(
        counted.value("http_requests_aborted_total", &aborted),
        expected
    );
    assert_eq!(
        guarded.answered().await,
        [("499".to_owned(), counted_before + 4)].into()
    );
}

#[tokio::test]
async fn an_abandoned_http_2_request_ends_and_is_counted_as_499() {
    let guarded = Guarded::start(&[]);
    // The service waits for the bodies.
    let unfinished = pending(&guarded, false).await;
    give_up(&guarded, unfinished, 0).await;

    // The requests wait for the database, whose lock is held.
    let file = guarded.server.database().display().to_string();
    let mut lock = SqliteConnection::establish(&file).unwrap();
    lock.batch_execute("BEGIN IMMEDIATE").unwrap();
    let whole = pending(&guarded, true).await;
    give_up(&guarded, whole, 4).await;
}

/// Reads answers of each kind to their ends.
async fn read_all(guarded: &Guarded, client: ClientBuilder) {
    let client = client.no_proxy().build().expect("an HTTP client");
    let item = json!({"name": "a", "email": "a@example.org"});
    let created = client.post(guarded.server.url("/data")).json(&item).send();
    let created: Value = created.await.unwrap().json().await.unwrap();
    let path = format!("/data/{}", created["id"]);
    for (method, path, status) in [
        (Method::GET, "/", StatusCode::OK),
        (Method::GET, "/data", StatusCode::OK),
        (Method::HEAD, "/data", StatusCode::OK),
        (Method::GET, path.as_str(), StatusCode::OK),
        (Method::GET, "/data/0", StatusCode::NOT_FOUND),
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::GET, "/data?limit=1", StatusCode::OK),
        (Method::PATCH, "/data", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, path.as_str(), StatusCode::OK),
    ] {
        let answer = client.request(method.clone(), guarded.server.url(path));
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        answer.bytes().await.unwrap();
    }
}

#[tokio::test]
async fn no_client_that_reads_all_of_its_answers_has_left() {
    let guarded = Guarded::start(&[]);
    read_all(&guarded, reqwest::Client::builder()).await;
    let http_2 = reqwest::Client::builder().http2_prior_knowledge();
    read_all(&guarded, http_2).await;
    guarded.wait_for_settled().await;

    let counted = guarded.scrape().await;
    let aborted = counted.series("http_requests_aborted_total");
    assert!(
        aborted.iter().all(|(_, count)| *count == 0.0),
        "{aborted:?}"
    );
    assert_eq!(
        counted.sum("http_requests_total", &[("http_status", "499")]),
        0.0
    );
    assert_eq!(counted.sum("http_requests_total", &[]), 20.0);
}

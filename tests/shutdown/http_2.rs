//! The shutdown of HTTP/2 connections: clients learn of it while their requests are in service, and each of these is answered.

use std::future::poll_fn;
use std::time::Duration;

use actix_web::web::Bytes;
use h2::Reason;
use http::{Request, StatusCode};
use tokio::time::{sleep, timeout};

use crate::limits::guarded::{BOUND, Raw};
use crate::limits::http_2::speak;
use crate::limits::slowly_read::{SlowReader, store};
use crate::support::server::Server;

/// Longer than the tests wait.
const TIMEOUT: &str = "--shutdown-timeout=60s";

const BODY: &[u8] = br#"{"name": "Ada", "email": "ada@example.com"}"#;

/// Waits for the end of a server that has answered all requests.
fn ends_well(server: Server) {
    let stderr = server.stderr();
    assert!(!stderr.contains("requests in flight"), "{stderr}");
    assert_eq!(server.ended(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_requests_overlap_is_told_to_stop_and_loses_none() {
    let server = Server::start_with(&["--ops-listen=127.0.0.1:0", TIMEOUT]);
    let (mut requests, ended) = speak(server.authority(), 65_535).await;
    let post = || {
        Request::post(server.url("/data"))
            .header("content-type", "application/json")
            .body(())
            .unwrap()
    };
    let (mut answer, mut body) = requests.send_request(post(), false).unwrap();
    server.signal("TERM");
    let overlapping = async {
        loop {
            sleep(Duration::from_millis(20)).await;
            // The next request begins before this one ends.
            let next = match poll_fn(|context| requests.poll_ready(context)).await {
                Ok(()) => requests.send_request(post(), false),
                Err(error) => Err(error),
            };
            sleep(Duration::from_millis(20)).await;
            body.send_data(Bytes::from_static(BODY), true).unwrap();
            let status = answer.await.expect("an answer").status();
            assert_eq!(status, StatusCode::CREATED);
            match next {
                Ok(next) => (answer, body) = next,
                Err(error) => return error,
            }
        }
    };
    let told = timeout(BOUND, overlapping).await.expect("GOAWAY");
    assert!(told.is_go_away() && told.is_remote(), "{told}");
    assert_eq!(told.reason(), Some(Reason::NO_ERROR));
    timeout(BOUND, ended).await.expect("an end").unwrap();
    ends_well(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_read_slowly_arrives_as_a_whole() {
    // More than the system buffers, and less.
    for (kilobytes, bytes_each) in [(800, 16 * 1024), (140, 3 * 1024)] {
        let server = Server::start_with(&["--ops-listen=127.0.0.1:0", TIMEOUT]);
        store(&server, kilobytes).await;
        let mut client = SlowReader::ask(server.authority(), true).await;
        client.read(bytes_each).await;
        server.signal("TERM");
        client.read_to_the_end(bytes_each).await;
        ends_well(server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_acknowledge_a_ping_cannot_delay_the_end() {
    let server = Server::start_with(&["--ops-listen=127.0.0.1:0", TIMEOUT]);
    let mut raw = Raw::to(server.authority()).await;
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let get = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a";
    raw.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], get].concat())
        .await;
    let greeting = server.get("/").await.text;
    raw.read_until(&greeting[..20]).await;
    server.signal("TERM");
    let ended = raw.end().await;
    assert!(ended.after < BOUND, "{ended:?}");
    ends_well(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_preface_is_not_complete_cannot_delay_the_end() {
    let server = Server::start_with(&["--ops-listen=127.0.0.1:0", TIMEOUT]);
    let mut raw = Raw::to(server.authority()).await;
    raw.send(b"PRI * HTTP/2.0\r\n").await;
    server.get("/").await;
    server.signal("TERM");
    raw.end().await;
    ends_well(server);
}

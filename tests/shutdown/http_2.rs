//! The shutdown of HTTP/2 connections: clients learn of it while their requests are in service, and each of these is answered.

use std::future::poll_fn;
use std::time::Duration;

use actix_web::web::Bytes;
use h2::Reason;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::limits::guarded::{BOUND, Raw};
use crate::limits::http_2::speak;
use crate::limits::slowly_read::{SlowReader, frames, store};
use crate::support::server::Server;

/// Longer than the tests wait.
const TIMEOUT: &str = "--shutdown-timeout=60s";

const BODY: &[u8] = br#"{"name": "Ada", "email": "ada@example.com"}"#;

/// Waits for the end of a server that has answered all requests.
pub(super) async fn ends_well(server: Server) {
    let log = server.log_with("shutdown: stopped", 1).await;
    assert!(!log.contains("requests in flight"), "{log}");
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
    // A connection that is not accepted yet would be reset.
    let first = Request::get(server.url("/")).body(()).unwrap();
    let (first, _) = requests.send_request(first, true).unwrap();
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
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
    ends_well(server).await;
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
        ends_well(server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_pauses_with_its_answer_in_our_buffers_gets_the_rest() {
    let server = Server::start_with(&[
        "--ops-listen=127.0.0.1:0",
        "--response-timeout=60s",
        TIMEOUT,
    ]);
    store(&server, 100).await;
    let mut client = SlowReader::ask(server.authority(), true).await;
    client.read(3 * 1024).await;
    server.signal("TERM");
    // Longer than a client without an unread answer may be silent.
    sleep(Duration::from_secs(12)).await;
    client.read_to_the_end(16 * 1024).await;
    ends_well(server).await;
}

/// HTTP/2 of a client that acknowledges nothing.
struct Heedless {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Heedless {
    async fn connect(authority: &str) -> Self {
        let mut stream = TcpStream::connect(authority).await.unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(preface).await.unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Requests `/` on this stream, and returns the type of the first frame on it. `None` if the connection ends.
    async fn ask(&mut self, number: u8) -> Option<u8> {
        let mut request = *b"\0\0\x06\x01\x05\0\0\0\0\x82\x84\x86\x41\x01a";
        request[8] = number;
        self.stream.write_all(&request).await.ok()?;
        loop {
            let frames = frames(&self.received);
            if let Some(frame) = frames.iter().find(|it| it.stream == u32::from(number)) {
                return Some(frame.kind);
            }
            let read = timeout(BOUND, self.stream.read_buf(&mut self.received)).await;
            if !matches!(read.expect("an answer or an end"), Ok(1..)) {
                return None;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_client_that_acknowledges_nothing_is_sent_elsewhere() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    let server = Server::start_with(&["--ops-listen=127.0.0.1:0", TIMEOUT]);
    let mut client = Heedless::connect(server.authority()).await;
    assert_eq!(client.ask(1).await, Some(HEADERS));
    server.signal("TERM");
    let mut kinds = Vec::new();
    let mut has_ended = false;
    for number in (3..=255).step_by(2) {
        let Some(kind) = client.ask(number).await else {
            has_ended = true;
            break;
        };
        kinds.push(kind);
        sleep(Duration::from_millis(200)).await;
    }
    drop(client);
    assert!(has_ended, "{kinds:?}");
    let answered = kinds.iter().take_while(|kind| **kind == HEADERS).count();
    let are_rejected = (kinds[answered..].iter()).all(|kind| *kind == RST_STREAM);
    assert!(answered > 0 && are_rejected, "{kinds:?}");
    ends_well(server).await;
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
    ends_well(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_preface_is_not_complete_cannot_delay_the_end() {
    let server = Server::start_with(&["--ops-listen=127.0.0.1:0", TIMEOUT]);
    let mut raw = Raw::to(server.authority()).await;
    raw.send(b"PRI * HTTP/2.0\r\n").await;
    server.get("/").await;
    server.signal("TERM");
    raw.end().await;
    ends_well(server).await;
}

//! Cuts off requests and answers, on raw sockets: only whole ones count as served.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use actix_vitals::{Naming, Vitals};
use actix_web::{
    App,
    dev::{Payload, Service},
    error::PayloadError,
    test::{TestRequest, call_service, init_service, read_body},
};

use crate::http::{app::TestApp, count::Count};

fn vitals() -> Vitals {
    Vitals::builder().build().expect("defaults build")
}

fn labels(values: [&str; 3]) -> [String; 3] {
    values.map(str::to_owned)
}

/// Waits until the condition holds, up to a bound.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        thread::sleep(Duration::from_millis(5));
    }
}

fn connect(app: &TestApp) -> TcpStream {
    let stream = TcpStream::connect(app.address).expect("the server listens");
    let timeout = Some(Duration::from_secs(60));
    stream.set_read_timeout(timeout).expect("a timeout");
    stream
}

fn send(app: &TestApp, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(app);
    stream.write_all(bytes).expect("the server reads");
    stream
}

/// Returns the bytes that come until the connection ends, in any way.
fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn an_answer_shorter_than_promised_is_cut_off() {
    let app = TestApp::start(vitals());
    read_all(send(&app, b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n"));
    let count = Count::of(&app.vitals);
    eventually("it is settled", || count.in_progress() == 0);
    let short = labels(["GET", "/short", "200"]);
    assert_eq!(count.requests(), [(short, 1)].into());
    let aborted = labels(["GET", "/short", "body"]);
    assert_eq!(count.aborted(), [(aborted, 1)].into());
}

#[test]
fn a_client_that_leaves_within_its_request_is_not_answered() {
    let length = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n.";
    let chunked = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    let vitals_of = |sizes| Vitals::builder().body_sizes(sizes).build();
    for allows_half_closed in [false, true] {
        let vitals = vitals_of(allows_half_closed).expect("these settings build");
        let app = if allows_half_closed {
            TestApp::start_with_half_closed(vitals)
        } else {
            TestApp::start(vitals)
        };
        let count = Count::of(&app.vitals);
        for (number, bytes) in (1..).zip([&length[..], &chunked[..], &length[..], &chunked[..]]) {
            let stream = send(&app, bytes);
            eventually("the head is read", || app.heads() == number);
            if number <= 2 {
                drop(stream);
            } else {
                stream.shutdown(Shutdown::Write).expect("half a connection");
                read_all(stream);
            }
            eventually("it is settled", || {
                count.requests().into_values().sum::<u64>() == number && count.in_progress() == 0
            });
            let left = labels(["POST", "/echo", "499"]);
            assert_eq!(count.requests(), [(left, number)].into());
            let aborted = labels(["POST", "/echo", "before_head"]);
            assert_eq!(count.aborted(), [(aborted, number)].into());
        }
    }
}

#[test]
fn a_whole_request_over_half_a_connection_is_answered() {
    let app = TestApp::start_with_half_closed(vitals());
    let request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let stream = send(&app, request);
    stream.shutdown(Shutdown::Write).expect("half a connection");
    assert!(read_all(stream).ends_with("hello"));
    let count = Count::of(&app.vitals);
    eventually("it is settled", || count.in_progress() == 0);
    let echo = labels(["POST", "/echo", "201"]);
    assert_eq!(count.requests(), [(echo, 1)].into());
    assert_eq!(count.aborted().len(), 0);
}

#[test]
fn a_chunk_that_is_no_chunk_is_the_clients_mistake() {
    let app = TestApp::start(vitals());
    let request = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert!(read_all(send(&app, request)).starts_with("HTTP/1.1 400"));
    let count = Count::of(&app.vitals);
    eventually("it is settled", || count.in_progress() == 0);
    let echo = labels(["POST", "/echo", "400"]);
    assert_eq!(count.requests(), [(echo, 1)].into());
    assert_eq!(count.aborted().len(), 0);
}

/// A middleware outside may replace the request's body: by one with a limit, or by what it decodes.
#[actix_web::test]
async fn a_body_that_a_middleware_outside_refuses_is_answered() {
    let reasons: [fn() -> PayloadError; 5] = [
        || PayloadError::Overflow,
        || PayloadError::UnknownLength,
        || PayloadError::EncodingCorrupted,
        || PayloadError::Io(ErrorKind::InvalidData.into()),
        || PayloadError::Io(ErrorKind::InvalidInput.into()),
    ];
    for reason in reasons {
        let (vitals, name) = (vitals(), reason().to_string());
        let app = App::new()
            .configure(crate::http::app::routes)
            .wrap(vitals.http())
            .wrap_fn(move |mut request, service| {
                let refused = futures_util::stream::iter([Err(reason())]);
                request.set_payload(Payload::Stream {
                    payload: Box::pin(refused),
                });
                service.call(request)
            });
        let service = init_service(app).await;
        let request = TestRequest::post().uri("/echo").set_payload("hello");
        let response = call_service(&service, request.to_request()).await;
        let status = response.status().as_str().to_owned();
        assert!(response.status().is_client_error(), "{name}: {status}");
        read_body(response).await;
        let count = Count::of(&vitals);
        let echo = labels(["POST", "/echo", &status]);
        assert_eq!(count.requests(), [(echo, 1)].into(), "{name}");
        assert_eq!(count.aborted().len(), 0, "{name}");
    }
}

#[test]
fn the_answer_to_head_ends_at_once() {
    let app = TestApp::start(vitals());
    let count = Count::of(&app.vitals);
    for _ in 0..3 {
        let request = b"HEAD /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = read_all(send(&app, request));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    // The connection stays usable.
    let mut stream = send(
        &app,
        b"HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\nHEAD /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("two answers");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert!(answers.contains("content-length: 5"), "{answers}");
    eventually("all are settled", || count.in_progress() == 0);
    let heads = [
        (labels(["HEAD", "/ok", "200"]), 1),
        (labels(["HEAD", "/stream", "200"]), 4),
    ];
    assert_eq!(count.requests(), heads.clone().into());
    assert_eq!(count.durations(), heads.into_iter().collect());
    assert_eq!(count.aborted().len(), 0);
}

#[test]
fn a_media_type_in_capitals_is_a_stream_too() {
    let app = TestApp::start(vitals());
    let count = Count::of(&app.vitals);
    let mut stream = send(&app, b"GET /loud HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("an answer");
    assert_eq!(count.streams_active(), [("/loud".to_owned(), 1)].into());
    drop(stream);
    eventually("it is over", || count.in_progress() == 0);
    assert_eq!(count.streams_ended(), [("/loud".to_owned(), 1)].into());
    assert_eq!(count.durations().len(), 0);
}

/// Sends requests over HTTP/2 with an empty flow-control window, and reads only the heads of their answers.
async fn take_heads(app: &TestApp, requests: &[(&str, &str)]) {
    let stream = tokio::net::TcpStream::connect(app.address).await;
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake::<_, actix_web::web::Bytes>(stream.expect("the server listens"))
        .await
        .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("room for a request");
    for (method, path) in requests {
        let request = http::Request::builder()
            .method(*method)
            .uri(format!("http://{}{path}", app.address))
            .body(())
            .expect("a request");
        let (answer, _) = client.send_request(request, true).expect("a stream");
        let answer = answer.await.expect("a head");
        assert_eq!(answer.status(), 200);
        // Dropping the answer resets its stream.
        drop(answer);
    }
    drop(client);
    drop(tokio::time::timeout(Duration::from_secs(5), connection).await);
}

#[test]
fn an_answer_over_http_2_that_its_client_makes_no_room_for_is_cut_off() {
    let app = TestApp::start(vitals());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(take_heads(
        &app,
        &[("GET", "/items/5"), ("GET", "/large"), ("HEAD", "/ok")],
    ));
    let count = Count::of(&app.vitals);
    eventually("all are settled", || count.in_progress() == 0);
    let requests = [
        (labels(["GET", "/items/{id}", "200"]), 1),
        (labels(["GET", "/large", "200"]), 1),
        (labels(["HEAD", "/ok", "200"]), 1),
    ];
    assert_eq!(count.requests(), requests.into());
    let aborted = [
        (labels(["GET", "/items/{id}", "body"]), 1),
        (labels(["GET", "/large", "body"]), 1),
    ];
    assert_eq!(count.aborted(), aborted.into());
}

#[test]
fn by_the_names_of_opentelemetry_each_error_has_its_type_and_only_a_status_that_was_sent_is_one() {
    let vitals = Vitals::builder().naming(Naming::OpenTelemetry).build();
    let app = TestApp::start(vitals.expect("these settings build"));
    let count = Count::of(&app.vitals);
    let labels = ["http_route", "http_response_status_code", "error_type"];
    // The series of a complete answer exists with the value zero.
    let counted = |name: &str| {
        let mut samples = count.samples(name, labels);
        samples.retain(|_, value| *value > 0.0);
        samples
    };
    let durations = || counted("http_server_request_duration_seconds_count");
    let mut expected: Vec<[&str; 3]> = Vec::new();
    for (path, status, error) in [
        ("/ok", "200", ""),
        ("/error", "409", ""),
        ("/panic", "500", "500"),
        ("/short", "200", "response_failed"),
        ("/broken", "200", "response_failed"),
    ] {
        read_all(send(
            &app,
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        ));
        expected.push([path, status, error]);
        eventually(path, || durations().len() == expected.len());
    }
    for (path, status) in [("/slow", ""), ("/endless", "200")] {
        let heads = app.heads();
        let mut stream = send(
            &app,
            format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
        );
        eventually("the head is read", || app.heads() > heads);
        if status == "200" {
            stream.read_exact(&mut [0]).expect("a head");
        }
        drop(stream);
        expected.push([path, status, "client_disconnected"]);
        eventually(path, || durations().len() == expected.len());
    }
    let expected = expected
        .into_iter()
        .map(|values| (values.map(str::to_owned), 1.0));
    let expected: BTreeMap<[String; 3], f64> = expected.collect();
    assert_eq!(durations(), expected);
    assert_eq!(counted("http_requests_total"), expected);
    for name in ["request", "response"] {
        let name = format!("http_server_{name}_body_size_bytes_count");
        assert_eq!(counted(&name), expected, "{name}");
    }
}

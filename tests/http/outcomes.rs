//! The ways that a request can end and that the chaos test does not cover: HTTP/2, excluded endpoints, sizes, and the
//! shutdown of the server.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use actix_vitals::Vitals;

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

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn requests_multiplexed_over_http_2_are_each_counted_once() {
    let app = TestApp::start(vitals());
    block_on(async {
        let client = reqwest::Client::builder()
            .http2_prior_knowledge()
            .build()
            .expect("a client");
        let url = format!("http://{}/items/5", app.address);
        let answers = (0..100).map(|_| client.get(&url).send());
        for answer in futures_util::future::join_all(answers).await {
            let answer = answer.expect("an answer");
            assert_eq!(answer.version(), reqwest::Version::HTTP_2);
            assert_eq!(answer.text().await.expect("a body"), "item 5");
        }
        let head = client
            .head(format!("http://{}/ok", app.address))
            .send()
            .await
            .expect("an answer");
        assert_eq!(head.status(), 200);
    });
    let count = Count::of(&app.vitals);
    eventually("all settled", || count.in_progress() == 0);
    assert_eq!(
        count.requests().into_iter().collect::<Vec<_>>(),
        [
            (labels(["GET", "/items/{id}", "200"]), 100),
            (labels(["HEAD", "/ok", "200"]), 1)
        ]
    );
    assert_eq!(count.aborted().len(), 0);
    assert_eq!(app.heads(), 101);
}

#[test]
fn a_client_that_leaves_is_noticed_while_the_handler_still_runs() {
    let app = TestApp::start(vitals());
    let count = Count::of(&app.vitals);
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("a request");
    eventually("the request is in progress", || count.in_progress() == 1);
    let left = Instant::now();
    drop(stream);
    eventually("the request is given up", || count.in_progress() == 0);
    assert!(
        left.elapsed() < Duration::from_secs(5),
        "the handler sleeps for ten minutes"
    );
    assert_eq!(
        count.requests(),
        [(labels(["GET", "/slow", "499"]), 1)].into()
    );
    assert_eq!(
        count.aborted(),
        [(labels(["GET", "/slow", "before_head"]), 1)].into()
    );
}

#[test]
fn an_excluded_endpoint_is_not_recorded_and_all_others_are() {
    let app = TestApp::start(
        Vitals::builder()
            .exclude(["/items/{id}", "unmatched"])
            .build()
            .expect("these settings build"),
    );
    for path in ["/items/1", "/nowhere", "/ok"] {
        get(&app, path);
    }
    let count = Count::of(&app.vitals);
    eventually("it is settled", || count.in_progress() == 0);
    assert_eq!(
        count.requests(),
        [(labels(["GET", "/ok", "200"]), 1)].into()
    );
}

#[test]
fn a_star_excludes_every_endpoint() {
    let app = TestApp::start(
        Vitals::builder()
            .exclude(["*"])
            .build()
            .expect("these settings build"),
    );
    for path in ["/items/1", "/nowhere", "/ok"] {
        get(&app, path);
    }
    assert_eq!(Count::of(&app.vitals).requests().len(), 0);
}

#[test]
fn sizes_are_the_bytes_that_were_really_read_and_sent() {
    let app = TestApp::start(vitals());
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
              5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
        )
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("hello, world"));
    let count = Count::of(&app.vitals);
    eventually("it is settled", || count.in_progress() == 0);
    let route = ["method", "endpoint"];
    let echo = ["POST".to_owned(), "/echo".to_owned()];
    assert_eq!(
        count.samples("http_request_size_bytes_sum", route)[&echo],
        12.0
    );
    assert_eq!(
        count.samples("http_response_size_bytes_sum", route)[&echo],
        12.0
    );

    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"HEAD /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("a request");
    stream
        .read_to_string(&mut String::new())
        .expect("an answer");
    let head = ["HEAD".to_owned(), "/ok".to_owned()];
    assert_eq!(
        count.samples("http_response_size_bytes_sum", route)[&head],
        0.0,
        "an answer to HEAD has no body"
    );
    assert_eq!(
        count.samples("http_response_size_bytes_count", route)[&head],
        1.0
    );
}

#[test]
fn a_duration_runs_to_the_last_byte_of_the_body() {
    let app = TestApp::start(vitals());
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("a request");
    stream
        .read_exact(&mut [0; 1000])
        .expect("the start of a body");
    thread::sleep(Duration::from_millis(300));
    drop(stream);
    let count = Count::of(&app.vitals);
    eventually("the request is settled", || count.in_progress() == 0);
    let sums = count.samples("http_request_duration_seconds_sum", ["endpoint"]);
    assert!(sums[&["/endless".to_owned()]] >= 0.3, "{sums:?}");
}

/// Requests thirty-two megabytes, reads a little, waits, and closes the connection.
fn leave_a_large_answer(app: &TestApp) {
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("a request");
    stream
        .read_exact(&mut [0; 1000])
        .expect("the start of a body");
    thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_client_that_leaves_a_large_answer_is_not_taken_for_served() {
    let app = TestApp::start(vitals());
    leave_a_large_answer(&app);
    let count = Count::of(&app.vitals);
    eventually("the request is settled", || count.in_progress() == 0);
    let large = labels(["GET", "/large", "200"]);
    assert_eq!(count.requests(), [(large, 1)].into());
    assert_eq!(
        count.aborted(),
        [(labels(["GET", "/large", "body"]), 1)].into()
    );
    let route = ["GET".to_owned(), "/large".to_owned()];
    let bytes = count.samples("http_response_size_bytes_sum", ["method", "endpoint"])[&route];
    assert!(bytes < f64::from(32 << 20), "{bytes} bytes of 32 MiB");
    let seconds = count.samples("http_request_duration_seconds_sum", ["method"]);
    assert!(seconds[&["GET".to_owned()]] >= 0.3, "{seconds:?}");
}

#[test]
fn a_large_answer_arrives_whole() {
    let app = TestApp::start(vitals());
    block_on(async {
        for client in [
            reqwest::Client::builder(),
            reqwest::Client::builder().http2_prior_knowledge(),
        ] {
            let client = client.build().expect("a client");
            let answer = client
                .get(format!("http://{}/large", app.address))
                .send()
                .await
                .expect("an answer");
            let body = answer.bytes().await.expect("a body");
            assert_eq!(body.len(), 32 << 20);
        }
    });
    let count = Count::of(&app.vitals);
    eventually("both are settled", || count.in_progress() == 0);
    assert_eq!(
        count.requests(),
        [(labels(["GET", "/large", "200"]), 2)].into()
    );
    assert_eq!(count.aborted().len(), 0);
}

#[test]
fn a_client_that_leaves_is_counted_under_its_endpoint_however_it_spelt_the_path() {
    let app = TestApp::start(vitals());
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"GET /%73low HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("a request");
    let count = Count::of(&app.vitals);
    eventually("the request is in progress", || count.in_progress() == 1);
    drop(stream);
    eventually("the request is settled", || count.in_progress() == 0);
    assert_eq!(
        count.requests(),
        [(labels(["GET", "/slow", "499"]), 1)].into()
    );
}

#[test]
fn a_request_in_flight_when_the_server_stops_is_answered_and_counted() {
    let app = TestApp::start(vitals());
    let count = Count::of(&app.vitals);
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"GET /pause HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("a request");
    eventually("the request is in progress", || count.in_progress() == 1);
    app.drain();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("at last"),
        "{answer}"
    );
    eventually("it is settled", || count.in_progress() == 0);
    assert_eq!(
        count.requests(),
        [(labels(["GET", "/pause", "200"]), 1)].into()
    );
    assert_eq!(count.aborted().len(), 0);
}

#[test]
fn an_upgraded_connection_is_a_stream() {
    let app = TestApp::start(vitals());
    let count = Count::of(&app.vitals);
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .expect("a request");
    stream
        .read_exact(&mut [0; 12])
        .expect("the start of a head");
    eventually("the stream is open", || {
        count.streams_active().get("/upgrade") == Some(&1)
    });
    assert_eq!(
        count.requests(),
        [(labels(["GET", "/upgrade", "101"]), 1)].into()
    );
    drop(stream);
    eventually("the stream has ended", || {
        count.streams_active().get("/upgrade") == Some(&0)
    });
    assert_eq!(count.streams_ended()["/upgrade"], 1);
    assert_eq!(count.durations().len(), 0, "no stream is a latency");
}

#[test]
fn a_forced_shutdown_counts_what_it_cuts_off() {
    let app = TestApp::start(vitals());
    let vitals = app.vitals.clone();
    let count = Count::of(&vitals);
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("a request");
    eventually("the request is in progress", || count.in_progress() == 1);
    drop(app);
    // The workers' threads end by themselves.
    eventually("the request is given up", || count.in_progress() == 0);
    assert_eq!(
        count.aborted(),
        [(labels(["GET", "/slow", "before_head"]), 1)].into()
    );
}

fn get(app: &TestApp, path: &str) {
    let mut stream = TcpStream::connect(app.address).expect("the server listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    .expect("a request");
    stream
        .read_to_string(&mut String::new())
        .expect("an answer");
}

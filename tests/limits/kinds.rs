//! One connection of each kind of slow or large client: the answer, the time of its end, and the counted outcome.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;

use crate::limits::guarded::{BOUND, GRACE, Guarded, Raw};

const GREETING: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &str = "POST /data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

/// A deadline of each kind, all different.
const DEADLINES: [&str; 4] = [
    "--head-timeout=500ms",
    "--body-timeout=1s",
    "--response-timeout=1500ms",
    "--idle-timeout=2s",
];
const HEAD: Duration = Duration::from_millis(500);
const BODY: Duration = Duration::from_secs(1);
const RESPONSE: Duration = Duration::from_millis(1500);
const IDLE: Duration = Duration::from_secs(2);
const AT_ONCE: Duration = Duration::ZERO;

/// The bytes that a client sends, and the expected end.
struct Kind {
    name: &'static str,
    first: String,
    /// Sent after the first answer.
    then: &'static str,
    /// The status of the last answer; `None` without an answer.
    status: Option<u16>,
    deadline: Duration,
    outcome: &'static str,
}

fn kind(
    name: &'static str,
    first: impl Into<String>,
    then: &'static str,
    status: Option<u16>,
    deadline: Duration,
    outcome: &'static str,
) -> Kind {
    Kind {
        name,
        first: first.into(),
        then,
        status,
        deadline,
        outcome,
    }
}

#[allow(clippy::too_many_lines, reason = "it is a table")]
fn kinds() -> Vec<Kind> {
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(17_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(21));
    let sized = format!("{POST}Content-Length: 100\r\n\r\n{{");
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n5\r\n{{");
    let unwanted = "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{";
    let both = format!("{GREETING}GET / HTTP/1.1\r\nHost:");
    let second_large = format!("{GREETING}{large}\r\n\r\n");
    let after_body = format!("{POST}Content-Length: 2\r\n\r\n{{}}");
    vec![
        kind("nothing", "", "", None, HEAD, "idle"),
        kind(
            "half a line",
            "GET / HT",
            "",
            Some(408),
            HEAD,
            "head_timeout",
        ),
        kind(
            "half a head",
            "GET / HTTP/1.1\r\nHost: x\r\n",
            "",
            Some(408),
            HEAD,
            "head_timeout",
        ),
        kind("half a preface", "PRI * HT", "", None, HEAD, "head_timeout"),
        kind(
            "half a second head",
            GREETING,
            "GET / HT",
            Some(408),
            HEAD,
            "head_timeout",
        ),
        kind(
            "half a head behind a body",
            after_body,
            "GET / HT",
            Some(408),
            HEAD,
            "head_timeout",
        ),
        kind(
            "a head and a half",
            both,
            "",
            Some(408),
            HEAD,
            "head_timeout",
        ),
        kind("no second request", GREETING, "", Some(200), IDLE, "idle"),
        kind("half a body", sized, "", Some(408), BODY, "body_timeout"),
        kind("half a chunk", chunked, "", Some(408), BODY, "body_timeout"),
        kind(
            "a malformed chunk",
            format!("{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "",
            Some(400),
            AT_ONCE,
            "malformed",
        ),
        kind(
            "half a body that no handler reads",
            unwanted,
            "",
            Some(404),
            IDLE,
            "idle",
        ),
        kind(
            "a large head",
            format!("{large}\r\n\r\n"),
            "",
            Some(431),
            AT_ONCE,
            "headers_too_large",
        ),
        kind(
            "half a large head",
            large,
            "",
            Some(431),
            AT_ONCE,
            "headers_too_large",
        ),
        kind(
            "a large second head",
            second_large,
            "",
            Some(431),
            AT_ONCE,
            "headers_too_large",
        ),
        kind(
            "many headers",
            many,
            "",
            Some(431),
            AT_ONCE,
            "headers_too_large",
        ),
        kind(
            "not HTTP",
            "GET /\0 HTTP/1.1\r\n\r\n",
            "",
            Some(400),
            AT_ONCE,
            "malformed",
        ),
    ]
}

/// Runs one kind, and returns what is wrong with its end.
async fn fault_of(guarded: &Guarded, kind: &Kind) -> Option<String> {
    let mut connection = guarded.connect().await;
    connection.send(&kind.first).await;
    if !kind.then.is_empty() {
        connection.read_until("\r\n\r\n").await;
        connection.send(kind.then).await;
    }
    let ended = connection.end().await;
    let name = kind.name;
    if ended.after < kind.deadline || ended.after > kind.deadline + GRACE {
        return Some(format!("{name} ended after {:?}", ended.after));
    }
    let last = ended.text.rfind("HTTP/1.1 ").map(|at| &ended.text[at..]);
    let status = last.and_then(|answer| answer.get(9..12)?.parse().ok());
    if status != kind.status {
        return Some(format!("{name} was answered {:?}", ended.text));
    }
    let is_announced =
        last.is_none_or(|answer| answer.to_lowercase().contains("\r\nconnection: close\r\n"));
    // After an idle time, the connection ends without an answer.
    if kind.outcome != "idle" && !is_announced {
        return Some(format!("{name} was answered without a close: {last:?}"));
    }
    None
}

#[tokio::test]
async fn every_kind_of_slow_and_large_client_is_answered_ended_in_time_and_counted() {
    let guarded = Guarded::start(&[&DEADLINES[..], &["--max-headers=20"]].concat());
    let kinds = kinds();
    let faults: Vec<String> = join_all(kinds.iter().map(|kind| fault_of(&guarded, kind)))
        .await
        .into_iter()
        .flatten()
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    guarded.wait_for_quiet().await;
    let mut expected: Vec<(String, u64)> = Vec::new();
    for kind in &kinds {
        match expected
            .iter_mut()
            .find(|(outcome, _)| outcome == kind.outcome)
        {
            Some((_, count)) => *count += 1,
            None => expected.push((kind.outcome.to_owned(), 1)),
        }
    }
    expected.sort();
    let mut counted = guarded.outcomes().await;
    counted.sort();
    assert_eq!(counted, expected);
}

#[tokio::test]
async fn a_rejected_head_is_not_a_request_and_a_late_or_malformed_body_is_one() {
    let guarded = Guarded::start(&DEADLINES);
    for sent in [
        "GET / HT".to_owned(),
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
            "a".repeat(17_000)
        ),
        format!("{POST}Content-Length: 9\r\n\r\n"),
        format!("{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ] {
        let mut connection = guarded.connect().await;
        connection.send(sent).await;
        connection.end().await;
    }
    guarded.wait_for_quiet().await;
    let scrape = guarded.scrape().await;
    assert_eq!(scrape.sum("http_requests_total", &[]), 2.0);
    for status in ["408", "400"] {
        let answered = [
            ("method", "POST"),
            ("endpoint", "/data"),
            ("http_status", status),
        ];
        assert_eq!(
            scrape.value("http_requests_total", &answered),
            1.0,
            "{status}"
        );
    }
}

/// curl asks for HTTP/2 so, and goes on with HTTP/1.1.
#[tokio::test]
async fn an_answer_that_upgrades_nothing_announces_that_its_connection_ends() {
    let guarded = Guarded::start(&[]);
    for path in ["/data", "/nowhere"] {
        let mut connection = guarded.connect().await;
        let upgrade =
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk";
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n");
        connection.send(request).await;
        let answer = connection.end().await.text.to_lowercase();
        assert_eq!(answer.matches("connection: ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let guarded = Guarded::start(&DEADLINES);
    let message = "x".repeat(50_000);
    let item = serde_json::json!({"name": "a", "email": "a@example.com", "message": message});
    guarded.server.send(Method::POST, "/data", &item).await;

    let mut connection = guarded.connect().await;
    // More than the system buffers for both sides: the server limits unsent bytes.
    connection
        .send("GET /data HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200))
        .await;
    let asked = Instant::now();
    guarded.wait_for(&["response_timeout"], 1).await;
    let waited = asked.elapsed();
    assert!(waited < RESPONSE + GRACE, "{waited:?}");
    let text = connection.end().await.text;
    assert!(
        text.len() < 200 * message.len(),
        "the client received all of it"
    );
}

#[tokio::test]
async fn a_stream_that_is_read_is_not_slow() {
    let guarded = Guarded::start(&DEADLINES);
    let mut stream = Raw::to(guarded.ops_authority()).await;
    let began = Instant::now();
    stream
        .send("GET /dashboard/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    while began.elapsed() < IDLE * 3 {
        stream.read_until("data:").await;
    }
}

#[tokio::test]
async fn requests_sent_ahead_of_a_stream_cost_no_processor_time() {
    let guarded = Guarded::start(&DEADLINES);
    let mut stream = Raw::to(guarded.ops_authority()).await;
    stream
        .send("GET /dashboard/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    stream.read_until("data:").await;
    // More than the buffers of the protocol library and of the system.
    stream.send(GREETING.repeat(10_000)).await;

    let spent = || async {
        guarded
            .scrape()
            .await
            .value("process_cpu_seconds_total", &[])
    };
    let (before, began) = (spent().await, Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu_seconds, elapsed) = (spent().await - before, began.elapsed());
    assert!(
        cpu_seconds < elapsed.as_secs_f64() / 4.0,
        "{cpu_seconds} s of CPU time in {elapsed:?}"
    );
}

#[tokio::test]
async fn thousands_of_pipelined_requests_are_all_answered() {
    let guarded = Guarded::start(&[]);
    let connection = guarded.connect().await;
    let requests = 5000;
    let ahead = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".repeat(requests - 1);
    let last = "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = connection.exchange(ahead + last).await;
    assert_eq!(answers.matches("HTTP/1.1 404").count(), requests);
}

#[tokio::test]
async fn connections_beyond_the_cap_get_503_with_retry_after() {
    for (flag, outcome) in [
        ("--max-connections=3", "refused_total"),
        ("--max-connections-per-address=3", "refused_address"),
    ] {
        let guarded = Guarded::start(&[flag]);
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut connection = guarded.connect().await;
            connection.send(GREETING).await;
            connection.read_until("\r\n\r\n").await;
            held.push(connection);
        }
        let mut refused = guarded.connect().await;
        refused.send(GREETING).await;
        let text = refused.end().await.text;
        assert!(text.starts_with("HTTP/1.1 503 "), "{flag}: {text:?}");
        assert!(text.contains("\r\nretry-after: 1\r\n"), "{flag}: {text:?}");
        assert!(
            text.contains("application/problem+json"),
            "{flag}: {text:?}"
        );
        assert_eq!(guarded.ended(outcome).await, 1);

        held.clear();
        guarded.wait_for_quiet().await;
        let mut served = guarded.connect().await;
        served.send(GREETING).await;
        let text = served.read_until("\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{flag}: {text:?}");
    }
}

#[tokio::test]
async fn a_body_that_keeps_arriving_is_not_late() {
    let guarded = Guarded::start(&["--body-timeout=1500ms", "--head-timeout=1s"]);
    let mut connection = guarded.connect().await;
    let message = "x".repeat(8 * 1024);
    let body = format!(r#"{{"name":"a","email":"a@example.com","message":"{message}"}}"#);
    connection
        .send(format!("{POST}Content-Length: {}\r\n\r\n", body.len()))
        .await;
    // 2 KiB a second, for more than twice the deadline.
    for part in body.as_bytes().chunks(512) {
        connection.send(part).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let answer = tokio::time::timeout(BOUND, connection.read_until("\r\n\r\n")).await;
    let answer = answer.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_counted_under_the_endpoint() {
    // The ops endpoints share the listener.
    let guarded = Guarded::start_with_one_listener(&[]);
    let paths = [
        ("/data", "/data"),
        ("/data/1", "/data/{item_id}"),
        ("/ops/statements", "/ops/statements"),
    ];
    for (path, _) in paths.repeat(20) {
        let mut connection = guarded.connect().await;
        connection
            .send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        connection.hang_up().await;
        connection.end().await;
    }
    guarded.wait_for_settled().await;
    let scrape = guarded.scrape().await;
    for (_, endpoint) in paths {
        assert_eq!(
            scrape.sum("http_requests_total", &[("endpoint", endpoint)]),
            20.0,
            "{endpoint}"
        );
    }
    let left = scrape.sum("http_requests_total", &[("http_status", "499")]);
    println!("{left} of 60 clients left before their answer");
}

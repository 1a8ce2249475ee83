//! The format and encoding of the scrape that each client gets. `conformance` tests their contents.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::Method;

use crate::support::exposition::Exposition;
use crate::support::server::{Answer, Server};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Removes the white space around semicolons, which does not distinguish content types.
fn same_type(found: &str, expected: &str) -> bool {
    let parts = |text: &str| {
        text.split(';')
            .map(|part| part.trim().to_owned())
            .collect::<Vec<_>>()
    };
    parts(found) == parts(expected)
}

/// The request headers that determine the answer to a scrape.
const VARIES_BY: [&str; 2] = ["accept", "accept-encoding"];

/// The names in a `Vary` header, sorted.
fn varies_by(header: &str) -> Vec<String> {
    let mut names: Vec<String> = header
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    names.sort();
    names
}

/// The content type for a client that accepts names in UTF-8.
fn with_utf8(content_type: &str) -> String {
    format!("{content_type}; escaping=allow-utf-8")
}

async fn scrape_as(server: &Server, accept: &str) -> Answer {
    let answer = Answer::of(
        server
            .request(Method::GET, "/metrics")
            .header("accept", accept),
    )
    .await;
    assert_eq!(answer.status, 200, "{accept}");
    answer
}

#[tokio::test]
async fn each_client_gets_the_format_it_asks_for() {
    let server = Server::start();
    for (accept, expected, who) in [
        (
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
            "Prometheus 2.5 and 2.26",
        ),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
            "Prometheus 2.42",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            PROTOBUF,
            "Prometheus 2.42 with native histograms",
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            &with_utf8(OPENMETRICS),
            "Prometheus 3",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            &with_utf8(PROTOBUF),
            "Prometheus 3, protobuf first",
        ),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            TEXT,
            "a browser",
        ),
        ("*/*", TEXT, "curl"),
        ("*/*;q=2", TEXT, "Prometheus 2.49.0's wildcard"),
        ("text/plain", TEXT, "a client that wants text"),
        (
            "text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.1",
            TEXT,
            "a client that prefers text",
        ),
        (
            "application/openmetrics-text;q=0, */*",
            TEXT,
            "a client that refuses OpenMetrics",
        ),
        ("image/png", TEXT, "a client that wants something else"),
        ("", TEXT, "an empty header"),
        (";;,,=;q=", TEXT, "nonsense"),
    ] {
        let answer = scrape_as(&server, accept).await;
        let found = answer.header("content-type");
        assert!(same_type(found, expected), "{who} gets {found}");
        assert_eq!(varies_by(answer.header("vary")), VARIES_BY, "{who}");
        assert_eq!(
            answer.text.ends_with("# EOF\n"),
            expected.starts_with("application/openmetrics-text"),
            "{who}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_names_no_format_gets_text() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.authority()).expect("a connection");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        .expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let header = |name: &str| {
        answer
            .lines()
            .take_while(|line| !line.is_empty())
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_else(|| panic!("no {name} in {answer}"))
    };
    assert!(same_type(header("content-type").trim(), TEXT), "{answer}");
    assert_eq!(varies_by(header("vary")), VARIES_BY);
}

#[tokio::test]
async fn openmetrics_has_units_and_an_end() {
    let server = Server::start();
    server.create("Ada").await;
    server.scrape().await;
    let text = scrape_as(&server, "application/openmetrics-text")
        .await
        .text;
    for line in [
        "# TYPE http_requests counter",
        "# TYPE http_request_duration_seconds histogram",
        "# UNIT http_request_duration_seconds seconds",
        "# UNIT http_response_size_bytes bytes",
        "# TYPE inprogress_requests gauge",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in\n{text}"
        );
    }
    assert!(
        text.lines()
            .any(|found| found.starts_with("http_requests_total{")),
        "{text}"
    );
}

/// The number of series with a creation time, and the number of counters and histogram counts, which can have one.
async fn times_of_creation(server: &Server) -> (usize, usize) {
    server.create("Ada").await;
    server.scrape().await;
    let text = scrape_as(server, "application/openmetrics-text").await.text;
    let sample = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    let names: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(sample)
        .collect();
    // Collectors do not report creation times.
    let foreign = [
        "ops_",
        "process_",
        "runtime_",
        "allocator_",
        "db_statements_",
    ];
    let ours = |name: &&String| !foreign.iter().any(|prefix| name.starts_with(prefix));
    let with = |suffixes: &[&str]| {
        let found = names.iter().filter(ours);
        found
            .filter(|name| suffixes.iter().any(|suffix| name.ends_with(suffix)))
            .count()
    };
    (with(&["_created"]), with(&["_total", "_count"]))
}

#[tokio::test]
async fn openmetrics_has_times_of_creation_where_they_are_asked_for() {
    let (by_default, might) = times_of_creation(&Server::start()).await;
    assert_eq!(by_default, 0);
    assert!(might > 50, "{might}");
    let by_flag = Server::start_with(&["--created"]);
    let by_variable = Server::start_with_variables(&[("VITALS_CREATED", "true".to_owned())]);
    for server in [by_flag, by_variable] {
        let (created, might) = times_of_creation(&server).await;
        assert_eq!(created, might);
    }
}

#[tokio::test]
async fn a_scrape_is_compressed_when_the_client_asks_for_it() {
    let server = Server::start();
    for (accepted, compressed) in [
        ("gzip", true),
        ("gzip, deflate, br", true),
        ("identity;q=0.5, gzip;q=1", true),
        ("identity", false),
        ("gzip;q=0", false),
        ("", false),
    ] {
        let request = server
            .request(Method::GET, "/metrics")
            .header("accept-encoding", accepted);
        let response = request.send().await.unwrap();
        let encoding = response
            .headers()
            .get("content-encoding")
            .map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(
            encoding.as_deref() == Some("gzip"),
            compressed,
            "{accepted}: {encoding:?}"
        );
        let vary = response.headers()["vary"].to_str().unwrap();
        assert_eq!(varies_by(vary), VARIES_BY, "{accepted}");
        let bytes = response.bytes().await.unwrap();
        let mut text = String::new();
        if compressed {
            flate2::read::MultiGzDecoder::new(bytes.as_ref())
                .read_to_string(&mut text)
                .expect("gzip");
        } else {
            text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        }
        Exposition::parse(&text).expect("a text exposition");
    }
}

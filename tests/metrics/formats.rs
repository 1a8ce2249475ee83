//! The scrape's formats and encodings: what each client gets, and that foreign readers accept it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::exposition::{Exposition, Labels};
use crate::server::{Answer, Server};
use crate::tools;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content types are equal whatever the white space around their semicolons.
fn same_type(found: &str, expected: &str) -> bool {
    let parts = |text: &str| {
        text.split(';')
            .map(|part| part.trim().to_owned())
            .collect::<Vec<_>>()
    };
    parts(found) == parts(expected)
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

/// Some of everything, with label values and bodies that need care.
async fn hostile_traffic(server: &Server) {
    let id = server.create("Ada").await;
    for path in [
        "/data",
        &format!("/data/{id}"),
        "/data/%22quoted%22",
        "/data/%5Cback%5Cslash",
        "/line%0Afeed",
        "/%F0%9F%98%80",
        "/%FF%FE",
        "/a/../b",
        "/{item_id}",
        &format!("/{}", "long".repeat(1000)),
    ] {
        server.get(path).await;
    }
    server
        .send(
            Method::POST,
            "/data",
            &json!({"name": "\"\\\n\u{1F600}", "email": "ada@example.com"}),
        )
        .await;
    let brew = Method::from_bytes(b"BREW").unwrap();
    Answer::of(server.request(brew, "/data")).await;
}

#[tokio::test]
async fn each_client_gets_the_format_it_asks_for() {
    let server = Server::start();
    for (accept, expected, who) in [
        (
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
            "Prometheus 2.5",
        ),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
            "Prometheus 2.42",
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS,
            "Prometheus 3",
        ),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            TEXT,
            "a browser",
        ),
        ("*/*", TEXT, "curl"),
        ("*/*;q=2", TEXT, "Prometheus 2.49.0's wildcard"),
        ("text/plain", TEXT, "whoever wants text"),
        (
            "text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.1",
            TEXT,
            "whoever prefers text",
        ),
        (
            "application/openmetrics-text;q=0, */*",
            TEXT,
            "whoever refuses OpenMetrics",
        ),
        ("image/png", TEXT, "whoever wants something else"),
        ("", TEXT, "an empty header"),
        (";;,,=;q=", TEXT, "nonsense"),
    ] {
        let answer = scrape_as(&server, accept).await;
        let found = answer.header("content-type");
        assert!(same_type(found, expected), "{who} gets {found}");
        assert!(
            answer
                .header("vary")
                .to_ascii_lowercase()
                .contains("accept"),
            "{who}: {}",
            answer.header("vary")
        );
        assert_eq!(
            answer.text.ends_with("# EOF\n"),
            expected == OPENMETRICS,
            "{who}"
        );
    }
}

#[tokio::test]
async fn openmetrics_has_units_created_times_and_an_end() {
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
    for start in [
        "http_requests_total{",
        "http_requests_created{",
        "http_request_duration_seconds_created{",
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(start)),
            "{start} is missing"
        );
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
        let vary = response.headers()["vary"]
            .to_str()
            .unwrap()
            .to_ascii_lowercase();
        assert!(vary.contains("accept-encoding"), "{accepted}: {vary}");
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

/// Runs a tool with this text on its stdin.
fn feed(program: &Path, arguments: &[&str], text: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let text = text.to_owned();
    // A writer of its own, so that neither side waits for the other with a full pipe.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("the tool ends");
    writer.join().unwrap().expect("the tool reads its input");
    output
}

#[tokio::test]
async fn promtool_finds_no_fault_with_the_text_exposition() {
    let Some(promtool) = tools::promtool("promtool_finds_no_fault_with_the_text_exposition") else {
        return;
    };
    let server = Server::start();
    hostile_traffic(&server).await;
    server.scrape().await;
    let text = scrape_as(&server, "text/plain").await.text;
    let output = feed(&promtool, &["check", "metrics"], &text);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

fn conformance(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/conformance")
        .join(script)
}

/// A series by one name in both formats, of which one writes the bound 1 as `1.0`.
fn series(name: &str, mut labels: Labels) -> String {
    if let Some(bound) = labels.get_mut("le") {
        *bound = bound.parse::<f64>().expect("a bound").to_string();
    }
    format!("{name}{labels:?}")
}

/// The samples as the reference parser has read them, without created times, which the text format has not.
fn samples_of(families: &Value) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for family in families.as_array().expect("families") {
        for sample in family["samples"].as_array().expect("samples") {
            let name = sample["name"].as_str().expect("a name");
            if !name.ends_with("_created") {
                let labels = serde_json::from_value(sample["labels"].clone()).unwrap();
                let value = sample["value"].as_str().unwrap().parse().expect("a number");
                samples.insert(series(name, labels), value);
            }
        }
    }
    samples
}

#[tokio::test]
async fn the_reference_parser_accepts_the_openmetrics_exposition() {
    let Some(python) = tools::python("the_reference_parser_accepts_the_openmetrics_exposition")
    else {
        return;
    };
    let server = Server::start();
    hostile_traffic(&server).await;
    server.scrape().await;
    let text = scrape_as(&server, "application/openmetrics-text; version=1.0.0")
        .await
        .text;
    let script = conformance("openmetrics.py");
    let output = feed(&python, &[script.to_str().unwrap()], &text);
    assert!(
        output.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );

    // Both formats tell the same series.
    let families: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let openmetrics = samples_of(&families);
    let text = server.scrape().await;
    let text: BTreeMap<String, f64> = text
        .samples()
        .map(|(name, labels, value)| (series(name, labels.clone()), value))
        .collect();
    assert_eq!(
        openmetrics.keys().collect::<Vec<_>>(),
        text.keys().collect::<Vec<_>>(),
        "the series of the two formats"
    );
    let units = families
        .as_array()
        .unwrap()
        .iter()
        .filter(|family| family["unit"] != "")
        .count();
    assert!(units >= 8, "{units} families with a unit");
}

//! Checks of the scrape of any monitored service: after hostile traffic, independent readers accept each format, and all
//! three formats contain the same values.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::foreign::{Reading, Series};
use super::server::{Answer, SCRAPE_SECONDS, SCRAPE_TIMEOUT, Server};
use super::settled::settled;
use super::tools;

/// Two families by our names, with their units.
pub(crate) const OUR_UNITS: [(&str, &str); 2] = [
    ("http_requests", ""),
    ("db_query_duration_seconds", "seconds"),
];

/// Asserts that three readings of one scrape are the same, as far as the formats allow. OpenMetrics contains either all
/// creation times of protobuf or none.
pub(crate) fn assert_same(text: &Reading, openmetrics: &Reading, protobuf: &Reading) {
    let is_created = |name: &str| name.ends_with("_created");
    assert!(protobuf.samples.keys().any(|(name, _)| is_created(name)));
    let expected = if openmetrics.samples.keys().any(|(name, _)| is_created(name)) {
        protobuf.samples.clone()
    } else {
        protobuf.uncreated()
    };
    for (series, value) in openmetrics.samples.iter().chain(&expected) {
        assert_eq!(
            openmetrics.samples.get(series),
            expected.get(series),
            "OpenMetrics and protobuf differ in {series:?}, {value}"
        );
    }
    assert_eq!(text.samples, openmetrics.uncreated());
    assert_eq!(openmetrics.exemplars, protobuf.exemplars);
    assert_eq!(openmetrics.families, protobuf.families);
    let mut families = openmetrics.families.clone();
    for family in families.values_mut() {
        family.unit.clear();
    }
    assert_eq!(text.families, families);
}

/// Sends these bytes on a new connection and reads until it is closed.
fn send_raw(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.authority()).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    // The server may answer and close before it has read everything.
    let _written = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _cut = stream.read_to_end(&mut answer);
    answer
}

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Sends valid and invalid requests of many kinds to a service that has a collection of items at this path.
pub(crate) async fn hostile_traffic(server: &Server, collection: &str) {
    let name = "\"\\\n\u{1f600}";
    let item = json!({"name": name, "email": "ada@example.com"});
    let created = server.send(Method::POST, collection, &item).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let id = &created.json()["id"];
    for path in [
        collection,
        &format!("{collection}/{id}"),
        &format!("{collection}/%22quoted%22"),
        &format!("{collection}/%5Cback%5Cslash"),
        "/line%0Afeed",
        "/%F0%9F%98%80",
        "/%FF%FE",
        "/a/../b",
        "/{item_id}",
        &format!("/{}", "long".repeat(1000)),
    ] {
        server.get(path).await;
    }
    let brew = Method::from_bytes(b"BREW").unwrap();
    Answer::of(server.request(brew, collection)).await;
    let traced = server
        .request(Method::GET, collection)
        .header("traceparent", SAMPLED);
    assert_eq!(Answer::of(traced).await.status, 200);

    let long = "x".repeat(60_000);
    let quoted = "\"\\}{=,#".repeat(100);
    let mut answered = 0;
    // `@` is replaced by the path.
    for head in [
        b"GET /\"quotes\"{a=\"b\"} HTTP/1.1\r\n".to_vec(),
        b"GET /back\\slash\\n HTTP/1.1\r\n".to_vec(),
        b"GET /line\nfeed HTTP/1.1\r\n".to_vec(),
        b"GET /carriage\rreturn HTTP/1.1\r\n".to_vec(),
        b"GET /nul\0byte HTTP/1.1\r\n".to_vec(),
        "GET /\u{1f600} HTTP/1.1\r\n".as_bytes().to_vec(),
        b"GET @/\xff\xfe\xf0\x28 HTTP/1.1\r\n".to_vec(),
        b"GET /%ff%fe%00%0a%22%5c HTTP/1.1\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\n").into_bytes(),
        format!("GET @?{long} HTTP/1.1\r\n").into_bytes(),
        b"GE\"T\\ @ HTTP/1.1\r\n".to_vec(),
        "G\u{1f600}T @ HTTP/1.1\r\n".as_bytes().to_vec(),
        format!("{} @ HTTP/1.1\r\n", "M".repeat(500)).into_bytes(),
        b"#EOF|~!$%&'*+-.^_` @ HTTP/1.1\r\n".to_vec(),
        b"GET http://\"host\\@ HTTP/1.1\r\n".to_vec(),
        b"GET @ HTTP/1.1\r\nhost: \"a\\b\"\r\n".to_vec(),
        b"GET @ HTTP/1.1\r\ntraceparent: 00-\xff\xfe-\"\\-01\r\n".to_vec(),
        format!("GET @ HTTP/1.1\r\ntraceparent: {quoted}\r\naccept: {quoted}\r\n").into_bytes(),
        b"PUT @/\xf0\x9f HTTP/1.1\r\ncontent-length: 4\r\ncontent-type: \"\\\r\n".to_vec(),
        b"\xff\xfe\x00\"\\\n".to_vec(),
    ] {
        let mut request = head
            .split(|byte| *byte == b'@')
            .collect::<Vec<_>>()
            .join(collection.as_bytes());
        // Without a host, the request would be rejected for that reason alone.
        if !request.windows(5).any(|name| name == b"host:") {
            request.extend_from_slice(b"host: a\r\n");
        }
        request.extend_from_slice(b"connection: close\r\n\r\nbody");
        answered += usize::from(!send_raw(server, &request).is_empty());
    }
    assert!(answered >= 15, "only {answered} were answered");
}

/// The scrape in the format that this `Accept` header selects.
async fn scrape_as(server: &Server, accept: &str) -> Vec<u8> {
    let request = server
        .request(Method::GET, "/metrics")
        .header(SCRAPE_TIMEOUT, SCRAPE_SECONDS)
        .header("accept", accept);
    let response = request.send().await.expect("the server answers");
    let status = response.status();
    let body = response.bytes().await.expect("the whole body");
    assert_eq!(status, 200, "{accept}: {}", String::from_utf8_lossy(&body));
    body.to_vec()
}

const TEXT: &str = "text/plain;version=0.0.4";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// Checks the text format with promtool after hostile traffic. The error is the output of promtool.
pub(crate) async fn promtool_finds_no_fault(
    promtool: &Path,
    server: &Server,
    collection: &str,
) -> Result<(), String> {
    hostile_traffic(server, collection).await;
    settled(server).await;
    let text = scrape_as(server, TEXT).await;
    tools::feed(promtool, &["check", "metrics"], &text).map(|_| ())
}

/// Compares the three formats after hostile traffic, and checks the units of some families.
pub(crate) async fn foreign_readers_find_the_same(
    python: &Path,
    server: &Server,
    collection: &str,
    units: [(&str, &str); 2],
) {
    hostile_traffic(server, collection).await;
    settled(server).await;
    let before = Reading::of_text(&scrape_as(server, TEXT).await);
    let mut openmetrics =
        Reading::of_openmetrics(python, &scrape_as(server, OPENMETRICS).await).unwrap();
    let mut protobuf = Reading::of_protobuf(python, &scrape_as(server, PROTOBUF).await).unwrap();
    let mut text = Reading::of_text(&scrape_as(server, TEXT).await);
    for other in [
        &openmetrics.uncreated(),
        &protobuf.uncreated(),
        &text.samples,
    ] {
        assert!(before.samples.keys().eq(other.keys()), "other series");
    }
    for (family, unit) in units {
        assert_eq!(openmetrics.families[family].unit, unit);
    }

    // Ignores the samples that change with each scrape or with time.
    let resting = |(name, labels): &Series| {
        // A client closes a connection that is idle, at any time.
        let of_connections = name.starts_with("http_connections_");
        let recorded = (name.starts_with("http_") && !of_connections) || name.starts_with("db_");
        let of_scrapes = ["endpoint", "http_route"]
            .iter()
            .any(|label| labels.get(*label).is_some_and(|route| route == "/metrics"));
        recorded && !of_scrapes && name != "http_server_active_requests"
    };
    for reading in [&mut text, &mut openmetrics, &mut protobuf] {
        reading.samples.retain(|series, _| resting(series));
        reading.exemplars.retain(|series, _| resting(series));
    }
    for (series, value) in &text.samples {
        assert_eq!(&before.samples[series], value, "{series:?} moves");
    }
    assert_same(&text, &openmetrics, &protobuf);

    let traces: Vec<&Value> = (openmetrics.exemplars.values())
        .map(|exemplar| &exemplar["labels"]["trace_id"])
        .collect();
    assert!(traces.len() >= 2, "of the request and of its query");
    assert!(
        traces
            .iter()
            .all(|trace| SAMPLED.contains(trace.as_str().unwrap()))
    );
    assert!(text.samples.len() > 200, "{} samples", text.samples.len());
    assert!(protobuf.native.len() > 20, "{}", protobuf.native.len());
    println!(
        "{} resting samples, {} exemplars and {} native histograms are the same",
        text.samples.len(),
        openmetrics.exemplars.len(),
        protobuf.native.len()
    );
}

//! Names in UTF-8, read by the parser of Prometheus' client for Go (`expfmt`): each of its formats, by each escaping scheme.
//! It is stricter than a scraper about which names are valid under which scheme.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::Method;
use serde::Deserialize;

use crate::support::dotted;
use crate::support::server::Server;
use crate::support::settled::settled;
use crate::support::tools;

const TEXT: &str = "text/plain;version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// What `tests/tools/expfmt` prints of a family.
#[derive(Debug, Deserialize)]
struct Family {
    name: String,
    r#type: String,
    series: Vec<Series>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    value: String,
    buckets: usize,
    native: u64,
}

/// The families of a scrape, by their names.
async fn read(
    server: &Server,
    expfmt: &Path,
    kind: &str,
    scheme: &str,
) -> BTreeMap<String, Family> {
    let accept = format!("{kind};escaping={scheme}");
    let request = server.request(Method::GET, "/metrics");
    let answer = request.header("accept", &accept).send().await;
    let answer = answer.expect("an answer");
    let content_type = answer.headers()["content-type"].to_str().expect("a text");
    let content_type = content_type.to_owned();
    let same = |part: &str| content_type.replace(' ', "").contains(part);
    assert!(accept.split(';').all(same), "{content_type} for {accept}");
    let body = answer.bytes().await.expect("a body");
    let read = tools::feed(expfmt, &[&content_type], &body);
    let read = read.unwrap_or_else(|error| panic!("{accept}: {error}"));
    let families: Vec<Family> = serde_json::from_slice(&read).expect("JSON");
    let families = families.into_iter();
    families
        .map(|family| (family.name.clone(), family))
        .collect()
}

/// A name with dots by an escaping scheme.
fn escaped(name: &str, scheme: &str) -> String {
    if !name.contains('.') {
        return name.to_owned();
    }
    match scheme {
        "underscores" => name.replace('.', "_"),
        "dots" => name.replace('_', "__").replace('.', "_dot_"),
        "values" => format!("U__{}", name.replace('_', "__").replace('.', "_2e_")),
        _ => name.to_owned(),
    }
}

#[tokio::test]
async fn the_parser_of_client_golang_reads_names_in_utf_8_by_every_escaping_scheme() {
    let test = "the_parser_of_client_golang_reads_names_in_utf_8_by_every_escaping_scheme";
    let Some(expfmt) = tools::built(test, "expfmt", "expfmt") else {
        return;
    };
    let server = Server::start_with(&["--naming", "otel"]);
    for _ in 0..3 {
        server.create("Ada").await;
    }
    settled(&server).await;
    for kind in [TEXT, PROTOBUF] {
        let plain = read(&server, &expfmt, kind, "allow-utf-8").await;
        for scheme in ["allow-utf-8", "underscores", "dots", "values"] {
            let families = read(&server, &expfmt, kind, scheme).await;
            let names: BTreeSet<_> = families.keys().cloned().collect();
            let expected: BTreeSet<_> = plain.keys().map(|name| escaped(name, scheme)).collect();
            assert_eq!(names, expected, "{kind} {scheme}");
            for name in dotted::families() {
                let family = &families[&escaped(name, scheme)];
                assert_eq!(family.r#type, plain[name].r#type, "{kind} {scheme} {name}");
                let labels = |family: &Family| -> BTreeSet<String> {
                    let series = family.series.iter();
                    series.flat_map(|one| one.labels.keys().cloned()).collect()
                };
                let expected = labels(&plain[name])
                    .iter()
                    .map(|label| escaped(label, scheme))
                    .collect();
                assert_eq!(labels(family), expected, "{kind} {scheme} {name}");
            }
            let route = [
                ("http.request.method", "POST"),
                ("http.route", "/data"),
                ("http.response.status_code", "201"),
                ("url.scheme", "http"),
                ("error.type", ""),
            ];
            let route = route.map(|(label, value)| (escaped(label, scheme), value.to_owned()));
            let requests = &families[&escaped("http.server.request.duration_seconds", scheme)];
            let created = requests
                .series
                .iter()
                .find(|one| one.labels == BTreeMap::from(route.clone()));
            let native = if kind == PROTOBUF { 3 } else { 0 };
            let expected = Series {
                labels: route.into(),
                value: "3".to_owned(),
                buckets: 14,
                native,
            };
            assert_eq!(created, Some(&expected), "{kind} {scheme}");
        }
    }
}

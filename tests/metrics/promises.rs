//! The scrape contains every promised family with its type and labels, and is consistent.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::metrics::document::described;
use crate::support::exposition::Exposition;
use crate::support::promised::{Kind, PROMISED};
use crate::support::server::Server;
use crate::support::settled::settled;

/// The sample names of a family, each with the label that it has in addition to those of the family.
fn samples_of(name: &str, kind: Kind) -> Vec<(String, Option<&'static str>)> {
    match kind {
        Kind::Histogram => vec![
            (format!("{name}_bucket"), Some("le")),
            (format!("{name}_sum"), None),
            (format!("{name}_count"), None),
        ],
        Kind::Counter | Kind::Gauge => vec![(name.to_owned(), None)],
    }
}

/// A scrape after every kind of request, so that every family has a series.
async fn scrape_after_traffic() -> (Server, Exposition) {
    let server = Server::start();
    let id = server.create("Ada").await;
    server.get("/data").await;
    server
        .send(
            Method::PUT,
            &format!("/data/{id}"),
            &json!({"name": "Ada", "email": "ada@example.com"}),
        )
        .await;
    server.delete(&format!("/data/{id}")).await;
    server.get("/nowhere").await;
    server.scrape().await;
    let scrape = settled(&server).await;
    (server, scrape)
}

#[tokio::test]
async fn every_promised_family_has_its_type_its_help_and_its_labels() {
    let (_server, scrape) = scrape_after_traffic().await;
    let mut broken = Vec::new();
    for promise in PROMISED.iter().filter(|promise| !promise.is_rare) {
        let (name, kind, labels) = (promise.name, promise.kind, promise.labels);
        let Some(family) = scrape.family(name) else {
            broken.push(format!("{name} is missing"));
            continue;
        };
        if family.kind != kind.exposed() {
            broken.push(format!("{name} is a {}, not a {kind:?}", family.kind));
        }
        if family.help.len() < 10 {
            broken.push(format!(
                "{name} has no help worth the name: {:?}",
                family.help
            ));
        }
        for (sample, extra) in samples_of(name, kind) {
            let mut expected: Vec<String> = labels
                .iter()
                .copied()
                .chain(extra)
                .map(str::to_owned)
                .collect();
            expected.sort();
            let mut found = scrape.label_names(&sample);
            if promise.may_lack_pool {
                let without: Vec<_> = (expected.iter())
                    .filter(|label| *label != "pool")
                    .cloned()
                    .collect();
                found.remove(&without);
            }
            if found != BTreeSet::from([expected.clone()]) {
                broken.push(format!("{sample} has labels {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[tokio::test]
async fn families_without_series_are_described_as_promised() {
    let described = described().await;
    for promise in PROMISED.iter().filter(|promise| promise.is_rare) {
        let name = promise.name;
        let family = described.iter().find(|family| family.name == name);
        let family = family.unwrap_or_else(|| panic!("{name} is missing"));
        let found: BTreeSet<&str> = family.labels.iter().map(String::as_str).collect();
        let expected = promise.labels.iter().copied().collect();
        assert_eq!(
            (family.kind.as_str(), found),
            (promise.kind.exposed(), expected),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_exposed_sample_belongs_to_a_family_that_is_described() {
    let (_server, scrape) = scrape_after_traffic().await;
    for (sample, labels, _) in scrape.samples() {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix))
            .find(|name| {
                scrape
                    .family(name)
                    .is_some_and(|family| family.kind == "histogram")
            })
            .unwrap_or(sample);
        let described = scrape
            .family(family)
            .unwrap_or_else(|| panic!("{sample}{labels:?} has no TYPE"));
        assert!(
            !described.help.is_empty() && !described.kind.is_empty(),
            "{family}: {described:?}"
        );
    }
}

#[tokio::test]
async fn every_histogram_is_consistent() {
    let (_server, scrape) = scrape_after_traffic().await;
    let histograms: Vec<&str> = scrape
        .family_names()
        .filter(|name| {
            scrape
                .family(name)
                .is_some_and(|family| family.kind == "histogram")
        })
        .collect();
    assert!(histograms.len() >= 8, "{histograms:?}");
    for name in histograms {
        for (labels, count) in scrape.series(&format!("{name}_count")) {
            let mut buckets: Vec<(f64, f64)> = scrape
                .series(&format!("{name}_bucket"))
                .into_iter()
                .filter(|(of_bucket, _)| {
                    let mut of_series = (*of_bucket).clone();
                    of_series.remove("le");
                    of_series == *labels
                })
                .map(|(of_bucket, value)| (of_bucket["le"].parse().expect("a bound"), value))
                .collect();
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(
                buckets.is_sorted_by_key(|(_, value)| *value),
                "{name}{labels:?} falls: {buckets:?}"
            );
            let last = buckets.last().copied().expect("buckets");
            assert_eq!(last, (f64::INFINITY, count), "{name}{labels:?}");
        }
    }
}

#[tokio::test]
async fn the_latency_buckets_are_the_promised_ones_and_can_be_set() {
    let bounds = |scrape: &Exposition| {
        let mut bounds: Vec<String> = scrape
            .series("http_request_duration_seconds_bucket")
            .iter()
            .map(|(labels, _)| labels["le"].clone())
            .collect();
        bounds.sort_by(|one, other| {
            one.parse::<f64>()
                .unwrap()
                .total_cmp(&other.parse().unwrap())
        });
        bounds.dedup();
        bounds
    };
    let (_server, scrape) = scrape_after_traffic().await;
    let promised = "0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf";
    assert_eq!(bounds(&scrape).join(" "), promised);

    let server = Server::start_with(&["--latency-buckets", "0.1,0.3,3"]);
    server.get("/data").await;
    assert_eq!(bounds(&settled(&server).await).join(" "), "0.1 0.3 3 +Inf");
}

#[tokio::test]
async fn the_families_stand_in_the_same_order_in_every_scrape() {
    let (server, _) = scrape_after_traffic().await;
    let order = async || -> Vec<String> {
        let text = server.get("/metrics").await.text;
        text.lines()
            .filter(|line| line.starts_with("# TYPE "))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(order().await, order().await);
}

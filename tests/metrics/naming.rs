//! The names of OpenTelemetry's semantic conventions: the scrape contains all of them and none of ours that they replace, with
//! the same values. Also the cookbook with those names, which is generated from ours.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::dotted::{self, dotted};
use crate::support::exposition::Exposition;
use crate::support::server::{Answer, Server};
use crate::support::settled::settled;
use crate::support::wait;

/// Our families, with their names, types and labels in the conventions.
const RENAMED: &[(&str, &str, &str, &[&str])] = &[
    (
        "http_request_duration_seconds",
        "http_server_request_duration_seconds",
        "histogram",
        &[
            "error_type",
            "http_request_method",
            "http_response_status_code",
            "http_route",
            "url_scheme",
        ],
    ),
    (
        "http_request_size_bytes",
        "http_server_request_body_size_bytes",
        "histogram",
        &[
            "error_type",
            "http_request_method",
            "http_response_status_code",
            "http_route",
            "url_scheme",
        ],
    ),
    (
        "http_response_size_bytes",
        "http_server_response_body_size_bytes",
        "histogram",
        &[
            "error_type",
            "http_request_method",
            "http_response_status_code",
            "http_route",
            "url_scheme",
        ],
    ),
    (
        "inprogress_requests",
        "http_server_active_requests",
        "gauge",
        &["http_request_method", "url_scheme"],
    ),
    (
        "db_query_duration_seconds",
        "db_client_operation_duration_seconds",
        "histogram",
        &["db_operation_name", "db_system_name"],
    ),
    (
        "db_connection_open_seconds",
        "db_client_connection_create_time_seconds",
        "histogram",
        &["db_client_connection_pool_name"],
    ),
    (
        "db_pool_wait_seconds",
        "db_client_connection_wait_time_seconds",
        "histogram",
        &["db_client_connection_pool_name"],
    ),
    (
        "db_pool_hold_seconds",
        "db_client_connection_use_time_seconds",
        "histogram",
        &["db_client_connection_pool_name"],
    ),
    (
        "db_pool_timeouts_total",
        "db_client_connection_timeouts_total",
        "counter",
        &["db_client_connection_pool_name"],
    ),
    (
        "db_pool_waiters",
        "db_client_connection_pending_requests",
        "gauge",
        &["db_client_connection_pool_name"],
    ),
    (
        "db_pool_max_connections",
        "db_client_connection_max",
        "gauge",
        &["db_client_connection_pool_name"],
    ),
    (
        "db_pool_checked_out_connections",
        "db_client_connection_count",
        "gauge",
        &[
            "db_client_connection_pool_name",
            "db_client_connection_state",
        ],
    ),
    (
        "db_pool_idle_connections",
        "db_client_connection_count",
        "gauge",
        &[
            "db_client_connection_pool_name",
            "db_client_connection_state",
        ],
    ),
];

/// Families that the conventions do not define, with their labels renamed by the conventions.
const KEPT: &[(&str, &[&str])] = &[
    (
        "http_requests_total",
        &[
            "error_type",
            "http_request_method",
            "http_response_status_code",
            "http_route",
            "url_scheme",
        ],
    ),
    (
        "http_request_db_queries_count",
        &["http_request_method", "http_route"],
    ),
    ("db_queries_total", &["db_operation_name", "db_system_name"]),
    (
        "db_queries_unattributed_total",
        &["db_operation_name", "db_system_name"],
    ),
    (
        "db_pool_rejected_total",
        &["db_client_connection_pool_name", "reason"],
    ),
    (
        "db_query_errors_total",
        &["db_operation_name", "db_system_name", "error_type"],
    ),
    ("process_resident_memory_bytes", &[]),
];

/// The name of a sample that every series of the family has.
fn sample_of(name: &str, kind: &str) -> String {
    match kind {
        "histogram" => format!("{name}_count"),
        _ => name.to_owned(),
    }
}

/// A scrape of a server with these flags, after fixed traffic.
async fn scrape_after_traffic(flags: &[&str]) -> Exposition {
    let server = Server::start_with(flags);
    for _ in 0..3 {
        let id = server.create("Ada").await;
        server.get(&format!("/data/{id}")).await;
    }
    server.delete("/data/1").await;
    server.get("/data/1").await;
    server.get("/nowhere").await;
    let brew = Method::from_bytes(b"BREW").unwrap();
    Answer::of(server.request(brew, "/data")).await;
    settled(&server).await
}

#[tokio::test]
async fn by_the_names_of_the_conventions_everything_has_its_name_and_labels() {
    let scrape = scrape_after_traffic(&["--naming", "otel"]).await;
    let labels_of = |labels: &[&str]| -> BTreeSet<Vec<String>> {
        BTreeSet::from([labels.iter().map(ToString::to_string).collect()])
    };
    // What is counted by pool has series without this label, too.
    let found_in = |sample: &str, expected: &[&str]| -> BTreeSet<Vec<String>> {
        const POOL: &str = "db_client_connection_pool_name";
        let mut found = scrape.label_names(sample);
        if !expected.contains(&POOL) {
            found = (found.into_iter())
                .map(|labels| labels.into_iter().filter(|label| label != POOL).collect())
                .collect();
        }
        found
    };
    for (ours, theirs, kind, labels) in RENAMED {
        assert_eq!(scrape.family(ours), None, "{ours} is still there");
        let family = scrape.family(theirs);
        let family = family.unwrap_or_else(|| panic!("{theirs} is missing"));
        assert_eq!(family.kind, *kind, "{theirs}");
        let found = found_in(&sample_of(theirs, kind), labels);
        assert_eq!(found, labels_of(labels), "{theirs}");
    }
    for (sample, labels) in KEPT {
        assert_eq!(found_in(sample, labels), labels_of(labels), "{sample}");
    }
}

#[tokio::test]
async fn where_utf_8_is_allowed_the_names_have_their_dots() {
    let server = Server::start_with(&["--naming", "otel"]);
    server.get("/data/1").await;
    settled(&server).await;
    let scrape = async |accept: &str| {
        let request = server.request(Method::GET, "/metrics");
        let answer = Answer::of(request.header("accept", accept)).await;
        assert_eq!(answer.status, 200);
        answer.text
    };
    for kind in [
        "text/plain;version=1.0.0",
        "application/openmetrics-text;version=1.0.0",
    ] {
        let text = scrape(&format!("{kind};escaping=allow-utf-8")).await;
        for (_, theirs, kind, labels) in RENAMED {
            let sample = dotted(&sample_of(theirs, kind));
            let start = format!("{{\"{sample}\"");
            let lines = text.lines().filter(|line| line.starts_with(&start));
            let lines: Vec<_> = lines.collect();
            assert!(!lines.is_empty(), "{sample} is missing:\n{text}");
            for label in *labels {
                let pair = format!(",\"{}\"=", dotted(label));
                let has = |line: &&str| line.contains(&pair);
                assert!(lines.iter().all(has), "{sample}{pair}");
            }
        }
        let kept = "http_requests_total{\"http.request.method\"=\"GET\",\"http.route\"=\"/data/{item_id}\"";
        assert!(text.contains(kept), "{text}");
        for name in dotted::names() {
            let underscored = dotted::underscored(name);
            // A value stays as it is.
            let is_left = |line: &&str| line.contains(&underscored) && !line.contains("family=");
            assert_eq!(text.lines().find(is_left), None);
        }
        for scheme in ["escaping=underscores", "q=1"] {
            let text = scrape(&format!("{kind};{scheme}")).await;
            let has_dots = |line: &&str| dotted::names().any(|name| line.contains(name));
            assert_eq!(text.lines().find(has_dots), None);
        }
    }
}

#[tokio::test]
async fn the_values_are_the_same_by_either_name() {
    let ours = scrape_after_traffic(&[]).await;
    let theirs = scrape_after_traffic(&["--naming", "otel"]).await;
    let requests = |scrape: &Exposition, name: &str, labels: [&str; 3], values: [&str; 3]| {
        let pairs: Vec<_> = labels.into_iter().zip(values).collect();
        scrape.sum(name, &pairs)
    };
    for (values, values_there, expected) in [
        (["POST", "/data", "201"], ["POST", "/data", "201"], 3.0),
        (
            ["GET", "/data/{item_id}", "200"],
            ["GET", "/data/{item_id}", "200"],
            3.0,
        ),
        (
            ["GET", "/data/{item_id}", "404"],
            ["GET", "/data/{item_id}", "404"],
            1.0,
        ),
        (["GET", "unmatched", "404"], ["GET", "", "404"], 1.0),
        (["other", "/data", "405"], ["_OTHER", "/data", "405"], 1.0),
    ] {
        for (name, name_there) in [
            ("http_requests_total", "http_requests_total"),
            (
                "http_request_duration_seconds_count",
                "http_server_request_duration_seconds_count",
            ),
        ] {
            let here = requests(&ours, name, ["method", "endpoint", "http_status"], values);
            let labels = [
                "http_request_method",
                "http_route",
                "http_response_status_code",
            ];
            let there = requests(&theirs, name_there, labels, values_there);
            assert_eq!((here, there), (expected, expected), "{name} {values:?}");
        }
    }
    let is_http =
        |(labels, _): &(&crate::support::exposition::Labels, f64)| labels["url_scheme"] == "http";
    assert!(theirs.series("http_requests_total").iter().all(is_http));
    for (operation, operation_there) in [
        ("select", "SELECT"),
        ("insert", "INSERT"),
        ("delete", "DELETE"),
        ("other", "_OTHER"),
    ] {
        let here = ours.sum(
            "db_query_duration_seconds_count",
            &[("operation", operation)],
        );
        let there = theirs.sum(
            "db_client_operation_duration_seconds_count",
            &[
                ("db_system_name", "sqlite"),
                ("db_operation_name", operation_there),
            ],
        );
        assert_eq!(here, there, "{operation}");
    }
    for (name, name_there, labels) in [
        (
            "db_pool_max_connections",
            "db_client_connection_max",
            &[][..],
        ),
        (
            "db_pool_idle_connections",
            "db_client_connection_count",
            &[("db_client_connection_state", "idle")],
        ),
        (
            "db_pool_wait_seconds_count",
            "db_client_connection_wait_time_seconds_count",
            &[],
        ),
    ] {
        for pool in ["readers", "writers"] {
            let labels: Vec<_> = (labels.iter().copied())
                .chain([("db_client_connection_pool_name", pool)])
                .collect();
            let here = ours.value(name, &[("pool", pool)]);
            assert_eq!(here, theirs.value(name_there, &labels), "{name} of {pool}");
        }
    }
    assert_eq!(
        ours.sum("db_connection_open_seconds_count", &[]),
        theirs.sum("db_client_connection_create_time_seconds_count", &[]),
    );
    assert_eq!(theirs.sum("http_server_active_requests", &[]), 1.0);
}

/// The bounds of a histogram's buckets, in order.
fn bounds(scrape: &Exposition, histogram: &str) -> String {
    let series = scrape.series(&format!("{histogram}_bucket"));
    let mut bounds: Vec<f64> = series
        .iter()
        .filter_map(|(labels, _)| labels["le"].parse().ok())
        .filter(|bound: &f64| bound.is_finite())
        .collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
    bounds.join(" ")
}

#[tokio::test]
async fn the_buckets_are_those_that_the_conventions_recommend_unless_set() {
    const HTTP: &str = "http_server_request_duration_seconds";
    const DATABASE: &str = "db_client_operation_duration_seconds";
    let scrape = scrape_after_traffic(&["--naming", "otel"]).await;
    let recommended = "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10";
    assert_eq!(bounds(&scrape, HTTP), recommended);
    let recommended = "0.001 0.005 0.01 0.05 0.1 0.5 1 5 10";
    assert_eq!(bounds(&scrape, DATABASE), recommended);

    let scrape = scrape_after_traffic(&["--naming", "otel", "--latency-buckets", "0.2,2"]).await;
    for histogram in [HTTP, DATABASE] {
        assert_eq!(bounds(&scrape, histogram), "0.2 2");
    }
}

#[tokio::test]
async fn the_live_page_shows_what_it_does_by_our_names() {
    let server = Server::start_with(&["--naming", "otel"]);
    server.create("Ada").await;
    server.get("/nowhere").await;
    let history = wait::until("a tick with both", Duration::from_secs(20), async || {
        let history = server.get("/dashboard/history").await.json();
        let routes = history["routes"].as_array().map_or(0, Vec::len);
        (routes >= 2)
            .then_some(history)
            .ok_or_else(|| format!("{routes} routes"))
    })
    .await;
    assert_eq!(history["routes"], json!(["POST /data", "GET unmatched"]));
    let ticks = history["ticks"].as_array().expect("ticks");
    let inserts: u64 = ticks
        .iter()
        .filter_map(|tick| tick["queries"][1].as_u64())
        .sum();
    assert_eq!(inserts, 1, "{ticks:?}");
    let levels = &ticks.last().expect("a tick")["levels"];
    assert_eq!(levels["pool_max"], 10, "{levels}");
    assert!(levels["in_flight"].is_u64(), "{levels}");
}

/// The head of the cookbook with the names of the conventions.
const HEAD: &str = r#"# PromQL cookbook, by OpenTelemetry's names

The questions of [promql.md](promql.md), asked of a service that runs with `--naming otel`. This page is made from that
one by `make docs`, and a test fails when it is stale; another asks every query of the real Prometheus.

Prometheus 3 allows UTF-8 and gets the names with their dots. There, `http_server_request_duration_seconds{http_route="/data"}`
is `{"http.server.request.duration_seconds", "http.route"="/data"}`, and `by (http_route)` is `by ("http.route")`. With
`metric_name_escaping_scheme: underscores` in its configuration, it gets the names of this page.
"#;

/// Queries whose translation is more than a change of names.
const REPHRASED: [(&str, &str); 4] = [
    (
        "\ninprogress_requests\n",
        "\nsum(http_server_active_requests)\n",
    ),
    (
        "\ndb_pool_checked_out_connections / db_pool_max_connections\n",
        "\nsum without (db_client_connection_state) (db_client_connection_count{db_client_connection_state=\"used\"}) / db_client_connection_max\n",
    ),
    (
        "\ndb_pool_checked_out_connections\n",
        "\ndb_client_connection_count{db_client_connection_state=\"used\"}\n",
    ),
    (
        "\ndb_pool_idle_connections\n",
        "\ndb_client_connection_count{db_client_connection_state=\"idle\"}\n",
    ),
];

const WORDS: [(&str, &str); 7] = [
    ("method", "http_request_method"),
    ("endpoint", "http_route"),
    ("http_status", "http_response_status_code"),
    ("operation", "db_operation_name"),
    ("pool", "db_client_connection_pool_name"),
    ("\"select\"", "\"SELECT\""),
    ("\"insert\"", "\"INSERT\""),
];

/// Translates a query to the names of the conventions.
fn translate(query: &str) -> String {
    let mut query = query.to_owned();
    for (ours, theirs) in REPHRASED {
        query = query.replace(ours, theirs);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '"';
    let mut out = String::new();
    for piece in query.split_inclusive(|c| !is_part(c)) {
        let end = piece.find(|c| !is_part(c)).unwrap_or(piece.len());
        let (word, rest) = piece.split_at(end);
        out.push_str(&translate_word(word));
        out.push_str(rest);
    }
    out
}

fn translate_word(word: &str) -> String {
    for suffix in ["", "_bucket", "_sum", "_count"] {
        let Some(name) = word.strip_suffix(suffix) else {
            continue;
        };
        let family = RENAMED.iter().find(|(ours, ..)| *ours == name);
        if let Some((_, theirs, ..)) = family {
            return format!("{theirs}{suffix}");
        }
    }
    let known = WORDS.iter().find(|(ours, _)| *ours == word);
    known.map_or(word, |(_, theirs)| theirs).to_owned()
}

/// Translates the cookbook from its first question on: every query, and the names in its text.
fn translated_cookbook(ours: &str) -> String {
    let start = ours.find("\n## Traffic").expect("the first question");
    let mut page = HEAD.to_owned();
    let mut is_query = false;
    for part in ours[start..].split_inclusive("```") {
        if is_query {
            page.push_str(&translate(part));
        } else {
            let pieces = part.split('`').enumerate();
            let pieces: Vec<String> = pieces
                .map(|(at, piece)| match at % 2 {
                    1 => translate_word(piece),
                    _ => piece.to_owned(),
                })
                .collect();
            page.push_str(&pieces.join("`"));
        }
        is_query = part.ends_with("```") && !is_query;
    }
    page
}

#[test]
fn the_cookbook_by_other_names_md_is_that_by_ours() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let ours = std::fs::read_to_string(docs.join("promql.md")).expect("the cookbook can be read");
    let page = translated_cookbook(&ours);
    let path = docs.join("promql-otel.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page).expect("the page can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/promql-otel.md is stale: `make docs` writes it anew"
    );
}

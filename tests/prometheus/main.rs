//! A real Prometheus scrapes a real server, as OpenMetrics and as protobuf: it answers every query of the cookbook, and
//! shows the exemplars of traced requests.
//!
//! The cookbook itself, `docs/promql.md`, is the list of queries, and `docs/promql-otel.md` by the names of OpenTelemetry:
//! none of them stands here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

#[path = "../support/exposition.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod exposition;
#[path = "../support/prometheus.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod prometheus;
#[path = "../support/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;
#[path = "../support/tools.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tools;
#[path = "../support/wait.rs"]
mod wait;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use prometheus::Prometheus;
use server::Server;

/// How long a query may go without an answer: rates need two scrapes of a series that exists.
const ANSWER_BOUND: Duration = Duration::from_secs(60);

/// The names that a server exposes: what it is told, where its cookbook is, and what it calls the latency of requests.
struct Names {
    flags: &'static [&'static str],
    cookbook: &'static str,
    latency: &'static str,
}

const OURS: Names = Names {
    flags: &[],
    cookbook: "docs/promql.md",
    latency: "http_request_duration_seconds",
};

const OPENTELEMETRY: Names = Names {
    flags: &["--naming", "otel"],
    cookbook: "docs/promql-otel.md",
    latency: "http_server_request_duration_seconds",
};

/// The queries of the cookbook, in order.
fn cookbook(names: &Names) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(names.cookbook);
    promql_blocks(&std::fs::read_to_string(path).expect("the cookbook can be read"))
}

/// The contents of all fenced blocks marked `promql`.
fn promql_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in markdown.lines() {
        match (&mut open, line.trim()) {
            (None, "```promql") => open = Some(Vec::new()),
            (Some(lines), "```") => {
                blocks.push(lines.join("\n"));
                open = None;
            }
            (Some(lines), _) => lines.push(line),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a promql block that does not end");
    blocks
}

/// Creates, reads, lists, replaces and deletes without end, with a refused request in every round.
async fn keep_busy(url: String) {
    let client = Client::builder()
        // Sooner than the server, which closes after five: or a request may meet a closing connection.
        .pool_idle_timeout(std::time::Duration::from_secs(2))
        .no_proxy()
        .build()
        .expect("an HTTP client");
    let item = json!({"name": "Ada", "email": "ada@example.com", "message": "hello"});
    let send = async |method: Method, path: String, body: Option<&serde_json::Value>| {
        let mut request = client.request(method, format!("{url}{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        response.text().await
    };
    let round = async || {
        let created = send(Method::POST, "/data".into(), Some(&item)).await?;
        let created: serde_json::Value = serde_json::from_str(&created).unwrap_or_default();
        let item_path = format!("/data/{}", created["id"]);
        send(Method::GET, "/data?limit=10".into(), None).await?;
        send(Method::GET, item_path.clone(), None).await?;
        send(Method::PUT, item_path.clone(), Some(&item)).await?;
        send(Method::DELETE, item_path.clone(), None).await?;
        send(Method::GET, item_path, None).await?;
        Ok::<_, reqwest::Error>(())
    };
    // The server goes away at the end of the test; nobody is interested in that error.
    while round().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks one query until it answers; the error tells what is wrong with the last answer.
async fn answers(prometheus: &Prometheus, query: &str) -> Result<(), String> {
    let elements = prometheus.query(query).await?;
    if elements.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    match elements.iter().find(|element| !element.value.is_finite()) {
        Some(odd) => Err(format!("{:?} is {}", odd.labels, odd.value)),
        None => Ok(()),
    }
}

/// The form in which a Prometheus takes histograms, which decides the format that it scrapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As OpenMetrics: `x_bucket`, `x_sum` and `x_count`.
    Classic,
    /// As protobuf: `x` alone.
    Native,
}

impl Form {
    /// The flag that switches these features on, and native histograms where this form has them.
    fn flag(self, features: &[&str]) -> Option<String> {
        let mut features = features.to_vec();
        if self == Self::Native {
            features.push("native-histograms");
        }
        (!features.is_empty()).then(|| format!("--enable-feature={}", features.join(",")))
    }

    /// The name under which this form keeps the distribution, and its exemplars, of a histogram.
    fn series(self, histogram: &str) -> String {
        match self {
            Self::Classic => format!("{histogram}_bucket"),
            Self::Native => histogram.to_owned(),
        }
    }

    /// Starts a Prometheus of this form, with these further features, and waits for its first scrape.
    async fn start(self, binary: &Path, server: &Server, features: &[&str]) -> Prometheus {
        let flag = self.flag(features);
        let flags: Vec<&str> = flag.iter().map(String::as_str).collect();
        let prometheus = Prometheus::start(binary, server.authority(), &flags).await;
        wait::until("the first scrape", ANSWER_BOUND, || {
            prometheus.target_is_up()
        })
        .await;
        prometheus
    }

    /// That histograms are kept in this form and not in the other, as a scrape in the other format would have it.
    async fn is_kept_by(self, prometheus: &Prometheus, names: &Names) {
        let latency = names.latency;
        for (query, expected) in [
            (format!("histogram_count({latency})"), Self::Native),
            (format!("{latency}_bucket"), Self::Classic),
            (format!("{latency}_count"), Self::Classic),
        ] {
            let found = prometheus.query(&query).await.expect("an answer").len();
            assert_eq!(found > 0, self == expected, "{self:?}: {query}: {found}");
        }
    }
}

async fn every_query_answers(test: &str, names: &Names, form: Form) {
    let Some(binary) = tools::prometheus(test) else {
        return;
    };
    let server = Server::start_with(names.flags);
    let load = tokio::spawn(keep_busy(server.url("")));
    let prometheus = form.start(&binary, &server, &[]).await;
    for query in cookbook(names) {
        wait::until(&format!("an answer to {query}"), ANSWER_BOUND, || {
            answers(&prometheus, &query)
        })
        .await;
    }
    form.is_kept_by(&prometheus, names).await;
    assert!(!load.is_finished(), "the load ended before its time");
    load.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_cookbook_answers_from_classic_histograms() {
    let test = "every_query_of_the_cookbook_answers_from_classic_histograms";
    every_query_answers(test, &OURS, Form::Classic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_cookbook_answers_from_native_histograms() {
    let test = "every_query_of_the_cookbook_answers_from_native_histograms";
    every_query_answers(test, &OURS, Form::Native).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookbook_by_opentelemetrys_names_answers_from_classic_histograms() {
    let test = "the_cookbook_by_opentelemetrys_names_answers_from_classic_histograms";
    every_query_answers(test, &OPENTELEMETRY, Form::Classic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookbook_by_opentelemetrys_names_answers_from_native_histograms() {
    let test = "the_cookbook_by_opentelemetrys_names_answers_from_native_histograms";
    every_query_answers(test, &OPENTELEMETRY, Form::Native).await;
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const UNSAMPLED_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The exemplars of one series name, each as its series' labels and itself.
async fn exemplars(prometheus: &Prometheus, selector: &str) -> Result<Vec<(Value, Value)>, String> {
    let data = prometheus
        .ask("/api/v1/query_exemplars", &[("query", selector)])
        .await?;
    let mut found = Vec::new();
    for series in data.as_array().into_iter().flatten() {
        for exemplar in series["exemplars"].as_array().into_iter().flatten() {
            found.push((series["seriesLabels"].clone(), exemplar.clone()));
        }
    }
    if found.is_empty() {
        return Err(format!("{selector} has no exemplars"));
    }
    Ok(found)
}

async fn exemplars_arrive(test: &str, form: Form) {
    let Some(binary) = tools::prometheus(test) else {
        return;
    };
    let server = Server::start();
    let prometheus = form.start(&binary, &server, &["exemplar-storage"]).await;
    let id = server.create("Ada").await;
    for (method, path, traceparent) in [
        (
            Method::DELETE,
            format!("/data/{id}"),
            format!("00-{UNSAMPLED_TRACE}-{SPAN}-00"),
        ),
        (
            Method::GET,
            "/data".to_owned(),
            format!("00-{TRACE}-{SPAN}-01"),
        ),
    ] {
        let request = server
            .request(method, &path)
            .header("traceparent", traceparent);
        let answer = server::Answer::of(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    for (histogram, labels) in [
        (
            "http_request_duration_seconds",
            json!({"method": "GET", "endpoint": "/data", "http_status": "200"}),
        ),
        ("db_query_duration_seconds", json!({"operation": "select"})),
    ] {
        let name = form.series(histogram);
        let found = wait::until(&format!("exemplars of {name}"), ANSWER_BOUND, || {
            exemplars(&prometheus, &name)
        })
        .await;
        for (series, exemplar) in &found {
            for (label, value) in labels.as_object().expect("labels") {
                assert_eq!(&series[label], value, "{series}");
            }
            assert_eq!(
                exemplar["labels"],
                json!({"trace_id": TRACE, "span_id": SPAN}),
                "{series}"
            );
            let seconds: f64 = exemplar["value"].as_str().unwrap().parse().unwrap();
            assert!(seconds > 0.0 && seconds < 60.0, "{exemplar}");
            if let Some(bound) = series["le"].as_str() {
                assert!(seconds <= bound.parse::<f64>().unwrap(), "{series}");
            }
        }
        assert_eq!(found.len(), 1, "one query, one exemplar: {found:?}");
    }
    // The unsampled request came first: had it left an exemplar anywhere, the same scrape would have brought it.
    let all = exemplars(&prometheus, r#"{__name__=~".+"}"#)
        .await
        .expect("exemplars");
    let traces: BTreeSet<&str> = all
        .iter()
        .map(|(_, exemplar)| exemplar["labels"]["trace_id"].as_str().expect("a trace"))
        .collect();
    assert_eq!(traces, BTreeSet::from([TRACE]));
    form.is_kept_by(&prometheus, &OURS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_trace_leads_from_a_bucket_of_its_request_and_of_its_query() {
    let test = "a_sampled_trace_leads_from_a_bucket_of_its_request_and_of_its_query";
    exemplars_arrive(test, Form::Classic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_trace_leads_from_the_native_histograms_of_its_request_and_of_its_query() {
    let test = "a_sampled_trace_leads_from_the_native_histograms_of_its_request_and_of_its_query";
    exemplars_arrive(test, Form::Native).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_counts_what_was_sent() {
    let Some(binary) = tools::prometheus("prometheus_counts_what_was_sent") else {
        return;
    };
    let server = Server::start();
    let prometheus = Prometheus::start(&binary, server.authority(), &[]).await;
    for number in 0..7 {
        server.create(&format!("Visitor {number}")).await;
    }
    let query = r#"http_requests_total{method="POST", endpoint="/data", http_status="201"}"#;
    wait::until(
        "seven creations in Prometheus",
        ANSWER_BOUND,
        async || match prometheus.query(query).await?.as_slice() {
            [one] if (one.value - 7.0).abs() < f64::EPSILON => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

#[test]
fn the_cookbook_is_read_as_written() {
    let markdown = "text\n```promql\na\n  + b\n```\n```sh\nno\n```\n```promql\nc\n```\n";
    assert_eq!(promql_blocks(markdown), ["a\n  + b", "c"]);
    assert!(cookbook(&OURS).len() >= 15, "the cookbook lost its queries");
    assert_eq!(cookbook(&OURS).len(), cookbook(&OPENTELEMETRY).len());
}

//! Real scrapers scrape a real server, as OpenMetrics, protobuf and text: the oldest and the newest Prometheus, and
//! VictoriaMetrics. They answer every query that we deploy or document, keep the exemplars of traced requests, and send alerts
//! to a real Alertmanager.
//!
//! The queries are those of the files under `deploy` and `docs`.

mod alerts;
mod deployed;
mod formats;
mod intruder;
mod ledger;
mod load;
mod receiver;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::prometheus::{Prometheus, Setup, job};
use crate::support::scrapers::{self, Program, Scraper};
use crate::support::server::Server;
use crate::support::{deployment, dotted, promql, server, wait};

/// How long a query may have no answer: a rate needs two scrapes of a series.
const ANSWER_BOUND: Duration = Duration::from_secs(60);

/// The flag that makes a Prometheus keep exemplars.
const EXEMPLARS: &str = "--enable-feature=exemplar-storage";

/// The name of the request latency, in our naming and in that of OpenTelemetry.
const LATENCY: &str = "http_request_duration_seconds";
const OTEL_LATENCY: &str = "http_server_request_duration_seconds";

/// The queries of a cookbook, in order.
fn cookbook(path: &str) -> Vec<String> {
    promql::blocks(&deployment::read(&deployment::root().join(path)))
}

/// Repeats a query until it returns data. The error describes the last answer.
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

/// The form in which a scraper keeps histograms, which decides the format that it scrapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Scraped as OpenMetrics: `x_bucket`, `x_sum` and `x_count`.
    Classic,
    /// Scraped as protobuf: only `x`.
    Native,
    /// Scraped as OpenMetrics, and converted by the newest Prometheus: only `x`, with the classic bounds.
    Converted,
}

impl Form {
    /// The series name of a histogram and its exemplars in this form.
    fn series(self, histogram: &str) -> String {
        match self {
            Self::Classic => format!("{histogram}_bucket"),
            Self::Native | Self::Converted => histogram.to_owned(),
        }
    }

    /// The settings under `global` that it needs.
    fn global(self) -> &'static str {
        match self {
            Self::Converted => ", convert_classic_histograms_to_nhcb: true",
            Self::Classic | Self::Native => "",
        }
    }

    /// Starts a scraper of this form with these further flags, and waits for its first scrape.
    async fn start(self, scraper: &Scraper, server: &Server, flags: &[&str]) -> Prometheus {
        let jobs = job("actix-vitals", &[server.authority()]);
        self.start_jobs(scraper, &jobs, flags).await
    }

    /// As [`Self::start`], with this scrape configuration.
    async fn start_jobs(self, scraper: &Scraper, jobs: &str, flags: &[&str]) -> Prometheus {
        let setup = Setup {
            jobs,
            native: self == Self::Native,
            global: self.global(),
            flags,
            ..Setup::default()
        };
        let prometheus = Prometheus::start_set_up(scraper, &setup).await;
        wait::until("the first scrape", ANSWER_BOUND, || {
            prometheus.target_is_up()
        })
        .await;
        prometheus
    }

    /// Asserts that histograms are stored in this form and not in the other. The name of one may be a selector.
    async fn is_kept_by(self, prometheus: &Prometheus, latency: &str) {
        let part = |suffix: &str| match latency.strip_suffix("\"}") {
            Some(start) => format!("{start}{suffix}\"}}"),
            None => format!("{latency}{suffix}"),
        };
        let is_classic = self == Self::Classic;
        for (query, expected) in [
            (latency.to_owned(), !is_classic),
            (part("_bucket"), is_classic),
            (part("_count"), is_classic),
        ] {
            let found = prometheus.query(&query).await.expect("an answer").len();
            assert_eq!(found > 0, expected, "{self:?}: {query}: {found}");
        }
    }
}

/// Asks the cookbook by OpenTelemetry's names: with dots where the scraper keeps them, and with underscores.
async fn the_otel_cookbook_answers(scrapers: Vec<Scraper>, form: Form) {
    let server = Server::start_with(&["--naming", "otel"]);
    let load = tokio::spawn(load::keep_busy(server.url("")));
    let asked = scrapers.iter().map(async |scraper| {
        let is_newest = scraper.program == Program::Newest;
        ask_the_otel_cookbook(scraper, &server, form, is_newest, |query| {
            if scraper.is_prometheus() {
                query.to_owned()
            } else {
                promql::classic(query)
            }
        })
        .await;
        if is_newest {
            ask_the_otel_cookbook(scraper, &server, form, false, dotted::dotted_query).await;
        }
    });
    join_all(asked).await;
    assert!(!load.is_finished(), "the load ended before its time");
    load.abort();
}

async fn ask_the_otel_cookbook(
    scraper: &Scraper,
    server: &Server,
    form: Form,
    escapes: bool,
    translate: impl Fn(&str) -> String,
) {
    let mut jobs = job("actix-vitals", &[server.authority()]);
    if escapes {
        jobs += "    metric_name_escaping_scheme: underscores\n";
    }
    let prometheus = form.start_jobs(scraper, &jobs, &[]).await;
    for query in cookbook("docs/promql-otel.md") {
        let query = translate(&query);
        let awaited = format!("an answer of {} to {query}", scraper.name());
        wait::until(&awaited, ANSWER_BOUND, || answers(&prometheus, &query)).await;
    }
    form.is_kept_by(&prometheus, &translate(OTEL_LATENCY)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookbook_by_opentelemetrys_names_answers_from_classic_histograms() {
    let test = "the_cookbook_by_opentelemetrys_names_answers_from_classic_histograms";
    the_otel_cookbook_answers(scrapers::all(test), Form::Classic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookbook_by_opentelemetrys_names_answers_from_native_histograms() {
    let test = "the_cookbook_by_opentelemetrys_names_answers_from_native_histograms";
    the_otel_cookbook_answers(scrapers::prometheuses(test), Form::Native).await;
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const UNSAMPLED_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The exemplars of one series name, each with the labels of its series.
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
    for scraper in scrapers::prometheuses(test) {
        exemplars_arrive_at(&scraper, form).await;
    }
}

async fn exemplars_arrive_at(scraper: &Scraper, form: Form) {
    let server = Server::start();
    let prometheus = form.start(scraper, &server, &[EXEMPLARS]).await;
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
    // The unsampled request came first, so the same scrape would contain its exemplar.
    let all = exemplars(&prometheus, r#"{__name__=~".+"}"#)
        .await
        .expect("exemplars");
    let traces: BTreeSet<&str> = all
        .iter()
        .map(|(_, exemplar)| exemplar["labels"]["trace_id"].as_str().expect("a trace"))
        .collect();
    assert_eq!(traces, BTreeSet::from([TRACE]));
    form.is_kept_by(&prometheus, LATENCY).await;
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
    let server = Server::start();
    for number in 0..7 {
        server.create(&format!("Visitor {number}")).await;
    }
    for scraper in scrapers::all("prometheus_counts_what_was_sent") {
        let prometheus = Prometheus::start(&scraper, server.authority(), &[]).await;
        let query = r#"http_requests_total{method="POST", endpoint="/data", http_status="201"}"#;
        let awaited = format!("seven creations in {}", scraper.name());
        wait::until(&awaited, ANSWER_BOUND, async || {
            match prometheus.query(query).await?.as_slice() {
                [one] if (one.value - 7.0).abs() < f64::EPSILON => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

#[test]
fn both_cookbooks_have_their_queries() {
    let queries = cookbook("docs/promql.md").len();
    assert!(queries >= 15, "the cookbook lost its queries");
    assert_eq!(cookbook("docs/promql-otel.md").len(), queries);
}

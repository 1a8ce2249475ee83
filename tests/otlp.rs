//! The push, with a real receiver: the newest Prometheus receives it, scrapes the same service, and finds the same values. Also
//! the settings of the push, and its last delivery.
//!
//! - `collector`: an OpenTelemetry Collector gets metrics, and the traces of kept requests

mod collector;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    exposition::Exposition,
    keeper::free_port,
    prometheus::{Element, Prometheus, Setup, job},
    scrapers::{self, Program},
    server::{Answer, Server, run_to_end},
    settled::settled,
    wait,
};

/// How long the test waits for a push to be queryable.
const BOUND: Duration = Duration::from_secs(60);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// The labels of the pushes of metrics that succeeded.
const PUSHED: [(&str, &str); 2] = [("signal", "metrics"), ("outcome", "success")];

/// The requests that create an item, in [`load`].
const CREATED: u32 = 25;

/// Starts a Prometheus with its OTLP receiver, and these scrape configurations.
async fn receiver(test: &str, jobs: &str) -> Option<Prometheus> {
    let binary = scrapers::one(test, Program::Newest)?;
    let setup = Setup {
        jobs,
        flags: &[
            "--web.enable-otlp-receiver",
            "--enable-feature=exemplar-storage",
        ],
        ..Setup::default()
    };
    Some(Prometheus::start_set_up(&binary, &setup).await)
}

fn otlp_url(prometheus: &Prometheus) -> String {
    format!("http://{}/api/v1/otlp", prometheus.authority())
}

/// Requests of each kind: created, read, listed, not found, rejected, and traced.
async fn load(server: &Server) {
    for number in 0..CREATED {
        let id = server.create(&format!("Visitor {number}")).await;
        server.get(&format!("/data/{id}")).await;
    }
    for _ in 0..10 {
        assert_eq!(server.get("/data").await.status, 200);
        assert_eq!(server.get("/data/999999").await.status, 404);
        assert_eq!(
            server.send(Method::POST, "/data", &json!({})).await.status,
            422
        );
        assert_eq!(server.get("/nowhere").await.status, 404);
    }
    let traced = server.request(Method::GET, "/data");
    let traced = traced.header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
    assert_eq!(Answer::of(traced).await.status, 200);
}

/// A series: its name, and its labels without those of the target.
type Series = (String, BTreeMap<String, String>);

fn series(element: &Element) -> Series {
    let mut labels = element.labels.clone();
    let name = labels.remove("__name__").unwrap_or_default();
    labels.remove("job");
    labels.remove("instance");
    (name, labels)
}

/// The latest value of each series of a job; of a histogram, its count.
async fn values(prometheus: &Prometheus, job: &str) -> BTreeMap<Series, f64> {
    let elements = prometheus.query(&format!("{{job=\"{job}\"}}")).await;
    let elements = elements.expect("an answer");
    elements
        .iter()
        .map(|element| (series(element), element.value))
        .collect()
}

/// The samples of a scrape by the names that a push has for them: a histogram is one series, with its count as value.
fn pushed_samples(scrape: &Exposition) -> BTreeMap<Series, (String, f64)> {
    let mut samples = BTreeMap::new();
    for (name, labels, value) in scrape.samples() {
        let found = [name, name.trim_end_matches("_count")]
            .into_iter()
            .find_map(|family| {
                let kind = &scrape.family(family)?.kind;
                Some((family, kind.clone()))
            });
        let Some((family, kind)) = found else {
            // A bucket or sum of a histogram.
            continue;
        };
        let mut labels = labels.clone();
        // To Prometheus, a label with an empty value is no label.
        labels.retain(|_, value| !value.is_empty());
        samples.insert((family.to_owned(), labels), (kind, value));
    }
    samples
}

/// Waits until a push that began after this scrape has arrived. A push counts itself at its end.
async fn wait_for_a_push_after(scrape: &Exposition, prometheus: &Prometheus) {
    let before = scrape.value("vitals_push_total", &PUSHED);
    let query = r#"vitals_push_total{signal="metrics", outcome="success"}"#;
    wait::until("a later push", BOUND, async || {
        let found = prometheus.query(query).await?;
        match found
            .iter()
            .find(|element| element.labels["job"] == "actix-vitals")
        {
            // One push may have been under way.
            Some(pushes) if pushes.value >= before + 2.0 => Ok(()),
            other => Err(format!("{before} before, now {other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_gets_by_push_what_a_scrape_shows() {
    let test = "prometheus_gets_by_push_what_a_scrape_shows";
    let Some(prometheus) = receiver(test, "").await else {
        return;
    };
    let url = otlp_url(&prometheus);
    let server = Server::start_with(&["--otlp-endpoint", &url, "--otlp-interval", "500ms"]);
    load(&server).await;
    let first = settled(&server).await;
    wait_for_a_push_after(&first, &prometheus).await;
    let pushed = values(&prometheus, "actix-vitals").await;
    let last = server.scrape().await;

    let (first, last) = (pushed_samples(&first), pushed_samples(&last));
    let (mut counters, mut histograms, mut unchanged) = (0, 0, 0);
    for (series, (kind, before)) in &first {
        let Some(value) = pushed.get(series) else {
            panic!("{series:?} was not pushed");
        };
        // The push was read between the two scrapes.
        let (_, after) = last.get(series).expect("series stay");
        match kind.as_str() {
            "counter" => counters += 1,
            "histogram" => histograms += 1,
            // A gauge may have had any value in between.
            _ => continue,
        }
        assert!(
            before <= value && value <= after,
            "{series:?}: {before}, {value}, {after}"
        );
        unchanged += usize::from(before == after);
    }
    assert!(
        counters >= 60 && histograms >= 20,
        "{counters} counters, {histograms} histograms"
    );
    let compared = counters + histograms;
    assert!(
        unchanged * 10 >= compared * 7,
        "{unchanged} of {compared} were equal"
    );

    let created = |endpoint: &str, status: &str| {
        let labels = [
            ("method", "POST"),
            ("endpoint", endpoint),
            ("http_status", status),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        pushed[&("http_requests_total".to_owned(), BTreeMap::from(labels))]
    };
    assert_eq!(created("/data", "201"), f64::from(CREATED));
    assert_eq!(created("/data", "422"), 10.0);
    // Prometheus receives metrics alone, and is not asked again.
    let rejected = [("signal", "traces"), ("outcome", "rejected")];
    wait::until("traces that are rejected", BOUND, async || {
        let scrape = server.scrape().await;
        match scrape.value("vitals_push_total", &rejected) {
            1.0 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    server.log_with("the receiver takes no traces", 1).await;
    let started_as = prometheus.query("target_info").await.expect("an answer");
    let [target] = &started_as[..] else {
        panic!("{started_as:?}");
    };
    assert_eq!(target.labels["job"], "actix-vitals");
    assert_eq!(target.labels["service_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(target.labels["instance"].len(), 36, "a UUID: {target:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victoriametrics_counts_what_was_pushed() {
    let test = "victoriametrics_counts_what_was_pushed";
    let Some(scraper) = scrapers::one(test, Program::VictoriaMetrics) else {
        return;
    };
    let victoria = Prometheus::start_set_up(&scraper, &Setup::default()).await;
    let url = format!("http://{}/opentelemetry", victoria.authority());
    let server = Server::start_with(&["--otlp-endpoint", &url, "--otlp-interval", "500ms"]);
    load(&server).await;
    let created = r#"method="POST", endpoint="/data", http_status="201""#;
    for sample in ["http_requests_total", "http_request_duration_seconds_count"] {
        let query = format!("{sample}{{{created}}}");
        wait::until(&query, BOUND, async || {
            match victoria.query(&query).await?.as_slice() {
                [one] if one.value == f64::from(CREATED) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// A scrape configuration of the same service, with native histograms, under another job.
fn scrape_job(server: &Server) -> String {
    let job = job("scraped", &[server.authority()]);
    format!("{job}    scrape_native_histograms: true\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quantiles_and_exemplars_agree_with_those_of_scraped_native_histograms() {
    let test = "quantiles_and_exemplars_agree_with_those_of_scraped_native_histograms";
    if scrapers::one(test, Program::Newest).is_none() {
        return;
    }
    // The service must be there before the configuration that names its port: it pushes to a port that is taken later.
    let authority = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{authority}/api/v1/otlp");
    let server = Server::start_with(&["--otlp-endpoint", &url, "--otlp-interval", "500ms"]);
    let binary = scrapers::one(test, Program::Newest).expect("it was there before");
    let jobs = scrape_job(&server);
    let listen = format!("--web.listen-address={authority}");
    let setup = Setup {
        jobs: &jobs,
        flags: &[
            "--web.enable-otlp-receiver",
            "--enable-feature=exemplar-storage",
            &listen,
        ],
        ..Setup::default()
    };
    let prometheus = Prometheus::start_set_up(&binary, &setup).await;
    load(&server).await;
    let after = settled(&server).await;
    wait_for_a_push_after(&after, &prometheus).await;

    // Both ways give the same buckets: quantiles are equal wherever nothing was observed in between.
    let histogram = "http_request_duration_seconds";
    for quantile in ["0", "0.1", "0.5", "0.9", "0.99", "1"] {
        let query = format!("histogram_quantile({quantile}, {histogram})");
        wait::until(&format!("equal answers to {query}"), BOUND, async || {
            let answers = prometheus.query(&query).await?;
            let of = |job: &str| -> BTreeMap<_, _> {
                let of_job = answers
                    .iter()
                    .filter(|element| element.labels["job"] == job);
                of_job
                    .map(|element| (series(element).1, element.value))
                    .collect()
            };
            let (pushed, scraped) = (of("actix-vitals"), of("scraped"));
            if pushed.len() < 6 || pushed != scraped {
                return Err(format!("{pushed:?}\n{scraped:?}"));
            }
            Ok(())
        })
        .await;
    }
    let query = format!("{{__name__=\"{histogram}\",job=\"actix-vitals\"}}");
    let found = wait::until("an exemplar", BOUND, async || {
        let data = prometheus
            .ask("/api/v1/query_exemplars", &[("query", &query)])
            .await?;
        let series = data.as_array().cloned().unwrap_or_default();
        if series.is_empty() {
            return Err("there is none".to_owned());
        }
        Ok(series)
    })
    .await;
    let [only] = &found[..] else {
        panic!("one request was traced: {found:?}");
    };
    assert_eq!(only["seriesLabels"]["endpoint"], "/data");
    let exemplar = &only["exemplars"][0]["labels"];
    assert_eq!(*exemplar, json!({"trace_id": TRACE, "span_id": SPAN}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_push_contains_every_request_before_the_shutdown() {
    let test = "the_last_push_contains_every_request_before_the_shutdown";
    let Some(prometheus) = receiver(test, "").await else {
        return;
    };
    // By the variables of OpenTelemetry alone.
    let server = Server::start_with_variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_url(&prometheus)),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.instance.id=first".to_owned(),
        ),
        ("OTEL_SERVICE_NAME", "shop".to_owned()),
        ("VITALS_OTLP_INTERVAL", "1day".to_owned()),
    ]);
    load(&server).await;
    assert_eq!(server.stop(), Some(0));
    let query = r#"http_requests_total{method="POST",http_status="201"}"#;
    let found = prometheus.query(query).await.expect("an answer");
    let [created] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(created.value, f64::from(CREATED));
    assert_eq!(created.labels["job"], "shop");
    assert_eq!(created.labels["instance"], "first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_gone_costs_the_service_nothing() {
    let authority = format!("127.0.0.1:{}", free_port());
    let url = format!("http://ada:hunter2@{authority}/hunter2");
    let server = Server::start_with_variables(&[
        ("VITALS_OTLP_ENDPOINT", url),
        ("VITALS_OTLP_INTERVAL", "200ms".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2".to_owned()),
        ("VITALS_LOG", "trace".to_owned()),
    ]);
    load(&server).await;
    let scrape = wait::until("three pushes that failed", BOUND, async || {
        let scrape = server.scrape().await;
        let failed = [("signal", "metrics"), ("outcome", "failed")];
        match scrape.value("vitals_push_total", &failed) {
            failed if failed >= 3.0 => Ok(scrape),
            failed => Err(format!("{failed}")),
        }
    })
    .await;
    for outcome in ["success", "partial", "rejected"] {
        assert_eq!(
            scrape.sum("vitals_push_total", &[("outcome", outcome)]),
            0.0
        );
    }
    let failure = "metrics cannot be pushed";
    let log = server.log_with(failure, 1).await;
    let warnings = log.matches(failure).count();
    assert_eq!(warnings, 1, "the same failure is logged once");
    assert!(log.contains(&authority), "the receiver is named");
    for (secret, place) in [("hunter2", &log), ("YWRhOmh1bnRlcjI", &log)] {
        assert!(!place.contains(secret), "{secret} is in the log");
    }
    assert!(!server.get("/metrics").await.text.contains("hunter2"));
    let begun = Instant::now();
    assert_eq!(server.stop(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_setting_of_the_push_that_is_not_valid_is_named_without_its_value() {
    let flag = "--otlp-endpoint (VITALS_OTLP_ENDPOINT) must be a URL that begins with http:// or https://.";
    let url = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1");
    for (arguments, environment, sentence) in [
        (&["--otlp-endpoint", "hunter2:4317"][..], &[][..], flag),
        (&[], &[("VITALS_OTLP_ENDPOINT", "hunter2")], flag),
        (
            &["--otlp-endpoint", "http://ada:hunter2@"],
            &[],
            "--otlp-endpoint (VITALS_OTLP_ENDPOINT) must name a host, as in http://collector:4318.",
        ),
        (
            &[],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2")],
            "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL that begins with http:// or https://.",
        ),
        (
            &[],
            &[url, ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")],
            "OTEL_EXPORTER_OTLP_HEADERS must be pairs such as key=value,other=value, percent-encoded UTF-8.",
        ),
        (
            &[],
            &[url, ("OTEL_EXPORTER_OTLP_TIMEOUT", "hunter2")],
            "OTEL_EXPORTER_OTLP_TIMEOUT must be a whole number of milliseconds, at least 1.",
        ),
        (
            &[],
            &[url, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem")],
            "OTEL_EXPORTER_OTLP_CERTIFICATE: the file /nowhere.pem cannot be read: entity not found.",
        ),
    ] {
        let mut with_port = vec!["--listen", "127.0.0.1:0"];
        with_port.extend(arguments);
        let output = run_to_end(&with_port, environment);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{environment:?}: {stderr}");
        assert!(stderr.trim_end().ends_with(sentence), "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

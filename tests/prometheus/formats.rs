//! Each format by itself, each escaping scheme, and times of creation, as the newest Prometheus reads them.

use std::time::Duration;

use actix_vitals::registry::{Descriptor, Registry, Unit};

use crate::accuracy::serve;
use crate::support::prometheus::{Prometheus, Setup, job};
use crate::support::scrapers::{self, Program, Scraper};
use crate::support::server::Server;
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(60);

const PROTOCOLS: [&str; 5] = [
    "PrometheusText0.0.4",
    "PrometheusText1.0.0",
    "OpenMetricsText0.0.1",
    "OpenMetricsText1.0.0",
    "PrometheusProto",
];

/// An escaping scheme, and the names of a counter, of its label and of a histogram by it.
const SCHEMES: [[&str; 4]; 4] = [
    [
        "allow-utf-8",
        "größe_total",
        "ключ.a",
        "http.server.duration_seconds",
    ],
    [
        "underscores",
        "gr__e_total",
        "_____a",
        "http_server_duration_seconds",
    ],
    [
        "dots",
        "gr____e__total",
        "_________dot_a",
        "http_dot_server_dot_duration__seconds",
    ],
    [
        "values",
        "U__gr_f6__df_e__total",
        "U___43a__43b__44e__447__2e_a",
        "U__http_2e_server_2e_duration__seconds",
    ],
];

fn clock() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .expect("a time after 1970")
}

/// A counter and a histogram whose names not every scraper knows.
fn registry(observations: u32) -> Registry {
    build(3, observations)
}

/// The same, with as many counts as observations.
fn counted(observations: u32) -> Registry {
    build(u64::from(observations), observations)
}

fn build(count: u64, observations: u32) -> Registry {
    let mut builder = Registry::builder(clock).created(true);
    let counter = builder.counter(Descriptor::new("größe_total", "A size.", ["ключ.a"]));
    let name = "http.server.duration_seconds";
    let histogram = Descriptor::new(name, "Durations.", ["http.method"]).unit(Unit::Seconds);
    let histogram = builder.histogram(histogram, &[0.1, 1.0]);
    counter.series(["\"\\\n"]).add(count);
    for _ in 0..observations {
        histogram.series(["GET"]).observe(0.05);
    }
    builder.build().expect("valid families")
}

fn newest(test: &str) -> Option<Scraper> {
    scrapers::one(test, Program::Newest)
}

/// Waits until the value of the only series of a selector is this.
async fn has(prometheus: &Prometheus, query: &str, expected: f64) {
    wait::until(query, BOUND, async || {
        match prometheus.query(query).await?.as_slice() {
            [one] if (one.value - expected).abs() < 1e-9 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_in_utf_8_arrive_by_every_protocol_and_escaping_scheme() {
    let test = "names_in_utf_8_arrive_by_every_protocol_and_escaping_scheme";
    let Some(scraper) = newest(test) else {
        return;
    };
    let (authority, server) = serve(registry(4));
    let pairs = || {
        let schemes = SCHEMES.into_iter();
        schemes.flat_map(|scheme| PROTOCOLS.map(|protocol| (protocol, scheme)))
    };
    let jobs: Vec<String> = pairs()
        .map(|(protocol, [scheme, ..])| {
            let job = job(&format!("{protocol}-{scheme}"), &[&authority]);
            format!(
                "{job}    scrape_protocols: [{protocol}]\n    metric_name_escaping_scheme: {scheme}\n"
            )
        })
        .collect();
    let prometheus = Prometheus::start_with_jobs(&scraper, &jobs.concat(), &[]).await;
    for (protocol, [scheme, counter, label, histogram]) in pairs() {
        // The other formats are asked for without a scheme.
        let names = if protocol.ends_with("Text1.0.0") {
            [counter, label, histogram]
        } else {
            [SCHEMES[1][1], SCHEMES[1][2], SCHEMES[1][3]]
        };
        let [counter, label, histogram] = names;
        let of_job = format!("job=\"{protocol}-{scheme}\"");
        let sized = format!(r#"{{"{counter}", "{label}"="\"\\\n", {of_job}}}"#);
        has(&prometheus, &sized, 3.0).await;
        let observations = format!(r#"{{"{histogram}_count", {of_job}}}"#);
        has(&prometheus, &observations, 4.0).await;
        let quantile = format!(r#"histogram_quantile(0.5, {{"{histogram}_bucket", {of_job}}})"#);
        has(&prometheus, &quantile, 0.05).await;
    }
    server.stop(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_the_same_with_native_histograms_and_without() {
    let test = "names_are_the_same_with_native_histograms_and_without";
    let Some(scraper) = newest(test) else {
        return;
    };
    let (authority, server) = serve(registry(4));
    let native = "    scrape_native_histograms: true\n";
    let jobs = [("text", ""), ("native", native)]
        .map(|(name, settings)| format!("{}{settings}", job(name, &[&authority])));
    let prometheus = Prometheus::start_with_jobs(&scraper, &jobs.concat(), &[]).await;
    for job in ["text", "native"] {
        has(
            &prometheus,
            &format!(r#"{{"größe_total", job="{job}"}}"#),
            3.0,
        )
        .await;
    }
    let count = r#"histogram_count({"http.server.duration_seconds", "http.method"="GET"})"#;
    has(&prometheus, count, 4.0).await;
    server.stop(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_alone_and_in_default_order_carries_the_same_count() {
    let test = "every_protocol_alone_and_in_default_order_carries_the_same_count";
    let Some(scraper) = newest(test) else {
        return;
    };
    let server = Server::start();
    for number in 0..5 {
        server.create(&format!("Visitor {number}")).await;
    }
    let mut jobs = job("default", &[server.authority()]);
    for protocol in PROTOCOLS {
        jobs += &job(protocol, &[server.authority()]);
        jobs.extend(["    scrape_protocols: [", protocol, "]\n"]);
    }
    jobs += &job("both", &[server.authority()]);
    jobs += "    scrape_native_histograms: true\n    always_scrape_classic_histograms: true\n";
    let prometheus = Prometheus::start_with_jobs(&scraper, &jobs, &[]).await;
    let of_creations = r#"method="POST", endpoint="/data", http_status="201""#;
    for job in PROTOCOLS.into_iter().chain(["default", "both"]) {
        for name in ["http_requests_total", "http_request_duration_seconds_count"] {
            has(
                &prometheus,
                &format!("{name}{{job=\"{job}\", {of_creations}}}"),
                5.0,
            )
            .await;
        }
    }
    let native = format!("http_request_duration_seconds{{job=\"both\", {of_creations}}}");
    has(&prometheus, &format!("histogram_count({native})"), 5.0).await;
    let stored = prometheus.query("count({__name__=~\".+_created\"})").await;
    assert!(stored.expect("an answer").is_empty(), "_created is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_begins_at_zero_when_it_was_created() {
    let test = "a_counter_begins_at_zero_when_it_was_created";
    let Some(scraper) = newest(test) else {
        return;
    };
    let server = Server::start_with(&["--created"]);
    for number in 0..5 {
        server.create(&format!("Visitor {number}")).await;
    }
    let protocols = ["OpenMetricsText1.0.0", "PrometheusProto"];
    let jobs = protocols.map(|protocol| {
        let job = job(protocol, &[server.authority()]);
        format!("{job}    scrape_protocols: [{protocol}]\n")
    });
    let setup = Setup {
        jobs: &jobs.concat(),
        flags: &["--enable-feature=created-timestamp-zero-ingestion"],
        ..Setup::default()
    };
    let prometheus = Prometheus::start_set_up(&scraper, &setup).await;
    for protocol in protocols {
        let creations =
            format!(r#"http_requests_total{{job="{protocol}", method="POST", http_status="201"}}"#);
        has(&prometheus, &creations, 5.0).await;
        has(&prometheus, &format!("min_over_time({creations}[5m])"), 0.0).await;
    }
    let created = prometheus.query("count({__name__=~\".+_created\"})").await;
    assert!(created.expect("an answer").is_empty(), "_created is stored");
}

/// The times of creation that the exposition at this address shows: of the counter, and of the histogram.
async fn created_at(authority: &str) -> [f64; 2] {
    let request = reqwest::Client::new()
        .get(format!("http://{authority}/metrics"))
        .header("accept", "application/openmetrics-text;version=1.0.0");
    let text = request.send().await.expect("an answer").text().await;
    let text = text.expect("a text");
    ["gr__e_created", "http_server_duration_seconds_created"].map(|name| {
        let line = text.lines().find(|line| line.starts_with(name));
        let (_, value) = line.and_then(|line| line.rsplit_once(' ')).expect(name);
        value.parse().expect("a time")
    })
}

/// The only series of a selector began at this time, to the millisecond.
async fn began(prometheus: &Prometheus, selector: &str, at: f64) {
    let query = format!("start_timestamp({selector})");
    wait::until(&query, BOUND, async || {
        match prometheus.query(&query).await?.as_slice() {
            [one] if (one.value - at).abs() < 0.002 => Ok(()),
            other => Err(format!("{other:?}, not {at}")),
        }
    })
    .await;
}

/// The start of a series shows a restart that its values hide: they are higher after it than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_times_arrive_and_show_a_restart_that_values_hide() {
    let test = "start_times_arrive_and_show_a_restart_that_values_hide";
    let Some(scraper) = newest(test) else {
        return;
    };
    let (authority, server) = serve(counted(100));
    let native = "    scrape_native_histograms: true\n";
    let protocols = [("OpenMetricsText1.0.0", ""), ("PrometheusProto", native)];
    let jobs = protocols.map(|(protocol, settings)| {
        let job = job(protocol, &[&authority]);
        format!("{job}    scrape_protocols: [{protocol}]\n{settings}")
    });
    let setup = Setup {
        jobs: &jobs.concat(),
        flags: &["--enable-feature=st-storage,use-start-timestamps,promql-experimental-functions"],
        ..Setup::default()
    };
    let prometheus = Prometheus::start_set_up(&scraper, &setup).await;
    let counter = |protocol: &str| format!("{{__name__=~\"gr.*e_total\", job=\"{protocol}\"}}");
    let histogram = "{__name__=~\"http.server.duration_seconds\", job=\"PrometheusProto\"}";
    let [first, _] = created_at(&authority).await;
    for (protocol, _) in protocols {
        has(&prometheus, &counter(protocol), 100.0).await;
        began(&prometheus, &counter(protocol), first).await;
    }
    has(&prometheus, &format!("histogram_count({histogram})"), 100.0).await;
    server.stop(false).await;

    let restarted = crate::accuracy::serve_at(&authority, counted(130));
    let [second, _] = created_at(&authority).await;
    assert!(second > first);
    for (protocol, _) in protocols {
        let counter = counter(protocol);
        has(&prometheus, &counter, 130.0).await;
        began(&prometheus, &counter, second).await;
        has(&prometheus, &format!("resets({counter}[5m])"), 1.0).await;
        // Without the start it would be 30.
        rises_by_at_least(&prometheus, &format!("increase({counter}[5m])"), 130.0).await;
    }
    has(&prometheus, &format!("histogram_count({histogram})"), 130.0).await;
    has(&prometheus, &format!("resets({histogram}[5m])"), 1.0).await;
    let increase = format!("histogram_count(increase({histogram}[5m]))");
    rises_by_at_least(&prometheus, &increase, 130.0).await;
    restarted.stop(false).await;
}

async fn rises_by_at_least(prometheus: &Prometheus, query: &str, least: f64) {
    wait::until(query, BOUND, async || {
        match prometheus.query(query).await?.as_slice() {
            [one] if one.value >= least => Ok(()),
            other => Err(format!("{other:?}, less than {least}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_one_reset_of_a_native_histogram() {
    let test = "a_restart_is_one_reset_of_a_native_histogram";
    for scraper in scrapers::prometheuses(test) {
        let (authority, server) = serve(registry(100));
        let setup = Setup {
            jobs: &job("restarted", &[&authority]),
            native: true,
            ..Setup::default()
        };
        let prometheus = Prometheus::start_set_up(&scraper, &setup).await;
        // The oldest knows no UTF-8.
        let name = match scraper.program {
            Program::Newest => SCHEMES[0][3],
            _ => SCHEMES[1][3],
        };
        let histogram = format!("{{__name__=\"{name}\"}}");
        has(&prometheus, &format!("histogram_count({histogram})"), 100.0).await;
        server.stop(false).await;
        // Fewer observations in the same bucket.
        let restarted = crate::accuracy::serve_at(&authority, registry(30));
        has(&prometheus, &format!("histogram_count({histogram})"), 30.0).await;
        let increase = format!("histogram_count(increase({histogram}[5m])) > 0");
        wait::until("an increase", BOUND, async || {
            match prometheus.query(&increase).await?.as_slice() {
                [one] if one.value < 100.0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        if scraper.program == Program::Newest {
            has(&prometheus, &format!("resets({histogram}[5m])"), 1.0).await;
        }
        restarted.stop(false).await;
    }
}

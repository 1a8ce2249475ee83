//! A real Prometheus that scrapes over TLS with a password.

use std::time::Duration;

use crate::access::ops_server::{OpsServer, alice, tls};
use crate::support::prometheus::Prometheus;
use crate::support::scrapers::{self, Scraper};
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn prometheus_scrapes_over_tls_with_a_password_and_not_without_one() {
    let test = "prometheus_scrapes_over_tls_with_a_password_and_not_without_one";
    for scraper in scrapers::all(test) {
        scrapes_over_tls(&scraper).await;
    }
}

async fn scrapes_over_tls(scraper: &Scraper) {
    let ops = OpsServer::start(&format!("{}{}", tls(&[]), alice()));
    let authority = ops.url.trim_start_matches("https://");
    let ca = ops.files.path("ca.pem").display().to_string();
    let job = |name: &str, credentials: &str| {
        format!(
            "  - job_name: {name}\n    scheme: https\n    tls_config: {{ca_file: '{ca}'}}\n{credentials}    static_configs:\n      - targets: ['{authority}']\n"
        )
    };
    let jobs = format!(
        "{}{}",
        job(
            "known",
            "    basic_auth: {username: alice, password: secret}\n"
        ),
        job("unknown", "")
    );
    let prometheus = Prometheus::start_with_jobs(scraper, &jobs, &[]).await;
    for (job, expected) in [("known", 1.0), ("unknown", 0.0)] {
        let query = format!("up{{job=\"{job}\"}}");
        wait::until(job, BOUND, async || {
            match prometheus.query(&query).await?.as_slice() {
                [one] if (one.value - expected).abs() < f64::EPSILON => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    let data = prometheus
        .ask("/api/v1/targets", &[])
        .await
        .unwrap()
        .to_string();
    assert!(data.contains("401"), "{data}");
}

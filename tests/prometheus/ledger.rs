//! One load, scraped at the same time by the oldest Prometheus, the newest in two configurations, and VictoriaMetrics. All of
//! them agree with the clients exactly.
//!
//! `VITALS_SCRAPED_TIME` sets the duration of the load (`10s` by default, `60s` in `make soak`).

use std::time::Duration;

use futures_util::future::join_all;

use crate::instances::{Tally, drive, summed};
use crate::support::prometheus::{Prometheus, Setup, job};
use crate::support::scrapers::{self, Program};
use crate::support::server::Server;
use crate::support::wait;

/// The longest wait for the last requests after the load.
const SCRAPE_BOUND: Duration = Duration::from_secs(30);

const CLIENTS: usize = 12;

/// The sums of one scraper: requests by the counter, and by the histogram of their durations.
const COUNTED: &str =
    r#"sum by (method, endpoint, http_status) (http_requests_total{endpoint=~"/data.*"})"#;
const CLASSIC: &str = r#"sum by (method, endpoint, http_status) (http_request_duration_seconds_count{endpoint=~"/data.*"})"#;
const NATIVE: &str = r#"histogram_count(sum by (method, endpoint, http_status) (http_request_duration_seconds{endpoint=~"/data.*"}))"#;

fn duration() -> Duration {
    let time = std::env::var("VITALS_SCRAPED_TIME").unwrap_or_else(|_| "10s".to_owned());
    humantime::parse_duration(&time).expect("a duration")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_scrapers_agree_with_the_clients_to_the_last_request() {
    let test = "four_scrapers_agree_with_the_clients_to_the_last_request";
    let scrapers = scrapers::all(test);
    let mut configurations: Vec<_> = scrapers.iter().map(|scraper| (scraper, false)).collect();
    let newest = scrapers.iter().filter(|one| one.program == Program::Newest);
    configurations.extend(newest.map(|scraper| (scraper, true)));

    let server = Server::start_with(&["--server-timing"]);
    let jobs = job("actix-vitals", &[server.authority()]);
    let started = configurations.into_iter().map(async |(scraper, native)| {
        let setup = Setup {
            jobs: &jobs,
            native,
            ..Setup::default()
        };
        let prometheus = Prometheus::start_set_up(scraper, &setup).await;
        (scraper.name(), native, prometheus)
    });
    let started = join_all(started).await;

    let seen = drive(&[server.url("")], CLIENTS, duration()).await;
    let total: u64 = seen.answers.values().sum();
    assert!(total > 500, "only {total} requests");
    for (name, native, prometheus) in &started {
        for query in [COUNTED, if *native { NATIVE } else { CLASSIC }] {
            agrees(name, prometheus, query, &seen).await;
        }
    }
    println!("{} scrapers agree on {total} requests", started.len());
}

async fn agrees(name: &str, prometheus: &Prometheus, query: &str, seen: &Tally) {
    wait::until(&format!("{name}: {query}"), SCRAPE_BOUND, async || {
        let counted = summed(prometheus, query).await?;
        if counted == seen.answers {
            Ok(())
        } else {
            Err(format!("{counted:?}, not {:?}", seen.answers))
        }
    })
    .await;
}

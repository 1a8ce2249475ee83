//! Three instances on one PostgreSQL, scraped by every supported scraper. The sums over the instances equal what the clients of
//! all of them counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Client, Method};
use serde_json::json;

use crate::support::postgres::Cluster;
use crate::support::prometheus::{Prometheus, Setup, job};
use crate::support::scrapers::{self, Scraper};
use crate::support::server::{Data as _, Server};

use crate::support::{tools, wait};

/// How long the clients send.
const LOAD: Duration = Duration::from_secs(30);

/// How many clients there are.
const CLIENTS: usize = 24;

/// How far the quantile over the summed histograms may be from the exact one.
const QUANTILE_ERROR: f64 = 0.01;

/// How many creations on each side of the exact quantile it may also be at. On a busy machine few creations are as slow as
/// it, and it may be anywhere in a bucket that has only one of them.
const NEIGHBOURS: usize = 3;

/// How long Prometheus may take to see the last requests.
const SCRAPE_BOUND: Duration = Duration::from_secs(60);

/// Makes each creation take from 0.03 to 0.12 s, most of them about the middle: a distribution whose tail thins out, as
/// those of real latencies do, and does not break off within a bucket. An item's number decides its time, so that each run
/// has the same times.
const SLOW_CREATION: &str = "\
    CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM setseed((NEW.id % 1000003) / 1000003.0); \
    PERFORM pg_sleep(0.03 + 0.03 * (random() + random() + random())); RETURN NEW; END $$; \
    CREATE TRIGGER take_time BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION take_time()";

/// What a client saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests by method, endpoint and status.
    pub(crate) answers: BTreeMap<[String; 3], u64>,
    /// How long each creation took, in seconds, by the answer's own word: what the client's own clock has besides is
    /// the time that this machine let the client wait.
    creations: Vec<f64>,
}

/// One client, which goes round the instances until the time is over.
async fn send(client: Client, urls: Vec<String>, first: usize, end: Instant) -> Tally {
    let mut tally = Tally::default();
    for round in first.. {
        if Instant::now() > end {
            break;
        }
        let (method, path, endpoint) = match round % 4 {
            0 => (Method::GET, "/data?limit=5", "/data"),
            1 => (Method::GET, "/data/1", "/data/{item_id}"),
            _ => (Method::POST, "/data", "/data"),
        };
        let url = format!("{}{path}", urls[round % urls.len()]);
        let mut request = client.request(method.clone(), url);
        if method == Method::POST {
            request = request.json(&json!({"name": "Ada", "email": "ada@example.com"}));
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().to_string();
        if method == Method::POST {
            let timing = answer.headers()["server-timing"].to_str().expect("ASCII");
            tally.creations.push(service_seconds(timing));
        }
        answer.bytes().await.expect("a whole answer");
        let status = status.split(' ').next().unwrap_or_default().to_owned();
        let row = [method.to_string(), endpoint.to_owned(), status];
        *tally.answers.entry(row).or_default() += 1;
    }
    tally
}

/// The time that the service took, from a `Server-Timing` header.
fn service_seconds(timing: &str) -> f64 {
    let (_, milliseconds) = timing.rsplit_once("app;dur=").expect("the service's time");
    milliseconds.parse::<f64>().expect("a number") / 1e3
}

/// What all clients saw together, for the time of a load; the creations are sorted.
pub(crate) async fn drive(urls: &[String], clients: usize, load: Duration) -> Tally {
    let client = Client::builder()
        // Sooner than the server, which closes after five: or a request may meet a closing connection.
        .pool_idle_timeout(std::time::Duration::from_secs(2))
        .no_proxy()
        .build()
        .unwrap();
    let end = Instant::now() + load;
    let clients: Vec<_> = (0..clients)
        .map(|first| tokio::spawn(send(client.clone(), urls.to_vec(), first, end)))
        .collect();
    let mut all = Tally::default();
    for client in clients {
        let tally = client.await.unwrap();
        for (row, count) in tally.answers {
            *all.answers.entry(row).or_default() += count;
        }
        all.creations.extend(tally.creations);
    }
    all.creations.sort_by(f64::total_cmp);
    all
}

/// The counters of all instances, summed by method, endpoint and status.
const SUMMED: &str =
    r#"sum by (method, endpoint, http_status) (http_requests_total{endpoint=~"/data.*"})"#;

/// The rows of a query by method, endpoint and status, those of 0 left out.
pub(crate) async fn summed(
    prometheus: &Prometheus,
    query: &str,
) -> Result<BTreeMap<[String; 3], u64>, String> {
    let rows = prometheus.query(query).await?.into_iter().map(|element| {
        let row = ["method", "endpoint", "http_status"].map(|label| element.labels[label].clone());
        let count: u64 = format!("{:.0}", element.value).parse().expect("a count");
        (row, count)
    });
    Ok(rows.filter(|(_, count)| *count > 0).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_summed_over_three_instances_is_what_their_clients_saw() {
    let test = "what_is_summed_over_three_instances_is_what_their_clients_saw";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let scrapers = scrapers::all(test);
    let database = Cluster::shared(&programs).database();
    let servers = [(); 3].map(|()| Server::start_on(database.clone(), &["--server-timing"]));
    database.execute(SLOW_CREATION);
    let targets: Vec<&str> = servers.iter().map(Server::authority).collect();
    let jobs = job("actix-vitals", &targets);
    let started = scrapers.iter().map(async |scraper| {
        let setup = Setup {
            jobs: &jobs,
            native: scraper.is_prometheus(),
            ..Setup::default()
        };
        (scraper, Prometheus::start_set_up(scraper, &setup).await)
    });
    let started = join_all(started).await;

    let urls: Vec<String> = servers.iter().map(|server| server.url("")).collect();
    let seen = drive(&urls, CLIENTS, LOAD).await;
    for (scraper, prometheus) in &started {
        has_counted(scraper, prometheus, &seen).await;
        if scraper.is_prometheus() {
            has_the_quantile(scraper, prometheus, &seen.creations).await;
        }
    }
}

/// Waits until the sums over the instances are what the clients saw.
async fn has_counted(scraper: &Scraper, prometheus: &Prometheus, seen: &Tally) {
    let awaited = format!("{} to have scraped everything", scraper.name());
    wait::until(&awaited, SCRAPE_BOUND, async || {
        let counted = summed(prometheus, SUMMED).await?;
        if counted == seen.answers {
            Ok(())
        } else {
            Err(format!("{counted:?}, not {:?}", seen.answers))
        }
    })
    .await;
}

/// Compares the 99th percentile over the summed native histograms with that of the clients' creations, which are sorted.
async fn has_the_quantile(scraper: &Scraper, prometheus: &Prometheus, creations: &[f64]) {
    let query = r#"histogram_quantile(0.99, sum(http_request_duration_seconds{method="POST"}))"#;
    // A scrape that came too late leaves a gap.
    let awaited = format!("a quantile of {}", scraper.name());
    let estimate = wait::until(&awaited, SCRAPE_BOUND, async || {
        let answer = prometheus.query(query).await?;
        match answer.as_slice() {
            [estimate] => Ok(estimate.clone()),
            _ => Err(format!("{answer:?}")),
        }
    })
    .await;
    let at = creations.len() * 99 / 100;
    let exact = creations[at];
    let nearest = estimate
        .value
        .clamp(creations[at - NEIGHBOURS], creations[at + NEIGHBOURS]);
    let error = (estimate.value - nearest).abs() / exact;
    println!(
        "{}: p99 of {} creations: {:.4} s over three instances, {exact:.4} s exactly, off by {:.2} %",
        scraper.name(),
        creations.len(),
        estimate.value,
        (estimate.value - exact).abs() / exact * 100.0
    );
    assert!(error < QUANTILE_ERROR, "off by {:.2} %", error * 100.0);
}

//! SIGTERM while clients with TLS are busy, over both protocols: each request is answered, and the last scrape counts it.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use reqwest::{Client, Version};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::http_2::ends_well;
use super::load::{counted, scrape_to_the_end};
use crate::access::ops_server::AccessFiles;
use crate::support::server::Server;

/// The clients, each with a connection pool of its own, and the concurrent requests of each.
const CLIENTS: usize = 3;
const CONCURRENT: usize = 4;

/// Sends requests until no connection is accepted any more. Returns the requests that were lost.
async fn be_busy(
    client: Client,
    url: String,
    version: Version,
    answered: Arc<AtomicU64>,
) -> Vec<String> {
    let mut lost = Vec::new();
    let item = json!({"name": "Ada", "email": "ada@example.com"});
    for number in 0_u64.. {
        let request = if number.is_multiple_of(3) {
            client.get(format!("{url}?limit=5"))
        } else {
            client.post(&url).json(&item)
        };
        let answer = async {
            let answer = request.send().await?;
            assert_eq!(answer.version(), version);
            let status = answer.status();
            answer.bytes().await?;
            Ok::<_, reqwest::Error>(status)
        };
        match answer.await {
            Ok(status) => {
                assert!(status.is_success(), "{status}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.is_connect() => break,
            Err(error) => lost.push(format!("{error}: {:?}", error.source())),
        }
    }
    lost
}

async fn no_request_is_lost(version: Version) {
    let files = AccessFiles::new();
    let [cert, key] = ["cert.pem", "key.pem"].map(|it| files.path(it).display().to_string());
    let mut server = Server::start_with(&[
        "--ops-listen=127.0.0.1:0",
        "--shutdown-timeout=20s",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ]);
    let ops = server.next_address();
    let ops = ops
        .strip_prefix("http://")
        .expect("a plain listener")
        .to_owned();
    let watcher = thread::spawn(move || scrape_to_the_end(&ops));
    let answered = Arc::new(AtomicU64::new(0));
    let mut busy = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = files.trusting();
        let client = match version {
            Version::HTTP_2 => client,
            _ => client.http1_only(),
        };
        let client = client.build().unwrap();
        for _ in 0..CONCURRENT {
            let (client, answered) = (client.clone(), Arc::clone(&answered));
            busy.spawn(be_busy(client, server.url("/data"), version, answered));
        }
    }
    while answered.load(Ordering::Relaxed) < 200 {
        sleep(Duration::from_millis(1)).await;
    }
    server.signal("TERM");
    let lost = busy.join_all().await.concat();
    assert_eq!(lost, [""; 0]);
    ends_well(server).await;
    let scraped = watcher.join().expect("the scraper does not panic");
    let counted: u64 = counted(&scraped).values().sum();
    assert_eq!(counted, answered.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn busy_clients_over_tls_lose_no_request_of_http_2() {
    no_request_is_lost(Version::HTTP_2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn busy_clients_over_tls_lose_no_request_of_http_1() {
    no_request_is_lost(Version::HTTP_11).await;
}

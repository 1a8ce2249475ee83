//! Clients that send requests without a pause, and record each answer and its time.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::outage::ledger::{Ledger, Row};

/// The pause between two looks at the liveness of the server.
const LIVENESS_PAUSE: Duration = Duration::from_millis(20);

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Every request, by its answer.
    pub(crate) ledger: Ledger,
    served: Vec<Duration>,
    refused: Vec<Duration>,
    alive: Vec<Duration>,
}

impl Report {
    /// The longest that a client waited for an answer.
    pub(crate) fn slowest(&self) -> Duration {
        let all = self.served.iter().chain(&self.refused);
        all.max().copied().unwrap_or_default()
    }

    /// How many were refused.
    pub(crate) fn refusals(&self) -> usize {
        self.refused.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in [
            ("served", &self.served),
            ("refused", &self.refused),
            ("/livez", &self.alive),
        ] {
            let mut times = times.clone();
            times.sort_unstable();
            let last = times.len().saturating_sub(1);
            let at = |percent: usize| times.get(last * percent / 100).copied();
            let [median, p99, most] = [50, 99, 100].map(|percent| at(percent).unwrap_or_default());
            writeln!(
                f,
                "{what}: {} in {median:?} (median), {p99:?} (p99), {most:?} (max)",
                times.len()
            )?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Shared {
    client: Client,
    url: String,
    report: Mutex<Report>,
    served: AtomicU64,
    stopped: AtomicBool,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Sets so many clients to work on the server at this URL, and one that only looks whether it lives.
    pub(crate) fn start(url: &str, clients: usize) -> Self {
        let shared = Arc::new(Shared {
            client: Client::builder()
                // Sooner than the server, which closes after five: or a request may meet a closing connection.
                .pool_idle_timeout(std::time::Duration::from_secs(2))
                .no_proxy()
                .timeout(Duration::from_secs(30))
                .build()
                .expect("an HTTP client"),
            url: url.to_owned(),
            report: Mutex::default(),
            served: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let mut tasks: Vec<_> = (0..clients)
            .map(|client| {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut round = client;
                    while !shared.stopped.load(Ordering::Relaxed) {
                        shared.send(round).await;
                        round += 1;
                    }
                })
            })
            .collect();
        let watched = Arc::clone(&shared);
        tasks.push(tokio::spawn(async move {
            // Connections of its own, that the clients do not fill.
            let client = Client::builder()
                // Sooner than the server, which closes after five: or a request may meet a closing connection.
                .pool_idle_timeout(std::time::Duration::from_secs(2))
                .no_proxy()
                .build()
                .expect("a client");
            while !watched.stopped.load(Ordering::Relaxed) {
                watched.look_alive(&client).await;
                tokio::time::sleep(LIVENESS_PAUSE).await;
            }
        }));
        Self {
            shared,
            clients: tasks,
        }
    }

    /// How many requests the database has served.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Enters a request that somebody else sent.
    pub(crate) fn enter(&self, row: Row) {
        self.shared.report.lock().unwrap().ledger.count(row);
    }

    /// Ends the load, each client after the request that it has begun.
    pub(crate) async fn stop(&mut self) -> Report {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await.expect("a client came to its end");
        }
        std::mem::take(&mut self.shared.report.lock().unwrap())
    }
}

impl Shared {
    async fn send(&self, round: usize) {
        let (method, path, endpoint) = match round % 3 {
            0 => (Method::POST, "/data", "/data"),
            1 => (Method::GET, "/data?limit=20", "/data"),
            _ => (Method::GET, "/data/1", "/data/{item_id}"),
        };
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.url));
        if method == Method::POST {
            request = request.json(&json!({"name": "Ada", "email": "ada@example.com"}));
        }
        let started = Instant::now();
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            answer.bytes().await.map(|_| status)
        };
        let answer = answer.await;
        let elapsed = started.elapsed();
        let mut report = self.report.lock().unwrap();
        match answer {
            Ok(status) => {
                report
                    .ledger
                    .count(Row::new(method.as_str(), endpoint, status));
                match status {
                    200 | 201 => {
                        report.served.push(elapsed);
                        self.served.fetch_add(1, Ordering::Relaxed);
                    }
                    503 => report.refused.push(elapsed),
                    other => panic!("{method} {path} is answered with {other}"),
                }
            }
            Err(error) => report.ledger.count_broken(&error),
        }
    }

    async fn look_alive(&self, client: &Client) {
        let started = Instant::now();
        let answer = client.get(format!("{}/livez", self.url)).send().await;
        let status = answer.expect("the process answers").status().as_u16();
        let elapsed = started.elapsed();
        assert_eq!(status, 200, "/livez");
        let mut report = self.report.lock().unwrap();
        report.ledger.count(Row::new("GET", "/livez", status));
        report.alive.push(elapsed);
    }
}

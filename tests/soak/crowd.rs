//! The clients: some work with items, some watch, some make errors, some are slow, and some leave early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::soak::ledger::Ledger;
use crate::soak::raw::Raw;

/// The number of items of each client, so that the table does not grow.
const KEPT: usize = 100;

/// The number of clients of each kind, and their pause after each action, in milliseconds.
const WORKERS: (usize, u64) = (4, 100);
const READERS: (usize, u64) = (2, 150);
const ERRING: (usize, u64) = (1, 200);
const TABS: (usize, u64) = (4, 1000);
const OPERATORS: (usize, u64) = (1, 1000);
const SLOW: (usize, u64) = (6, 200);
const LEAVING: (usize, u64) = (1, 200);

const POST: &str = "POST /data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";

/// All clients.
pub(crate) struct Crowd {
    leaving: Arc<AtomicBool>,
    members: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub(crate) fn start(url: &str, ledger: &Arc<Ledger>, seed: u64) -> Self {
        let leaving = Arc::new(AtomicBool::new(false));
        let mut members = Vec::new();
        let mut start = |act: CrowdAction, (count, pause): (usize, u64)| {
            for _ in 0..count {
                let seed = seed.wrapping_mul(1000).wrapping_add(members.len() as u64);
                let member = CrowdClient::new(url, ledger, seed, members.len() % 2 == 1);
                members.push(tokio::spawn(member.stay(act, pause, Arc::clone(&leaving))));
            }
        };
        start(CrowdAction::Work, WORKERS);
        start(CrowdAction::Read, READERS);
        start(CrowdAction::Err, ERRING);
        start(CrowdAction::OpenTab, TABS);
        start(CrowdAction::Operate, OPERATORS);
        start(CrowdAction::BeSlow, SLOW);
        start(CrowdAction::Leave, LEAVING);
        Self { leaving, members }
    }

    /// Whether a client has ended early.
    pub(crate) fn is_thinning(&self) -> bool {
        self.members.iter().any(JoinHandle::is_finished)
    }

    /// Lets each client finish its action, and waits for their end.
    pub(crate) async fn leave(self) {
        self.leaving.store(true, Ordering::Relaxed);
        for member in self.members {
            member.await.expect("a client without an unexpected answer");
        }
    }
}

/// The action that a client repeats.
#[derive(Clone, Copy)]
enum CrowdAction {
    Work,
    Read,
    Err,
    OpenTab,
    Operate,
    BeSlow,
    Leave,
}

struct CrowdClient {
    client: Client,
    url: String,
    ledger: Arc<Ledger>,
    dice: StdRng,
    items: Vec<i64>,
}

impl CrowdClient {
    fn new(url: &str, ledger: &Arc<Ledger>, seed: u64, speaks_http_2: bool) -> Self {
        let mut client = Client::builder()
            // Shorter than the server's idle timeout: otherwise a request may use a closing connection.
            .pool_idle_timeout(Duration::from_secs(3))
            .timeout(Duration::from_secs(60))
            .no_proxy();
        if speaks_http_2 {
            client = client.http2_prior_knowledge();
        }
        Self {
            client: client.build().expect("an HTTP client"),
            url: url.to_owned(),
            ledger: Arc::clone(ledger),
            dice: StdRng::seed_from_u64(seed),
            items: Vec::new(),
        }
    }

    async fn stay(mut self, act: CrowdAction, pause: u64, leaving: Arc<AtomicBool>) {
        while !leaving.load(Ordering::Relaxed) {
            match act {
                CrowdAction::Work => self.work().await,
                CrowdAction::Read => self.read().await,
                CrowdAction::Err => self.err().await,
                CrowdAction::OpenTab => self.open_tab(&leaving).await,
                CrowdAction::Operate => self.operate().await,
                CrowdAction::BeSlow => self.be_slow().await,
                CrowdAction::Leave => self.leave().await,
            }
            let pause = Duration::from_millis(self.dice.random_range(0..=2 * pause));
            sleep(pause).await;
        }
    }

    fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request that must have this status, records it, and returns the body.
    ///
    /// On a busy machine the disk may block for seconds. Then the answer is a 503, which is recorded, and there is no body.
    async fn asks(&self, request: RequestBuilder, endpoint: &str, status: u16) -> Option<Vec<u8>> {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let method = request.method().clone();
        let answer = client.execute(request).await.expect("an answer");
        let answered = answer.status().as_u16();
        let body = answer.bytes().await.expect("a whole answer");
        let label = if answered == 405 {
            "other"
        } else {
            method.as_str()
        };
        self.ledger.record(label, endpoint, answered);
        if answered == 503 {
            return None;
        }
        assert_eq!(answered, status, "{method} {endpoint}: {body:?}");
        Some(body.to_vec())
    }

    async fn gets(&self, path: &str, endpoint: &str) {
        self.asks(self.request(Method::GET, path), endpoint, 200)
            .await;
    }

    fn item(&mut self) -> Value {
        let number: u32 = self.dice.random();
        json!({
            "name": format!("Visitor {number}"),
            "email": format!("visitor{number}@example.com"),
            "message": "a message ".repeat(self.dice.random_range(0..20)),
        })
    }

    /// Creates, replaces, reads and deletes the client's own items.
    async fn work(&mut self) {
        let item = self.item();
        if self.items.len() >= KEPT || (self.items.len() > 10 && self.dice.random_ratio(1, 4)) {
            let at = self.dice.random_range(0..self.items.len());
            let id = self.items.swap_remove(at);
            let path = format!("/data/{id}");
            let deletion = self.request(Method::DELETE, &path);
            if self.asks(deletion, "/data/{item_id}", 200).await.is_some() {
                let request = self.request(Method::GET, &path);
                self.asks(request, "/data/{item_id}", 404).await;
            }
        } else if !self.items.is_empty() && self.dice.random_ratio(1, 2) {
            let id = self.items[self.dice.random_range(0..self.items.len())];
            let request = self.request(Method::PUT, &format!("/data/{id}"));
            self.asks(request.json(&item), "/data/{item_id}", 200).await;
        } else {
            let request = self.request(Method::POST, "/data").json(&item);
            if let Some(created) = self.asks(request, "/data", 201).await {
                let created: Value = serde_json::from_slice(&created).expect("an item");
                self.items.push(created["id"].as_i64().expect("an id"));
            }
        }
    }

    async fn read(&mut self) {
        let skip = self.dice.random_range(0..50);
        let path = format!("/data?skip={skip}&limit=20");
        self.gets(&path, "/data").await;
        self.gets("/", "/").await;
    }

    /// Sends requests that the service rejects.
    async fn err(&mut self) {
        let bad = json!({"name": "", "email": "nobody"});
        let large = json!({"name": "x", "email": "a@example.com", "message": "x".repeat(66_000)});
        let (request, endpoint, status) = match self.dice.random_range(0..6) {
            0 => (self.request(Method::POST, "/data").json(&bad), "/data", 422),
            1 => (
                self.request(Method::POST, "/data").json(&large),
                "/data",
                413,
            ),
            2 => (
                self.request(Method::GET, "/nowhere/at/all"),
                "unmatched",
                404,
            ),
            3 => (self.request(Method::PATCH, "/data"), "/data", 405),
            4 => (self.request(Method::GET, "/data?limit=many"), "/data", 422),
            _ => (self.request(Method::GET, "/data/x"), "/data/{item_id}", 422),
        };
        self.asks(request, endpoint, status).await;
    }

    /// Loads the live page with its assets and its history, and reads its stream for a while.
    async fn open_tab(&mut self, leaving: &AtomicBool) {
        self.gets("/dashboard", "/dashboard").await;
        self.gets("/dashboard/app.js", "/dashboard/{part}").await;
        self.gets("/dashboard/history?since=-60", "/dashboard/history")
            .await;
        let request = self.request(Method::GET, "/dashboard/stream");
        let mut stream = request.send().await.expect("a stream");
        assert_eq!(stream.status(), 200);
        self.ledger.record("GET", "/dashboard/stream", 200);
        for _ in 0..self.dice.random_range(1..20) {
            let event = stream.chunk().await.expect("the stream goes on");
            assert!(event.is_some(), "the stream ends");
            if leaving.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    /// Scrapes in every format and encoding, and requests the other ops endpoints.
    async fn operate(&mut self) {
        for accept in [
            "text/plain",
            "application/openmetrics-text",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        ] {
            for encoding in ["identity", "gzip", "zstd"] {
                let request = self.request(Method::GET, "/metrics");
                let request = request.header("accept", accept);
                let request = request.header("accept-encoding", encoding);
                self.asks(request, "/metrics", 200).await;
            }
        }
        for path in [
            "/health",
            "/livez",
            "/readyz",
            "/ops/requests",
            "/ops/errors",
            "/ops/pool",
            "/ops/requests/kept",
            "/ops/statements",
            "/docs",
            "/openapi.json",
        ] {
            self.gets(path, path).await;
        }
    }

    /// Is slow until the server ends the connection.
    async fn be_slow(&mut self) {
        let choice = self.dice.random_range(0..7);
        let mut connection = Raw::to(self.authority()).await;
        match choice {
            0 => {
                connection.send("GET / HTTP/1.1\r\nHos").await;
                assert_eq!(connection.end().await, Some(408));
                self.ledger.record_connection("head_timeout");
            }
            1 => {
                connection
                    .send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                    .await;
                assert_eq!(connection.head().await, 200);
                self.ledger.record("GET", "/livez", 200);
                connection.send("GET / HT").await;
                connection.end().await;
                self.ledger.record_connection("head_timeout");
            }
            2 => {
                connection.send(POST).await;
                assert_eq!(connection.end().await, Some(408));
                self.ledger.record("POST", "/data", 408);
                self.ledger.record_connection("body_timeout");
            }
            3 => {
                connection.send("GET /\0 HTTP/1.1\r\n\r\n").await;
                assert_eq!(connection.end().await, Some(400));
                self.ledger.record_connection("malformed");
            }
            4 => {
                let large = format!(
                    "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
                    "a".repeat(17_000)
                );
                connection.send(&large).await;
                assert_eq!(connection.end().await, Some(431));
                self.ledger.record_connection("headers_too_large");
            }
            5 => {
                // Just within the time limit.
                let request =
                    "GET /dashboard/app.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                for byte in request.as_bytes().chunks(40) {
                    connection
                        .send(std::str::from_utf8(byte).expect("ASCII"))
                        .await;
                    sleep(Duration::from_millis(300)).await;
                }
                connection.sip(20, 100, Duration::from_millis(100)).await;
                connection.end().await;
                self.ledger.record("GET", "/dashboard/{part}", 200);
            }
            // Sends nothing: the connection is idle.
            _ => assert_eq!(connection.end().await, None),
        }
    }

    /// Leaves before the answer, or within the request.
    async fn leave(&mut self) {
        let mut connection = Raw::to(self.authority()).await;
        match self.dice.random_range(0..3) {
            0 => {
                connection
                    .send("HEAD /data HTTP/1.1\r\nHost: x\r\n\r\n")
                    .await;
                self.ledger.record_left("HEAD", "/data");
            }
            1 => {
                connection.send(POST).await;
                self.ledger.record_left("POST", "/data");
            }
            // An incomplete head is not a request.
            _ => connection.send("GET /data HTTP/1.1\r\n").await,
        }
        connection.hang_up().await;
        connection.end().await;
    }
}

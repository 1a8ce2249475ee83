//! All attacks at once, beside well-behaved clients: these get the right answers, and afterwards memory and descriptors are
//! as before.
//!
//! `VITALS_ATTACK_TIME` sets the duration (`12s` by default, `10m` in `make soak`). In an optimised build, an attack of a
//! minute or more also checks the latency of `/livez`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::soak::attackers::Attackers;
use crate::support::exposition::Exposition;
use crate::support::server::{Answer, Server};
use crate::support::turn::turn;
use crate::support::wait::until;

/// The longest wait until all is as before: the allocator keeps memory for ten seconds, and idle threads end after ten.
const REST_BOUND: Duration = Duration::from_secs(120);

/// The growth of the live page's history, in MiB.
const HISTORY: f64 = 8.0;

/// The memory budget of bodies, in MiB, and the bound of everything else: the buffers of about 800 connections and 1,000
/// streams, and pages of the database.
const BUDGET: f64 = 64.0;
const BESIDES: f64 = 192.0;

/// The bound of the 99th percentile of `/livez`.
const ALIVE_WITHIN: Duration = Duration::from_millis(50);

/// Messages of 65,000 characters: sixteen make a page.
const LONG_ITEMS: &str = "INSERT INTO items (name, email, message, created_at) \
    WITH RECURSIVE numbers(number) AS (VALUES (1) UNION ALL SELECT number + 1 FROM numbers WHERE number < 1000) \
    SELECT 'long', 'a@example.com', printf('%.65000c', 'x'), printf('2026-01-01 12:00:00.%06d', number) FROM numbers";

fn attack_time() -> Duration {
    let time = std::env::var("VITALS_ATTACK_TIME").unwrap_or_else(|_| "12s".to_owned());
    humantime::parse_duration(&time).expect("a duration")
}

/// The resident memory of a process, in MiB.
fn resident(server: &Server) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.expect("a size").parse::<f64>().expect("a number") / 1024.0
}

/// The well-behaved clients.
struct Honest {
    api: String,
    operators: String,
    client: Client,
    is_over: AtomicBool,
    /// The number of rounds of [`Honest::work`].
    rounds: AtomicU64,
}

impl Honest {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn item(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api))
    }

    /// Requests `/livez` fifty times a second, and returns the latencies.
    async fn look(&self) -> Vec<Duration> {
        let mut delays = Vec::new();
        while self.goes_on() {
            let asked = Instant::now();
            let alive = self.client.get(format!("{}/livez", self.operators));
            assert_eq!(Answer::of(alive).await.status, 200);
            delays.push(asked.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        delays.sort();
        delays
    }

    async fn scrape(&self) -> Exposition {
        let scrape = self.client.get(format!("{}/metrics", self.operators));
        let answer = Answer::of(scrape.basic_auth("alice", Some("secret"))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Exposition::parse(&answer.text).expect("a well-formed exposition")
    }

    /// Scrapes every second. Returns the most memory of bodies that a scrape reported, in MiB.
    async fn operate(&self) -> f64 {
        let mut most = 0.0_f64;
        while self.goes_on() {
            let scrape = self.scrape().await;
            most = most.max(scrape.value("http_answer_memory_bytes", &[]));
            sleep(Duration::from_secs(1)).await;
        }
        most / 1024.0 / 1024.0
    }

    /// Creates, reads, replaces and deletes an item, and then gets 404 for it. Checks every answer.
    async fn work(&self, worker: usize) {
        while self.goes_on() {
            let round = self.rounds.fetch_add(1, Ordering::Relaxed);
            let item = json!({
                "name": format!("{worker} {round}"),
                "email": "honest@example.com",
                "message": "a message ".repeat(10),
            });
            let created = Answer::of(self.item(Method::POST, "/data").json(&item)).await;
            assert_eq!(created.status, 201, "{}", created.text);
            let path = format!("/data/{}", created.json()["id"]);
            self.is(&path, &item).await;
            let replaced = json!({"name": "replaced", "email": "b@example.com", "message": null});
            let answer = Answer::of(self.item(Method::PUT, &path).json(&replaced)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            self.is(&path, &replaced).await;
            let answer = Answer::of(self.item(Method::DELETE, &path)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let answer = Answer::of(self.item(Method::GET, &path)).await;
            assert_eq!(answer.status, 404, "{}", answer.text);
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is(&self, path: &str, item: &Value) {
        let answer = Answer::of(self.item(Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let found = answer.json();
        for key in ["name", "email", "message"] {
            assert_eq!(found[key], item[key], "{key}");
        }
    }

    /// Returns where the counts differ from the work of the well-behaved clients.
    fn miscounts(&self, scrape: &Exposition) -> Vec<String> {
        let rounds = self.rounds.load(Ordering::Relaxed);
        let mut miscounts = Vec::new();
        for (method, endpoint, status, each) in [
            ("POST", "/data", "201", 1),
            ("GET", "/data/{item_id}", "200", 2),
            ("PUT", "/data/{item_id}", "200", 1),
            ("DELETE", "/data/{item_id}", "200", 1),
            ("GET", "/data/{item_id}", "404", 1),
        ] {
            let labels = [
                ("method", method),
                ("endpoint", endpoint),
                ("http_status", status),
            ];
            let counted = scrape.value("http_requests_total", &labels) as u64;
            if counted != each * rounds {
                miscounts.push(format!("{labels:?}: {counted} in {rounds} rounds"));
            }
        }
        miscounts
    }
}

/// A server with a thousand long items, and clients with credentials.
fn start() -> (Server, Arc<Honest>) {
    let directory = Arc::new(tempfile::TempDir::new().expect("a temporary directory"));
    let config = directory.path().join("web.yml");
    let hash = bcrypt::hash("secret", 10).expect("a hash");
    fs::write(&config, format!("basic_auth_users:\n  alice: {hash}\n")).expect("it is written");
    let config = config.display().to_string();
    let mut server = Server::start_in(
        Arc::clone(&directory),
        &[
            "--ops-listen=127.0.0.1:0",
            "--open-livez",
            "--web-config",
            &config,
            "--answer-memory=64MiB",
            "--pool-timeout=60s",
        ],
    );
    let operators = server.next_address();
    server.data().execute(LONG_ITEMS);
    let client = Client::builder()
        // Shorter than the server's idle timeout: otherwise a request may use a closing connection.
        .pool_idle_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(120))
        .no_proxy()
        .build()
        .expect("an HTTP client");
    let honest = Honest {
        api: server.url(""),
        operators,
        client,
        is_over: AtomicBool::new(false),
        rounds: AtomicU64::new(0),
    };
    (server, Arc::new(honest))
}

/// Waits until the server is idle, uses as much memory as before, and has counted all work of the well-behaved clients.
async fn wait_for_rest(server: &Server, honest: &Honest, before: f64, descriptors: f64) {
    until("all to be as before", REST_BOUND, async || {
        let scrape = honest.scrape().await;
        let mut left = honest.miscounts(&scrape);
        // The well-behaved clients keep connections for two seconds.
        for (gauge, rest) in [
            ("http_answer_memory_bytes", 0.0),
            ("http_connections_active", 0.0),
            ("inprogress_requests", 0.0),
            ("process_open_fds", descriptors),
        ] {
            let level = scrape.value(gauge, &[]);
            if level > rest {
                left.push(format!("{gauge}: {level}"));
            }
        }
        for gauge in ["db_pool_checked_out_connections", "db_pool_waiters"] {
            let pools = scrape.series(gauge);
            if pools.is_empty() || pools.iter().any(|(_, level)| *level > 0.0) {
                left.push(format!("{gauge}: {pools:?}"));
            }
        }
        let resident = resident(server);
        if resident > before * 1.2 + HISTORY {
            left.push(format!("{resident:.0} MiB resident, {before:.0} before"));
        }
        left.is_empty().then_some(()).ok_or(left.join("; "))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_are_served_during_all_attacks_and_nothing_is_left_behind() {
    let _turn = turn().await;
    let time = attack_time();
    let (server, honest) = start();
    // Memory that serving always needs: each connection to the database reads its pages.
    for _ in 0..2 {
        join_all((0..10).map(|_| server.get("/data?limit=1000"))).await;
    }
    sleep(Duration::from_secs(3)).await;
    let descriptors = honest.scrape().await.value("process_open_fds", &[]);
    let before = resident(&server);
    let started = server.stderr().lines().count();

    let attackers = Attackers::start(
        server.authority(),
        honest.operators.trim_start_matches("http://"),
    );
    let looks = tokio::spawn({
        let honest = Arc::clone(&honest);
        async move { honest.look().await }
    });
    let operator = tokio::spawn({
        let honest = Arc::clone(&honest);
        async move { honest.operate().await }
    });
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let honest = Arc::clone(&honest);
            tokio::spawn(async move { honest.work(worker).await })
        })
        .collect();
    let end = Instant::now() + time;
    let mut highest = before;
    while Instant::now() < end {
        sleep(Duration::from_millis(500)).await;
        highest = highest.max(resident(&server));
        let has_met_a_fault = looks.is_finished() || operator.is_finished();
        assert!(!has_met_a_fault && !workers.iter().any(JoinHandle::is_finished));
    }
    let connections = attackers.leave().await;
    honest.is_over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("right answers");
    }
    let held = operator.await.expect("right answers");
    let delays = looks.await.expect("right answers");
    let percentile = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    let rounds = honest.rounds.load(Ordering::Relaxed);
    println!(
        "{connections} connections of attackers in {}; {rounds} rounds of work",
        humantime::format_duration(time)
    );
    println!(
        "{} looks at /livez: half within {:?}, 99 % within {:?}, all within {:?}",
        delays.len(),
        percentile(0.5),
        percentile(0.99),
        percentile(1.0)
    );
    println!("{before:.0} MiB resident before, at most {highest:.0}; bodies held {held:.0} MiB");

    wait_for_rest(&server, &honest, before, descriptors).await;
    let after = resident(&server);
    println!("{after:.0} MiB resident afterwards");

    assert!(held <= BUDGET, "{held} MiB held");
    let most = before + BUDGET + BESIDES;
    assert!(highest <= most, "{highest} MiB resident, {before} before");
    if time >= Duration::from_secs(60) && !cfg!(debug_assertions) {
        assert!(percentile(0.99) < ALIVE_WITHIN, "{:?}", percentile(0.99));
    }
    let scrape = honest.scrape().await;
    for name in ["vitals_panics_total", "vitals_collector_errors_total"] {
        assert!(scrape.sum(name, &[]) == 0.0, "{name}");
    }
    let log = server.stderr();
    let lines: Vec<&str> = log.lines().skip(started).collect();
    assert!(lines.len() < 50, "{lines:#?}");
    assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
    assert_eq!(server.stop(), Some(0));
}

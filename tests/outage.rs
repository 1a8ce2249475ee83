//! The database fails under load in every way that it can, and returns: the answers to clients, probes and scrapes meanwhile, how
//! soon they change, and that every answer is counted.
//!
//! `api` tests the answers with a working database. Times are printed; their bounds leave room for a machine that is busy with
//! other tests.

#[path = "../examples/load/ledger.rs"]
#[allow(dead_code, reason = "the load driver uses the rest")]
mod ledger;
mod load;
mod lost;
mod start;
mod statements;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;

use crate::support::postgres::{Cluster, Database};
use crate::support::server::Server;
use ledger::{Meter, Row};
use load::{Load, Report};

use crate::support::{exposition, postgres, server, tools, turn::turn, wait};

/// The pool timeout of every server here.
const POOL_TIMEOUT: Duration = Duration::from_secs(1);

/// Within which every request is to be answered.
const ANSWER_BOUND: Duration = Duration::from_millis(1500);

/// What a busy machine may add to any time.
const SLACK: Duration = Duration::from_secs(3);

/// One service on one PostgreSQL, under load.
struct Scene {
    cluster: Arc<Cluster>,
    database: Arc<Database>,
    server: Server,
    meter: Meter,
    families: BTreeSet<String>,
    load: Load,
}

impl Scene {
    /// Sets everything up; nothing where the skip of `test` is recorded.
    async fn set(test: &str, pool_size: u32, clients: usize) -> Option<Self> {
        let cluster = Cluster::start(&tools::postgres(test)?);
        let database = cluster.database();
        let pool_size = pool_size.to_string();
        let flags = [
            "--pool-timeout",
            "1s",
            "--pool-size",
            &pool_size,
            "--shutdown-timeout",
            "2s",
            // The log has no line about a busy machine.
            "--stall-threshold=24h",
        ];
        let server = Server::start_on(database.clone(), &flags);
        server.create("Ada").await;
        let client = reqwest::Client::builder()
            // Sooner than the server, which closes after five: or a request may meet a closing connection.
            .pool_idle_timeout(std::time::Duration::from_secs(2))
            .no_proxy()
            .build()
            .unwrap();
        let meter = Meter::start(client, &server.url(""), None).await.unwrap();
        let mut scene = Self {
            load: Load::start(&server.url(""), clients),
            cluster,
            database,
            families: BTreeSet::new(),
            server,
            meter,
        };
        scene.serves_again("at first").await;
        scene.families = scene.scraped_families().await;
        Some(scene)
    }

    /// Waits until the load is served.
    async fn serves_again(&self, when: &str) {
        let served = self.load.served();
        wait::until("answers from the database", SLACK * 20, async || {
            (self.load.served() > served + 100)
                .then_some(())
                .ok_or(format!("{} served {when}", self.load.served()))
        })
        .await;
    }

    /// Asks the probe until it answers with `status`, and returns the time since `since`.
    async fn probe_becomes(&self, path: &str, status: u16, since: Instant) -> Duration {
        wait::until(&format!("{path} to be {status}"), SLACK * 20, async || {
            let answer = self.server.get(path).await;
            self.load.enter(Row::new("GET", path, answer.status));
            (answer.status == status)
                .then_some(())
                .ok_or(answer.status.to_string())
        })
        .await;
        let passed = since.elapsed();
        println!("{path} is {status} after {passed:?}");
        passed
    }

    /// What is answered while the database does not: problems to clients, and everything to operators.
    async fn is_in_an_outage(&self) {
        for (method, path, endpoint) in [
            (Method::GET, "/data/1", "/data/{item_id}"),
            (Method::GET, "/data", "/data"),
            (Method::DELETE, "/data/999", "/data/{item_id}"),
        ] {
            let answer = server::Answer::of(self.server.request(method.clone(), path)).await;
            self.load
                .enter(Row::new(method.as_str(), endpoint, answer.status));
            assert_eq!(answer.status, 503, "{method} {path}: {}", answer.text);
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let seconds: u32 = answer.header("retry-after").parse().expect("seconds");
            assert!(seconds > 0, "{method} {path}");
            assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
        }
        self.probe_becomes("/livez", 200, Instant::now()).await;
        let missing: Vec<_> = self
            .families
            .difference(&self.scraped_families().await)
            .cloned()
            .collect();
        assert_eq!(missing, [""; 0], "families that left the scrape");
    }

    async fn scraped_families(&self) -> BTreeSet<String> {
        let answer = self.server.get("/metrics").await;
        self.load.enter(Row::new("GET", "/metrics", answer.status));
        assert_eq!(answer.status, 200);
        let types = answer.text.lines().filter_map(|line| {
            let name = line.strip_prefix("# TYPE ")?.split(' ').next()?;
            Some(name.to_owned())
        });
        types.collect()
    }

    /// Ends the load, and holds the server's books against those of the clients.
    async fn ends_well(mut self) -> Report {
        let report = self.load.stop().await;
        println!("{report}");
        let differences = self.meter.settle(&report.ledger).await;
        assert_eq!(differences, "", "the books differ");
        assert!(
            report.ledger.broken.is_empty(),
            "{:?}",
            report.ledger.broken
        );
        assert!(
            report.slowest() < ANSWER_BOUND + SLACK,
            "{:?} for one answer",
            report.slowest()
        );
        let scrape = self.server.scrape().await;
        for level in ["db_pool_waiters", "db_pool_checked_out_connections"] {
            let value = scrape.value(level, &[("pool", "default")]);
            assert!(value.abs() < f64::EPSILON, "{level} is {value} at rest");
        }
        let log = self.server.stderr();
        for word in ["panicked", postgres::PASSWORD, "tester"] {
            assert!(!log.contains(word), "{word} is in the log:\n{log}");
        }
        let data = self.server.data();
        assert!(
            data.url().contains(postgres::PASSWORD),
            "nothing to be found"
        );
        assert_eq!(self.server.stop(), Some(0));
        report
    }
}

/// A connection is lost, then the whole server; each comes back.
async fn killed_and_started_again(test: &str, pool_size: u32, clients: usize) {
    let _turn = turn().await;
    let Some(scene) = Scene::set(test, pool_size, clients).await else {
        return;
    };
    assert!(scene.cluster.kill_backend(&scene.database));
    let killed = Instant::now();
    scene.probe_becomes("/readyz", 200, killed).await;
    scene.serves_again("after the kill of a backend").await;

    scene.cluster.kill();
    let killed = Instant::now();
    let noticed = scene.probe_becomes("/readyz", 503, killed).await;
    assert!(noticed < Duration::from_secs(2) + SLACK, "{noticed:?}");
    scene.is_in_an_outage().await;
    // Long enough that the pool tries at its longest interval.
    tokio::time::sleep_until((killed + POOL_TIMEOUT * 3).into()).await;

    scene.cluster.resume();
    let recovered = scene.probe_becomes("/readyz", 200, Instant::now()).await;
    assert!(recovered < Duration::from_secs(5) + SLACK, "{recovered:?}");
    scene.serves_again("after the server came back").await;

    let report = scene.ends_well().await;
    assert!(report.refusals() > 0, "the outage went unnoticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_is_an_outage_and_no_more() {
    let test = "a_server_that_is_killed_and_started_again_is_an_outage_and_no_more";
    killed_and_started_again(test, 5, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_of_two_connections_are_served_or_refused_in_time() {
    let test = "two_hundred_clients_of_two_connections_are_served_or_refused_in_time";
    killed_and_started_again(test, 2, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_without_a_word_holds_nobody_up() {
    let test = "a_server_that_goes_without_a_word_holds_nobody_up";
    let _turn = turn().await;
    let Some(scene) = Scene::set(test, 5, 20).await else {
        return;
    };
    scene.cluster.signal_all("STOP");
    let stopped = Instant::now();
    let noticed = scene.probe_becomes("/readyz", 503, stopped).await;
    assert!(noticed < Duration::from_secs(2) + SLACK, "{noticed:?}");
    scene.is_in_an_outage().await;
    tokio::time::sleep_until((stopped + POOL_TIMEOUT * 4).into()).await;

    scene.cluster.signal_all("CONT");
    let recovered = scene.probe_becomes("/readyz", 200, Instant::now()).await;
    assert!(recovered < Duration::from_secs(5) + SLACK, "{recovered:?}");
    scene.serves_again("after the server went on").await;
    let mut log = String::new();
    for line in [
        "the database does not answer",
        // The check for readiness may have one of them.
        " of 5 connections: ",
        "the database answers again",
    ] {
        log = scene.server.log_with(line, 1).await;
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
    // The connection that asks the database about itself has failed, too, if its turn has come.
    let unexplained = log
        .matches("the database gives no information about itself")
        .count();
    assert!(unexplained <= 1, "{log}");
    assert_eq!(log.matches("WARN").count(), 2 + unexplained, "{log}");
    let report = scene.ends_well().await;
    assert!(report.refusals() > 0, "the outage went unnoticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_others_hold_is_an_overload_and_no_more() {
    let test = "a_table_that_others_hold_is_an_overload_and_no_more";
    let _turn = turn().await;
    let Some(scene) = Scene::set(test, 2, 200).await else {
        return;
    };
    let data = scene.server.data();
    tokio::task::spawn_blocking(move || {
        data.execute("BEGIN; LOCK TABLE items; SELECT pg_sleep(3); COMMIT");
    })
    .await
    .unwrap();
    scene.serves_again("after the table was free").await;
    let report = scene.ends_well().await;
    assert!(report.refusals() > 0, "the lock went unnoticed");
}

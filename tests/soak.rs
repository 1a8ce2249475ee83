//! Clients of every kind on one server, at a moderate rate: memory and descriptors do not grow, and each request is counted
//! once, with the status of its answer.
//!
//! `VITALS_SOAK_TIME` sets the duration (`15s` by default, `1h` in `make soak`), `VITALS_SOAK_SEED` the seed of the clients.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts are whole, small and not negative"
)]

mod attack;
mod attackers;
mod crowd;
mod ledger;
mod levels;
mod raw;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::support::exposition::Exposition;
use crate::support::turn::turn;
use crowd::Crowd;
use ledger::{Counted, Ledger};
use levels::Levels;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::support::server::Server;
use crate::support::wait::until;

/// The limits are short, so that many clients reach them.
const LIMITS: [&str; 4] = [
    "--head-timeout=2s",
    "--body-timeout=2s",
    "--response-timeout=5s",
    "--idle-timeout=6s",
];

/// The longest wait until the last records are settled and the last connections closed.
const SETTLE_BOUND: Duration = Duration::from_secs(30);

/// The interval of scrapes.
const LOOK: Duration = Duration::from_secs(1);

fn soak_time() -> Duration {
    let time = std::env::var("VITALS_SOAK_TIME").unwrap_or_else(|_| "15s".to_owned());
    humantime::parse_duration(&time).expect("a duration")
}

fn seed() -> u64 {
    let seed = std::env::var("VITALS_SOAK_SEED").ok();
    seed.map_or_else(rand::random, |seed| seed.parse().expect("a number"))
}

/// Scrapes a server, and records each scrape as a request.
struct Watch {
    server: Server,
    ledger: Arc<Ledger>,
}

impl Watch {
    async fn look(&self) -> Exposition {
        let scrape = self.server.scrape().await;
        self.ledger.record("GET", "/metrics", 200);
        scrape
    }

    /// Reads an ops endpoint, and records that as a request.
    async fn read(&self, path: &str, endpoint: &str) -> Value {
        let answer = self.server.get(path).await;
        self.ledger.record("GET", endpoint, answer.status);
        answer.json()
    }

    /// The number of descriptors when no connection is open but that of the scrape.
    async fn descriptors_at_rest(&self) -> f64 {
        until("the last connection to go", SETTLE_BOUND, async || {
            let scrape = self.look().await;
            match scrape.value("http_connections_active", &[]) {
                active if active <= 1.0 => Ok(scrape.value("process_open_fds", &[])),
                active => Err(format!("{active} are active")),
            }
        })
        .await
    }

    /// Waits until each pool has a plan, so that the connections that ask for plans are open. SQLite keeps the descriptor of a
    /// closed connection for the next one while others lock the same file, so they count from then on.
    async fn plans_are_known(&self) {
        until("a plan of each pool", SETTLE_BOUND, async || {
            let list = self.read("/ops/statements", "/ops/statements").await;
            let mut without = BTreeSet::new();
            let mut with = BTreeSet::new();
            for statement in list["statements"].as_array().into_iter().flatten() {
                let Some(id) = statement["id"].as_u64() else {
                    continue;
                };
                let pool = statement["pool"].to_string();
                let path = format!("/ops/statements/{id}");
                let statement = self.read(&path, "/ops/statements/{id}").await;
                if statement["plan"]["current"].is_null() {
                    without.insert(pool);
                } else {
                    with.insert(pool);
                }
            }
            if without.is_subset(&with) && !with.is_empty() {
                Ok(())
            } else {
                Err(format!("plans in {with:?}, none in {without:?}"))
            }
        })
        .await;
    }

    /// Waits until no more descriptors are open than there were.
    async fn descriptors_return_to(&self, before: f64) {
        until(
            "all descriptors to be closed",
            SETTLE_BOUND,
            async || match self.descriptors_at_rest().await {
                now if now <= before => Ok(()),
                now => Err(format!("{before} at rest before, {now} now")),
            },
        )
        .await;
    }

    /// Waits until the server's counts equal the clients' records.
    async fn settles(&self) {
        until(
            "the counters to equal the records",
            SETTLE_BOUND,
            async || {
                // A scrape does not count itself.
                let recorded = self.ledger.recorded();
                let counted = Counted::of(&self.look().await);
                let differences = counted.differences(&recorded);
                differences.is_empty().then_some(()).ok_or(differences)
            },
        )
        .await;
    }

    /// Checks that the log and the counters report no fault.
    async fn is_well(&self) {
        let scrape = self.look().await;
        for (name, labels) in [
            ("vitals_panics_total", &[][..]),
            ("vitals_collector_errors_total", &[]),
            ("vitals_series_overflow_total", &[]),
            ("http_connections_total", &[("outcome", "error")]),
        ] {
            let value = scrape.sum(name, labels);
            assert!(value == 0.0, "{name} {labels:?}: {value}");
        }
        for (labels, count) in scrape.series("http_requests_total") {
            // A busy machine may cause a 503, and nothing worse.
            let status = &labels["http_status"];
            let is_fault = status.starts_with('5') && status != "503" && count > 0.0;
            assert!(!is_fault, "{labels:?}: {count}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_is_counted_exactly_and_leaves_nothing_behind() {
    let _turn = turn().await;
    let (time, seed) = (soak_time(), seed());
    println!("{}, seed {seed}", humantime::format_duration(time));
    let ledger = Arc::new(Ledger::default());
    let watch = Watch {
        server: Server::start_with(&LIMITS),
        ledger: Arc::clone(&ledger),
    };
    watch.look().await;

    // Descriptors that are opened once and kept are open after this.
    let crowd = Crowd::start(&watch.server.url(""), &ledger, seed);
    tokio::time::sleep(LOOK * 3).await;
    crowd.leave().await;
    watch.plans_are_known().await;
    let at_rest = watch.descriptors_at_rest().await;

    let crowd = Crowd::start(&watch.server.url(""), &ledger, seed.wrapping_add(1));
    let mut levels = Levels::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + time;
    while Instant::now() < end {
        looks.tick().await;
        levels.note(&watch.look().await);
        assert!(!crowd.is_thinning(), "a client got an unexpected answer");
    }
    crowd.leave().await;
    watch.settles().await;
    watch.is_well().await;
    println!("{ledger}\n{levels}");
    levels.are_flat();
    watch.descriptors_return_to(at_rest).await;

    let Watch { server, .. } = watch;
    let log = server.stderr();
    assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
    assert_eq!(server.stop(), Some(0));
}

//! Random actions of many clients, and what they know of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;

use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::pools::TestPool;
use crate::support::database_counts::database_counts;
use crate::{app_on, is_at_rest};

/// Random actions of the test of chaos; `VITALS_CHAOS_ACTIONS` sets another number.
const CHAOS_ACTIONS: u64 = 2_000;

/// Clients that act at the same time, on a pool of two connections.
const CHAOS_CLIENTS: u64 = 200;

/// What the clients know of their own actions.
#[derive(Debug, Default)]
struct Ledger {
    actions: AtomicU64,
    /// Calls of `get`.
    gets: AtomicU64,
    /// Connections that `get` returned.
    held: AtomicU64,
    /// Queries whose future was created.
    started: AtomicU64,
    /// Queries whose future returned.
    ended: AtomicU64,
    /// Those that returned an error of a lost connection.
    lost: AtomicU64,
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    AtomicU64::load(count, Relaxed)
}

impl Ledger {
    async fn query(&self, connection: &mut AsyncPgConnection, sql: &str) {
        add(&self.started);
        let result = diesel::sql_query(sql.to_owned()).execute(connection).await;
        add(&self.ended);
        if let Err(error) = result {
            let error = error.to_string();
            let lost = ["connection", "communicating"];
            if lost.iter().any(|word| error.contains(word)) {
                add(&self.lost);
            }
        }
    }
}

/// Drops a future after some polls.
async fn drop_after<F: Future>(future: F, polls: u64) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        let polled = future.as_mut().poll(cx).map(drop);
        if left == 0 { Poll::Ready(()) } else { polled }
    })
    .await;
}

async fn act<P: TestPool<Connection = AsyncPgConnection>>(
    pool: &P,
    ledger: &Ledger,
    random: &mut StdRng,
) {
    let kind = random.random_range(0..1000);
    let queries = random.random_range(1..4);
    let work = async {
        add(&ledger.gets);
        let Ok(mut connection) = pool.get().await else {
            return;
        };
        add(&ledger.held);
        match kind {
            0..2 => {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                ledger.query(&mut connection, kill).await;
            }
            2..300 => {
                let result = connection
                    .transaction(async |connection| {
                        ledger.query(connection, "SELECT count(*) FROM items").await;
                        Err::<(), _>(diesel::result::Error::RollbackTransaction)
                    })
                    .await;
                assert!(result.is_err());
            }
            _ => {
                for _ in 0..queries {
                    ledger
                        .query(&mut connection, "SELECT pg_sleep(0.0005)")
                        .await;
                }
            }
        }
    };
    if random.random_bool(0.3) {
        drop_after(work, random.random_range(1..12)).await;
    } else {
        work.await;
    }
}

pub(crate) async fn chaos_leaves_an_exact_ledger<P: TestPool<Connection = AsyncPgConnection>>() {
    let Some((app, _database)) = app_on::<P>(2).await else {
        return;
    };
    let actions = std::env::var("VITALS_CHAOS_ACTIONS").ok();
    let actions = actions.map_or(CHAOS_ACTIONS, |actions| actions.parse().unwrap());
    let before = app.scrape();
    let ledger = Ledger::default();
    let clients = (0..CHAOS_CLIENTS).map(|seed| {
        let (pool, ledger) = (app.pool.clone(), &ledger);
        async move {
            let mut random = StdRng::seed_from_u64(seed);
            while read(&ledger.actions) < actions {
                add(&ledger.actions);
                act(&pool, ledger, &mut random).await;
            }
        }
    });
    join_all(clients).await;
    is_at_rest(&app).await;
    // Both connections can still be had.
    let both = (app.pool.get().await.unwrap(), app.pool.get().await.unwrap());
    drop(both);
    is_at_rest(&app).await;
    let moved = database_counts(&before, &app.scrape());
    let sum = |name: &str, part: &str| -> u64 {
        let samples = moved
            .iter()
            .filter(|(sample, _)| sample.split(' ').next() == Some(name) && sample.contains(part));
        samples.map(|(_, rise)| *rise as u64).sum()
    };
    let why = format!("{ledger:?}: {moved:?}");
    assert_eq!(sum("db_queries_total", ""), read(&ledger.started), "{why}");
    let counted = sum("db_query_duration_seconds_count", "");
    assert_eq!(counted, read(&ledger.started), "{why}");
    // diesel-async reports no end of a query that is under way when its connection is lost.
    let dropped = read(&ledger.started) - read(&ledger.ended);
    let cancelled = sum("db_query_errors_total", "cancelled select");
    let possible = dropped..=dropped + read(&ledger.lost);
    assert!(
        possible.contains(&cancelled),
        "{cancelled}, {possible:?}, {why}"
    );
    // Two calls and two connections are those of the end.
    let holds = sum("db_pool_hold_seconds_count", "");
    assert_eq!(holds, read(&ledger.held) + 2, "{why}");
    let waits = sum("db_pool_wait_seconds_count", "");
    assert_eq!(waits, read(&ledger.gets) + 2, "{why}");
    let left = sum("db_pool_rejected_total", "cancelled");
    let timeouts = sum("db_pool_rejected_total", "timeout");
    assert!(holds + left + timeouts <= waits, "{why}");
    assert!(dropped > 0 && left > 0, "{why}");
    println!("{actions} actions: {why}");
}

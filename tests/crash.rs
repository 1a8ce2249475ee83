//! `kill -9` at any moment: each acknowledged write exists after the restart, exactly once.
//!
//! Eight writers record every answer. After each kill, the server starts again on the same data, and the data must match
//! the records. `VITALS_CRASH_KILLS` sets the number of kills (20 by default), `VITALS_CRASH_SEED` the seed. `durability`
//! tests the reason for it: the order of sync and answer.

mod durability;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::sql_types::Text;
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use crate::support::postgres::Cluster;
use crate::support::server::Server;
use crate::support::writers::{Books, Writers};

use crate::support::{tools, writers};

const WRITERS: u64 = 8;

/// The longest life of a server, in milliseconds after its first write.
const LIFETIME_MS: u64 = 300;

/// Every fifth kill also kills the database server.
const KILLS_OF_A_DATABASE: u64 = 5;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Kills the server while writers write, restarts it, and compares the data with the writers' records; many times.
///
/// `after_kill` runs while no server runs, with the number of the kill.
async fn kill_again_and_again(start: impl Fn() -> Server, after_kill: impl Fn(u64)) -> Server {
    let kills = setting("VITALS_CRASH_KILLS", 20);
    let seed = setting("VITALS_CRASH_SEED", rand::random());
    println!("{kills} kills, seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let books = Arc::new(Mutex::new(Books::default()));
    let mut server = start();
    for kill in 1..=kills {
        let writers = Writers::start(&server.url(""), &books, WRITERS, dice.random());
        let lifetime = Duration::from_millis(dice.random_range(0..LIFETIME_MS));
        tokio::time::sleep(lifetime).await;
        server.kill();
        writers.stop().await;
        after_kill(kill);
        server = start();
        let found = writers::items_of(&server.url("")).await;
        let differences = writers::lock(&books).differences(&found);
        assert_eq!(differences, [""; 0], "after kill {kill}, {lifetime:?} old");
    }
    let books = writers::lock(&books);
    println!(
        "{} writes acknowledged, {} without an answer",
        books.acknowledged, books.unanswered
    );
    assert!(books.acknowledged > kills, "too few writes for the test");
    assert!(books.unanswered > 0, "no kill interrupted a write");
    server
}

/// SQLite's own integrity check of the file.
fn assert_intact(database: &Path) {
    #[derive(diesel::QueryableByName)]
    struct Finding {
        #[diesel(sql_type = Text)]
        integrity_check: String,
    }
    let mut connection = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    let findings: Vec<Finding> = diesel::sql_query("PRAGMA integrity_check")
        .load(&mut connection)
        .unwrap();
    let findings: Vec<_> = findings
        .into_iter()
        .map(|finding| finding.integrity_check)
        .collect();
    assert_eq!(findings, ["ok"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_survives_kill_9_in_sqlite() {
    let directory = Arc::new(TempDir::new().unwrap());
    let file = directory.path().join("vitals.db");
    let server = kill_again_and_again(
        || Server::start_in(Arc::clone(&directory), &[]),
        // This opens the file first after the crash.
        |_| assert_intact(&file),
    )
    .await;
    assert_eq!(server.stop(), Some(0));
    assert_intact(&file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_survives_kill_9_in_postgresql() {
    let test = "an_acknowledged_write_survives_kill_9_in_postgresql";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let cluster = Cluster::start(&programs);
    let database = cluster.database();
    let server = kill_again_and_again(
        || Server::start_on(database.clone(), &[]),
        |kill| {
            if kill % KILLS_OF_A_DATABASE == 0 {
                cluster.kill();
                cluster.resume();
            }
        },
    )
    .await;
    assert_eq!(server.stop(), Some(0));
}

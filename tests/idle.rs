//! A server that nobody asks: how often it wakes up.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::server::Server;
use crate::support::turn::turn;

/// The most wake-ups a second of an idle server with two workers. It has about 12: each worker has four of Actix' own clock and
/// its cascade, and one for its lag; the database file has one.
const MOST_WAKE_UPS: f64 = 40.0;

/// The time over which wake-ups are counted.
const SPAN: Duration = Duration::from_secs(4);

/// How long the server may take to come to rest.
const BOUND: Duration = Duration::from_secs(60);

/// How often the threads of a process have waited for something.
fn waits(server: &Server) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the process lives");
    let waits = tasks.filter_map(|task| {
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    });
    waits.sum()
}

#[tokio::test]
async fn a_server_that_nobody_asks_hardly_wakes_up() {
    let _turn = turn().await;
    let server = Server::start_with(&["--workers=2"]);
    server.create("Ada").await;
    let started = Instant::now();
    loop {
        let (before, since) = (waits(&server), Instant::now());
        tokio::time::sleep(SPAN).await;
        let rate = (waits(&server) - before) as f64 / since.elapsed().as_secs_f64();
        println!("{rate:.1} wake-ups a second");
        if rate < MOST_WAKE_UPS {
            break;
        }
        assert!(started.elapsed() < BOUND, "{rate} wake-ups a second");
    }
    // It serves at once.
    assert_eq!(server.get("/data").await.status, 200);
}

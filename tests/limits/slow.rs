//! Five hundred slow connections at a time, as `slowhttptest` makes them and one kind that it does not know: all are gone
//! by their deadline, and whoever behaves is served meanwhile.
//!
//! With `VITALS_SLOW_RATIO` the well-behaved are measured too, before and during each attack: their 99th percentile must
//! not rise above so many percent (`200` is twice). That needs a machine with nothing else to do, and an optimised build.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::GRACE;
use crate::guarded::{BOUND, Guarded, Raw};
use crate::tools;
use crate::wait::until;

const CONNECTIONS: u64 = 500;
/// How many of them come each second.
const CONNECTIONS_PER_SECOND: u64 = 250;

/// How long the well-behaved are measured alone.
const BASELINE: Duration = Duration::from_secs(6);
/// How many well-behaved clients there are.
const CLIENTS: usize = 4;
/// What such a client does between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(2);

/// Every deadline, so that whichever holds is known.
const DEADLINE: Duration = Duration::from_secs(4);
const DEADLINES: [&str; 4] = [
    "--head-timeout=4s",
    "--body-timeout=4s",
    "--response-timeout=4s",
    "--idle-timeout=4s",
];

/// One attack at a time: each needs the machine.
static TURN: Mutex<()> = Mutex::const_new(());

/// Latencies of well-behaved clients, in seconds, until they are told to stop.
async fn behave(url: String, mut stop: watch::Receiver<bool>) -> Vec<f64> {
    let client = Client::builder()
        // Sooner than the server.
        .pool_idle_timeout(Duration::from_secs(1))
        .no_proxy()
        .build()
        .expect("an HTTP client");
    let mut latencies = Vec::new();
    while !*stop.borrow_and_update() {
        let began = Instant::now();
        let answer = client.get(&url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("the whole answer");
        latencies.push(began.elapsed().as_secs_f64());
        tokio::time::sleep(PAUSE).await;
    }
    latencies
}

/// The 99th percentile, in seconds, of what well-behaved clients wait while `attack` goes on.
async fn p99_during<T>(guarded: &Guarded, attack: impl Future<Output = T>) -> (f64, T) {
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(behave(
                guarded.server.url("/data?limit=10"),
                stopped.clone(),
            ))
        })
        .collect();
    let result = attack.await;
    stop.send(true).expect("the clients listen");
    let mut latencies: Vec<f64> = Vec::new();
    for client in clients {
        latencies.extend(client.await.expect("every request is answered"));
    }
    latencies.sort_by(f64::total_cmp);
    assert!(latencies.len() > 100, "{} requests", latencies.len());
    (latencies[latencies.len() * 99 / 100], result)
}

/// Goes through an attack, whose connections must all end in one of these ways, and judges how the others fared.
async fn withstand<A: Future<Output = T>, T>(
    name: &str,
    guarded: &Guarded,
    outcomes: &[&str],
    attack: impl FnOnce() -> A,
) {
    assert_eq!(guarded.server.create("Ada").await, 1);
    let most = std::env::var("VITALS_SLOW_RATIO").ok();
    let most: Option<f64> = most.map(|most| most.parse().expect("a number"));
    let mut alone = f64::INFINITY;
    if most.is_some() {
        // What is warmed up is not measured.
        p99_during(guarded, tokio::time::sleep(Duration::from_secs(1))).await;
        alone = p99_during(guarded, tokio::time::sleep(BASELINE)).await.0;
    }
    let under_attack = async {
        let _attack = attack().await;
        all_end(guarded, outcomes).await
    };
    let (attacked, gone_after) = p99_during(guarded, under_attack).await;
    println!("{name}: gone {gone_after:?} after the last had come");
    if let Some(most) = most {
        let percent = attacked / alone * 100.0;
        println!(
            "{name}: p99 {:.2} ms, alone {:.2} ms: {percent:.0} %",
            attacked * 1e3,
            alone * 1e3,
        );
        assert!(percent <= most, "{name}: {percent:.0} %");
    }
}

/// Waits until all slow connections have come, and then until all have ended so; the time between the two.
async fn all_end(guarded: &Guarded, outcomes: &[&str]) -> Duration {
    until("all slow connections to come", BOUND, || async {
        let scrape = guarded.scrape().await;
        let active = scrape.value("http_connections_active", &[]) as u64;
        match guarded.ended_in(outcomes).await + active {
            come if come >= CONNECTIONS => Ok(()),
            come => Err(format!("{come}; {:?}", guarded.outcomes().await)),
        }
    })
    .await;
    let all_had_come = Instant::now();
    guarded.wait_for(outcomes, CONNECTIONS).await;
    let gone_after = all_had_come.elapsed();
    assert!(gone_after <= DEADLINE + GRACE, "{gone_after:?}");
    gone_after
}

/// `slowhttptest`, ended with the test.
struct Attack(Child);

impl Attack {
    fn begin(program: &Path, url: &str, options: &str) -> Self {
        let connections = CONNECTIONS.to_string();
        let rate = CONNECTIONS_PER_SECOND.to_string();
        let child = Command::new(program)
            .args(["-c", &connections, "-r", &rate, "-i", "1", "-l", "60"])
            .args(["-u", url])
            .args(options.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("slowhttptest starts");
        Self(child)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn slow_heads() {
    let Some(program) = tools::tool("slow_heads", "slowhttptest") else {
        return;
    };
    let _turn = TURN.lock().await;
    let guarded = Guarded::start(&DEADLINES);
    withstand("slow heads", &guarded, &["head_timeout"], async || {
        Attack::begin(&program, &guarded.server.url("/data"), "-H -x 10")
    })
    .await;
}

#[tokio::test]
async fn slow_bodies() {
    let Some(program) = tools::tool("slow_bodies", "slowhttptest") else {
        return;
    };
    let _turn = TURN.lock().await;
    let guarded = Guarded::start(&DEADLINES);
    withstand("slow bodies", &guarded, &["body_timeout"], async || {
        let options = "-B -t POST -f application/json -s 4096 -x 10";
        Attack::begin(&program, &guarded.server.url("/data"), options)
    })
    .await;
}

#[tokio::test]
async fn slow_readers() {
    let Some(program) = tools::tool("slow_readers", "slowhttptest") else {
        return;
    };
    let _turn = TURN.lock().await;
    // The live page has the largest answers that cost nothing to make.
    let guarded = Guarded::start_with_one_listener(&DEADLINES);
    // One that happened to have room for it all is ended for want of a request, and one that left by itself broke.
    let outcomes = ["response_timeout", "idle", "reset"];
    withstand("slow readers", &guarded, &outcomes, async || {
        let options = "-X -w 512 -y 1024 -n 1 -z 32 -k 10";
        Attack::begin(
            &program,
            &guarded.server.url("/dashboard/chart.js"),
            options,
        )
    })
    .await;
}

#[tokio::test]
async fn slow_second_heads() {
    let _turn = TURN.lock().await;
    let guarded = Guarded::start(&DEADLINES);
    withstand(
        "slow second heads",
        &guarded,
        &["head_timeout"],
        async || {
            let mut connections = JoinSet::new();
            for number in 0..CONNECTIONS {
                let authority = guarded.server.authority().to_owned();
                let begin = Duration::from_secs(number) / CONNECTIONS_PER_SECOND as u32;
                connections.spawn(async move {
                    tokio::time::sleep(begin).await;
                    let mut connection = Raw::to(&authority).await;
                    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
                    connection.read_until("\r\n\r\n").await;
                    connection.send("GET / HTTP/1.1\r\nHo").await;
                    connection.end().await
                });
            }
            connections
        },
    )
    .await;
}

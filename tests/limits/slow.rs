//! Five hundred slow connections at a time, made by `slowhttptest`, and one kind that it does not have.
//!
//! All end by their deadline, and well-behaved clients are served meanwhile. With `VITALS_SLOW_RATIO` these are measured too:
//! their 99th percentile under attack must not exceed this percentage of the baseline (`200` is twice). The baseline is an
//! attack on a listener that does nothing, because the tool and its connections use the machine as well. A third
//! measurement, without an attack, is only printed. All this needs an idle machine and an optimised build.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::limits::guarded::{BOUND, GRACE, Guarded, Raw};
use crate::support::{tools, turn::turn};

const CONNECTIONS: u64 = 500;
/// New slow connections each second.
const CONNECTIONS_PER_SECOND: u64 = 250;

/// The duration of the measurement without an attack, and of an attack: until the last connection is open,
/// and to its deadline.
const MEASURED: Duration = Duration::from_secs(6);
/// The interval of scrapes.
const LOOK: Duration = Duration::from_millis(100);
/// The number of well-behaved clients.
const CLIENTS: usize = 4;
/// The pause of a well-behaved client after an answer.
const PAUSE: Duration = Duration::from_millis(5);

/// All deadlines are the same, so that the expected time is known.
const DEADLINE: Duration = Duration::from_secs(4);
const DEADLINES: [&str; 4] = [
    "--head-timeout=4s",
    "--body-timeout=4s",
    "--response-timeout=4s",
    "--idle-timeout=4s",
];

/// Sends requests as a well-behaved client until `stop`, and returns the latencies in seconds.
async fn behave(url: String, mut stop: watch::Receiver<bool>) -> Vec<f64> {
    let client = Client::builder()
        // Shorter than the server's idle timeout.
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
        sleep(PAUSE).await;
    }
    latencies
}

/// Runs the well-behaved clients on a thread of their own, so that other tasks do not delay their clocks.
fn behave_apart(url: String, stop: watch::Receiver<bool>) -> thread::JoinHandle<Vec<f64>> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                clients.spawn(behave(url.clone(), stop.clone()));
            }
            clients.join_all().await.concat()
        })
    })
}

/// The 99th percentile of the well-behaved clients' latency during `event`, in seconds.
async fn p99_during<T>(guarded: &Guarded, event: impl Future<Output = T>) -> (f64, T) {
    let (stop, stopped) = watch::channel(false);
    let clients = behave_apart(guarded.server.url("/data?limit=10"), stopped);
    let result = event.await;
    stop.send(true).expect("the clients listen");
    let mut latencies = clients.join().expect("every request is answered");
    latencies.sort_by(f64::total_cmp);
    assert!(latencies.len() > 100, "{} requests", latencies.len());
    (latencies[latencies.len() * 99 / 100], result)
}

/// Runs an attack whose connections must all have one of these outcomes, and checks the latency of the other clients.
async fn withstand<A: Future<Output = T>, T>(
    name: &str,
    guarded: &Guarded,
    outcomes: &[&str],
    attack: impl Fn(String) -> A,
) {
    assert_eq!(guarded.server.create("Ada").await, 1);
    let most = std::env::var("VITALS_SLOW_RATIO").ok();
    let most: Option<f64> = most.map(|most| most.parse().expect("a number"));
    let mut unharmed = None;
    if most.is_some() {
        // The warm-up is not measured.
        p99_during(guarded, sleep(Duration::from_secs(1))).await;
        let alone = p99_during(guarded, sleep(MEASURED)).await.0;
        let beside = async {
            let _attack = attack(idle_listener().await).await;
            let end = Instant::now() + MEASURED;
            while Instant::now() < end {
                look(guarded, outcomes).await;
                sleep(LOOK).await;
            }
        };
        unharmed = Some((alone, p99_during(guarded, beside).await.0));
    }
    let under_attack = async {
        let _attack = attack(guarded.server.authority().to_owned()).await;
        all_end(guarded, outcomes).await
    };
    let (attacked, gone_after) = p99_during(guarded, under_attack).await;
    println!("{name}: gone {gone_after:?} after the last had come");
    if let (Some(most), Some((alone, beside))) = (most, unharmed) {
        let percent = attacked / beside * 100.0;
        println!(
            "{name}: p99 {:.2} ms, {:.2} ms where another is attacked: {percent:.0} %; alone {:.2} ms",
            attacked * 1e3,
            beside * 1e3,
            alone * 1e3,
        );
        assert!(percent <= most, "{name}: {percent:.0} %");
    }
}

/// Starts a listener that keeps connections as long as the server would, and does nothing with them.
async fn idle_listener() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(ignore(connection));
        }
    });
    address.to_string()
}

/// Answers one request, which one kind of slow client needs, and nothing else.
async fn ignore(mut connection: TcpStream) {
    let mut first = [0; 1024];
    let count = connection.read(&mut first).await.unwrap_or_default();
    if first[..count].starts_with(b"GET / ") {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let _gone = connection.write_all(answer).await;
    }
    sleep(DEADLINE).await;
}

/// The numbers of open connections, and of connections with one of these outcomes.
async fn look(guarded: &Guarded, outcomes: &[&str]) -> (u64, u64) {
    let scrape = guarded.scrape().await;
    let ended = |outcome: &&str| scrape.value("http_connections_total", &[("outcome", outcome)]);
    (
        scrape.value("http_connections_active", &[]) as u64,
        outcomes.iter().map(ended).sum::<f64>() as u64,
    )
}

/// Waits until all slow connections are open, and then until all have one of these outcomes. Returns the time between.
async fn all_end(guarded: &Guarded, outcomes: &[&str]) -> Duration {
    let began = Instant::now();
    let mut all_had_come = None;
    loop {
        let (active, ended) = look(guarded, outcomes).await;
        if ended + active >= CONNECTIONS {
            all_had_come.get_or_insert_with(Instant::now);
        }
        if let (Some(then), CONNECTIONS..) = (all_had_come, ended) {
            let gone_after = then.elapsed();
            assert!(gone_after <= DEADLINE + GRACE, "{gone_after:?}");
            return gone_after;
        }
        assert!(
            began.elapsed() < BOUND,
            "{active} are there, {ended} ended in {outcomes:?}; in all {:?}",
            guarded.outcomes().await
        );
        sleep(LOOK).await;
    }
}

/// A running `slowhttptest`, killed when dropped.
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
        // Both fail only if it has ended already.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn slow_heads() {
    let Some(program) = tools::tool("slow_heads", "slowhttptest") else {
        return;
    };
    let _turn = turn().await;
    let guarded = Guarded::start(&DEADLINES);
    withstand(
        "slow heads",
        &guarded,
        &["head_timeout"],
        async |authority: String| {
            Attack::begin(&program, &format!("http://{authority}/data"), "-H -x 10")
        },
    )
    .await;
}

#[tokio::test]
async fn slow_bodies() {
    let Some(program) = tools::tool("slow_bodies", "slowhttptest") else {
        return;
    };
    let _turn = turn().await;
    let guarded = Guarded::start(&DEADLINES);
    withstand(
        "slow bodies",
        &guarded,
        &["body_timeout"],
        async |authority: String| {
            let options = "-B -t POST -f application/json -s 4096 -x 10";
            Attack::begin(&program, &format!("http://{authority}/data"), options)
        },
    )
    .await;
}

#[tokio::test]
async fn slow_readers() {
    let Some(program) = tools::tool("slow_readers", "slowhttptest") else {
        return;
    };
    let _turn = turn().await;
    // The script of the live page is the largest answer that costs nothing to make.
    let guarded = Guarded::start_with_one_listener(&DEADLINES);
    // One that happened to have room for it all is ended for want of a request, and one that left by itself broke.
    let outcomes = ["response_timeout", "idle", "reset"];
    withstand(
        "slow readers",
        &guarded,
        &outcomes,
        async |authority: String| {
            let options = "-X -w 512 -y 1024 -n 1 -z 32 -k 10";
            Attack::begin(
                &program,
                &format!("http://{authority}/dashboard/app.js"),
                options,
            )
        },
    )
    .await;
}

#[tokio::test]
async fn slow_second_heads() {
    let _turn = turn().await;
    let guarded = Guarded::start(&DEADLINES);
    withstand(
        "slow second heads",
        &guarded,
        &["head_timeout"],
        async |authority: String| {
            let mut connections = JoinSet::new();
            for number in 0..CONNECTIONS {
                let authority = authority.clone();
                let begin = Duration::from_secs(number) / CONNECTIONS_PER_SECOND as u32;
                connections.spawn(async move {
                    sleep(begin).await;
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

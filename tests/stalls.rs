//! Stalled event loops: what the ops endpoints and the log report while a stall lasts. A process of its own, because the log's
//! subscriber is that of the process.
//!
//! `VITALS_STALLS` sets the number of injected stalls (100 by default), `VITALS_STALLS_SEED` their seed (a fixed one by
//! default, a random one in `make soak`), and `VITALS_NAMED_FROM` the shortest ones, all of which must be named while they
//! last (`750ms` by default: a busy machine may be late for shorter ones; `100ms` in `make soak`). A fifth of that is the
//! threshold of a stall. `VITALS_FULL_LOAD_TIME` sets for how long a service under full load must have no stall (`5s` by
//! default, `10m` in `make soak`).
//!
//! The last two need a machine with processors to spare. On a busy one, requests that hand work to another thread have
//! stalled in this test. The likely cause is a lock of the runtime whose holder waits for a processor; that is not proved. So
//! by default the load may stall such requests.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic and use the simplest way"
)]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "support/log.rs"]
mod log;

#[path = "stalls/blockable.rs"]
mod blockable;

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use actix_vitals::Vitals;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tracing::Level;

use blockable::{Blockable, IS_NOTICED, WORKERS, get};
use log::Log;

/// How long to wait for a condition.
const BOUND: Duration = Duration::from_secs(120);

/// What no answer and no line of the log may contain.
const SECRET: &str = "hunter2";

/// Held by the test that runs: the tests are about time.
static TURN: Mutex<()> = Mutex::new(());

/// Is a stall of the request with this trace.
fn is_stall_of(request: &Value, trace: &str) -> bool {
    request["trace_id"] == trace && request["is_stall"] == true
}

#[test]
fn stalls_are_named_while_they_last_and_blocked_workers_do_not_block_the_ops_listener() {
    let _turn = TURN.lock();
    let log = Log::of_process(Level::WARN);
    let blockable = Blockable::start();
    each_stall_is_named_while_it_lasts(&blockable, &log);
    work_on_other_threads_is_named(&blockable);
    all_workers_blocked(&blockable);
    all_workers_blocked_by_the_pool(&blockable);
    let text = log.text();
    assert!(!text.contains(SECRET), "{text}");
}

fn each_stall_is_named_while_it_lasts(blockable: &Blockable, log: &Log) {
    let mut number = 0;
    // The second round meets endpoints that are known, and the first round does not.
    for _ in 0..2 {
        for (path, endpoint, why) in [
            ("/sleep/60000", "/sleep/{millis}", "sync in async"),
            ("/spin/60000", "/spin/{millis}", "a computation"),
            ("/lock", "/lock", "a lock that is held"),
            ("/body/60000", "/body/{millis}", "a heavy body"),
            (
                "/middleware/60000",
                "/middleware/{millis}",
                "in a middleware",
            ),
        ] {
            number += 1;
            IS_NOTICED.store(false, Relaxed);
            let trace = format!("{number:032x}");
            let headers = format!("traceparent: 00-{trace}-00f067aa0ba902b7-00\r\n");
            let held = (path == "/lock").then(|| blockable.lock.lock().unwrap());
            let service = blockable.service;
            let client = thread::spawn(move || get(service, path, &headers));
            let requests = blockable
                .wait_for(|requests| requests.iter().any(|request| is_stall_of(request, &trace)));
            let stall = requests.iter().find(|request| is_stall_of(request, &trace));
            let stall = stall.unwrap();
            assert_eq!(stall["endpoint"], endpoint, "{why}");
            assert_eq!(stall["method"], "GET", "{why}");
            assert_eq!(stall["doing"], "event_loop", "{why}");
            assert!(stall["worker"].is_u64(), "{why}: {stall}");
            assert!(stall["no_stack"].is_string(), "{why}: {stall}");
            let deadline = Instant::now() + BOUND;
            let line = loop {
                let mut lines = log.lines().into_iter();
                if let Some(line) = lines.find(|line| line.contains(&trace)) {
                    break line;
                }
                assert!(Instant::now() < deadline, "{why}: {}", log.text());
                thread::sleep(Duration::from_millis(5));
            };
            assert!(line.contains(endpoint), "{why}: {line}");
            assert!(line.contains("keeps the event loop"), "{why}: {line}");
            IS_NOTICED.store(true, Relaxed);
            drop(held);
            assert!(client.join().unwrap().starts_with("HTTP/1.1 200"), "{why}");
            blockable.wait_for(<[_]>::is_empty);
            let lines = log.lines().into_iter();
            let lines = lines.filter(|line| line.contains(&trace)).count();
            assert_eq!(lines, 1, "{why}: one line for each stall");
        }
    }
    let metrics = blockable.ask("/metrics");
    for endpoint in [
        "/sleep/{millis}",
        "/spin/{millis}",
        "/lock",
        "/middleware/{millis}",
    ] {
        let series = format!("http_loop_stalls_total{{endpoint=\"{endpoint}\"}} 2\n");
        assert!(metrics.contains(&series), "{endpoint}: {metrics}");
        let series = format!(
            "http_request_loop_seconds_count{{method=\"GET\",endpoint=\"{endpoint}\"}} 2\n"
        );
        assert!(metrics.contains(&series), "{endpoint}: {metrics}");
    }
}

fn work_on_other_threads_is_named(blockable: &Blockable) {
    let service = blockable.service;
    let clients: Vec<_> = ["/block/700", "/query", "/query"]
        .map(|path| thread::spawn(move || get(service, path, "")))
        .into();
    let is_doing = |requests: &[Value], endpoint: &str, doing: &str| {
        let mut requests = requests.iter();
        requests.any(|request| request["endpoint"] == endpoint && request["doing"] == doing)
    };
    let requests = blockable.wait_for(|requests| {
        is_doing(requests, "/query", "query") && is_doing(requests, "/query", "pool_wait")
    });
    let query = requests.iter().find(|request| request["doing"] == "query");
    let statement = query.unwrap()["statement"].as_str().expect("a statement");
    assert!(statement.contains("FROM numbers"), "{statement}");
    assert!(!statement.contains(SECRET), "{statement}");
    assert!(query.unwrap()["is_stall"] == false, "{requests:?}");
    let pool = blockable.pool();
    let (holder, waiter) = (&pool["connections"][0], &pool["waiters"][0]);
    let is_known = holder["endpoint"] == "/query"
        && holder["method"] == "GET"
        && holder["doing"] == "query"
        && waiter["endpoint"] == "/query";
    assert!(is_known, "{pool}");
    assert_eq!((&pool["size"], &pool["waiting"]), (&1.into(), &1.into()));
    assert_eq!(holder["statement"], statement);
    let taken_at = holder["taken_at"].as_str().expect("a location");
    assert!(
        taken_at.starts_with("tests/stalls/blockable.rs:"),
        "{taken_at}"
    );
    for client in clients {
        assert!(client.join().unwrap().starts_with("HTTP/1.1 200"));
    }
    IS_NOTICED.store(false, Relaxed);
    let client = thread::spawn(move || get(service, "/block/60000", ""));
    blockable.wait_for(|requests| is_doing(requests, "/block/{millis}", "blocking_thread"));
    IS_NOTICED.store(true, Relaxed);
    assert!(client.join().unwrap().starts_with("HTTP/1.1 200"));
    blockable.wait_for(<[_]>::is_empty);
}

fn all_workers_blocked(blockable: &Blockable) {
    let held = blockable.lock.lock().unwrap();
    // Further requests than there are workers: Actix hands them out in turn.
    let clients: Vec<_> = (0..WORKERS * 2)
        .map(|_| {
            let service = blockable.service;
            let path = format!("/lock?token={SECRET}");
            let headers = format!("authorization: {SECRET}\r\ncookie: a={SECRET}\r\n");
            thread::spawn(move || get(service, &path, &headers))
        })
        .collect();
    let stalls = |requests: &[Value]| {
        let stalls = requests
            .iter()
            .filter(|request| request["is_stall"] == true);
        stalls.count()
    };
    let requests = blockable.wait_for(|requests| stalls(requests) == WORKERS);
    for stall in requests.iter().filter(|stall| stall["is_stall"] == true) {
        assert_eq!(stall["endpoint"], "/lock");
    }
    for path in ["/ops/requests", "/livez", "/metrics"] {
        let answer = blockable.ask(path);
        assert!(!answer.contains(SECRET), "{path}: {answer}");
    }
    assert_eq!(stalls(&blockable.wait_for(|_| true)), WORKERS);
    drop(held);
    for client in clients {
        assert!(client.join().unwrap().starts_with("HTTP/1.1 200"));
    }
}

fn all_workers_blocked_by_the_pool(blockable: &Blockable) {
    let held = blockable.lock.lock().unwrap();
    let clients: Vec<_> = (0..WORKERS * 2)
        .map(|_| {
            let service = blockable.service;
            let path = format!("/hold/{SECRET}?token={SECRET}");
            thread::spawn(move || get(service, &path, ""))
        })
        .collect();
    blockable.wait_for(|requests| {
        let stalls = requests
            .iter()
            .filter(|request| request["is_stall"] == true);
        stalls.count() == WORKERS
    });
    // The first worker has the only connection and waits for the lock, the second one waits for the connection.
    let pool = blockable.pool();
    let (holder, waiter) = (&pool["connections"][0], &pool["waiters"][0]);
    assert_eq!(holder["endpoint"], "/hold/{secret}", "{pool}");
    assert_eq!(holder["doing"], "held_without_a_query", "{pool}");
    assert_eq!(waiter["endpoint"], "/hold/{secret}", "{pool}");
    let summary = pool["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("1 of 1 connections: 1 x GET /hold/{secret} (oldest "),
        "{summary}"
    );
    for path in ["/ops/pool", "/ops/requests", "/livez", "/metrics"] {
        // The fastest of some answers: the machine may be busy with other things.
        let times = (0..5).map(|_| {
            let asked = Instant::now();
            let answer = blockable.ask(path);
            assert!(!answer.contains(SECRET), "{path}: {answer}");
            asked.elapsed()
        });
        let fastest = times.min().unwrap();
        assert!(fastest < Duration::from_millis(100), "{path}: {fastest:?}");
    }
    drop(held);
    for client in clients {
        assert!(client.join().unwrap().starts_with("HTTP/1.1 200"));
    }
}

/// A variable of the test, or its default.
fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn time(name: &str, default: &str) -> Duration {
    humantime::parse_duration(&variable(name, default)).expect("a duration")
}

/// The ways to keep an event loop busy, by their endpoint.
const STALLS: [(&str, &str); 5] = [
    ("/sleep", "/sleep/{millis}"),
    ("/spin", "/spin/{millis}"),
    ("/contended", "/contended/{millis}"),
    ("/body", "/body/{millis}"),
    ("/middleware", "/middleware/{millis}"),
];

/// A stall that is injected.
struct InjectedStall {
    path: String,
    endpoint: &'static str,
    time: Duration,
    trace: String,
}

/// The trace of the first injected stall. The other test counts from 1.
const FIRST_TRACE: usize = 1_000_000;

/// The seed of an ordinary run.
const SEED: u32 = 0x5eed;

/// The workers of a service whose stalls overlap, and the clients that cause them.
const BLOCKED_AT_ONCE: usize = 8;

#[test]
fn injected_stalls_are_named_rightly_and_no_other_request_is() {
    let _turn = TURN.lock();
    let number: usize = variable("VITALS_STALLS", "100").parse().expect("a number");
    let is_soak = std::env::var_os("VITALS_NAMED_FROM").is_some();
    let shortest = time("VITALS_NAMED_FROM", "750ms");
    let least = u64::try_from(shortest.as_millis()).expect("a time that is not long");
    let seed = if is_soak { rand::random() } else { SEED };
    let seed = variable("VITALS_STALLS_SEED", &seed.to_string());
    println!("VITALS_STALLS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed.parse().expect("a number"));
    let stalls: Vec<_> = (1..=number)
        .map(|number| {
            let (path, endpoint) = STALLS[random.random_range(0..STALLS.len())];
            // A computation needs a processor, of which there are few.
            let most = if path == "/spin" { 900 } else { 2000 };
            let millis = random.random_range(least..=least.max(most));
            InjectedStall {
                path: format!("{path}/{millis}"),
                endpoint,
                time: Duration::from_millis(millis),
                trace: format!("{:032x}", FIRST_TRACE + number),
            }
        })
        .collect();
    let threshold = shortest / 5;
    let vitals = Vitals::builder().stall_threshold(threshold);
    let blockable = Blockable::start_with(vitals, BLOCKED_AT_ONCE);
    IS_NOTICED.store(false, Relaxed);
    let is_over = AtomicBool::new(false);
    let watched = thread::scope(|scope| {
        let watch = scope.spawn(|| watch_stalls(&blockable, &is_over));
        let bystander = scope.spawn(|| {
            let mut answers = 0;
            while !is_over.load(Relaxed) {
                assert!(get(blockable.service, "/fast/7", "").starts_with("HTTP/1.1 200"));
                answers += 1;
            }
            answers
        });
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..BLOCKED_AT_ONCE {
                scope.spawn(|| {
                    while let Some(stall) = stalls.get(next.fetch_add(1, Relaxed)) {
                        let headers =
                            format!("traceparent: 00-{}-00f067aa0ba902b7-00\r\n", stall.trace);
                        let answer = get(blockable.service, &stall.path, &headers);
                        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    }
                });
            }
        });
        is_over.store(true, Relaxed);
        assert!(bystander.join().expect("no panic") > 0);
        watch.join().expect("no panic")
    });
    let WatchedStalls {
        named,
        longest_pause,
    } = watched;
    // A stall that is longer than the pauses between the answers was seen in one of them. On a busy machine these are long.
    let named_from = if is_soak {
        shortest
    } else {
        shortest.max(threshold * 2 + longest_pause)
    };
    let mut missed = Vec::new();
    // The fewest and the most stalls that each endpoint may count.
    let mut expected = BTreeMap::new();
    for stall in &stalls {
        let (fewest, most) = expected.entry(stall.endpoint).or_insert((0, 0));
        *most += 1;
        *fewest += usize::from(stall.time >= named_from);
        match named.get(&stall.trace) {
            Some(endpoint) => assert_eq!(endpoint, stall.endpoint, "{}", stall.path),
            None => missed.push((stall.path.as_str(), stall.time)),
        }
    }
    println!(
        "{} of {number} named while they lasted, at most {longest_pause:?} between two answers",
        number - missed.len()
    );
    missed.retain(|(_, time)| *time >= named_from);
    assert!(missed.is_empty(), "not named: {missed:?}");
    let is_injected = |trace: &String| stalls.iter().any(|stall| stall.trace == *trace);
    assert!(named.keys().all(is_injected), "{named:?}");
    let metrics = blockable.ask("/metrics");
    for (endpoint, (fewest, most)) in expected {
        let counted = counted_stalls(&metrics, endpoint).unwrap_or_default();
        println!("{endpoint}: {counted} of {most} stalls counted");
        assert!((fewest..=most).contains(&counted), "{endpoint}: {counted}");
    }
    assert_eq!(counted_stalls(&metrics, "/fast/{id}"), None);
}

/// The stalls of an endpoint, if there are any.
fn counted_stalls(metrics: &str, endpoint: &str) -> Option<usize> {
    let series = format!("http_loop_stalls_total{{endpoint=\"{endpoint}\"}} ");
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&series))?;
    line.parse().ok()
}

/// What a client of the ops endpoint saw.
struct WatchedStalls {
    /// The endpoint of each stall that was listed while it lasted, by its trace.
    named: HashMap<String, String>,
    /// The longest time from a question to the next answer: within any longer time, the requests were listed.
    longest_pause: Duration,
}

/// Asks until it is over.
fn watch_stalls(blockable: &Blockable, is_over: &AtomicBool) -> WatchedStalls {
    let mut named = HashMap::new();
    let mut longest_pause = Duration::ZERO;
    let mut last_asked = Instant::now();
    while !is_over.load(Relaxed) {
        let asked = Instant::now();
        let listing = blockable.requests();
        longest_pause = longest_pause.max(last_asked.elapsed());
        last_asked = asked;
        let requests = listing["requests"].as_array().expect("a list");
        for stall in requests
            .iter()
            .filter(|request| request["is_stall"] == true)
        {
            let trace = stall["trace_id"].as_str().unwrap_or("none");
            let endpoint = stall["endpoint"].as_str().unwrap_or("none");
            named.insert(trace.to_owned(), endpoint.to_owned());
        }
        thread::sleep(Duration::from_millis(5));
    }
    WatchedStalls {
        named,
        longest_pause,
    }
}

/// Clients that ask without a pause.
const CLIENTS: usize = 16;

#[test]
fn a_service_under_full_load_has_no_stalls() {
    let _turn = TURN.lock();
    let time = time("VITALS_FULL_LOAD_TIME", "5s");
    let blockable = Blockable::start_with(Vitals::builder(), WORKERS);
    IS_NOTICED.store(false, Relaxed);
    let is_over = AtomicBool::new(false);
    let (named, answers) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch_stalls(&blockable, &is_over));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (service, is_over) = (blockable.service, &is_over);
                scope.spawn(move || ask_until(service, number, is_over))
            })
            .collect();
        thread::sleep(time);
        is_over.store(true, Relaxed);
        let answers = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"));
        let answers: usize = answers.sum();
        (watch.join().expect("no panic").named, answers)
    });
    let metrics = blockable.ask("/metrics");
    let counted: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("http_loop_stalls_total{"))
        .collect();
    println!("{answers} answers in {time:?}, stalls: {counted:?}, named: {named:?}");
    assert!(answers > CLIENTS, "{answers} answers");
    if std::env::var_os("VITALS_FULL_LOAD_TIME").is_some() {
        assert!(counted.is_empty() && named.is_empty());
    }
    // Its handler needs no other thread.
    assert_eq!(counted_stalls(&metrics, "/fast/{id}"), None);
}

/// Asks on one connection until it is over, and returns the number of answers.
fn ask_until(service: SocketAddr, number: usize, is_over: &AtomicBool) -> usize {
    let paths = ["/fast/1", "/rows/2", "/fast/3", "/block/1"];
    let mut connection = TcpStream::connect(service).unwrap();
    connection.set_read_timeout(Some(BOUND)).unwrap();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut answers = 0;
    while !is_over.load(Relaxed) {
        let path = paths[(number + answers) % paths.len()];
        write!(connection, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                reader.read_line(&mut line).unwrap() > 0,
                "the connection ended"
            );
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        answers += 1;
    }
    answers
}

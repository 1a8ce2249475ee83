//! Mutated requests: truncated, enlarged, contradictory, or with odd bytes in them.
//!
//! No answer is a 5xx or reveals internals, and the server continues. `VITALS_MUTANTS` sets their number (5,000 by default),
//! `VITALS_MUTANTS_SEED` the seed, which is printed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::limits::guarded::{Guarded, Raw};

/// Connections at a time.
const CLIENTS: u64 = 64;

/// The requests that are mutated.
const SOUND: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /data?skip=0&limit=10 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "GET /data/1 HTTP/1.1\r\nHost: x\r\nUser-Agent: mutant\r\nConnection: keep-alive\r\n\r\n",
    "HEAD /data/1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "DELETE /data/999999 HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS /data HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /openapi.json HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, zstd;q=0\r\n\r\n",
    "POST /data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n{\"name\":\"Ada\",\"email\":\"ada@ada.org\"}\n",
    "POST /data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"name\":\"Ada\",\"e\r\n14\r\nmail\":\"ada@ada.org\"}\r\n0\r\n\r\n",
    "PUT /data/1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 36\r\n\r\n{\"name\":\"Ada\",\"email\":\"ada@ada.org\"}\n",
    "GET /data HTTP/1.1\r\nHost: x\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
    "GET /data HTTP/1.0\r\n\r\n",
    "GET /data HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

/// Bytes that are inserted anywhere.
const ODD: &[&[u8]] = &[
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"%",
    b"%00",
    b"%2e%2e%2f",
    b"../",
    b"\xff\xfe",
    b"\x80",
    b"\x7f",
    b"'",
    b"\"",
    b"';--",
    b"{",
    b"[[[[[[[[",
    b"}",
    b",",
    b"-1",
    b"0x10",
    b"99999999999999999999",
    b"\xf0\x9f\x92\xa5",
    b"HTTP/1.1",
    b"GET ",
    b"?a=b&a[]=%zz",
    b"#",
    b"*",
    b"http://x@y:0/",
];

/// Invalid headers, and headers that contradict others.
const CONFLICTING: &[&str] = &[
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 6\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Content-Length : 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Host: y\r\n",
    "Host:\r\n",
    "Connection: close\r\n",
    "Connection: close, keep-alive, upgrade\r\n",
    "Expect: 100-continue\r\n",
    "Expect: 200-ok\r\n",
    "Upgrade: websocket\r\n",
    "Content-Type: application/json; charset=utf-16\r\n",
    "Content-Encoding: gzip\r\n",
    " folded: line\r\n",
    "no colon\r\n",
    ": no name\r\n",
    "Accept: ;;;,,,q=\r\n",
    "traceparent: 00-00000000000000000000000000000000-0000000000000000-ff\r\n",
];

/// Invalid chunk sizes.
const BAD_CHUNKS: &[&str] = &[
    "\r\n\r\n",
    "g\r\n",
    "-5\r\n",
    "FFFFFFFFFFFFFFFF\r\n",
    "FFFFFFFFFFFFFFFFF\r\n",
    "5;ext=\"\r\nhello\r\n",
    "5\nhello\n",
    "5\r\nhello!\r\n",
    "0\r\nTrailer: x\r\n\r\n",
    "00000000000000000000005\r\n",
];

/// Words of the source, the disk, the statements and panics, which no answer may contain.
const SECRETS: &[&str] = &[
    ".rs:",
    "src/",
    "/tmp/",
    "/root",
    "/home",
    "panicked at",
    "backtrace",
    "vitals.db",
    "SELECT ",
    "INSERT ",
    "items`",
    "sqlite",
    "0x7f",
];

/// Returns a mutated request.
fn mutant(random: &mut StdRng) -> Vec<u8> {
    let mut request = SOUND.choose(random).unwrap().as_bytes().to_vec();
    for _ in 0..random.random_range(1..=2) {
        let at = random.random_range(0..=request.len());
        match random.random_range(0..10) {
            0 => request.truncate(at),
            1 | 2 => insert(&mut request, at, ODD.choose(random).unwrap()),
            3 => insert_header(&mut request, CONFLICTING.choose(random).unwrap()),
            4 => insert_header(&mut request, &CONFLICTING.choose(random).unwrap().repeat(2)),
            5 => insert(
                &mut request,
                at,
                BAD_CHUNKS.choose(random).unwrap().as_bytes(),
            ),
            6 if at < request.len() => request[at] = random.random(),
            7 if at < request.len() => {
                request.remove(at);
            }
            8 => {
                let size = *[100, 9_000, 70_000, 200_000].choose(random).unwrap();
                insert(
                    &mut request,
                    at,
                    &vec![random.random_range(b' '..=b'z'); size],
                );
            }
            _ => {
                let again = request.clone();
                insert(&mut request, at, &again);
            }
        }
    }
    request
}

fn insert(request: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    request.splice(at..at, bytes.iter().copied());
}

/// Inserts a header after the first line.
fn insert_header(request: &mut Vec<u8>, header: &str) {
    let line = request.windows(2).position(|pair| pair == b"\r\n");
    insert(request, line.map_or(0, |at| at + 2), header.as_bytes());
}

/// Returns what is wrong with the answers.
fn fault_of(answers: &str) -> Option<String> {
    for (at, _) in answers.match_indices("HTTP/1.1 5") {
        if !answers[at..].starts_with("HTTP/1.1 503 ") {
            return Some("a 5xx".to_owned());
        }
    }
    let secret = SECRETS.iter().find(|secret| answers.contains(**secret))?;
    Some(format!("the answer contains {secret:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutated_request_gets_a_5xx_or_stops_the_server() {
    let setting = |name, default| {
        let value = std::env::var(name).ok();
        value.map_or(default, |value| value.parse().expect("a number"))
    };
    let count: u64 = setting("VITALS_MUTANTS", 5_000);
    let seed: u64 = setting("VITALS_MUTANTS_SEED", rand::random());
    println!("{count} mutants, VITALS_MUTANTS_SEED={seed}");
    // Half of the connections end by a deadline.
    let guarded = Guarded::start(&[
        "--head-timeout=100ms",
        "--body-timeout=100ms",
        "--idle-timeout=100ms",
        "--response-timeout=1s",
    ]);
    guarded.server.create("Ada").await;

    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let next = Arc::clone(&next);
        let authority = guarded.server.authority().to_owned();
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                // The seed and the number determine a mutant, whichever client sends it.
                let request = mutant(&mut StdRng::seed_from_u64(seed ^ (number << 20)));
                let answers = Raw::to(&authority).await.exchange(&request).await;
                if let Some(fault) = fault_of(&answers) {
                    panic!(
                        "{fault}: mutant {number} of seed {seed}, {request:?}, was answered {answers}"
                    );
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client finds a fault");
    }

    guarded.wait_for_quiet().await;
    println!("{:?}", guarded.outcomes().await);
    let scrape = guarded.scrape().await;
    assert_eq!(scrape.sum("http_request_panics_total", &[]), 0.0);
    assert_eq!(scrape.value("inprogress_requests", &[]), 0.0);
    let ended: u64 = guarded
        .outcomes()
        .await
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert!(ended >= count, "{ended} of {count} connections are counted");
    let log = guarded.server.stderr();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(guarded.server.get("/data").await.status, 200);
    guarded.server.create("Grace").await;
}

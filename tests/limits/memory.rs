//! Clients that request much and read nothing, or send much and never finish.
//!
//! Their bodies stay within one memory budget, other clients are served meanwhile, and afterwards the memory is free. The
//! tests check counts and bytes, never times. The budgets are smaller than the default, so that few clients use them up.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::future::join_all;
use h2::client::Builder;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::limits::guarded::Guarded;
use crate::support::wait::until;

/// The longest wait until memory is returned: the allocator keeps it for ten seconds, and idle threads end after ten.
const RETURN_BOUND: Duration = Duration::from_secs(60);

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Messages of 65,000 characters: sixteen make a page.
const LONG_ITEMS: &str = "INSERT INTO items (name, email, message, created_at) \
    WITH RECURSIVE numbers(number) AS (VALUES (1) UNION ALL SELECT number + 1 FROM numbers WHERE number < 1000) \
    SELECT 'long', 'a@example.com', printf('%.65000c', 'x'), printf('2026-01-01 12:00:00.%06d', number) FROM numbers";

/// A server with a thousand long items. Every connection to its database has read them.
async fn with_long_items(memory: &str) -> Guarded {
    // No request is rejected because the pool is exhausted.
    let guarded = Guarded::start(&["--answer-memory", memory, "--pool-timeout=60s"]);
    guarded.server.data().execute(LONG_ITEMS);
    for _ in 0..2 {
        join_all((0..10).map(|_| guarded.server.get("/data?limit=1000"))).await;
    }
    guarded
}

/// The resident memory of the server, in MiB.
fn resident(guarded: &Guarded) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", guarded.server.pid()));
    let status = status.expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.expect("a size").parse::<f64>().expect("a number") / 1024.0
}

/// Waits until the server is idle, and its memory is as before.
async fn wait_for_rest(guarded: &Guarded, before: f64) {
    guarded.wait_for_quiet().await;
    guarded.wait_for_settled().await;
    until("the memory to be free", RETURN_BOUND, || async {
        let held = guarded
            .scrape()
            .await
            .value("http_answer_memory_bytes", &[]);
        let resident = resident(guarded);
        if held == 0.0 && resident <= before * 1.2 {
            Ok(())
        } else {
            Err(format!(
                "{held} bytes held, {resident} MiB resident, {before} before"
            ))
        }
    })
    .await;
}

/// Sends a request over HTTP/1 from this loopback address, and reads only the status of the answer.
pub(crate) async fn ask(authority: &str, from: u8, path: &str) -> (u16, TcpStream) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0));
    socket
        .bind(own)
        .expect("an address of the loopback network");
    let stream = socket.connect(authority.parse().expect("an address"));
    let mut stream = stream.await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.expect("an answer");
    let status = std::str::from_utf8(&status[9..]).expect("a status");
    (status.parse().expect("a number"), stream)
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

/// The counted requests for lists with this status.
async fn lists(guarded: &Guarded, status: &str) -> f64 {
    let labels = [
        ("method", "GET"),
        ("endpoint", "/data"),
        ("http_status", status),
    ];
    let counted = guarded.scrape().await;
    let series = counted.series("http_requests_total");
    let matches = series.iter().filter(|(found, _)| {
        let is = |(name, value): &(&str, &str)| found.get(*name).is_some_and(|it| it == value);
        labels.iter().all(is)
    });
    matches.map(|(_, count)| count).sum()
}

#[tokio::test]
async fn clients_that_do_not_read_their_lists_share_a_budget_and_leave_the_rest() {
    let guarded = with_long_items("64MiB").await;
    let authority = guarded.server.authority();
    let (before, listed) = (resident(&guarded), lists(&guarded, "200").await);

    let asked = join_all((0..60).map(|_| ask(authority, 1, "/data?limit=1000"))).await;
    let (statuses, streams): (Vec<u16>, Vec<TcpStream>) = asked.into_iter().unzip();
    // 16 items of 65,100 bytes are a page, and 32 pages are half of the budget.
    assert_eq!((count(&statuses, 200), count(&statuses, 503)), (32, 28));
    let held = guarded
        .scrape()
        .await
        .value("http_answer_memory_bytes", &[]);
    assert!((31.0..=32.0).contains(&(held / MEBIBYTE)), "{held}");
    let grown = resident(&guarded) - before;
    assert!(grown < 64.0, "{grown} MiB");

    let rejected = guarded.server.get("/data?limit=1000").await;
    assert_eq!(rejected.status, 503);
    assert_eq!(rejected.header("retry-after"), "1");
    assert_eq!(rejected.header("content-type"), "application/problem+json");
    let (small, _) = ask(authority, 1, "/data?limit=1&skip=1000").await;
    assert_eq!(small, 200, "small answers are not counted");
    let (other, _) = ask(authority, 2, "/data?limit=1000").await;
    assert_eq!(other, 200, "another client has its share");
    let (alive, _) = ask(guarded.ops_authority(), 1, "/livez").await;
    assert_eq!(alive, 200);

    drop(streams);
    wait_for_rest(&guarded, before).await;
    assert_eq!(lists(&guarded, "200").await - listed, 34.0);
    assert_eq!(lists(&guarded, "503").await, 29.0);
    let counted = guarded.scrape().await;
    assert_eq!(counted.value("http_answer_memory_refused_total", &[]), 29.0);
}

#[tokio::test]
async fn streams_without_a_window_share_the_same_budget() {
    let guarded = with_long_items("64MiB").await;
    let authority = guarded.server.authority();
    let before = resident(&guarded);
    let stream = TcpStream::connect(authority).await.expect("a connection");
    let handshake = Builder::new()
        .initial_window_size(0)
        .handshake::<_, Bytes>(stream);
    let (requests, connection) = handshake.await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let asked = join_all((0..52).map(|_| async {
        let url = format!("http://{authority}/data?limit=1000");
        let request = Request::get(url).body(()).expect("a request");
        let mut requests = requests.clone().ready().await.expect("a free stream");
        let (answer, _) = requests.send_request(request, true).expect("it is sent");
        answer.await.expect("a head")
    }))
    .await;
    let statuses: Vec<u16> = asked
        .iter()
        .map(|answer| answer.status().as_u16())
        .collect();
    assert_eq!((count(&statuses, 200), count(&statuses, 503)), (32, 20));
    let grown = resident(&guarded) - before;
    assert!(grown < 64.0, "{grown} MiB");

    drop((asked, requests));
    connection.abort();
    wait_for_rest(&guarded, before).await;
}

#[tokio::test]
async fn unfinished_bodies_share_the_same_budget() {
    const CONNECTIONS: usize = 5;
    const STREAMS: usize = 200;
    const BODY: usize = 60_000;

    let guarded = Guarded::start(&["--answer-memory=32MiB"]);
    let authority = guarded.server.authority();
    let before = {
        // Memory that serving always needs.
        let _served = join_all((0..10).map(|_| guarded.server.get("/data"))).await;
        resident(&guarded)
    };
    let mut connections = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(authority).await.expect("a connection");
        let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        connections.push(tokio::spawn(connection));
        for _ in 0..STREAMS {
            let post = Request::post(format!("http://{authority}/data"))
                .header("content-type", "application/json")
                .body(())
                .expect("a request");
            requests = requests.ready().await.expect("a free stream");
            let (answer, mut body) = requests.send_request(post, false).expect("it is sent");
            // Rejected requests are answered while they send.
            let _rejected = body.send_data(Bytes::from(vec![b' '; BODY]), false);
            waiting.push(tokio::spawn(async move {
                let status = answer.await.expect("an answer").status();
                drop(body);
                status
            }));
        }
    }
    // Half of the budget holds this many.
    let most_held = 16 * 1024 * 1024 / BODY;
    let rejected = || waiting.iter().filter(|answer| answer.is_finished()).count();
    until("the others to be rejected", RETURN_BOUND, || async {
        match rejected() {
            enough if enough >= CONNECTIONS * STREAMS - most_held => Ok(()),
            few => Err(format!("{few}")),
        }
    })
    .await;
    let held = guarded
        .scrape()
        .await
        .value("http_answer_memory_bytes", &[]);
    assert!(held <= 16.0 * MEBIBYTE, "{held}");
    assert!(held >= 14.0 * MEBIBYTE, "{held}");
    let grown = resident(&guarded) - before;
    assert!(grown < 64.0, "{grown} MiB");
    let (alive, _) = ask(authority, 2, "/").await;
    assert_eq!(alive, 200);

    for answer in waiting {
        if answer.is_finished() {
            let status = answer.await.expect("no panic");
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        } else {
            answer.abort();
        }
    }
    for connection in connections {
        connection.abort();
    }
    wait_for_rest(&guarded, before).await;
}

#[tokio::test]
async fn an_asset_is_decompressed_once_for_all_clients() {
    let guarded = Guarded::start(&[]);
    let authority = guarded.ops_authority();
    let path = "/docs/swagger-ui-bundle.js";
    let _first = ask(authority, 1, path).await;
    let before = resident(&guarded);
    let asked = join_all((0..200).map(|_| ask(authority, 1, path))).await;
    assert!(asked.iter().all(|(status, _)| *status == 200));
    // Decompressed for each client, it would be 280 MiB. The buffers of a connection are tens of KiB.
    let grown = resident(&guarded) - before;
    assert!(grown < 60.0, "{grown} MiB");
    drop(asked);
    wait_for_rest(&guarded, before).await;
}

#[tokio::test]
async fn unread_expositions_and_histories_stay_within_the_budget_and_are_freed() {
    let guarded = Guarded::start(&["--answer-memory=32MiB"]);
    let authority = guarded.ops_authority();
    for path in [
        "/metrics",
        "/dashboard/history",
        "/ops/statements?limit=1000",
    ] {
        let _warm = join_all((0..4).map(|_| ask(authority, 1, path))).await;
        let before = resident(&guarded);
        let asked = join_all((0..150).map(|_| ask(authority, 1, path))).await;
        let (statuses, streams): (Vec<u16>, Vec<TcpStream>) = asked.into_iter().unzip();
        assert_eq!(count(&statuses, 200) + count(&statuses, 503), 150, "{path}");
        assert!(count(&statuses, 200) >= 32, "{path}: {statuses:?}");
        let held = guarded
            .scrape()
            .await
            .value("http_answer_memory_bytes", &[]);
        assert!(held <= 32.0 * MEBIBYTE, "{path}: {held}");
        let grown = resident(&guarded) - before;
        assert!(grown < 48.0, "{path}: {grown} MiB");
        drop(streams);
        wait_for_rest(&guarded, before).await;
    }
}

#[tokio::test]
async fn the_history_is_compressed_for_clients_that_accept_it() {
    let guarded = Guarded::start(&[]);
    let client = reqwest::Client::builder().no_proxy().build();
    let client = client.expect("an HTTP client");
    let url = format!(
        "http://{}/dashboard/history?since=0",
        guarded.ops_authority()
    );
    for (accepted, encoding) in [("gzip", Some("gzip")), ("zstd", Some("zstd")), ("br", None)] {
        let request = client.get(&url).header("accept-encoding", accepted);
        let answer = request.send().await.expect("an answer");
        let encoded = answer.headers().get("content-encoding");
        let encoded = encoded.map(|name| name.to_str().expect("a name").to_owned());
        assert_eq!(encoded.as_deref(), encoding);
        assert_eq!(answer.headers()["vary"], "Accept-Encoding");
        let body = answer.bytes().await.expect("a body");
        let text = match encoding {
            Some("gzip") => {
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&*body)
                    .read_to_end(&mut text)
                    .expect("gzip");
                text
            }
            Some(_) => zstd::decode_all(&*body).expect("zstd"),
            None => body.to_vec(),
        };
        let history: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert!(history["instance"]["id"].is_string(), "{history}");
    }
}

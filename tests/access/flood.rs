//! Many wrong passwords at once: each is rejected, other clients are served meanwhile, and guesses end with their
//! connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::select_all;
use reqwest::{Client, ClientBuilder};
use tokio::task::JoinSet;

use crate::access::ops_server::{AccessFiles, HASH, OpsServer, client};
use crate::support::server::Answer;
use crate::support::wait::until;

/// Connections, and requests in flight on each of them.
const CONNECTIONS: usize = 20;
const STREAMS: usize = 50;

/// More guesses than one address may have in the queue.
const GUESSES: usize = 100;

/// A cost at which one hash takes longer than many answers without a hash.
const COST: u32 = 13;

/// A cost at which one hash takes longer than a busy machine may keep a test from counting the answers.
const COUNTED_COST: u32 = 14;

const BOUND: Duration = Duration::from_secs(60);

/// A web configuration with the user `alice`, whose password is `secret`, at this cost.
fn alice_at(cost: u32) -> String {
    let hash = bcrypt::hash("secret", cost).unwrap();
    format!("basic_auth_users:\n  alice: {hash}\n")
}

/// A client with this loopback address.
fn client_at(address: [u8; 4], client: ClientBuilder) -> Client {
    let address: IpAddr = address.into();
    client.local_address(address).build().unwrap()
}

async fn guess(client: Client, url: String, number: usize) -> u16 {
    let name = if number.is_multiple_of(2) {
        "alice"
    } else {
        "nobody"
    };
    let request = client
        .get(url)
        .basic_auth(name, Some(format!("guess {number}")));
    let answer = Answer::of(request).await;
    if answer.status == 503 {
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    answer.status
}

/// Repeats the guess while the queue is full.
async fn guess_until_hashed(client: Client, url: String, number: usize) -> u16 {
    loop {
        match guess(client.clone(), url.clone(), number).await {
            503 => tokio::time::sleep(Duration::from_millis(100)).await,
            status => return status,
        }
    }
}

/// Sends many guesses at once, and waits until the queue is full for their address. Dropping the set cancels the guesses.
async fn flood(ops: &OpsServer, client: &Client) -> JoinSet<()> {
    let rejected = Arc::new(AtomicUsize::new(0));
    let mut guesses = JoinSet::new();
    for number in 0..GUESSES {
        let (client, url) = (client.clone(), format!("{}/metrics", ops.url));
        let rejected = Arc::clone(&rejected);
        guesses.spawn(async move {
            while guess(client.clone(), url.clone(), number).await == 503 {
                rejected.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    until("a full queue", BOUND, async || {
        match rejected.load(Ordering::SeqCst) {
            0 => Err("no guess was rejected"),
            _ => Ok(()),
        }
    })
    .await;
    guesses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_wrong_passwords_at_once_are_rejected_and_delay_no_one_else() {
    // A guess takes some milliseconds. Hashed on the ops listener's only event loop, they would block it for seconds.
    let ops = OpsServer::start_in(AccessFiles::new(), &alice_at(5), &["--open-livez"]);
    assert_eq!(ops.status_for("alice", "secret").await, 200);

    let answered = Arc::new(AtomicUsize::new(0));
    let mut guesses = Vec::new();
    for connection in 0..CONNECTIONS {
        let client = client().http2_prior_knowledge().build().unwrap();
        for stream in 0..STREAMS {
            let guess = guess_until_hashed(
                client.clone(),
                format!("{}/metrics", ops.url),
                connection * STREAMS + stream,
            );
            let answered = Arc::clone(&answered);
            guesses.push(tokio::spawn(async move {
                assert_eq!(guess.await, 401);
                answered.fetch_add(1, Ordering::SeqCst);
            }));
        }
    }
    // Verified credentials, and requests that need none, do not wait behind the guesses.
    let mut served = 0;
    while answered.load(Ordering::SeqCst) < CONNECTIONS * STREAMS && served < 1000 {
        assert_eq!(ops.status("/livez").await, 200);
        assert_eq!(ops.status_for("alice", "secret").await, 200);
        if answered.load(Ordering::SeqCst) < CONNECTIONS * STREAMS {
            served += 1;
        }
    }
    for guess in guesses {
        guess.await.unwrap();
    }
    assert_eq!(answered.load(Ordering::SeqCst), CONNECTIONS * STREAMS);
    assert!(served >= 20, "only {served} requests were served meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_login_does_not_wait_behind_the_guesses_of_another_address() {
    let ops = OpsServer::start(&alice_at(COUNTED_COST));
    let attacker = client_at([127, 0, 0, 2], client().http2_prior_knowledge());
    let operator = client_at([127, 0, 0, 3], client());
    let login = operator.get(format!("{}/metrics", ops.url));
    let login = login.basic_auth("alice", Some("secret"));
    let mut guesses = flood(&ops, &attacker).await;
    // Those that were hashed before the login do not count.
    while guesses.try_join_next().is_some() {}
    assert_eq!(Answer::of(login).await.status, 200);
    // The queue was full of guesses before it, and they still wait.
    let answered = std::iter::from_fn(|| guesses.try_join_next()).count();
    assert!(answered < 10, "{answered} guesses were hashed first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guess_whose_client_has_left_is_not_hashed() {
    let ops = OpsServer::start(&alice_at(COUNTED_COST));
    for (version, keeps_connection) in [(2, true), (2, false), (1, false)] {
        let attacker = match version {
            1 => client().http1_only(),
            _ => client().http2_prior_knowledge(),
        };
        let attacker = client_at([127, 0, 0, 2], attacker);
        let neighbour = client_at([127, 0, 0, 3], client());
        let late = client_at([127, 0, 0, 2], client());
        let guesses = flood(&ops, &attacker).await;
        let kept = keeps_connection.then_some(attacker);
        drop(guesses);
        // The addresses take turns. So a late guess is hashed long before these, unless cancelled guesses are ahead of it.
        let url = format!("{}/metrics", ops.url);
        let mut others = JoinSet::new();
        for number in 0..10 {
            others.spawn(guess(neighbour.clone(), url.clone(), number));
        }
        assert_eq!(guess_until_hashed(late, url, 0).await, 401);
        let answered = std::iter::from_fn(|| others.try_join_next()).count();
        assert!(
            answered < 8,
            "HTTP/{version}: {answered} others were hashed first"
        );
        drop(kept);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_verified_users_and_forgets_those_with_a_new_hash() {
    let alice = alice_at(COST);
    let ops = OpsServer::start(&alice);
    assert_eq!(ops.status_for("alice", "secret").await, 200);
    let attacker = client_at([127, 0, 0, 1], client().http2_prior_knowledge());
    let _guesses = flood(&ops, &attacker).await;

    let reload = async |web_config: &str, times: usize| {
        ops.files.write("web.yml", web_config);
        until("the reload", BOUND, async || {
            let log = ops.server.stderr();
            match log.matches("the access files were reloaded").count() {
                count if count >= times => Ok(()),
                _ => Err(log),
            }
        })
        .await;
    };
    reload(&format!("{alice}  bob: {HASH}\n"), 1).await;
    for _ in 0..5 {
        assert_eq!(ops.status_for("alice", "secret").await, 200);
    }
    reload(&alice_at(COST), 2).await;
    // The password is the same, but the hash is new. So it must be hashed again, and the queue is full: one of these may take
    // the position of a guess that was just hashed, and would be answered much later.
    let logins = (0..3).map(|_| Box::pin(ops.status_for("alice", "secret")));
    let (first, ..) = select_all(logins).await;
    assert_eq!(first, 503);
}

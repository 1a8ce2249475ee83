//! Many wrong passwords at once: each is refused, meanwhile everybody else is served, and nothing is left of them when
//! their clients are gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, ClientBuilder};
use tokio::task::JoinSet;

use crate::access::operators::{HASH, Operators, Place, client};
use crate::support::server::Answer;
use crate::support::wait::until;

/// Connections, and requests in flight on each of them.
const CONNECTIONS: usize = 20;
const STREAMS: usize = 50;

/// More guesses than may wait of one address.
const GUESSES: usize = 100;

/// The cost of a hash that takes longer than many answers without one.
const COST: u32 = 13;

const BOUND: Duration = Duration::from_secs(60);

/// A web configuration that lets `alice` in by `secret`, at this cost.
fn alice_at(cost: u32) -> String {
    let hash = bcrypt::hash("secret", cost).unwrap();
    format!("basic_auth_users:\n  alice: {hash}\n")
}

/// A client at this address of the loopback network.
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

/// Guesses again as long as there is no room in the queue.
async fn guess_until_hashed(client: Client, url: String, number: usize) -> u16 {
    loop {
        match guess(client.clone(), url.clone(), number).await {
            503 => tokio::time::sleep(Duration::from_millis(100)).await,
            status => return status,
        }
    }
}

/// Sends many guesses at once, and waits until the queue has no room for more of their address. The guesses are given up
/// when the answer is dropped.
async fn flood(operators: &Operators, client: &Client) -> JoinSet<()> {
    let turned_away = Arc::new(AtomicUsize::new(0));
    let mut guesses = JoinSet::new();
    for number in 0..GUESSES {
        let (client, url) = (client.clone(), format!("{}/metrics", operators.url));
        let turned_away = Arc::clone(&turned_away);
        guesses.spawn(async move {
            while guess(client.clone(), url.clone(), number).await == 503 {
                turned_away.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    until("a full queue", BOUND, async || {
        match turned_away.load(Ordering::SeqCst) {
            0 => Err("no guess was turned away"),
            _ => Ok(()),
        }
    })
    .await;
    guesses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_wrong_passwords_at_once_are_refused_and_hold_nobody_up() {
    // Some milliseconds for each guess: worked off on the one event loop of the operators, they would take it for seconds.
    let operators = Operators::start_in(Place::new(), &alice_at(5), &["--open-livez"]);
    assert_eq!(operators.status_for("alice", "secret").await, 200);

    let refused = Arc::new(AtomicUsize::new(0));
    let mut guesses = Vec::new();
    for connection in 0..CONNECTIONS {
        let client = client().http2_prior_knowledge().build().unwrap();
        for stream in 0..STREAMS {
            let guess = guess_until_hashed(
                client.clone(),
                format!("{}/metrics", operators.url),
                connection * STREAMS + stream,
            );
            let refused = Arc::clone(&refused);
            guesses.push(tokio::spawn(async move {
                assert_eq!(guess.await, 401);
                refused.fetch_add(1, Ordering::SeqCst);
            }));
        }
    }
    // Those whose credentials are known, or who need none, do not wait behind the guesses.
    let mut served = 0;
    while refused.load(Ordering::SeqCst) < CONNECTIONS * STREAMS && served < 1000 {
        assert_eq!(operators.status("/livez").await, 200);
        assert_eq!(operators.status_for("alice", "secret").await, 200);
        if refused.load(Ordering::SeqCst) < CONNECTIONS * STREAMS {
            served += 1;
        }
    }
    for guess in guesses {
        guess.await.unwrap();
    }
    assert_eq!(refused.load(Ordering::SeqCst), CONNECTIONS * STREAMS);
    assert!(served >= 20, "only {served} were served meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_login_does_not_wait_behind_the_guesses_of_another_address() {
    let operators = Operators::start(&alice_at(COST));
    let attacker = client_at([127, 0, 0, 2], client().http2_prior_knowledge());
    let mut guesses = flood(&operators, &attacker).await;
    let operator = client_at([127, 0, 0, 3], client());
    let login = operator.get(format!("{}/metrics", operators.url));
    let login = login.basic_auth("alice", Some("secret"));
    assert_eq!(Answer::of(login).await.status, 200);
    // As many as may wait were before it, and wait still.
    let answered = std::iter::from_fn(|| guesses.try_join_next()).count();
    assert!(answered < 10, "{answered} guesses were hashed first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guess_whose_client_has_left_is_not_hashed() {
    let operators = Operators::start(&alice_at(COST));
    for (version, keeps_connection) in [(2, true), (2, false), (1, false)] {
        let attacker = match version {
            1 => client().http1_only(),
            _ => client().http2_prior_knowledge(),
        };
        let attacker = client_at([127, 0, 0, 2], attacker);
        let guesses = flood(&operators, &attacker).await;
        let kept = keeps_connection.then_some(attacker);
        drop(guesses);
        // The addresses take turns: a late guess has its turn long before these, unless there are others before it.
        let url = format!("{}/metrics", operators.url);
        let beside = client_at([127, 0, 0, 3], client());
        let mut others = JoinSet::new();
        for number in 0..10 {
            others.spawn(guess(beside.clone(), url.clone(), number));
        }
        let late = client_at([127, 0, 0, 2], client());
        assert_eq!(guess_until_hashed(late, url, 0).await, 401);
        let answered = std::iter::from_fn(|| others.try_join_next()).count();
        assert!(answered < 8, "HTTP/{version}: {answered} were before it");
        drop(kept);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_verified_users_and_forgets_those_whose_hash_has_changed() {
    let alice = alice_at(COST);
    let operators = Operators::start(&alice);
    assert_eq!(operators.status_for("alice", "secret").await, 200);
    let attacker = client_at([127, 0, 0, 1], client().http2_prior_knowledge());
    let _guesses = flood(&operators, &attacker).await;

    let reload = async |web_config: &str, times: usize| {
        operators.place.write("web.yml", web_config);
        until("the reload", BOUND, async || {
            let log = operators.server.stderr();
            match log.matches("the access files were reloaded").count() {
                count if count >= times => Ok(()),
                _ => Err(log),
            }
        })
        .await;
    };
    reload(&format!("{alice}  bob: {HASH}\n"), 1).await;
    for _ in 0..5 {
        assert_eq!(operators.status_for("alice", "secret").await, 200);
    }
    reload(&alice_at(COST), 2).await;
    // The password is the same and the hash is new. Its user must log in again, and the queue has no room for that.
    assert_eq!(operators.status_for("alice", "secret").await, 503);
}

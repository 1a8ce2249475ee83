//! A thousand wrong passwords at once: each is refused, and meanwhile everybody else is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;

use crate::operators::{Operators, Place, client};
use crate::server::Answer;

/// Connections, and requests in flight on each of them.
const CONNECTIONS: usize = 20;
const STREAMS: usize = 50;

async fn guess(client: Client, url: String, number: usize) -> u16 {
    let name = if number.is_multiple_of(2) {
        "alice"
    } else {
        "nobody"
    };
    let request = client
        .get(url)
        .basic_auth(name, Some(format!("guess {number}")));
    Answer::of(request).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_wrong_passwords_at_once_are_refused_and_hold_nobody_up() {
    // Some milliseconds for each guess: worked off on the one event loop of the operators, they would take it for seconds.
    let hash = bcrypt::hash("secret", 5).unwrap();
    let web_config = format!("basic_auth_users:\n  alice: {hash}\n");
    let operators = Operators::start_in(Place::new(), &web_config, &["--open-livez"]);
    assert_eq!(operators.status_for("alice", "secret").await, 200);

    let refused = Arc::new(AtomicUsize::new(0));
    let mut guesses = Vec::new();
    for connection in 0..CONNECTIONS {
        let client = client().http2_prior_knowledge().build().unwrap();
        for stream in 0..STREAMS {
            let guess = guess(
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

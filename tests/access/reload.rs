//! The files that tell who may enter, as they change under a running server.

use std::time::Duration;

use crate::access::authority::Authority;
use crate::access::operators::{HASH, Operators, Place, alice, reason, tls};
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(30);

/// What the log says where a new version has come into force.
const TAKEN: &str = "the access files were reloaded";

/// Waits until the log has these words that many times.
async fn logged(operators: &Operators, words: &str, times: usize) {
    wait::until(words, BOUND, async || {
        let log = operators.server.stderr();
        if log.matches(words).count() >= times {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}

fn hang_up(operators: &Operators) {
    let pid = operators.server.pid();
    let sent = std::process::Command::new("sh")
        .args(["-c", &format!("kill -HUP {pid}")])
        .status();
    assert!(sent.unwrap().success(), "the signal was not sent");
}

#[tokio::test]
async fn a_changed_file_comes_into_force_and_a_broken_one_does_not() {
    let operators = Operators::start(&alice());
    assert_eq!(operators.status_for("alice", "secret").await, 200);

    let bob = format!("basic_auth_users:\n  bob: {HASH}\n");
    operators.place.write("web.yml", &bob);
    logged(&operators, TAKEN, 1).await;
    assert_eq!(operators.status_for("alice", "secret").await, 401);
    assert_eq!(operators.status_for("bob", "secret").await, 200);

    for (broken, words) in [
        (
            "basic_auth_users:\n  bob: nonsense\n",
            "basic_auth_users.bob in ",
        ),
        ("basic_auth_users: {", "is not valid YAML"),
        ("", "would require no credentials any more"),
        (
            "tls_server_config: {min_version: TLS10}",
            "tls_server_config.min_version in ",
        ),
    ] {
        operators.place.write("web.yml", broken);
        logged(&operators, words, 1).await;
        assert_eq!(operators.status("/metrics").await, 401, "{broken}");
        assert_eq!(operators.status_for("bob", "secret").await, 200, "{broken}");
    }
    std::fs::remove_file(operators.place.path("web.yml")).unwrap();
    logged(&operators, "cannot be read", 1).await;
    assert_eq!(operators.status_for("bob", "secret").await, 200);

    operators.place.write("web.yml", &alice());
    logged(&operators, TAKEN, 2).await;
    assert_eq!(operators.status_for("alice", "secret").await, 200);
    assert!(
        !operators.server.stderr().contains("nonsense"),
        "a value in the log"
    );
}

#[tokio::test]
async fn a_hangup_has_the_files_read_again_at_once_changed_or_not() {
    let operators = Operators::start(&alice());
    hang_up(&operators);
    logged(&operators, TAKEN, 1).await;
    assert_eq!(operators.status_for("alice", "secret").await, 200);
    operators.place.write("web.yml", "unknown: field\n");
    logged(&operators, "unknown in ", 1).await;
    hang_up(&operators);
    logged(&operators, "unknown in ", 2).await;
    assert_eq!(operators.status_for("alice", "secret").await, 200);
    assert_eq!(operators.server.stop(), Some(0), "it is no reason to end");
}

#[tokio::test]
async fn a_hangup_without_any_file_ends_nothing() {
    let mut server = crate::support::server::Server::start_with(&["--ops-listen", "127.0.0.1:0"]);
    let url = server.next_address();
    let place = Place::new();
    let operators = Operators {
        client: place.trusting().build().unwrap(),
        place: std::sync::Arc::new(place),
        url,
        server,
    };
    hang_up(&operators);
    logged(&operators, TAKEN, 1).await;
    assert_eq!(operators.status("/livez").await, 200);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections() {
    let operators = Operators::start(&tls(&[]));
    assert_eq!(operators.status("/livez").await, 200);
    let authority = Authority::new();
    operators.place.install(&authority.server());
    logged(&operators, TAKEN, 1).await;

    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let url = format!("{}/livez", operators.url);
    let new = crate::access::operators::client().add_root_certificate(root);
    let answer = new.build().unwrap().get(&url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let old = operators.place.trusting().build().unwrap();
    let error = old.get(&url).send().await.unwrap_err();
    assert!(reason(&error).contains("certificate"), "{error:?}");

    operators.place.write("cert.pem", "nonsense");
    logged(&operators, "tls_server_config.cert_file in ", 1).await;
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let client = crate::access::operators::client().add_root_certificate(root);
    let answer = client.build().unwrap().get(&url).send().await;
    assert_eq!(answer.unwrap().status(), 200, "the old one stays");
}

#[tokio::test]
async fn a_token_is_changed_by_its_file() {
    let place = Place::new();
    place.write("token", "the-first-of-the-tokens");
    let token = place.path("token").display().to_string();
    let operators = Operators::start_in(place, "", &["--ops-token-file", &token]);
    let ask = async |token: &str| {
        let request = operators.request("/metrics").bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("the-first-of-the-tokens").await, 200);
    operators.place.write("token", "another-of-the-tokens");
    logged(&operators, TAKEN, 1).await;
    assert_eq!(ask("the-first-of-the-tokens").await, 401);
    assert_eq!(ask("another-of-the-tokens").await, 200);
}

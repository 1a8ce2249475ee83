//! Changes of the access files while the server runs.

use std::time::Duration;

use crate::access::authority::Authority;
use crate::access::ops_server::{AccessFiles, HASH, OpsServer, alice, reason, tls};
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(30);

/// The log line of a successful reload.
const RELOADED: &str = "the access files were reloaded";

/// Waits until the log contains these words that many times.
async fn logged(ops: &OpsServer, words: &str, times: usize) {
    wait::until(words, BOUND, async || {
        let log = ops.server.stderr();
        if log.matches(words).count() >= times {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}

fn hang_up(ops: &OpsServer) {
    let pid = ops.server.pid();
    let sent = std::process::Command::new("sh")
        .args(["-c", &format!("kill -HUP {pid}")])
        .status();
    assert!(sent.unwrap().success(), "the signal was not sent");
}

#[tokio::test]
async fn a_changed_file_is_applied_and_a_broken_one_is_not() {
    let ops = OpsServer::start(&alice());
    assert_eq!(ops.status_for("alice", "secret").await, 200);

    let bob = format!("basic_auth_users:\n  bob: {HASH}\n");
    ops.files.write("web.yml", &bob);
    logged(&ops, RELOADED, 1).await;
    assert_eq!(ops.status_for("alice", "secret").await, 401);
    assert_eq!(ops.status_for("bob", "secret").await, 200);

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
        ops.files.write("web.yml", broken);
        logged(&ops, words, 1).await;
        assert_eq!(ops.status("/metrics").await, 401, "{broken}");
        assert_eq!(ops.status_for("bob", "secret").await, 200, "{broken}");
    }
    std::fs::remove_file(ops.files.path("web.yml")).unwrap();
    logged(&ops, "cannot be read", 1).await;
    assert_eq!(ops.status_for("bob", "secret").await, 200);

    ops.files.write("web.yml", &alice());
    logged(&ops, RELOADED, 2).await;
    assert_eq!(ops.status_for("alice", "secret").await, 200);
    assert!(
        !ops.server.stderr().contains("nonsense"),
        "the log contains a value"
    );
}

#[tokio::test]
async fn sighup_reloads_the_files_whether_they_changed_or_not() {
    let ops = OpsServer::start(&alice());
    hang_up(&ops);
    logged(&ops, RELOADED, 1).await;
    assert_eq!(ops.status_for("alice", "secret").await, 200);
    ops.files.write("web.yml", "unknown: field\n");
    logged(&ops, "unknown in ", 1).await;
    hang_up(&ops);
    logged(&ops, "unknown in ", 2).await;
    assert_eq!(ops.status_for("alice", "secret").await, 200);
    assert_eq!(ops.server.stop(), Some(0), "SIGHUP does not end the server");
}

#[tokio::test]
async fn sighup_without_access_files_does_not_end_the_server() {
    let mut server = crate::support::server::Server::start_with(&["--ops-listen", "127.0.0.1:0"]);
    let url = server.next_address();
    let files = AccessFiles::new();
    let ops = OpsServer {
        client: files.trusting().build().unwrap(),
        files: std::sync::Arc::new(files),
        url,
        server,
    };
    hang_up(&ops);
    logged(&ops, RELOADED, 1).await;
    assert_eq!(ops.status("/livez").await, 200);
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn new_connections_get_a_renewed_certificate() {
    let ops = OpsServer::start(&tls(&[]));
    assert_eq!(ops.status("/livez").await, 200);
    let authority = Authority::new();
    ops.files.install(&authority.server());
    logged(&ops, RELOADED, 1).await;

    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let url = format!("{}/livez", ops.url);
    let new = crate::access::ops_server::client().add_root_certificate(root);
    let answer = new.build().unwrap().get(&url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let old = ops.files.trusting().build().unwrap();
    let error = old.get(&url).send().await.unwrap_err();
    assert!(reason(&error).contains("certificate"), "{error:?}");

    ops.files.write("cert.pem", "nonsense");
    logged(&ops, "tls_server_config.cert_file in ", 1).await;
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let client = crate::access::ops_server::client().add_root_certificate(root);
    let answer = client.build().unwrap().get(&url).send().await;
    assert_eq!(
        answer.unwrap().status(),
        200,
        "the old certificate stays in use"
    );
}

#[tokio::test]
async fn a_changed_token_file_replaces_the_token() {
    let files = AccessFiles::new();
    files.write("token", "the-first-of-the-tokens");
    let token = files.path("token").display().to_string();
    let ops = OpsServer::start_in(files, "", &["--ops-token-file", &token]);
    let ask = async |token: &str| {
        let request = ops.request("/metrics").bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("the-first-of-the-tokens").await, 200);
    ops.files.write("token", "another-of-the-tokens");
    logged(&ops, RELOADED, 1).await;
    assert_eq!(ask("the-first-of-the-tokens").await, 401);
    assert_eq!(ask("another-of-the-tokens").await, 200);
}

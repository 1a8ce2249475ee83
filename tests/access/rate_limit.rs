//! The rate limit of the web configuration, over real connections.

use crate::access::ops_server::{OpsServer, alice};
use crate::support::server::Answer;

#[tokio::test]
async fn requests_past_the_burst_are_answered_429_before_credentials_are_checked() {
    let limit = "rate_limit:\n  interval: 1h\n  burst: 3\n";
    let ops = OpsServer::start(&format!("{limit}{}", alice()));
    assert_eq!(ops.status_for("alice", "secret").await, 200);
    assert_eq!(ops.status_for("alice", "wrong").await, 401);
    assert_eq!(ops.status("/nothing").await, 401);
    let answer = Answer::of(ops.request("/metrics").basic_auth("alice", Some("secret"))).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["retry-after"], "3600");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    // The limit does not apply to the API.
    assert_eq!(ops.server.get("/data").await.status, 200);
}

#[tokio::test]
async fn a_removed_limit_ends_at_once_and_exempt_liveness_has_none() {
    let files = crate::access::ops_server::AccessFiles::new();
    let limit = "rate_limit:\n  interval: 1h\n  burst: 1\n";
    let ops = OpsServer::start_in(files, limit, &["--open-livez"]);
    assert_eq!(ops.status("/metrics").await, 200);
    assert_eq!(ops.status("/metrics").await, 429);
    for _ in 0..5 {
        assert_eq!(ops.status("/livez").await, 200);
    }
    ops.files
        .write("web.yml", "rate_limit:\n  interval: 0\n  burst: 1\n");
    ops.server.signal("HUP");
    crate::support::wait::until(
        "the limit is lifted",
        std::time::Duration::from_secs(20),
        async || match ops.status("/metrics").await {
            200 => Ok(()),
            other => Err(other.to_string()),
        },
    )
    .await;
}

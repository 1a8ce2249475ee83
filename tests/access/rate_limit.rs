//! The rate limit of the web configuration, over real connections.

use crate::access::operators::{Operators, alice};
use crate::support::server::Answer;

#[tokio::test]
async fn requests_past_the_burst_are_answered_429_before_anybody_is_asked_for_a_password() {
    let limit = "rate_limit:\n  interval: 1h\n  burst: 3\n";
    let operators = Operators::start(&format!("{limit}{}", alice()));
    assert_eq!(operators.status_for("alice", "secret").await, 200);
    assert_eq!(operators.status_for("alice", "wrong").await, 401);
    assert_eq!(operators.status("/nothing").await, 401);
    let answer = Answer::of(
        operators
            .request("/metrics")
            .basic_auth("alice", Some("secret")),
    )
    .await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["retry-after"], "3600");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    // The API is not the operators'.
    assert_eq!(operators.server.get("/data").await.status, 200);
}

#[tokio::test]
async fn a_limit_that_is_lifted_is_lifted_at_once_and_an_open_liveness_has_none() {
    let place = crate::access::operators::Place::new();
    let limit = "rate_limit:\n  interval: 1h\n  burst: 1\n";
    let operators = Operators::start_in(place, limit, &["--open-livez"]);
    assert_eq!(operators.status("/metrics").await, 200);
    assert_eq!(operators.status("/metrics").await, 429);
    for _ in 0..5 {
        assert_eq!(operators.status("/livez").await, 200);
    }
    operators
        .place
        .write("web.yml", "rate_limit:\n  interval: 0\n  burst: 1\n");
    operators.server.signal("HUP");
    crate::support::wait::until(
        "the limit is lifted",
        std::time::Duration::from_secs(20),
        async || match operators.status("/metrics").await {
            200 => Ok(()),
            other => Err(other.to_string()),
        },
    )
    .await;
}

//! The headers that tell a browser to be careful, and those that a web configuration asks for.

use crate::access::operators::{Operators, alice};
use crate::support::server::{Answer, Server};

const CAREFUL: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

#[tokio::test]
async fn every_answer_tells_a_browser_to_be_careful() {
    let server = Server::start();
    for path in [
        "/",
        "/data",
        "/data/1",
        "/data?limit=0",
        "/nothing",
        "/metrics",
        "/health",
        "/dashboard",
        "/dashboard/app.js",
        "/ops/statements",
        "/docs",
        "/openapi.json",
    ] {
        let answer = server.get(path).await;
        for (name, value) in CAREFUL {
            assert_eq!(answer.header(name), value, "{path}");
        }
        assert_ne!(answer.header("cache-control"), "", "{path}");
        assert_eq!(answer.header("strict-transport-security"), "", "{path}");
    }
    assert_eq!(
        server.get("/data").await.header("cache-control"),
        "no-store"
    );
}

#[tokio::test]
async fn configured_headers_stand_on_every_answer_of_the_operators() {
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    X-XSS-Protection: '0'\n    Content-Security-Policy: \"default-src 'self'\"\n    Strict-Transport-Security: max-age=5\n";
    let operators = Operators::start(&format!("{}{headers}", alice()));
    for path in ["/metrics", "/dashboard", "/nothing"] {
        for request in [
            operators.request(path),
            operators.request(path).basic_auth("alice", Some("secret")),
        ] {
            let answer = Answer::of(request).await;
            for (name, value) in [
                ("x-frame-options", "sameorigin"),
                ("x-xss-protection", "0"),
                ("content-security-policy", "default-src 'self'"),
                ("strict-transport-security", "max-age=5"),
                ("x-content-type-options", "nosniff"),
            ] {
                assert_eq!(answer.header(name), value, "{path} {}", answer.status);
            }
        }
    }
    let public = operators.server.get("/data").await;
    assert_eq!(
        public.header("x-frame-options"),
        "DENY",
        "they are not the public's"
    );
}

//! The security headers of every response, and those of a web configuration.

use crate::access::ops_server::{OpsServer, alice};
use crate::support::server::{Answer, Server};

const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

#[tokio::test]
async fn every_response_has_the_security_headers() {
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
        for (name, value) in SECURITY_HEADERS {
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
async fn configured_headers_are_on_every_response_of_the_ops_listener() {
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    X-XSS-Protection: '0'\n    Content-Security-Policy: \"default-src 'self'\"\n    Strict-Transport-Security: max-age=5\n";
    let ops = OpsServer::start(&format!("{}{headers}", alice()));
    for path in ["/metrics", "/dashboard", "/nothing"] {
        for request in [
            ops.request(path),
            ops.request(path).basic_auth("alice", Some("secret")),
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
    let public = ops.server.get("/data").await;
    assert_eq!(
        public.header("x-frame-options"),
        "DENY",
        "the public listener does not have them"
    );
}

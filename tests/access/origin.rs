//! Requests from pages of other origins to the ops endpoints are rejected.

use reqwest::Method;

use crate::support::server::{Answer, Server};

async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request).await
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn a_page_of_another_origin_is_rejected_and_a_link_is_followed() {
    let server = Server::start();
    let own = format!("http://{}", server.authority());
    let navigation = |site| {
        [
            ("sec-fetch-site", site),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ]
    };
    let framed = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "iframe"),
    ];
    let reset = "/ops/statements/reset";
    for (method, path, headers, status, why) in [
        (Method::GET, "/metrics", &[][..], 200, "a scrape"),
        (Method::GET, "/ops/statements", &[], 200, "a program"),
        (
            Method::GET,
            "/dashboard",
            &navigation("none"),
            200,
            "a typed address",
        ),
        (
            Method::GET,
            "/dashboard",
            &navigation("cross-site"),
            200,
            "a link",
        ),
        (Method::GET, "/dashboard", &framed, 403, "a frame"),
        (
            Method::GET,
            "/dashboard/app.js",
            &[("sec-fetch-site", "same-origin")],
            200,
            "the page itself",
        ),
        (
            Method::GET,
            "/dashboard/app.js",
            &[("sec-fetch-site", "same-site")],
            403,
            "a page of the same site",
        ),
        (
            Method::GET,
            "/ops/statements",
            &[("sec-fetch-site", "cross-site")],
            403,
            "a page of another site",
        ),
        (
            Method::GET,
            "/ops/statements",
            &[("origin", "https://evil.example")],
            403,
            "a page of another site, in an old browser",
        ),
        (
            Method::GET,
            "/ops/statements",
            &[("origin", "null")],
            403,
            "a page without an origin",
        ),
        (
            Method::GET,
            "/ops/statements",
            &[("origin", &own)],
            200,
            "the page itself, in an old browser",
        ),
        (
            Method::POST,
            reset,
            &[("origin", &own)],
            204,
            "the page itself, in an old browser",
        ),
        (
            Method::POST,
            reset,
            &[("origin", &own.replace("http:", "https:"))],
            204,
            "the page behind a TLS proxy",
        ),
        (
            Method::POST,
            reset,
            &[("origin", "http://127.0.0.1")],
            403,
            "another port",
        ),
        (
            Method::POST,
            reset,
            &navigation("cross-site"),
            403,
            "a form",
        ),
        (
            Method::POST,
            reset,
            &[("origin", "https://evil.example")],
            403,
            "a form, in an old browser",
        ),
    ] {
        let answer = ask(&server, method, path, headers).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text);
        if status == 403 {
            assert_eq!(
                answer.header("content-type"),
                "application/problem+json",
                "{why}"
            );
        }
    }
    let foreign = [("sec-fetch-site", "cross-site")];
    let answer = ask(&server, Method::GET, "/data", &foreign).await;
    assert_eq!(answer.status, 200, "the API is for everyone");
}

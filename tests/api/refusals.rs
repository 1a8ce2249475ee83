//! Requests that are rejected before their fields are read: malformed, unknown, too large, or with a wrong method or type.

use reqwest::Method;
use serde_json::json;

use super::{start, start_with};
use crate::api::problem::{expect_invalid, expect_problem};
use crate::support::server::Answer;

#[tokio::test]
async fn malformed_json_is_a_bad_request() {
    let server = start();
    let cases: [(&[u8], &str); 6] = [
        (b"", "an empty body"),
        (b"{", "an object that does not end"),
        (b"{\"name\":}", "a member without a value"),
        (b"{\"name\": \"Ada\",}", "a trailing comma"),
        (
            b"{\"name\": \"\xff\", \"email\": \"ada@example.com\"}",
            "invalid UTF-8",
        ),
        (
            b"{\"name\": \"Ada\", \"email\": \"ada@example.com\"} x",
            "something behind the end",
        ),
    ];
    for (body, why) in cases {
        let request = server
            .request(Method::POST, "/data")
            .header("content-type", "application/json")
            .body(body);
        expect_problem(&Answer::of(request).await, 400, why);
    }
    assert_eq!(server.get("/data").await.text, "[]");
}

#[tokio::test]
async fn only_json_is_accepted() {
    let server = start();
    let body = json!({"name": "Ada", "email": "ada@example.com"}).to_string();
    for (content_type, why) in [
        (None, "no content type"),
        (Some("text/plain"), "text"),
        (Some("application/x-www-form-urlencoded"), "a form"),
        (Some("application/jsonx"), "a longer name"),
        (Some("json"), "no media type"),
        (Some("application/json; charset=utf-16"), "UTF-16"),
        (
            Some("application/json; charset=utf-8; charset=latin1"),
            "two charsets",
        ),
    ] {
        let mut request = server.request(Method::POST, "/data").body(body.clone());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        expect_problem(&Answer::of(request).await, 415, why);
    }
    assert_eq!(server.get("/data").await.text, "[]");
    for content_type in [
        "application/json; charset=utf-8",
        "application/json; charset=\"UTF-8\"",
        "Application/JSON",
    ] {
        let request = server
            .request(Method::POST, "/data")
            .header("content-type", content_type)
            .body(body.clone());
        assert_eq!(Answer::of(request).await.status, 201, "{content_type}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let server = start_with(&["--body-limit", "4KiB"]);
    let body = |message_length: usize| json!({"name": "Ada", "email": "ada@example.com", "message": "m".repeat(message_length)});
    let fits = 4096 - body(0).to_string().len();
    assert_eq!(
        server.send(Method::POST, "/data", &body(fits)).await.status,
        201,
        "to the last byte"
    );
    let answer = server.send(Method::POST, "/data", &body(fits + 1)).await;
    expect_problem(&answer, 413, "one byte too many");

    let chunks = body(fits + 1).to_string().into_bytes();
    let chunks: Vec<_> = chunks
        .chunks(500)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect();
    let request = server
        .request(Method::POST, "/data")
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(futures_util::stream::iter(
            chunks,
        )));
    expect_problem(
        &Answer::of(request).await,
        413,
        "one byte too many, in chunks",
    );
}

#[tokio::test]
async fn an_unknown_item_is_not_found() {
    let server = start();
    let body = json!({"name": "Ada", "email": "ada@example.com"});
    for id in ["1", "0", "-1", "9223372036854775807"] {
        let path = format!("/data/{id}");
        expect_problem(&server.get(&path).await, 404, &path);
        expect_problem(&server.delete(&path).await, 404, &path);
        expect_problem(&server.send(Method::PUT, &path, &body).await, 404, &path);
    }
    assert_eq!(
        server.get("/data").await.text,
        "[]",
        "a replacement created something"
    );
}

#[tokio::test]
async fn an_id_that_is_no_integer_is_refused() {
    let server = start();
    for id in ["abc", "1.5", "1e3", "99999999999999999999", "%20", "1%00"] {
        let path = format!("/data/{id}");
        let answer = server.get(&path).await;
        match answer.status {
            422 => assert_eq!(expect_invalid(&answer, &path), ["item_id"], "{path}"),
            _ => drop(expect_problem(&answer, 404, &path)),
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_allowed_ones() {
    let server = start();
    let id = server.create("Ada").await;
    let item = format!("/data/{id}");
    for (method, path, allowed) in [
        (Method::PUT, "/data", vec!["GET", "POST"]),
        (Method::DELETE, "/data", vec!["GET", "POST"]),
        (Method::PATCH, "/data", vec!["GET", "POST"]),
        (Method::POST, item.as_str(), vec!["GET", "PUT", "DELETE"]),
        (Method::PATCH, item.as_str(), vec!["GET", "PUT", "DELETE"]),
        (Method::POST, "/", vec!["GET"]),
        (
            Method::from_bytes(b"BREW").unwrap(),
            "/data",
            vec!["GET", "POST"],
        ),
    ] {
        let answer = Answer::of(server.request(method.clone(), path)).await;
        expect_problem(&answer, 405, &format!("{method} {path}"));
        let mut methods: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        // The resource may allow more methods.
        methods.retain(|method| !["HEAD", "OPTIONS"].contains(method));
        methods.sort_unstable();
        let mut allowed = allowed.clone();
        allowed.sort_unstable();
        assert_eq!(methods, allowed, "{method} {path}");
    }
    assert_eq!(
        server.get(&item).await.status,
        200,
        "a refused method changed something"
    );
}

#[tokio::test]
async fn an_unknown_route_is_not_found_whatever_the_method() {
    let server = start();
    for path in [
        "/nowhere",
        "/data/1/2",
        "/data/",
        "/DATA",
        "/%2e%2e/etc",
        "/health/x",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = Answer::of(server.request(method.clone(), path)).await;
            expect_problem(&answer, 404, &format!("{method} {path}"));
        }
    }
}

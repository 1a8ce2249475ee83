//! The rules of each field, at their bounds. A rejected request changes nothing.

use reqwest::Method;
use serde_json::{Value, json};

use super::start;
use crate::api::problem::expect_invalid;
use crate::api::snapshot::expect_stored;

/// An address of exactly `length` characters with parts of legal lengths.
fn address(length: usize) -> String {
    let domain_length = length - 65;
    let mut domain = "d".repeat(61);
    while domain.len() + 62 <= domain_length - 2 {
        domain = format!("{domain}.{}", "d".repeat(61));
    }
    let domain = format!("{domain}.{}", "d".repeat(domain_length - domain.len() - 1));
    let address = format!("{}@{domain}", "a".repeat(64));
    assert_eq!(address.len(), length);
    address
}

/// A body, its invalid fields, and the reason.
type BrokenRule = (Value, &'static [&'static str], &'static str);

fn broken_names() -> Vec<BrokenRule> {
    let with = |name: Value| json!({"name": name, "email": "ada@example.com", "message": null});
    [
        (json!(""), "an empty name"),
        (json!("n".repeat(101)), "a name of 101 characters"),
        (
            json!("é".repeat(101)),
            "a name of 101 characters of two bytes",
        ),
        (json!(5), "a number for a name"),
        (json!(null), "null for a name"),
        (json!(["Ada"]), "an array for a name"),
    ]
    .map(|(name, why)| (with(name), ["name"].as_slice(), why))
    .to_vec()
}

fn broken_addresses() -> Vec<BrokenRule> {
    let with = |email: Value| json!({"name": "Ada", "email": email, "message": null});
    [
        (json!(5), "a number for an address"),
        (json!(null), "null for an address"),
        (json!(""), "an empty address"),
        (json!("ada"), "an address without an at sign"),
        (json!("@example.com"), "an address without a local part"),
        (json!("ada@"), "an address without a domain"),
        (json!("ada@@example.com"), "two at signs"),
        (json!("ada@exa@mple.com"), "two at signs apart"),
        (
            json!("ada lovelace@example.com"),
            "a space in the local part",
        ),
        (json!("ada@exam ple.com"), "a space in the domain"),
        (json!("ada@example..com"), "an empty label"),
        (json!("ada@.example.com"), "an empty first label"),
        (
            json!("ada@-example.com"),
            "a label that starts with a hyphen",
        ),
        (json!("ada@example.com\n"), "a line feed at the end"),
        (json!(address(256)), "an address of 256 characters"),
    ]
    .map(|(email, why)| (with(email), ["email"].as_slice(), why))
    .to_vec()
}

fn other_broken_rules() -> Vec<BrokenRule> {
    let with =
        |message: Value| json!({"name": "Ada", "email": "ada@example.com", "message": message});
    vec![
        (with(json!(5)), &["message"], "a number for a message"),
        (with(json!({})), &["message"], "an object for a message"),
        (with(json!(false)), &["message"], "a boolean for a message"),
        (
            json!({"email": "ada@example.com"}),
            &["name"],
            "a missing name",
        ),
        (json!({"name": "Ada"}), &["email"], "a missing address"),
        (json!({}), &["email", "name"], "nothing at all"),
        (
            json!({"name": "", "email": "ada", "message": 5}),
            &["email", "message", "name"],
            "three rules at once",
        ),
    ]
}

#[tokio::test]
async fn each_broken_rule_names_its_field_and_changes_nothing() {
    let server = start();
    let id = server.create("Ada").await;
    let path = format!("/data/{id}");
    let before = server.get("/data").await.text;

    let cases = [broken_names(), broken_addresses(), other_broken_rules()].concat();
    for (body, fields, why) in cases {
        for (method, path) in [(Method::POST, "/data"), (Method::PUT, path.as_str())] {
            let answer = server.send(method.clone(), path, &body).await;
            assert_eq!(
                expect_invalid(&answer, why),
                fields,
                "{method} with {why}: {}",
                answer.text
            );
        }
    }
    assert_eq!(
        server.get("/data").await.text,
        before,
        "a refusal changed something"
    );
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let server = start();
    for body in [json!([]), json!("text"), json!(null), json!(5)] {
        expect_invalid(
            &server.send(Method::POST, "/data", &body).await,
            &body.to_string(),
        );
    }
    assert_eq!(server.get("/data").await.text, "[]");
}

#[tokio::test]
async fn what_is_valid_to_the_last_character_is_accepted() {
    let server = start();
    let cases = [
        ("n".to_owned(), "a@b.co".to_owned(), "the shortest name"),
        (
            "n".repeat(100),
            "ada@example.com".to_owned(),
            "a name of 100 characters",
        ),
        (
            "\u{1F600}".repeat(100),
            "ada@example.com".to_owned(),
            "100 characters of four bytes",
        ),
        (
            "Ada".to_owned(),
            address(255),
            "an address of 255 characters",
        ),
        (
            "Ada".to_owned(),
            "first.last+tag@sub.example.org".to_owned(),
            "a tagged address",
        ),
        (
            "Ada".to_owned(),
            "o'brien_x-y@example-site.co.uk".to_owned(),
            "an apostrophe and hyphens",
        ),
    ];
    for (name, email, why) in cases {
        let body = json!({"name": name, "email": email, "message": "m".repeat(5000)});
        let answer = server.send(Method::POST, "/data", &body).await;
        assert_eq!(answer.status, 201, "{why}: {}", answer.text);
        assert_eq!(
            (&answer.json()["name"], &answer.json()["email"]),
            (&body["name"], &body["email"]),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_page_outside_its_bounds_names_the_parameter() {
    let server = start();
    let cases = [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1.5", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("skip=-1", "skip"),
        ("skip=some", "skip"),
        ("skip=99999999999999999999", "skip"),
    ];
    for (query, field) in cases {
        let answer = server.get(&format!("/data?{query}")).await;
        assert_eq!(expect_invalid(&answer, query), [field], "{query}");
    }
    for query in ["limit=1", "limit=1000", "skip=0", "skip=0&limit=100"] {
        assert_eq!(
            server.get(&format!("/data?{query}")).await.status,
            200,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_refusal_reads_like_this() {
    let server = start();
    let body = json!({"name": "", "email": "ada", "message": 5});
    let refusals = [
        (
            "invalid_fields",
            server.send(Method::POST, "/data", &body).await,
        ),
        ("invalid_page", server.get("/data?limit=0").await),
        ("unknown_item", server.get("/data/7").await),
        ("unknown_route", server.get("/nowhere").await),
    ];
    for (name, answer) in refusals {
        expect_stored(name, &answer.json());
    }
}

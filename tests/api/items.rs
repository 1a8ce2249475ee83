//! Creates, lists, reads, replaces and deletes items, and finds them after a restart.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::{start, start_with};
use crate::api::problem::expect_problem;
use crate::api::snapshot::expect_stored;
use crate::support::server::{Answer, Server};

async fn ids(server: &Server, query: &str) -> Vec<i64> {
    let answer = server.get(&format!("/data{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let items = answer.json();
    items
        .as_array()
        .expect("an array")
        .iter()
        .map(|item| item["id"].as_i64().expect("an integer id"))
        .collect()
}

#[tokio::test]
async fn a_created_item_is_answered_whole() {
    let server = start();
    let body = json!({"name": "Ada Lovelace", "email": "ada@example.com", "message": "Hello \"world\" \u{1F600}"});
    let answer = server.send(Method::POST, "/data", &body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), "application/json");
    expect_stored("created_item", &answer.json());

    let created_at: DateTime<Utc> = answer.json()["created_at"]
        .as_str()
        .unwrap()
        .parse()
        .expect("RFC 3339");
    let age = SystemTime::now()
        .duration_since(created_at.into())
        .expect("not in the future");
    assert!(age < Duration::from_secs(60), "created {age:?} ago");
    assert!(
        answer.json()["created_at"].as_str().unwrap().ends_with('Z'),
        "UTC"
    );
}

#[tokio::test]
async fn a_message_may_be_null_or_left_out() {
    let server = start();
    for body in [
        json!({"name": "Ada", "email": "ada@example.com", "message": null}),
        json!({"name": "Ada", "email": "ada@example.com"}),
    ] {
        let answer = server.send(Method::POST, "/data", &body).await;
        assert_eq!(answer.status, 201, "{body}: {}", answer.text);
        assert_eq!(answer.json()["message"], Value::Null);
    }
}

#[tokio::test]
async fn an_item_is_read_as_it_was_created() {
    let server = start();
    let body =
        json!({"name": "Ada", "email": "ada@example.com", "message": "line\nline\ttab \\ / é"});
    let created = server.send(Method::POST, "/data", &body).await.json();
    let read = server.get(&format!("/data/{}", created["id"])).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.json(), created);
}

#[tokio::test]
async fn replacing_changes_everything_but_the_id_and_the_time() {
    let server = start();
    let body = json!({"name": "Ada", "email": "ada@example.com", "message": "first"});
    let created = server.send(Method::POST, "/data", &body).await.json();
    let path = format!("/data/{}", created["id"]);

    let body = json!({"name": "Grace", "email": "grace@example.com"});
    let replaced = server.send(Method::PUT, &path, &body).await;
    assert_eq!(replaced.status, 200);
    let expected = json!({
        "id": created["id"],
        "name": "Grace",
        "email": "grace@example.com",
        "message": null,
        "created_at": created["created_at"],
    });
    assert_eq!(replaced.json(), expected);
    assert_eq!(server.get(&path).await.json(), expected);
}

#[tokio::test]
async fn deleting_answers_with_the_item_and_takes_it_away() {
    let server = start();
    let kept = server.create("Kept").await;
    let id = server.create("Gone").await;
    let path = format!("/data/{id}");
    let before = server.get(&path).await.json();

    let deleted = server.delete(&path).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(deleted.json(), before);
    expect_problem(&server.get(&path).await, 404, "read after delete");
    expect_problem(&server.delete(&path).await, 404, "delete after delete");
    assert_eq!(ids(&server, "").await, [kept]);
}

#[tokio::test]
async fn an_id_is_never_given_twice() {
    let server = start();
    let first = server.create("First").await;
    server.delete(&format!("/data/{first}")).await;
    assert_ne!(server.create("Second").await, first);
}

#[tokio::test]
async fn an_empty_table_lists_as_an_empty_array() {
    let server = start();
    let answer = server.get("/data").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "[]"));
}

#[tokio::test]
async fn the_list_is_newest_first_and_cut_by_skip_and_limit() {
    let server = start();
    let mut created = Vec::new();
    for number in 0..105 {
        created.push(server.create(&format!("Visitor {number}")).await);
    }
    created.reverse();
    assert_eq!(
        ids(&server, "").await,
        created[..100],
        "a hundred by default"
    );
    assert_eq!(ids(&server, "?limit=1000").await, created);
    assert_eq!(ids(&server, "?limit=1").await, created[..1]);
    assert_eq!(ids(&server, "?skip=3&limit=4").await, created[3..7]);
    assert_eq!(ids(&server, "?skip=103").await, created[103..]);
    assert_eq!(ids(&server, "?skip=105").await, [0; 0]);
    assert_eq!(ids(&server, "?skip=1000000000000").await, [0; 0]);
}

#[tokio::test]
async fn items_of_the_same_instant_are_listed_by_id_newest_first() {
    let server = start();
    let mut created = Vec::new();
    for number in 0..6 {
        created.push(server.create(&format!("Visitor {number}")).await);
    }
    server
        .data()
        .execute("UPDATE items SET created_at = (SELECT max(created_at) FROM items)");
    created.reverse();
    assert_eq!(ids(&server, "").await, created);
    assert_eq!(
        ids(&server, "?skip=2&limit=2").await,
        created[2..4],
        "pages do not overlap"
    );
}

#[tokio::test]
async fn a_second_start_finds_the_data_again() {
    let server = start();
    let id = server.create("Ada").await;
    let before = server.get(&format!("/data/{id}")).await.json();
    let data = server.data();
    assert_eq!(server.stop(), Some(0));

    let server = Server::start_on(data, &[]);
    assert_eq!(server.get(&format!("/data/{id}")).await.json(), before);
}

#[tokio::test]
async fn an_acknowledged_write_survives_a_kill() {
    let server = start();
    let mut created = Vec::new();
    for number in 0..10 {
        created.push(server.create(&format!("Visitor {number}")).await);
    }
    server.delete(&format!("/data/{}", created.remove(4))).await;
    let data = server.data();
    server.kill();

    let server = Server::start_on(data, &[]);
    created.reverse();
    assert_eq!(ids(&server, "").await, created);
}

#[tokio::test]
async fn many_clients_write_at_once_and_nothing_is_lost() {
    // No write is rejected because the disk is slow.
    let server = start_with(&["--pool-timeout=60s"]);
    let server = &server;
    let clients = (0..20).map(async |client| {
        for number in 0..10 {
            server.create(&format!("Visitor {client}.{number}")).await;
        }
    });
    futures_util::future::join_all(clients).await;
    assert_eq!(ids(server, "?limit=1000").await.len(), 200);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = start();
    let id = server.create("Ada").await;
    for path in [
        "/data".to_owned(),
        format!("/data/{id}"),
        "/health".to_owned(),
        "/".to_owned(),
    ] {
        let got = server.get(&path).await;
        let head = Answer::of(server.request(Method::HEAD, &path)).await;
        assert_eq!(
            (head.status, head.text.as_str()),
            (got.status, ""),
            "{path}"
        );
        assert_eq!(
            head.header("content-type"),
            got.header("content-type"),
            "{path}"
        );
        assert_eq!(
            head.header("content-length"),
            got.text.len().to_string(),
            "{path}"
        );
    }
}

/// The path in the `next` link of an answer.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    let path = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(path.to_owned())
}

#[tokio::test]
async fn next_links_lead_to_every_item_once_also_where_a_page_ends_early() {
    let server = start();
    // Three times the byte limit of a page in total: each control character takes six bytes in JSON.
    for number in 0..60 {
        let message = match number % 3 {
            0 => "x".repeat(60_000),
            1 => "\u{1}".repeat(10_000),
            _ => "short".to_owned(),
        };
        let item =
            json!({"name": number.to_string(), "email": "a@example.com", "message": message});
        let answer = server.send(Method::POST, "/data", &item).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    let (mut path, mut ids) = (Some("/data?limit=1000".to_owned()), Vec::new());
    let mut pages = 0;
    while let Some(asked) = path {
        let answer = server.get(&asked).await;
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text);
        assert!(answer.text.len() <= 1024 * 1024, "{}", answer.text.len());
        let items = answer.json();
        let items = items.as_array().expect("an array");
        assert!(!items.is_empty(), "{asked}");
        ids.extend(items.iter().map(|item| item["id"].as_i64().unwrap()));
        path = next(&answer);
        pages += 1;
    }
    let mut expected = ids.clone();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    expected.dedup();
    assert_eq!(ids, expected);
    assert_eq!(ids.len(), 60);
    assert_eq!(pages, 3);

    let whole = server.get("/data?limit=1&skip=59").await;
    assert_eq!(next(&whole), None, "nothing follows the last item");
    let first = server.get("/data?limit=1").await;
    assert!(next(&first).is_some(), "more follows the first");
}

//! The routes in process, on a database in memory: statuses, headers and problem documents.

use std::time::Duration;

use actix_vitals::{Vitals, memory::AnswerMemory, problem};
use actix_web::{
    App,
    body::to_bytes,
    http::{Method, StatusCode, header},
    test::{TestRequest, call_service, init_service},
    web::Bytes,
};
use serde_json::{Value, json};

use super::*;
use crate::settings::{DatabaseSettings, DatabaseUrl, SqliteLocation};

const LIMITS: BodyLimits = BodyLimits {
    bytes: 1024,
    depth: 4,
};

struct TestAnswer {
    status: StatusCode,
    headers: header::HeaderMap,
    body: Bytes,
}

impl TestAnswer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends requests one after the other to a new API.
async fn answers(requests: impl IntoIterator<Item = TestRequest>) -> Vec<TestAnswer> {
    let api = Api {
        store: Store::open(
            &DatabaseSettings {
                url: DatabaseUrl::Sqlite(SqliteLocation::Memory),
                pool_size: 1,
                pool_timeout: Duration::from_secs(5),
                pool_check_after: Duration::from_millis(500),
            },
            &Vitals::builder().build().unwrap(),
        )
        .unwrap(),
        body_limits: LIMITS,
        answer_memory: AnswerMemory::default(),
        documentation: Documentation::of(DescribedListener::Shared, LIMITS, true),
        has_ops: true,
    };
    let app = init_service(App::new().configure(|routes| api.configure(routes))).await;
    let mut answers = Vec::new();
    for request in requests {
        let response = call_service(&app, request.to_request()).await;
        answers.push(TestAnswer {
            status: response.status(),
            headers: response.headers().clone(),
            body: to_bytes(response.into_body()).await.unwrap(),
        });
    }
    answers
}

async fn answer(request: TestRequest) -> TestAnswer {
    answers([request]).await.remove(0)
}

fn post(body: &'static str) -> TestRequest {
    TestRequest::post()
        .uri("/data")
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .set_payload(body)
}

const ADA: &str = r#"{"name": "Ada", "email": "ada@example.com"}"#;

#[actix_web::test]
async fn an_item_can_be_created_read_replaced_listed_and_deleted() {
    let item = || TestRequest::get().uri("/data/1");
    let answers = answers([
        post(ADA),
        item(),
        TestRequest::put()
            .uri("/data/1")
            .set_json(json!({"name": "Grace", "email": "grace@example.com", "message": "hi"})),
        TestRequest::get().uri("/data?limit=1"),
        TestRequest::delete().uri("/data/1"),
        item(),
    ])
    .await;
    let statuses: Vec<u16> = answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect();
    assert_eq!(statuses, [201, 200, 200, 200, 200, 404]);
    assert_eq!(answers[0].header(header::LOCATION), "/data/1");
    assert_eq!(answers[0].json(), answers[1].json());
    assert_eq!(answers[2].json()["message"], "hi");
    assert_eq!(
        answers[2].json()["created_at"],
        answers[0].json()["created_at"]
    );
    assert_eq!(answers[3].json(), json!([answers[2].json()]));
    assert_eq!(answers[4].json(), answers[2].json());
}

#[actix_web::test]
async fn every_error_is_a_problem_document() {
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let json = ("content-type", "application/json");
    for (request, status, why) in vec![
        (post(""), 400, "no body"),
        (post("{"), 400, "cut off"),
        (post("{\"name\": \"\\ud800\"}"), 400, "half a character"),
        (post("{} {}"), 400, "two values"),
        (post("").set_payload(deep), 400, "too deep"),
        (
            post("").set_payload(&b"{\"name\": \"\xff\"}"[..]),
            400,
            "not UTF-8",
        ),
        (post("[[[[[]]]]]"), 400, "deeper than it may be"),
        (post("[[[[]]], []]"), 422, "as deep as it may be"),
        (post(r#"{"a":"\"[[[[[["}"#), 422, "brackets in a string"),
        (post("[]"), 422, "an array"),
        (post("null"), 422, "null"),
        (post("{}"), 422, "nothing in it"),
        (
            TestRequest::post().uri("/data").set_payload(ADA),
            415,
            "no type",
        ),
        (
            post(ADA).insert_header((header::CONTENT_TYPE, "text/plain")),
            415,
            "another type",
        ),
        (
            post(ADA).insert_header((header::CONTENT_ENCODING, "gzip")),
            415,
            "an encoding",
        ),
        (post("").set_payload("x".repeat(1025)), 413, "too large"),
        (
            TestRequest::put()
                .uri("/data/1")
                .insert_header(json)
                .set_payload(ADA),
            404,
            "replacing an unknown id",
        ),
        (
            TestRequest::put()
                .uri("/data/one")
                .insert_header(json)
                .set_payload(ADA),
            422,
            "replacing no id",
        ),
        (
            TestRequest::get().uri("/data/1"),
            404,
            "reading an unknown id",
        ),
        (
            TestRequest::delete().uri("/data/1"),
            404,
            "deleting an unknown id",
        ),
        (
            TestRequest::get().uri("/data/%FF"),
            422,
            "an id that is no text",
        ),
        (
            TestRequest::get().uri("/data?limit=0"),
            422,
            "no items wanted",
        ),
        (TestRequest::get().uri("/data/"), 404, "an empty id"),
        (TestRequest::get().uri("/nothing"), 404, "no such path"),
        (TestRequest::patch().uri("/data"), 405, "no such method"),
        (TestRequest::post().uri("/data/1"), 405, "no such method"),
        (TestRequest::delete().uri("/"), 405, "no such method"),
    ] {
        let answer = answer(request).await;
        assert_eq!(answer.status, status, "{why}");
        assert_eq!(
            answer.header(header::CONTENT_TYPE),
            problem::CONTENT_TYPE,
            "{why}"
        );
        let document = answer.json();
        assert_eq!(document["status"], status, "{why}");
        assert!(document["detail"].as_str().unwrap().ends_with('.'), "{why}");
        assert_eq!(document["errors"].is_array(), status == 422, "{why}");
        assert_eq!(
            !answer.header(header::ALLOW).is_empty(),
            status == 405,
            "{why}"
        );
    }
}

#[actix_web::test]
async fn json_is_recognised_by_its_type() {
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.api+json",
    ] {
        let answer = answer(post(ADA).insert_header((header::CONTENT_TYPE, kind))).await;
        assert_eq!(answer.status, 201, "{kind}");
    }
}

#[actix_web::test]
async fn options_lists_the_methods_and_head_is_answered_like_get() {
    for (path, methods) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/data", "GET, HEAD, OPTIONS, POST"),
        ("/data/1", "DELETE, GET, HEAD, OPTIONS, PUT"),
    ] {
        let options = answer(TestRequest::default().method(Method::OPTIONS).uri(path)).await;
        assert_eq!(options.status, 204, "{path}");
        assert_eq!(options.header(header::ALLOW), methods, "{path}");
        let head = answer(TestRequest::default().method(Method::HEAD).uri(path)).await;
        let get = answer(TestRequest::get().uri(path)).await;
        assert_eq!(head.status, get.status, "{path}");
    }
}

#[actix_web::test]
async fn the_greeting_links_to_the_items_the_description_and_the_ops_endpoints() {
    let greeting = answer(TestRequest::get().uri("/")).await.json();
    assert_eq!(greeting["name"], "actix-vitals");
    assert_eq!(
        greeting["links"],
        json!({
            "dashboard": "/dashboard",
            "data": "/data",
            "docs": "/docs",
            "health": "/health",
            "livez": "/livez",
            "metrics": "/metrics",
            "openapi.json": "/openapi.json",
            "ops": "/ops",
            "readyz": "/readyz",
        })
    );
}

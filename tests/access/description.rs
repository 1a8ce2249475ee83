//! The gate answers as `/openapi.json` describes.

use actix_vitals::ops::{ENDPOINTS, OpsChoice};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::access::ops_server::{AccessFiles, OpsServer, alice};
use crate::support::server::{Answer, Server};

/// Sends each described request without credentials, and as a page of another origin.
///
/// Each is rejected with the described problem, or the rejection is not described. Returns the number of rejections.
async fn rejections_as_described(
    description: &Value,
    request: impl Fn(Method, &str) -> RequestBuilder,
) -> usize {
    let mut guarded = 0;
    for (path, item) in description["paths"].as_object().expect("paths") {
        if item["servers"].is_array() {
            continue;
        }
        for method in [Method::GET, Method::POST, Method::PUT] {
            let operation = &item[method.as_str().to_lowercase()];
            if operation.is_null() {
                continue;
            }
            let anonymous = request(method.clone(), path);
            let foreign = request(method.clone(), path).header("sec-fetch-site", "cross-site");
            for (status, request) in [(401, anonymous), (403, foreign)] {
                let answer = Answer::of(request).await;
                let described = &operation["responses"][status.to_string()];
                let is_described = described.is_object();
                assert_eq!(
                    answer.status == status,
                    is_described,
                    "{status}: {method} {path}"
                );
                if is_described {
                    assert_eq!(answer.json(), *example(description, described), "{path}");
                    guarded += 1;
                }
            }
        }
    }
    guarded
}

/// The example of a response, which the description refers to.
fn example<'a>(description: &'a Value, response: &Value) -> &'a Value {
    let reference = response["$ref"].as_str().expect("a reference");
    let response = description.pointer(&reference[1..]).expect("a response");
    &response["content"]["application/problem+json"]["example"]
}

/// Each has one operation. Profiles are described where they are allowed.
fn described_ops_endpoints() -> usize {
    let described = ENDPOINTS.iter().filter(|it| !it.is_page_part());
    let described = described.filter(|it| it.choice() != OpsChoice::Profiles);
    described.count()
}

#[tokio::test]
async fn on_a_shared_listener_the_description_has_the_rejections_of_the_ops_endpoints() {
    let files = AccessFiles::new();
    files.write("web.yml", &alice());
    let path = files.path("web.yml").display().to_string();
    let server = Server::start_with(&["--web-config", &path]);
    let description = server.get("/openapi.json").await.json();
    let guarded =
        rejections_as_described(&description, |method, path| server.request(method, path)).await;
    assert_eq!(guarded, 2 * described_ops_endpoints());
}

#[tokio::test]
async fn on_the_ops_listener_the_description_has_the_rejections_of_all_paths() {
    let ops = OpsServer::start(&alice());
    let read = ops.request("/openapi.json");
    let description = Answer::of(read.basic_auth("alice", Some("secret")))
        .await
        .json();
    let request = |method, path: &str| {
        let url = format!("{}{path}", ops.url);
        ops.client.request(method, url)
    };
    let guarded = rejections_as_described(&description, request).await;
    let pages = ["/docs", "/openapi.json"];
    assert_eq!(guarded, 2 * (described_ops_endpoints() + pages.len()));
}

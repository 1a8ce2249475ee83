//! What `/openapi.json` says of the gate is what the gate does.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::access::operators::{Operators, Place, alice};
use crate::support::server::{Answer, Server};

/// Sends each described request without credentials, and as a page of another origin: it is refused in the words of its
/// description, or neither is described. Answers how many are.
async fn refuses_as_described(
    description: &Value,
    request: impl Fn(Method, &str) -> RequestBuilder,
) -> usize {
    let mut guarded = 0;
    for (path, item) in description["paths"].as_object().expect("paths") {
        if item["servers"].is_array() {
            continue;
        }
        for method in [Method::GET, Method::POST] {
            let operation = &item[method.as_str().to_lowercase()];
            if operation.is_null() {
                continue;
            }
            let unknown = request(method.clone(), path);
            let foreign = request(method.clone(), path).header("sec-fetch-site", "cross-site");
            for (status, request) in [(401, unknown), (403, foreign)] {
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

/// The example of a response that is described elsewhere.
fn example<'a>(description: &'a Value, response: &Value) -> &'a Value {
    let reference = response["$ref"].as_str().expect("a reference");
    let response = description.pointer(&reference[1..]).expect("a response");
    &response["content"]["application/problem+json"]["example"]
}

#[tokio::test]
async fn on_a_listener_for_all_the_description_tells_which_paths_are_the_operators() {
    let place = Place::new();
    place.write("web.yml", &alice());
    let path = place.path("web.yml").display().to_string();
    let server = Server::start_with(&["--web-config", &path]);
    let description = server.get("/openapi.json").await.json();
    let guarded =
        refuses_as_described(&description, |method, path| server.request(method, path)).await;
    assert_eq!(guarded, 2 * 7, "of seven operations");
}

#[tokio::test]
async fn on_the_operators_listener_the_description_tells_that_all_paths_are_theirs() {
    let operators = Operators::start(&alice());
    let read = operators.request("/openapi.json");
    let description = Answer::of(read.basic_auth("alice", Some("secret")))
        .await
        .json();
    let request = |method, path: &str| {
        let url = format!("{}{path}", operators.url);
        operators.client.request(method, url)
    };
    let guarded = refuses_as_described(&description, request).await;
    assert_eq!(guarded, 2 * 9, "of nine operations");
}

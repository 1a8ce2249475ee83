//! `GET /`: the name and version of the service, and links to its resources.

use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

/// The links of the greeting: paths by name.
#[derive(Debug, Clone)]
pub(super) struct Links(Map<String, Value>);

impl Links {
    /// Links to the items, to the description of the API and to these ops endpoints. A link's name is its path without
    /// the `/`.
    pub(super) fn new(operations: &[&str]) -> Self {
        let paths = ["/data", "/openapi.json"].iter().chain(operations);
        Self(
            paths
                .map(|path| (path.trim_start_matches('/').to_owned(), json!(path)))
                .collect(),
        )
    }
}

pub(super) async fn read_greeting(request: HttpRequest) -> HttpResponse {
    let links = request.app_data::<Links>().map(|links| &links.0);
    HttpResponse::Ok().json(json!({
        "name": crate::NAME,
        "version": env!("CARGO_PKG_VERSION"),
        "description": "A REST service over a database that measures itself.",
        "links": links,
    }))
}

//! `GET /`: what this is, and where to go from here.

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use actix_vitals::methods::other_methods;

/// The paths that the greeting links to, by name.
#[derive(Debug, Clone)]
pub(super) struct Links(Map<String, Value>);

impl Links {
    /// Links to the items, to the description of the API, and to the operators' endpoints of these paths; a link's name is its path without the `/`.
    pub(super) fn new(operations: &[&str]) -> Self {
        let paths = ["/data", "/openapi.json"].iter().chain(operations);
        Self(
            paths
                .map(|path| (path.trim_start_matches('/').to_owned(), json!(path)))
                .collect(),
        )
    }
}

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(
        web::resource("/")
            .route(web::get().to(read_greeting))
            .route(web::head().to(read_greeting))
            .default_service(other_methods("GET, HEAD, OPTIONS")),
    );
}

async fn read_greeting(request: HttpRequest) -> HttpResponse {
    let links = request.app_data::<Links>().map(|links| &links.0);
    HttpResponse::Ok().json(json!({
        "name": crate::NAME,
        "version": env!("CARGO_PKG_VERSION"),
        "description": "A REST service over a database that measures itself.",
        "links": links,
    }))
}

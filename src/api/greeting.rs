//! `GET /`: the name and version of the service, and links to its resources.

use actix_vitals::ops::{self, OpsEndpoint};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

/// The links of the greeting: paths by name.
#[derive(Debug, Clone)]
pub(super) struct Links(Map<String, Value>);

impl Links {
    /// Links to the items, to the description of the API and, if there are any, to the ops endpoints of the first level. A
    /// link's name is its path without the `/`.
    pub(super) fn new(has_ops: bool) -> Self {
        let ops = ops::ENDPOINTS
            .iter()
            .filter(|endpoint| !endpoint.is_page_part());
        let ops = ops.map(OpsEndpoint::path).chain(["/docs"]);
        let paths = ["/data", "/openapi.json"].into_iter();
        let paths = paths.chain(ops.filter(|_| has_ops));
        let links = paths.filter_map(|path| {
            let name = path.strip_prefix('/').filter(|name| !name.contains('/'))?;
            Some((name.to_owned(), path.into()))
        });
        Self(links.collect())
    }
}

pub(super) async fn read_greeting(request: HttpRequest) -> HttpResponse {
    let links = request.app_data::<Links>().map(|links| &links.0);
    HttpResponse::Ok().json(json!({
        "name": crate::NAME,
        "version": env!("CARGO_PKG_VERSION"),
        "description": "A REST service over a database. It measures itself.",
        "links": links,
    }))
}

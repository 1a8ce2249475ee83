//! `GET /ops`: the ops endpoints that exist, for people and programs that look for one, and the filter of the log.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web,
};
use serde::Serialize;

use super::log::LogFilter;
use crate::ops::Ops;

#[derive(Serialize)]
struct Index {
    endpoints: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogFilter>,
}

#[derive(Serialize)]
struct Entry {
    /// The path on this server, with the scope that the endpoints are mounted in.
    path: String,
    methods: Vec<&'static str>,
    summary: &'static str,
}

/// `GET /ops`: path, methods and summary of each endpoint, except the parts of the live page.
pub(crate) async fn get_index(request: HttpRequest, ops: web::Data<Ops>) -> HttpResponse {
    let scope = request.path().strip_suffix("/ops").unwrap_or_default();
    let endpoints = ops.endpoints();
    let endpoints = endpoints.filter(|endpoint| !endpoint.is_page_part());
    let entries = endpoints.map(|endpoint| Entry {
        path: format!("{scope}{}", endpoint.path()),
        methods: (endpoint.methods().list().iter())
            .map(Method::as_str)
            .collect(),
        summary: endpoint.summary(),
    });
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(Index {
            endpoints: entries.collect(),
            log: ops.log().map(|log| LogFilter::from(log.state())),
        })
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App,
        test::{TestRequest, call_and_read_body_json, call_service, init_service},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{ENDPOINTS, OpsChoice, OpsEndpoint, OpsSettings, fixture};

    /// The index, with the ops endpoints mounted in two scopes.
    async fn index(settings: OpsSettings, path: &str) -> Vec<Value> {
        let ops = fixture::ops(settings);
        ops.start();
        let app = App::new()
            .configure(|config| ops.configure(config, &|route| route))
            .service(
                web::scope("/{tenant}/ops")
                    .configure(|config| ops.configure(config, &|route| route)),
            );
        let app = init_service(app).await;
        let request = TestRequest::with_uri(path).to_request();
        let index: Value = call_and_read_body_json(&app, request).await;
        let endpoints = index["endpoints"].as_array().unwrap().clone();
        let uris = paths(&endpoints).into_iter();
        for uri in uris.filter(|uri| !uri.contains('{')) {
            let request = TestRequest::with_uri(uri).to_request();
            let response = call_service(&app, request).await;
            assert_eq!(response.status(), 200, "{uri}");
        }
        endpoints
    }

    fn paths(endpoints: &[Value]) -> Vec<&str> {
        let paths = endpoints.iter().map(|endpoint| &endpoint["path"]);
        paths.filter_map(Value::as_str).collect()
    }

    #[actix_web::test]
    async fn the_index_lists_the_endpoints_that_exist_and_no_others() {
        let expected = |exists: &dyn Fn(OpsChoice) -> bool| -> Vec<&str> {
            let listed = ENDPOINTS
                .iter()
                .filter(|endpoint| exists(endpoint.choice()) && !endpoint.is_page_part());
            listed.map(OpsEndpoint::path).collect()
        };
        let chosen = OpsSettings::new().with(OpsChoice::Index);
        let few = expected(&|choice| matches!(choice, OpsChoice::Always | OpsChoice::Index));
        assert!(few.len() > 1, "{few:?}");
        assert_eq!(paths(&index(chosen, "/ops").await), few);
        let endpoints = index(OpsSettings::everything(), "/ops").await;
        // This service has no database.
        let all = expected(&|choice| {
            let is_chosen = choice == OpsChoice::Always || OpsChoice::ALL.contains(&choice);
            is_chosen && !choice.needs_database()
        });
        assert_eq!(paths(&endpoints), all);
        let readiness = json!({
            "path": "/readyz",
            "methods": ["GET", "HEAD"],
            "summary": "Whether requests should be sent here",
        });
        assert!(endpoints.contains(&readiness), "{endpoints:?}");
    }

    #[actix_web::test]
    async fn the_paths_are_those_of_the_scope() {
        let endpoints = index(OpsSettings::everything(), "/7/ops/ops").await;
        assert_eq!(paths(&endpoints)[..2], ["/7/ops/metrics", "/7/ops/livez"]);
    }
}

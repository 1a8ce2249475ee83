//! The answer of a resource to methods that it does not have. By itself, Actix answers such requests with 404 or an empty
//! 405.

use std::future::ready;

use actix_web::{
    HttpRequest, HttpResponse, Route,
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
    web,
};

use crate::problem::Problem;

/// Returns the default service of a resource whose methods are `allow`, such as `GET, HEAD, OPTIONS`.
///
/// `OPTIONS` is answered with 204, anything else with 405; both carry `Allow` (RFC 9110, sections 9.3.7 and 15.5.6).
pub fn other_methods(allow: &'static str) -> Route {
    web::to(move |request: HttpRequest| ready(answer(request.method(), allow)))
}

fn answer(method: &Method, allow: &'static str) -> HttpResponse {
    if method == Method::OPTIONS {
        return HttpResponse::NoContent()
            .insert_header((header::ALLOW, HeaderValue::from_static(allow)))
            .finish();
    }
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("This resource supports only these methods: {allow}."),
    )
    .allow(allow)
    .to_response()
}

//! What a resource answers to methods that it does not have.
//!
//! A leaf, like the problem documents: Actix answers such requests with 404 or an empty 405 by itself.

use std::future::ready;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, Route, web};

use super::problem::Problem;

/// The default service of a resource whose methods are `allow`, such as `GET, HEAD, OPTIONS`.
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
        format!("This resource has only these methods: {allow}."),
    )
    .allow(allow)
    .to_response()
}

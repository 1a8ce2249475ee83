//! Answers in JSON that are made on the event loop.
//!
//! They are small and need no thread that may block: all of those may be occupied when an operator asks why.

use actix_web::{HttpRequest, HttpResponse, http::header};
use serde::Serialize;
use vitals_recorder::{memory::client_of, problem::Problem};

use crate::watched::Watched;

/// Answers with `content` as JSON, which no cache keeps. It takes about this many bytes of the memory for answers.
pub(super) fn inline_answer(
    request: &HttpRequest,
    watched: &Watched,
    bytes: usize,
    content: &impl Serialize,
) -> Result<HttpResponse, Problem> {
    let reservation = watched.memory.reserve(client_of(request), bytes)?;
    // Cannot fail: strings and numbers always serialize.
    let body = serde_json::to_vec(content).unwrap_or_default();
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("application/json")
        .body(reservation.hold(body)))
}

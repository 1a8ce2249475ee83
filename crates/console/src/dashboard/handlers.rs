//! The handlers of the live page: the page, its assets, its history and its stream.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web,
};
use serde::Deserialize;
use vitals_recorder::{memory::client_of, problem::Problem};
use vitals_registry::negotiate_encoding;

use super::{Dashboard, assets, history::HistoryKey, ring::HOUR, stream::Events};
use crate::endpoints::unknown_length::UnknownLength;

/// `GET /dashboard`: the page.
pub(crate) async fn get_page(request: HttpRequest) -> HttpResponse {
    assets::page(&request)
}

/// `GET /dashboard/{part}`: scripts, style and icon.
pub(crate) async fn get_asset(request: HttpRequest) -> Result<HttpResponse, Problem> {
    // The last parameter: a scope around the page may have parameters of any name.
    let name = request.match_info().iter().last().map(|(_, name)| name);
    let asset = name
        .and_then(assets::find)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "The live page has no such part."))?;
    Ok(asset.respond(&request))
}

/// Requests the ticks after `since`, up to `until`, merged to `step` seconds.
#[derive(Deserialize)]
pub(crate) struct HistoryQuery {
    /// Seconds since the Unix epoch. A negative value counts back from the last tick. By default 0: all ticks.
    #[serde(default)]
    since: i64,
    until: Option<u64>,
    #[serde(default = "one")]
    step: u64,
}

fn one() -> u64 {
    1
}

/// `GET /dashboard/history`: the ticks that the page shows first.
pub(crate) async fn get_history(
    request: HttpRequest,
    dashboard: web::Data<Dashboard>,
    query: Result<web::Query<HistoryQuery>, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let query = query.ok().filter(|query| (1..=HOUR).contains(&query.step));
    let Some(query) = query else {
        let detail = "`since` and `until` must be whole seconds, and `step` 1 to 3600.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    };
    let accept_encoding =
        (request.headers().get_all(header::ACCEPT_ENCODING)).map(header::HeaderValue::as_bytes);
    let encoding = negotiate_encoding(&accept_encoding.collect::<Vec<_>>());
    let key = HistoryKey {
        since: query.since,
        until: query.until,
        step: query.step,
        encoding,
    };
    let history = dashboard.history(key, client_of(&request)).await?;
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::VARY, "Accept-Encoding"))
        .content_type("application/json");
    if let Some(encoding) = encoding.content_encoding() {
        answer.insert_header((header::CONTENT_ENCODING, encoding));
    }
    Ok(answer.body(history))
}

/// The position of a stream whose request has no `Last-Event-ID`.
#[derive(Deserialize)]
pub(crate) struct StreamQuery {
    since: Option<u64>,
}

/// `GET /dashboard/stream`: one event a second, while the page is open.
pub(crate) async fn get_stream(
    request: HttpRequest,
    dashboard: web::Data<Dashboard>,
    query: Option<web::Query<StreamQuery>>,
) -> Result<HttpResponse, Problem> {
    if dashboard.hub.is_closed() {
        return Err(shutting_down());
    }
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Makes proxies send each event at once.
        .insert_header(("x-accel-buffering", "no"))
        .content_type("text/event-stream");
    if request.method() == Method::HEAD {
        return Ok(response.body(UnknownLength));
    }
    let last = request.headers().get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.parse().ok());
    let since = last.or_else(|| query.and_then(|query| query.since));
    let Some(slot) = dashboard.pages.take(client_of(&request)) else {
        let detail = "Too many pages are open already.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(10));
    };
    let events = Events::new(Arc::clone(&dashboard.hub), slot, since);
    dashboard.wake();
    Ok(response.streaming(events))
}

fn shutting_down() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server is shutting down.",
    )
    .retry_after(1)
}

//! Detects requests that a browser sends for a page of another origin. The ops endpoints reject them.

use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::uri::Authority;

/// Whether a browser sends this request for a page of another origin.
///
/// `Sec-Fetch-Site` (Fetch Metadata) decides where a browser sends it, because no page can set it. Otherwise `Origin` must be
/// the requested host. Following a link from another origin is allowed. Other clients send neither header.
pub(super) fn is_foreign(head: &RequestHead) -> bool {
    match text(&head.headers, "sec-fetch-site") {
        Some("same-origin" | "none") => false,
        Some(_) => !is_navigation(head),
        None => head
            .headers
            .get(header::ORIGIN)
            .is_some_and(|origin| !origin.to_str().is_ok_and(|origin| is_own(origin, head))),
    }
}

/// Whether the user navigates to this page in a window, not in a frame.
fn is_navigation(head: &RequestHead) -> bool {
    matches!(head.method, Method::GET | Method::HEAD)
        && text(&head.headers, "sec-fetch-mode") == Some("navigate")
        && text(&head.headers, "sec-fetch-dest") == Some("document")
}

/// Whether an origin (RFC 6454) is the requested host. The default port of the scheme may be missing in either.
fn is_own(origin: &str, head: &RequestHead) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |authority: &str| {
        authority
            .strip_suffix(default_port)
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    let requested = head.uri.authority().map(Authority::as_str);
    requested
        .or_else(|| text(&head.headers, "host"))
        .is_some_and(|requested| bare(requested) == bare(authority))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

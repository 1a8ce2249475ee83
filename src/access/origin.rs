//! Whose page a request comes from: the server's own, or somebody else's, which has no business with the operators'
//! endpoints.

use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::uri::Authority;

/// Whether a browser sends this request for a page of another origin.
///
/// Browsers that tell where a request comes from (Fetch Metadata, `Sec-Fetch-Site`) are believed: no page can set that.
/// Of others `Origin` must be the host that was asked. A link may lead here from anywhere; what is no browser says
/// neither.
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

/// Whether somebody goes to this page, in a window and not in a frame.
fn is_navigation(head: &RequestHead) -> bool {
    matches!(head.method, Method::GET | Method::HEAD)
        && text(&head.headers, "sec-fetch-mode") == Some("navigate")
        && text(&head.headers, "sec-fetch-dest") == Some("document")
}

/// Whether an origin (RFC 6454) is the host that was asked for, with the port left out where it is the scheme's own.
fn is_own(origin: &str, head: &RequestHead) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let own_port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |authority: &str| {
        authority
            .strip_suffix(own_port)
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    let asked = head.uri.authority().map(Authority::as_str);
    asked
        .or_else(|| text(&head.headers, "host"))
        .is_some_and(|asked| bare(asked) == bare(authority))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

//! The headers that tell a browser to be careful with what it is sent.

use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;

/// A year, for the host and none of its neighbours (RFC 6797).
const ALWAYS_ENCRYPTED: &str = "max-age=31536000";

/// Puts them on each answer that does not have its own; `always_encrypted` where the whole host can be told to be.
///
/// - no guessing of types, no frames, no opener, no use by pages of other origins
/// - nothing of ours in `Referer` where a link leads on
/// - nothing kept by caches, unless the answer says so itself
pub(super) fn careful(always_encrypted: bool) -> DefaultHeaders {
    let headers = DefaultHeaders::new()
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"))
        .add((header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"))
        .add((header::CACHE_CONTROL, "no-store"));
    if always_encrypted {
        headers.add((header::STRICT_TRANSPORT_SECURITY, ALWAYS_ENCRYPTED))
    } else {
        headers
    }
}

//! The security headers of every response.

use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;

/// One year, for this host without its subdomains (RFC 6797).
const ONE_YEAR: &str = "max-age=31536000";

/// Adds security headers to each response that does not set them itself.
///
/// - Browsers do not guess content types, embed pages in frames, or share windows and resources with other origins.
/// - Links send no `Referer`.
/// - Caches keep nothing.
/// - `is_encrypted`: browsers use HTTPS for the whole host from now on.
pub(super) fn security_headers(is_encrypted: bool) -> DefaultHeaders {
    let headers = DefaultHeaders::new()
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"))
        .add((header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"))
        .add((header::CACHE_CONTROL, "no-store"));
    if is_encrypted {
        headers.add((header::STRICT_TRANSPORT_SECURITY, ONE_YEAR))
    } else {
        headers
    }
}

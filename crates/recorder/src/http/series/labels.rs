//! What a request is called in a label: its method, its endpoint, its status. Every value here comes from a closed
//! set (ten methods, the application's own route patterns, status codes), so that no client can invent one.

use actix_web::{
    dev::{Path, Url},
    http::{Method, StatusCode},
};

/// The `endpoint` of a request that no route, and no default service, answered.
pub const UNMATCHED: &str = "unmatched";

/// The `method` of a request whose method is not one of the ten that have a label value, or not one of its route's.
pub const OTHER_METHOD: &str = "other";

/// The `http_status` of a request whose client left before the head of an answer was sent: 499, as nginx has it.
pub(in crate::http) fn client_closed_request() -> StatusCode {
    // Any number from 100 to 999 is a status code.
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The label of a method: its name if it is a method of [RFC 9110, section 9.3](https://www.rfc-editor.org/rfc/rfc9110#section-9.3),
/// `PATCH` or `QUERY`; `other` if not.
///
/// The list is short on purpose: each route can have a series for each of these names. Methods are case-sensitive
/// (section 9.1): `get` is `other`.
pub(in crate::http) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ if method.as_str() == "QUERY" => "QUERY",
        _ => OTHER_METHOD,
    }
}

/// The method's label once the answer's status is known: `other` for a method that the route does not have.
///
/// No handler answers such a request, so any client can send it to any route. With one label value for all these
/// methods, a route has one more series, and not one for each method. `is_routed` is whether a resource took the
/// request. Actix answers 405 where a resource has no route for the method, and 404 where the guards of all resources of
/// the path refuse it, as those of `App::route` do.
pub(in crate::http) fn answered_method(
    method: &'static str,
    status: StatusCode,
    is_routed: bool,
) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => OTHER_METHOD,
        StatusCode::NOT_FOUND if !is_routed => OTHER_METHOD,
        _ => method,
    }
}

/// The endpoint of a route pattern: the application's root has an empty one.
pub(in crate::http) fn pattern_label(pattern: &str) -> &str {
    if pattern.is_empty() { "/" } else { pattern }
}

/// The endpoint of an answered request whose path matched no resource.
///
/// A default service's answer is named after its scope: `/files/*`, or `/*` for the application's own. Actix does not
/// distinguish its answer from that of a middleware. So only answers that a middleware hardly ever gives count as its
/// answers: success, or a page that the client has already. All else is [`UNMATCHED`], as are answers to OPTIONS, which
/// a middleware for CORS gives to any path.
pub(in crate::http) fn unrouted_endpoint(
    path: &Path<Url>,
    method: &str,
    status: StatusCode,
) -> String {
    let is_content = status.is_success() || status == StatusCode::NOT_MODIFIED;
    if method == "OPTIONS" || !is_content {
        return UNMATCHED.to_owned();
    }
    format!("{}/*", scope_pattern(path).trim_end_matches('/'))
}

/// The pattern of the scopes that a path has passed through: what routing has consumed of it, with each parameter's
/// value replaced by the parameter's name.
fn scope_pattern(path: &Path<Url>) -> String {
    let mut pattern = String::new();
    for_each_segment(path, |stretch| match stretch {
        PathSegment::Literal(text) => pattern.push_str(text),
        PathSegment::Parameter(name) => {
            pattern.push('{');
            pattern.push_str(name);
            pattern.push('}');
        }
    });
    pattern
}

/// A stretch of a path.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) enum PathSegment<'a> {
    /// What stands so in the path.
    Literal(&'a str),
    /// The name of the parameter that the stretch is the value of.
    Parameter(&'a str),
}

/// Takes what routing has consumed of a path apart.
#[inline]
pub(in crate::http) fn for_each_segment<'a>(
    path: &'a Path<Url>,
    mut f: impl FnMut(PathSegment<'a>),
) {
    let whole = path.as_str();
    let consumed = whole.len() - path.unprocessed().len();
    let mut done = 0;
    for (name, value) in path.iter() {
        let start = (value.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        // A value that is no slice of the path (a static segment), or lies beyond what was consumed, is left out.
        let Some(end) = start
            .checked_add(value.len())
            .filter(|end| start >= done && *end <= consumed)
        else {
            continue;
        };
        f(PathSegment::Literal(&whole[done..start]));
        f(PathSegment::Parameter(name));
        done = end;
    }
    f(PathSegment::Literal(&whole[done..consumed]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_methods_keep_their_name_and_all_others_share_one() {
        const NAMED: [&str; 10] = [
            "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
        ];
        let label = |method: &str| method_label(&Method::from_bytes(method.as_bytes()).unwrap());
        for method in NAMED {
            assert_eq!(label(method), method);
        }
        for (method, why) in [
            ("get", "methods are case-sensitive"),
            ("query", "methods are case-sensitive"),
            ("BREW", "registered nowhere"),
            ("GETT", "one letter more"),
            ("PROPFIND", "registered by WebDAV"),
            ("VERSION-CONTROL", "registered by WebDAV"),
            ("PRI", "registered by HTTP/2"),
        ] {
            assert_eq!(label(method), OTHER_METHOD, "{why}: {method}");
        }
    }

    #[test]
    fn a_method_that_its_route_does_not_have_is_other() {
        for (status, is_routed, label, why) in [
            (405, true, OTHER_METHOD, "the resource has no such route"),
            (405, false, OTHER_METHOD, "an inner middleware says so"),
            (404, false, OTHER_METHOD, "the guards refused it"),
            (404, true, "PUT", "a handler did not find the thing"),
            (401, false, "PUT", "a middleware refused the caller"),
            (200, true, "PUT", "a handler answered"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(answered_method("PUT", status, is_routed), label, "{why}");
        }
    }
}

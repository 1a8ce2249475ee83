//! The values of the labels of a request: its method, its endpoint and its status. All values come from closed sets (ten
//! methods, the application's patterns, status codes), so that clients cannot invent any.

use actix_web::{
    dev::{Path, Url},
    http::{Method, StatusCode},
};

/// The `endpoint` of a request that no route and no default service answered.
pub const UNMATCHED: &str = "unmatched";

/// The `method` of a request whose method is not one of the ten with a label value, or that its route does not have.
pub const OTHER_METHOD: &str = "other";

/// The `http_status` of a request whose client left before the head of an answer was sent: 499, as in nginx.
pub(in crate::http) fn client_closed_request() -> StatusCode {
    // Any number from 100 to 999 is a status code.
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The label value of a method: its name if it is a method of
/// [RFC 9110, section 9.3](https://www.rfc-editor.org/rfc/rfc9110#section-9.3), `PATCH` or `QUERY`; otherwise `other`.
///
/// The list is short because each route can have a series for each name. Methods are case-sensitive (section 9.1), so
/// `get` is `other`.
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

/// The label value of a method once the status is known: `other` for a method that the route does not have.
///
/// No handler answers such a request, so any client can send it to any route. With one label value for all these methods,
/// a route has one more series, and not one for each method.
///
/// `is_routed` is whether a resource took the request. Actix answers 405 if a resource has no route for the method. It
/// answers 404 if the guards of all resources of the path refuse it, as those of `App::route` do.
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

/// The endpoint of a pattern. The pattern of the application's root is empty.
pub(in crate::http) fn pattern_label(pattern: &str) -> &str {
    if pattern.is_empty() { "/" } else { pattern }
}

/// The endpoint of an answered request whose path matched no resource.
///
/// The answer of a default service is named after its scope: `/files/*`, or `/*` for that of the application. Actix does
/// not distinguish such an answer from that of a middleware. So only a success and 304 count as answers of the default
/// service, because middlewares rarely give them. The rest is [`UNMATCHED`], including answers to OPTIONS, which a CORS
/// middleware gives to any path.
pub(in crate::http) fn unrouted_endpoint(
    path: &Path<Url>,
    method: &str,
    status: StatusCode,
) -> String {
    let is_content = status.is_success() || status == StatusCode::NOT_MODIFIED;
    if method == "OPTIONS" || !is_content {
        return UNMATCHED.to_owned();
    }
    format!("{}/*", consumed_pattern(path).trim_end_matches('/'))
}

/// The pattern of what routing has consumed of a path: each parameter's value is replaced by the parameter's name.
fn consumed_pattern(path: &Path<Url>) -> String {
    let mut pattern = String::new();
    for_each_segment(path, |segment| match segment {
        PathSegment::Literal(text) => pattern.push_str(text),
        PathSegment::Parameter { name, .. } => {
            pattern.push('{');
            pattern.push_str(name);
            pattern.push('}');
        }
    });
    pattern
}

/// Whether routing has consumed a path exactly by this pattern. With a rest of the path left, a resource did so that
/// serves everything below its path, as files do.
pub(in crate::http) fn is_consumed_by(path: &Path<Url>, pattern: &str) -> bool {
    consumed_pattern(path) == without_expressions(pattern)
}

/// A pattern with only the names of its parameters: `/{id:[0-9]{4}}` becomes `/{id}`.
fn without_expressions(pattern: &str) -> String {
    let (mut depth, mut is_expression) = (0_usize, false);
    let mut text = String::with_capacity(pattern.len());
    for c in pattern.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                is_expression &= depth > 0;
            }
            ':' if depth == 1 => is_expression = true,
            _ => {}
        }
        if !is_expression {
            text.push(c);
        }
    }
    text
}

/// A segment of a path.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) enum PathSegment<'a> {
    /// Text of the pattern.
    Literal(&'a str),
    Parameter {
        name: &'a str,
        value: &'a str,
    },
}

/// Splits what routing has consumed of a path into its segments.
#[inline]
pub(in crate::http) fn for_each_segment<'a>(
    path: &'a Path<Url>,
    mut f: impl FnMut(PathSegment<'a>),
) {
    let whole = path.as_str();
    let consumed = whole.len() - path.unprocessed().len();
    let mut done = 0;
    for (name, value) in path.iter() {
        let start = value.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        // Static values are no slices of the path. They are skipped, as are values beyond what was consumed.
        let Some(end) = start
            .checked_add(value.len())
            .filter(|end| start >= done && *end <= consumed)
        else {
            continue;
        };
        f(PathSegment::Literal(&whole[done..start]));
        f(PathSegment::Parameter { name, value });
        done = end;
    }
    f(PathSegment::Literal(&whole[done..consumed]));
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ResourceDef;

    use super::*;
    use crate::in_flight::METHOD_LABELS;

    #[test]
    fn ten_methods_keep_their_name_and_all_others_share_one() {
        let label = |method: &str| method_label(&Method::from_bytes(method.as_bytes()).unwrap());
        for method in METHOD_LABELS {
            assert_eq!(label(method), method);
        }
        for (method, why) in [
            ("get", "methods are case-sensitive"),
            ("query", "methods are case-sensitive"),
            ("BREW", "not registered"),
            ("GETT", "a typing error"),
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

    #[test]
    fn a_pattern_without_expressions_has_only_names() {
        for (pattern, expected) in [
            ("", ""),
            ("/a/{b}", "/a/{b}"),
            ("/{id:[0-9]{4}}/{x:a:b}", "/{id}/{x}"),
            ("/{tail}*", "/{tail}*"),
            ("/a:b/{c:.*}", "/a:b/{c}"),
        ] {
            assert_eq!(without_expressions(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_resource_that_serves_what_is_below_it_has_consumed_its_own_pattern() {
        for (consuming, path, pattern, expected) in [
            (&["/static"][..], "/static/none", "/static", true),
            (
                &["/{user:[a-z]+}", "/files"],
                "/ada/files/x",
                "/{user:[a-z]+}/files",
                true,
            ),
            (&[""], "/none", "", true),
            (&["/scope"], "/scope/refused", "/scope/refused", false),
            (&[""], "/refused", "/refused", false),
        ] {
            let mut routed = Path::new(Url::new(path.parse().unwrap()));
            for prefix in consuming {
                assert!(ResourceDef::prefix(*prefix).capture_match_info(&mut routed));
            }
            assert_eq!(is_consumed_by(&routed, pattern), expected, "{path}");
        }
    }
}

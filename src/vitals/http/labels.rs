//! What a request is called in a label: its method, its endpoint, its status. Every value here comes from a closed
//! set (registered methods, the application's own route patterns, status codes), so that no client can invent one.

use actix_web::{
    dev::{Path, Url},
    http::{Method, StatusCode},
};

/// The `endpoint` of a request that no route, and no default service, answered.
pub const UNMATCHED: &str = "unmatched";

/// The `method` of a request whose method is in no registry.
pub const OTHER_METHOD: &str = "other";

/// The `http_status` of a request whose client left before the head of an answer was sent: 499, as nginx has it.
pub(super) fn client_closed_request() -> StatusCode {
    // Any number from 100 to 999 is a status code.
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The label of a method: its name if it stands in the
/// [IANA HTTP method registry](https://www.iana.org/assignments/http-methods), `other` if not.
///
/// Methods are case-sensitive (RFC 9110, section 9.1): `get` is `other`.
pub(super) fn method_label(method: &Method) -> &'static str {
    /// Matches a name against itself, so that each stands here once.
    macro_rules! registered {
        ($name:expr; $($method:literal)*) => { match $name { $($method => $method,)* _ => OTHER_METHOD } };
    }
    // What most requests are, no name need be compared for.
    match *method {
        Method::GET => return "GET",
        Method::POST => return "POST",
        Method::PUT => return "PUT",
        Method::DELETE => return "DELETE",
        _ => {}
    }
    registered!(method.as_str();
        "PATCH" "HEAD" "OPTIONS" "CONNECT" "TRACE" "QUERY"
        "ACL" "BASELINE-CONTROL" "BIND" "CHECKIN" "CHECKOUT" "COPY" "LABEL" "LINK" "LOCK" "MERGE"
        "MKACTIVITY" "MKCALENDAR" "MKCOL" "MKREDIRECTREF" "MKWORKSPACE" "MOVE" "ORDERPATCH" "PRI"
        "PROPFIND" "PROPPATCH" "REBIND" "REPORT" "SEARCH" "UNBIND" "UNCHECKOUT" "UNLINK" "UNLOCK"
        "UPDATE" "UPDATEREDIRECTREF" "VERSION-CONTROL"
    )
}

/// The endpoint of a route pattern: the application's root has an empty one.
pub(super) fn pattern_label(pattern: &str) -> &str {
    if pattern.is_empty() { "/" } else { pattern }
}

/// The endpoint of an answered request whose path matched no resource.
///
/// Paths that nothing answered (404, 405) are all [`UNMATCHED`]. Any other status means that a default service
/// answered: it is named after the scope that it stands in, `/files/*`, or `/*` for the application's own.
pub(super) fn unrouted_endpoint(path: &Path<Url>, status: StatusCode) -> String {
    if matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
    ) {
        return UNMATCHED.to_owned();
    }
    format!("{}/*", scope_pattern(path).trim_end_matches('/'))
}

/// The pattern of the scopes that a path has passed through: what routing has consumed of it, with each parameter's
/// value replaced by the parameter's name.
fn scope_pattern(path: &Path<Url>) -> String {
    let mut pattern = String::new();
    for_each_stretch(path, |stretch| match stretch {
        Stretch::Literal(text) => pattern.push_str(text),
        Stretch::Parameter(name) => {
            pattern.push('{');
            pattern.push_str(name);
            pattern.push('}');
        }
    });
    pattern
}

/// A stretch of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stretch<'a> {
    /// What stands so in the path.
    Literal(&'a str),
    /// The name of the parameter that the stretch is the value of.
    Parameter(&'a str),
}

/// Takes what routing has consumed of a path apart.
#[inline]
pub(super) fn for_each_stretch<'a>(path: &'a Path<Url>, mut f: impl FnMut(Stretch<'a>)) {
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
        f(Stretch::Literal(&whole[done..start]));
        f(Stretch::Parameter(name));
        done = end;
    }
    f(Stretch::Literal(&whole[done..consumed]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_methods_keep_their_name_and_all_others_share_one() {
        for (method, label, why) in [
            ("GET", "GET", "registered"),
            (
                "VERSION-CONTROL",
                "VERSION-CONTROL",
                "registered, by WebDAV",
            ),
            ("get", OTHER_METHOD, "methods are case-sensitive"),
            ("BREW", OTHER_METHOD, "registered nowhere"),
            ("GETT", OTHER_METHOD, "one letter more"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(method_label(&method), label, "{why}");
        }
    }
}

//! The shape of a routed path: what routing has made of it, told apart without building a string anew.
//!
//! Actix tells the pattern of a request's route as a new string each time. The shape takes its place as a key: the path's
//! literal parts, and between them which parameter of which resource stands there. Requests of one shape have one pattern.
//! A parameter is known by the address of its name, for each resource keeps names of its own; two that differ only in
//! what a parameter must look like are told apart so.
//!
//! Where two resources are on one path, and guards choose between them, their patterns are the same, or else one lists
//! several paths; such a one is called by whichever of the two was met first.

use actix_web::HttpRequest;

use super::labels::{Stretch, for_each_stretch};

/// Stands before a parameter. No path has this byte in it.
const PARAMETER: u8 = 0xff;

/// Writes the shape of a request's path behind what `out` holds; whether it has one. A path that routing has not consumed
/// to its end was answered by no resource, and has none.
#[inline]
pub(super) fn write(request: &HttpRequest, out: &mut Vec<u8>) -> bool {
    let path = request.match_info();
    if !path.unprocessed().is_empty() {
        return false;
    }
    for_each_stretch(path, |stretch| match stretch {
        Stretch::Literal(text) => out.extend_from_slice(text.as_bytes()),
        Stretch::Parameter(name) => {
            out.push(PARAMETER);
            out.extend_from_slice(&name.as_ptr().addr().to_ne_bytes());
        }
    });
    true
}

/// Whether a pattern is remembered for a shape. Where a path without parameters is not its own pattern, there may be any
/// number of others with the same one.
pub(super) fn is_known_by(request: &HttpRequest, pattern: &str) -> bool {
    let path = request.match_info();
    path.segment_count() > 0 || path.as_str() == pattern
}

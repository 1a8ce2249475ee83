//! The shape of a routed path: what routing has made of it, told apart without building a string anew.
//!
//! Actix tells the pattern of a request's route as a new string each time. The shape takes its place as a key: the last
//! parameter of the path, and what follows it. A parameter is known by the address of its name, for each resource and
//! scope keeps names of its own; so it tells all that stands before it too, and requests of one shape have one pattern. A
//! path without parameters is its own shape.
//!
//! Where two resources are on one path, and guards choose between them, their patterns are the same, or else one lists
//! several paths; such a one is called by whichever of the two was met first. So is the default service of a scope whose
//! path is consumed with its own: Actix finds the pattern of what is beside it by the path alone, without asking guards.

use actix_web::HttpRequest;

/// What tells the path of a request from paths of other patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::http) struct PathKey<'a> {
    /// The address of the last parameter's name; 0 without one.
    parameter: usize,
    /// What follows the last parameter.
    rest: &'a str,
}

impl<'a> PathKey<'a> {
    /// The shape of a request's path. A path that routing has not consumed to its end was answered by no resource, and has
    /// none.
    #[inline]
    pub(in crate::http) fn of(request: &'a HttpRequest) -> Option<Self> {
        let path = request.match_info();
        if !path.unprocessed().is_empty() {
            return None;
        }
        let whole = path.as_str();
        let (mut parameter, mut end) = (0, 0);
        for (name, value) in path.iter() {
            let start = value.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
            // A value that is no slice of the path (a static segment) is passed over.
            if start >= end && start <= whole.len() {
                parameter = name.as_ptr().addr();
                end = start + value.len();
            }
        }
        let rest = whole.get(end..)?;
        Some(Self { parameter, rest })
    }

    /// Whether a pattern is remembered for this shape. Where a path without parameters is not its own pattern, there may be
    /// any number of others with the same one.
    pub(in crate::http) fn is_determined_by(self, pattern: &str) -> bool {
        self.parameter != 0 || self.rest == pattern
    }

    /// The same, to be kept.
    pub(in crate::http) fn to_owned(self) -> OwnedPathKey {
        OwnedPathKey {
            parameter: self.parameter,
            rest: self.rest.into(),
        }
    }
}

/// A [`PathKey`] that outlives its request.
#[derive(Debug)]
pub(in crate::http) struct OwnedPathKey {
    parameter: usize,
    rest: Box<str>,
}

impl OwnedPathKey {
    #[inline]
    pub(in crate::http) fn as_key(&self) -> PathKey<'_> {
        PathKey {
            parameter: self.parameter,
            rest: &self.rest,
        }
    }
}

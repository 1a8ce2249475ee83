//! The key of a routed path, by which its pattern is recognised without building it.
//!
//! Actix builds the pattern of a request's route as a new string each time. The path key replaces it in maps: the last
//! parameter of the path, and the text after it. A parameter is identified by the address of its name. Each resource and
//! each scope has names of its own, so the address identifies everything before it, too. Requests with one key have one
//! pattern. A path without parameters is its own key.
//!
//! Two cases share a key with a resource, and have the name of whichever was seen first. One is a second resource on the
//! same path, chosen by guards, that lists several paths. The other is the default service of a scope that has consumed the
//! whole path: Actix finds the pattern of the resource beside it, because it does not run guards again.

use actix_web::HttpRequest;

/// The key of a routed path. Requests with one key have one pattern.
#[derive(Clone, Copy, Debug, Hash)]
pub(in crate::http) struct PathKey<'a> {
    /// The address of the last parameter's name; 0 without one.
    parameter: usize,
    /// What follows the last parameter.
    rest: &'a str,
}

impl PartialEq for PathKey<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // Where a parameter ends the path, nothing follows. Comparing two empty texts would read from an address that is no
        // memory; the vector instructions of the C library allow that, but take over 80 ns.
        self.parameter == other.parameter
            && self.rest.len() == other.rest.len()
            && (self.rest.is_empty() || self.rest == other.rest)
    }
}

impl Eq for PathKey<'_> {}

impl<'a> PathKey<'a> {
    /// The key of a request's path; none if routing has not consumed the whole path, because then no resource took it.
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
            // Static values are no slices of the path and are skipped.
            if start >= end && start <= whole.len() {
                parameter = name.as_ptr().addr();
                end = start + value.len();
            }
        }
        let rest = whole.get(end..)?;
        Some(Self { parameter, rest })
    }

    /// Whether the number of keys with this pattern is bounded, so that the pair may be cached. A path without parameters
    /// that is not its own pattern may be one of any number.
    pub(in crate::http) fn is_determined_by(self, pattern: &str) -> bool {
        self.parameter != 0 || self.rest == pattern
    }

    /// A copy to keep in a map.
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

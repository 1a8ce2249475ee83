//! The endpoints that are ops endpoints, by the patterns that they were mounted with. Their names would not do: an
//! application may have a `/health/records/{id}` or a `/docs/{id}` of its own, and may mount the ops endpoints in a scope.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

/// The patterns of the ops endpoints that were requested so far, and of the endpoints that the service declares as such.
/// Cheap to clone; clones share the patterns.
///
/// Requests of other endpoints do not take this lock, except notable ones.
#[derive(Clone, Debug, Default)]
pub struct OpsEndpoints(Arc<RwLock<HashSet<Box<str>>>>);

impl OpsEndpoints {
    /// Returns a set that begins with these patterns.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns = patterns.into_iter().map(Box::from).collect();
        Self(Arc::new(RwLock::new(patterns)))
    }

    /// Whether the endpoint with this pattern is an ops endpoint.
    pub fn contains(&self, pattern: &str) -> bool {
        let patterns = self.0.read().unwrap_or_else(PoisonError::into_inner);
        patterns.contains(pattern)
    }

    /// Adds the endpoint with this pattern.
    pub fn add(&self, pattern: &str) {
        if !self.contains(pattern) {
            let mut patterns = self.0.write().unwrap_or_else(PoisonError::into_inner);
            patterns.insert(pattern.into());
        }
    }
}

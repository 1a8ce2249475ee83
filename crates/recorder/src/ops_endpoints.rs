//! Which endpoints are the operators': as they were mounted, and not by what they are called. An application may have a
//! `/health/records/{id}` or a `/docs/{id}` of its own, and may mount the ops endpoints in a scope.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

/// The patterns of the ops endpoints that have been asked for, and of those that the service counts among them. Cheap to
/// clone; a clone is the same.
///
/// Nothing here is asked about while a request is served, but for a request of an ops endpoint itself.
#[derive(Clone, Debug, Default)]
pub struct OpsEndpoints(Arc<RwLock<HashSet<Box<str>>>>);

impl OpsEndpoints {
    /// Those with these patterns, to begin with.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns = patterns.into_iter().map(Box::from).collect();
        Self(Arc::new(RwLock::new(patterns)))
    }

    /// Whether the endpoint with this pattern is one of them.
    pub fn contains(&self, pattern: &str) -> bool {
        let patterns = self.0.read().unwrap_or_else(PoisonError::into_inner);
        patterns.contains(pattern)
    }

    /// Counts the endpoint with this pattern among them.
    pub fn add(&self, pattern: &str) {
        if !self.contains(pattern) {
            let mut patterns = self.0.write().unwrap_or_else(PoisonError::into_inner);
            patterns.insert(pattern.into());
        }
    }
}

//! The endpoint of a request that left no answer: its client left, its handler panicked, or a middleware returned an error.
//! Actix drops the route together with the request, so it is found again from the path and the method.
//!
//! A path alone does not determine the route. Guards choose between resources of one path, and a middleware within may
//! rewrite the path. Neither can be run again, but answered requests show the results:
//!
//! - Actix' map of resources finds the first resource that a path matches. It has no way to ask for the next one.
//! - An answer by another resource shows that guards passed the first one over. Both facts are kept, for all workers.
//! - Paths are normalised before the search if the application is known to rewrite paths.

use std::{
    cell::Cell,
    collections::HashMap,
    iter,
    sync::{Mutex, MutexGuard, PoisonError},
};

use actix_web::dev::{Path, ResourceDef, ResourceMap, Url};

use crate::http::series::labels::{PathSegment, for_each_segment};

/// The most dynamic segments that Actix allows in a pattern.
const MOST_PARAMETERS: usize = 16;

/// What answered requests have shown of an application's guards. It is locked on the first answer of each route and
/// outcome, and for requests that no resource answered.
#[derive(Debug, Default)]
pub(super) struct LearntRoutes(Mutex<HashMap<String, LearntResource>>);

/// What is known of the resource with one pattern.
#[derive(Debug, Default)]
struct LearntResource {
    /// Methods that it has answered.
    answered: Vec<&'static str>,
    /// Methods that another resource answered, on a path that this one matches first.
    passed_over: Vec<&'static str>,
    /// The resources that did so.
    rivals: Vec<Rival>,
}

/// A resource that shares paths with one before it.
#[derive(Debug)]
struct Rival {
    pattern: String,
    /// Matches the paths that it answers.
    paths: ResourceDef,
}

fn note(methods: &mut Vec<&'static str>, method: &'static str) {
    if !methods.contains(&method) {
        methods.push(method);
    }
}

impl LearntRoutes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, LearntResource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resource with this pattern answered the method, on a path that the resource `first` matches first.
    fn learn(&self, first: &str, path: &Path<Url>, method: &'static str, pattern: &str) {
        let mut resources = self.lock();
        let answering = resources.entry(pattern.to_owned()).or_default();
        note(&mut answering.answered, method);
        if first == pattern {
            return;
        }
        let first = resources.entry(first.to_owned()).or_default();
        note(&mut first.passed_over, method);
        let is_known =
            |rival: &Rival| rival.pattern == pattern && rival.paths.is_match(path.as_str());
        if !first.rivals.iter().any(is_known)
            && let Some(paths) = paths_like(path)
        {
            first.rivals.push(Rival {
                pattern: pattern.to_owned(),
                paths,
            });
        }
    }

    /// The resource that most likely serves the method on a path which the resource `first` matches first; none if that
    /// one does not, and no other is known.
    fn find(&self, first: String, path: &str, method: &str) -> Option<String> {
        let resources = self.lock();
        let answered = |pattern: &str| {
            let resource = resources.get(pattern);
            resource.is_some_and(|resource| resource.answered.contains(&method))
        };
        let Some(resource) = resources.get(&first) else {
            return Some(first);
        };
        if answered(&first) {
            return Some(first);
        }
        let rivals = resource.rivals.iter();
        let rivals = rivals.filter(|rival| rival.paths.is_match(path));
        let rivals = rivals.map(|rival| rival.pattern.as_str());
        let found = if resource.passed_over.contains(&method) {
            rivals.min_by_key(|pattern| (!answered(pattern), parameters(pattern)))
        } else {
            // A resource that would hide a more specific one is separated from it by guards.
            let first = iter::once(first.as_str());
            first
                .chain(rivals)
                .min_by_key(|pattern| parameters(pattern))
        };
        found.map(str::to_owned)
    }
}

/// Matches the paths that differ from a routed one in the values of their parameters only. The expressions of the
/// parameters are not known here.
fn paths_like(path: &Path<Url>) -> Option<ResourceDef> {
    let (mut pattern, mut parameters) = (String::new(), 0);
    for_each_segment(path, |segment| match segment {
        PathSegment::Literal(text) => pattern.push_str(text),
        PathSegment::Parameter { value, .. } => {
            let expression = if value.contains('/') { ":.*" } else { "" };
            pattern += &["{p", &parameters.to_string(), expression, "}"].concat();
            parameters += 1;
        }
    });
    // With more, Actix would panic.
    (parameters <= MOST_PARAMETERS).then(|| ResourceDef::new(pattern))
}

/// The routes of the application that one worker serves.
#[derive(Debug)]
pub(super) struct ApplicationRoutes {
    map: ResourceMap,
    rewrites_paths: Cell<bool>,
}

impl ApplicationRoutes {
    /// The routes of an application with this map, which may be known to rewrite paths.
    pub(super) fn new(map: &ResourceMap, rewrites_paths: bool) -> Self {
        Self {
            map: map.clone(),
            rewrites_paths: Cell::new(rewrites_paths),
        }
    }

    /// Learns from a request that came by the path `sent`, was routed by the path `routed`, and was answered by the
    /// resource with this pattern.
    #[cold]
    pub(super) fn learn(
        &self,
        learnt: &LearntRoutes,
        sent: &str,
        routed: &Path<Url>,
        method: &'static str,
        pattern: &str,
    ) {
        if sent != routed.as_str() {
            self.rewrites_paths.set(true);
        }
        if let Some(first) = self.map.match_pattern(routed.as_str()) {
            learnt.learn(&first, routed, method, pattern);
        }
    }

    /// The pattern of the resource that a path, as it came, and a method most likely lead to.
    #[cold]
    pub(super) fn find(&self, learnt: &LearntRoutes, path: &str, method: &str) -> Option<String> {
        let find = |path: &str| learnt.find(self.map.match_pattern(path)?, path, method);
        if !self.rewrites_paths.get() {
            return find(path);
        }
        let found = rewritten(path).into_iter();
        let found = found.filter_map(|path| find(&path));
        found.min_by_key(|pattern| parameters(pattern))
    }

    /// The pattern of the resource for a path as routing sees it. A request that no resource took has the name of the
    /// first one that its path matches.
    #[cold]
    pub(super) fn find_routed(
        &self,
        learnt: &LearntRoutes,
        path: &str,
        method: &str,
    ) -> Option<String> {
        let first = self.map.match_pattern(path)?;
        learnt.find(first.clone(), path, method).or(Some(first))
    }
}

/// What a path may become by normalisation, its own form included: Actix' middleware merges slashes, and treats a slash at
/// the end in one of three ways.
fn rewritten(path: &str) -> [String; 4] {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    let trimmed = match merged.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    let slashed = format!("{}/", trimmed.trim_end_matches('/'));
    [trimmed.to_owned(), slashed, merged, path.to_owned()]
}

/// The number of parameters in a pattern. A pattern with fewer is more specific.
fn parameters(pattern: &str) -> usize {
    let mut depth = 0_usize;
    let mut parameters = 0;
    for c in pattern.chars() {
        match c {
            '{' => {
                parameters += usize::from(depth == 0);
                depth += 1;
            }
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    parameters
}

#[cfg(test)]
mod tests;

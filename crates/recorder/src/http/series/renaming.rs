//! Names of endpoints that the service prefers to their patterns.
//!
//! The service's function is called once for each pattern, when the first series with it is created. The number of names
//! is bounded by the patterns of the application.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use crate::ops_endpoints::OpsEndpoints;

/// A function from a pattern to a name.
pub type Rename = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The names of endpoints: their patterns, unless there is a function.
#[derive(Clone, Default)]
pub struct Renaming {
    function: Option<Arc<RenameFunction>>,
}

struct RenameFunction {
    rename: Rename,
    /// Endpoints that keep their patterns.
    ops_endpoints: OpsEndpoints,
    names: Mutex<HashMap<Box<str>, Arc<str>>>,
}

impl Renaming {
    /// Renames endpoints by `rename`, if there is one. The ops endpoints keep their patterns.
    pub fn new(rename: Option<Rename>, ops_endpoints: OpsEndpoints) -> Self {
        let function = rename.map(|rename| {
            Arc::new(RenameFunction {
                rename,
                ops_endpoints,
                names: Mutex::default(),
            })
        });
        Self { function }
    }

    /// Returns the name of the endpoint with this pattern. It is the pattern if the function panics or returns an empty
    /// name.
    pub(in crate::http) fn name(&self, pattern: &str) -> Arc<str> {
        let Some(function) = &self.function else {
            return pattern.into();
        };
        if function.ops_endpoints.contains(pattern) {
            return pattern.into();
        }
        let mut names = function
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(pattern) {
            return Arc::clone(name);
        }
        let renamed = catch_unwind(AssertUnwindSafe(|| (function.rename)(pattern)));
        let name: Arc<str> = match renamed {
            Ok(name) if !name.is_empty() => name.into(),
            _ => pattern.into(),
        };
        names.insert(pattern.into(), Arc::clone(&name));
        name
    }
}

impl fmt::Debug for Renaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renaming")
            .field("has_function", &self.function.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn each_pattern_is_renamed_once_and_kept_without_a_new_name() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let renaming = Renaming::new(
            Some(Arc::new(|pattern: &str| {
                CALLS.fetch_add(1, Relaxed);
                match pattern {
                    "/orders/{id}" => "order".to_owned(),
                    "/broken" => panic!("no name"),
                    _ => String::new(),
                }
            })),
            OpsEndpoints::new(["/metrics"]),
        );
        for _ in 0..3 {
            assert_eq!(&*renaming.name("/orders/{id}"), "order");
            assert_eq!(&*renaming.name("/broken"), "/broken");
            assert_eq!(&*renaming.name("/carts"), "/carts");
            assert_eq!(&*renaming.name("/metrics"), "/metrics");
        }
        assert_eq!(CALLS.load(Relaxed), 3);
        assert_eq!(&*Renaming::default().name("/orders/{id}"), "/orders/{id}");
    }
}

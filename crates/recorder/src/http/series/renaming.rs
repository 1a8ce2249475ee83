//! The names that a service would rather have its endpoints called by than by their patterns.
//!
//! A pattern is asked about once, when the first series of it is born, and its name is remembered: the names are as many
//! as the patterns, of which an application has a closed set.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use crate::ops_endpoints::OpsEndpoints;

/// From a pattern to a name.
pub type Rename = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Which endpoint is called what; by their patterns, unless there is a function to ask.
#[derive(Clone, Default)]
pub struct Renaming {
    asked: Option<Arc<Asked>>,
}

struct Asked {
    rename: Rename,
    /// These are not asked about.
    ops_endpoints: OpsEndpoints,
    names: Mutex<HashMap<Box<str>, Arc<str>>>,
}

impl Renaming {
    /// Asks `rename`, if there is one, but for the ops endpoints.
    pub fn new(rename: Option<Rename>, ops_endpoints: OpsEndpoints) -> Self {
        let asked = rename.map(|rename| {
            Arc::new(Asked {
                rename,
                ops_endpoints,
                names: Mutex::default(),
            })
        });
        Self { asked }
    }

    /// The name of the endpoint with this pattern. Where the function panics, or has none, it is the pattern.
    pub(in crate::http) fn name(&self, pattern: &str) -> Arc<str> {
        let Some(asked) = &self.asked else {
            return pattern.into();
        };
        if asked.ops_endpoints.contains(pattern) {
            return pattern.into();
        }
        let mut names = asked.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(pattern) {
            return Arc::clone(name);
        }
        let renamed = catch_unwind(AssertUnwindSafe(|| (asked.rename)(pattern)));
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
            .field("asks", &self.asked.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn a_pattern_is_asked_about_once_and_keeps_its_own_where_there_is_no_answer() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let renaming = Renaming::new(
            Some(Arc::new(|pattern: &str| {
                ASKED.fetch_add(1, Relaxed);
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
        assert_eq!(ASKED.load(Relaxed), 3);
        assert_eq!(&*Renaming::default().name("/orders/{id}"), "/orders/{id}");
    }
}

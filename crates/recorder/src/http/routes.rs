//! The name of a request that is gone: its client left, its handler panicked, or a middleware dropped it for an error.
//! Actix keeps the route only in the request, so it is looked up again from the path and the method.
//!
//! A path alone does not determine the route. Guards choose between resources that match it, and a middleware within
//! may rewrite it. Neither can be run again, but answered requests show their results, which are remembered:
//!
//! - A resource that has answered a method is taken to serve it. One that came before it in the order of routing, and was
//!   passed over, is taken not to serve that method.
//! - Among resources without a known answer, the first is taken, as without guards. The exception is a resource that
//!   would hide a more specific one behind it. Then guards must separate the two, and the more specific one is taken.
//! - A path is normalised before it is looked up where the application is known to rewrite paths.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use actix_web::dev::ResourceMap;

use crate::http::resources::Resources;

/// How one application's requests find their routes. Each worker learns for itself; nothing here is asked for a request
/// that is answered by a route that the worker knows.
#[derive(Debug)]
pub(super) struct LearntRoutes {
    map: ResourceMap,
    /// None where the map cannot be read: then its own answer has to do.
    resources: Option<Resources>,
    rewrites_paths: Cell<bool>,
    /// By pattern.
    known: RefCell<HashMap<String, Methods>>,
}

/// Methods by their results at a resource.
#[derive(Debug, Default)]
struct Methods {
    answered: Vec<&'static str>,
    passed_over: Vec<&'static str>,
}

impl Methods {
    fn note(methods: &mut Vec<&'static str>, method: &'static str) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
}

impl LearntRoutes {
    /// The routes of an application with this map, which may be known to rewrite paths.
    pub(super) fn new(map: &ResourceMap, rewrites_paths: bool) -> Self {
        let resources = Resources::read(map);
        if resources.is_none() {
            tracing::debug!("the map of resources cannot be read: guards are not considered");
        }
        Self {
            map: map.clone(),
            resources,
            rewrites_paths: Cell::new(rewrites_paths),
            known: RefCell::default(),
        }
    }

    /// Learns from a request that came by the path `sent`, was routed by the path `routed`, and was answered by the resource
    /// with this pattern.
    #[cold]
    pub(super) fn learn(&self, sent: &str, routed: &str, method: &'static str, pattern: &str) {
        if sent != routed {
            self.rewrites_paths.set(true);
        }
        let Some(resources) = &self.resources else {
            return;
        };
        let mut known = self.known.borrow_mut();
        let candidates = resources.candidates(routed);
        if !candidates.iter().any(|candidate| candidate == pattern) {
            return;
        }
        for candidate in candidates {
            let is_answer = candidate == pattern;
            let methods = known.entry(candidate).or_default();
            if is_answer {
                Methods::note(&mut methods.answered, method);
                return;
            }
            Methods::note(&mut methods.passed_over, method);
        }
    }

    /// Whether the resource with this pattern serves everything below its path, as files do.
    #[cold]
    pub(super) fn serves_below(&self, path: &str, pattern: &str) -> bool {
        let resources = self.resources.as_ref();
        resources.is_some_and(|resources| resources.serves_below(path, pattern))
    }

    /// The pattern of the resource that a path, as it came, and a method most likely lead to.
    #[cold]
    pub(super) fn find(&self, path: &str, method: &str) -> Option<String> {
        if !self.rewrites_paths.get() {
            return self.find_exactly(path, method);
        }
        let found = rewritten(path).into_iter();
        let found = found.filter_map(|path| self.find_exactly(&path, method));
        found.min_by_key(|pattern| parameters(pattern))
    }

    /// The same, of a path as routing sees it.
    #[cold]
    pub(super) fn find_exactly(&self, path: &str, method: &str) -> Option<String> {
        let Some(resources) = &self.resources else {
            return self.map.match_pattern(path);
        };
        let known = self.known.borrow();
        let candidates = resources.candidates(path);
        let answered = |pattern: &String| {
            (known.get(pattern)).is_some_and(|methods| methods.answered.contains(&method))
        };
        let passed_over = |pattern: &String| {
            (known.get(pattern)).is_some_and(|methods| methods.passed_over.contains(&method))
        };
        let mut likely = candidates
            .iter()
            .filter(|pattern| answered(pattern) || !passed_over(pattern));
        let Some(first) = likely.next() else {
            return candidates.into_iter().next();
        };
        if answered(first) {
            return Some(first.clone());
        }
        let chosen = likely.fold(first, |chosen, pattern| {
            if parameters(pattern) < parameters(chosen) {
                pattern
            } else {
                chosen
            }
        });
        Some(chosen.clone())
    }
}

/// What a path may become by normalisation, its own form included: Actix' middleware merges slashes, and has three ways
/// with one at the end.
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

/// How many parameters a pattern has: the fewer, the more specific it is.
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
mod tests {
    use std::rc::Rc;

    use actix_web::{App, HttpResponse, dev::Service, guard, test as actix_test, web};

    use super::*;

    /// The routes of an application, known by its first request.
    async fn routes(rewrites_paths: bool, config: fn(&mut web::ServiceConfig)) -> LearntRoutes {
        let routes = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&routes);
        let app = App::new()
            .configure(config)
            .wrap_fn(move |request, service| {
                *seen.borrow_mut() =
                    Some(LearntRoutes::new(request.resource_map(), rewrites_paths));
                service.call(request)
            });
        let app = actix_test::init_service(app).await;
        actix_test::call_service(&app, actix_test::TestRequest::default().to_request()).await;
        routes.take().expect("a request was seen")
    }

    fn ok() -> actix_web::Route {
        web::to(HttpResponse::Ok)
    }

    fn found(routes: &LearntRoutes, method: &str, path: &str) -> String {
        routes.find(path, method).unwrap_or_default()
    }

    #[actix_web::test]
    async fn a_resource_that_would_hide_another_gives_way_until_it_has_answered() {
        let routes = routes(false, |config| {
            config
                .service(web::resource("/w/{id}").guard(guard::Get()).route(ok()))
                .service(web::resource("/w/boom").guard(guard::Post()).route(ok()));
        })
        .await;
        assert_eq!(found(&routes, "GET", "/w/1"), "/w/{id}");
        assert_eq!(found(&routes, "POST", "/w/boom"), "/w/boom");
        routes.learn("/w/1", "/w/1", "GET", "/w/{id}");
        assert_eq!(found(&routes, "GET", "/w/boom"), "/w/{id}");
        assert_eq!(found(&routes, "POST", "/w/boom"), "/w/boom");
        assert_eq!(found(&routes, "GET", "/nowhere"), "");
    }

    #[actix_web::test]
    async fn the_first_of_resources_is_taken_until_it_was_passed_over() {
        let routes = routes(false, |config| {
            config
                .service(web::resource("/items/mine").guard(guard::Get()).route(ok()))
                .service(web::resource("/items/{id}").route(ok()));
        })
        .await;
        routes.learn("/items/5", "/items/5", "GET", "/items/{id}");
        assert_eq!(found(&routes, "GET", "/items/mine"), "/items/mine");
        assert_eq!(found(&routes, "DELETE", "/items/mine"), "/items/mine");
        routes.learn("/items/mine", "/items/mine", "DELETE", "/items/{id}");
        assert_eq!(found(&routes, "DELETE", "/items/mine"), "/items/{id}");
        assert_eq!(found(&routes, "GET", "/items/mine"), "/items/mine");
        // What guards part by something else than the method: the first that serves it.
        routes.learn("/items/mine", "/items/mine", "DELETE", "/items/mine");
        assert_eq!(found(&routes, "DELETE", "/items/mine"), "/items/mine");
    }

    #[actix_web::test]
    async fn a_path_is_normalised_where_the_application_does_so() {
        let config = |config: &mut web::ServiceConfig| {
            config
                .service(web::resource("/trimmed").route(ok()))
                .service(web::resource("/slashed/").route(ok()))
                .service(web::resource("/{tail:.*}").guard(guard::Post()).route(ok()));
        };
        let routes = routes(false, config).await;
        assert_eq!(found(&routes, "GET", "/trimmed/"), "/{tail:.*}");
        routes.learn("/trimmed/", "/trimmed", "GET", "/trimmed");
        for (path, expected) in [
            ("/trimmed", "/trimmed"),
            ("/trimmed/", "/trimmed"),
            ("//trimmed///", "/trimmed"),
            ("/slashed", "/slashed/"),
            ("/slashed//", "/slashed/"),
            ("/elsewhere/", "/{tail:.*}"),
        ] {
            assert_eq!(found(&routes, "GET", path), expected, "{path}");
        }
        assert_eq!(rewritten("//"), ["/", "/", "/", "//"]);
    }
}

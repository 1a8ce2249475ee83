//! What answered requests show of the guards that separate resources of one path.

use super::*;

/// An application whose resources have these patterns, in this order. No guard is known.
struct TestApplication {
    routes: ApplicationRoutes,
    learnt: LearntRoutes,
}

impl TestApplication {
    fn new<const N: usize>(patterns: [&str; N]) -> Self {
        let mut map = ResourceMap::new(ResourceDef::prefix(""));
        for pattern in patterns {
            map.add(&mut ResourceDef::new(pattern), None);
        }
        Self {
            routes: ApplicationRoutes::new(&map, false),
            learnt: LearntRoutes::default(),
        }
    }

    /// The resource with this pattern answers a request.
    fn answer(&self, method: &'static str, path: &str, pattern: &str) {
        self.answer_rewritten(method, path, path, pattern);
    }

    fn answer_rewritten(&self, method: &'static str, sent: &str, path: &str, pattern: &str) {
        let mut routed = Path::new(Url::new(path.parse().unwrap()));
        assert!(ResourceDef::new(pattern).capture_match_info(&mut routed));
        let learnt = &self.learnt;
        self.routes.learn(learnt, sent, &routed, method, pattern);
    }

    fn found(&self, method: &str, path: &str) -> Option<String> {
        self.routes.find(&self.learnt, path, method)
    }
}

macro_rules! assert_found {
    ($application:expr, $method:literal, $path:literal, $expected:literal) => {
        let found = $application.found($method, $path);
        assert_eq!(found.as_deref(), Some($expected), "{} {}", $method, $path);
    };
}

#[test]
fn a_resource_behind_another_is_found_once_it_has_answered() {
    let application = TestApplication::new(["/w/{id}", "/w/boom", "/w/fine"]);
    assert_found!(application, "GET", "/w/1", "/w/{id}");
    assert_found!(application, "POST", "/w/boom", "/w/{id}");
    application.answer("POST", "/w/boom", "/w/boom");
    assert_found!(application, "POST", "/w/boom", "/w/boom");
    // By what is known, the guards of the more specific one may choose it for any method.
    assert_found!(application, "GET", "/w/boom", "/w/boom");
    application.answer("GET", "/w/boom", "/w/{id}");
    assert_found!(application, "GET", "/w/boom", "/w/{id}");
    assert_found!(application, "POST", "/w/boom", "/w/boom");
    assert_eq!(application.found("GET", "/nowhere"), None);
}

#[test]
fn a_resource_that_was_passed_over_is_not_taken_for_that_method() {
    let application = TestApplication::new(["/w/{id}", "/w/boom", "/w/fine"]);
    application.answer("POST", "/w/fine", "/w/fine");
    assert_eq!(application.found("POST", "/w/boom"), None, "not known yet");
    assert_found!(application, "GET", "/w/boom", "/w/{id}");
    let mut path = Path::new(Url::new("/w/boom".parse().unwrap()));
    ResourceDef::prefix("").capture_match_info(&mut path);
    let routes = &application.routes;
    let found = routes.find_routed(&application.learnt, path.as_str(), "POST");
    assert_eq!(found.as_deref(), Some("/w/{id}"), "no resource took it");
}

#[test]
fn the_first_of_resources_is_taken_until_it_was_passed_over() {
    let application = TestApplication::new(["/items/mine", "/items/{id}"]);
    application.answer("GET", "/items/5", "/items/{id}");
    assert_found!(application, "GET", "/items/mine", "/items/mine");
    assert_found!(application, "DELETE", "/items/mine", "/items/mine");
    application.answer("DELETE", "/items/mine", "/items/{id}");
    assert_found!(application, "DELETE", "/items/mine", "/items/{id}");
    assert_found!(application, "GET", "/items/mine", "/items/mine");
    // Guards may separate them by something else than the method: the first that serves it is taken.
    application.answer("DELETE", "/items/mine", "/items/mine");
    assert_found!(application, "DELETE", "/items/mine", "/items/mine");
}

#[test]
fn what_is_learnt_of_one_path_holds_for_paths_like_it() {
    let application =
        TestApplication::new(["/{any:.*}", "/users/{user}/posts/{post}", "/f/{tail:.*}"]);
    application.answer("PUT", "/users/ada/posts/1", "/users/{user}/posts/{post}");
    application.answer("PUT", "/f/a/b", "/f/{tail:.*}");
    assert_found!(
        application,
        "PUT",
        "/users/bob/posts/22",
        "/users/{user}/posts/{post}"
    );
    assert_found!(application, "PUT", "/f/c/d/e", "/f/{tail:.*}");
    assert_eq!(application.found("PUT", "/users/bob/posts"), None);
    assert_found!(application, "GET", "/users/bob/posts", "/{any:.*}");
}

#[test]
fn names_that_repeat_and_more_parameters_than_actix_allows_are_no_fault() {
    let application = TestApplication::new(["/{all:.*}"]);
    let mut path = Path::new(Url::new("/1/x/2".parse().unwrap()));
    ResourceDef::prefix("/{id}").capture_match_info(&mut path);
    ResourceDef::new("/x/{id}").capture_match_info(&mut path);
    let learnt = &application.learnt;
    let pattern = "/{id}/x/{id}";
    application
        .routes
        .learn(learnt, "/1/x/2", &path, "GET", pattern);
    assert_found!(application, "GET", "/3/x/4", "/{id}/x/{id}");

    let long = "/1".repeat(MOST_PARAMETERS + 1);
    let mut path = Path::new(Url::new(long.parse().unwrap()));
    for _ in 0..=MOST_PARAMETERS {
        ResourceDef::prefix("/{a}").capture_match_info(&mut path);
    }
    assert!(paths_like(&path).is_none());
    application
        .routes
        .learn(learnt, &long, &path, "POST", "/long");
    assert_eq!(application.found("POST", &long), None);
}

#[test]
fn a_resource_is_learnt_once_however_often_it_answers() {
    let application = TestApplication::new(["/w/{id}", "/w/boom", "/w/{other}/"]);
    for _ in 0..3 {
        application.answer("POST", "/w/boom", "/w/boom");
        application.answer("PUT", "/w/boom", "/w/boom");
    }
    let resources = application.learnt.lock();
    assert_eq!(resources["/w/{id}"].rivals.len(), 1);
    assert_eq!(resources["/w/{id}"].passed_over, ["POST", "PUT"]);
    assert_eq!(resources["/w/boom"].answered, ["POST", "PUT"]);
}

#[test]
fn a_path_is_normalised_if_the_application_does_so() {
    let application = TestApplication::new(["/trimmed", "/slashed/", "/{tail:.*}"]);
    assert_found!(application, "GET", "/trimmed/", "/{tail:.*}");
    application.answer_rewritten("GET", "/trimmed/", "/trimmed", "/trimmed");
    for (path, expected) in [
        ("/trimmed", "/trimmed"),
        ("/trimmed/", "/trimmed"),
        ("//trimmed///", "/trimmed"),
        ("/slashed", "/slashed/"),
        ("/slashed//", "/slashed/"),
        ("/elsewhere/", "/{tail:.*}"),
    ] {
        let found = application.found("GET", path);
        assert_eq!(found.as_deref(), Some(expected), "{path}");
    }
    assert_eq!(rewritten("//"), ["/", "/", "/", "//"]);
}

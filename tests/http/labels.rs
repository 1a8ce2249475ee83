//! Labels are bounded, whatever a client sends, and never run into each other.

use actix_vitals::vitals::Vitals;
use actix_web::{App, test as actix_test, web};

use crate::{app, count::Count};

#[actix_web::test]
async fn endpoints_are_patterns_through_scopes_and_only_unanswered_paths_are_unmatched() {
    let vitals = Vitals::builder().build().expect("defaults build");
    let service = actix_test::init_service(
        App::new()
            .configure(app::routes)
            .service(
                web::scope("/mounted").default_service(web::to(async || "a default of its own")),
            )
            .default_service(web::to(async |request: actix_web::HttpRequest| {
                if request.path().starts_with("/spa") {
                    actix_web::HttpResponse::Ok().body("the page of a single-page application")
                } else {
                    actix_web::HttpResponse::NotFound().finish()
                }
            }))
            .wrap(vitals.http()),
    )
    .await;
    let cases = [
        ("/ok", "/ok", "a static route"),
        ("/items/1", "/items/{id}", "a parameter"),
        (
            "/users/ada/posts/1",
            "/users/{user}/posts/{post}",
            "two scopes and three parameters",
        ),
        (
            "/users/ada/nothing",
            "/users/{user}/*",
            "the default service of a scope with a parameter",
        ),
        (
            "/users/nothing/nothing",
            "/users/{user}/*",
            "a parameter that equals what follows it",
        ),
        (
            "/mounted/a/b/c",
            "/mounted/*",
            "the default service of a scope",
        ),
        (
            "/spa/page",
            "/*",
            "the application's default service answered",
        ),
        ("/none", "unmatched", "nothing answered"),
        ("/%ff%fe", "unmatched", "no UTF-8"),
    ];
    for (path, ..) in cases {
        let request = actix_test::TestRequest::with_uri(path).to_request();
        let response = actix_test::call_service(&service, request).await;
        actix_test::read_body(response).await;
    }
    let endpoints: Vec<String> = Count::of(&vitals)
        .requests()
        .into_keys()
        .map(|[_, endpoint, _]| endpoint)
        .collect();
    for (path, endpoint, why) in cases {
        assert!(
            endpoints.iter().any(|known| known == endpoint),
            "{why}: {path} is not {endpoint}: {endpoints:?}"
        );
    }
    assert_eq!(endpoints.len(), 7, "and no endpoint besides: {endpoints:?}");
}

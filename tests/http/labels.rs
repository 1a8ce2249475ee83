//! Labels are bounded, whatever a client sends, and never run into each other.

use actix_vitals::vitals::Vitals;
use actix_web::{App, http::Method, test as actix_test, web};

use crate::{app, count::Count};

fn resident_bytes() -> u64 {
    let me = procfs::process::Process::myself().expect("/proc");
    me.statm().expect("statm").resident * procfs::page_size()
}

#[actix_web::test]
async fn a_million_paths_ten_thousand_methods_and_every_status_stay_within_the_budget() {
    const BUDGET: usize = 200;
    let vitals = Vitals::builder()
        .max_series(BUDGET)
        .build()
        .expect("these settings build");
    let status = async |status: web::Path<u16>| {
        let status = actix_web::http::StatusCode::from_u16(*status).expect("a status");
        actix_web::HttpResponse::new(status)
    };
    let service = actix_test::init_service(
        App::new()
            .configure(app::routes)
            .route("/status/{status}", web::to(status))
            .wrap(vitals.http()),
    )
    .await;
    let call = async |method: &Method, path: String| {
        let request = actix_test::TestRequest::with_uri(&path)
            .method(method.clone())
            .to_request();
        actix_test::call_service(&service, request).await;
    };
    // The warm-up: every status once, so that what is measured is growth by names that clients invent.
    for status in 200..600 {
        call(&Method::GET, format!("/status/{status}")).await;
    }
    call(&Method::GET, "/none".to_owned()).await;
    let resident_before = resident_bytes();

    for path in 0..1_000_000 {
        call(&Method::GET, format!("/{path:x}/{}", path % 7)).await;
    }
    for method in 0..10_000 {
        let method = Method::from_bytes(format!("M{method}").as_bytes()).expect("a method");
        call(&method, "/status/200".to_owned()).await;
    }
    for status in 200..600 {
        call(&Method::GET, format!("/status/{status}")).await;
    }

    let grown = resident_bytes().saturating_sub(resident_before);
    assert!(grown < 5 << 20, "resident memory grew by {grown} bytes");
    let count = Count::of(&vitals);
    let requests = count.requests();
    assert_eq!(requests.values().sum::<u64>(), 1_010_801);
    assert!(requests.len() <= BUDGET + 1, "{} series", requests.len());
    let overflow = ["overflow"; 3].map(str::to_owned);
    let overflowed = count.samples("vitals_series_overflow_total", ["family"]);
    assert_eq!(
        overflowed[&["http_requests_total".to_owned()]],
        requests[&overflow] as f64
    );
    assert!(requests[&overflow] > 0);
}

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
        actix_test::call_service(&service, request).await;
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

//! Labels are bounded whatever a client sends, and distinct label sets stay distinct.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_vitals::registry::{Format, RegistryError};
use actix_vitals::{BuildError, Builder, Naming, Vitals};
use actix_web::{App, test as actix_test, web};

use crate::http::{app, count::Count};

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

/// Calls each path on an application with this monitoring.
async fn call(vitals: &Vitals, paths: &[&str]) {
    let application = App::new().configure(app::routes).wrap(vitals.http());
    let service = actix_test::init_service(application).await;
    for path in paths {
        let request = actix_test::TestRequest::with_uri(path).to_request();
        let response = actix_test::call_service(&service, request).await;
        actix_test::read_body(response).await;
    }
}

#[actix_web::test]
async fn endpoints_are_called_as_the_service_wants_and_asked_about_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let vitals = Vitals::builder()
        .rename_endpoints(move |pattern| {
            count.fetch_add(1, Ordering::SeqCst);
            match pattern {
                "/items/{id}" | "/ok" => "items",
                _ => "",
            }
        })
        .exclude(["/ok"])
        .build()
        .expect("these settings build");
    for _ in 0..3 {
        call(&vitals, &["/items/1", "/items/2", "/ok", "/none"]).await;
    }
    let count = Count::of(&vitals);
    let of = |method: &str, endpoint: &str, status: &str| {
        count.requests()[&[method, endpoint, status].map(str::to_owned)]
    };
    assert_eq!(
        of("GET", "items", "200"),
        6,
        "what is excluded is so by its pattern"
    );
    assert_eq!(of("GET", "unmatched", "404"), 3);
    assert_eq!(count.requests().len(), 2);
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "once for each pattern that is recorded"
    );
}

#[actix_web::test]
async fn with_opentelemetry_names_the_scheme_is_that_of_the_listener() {
    let vitals = Vitals::builder().naming(Naming::OpenTelemetry).build();
    let vitals = vitals.expect("these settings build");
    call(&vitals, &["/ok", "/none"]).await;
    let requests = Count::of(&vitals).samples(
        "http_server_request_duration_seconds_count",
        [
            "http_request_method",
            "http_route",
            "http_response_status_code",
            "url_scheme",
        ],
    );
    let expected = [["GET", "/ok", "200", "http"], ["GET", "", "404", "http"]];
    let expected: BTreeSet<[String; 4]> = expected.map(|values| values.map(str::to_owned)).into();
    assert_eq!(requests.into_keys().collect::<BTreeSet<_>>(), expected);
    let in_progress = Count::of(&vitals).samples("http_server_active_requests", ["url_scheme"]);
    assert_eq!(in_progress[&["http".to_owned()]], 0.0);
}

#[actix_web::test]
async fn every_series_of_a_service_has_its_labels() {
    let vitals = Vitals::builder()
        .label("region", "eu \"west\"")
        .label("tier", "gold")
        .build()
        .expect("these settings build");
    let own =
        prometheus::IntCounterVec::new(prometheus::Opts::new("orders_total", "Orders."), &["tier"]);
    let own = own.expect("a metric");
    own.with_label_values(&["silver"]).inc();
    let registered = vitals.registry().prometheus().register(Box::new(own));
    registered.expect("a new metric");
    call(&vitals, &["/ok"]).await;
    let text = String::from_utf8(vitals.registry().encode(Format::Text)).expect("UTF-8");
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.len() > 100, "{text}");
    for sample in samples {
        assert!(sample.contains(r#"region="eu \"west\"""#), "{sample}");
        let tier = if sample.starts_with("orders_total") {
            "silver"
        } else {
            "gold"
        };
        assert!(sample.contains(&format!("tier=\"{tier}\"")), "{sample}");
    }
}

#[test]
fn labels_of_a_service_that_cannot_be_are_refused() {
    let long = "x".repeat(257);
    let many = (0..17).fold(Vitals::builder(), |builder, at| {
        builder.label(format!("l{at}"), "")
    });
    let error = |builder: Builder| builder.build().expect_err("a bad label");
    assert!(matches!(error(many), BuildError::TooManyLabels(17)));
    let builder = Vitals::builder().label("region", long);
    assert!(matches!(error(builder), BuildError::LongLabel(name) if name == "region"));
    for (name, why) in [
        ("endpoint", "a family has it"),
        ("le", "reserved"),
        ("a-b", "no name"),
    ] {
        let refused = error(Vitals::builder().label(name, "x"));
        assert!(
            matches!(
                refused,
                BuildError::Registry(
                    RegistryError::DuplicateLabel { .. } | RegistryError::InvalidLabel { .. }
                )
            ),
            "{why}: {refused}"
        );
    }
}

/// The names of all labels in an exposition.
fn label_names(exposition: &str) -> BTreeSet<String> {
    let samples = exposition.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.split_once('{')?.1.rsplit_once('}'))
        .flat_map(|(labels, _)| labels.split("\",").map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()))
        .collect()
}

#[actix_web::test]
async fn a_label_of_a_service_that_any_family_has_is_refused() {
    for naming in [Naming::Vitals, Naming::OpenTelemetry] {
        let builder = || Vitals::builder().naming(naming);
        let vitals = builder().build().expect("defaults build");
        let app = App::new()
            .configure(app::routes)
            .configure(vitals.ops())
            .wrap(vitals.http());
        let service = actix_test::init_service(app).await;
        for path in ["/ok", "/none", "/endless", "/metrics", "/livez"] {
            let request = actix_test::TestRequest::with_uri(path).to_request();
            drop(actix_test::call_service(&service, request).await);
        }
        let text = String::from_utf8(vitals.registry().encode(Format::Text)).expect("UTF-8");
        let mut names = label_names(&text);
        let described = vitals.registry().describe().into_iter();
        names.extend(described.flat_map(|family| family.labels));
        for expected in ["family", "collector", "worker", "version", "le"] {
            assert!(names.contains(expected), "{expected} is not in {names:?}");
        }
        for name in &names {
            let refused = builder().label(name, "x").build();
            assert!(
                matches!(
                    refused,
                    Err(BuildError::Registry(
                        RegistryError::DuplicateLabel { .. } | RegistryError::InvalidLabel { .. }
                    ))
                ),
                "{naming:?} {name}: {refused:?}"
            );
        }
        let twice = builder().label("region", "eu").label("region", "us");
        assert!(twice.build().is_err(), "one name twice");
    }
}

#[actix_web::test]
async fn two_of_them_in_one_process_do_not_meet() {
    let [one, other] = [(); 2].map(|()| Vitals::builder().build().expect("defaults build"));
    call(&one, &["/ok", "/ok"]).await;
    call(&other, &["/items/1"]).await;
    let of = |vitals: &Vitals| Count::of(vitals).requests().into_values().sum::<u64>();
    assert_eq!((of(&one), of(&other)), (2, 1));
    let app = App::new().configure(one.ops()).wrap(one.http());
    let app = actix_test::init_service(app).await;
    let unlike = App::new().configure(other.ops());
    let unlike = actix_test::init_service(unlike).await;
    one.drain();
    let ready = || actix_test::TestRequest::with_uri("/readyz").to_request();
    assert_eq!(actix_test::call_service(&app, ready()).await.status(), 503);
    assert_eq!(
        actix_test::call_service(&unlike, ready()).await.status(),
        200
    );
    assert_eq!(of(&other), 1);
}

/// Routes that differ only in parameters, or that share a path.
fn look_alikes(config: &mut web::ServiceConfig) {
    let ok = async || actix_web::HttpResponse::Ok().body("hello");
    let with_header = || actix_web::guard::Header("x-other", "yes");
    config
        .service(web::resource("/things/{id:\\d+}").to(ok))
        .service(web::resource("/things/{id}").to(ok))
        .service(web::resource("/{page:[a-z]+}").guard(with_header()).to(ok))
        .service(web::resource("/about").to(ok))
        .service(web::resource("/tail/{rest:.*}").to(ok))
        .service(web::scope("/{tenant}").service(web::resource("/things/{id}").to(ok)));
}

#[actix_web::test]
async fn routes_that_look_alike_are_told_apart_however_often_they_are_asked_for() {
    let vitals = Vitals::builder().build().expect("defaults build");
    let app = App::new().configure(look_alikes).wrap(vitals.http());
    let service = actix_test::init_service(app).await;
    let cases = [
        ("/things/42", "no", "/things/{id:\\d+}"),
        ("/things/four", "no", "/things/{id}"),
        ("/about", "no", "/about"),
        ("/about", "yes", "/{page:[a-z]+}"),
        ("/tail/of/one", "no", "/tail/{rest:.*}"),
        ("/tail/of/another", "no", "/tail/{rest:.*}"),
        ("/acme/things/42", "no", "/{tenant}/things/{id}"),
        ("/nowhere/to/be/found", "no", "unmatched"),
    ];
    for _ in 0..3 {
        for (path, other, _) in cases {
            let request = actix_test::TestRequest::with_uri(path).insert_header(("x-other", other));
            let response = actix_test::call_service(&service, request.to_request()).await;
            actix_test::read_body(response).await;
        }
    }
    let text = String::from_utf8(vitals.registry().encode(Format::Text)).expect("text");
    for (path, _, endpoint) in cases {
        let times = 3 * cases.iter().filter(|case| case.2 == endpoint).count();
        let label = endpoint.replace('\\', "\\\\");
        let line = text.lines().find(|line| {
            line.starts_with("http_requests_total") && line.contains(&format!("\"{label}\""))
        });
        let count = line.and_then(|line| line.rsplit(' ').next());
        assert_eq!(count, Some(&*times.to_string()), "{path} as {endpoint}");
    }
}

//! Tests the names of requests behind middlewares, guards and rewritten paths, in every order.

use std::{fmt, future::ready};

use actix_vitals::{Vitals, http::NotableRequest};
use actix_web::{
    App, HttpRequest, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse},
    error, guard,
    http::{Method, StatusCode},
    middleware::{
        DefaultHeaders, ErrorHandlerResponse, ErrorHandlers, Logger, NormalizePath, from_fn,
    },
    test::{TestRequest, init_service, read_body, try_call_service},
    web,
};

use crate::{http::count::Count, support::log::Log};

fn vitals() -> Vitals {
    Vitals::builder().build().expect("defaults build")
}

fn labels(values: [&str; 3]) -> [String; 3] {
    values.map(str::to_owned)
}

/// Calls a service as a connection does: an error is answered, and each body is read.
async fn call<S, B>(service: &S, method: &str, path: &str)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = TestRequest::with_uri(path).method(method).to_request();
    match try_call_service(service, request).await {
        Ok(response) => drop(read_body(response).await),
        Err(error) => {
            let body = error.error_response().into_body();
            drop(actix_web::body::to_bytes(body).await);
        }
    }
}

async fn ok() -> HttpResponse {
    HttpResponse::Ok().body("hello")
}

async fn boom() -> HttpResponse {
    panic!("the handler panics as it should")
}

/// Resources that share paths. The first would hide the others if it were not for guards.
fn rivals(config: &mut web::ServiceConfig) {
    let posts_and_puts = guard::Any(guard::Post()).or(guard::Put());
    let boom_resource = web::resource("/w/boom").guard(posts_and_puts);
    config
        .service(web::resource("/w/{id}").guard(guard::Get()).to(ok))
        .service(boom_resource.route(web::put().to(ok)).to(boom))
        .service(web::resource("/w/fine").guard(guard::Post()).to(ok));
}

#[actix_web::test]
async fn a_panic_is_that_of_the_resource_that_the_guards_chose() {
    let vitals = vitals();
    let service = init_service(App::new().configure(rivals).wrap(vitals.http())).await;
    // One answer shows that there is another resource on this path.
    call(&service, "PUT", "/w/boom").await;
    call(&service, "POST", "/w/boom").await;
    call(&service, "GET", "/w/boom").await;
    call(&service, "POST", "/w/boom").await;
    let count = Count::of(&vitals);
    let expected = [
        (labels(["GET", "/w/{id}", "200"]), 1),
        (labels(["POST", "/w/boom", "500"]), 2),
        (labels(["PUT", "/w/boom", "200"]), 1),
    ];
    assert_eq!(count.requests(), expected.into());
    assert_eq!(count.panics(), [("/w/boom".to_owned(), 2)].into());
}

#[actix_web::test]
async fn what_one_worker_has_answered_names_the_panics_of_all() {
    let vitals = vitals();
    let app = || App::new().configure(rivals).wrap(vitals.http());
    let (one, other) = (init_service(app()).await, init_service(app()).await);
    call(&one, "PUT", "/w/boom").await;
    call(&other, "POST", "/w/boom").await;
    let panics = Count::of(&vitals).panics();
    assert_eq!(panics, [("/w/boom".to_owned(), 1)].into());
}

/// What Actix does not show: see docs/decisions/route-identification.md.
#[actix_web::test]
async fn a_resource_behind_guards_has_no_name_of_its_own_before_its_first_answer() {
    let vitals = vitals();
    let service = init_service(App::new().configure(rivals).wrap(vitals.http())).await;
    call(&service, "POST", "/w/boom").await;
    let by_path = (labels(["POST", "/w/{id}", "500"]), 1);
    assert_eq!(Count::of(&vitals).requests(), [by_path.clone()].into());

    // Now the first resource of the path is known not to serve the method.
    call(&service, "POST", "/w/fine").await;
    call(&service, "POST", "/w/boom").await;
    call(&service, "PUT", "/w/boom").await;
    call(&service, "POST", "/w/boom").await;
    let expected = [
        by_path,
        (labels(["POST", "/w/boom", "500"]), 1),
        (labels(["POST", "/w/fine", "200"]), 1),
        (labels(["POST", "unmatched", "500"]), 1),
        (labels(["PUT", "/w/boom", "200"]), 1),
    ];
    assert_eq!(Count::of(&vitals).requests(), expected.into());
}

#[actix_web::test]
async fn what_is_excluded_is_decided_by_the_resource_that_answered() {
    let vitals = Vitals::builder().exclude(["/w/{id}"]).build();
    let vitals = vitals.expect("these settings build");
    let service = init_service(App::new().configure(rivals).wrap(vitals.http())).await;
    for (method, path) in [
        ("PUT", "/w/boom"),
        ("POST", "/w/boom"),
        ("POST", "/w/fine"),
        ("GET", "/w/boom"),
        ("GET", "/w/7"),
        ("POST", "/w/7"),
    ] {
        call(&service, method, path).await;
    }
    let count = Count::of(&vitals);
    let expected = [
        (labels(["POST", "/w/boom", "500"]), 1),
        (labels(["POST", "/w/fine", "200"]), 1),
        (labels(["PUT", "/w/boom", "200"]), 1),
    ];
    assert_eq!(count.requests(), expected.into());
    assert_eq!(count.panics(), [("/w/boom".to_owned(), 1)].into());
    assert_eq!(count.in_progress(), 0);
}

#[actix_web::test]
async fn an_excluded_request_is_in_no_gauge_and_its_rival_is_in_progress_from_its_head_on() {
    let vitals = Vitals::builder().exclude(["/w/{id}"]).build();
    let vitals = vitals.expect("these settings build");
    let service = init_service(App::new().configure(rivals).wrap(vitals.http())).await;
    let count = Count::of(&vitals);
    let get = TestRequest::with_uri("/w/7").to_request();
    let get = try_call_service(&service, get).await.expect("an answer");
    assert_eq!(count.in_progress(), 0);
    let post = TestRequest::post().uri("/w/fine").to_request();
    let post = try_call_service(&service, post).await.expect("an answer");
    assert_eq!(count.in_progress(), 1);
    drop((get, post));
    assert_eq!(count.in_progress(), 0);
}

/// Refuses a path that begins so, by an error.
async fn refuse(
    request: ServiceRequest,
    next: actix_web::middleware::Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if request.path().starts_with("/mw") {
        return Err(error::ErrorUnauthorized("who are you?"));
    }
    next.call(request).await
}

#[actix_web::test]
async fn a_file_that_is_not_there_keeps_its_method() {
    for (mount, endpoint) in [("/static", "/static"), ("/", "/"), ("", "/")] {
        let vitals = vitals();
        let app = App::new()
            .route("/first", web::get().to(ok))
            .service(actix_files::Files::new(mount, "examples"))
            .wrap(vitals.http());
        let service = init_service(app).await;
        let base = mount.trim_end_matches('/');
        for (method, path) in [
            ("GET", "/README.md"),
            ("GET", "/nowhere"),
            ("HEAD", "/nowhere"),
            ("PUT", "/README.md"),
            ("BREW", "/nowhere"),
        ] {
            call(&service, method, &format!("{base}{path}")).await;
        }
        let expected = [
            (labels(["GET", endpoint, "200"]), 1),
            (labels(["GET", endpoint, "404"]), 1),
            (labels(["HEAD", endpoint, "404"]), 1),
            (labels(["other", endpoint, "405"]), 2),
        ];
        assert_eq!(Count::of(&vitals).requests(), expected.into(), "{mount}");
    }
}

/// An error that panics when it is asked for its status.
#[derive(Debug)]
struct NoStatus;

impl fmt::Display for NoStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no status")
    }
}

impl ResponseError for NoStatus {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(7).expect("the error panics as it should")
    }
}

#[actix_web::test]
async fn an_error_that_panics_when_it_is_answered_is_a_panic_of_its_request() {
    let vitals = vitals();
    let app = App::new()
        .route(
            "/handler",
            web::get().to(async || Err::<String, _>(NoStatus)),
        )
        .service(
            web::scope("/middleware")
                .wrap_fn(|_: ServiceRequest, _| ready(Err::<ServiceResponse, _>(NoStatus.into())))
                .route("/{id}", web::get().to(ok)),
        )
        .wrap(vitals.http());
    let service = init_service(app).await;
    call(&service, "GET", "/handler").await;
    call(&service, "GET", "/middleware/7").await;
    let count = Count::of(&vitals);
    let expected = [
        (labels(["GET", "/handler", "500"]), 1),
        (labels(["GET", "/middleware/{id}", "500"]), 1),
    ];
    assert_eq!(count.requests(), expected.clone().into());
    let panics = [
        ("/handler".to_owned(), 1),
        ("/middleware/{id}".to_owned(), 1),
    ];
    assert_eq!(count.panics(), panics.into());
    assert_eq!(count.in_progress(), 0);

    // The answer is not used: a middleware outside makes its own.
    let request = TestRequest::with_uri("/middleware/8").to_request();
    drop(try_call_service(&service, request).await.map(|_| ()));
    let expected = [(expected[0].0.clone(), 1), (expected[1].0.clone(), 2)];
    assert_eq!(count.requests(), expected.into());
}

#[actix_web::test]
async fn an_answer_whose_body_a_middleware_outside_replaces_keeps_its_status() {
    let vitals = vitals();
    let app = App::new()
        .route("/ok", web::get().to(ok))
        .route(
            "/missing",
            web::get().to(async || HttpResponse::NotFound().body("no")),
        )
        .route(
            "/error",
            web::get().to(async || Err::<String, _>(error::ErrorConflict("no"))),
        )
        .wrap(vitals.http())
        .wrap(
            ErrorHandlers::new().default_handler(|response: ServiceResponse<_>| {
                let (request, response) = response.into_parts();
                let page = HttpResponse::build(response.status()).body("a page of our own");
                let response = ServiceResponse::new(request, page).map_into_right_body();
                Ok(ErrorHandlerResponse::Response(response))
            }),
        );
    let service = init_service(app).await;
    for path in ["/ok", "/missing", "/error", "/nowhere"] {
        call(&service, "GET", path).await;
    }
    let count = Count::of(&vitals);
    let expected = [
        (labels(["GET", "/error", "409"]), 1),
        (labels(["GET", "/missing", "404"]), 1),
        (labels(["GET", "/ok", "200"]), 1),
        (labels(["GET", "unmatched", "404"]), 1),
    ];
    assert_eq!(count.requests(), expected.clone().into());
    assert_eq!(count.durations(), expected.into());
    assert_eq!(count.aborted().len(), 0);
    assert_eq!(count.in_progress(), 0);
}

fn slashes(config: &mut web::ServiceConfig) {
    config
        .route("/boom", web::to(boom))
        .route("/boom/with/", web::to(boom))
        .route("/mw/a/{x}", web::get().to(ok))
        .service(
            web::scope("/scope/{name}")
                .wrap(from_fn(refuse))
                .route("/boom", web::to(boom))
                .route("/mw", web::to(ok)),
        );
}

#[actix_web::test]
async fn a_rewritten_path_leads_to_the_resource_that_it_was_rewritten_for() {
    let expected = [
        (labels(["GET", "/boom", "500"]), 2),
        (labels(["GET", "/mw/a/{x}", "401"]), 1),
        (labels(["GET", "/scope/{name}/boom", "500"]), 1),
        (labels(["GET", "unmatched", "401"]), 1),
        (labels(["GET", "unmatched", "404"]), 1),
    ];
    let paths = [
        "/boom/",
        "//boom",
        "/mw/a/1/",
        "/mw/none/",
        "/scope/ada//boom/",
        "/none/",
    ];
    macro_rules! check {
        ($why:literal, $app:expr) => {
            let vitals = vitals();
            let service = init_service($app.wrap(vitals.http())).await;
            for path in paths {
                call(&service, "GET", path).await;
            }
            assert_eq!(Count::of(&vitals).requests(), expected.clone().into(), $why);
        };
    }
    let app = || App::new().configure(slashes);
    check!(
        "authentication within",
        app().wrap(from_fn(refuse)).wrap(NormalizePath::trim())
    );
    check!(
        "others around",
        app()
            .wrap(from_fn(refuse))
            .wrap(NormalizePath::trim())
            .wrap(DefaultHeaders::new())
            .wrap(Logger::default())
    );
    check!(
        "a function around",
        app()
            .wrap(from_fn(refuse))
            .wrap(NormalizePath::trim())
            .wrap_fn(|request, service| service.call(request))
    );
}

#[actix_web::test]
async fn slashes_that_are_added_or_merged_are_seen_through_too() {
    let vitals = vitals();
    let app = App::new().configure(slashes).wrap(NormalizePath::new(
        actix_web::middleware::TrailingSlash::Always,
    ));
    let service = init_service(app.wrap(vitals.http())).await;
    call(&service, "GET", "/boom//with").await;
    let panics = Count::of(&vitals).panics();
    assert_eq!(panics, [("/boom/with/".to_owned(), 1)].into());
}

#[actix_web::test]
async fn a_path_is_taken_as_it_is_where_nothing_rewrites_it() {
    let vitals = vitals();
    let app = App::new().configure(slashes).wrap(from_fn(refuse));
    let service = init_service(app.wrap(vitals.http())).await;
    call(&service, "GET", "/mw/a/1/").await;
    call(&service, "GET", "/mw/a/1").await;
    let expected = [
        (labels(["GET", "/mw/a/{x}", "401"]), 1),
        (labels(["GET", "unmatched", "401"]), 1),
    ];
    assert_eq!(Count::of(&vitals).requests(), expected.into());
}

/// Answers everything below `/private` by itself.
async fn gate(
    request: ServiceRequest,
    next: actix_web::middleware::Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if request.path().contains("/private") {
        return Ok(request.into_response(HttpResponse::Unauthorized().finish()));
    }
    if request.method() == Method::OPTIONS {
        return Ok(request.into_response(HttpResponse::NoContent().finish()));
    }
    next.call(request).await
}

#[actix_web::test]
async fn only_a_default_service_that_answers_is_named_after_its_scope() {
    let vitals = vitals();
    let app = App::new()
        .route("/private/{id}", web::get().to(ok))
        .service(
            web::scope("/files")
                .wrap(from_fn(gate))
                .route("/private", web::get().to(ok))
                .default_service(web::to(ok)),
        )
        .default_service(web::to(async |request: HttpRequest| {
            if request.path().contains("missing") {
                HttpResponse::NotFound().finish()
            } else {
                HttpResponse::Ok().body("the page")
            }
        }))
        .wrap(from_fn(gate));
    let service = init_service(app.wrap(vitals.http())).await;
    for (method, path) in [
        ("GET", "/private/1"),
        ("GET", "/private/1/2"),
        ("GET", "/files/private"),
        ("GET", "/files/private/1"),
        ("GET", "/files/a/b"),
        ("GET", "/page"),
        ("GET", "/missing"),
        ("OPTIONS", "/page"),
        ("OPTIONS", "/files/a"),
    ] {
        call(&service, method, path).await;
    }
    let expected = [
        (labels(["GET", "/*", "200"]), 1),
        (labels(["GET", "/files/*", "200"]), 1),
        (labels(["GET", "/files/private", "401"]), 1),
        (labels(["GET", "/private/{id}", "401"]), 1),
        (labels(["GET", "unmatched", "401"]), 2),
        (labels(["GET", "unmatched", "404"]), 1),
        (labels(["OPTIONS", "unmatched", "204"]), 2),
    ];
    assert_eq!(Count::of(&vitals).requests(), expected.into());
}

#[actix_web::test]
async fn a_request_is_counted_once_however_often_the_middleware_is_wrapped() {
    let vitals = vitals();
    let app = App::new()
        .service(
            web::scope("/inner")
                .wrap(vitals.http())
                .service(web::resource("/{id}").wrap(vitals.http()).to(ok))
                .route("/boom/now", web::to(boom)),
        )
        .route("/outer", web::to(ok))
        .wrap(vitals.http())
        .wrap_fn(|request, service| service.call(request))
        .wrap(vitals.http());
    let service = init_service(app).await;
    for path in [
        "/inner/1",
        "/inner/1",
        "/inner/boom/now",
        "/outer",
        "/inner/none/at/all",
    ] {
        call(&service, "GET", path).await;
    }
    let expected = [
        (labels(["GET", "/inner/boom/now", "500"]), 1),
        (labels(["GET", "/inner/{id}", "200"]), 2),
        (labels(["GET", "/outer", "200"]), 1),
        (labels(["GET", "unmatched", "404"]), 1),
    ];
    let count = Count::of(&vitals);
    assert_eq!(count.requests(), expected.clone().into());
    assert_eq!(count.durations(), expected.into());
    assert_eq!(count.panics(), [("/inner/boom/now".to_owned(), 1)].into());
    assert_eq!(count.in_progress(), 0);
}

#[actix_web::test]
async fn a_middleware_within_another_is_named_once_in_the_log() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::INFO));
    let vitals = vitals();
    let inner = web::scope("/inner").wrap(vitals.http());
    let app = App::new().service(inner.route("/{id}", web::to(ok)));
    let service = init_service(app.wrap(vitals.http())).await;
    for _ in 0..3 {
        call(&service, "GET", "/inner/1").await;
    }
    drop(guard);
    let text = log.text();
    assert_eq!(
        text.matches("each request is recorded once").count(),
        1,
        "{text}"
    );
}

#[actix_web::test]
async fn a_scope_alone_may_be_monitored_and_two_monitorings_may_meet() {
    let (one, other) = (vitals(), vitals());
    let app = App::new()
        .service(
            web::scope("/a")
                .wrap(one.http())
                .route("/{id}", web::to(ok)),
        )
        .service(
            web::scope("/b")
                .wrap(one.http())
                .route("/{id}", web::to(ok)),
        )
        .wrap(other.http());
    let service = init_service(app).await;
    for path in ["/a/1", "/b/1", "/b/2"] {
        call(&service, "GET", path).await;
    }
    let expected = [
        (labels(["GET", "/a/{id}", "200"]), 1),
        (labels(["GET", "/b/{id}", "200"]), 2),
    ];
    assert_eq!(Count::of(&one).requests(), expected.clone().into());
    assert_eq!(Count::of(&other).requests(), expected.into());
}

#[actix_web::test]
async fn what_a_middleware_within_adds_to_an_error_is_sent() {
    let vitals = vitals();
    let app = App::new()
        .wrap_fn(|_: ServiceRequest, _| {
            let mut error = error::ErrorForbidden("not you");
            error.add_response_mapper(|mut response| {
                let value = actix_web::http::header::HeaderValue::from_static("yes");
                let name = actix_web::http::header::HeaderName::from_static("x-mapped");
                response.headers_mut().insert(name, value);
                response
            });
            ready(Err::<ServiceResponse, _>(error))
        })
        .wrap(vitals.http());
    let service = init_service(app).await;
    let request = TestRequest::with_uri("/").to_request();
    let error = try_call_service(&service, request)
        .await
        .expect_err("an error");
    let response = error.error_response();
    assert_eq!(response.headers().get("x-mapped").expect("a header"), "yes");
}

#[actix_web::test]
async fn ops_endpoints_are_known_by_what_was_mounted() {
    let vitals = Vitals::builder()
        .rename_endpoints(|pattern| format!("my {pattern}"))
        .ops_endpoints(["/pages/{page}"])
        .build()
        .expect("these settings build");
    let failing = async || HttpResponse::InternalServerError().finish();
    let app = App::new()
        .route("/docs/{id}", web::to(failing))
        .route("/health/records/{id}", web::to(failing))
        .route("/pages/{page}", web::to(failing))
        .service(web::scope("/internal").configure(vitals.ops()))
        .wrap(vitals.http());
    let service = init_service(app).await;
    for path in [
        "/docs/1",
        "/health/records/2",
        "/pages/3",
        "/internal/metrics",
        "/internal/livez",
        "/metrics",
    ] {
        call(&service, "GET", path).await;
    }
    call(&service, "PUT", "/internal/readyz").await;
    let expected = [
        (labels(["GET", "/internal/livez", "200"]), 1),
        (labels(["GET", "/internal/metrics", "200"]), 1),
        (labels(["GET", "/pages/{page}", "500"]), 1),
        (labels(["GET", "my /docs/{id}", "500"]), 1),
        (labels(["GET", "my /health/records/{id}", "500"]), 1),
        (labels(["GET", "my unmatched", "404"]), 1),
        (labels(["other", "/internal/readyz", "405"]), 1),
    ];
    assert_eq!(Count::of(&vitals).requests(), expected.into());
    let endpoints = |requests: Vec<NotableRequest>| {
        let mut endpoints: Vec<_> = requests
            .into_iter()
            .map(|request| request.endpoint)
            .collect();
        endpoints.sort();
        endpoints
    };
    let own = ["my /docs/{id}", "my /health/records/{id}"];
    assert_eq!(
        endpoints(vitals.notable_requests().failed()),
        own.map(Into::into)
    );
    let own = ["my /docs/{id}", "my /health/records/{id}", "my unmatched"];
    assert_eq!(
        endpoints(vitals.notable_requests().slowest()),
        own.map(Into::into)
    );
}

//! Whatever clients send, they can create only a fixed number of series.

use std::collections::BTreeSet;

use actix_vitals::{Naming, Vitals, registry::Format};
use actix_web::{
    App, Error, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    http::Method,
    test as actix_test, web,
};

use crate::http::count::Count;

/// Methods that a GET route does not have: those of RFC 9110, other registered ones, and invented ones.
const UNUSUAL: [&str; 39] = [
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "VERSION-CONTROL",
    "BREW",
    "get",
];

/// The path of a route. Each of the four kinds rejects methods in another way.
fn refused(route: usize) -> String {
    match route % 4 {
        3 => format!("/refused/{route}/door"),
        _ => format!("/refused/{route}"),
    }
}

/// The number of routes that have only GET, and of routes that are never called with other methods.
fn routes(count: usize) -> impl FnOnce(&mut web::ServiceConfig) {
    let ok = async || HttpResponse::Ok().body("hello");
    let refuse = async || HttpResponse::MethodNotAllowed().body("this has GET alone");
    move |config| {
        for route in 0..count {
            let path = refused(route);
            match route % 4 {
                // By a resource: 405.
                0 => config.service(web::resource(path).route(web::get().to(ok))),
                // By a guard, after which nothing is found: 404.
                1 => config.route(&path, web::get().to(ok)),
                // By the application: 405, with a body.
                2 => config.service(
                    web::resource(path)
                        .route(web::get().to(ok))
                        .default_service(web::to(refuse)),
                ),
                // By a guard within a scope: 404.
                _ => {
                    let scope = web::scope(&format!("/refused/{route}"));
                    config.service(scope.route("/door", web::get().to(ok)))
                }
            };
        }
        for route in 0..count {
            config.route(&format!("/honest/{route}"), web::get().to(ok));
        }
    }
}

/// What the client does with the body of an answer.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    Whole,
    /// The client resets the stream before it takes the head.
    Nothing,
}

async fn call<S, B>(service: &S, method: &str, path: &str, reading: Reading) -> u16
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = actix_test::TestRequest::with_uri(path).method(method);
    let response = actix_test::call_service(service, request.to_request()).await;
    let status = response.status().as_u16();
    if reading == Reading::Whole {
        actix_test::read_body(response).await;
    }
    status
}

fn samples(vitals: &Vitals) -> usize {
    let text = String::from_utf8(vitals.registry().encode(Format::Text)).expect("text");
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[actix_web::test]
async fn methods_that_a_route_does_not_have_add_one_series_to_each_family() {
    const ROUTES: usize = 30;
    /// Of a series of each family by method and endpoint: the counter, the latency with 14 buckets, both sizes with 10, the
    /// queries with 11, their time with 14, and the time on the event loop with 14. A histogram has three samples more than
    /// buckets.
    const SAMPLES: usize = 1 + 17 + 13 + 13 + 14 + 17 + 17;
    let vitals = Vitals::builder().build().expect("defaults build");
    let app = App::new().configure(routes(ROUTES)).wrap(vitals.http());
    let service = actix_test::init_service(app).await;
    for route in 0..ROUTES {
        let path = refused(route);
        assert_eq!(call(&service, "GET", &path, Reading::Whole).await, 200);
    }
    let before = samples(&vitals);
    for method in &UNUSUAL[..30] {
        for route in 0..ROUTES {
            let path = refused(route);
            let status = call(&service, method, &path, Reading::Whole).await;
            assert!(status == 405 || status == 404, "{method} {path}: {status}");
        }
    }
    assert_eq!(samples(&vitals) - before, ROUTES * SAMPLES);
    let requests = Count::of(&vitals).requests();
    for route in 0..ROUTES {
        let refused: Vec<_> = requests
            .iter()
            .filter(|([_, endpoint, _], _)| *endpoint == refused(route))
            .map(|([method, ..], count)| (method.as_str(), *count))
            .collect();
        assert_eq!(refused, [("GET", 1), ("other", 30)], "route {route}");
    }
}

#[actix_web::test]
async fn strangers_methods_leave_the_budget_to_honest_routes() {
    const ROUTES: usize = 60;
    for naming in [Naming::Vitals, Naming::OpenTelemetry] {
        let vitals = Vitals::builder().naming(naming).build();
        let vitals = vitals.expect("these settings build");
        let app = App::new().configure(routes(ROUTES)).wrap(vitals.http());
        let service = actix_test::init_service(app).await;
        for method in UNUSUAL {
            for route in 0..ROUTES {
                let path = refused(route);
                call(&service, method, &path, Reading::Whole).await;
                call(&service, method, &path, Reading::Nothing).await;
            }
        }
        for route in 0..ROUTES {
            let path = format!("/honest/{route}");
            assert_eq!(call(&service, "GET", &path, Reading::Whole).await, 200);
        }
        let label = match naming {
            Naming::OpenTelemetry => "http_route",
            _ => "endpoint",
        };
        let requests = Count::of(&vitals).samples("http_requests_total", [label]);
        for route in 0..ROUTES {
            assert_eq!(requests[&[format!("/honest/{route}")]], 1.0, "{naming:?}");
        }
        let overflows = Count::of(&vitals).samples("vitals_series_overflow_total", ["family"]);
        assert_eq!(overflows.values().sum::<f64>(), 0.0, "{overflows:?}");
        // Two for each rejected route: one answer that was read, and one that was not.
        let series = Count::of(&vitals).samples("vitals_series", ["family"]);
        for ([family], count) in series {
            assert!(count <= (3 * ROUTES + 20) as f64, "{family} has {count}");
        }
    }
}

#[actix_web::test]
async fn unmatched_paths_have_one_series_for_all_unknown_methods() {
    let vitals = Vitals::builder().build().expect("defaults build");
    let app = App::new().configure(routes(4)).wrap(vitals.http());
    let service = actix_test::init_service(app).await;
    for method in UNUSUAL {
        for path in 0..10 {
            call(&service, method, &format!("/none/{path}"), Reading::Whole).await;
        }
    }
    let requests = Count::of(&vitals).requests();
    let methods: BTreeSet<&str> = (requests.keys())
        .map(|[method, endpoint, status]| {
            assert_eq!((endpoint.as_str(), status.as_str()), ("unmatched", "404"));
            method.as_str()
        })
        .collect();
    let known = &UNUSUAL[..9];
    let expected: BTreeSet<&str> = known.iter().copied().chain(["other"]).collect();
    assert_eq!(methods, expected);
    let others = ["other", "unmatched", "404"].map(str::to_owned);
    assert_eq!(requests[&others], 300);
}

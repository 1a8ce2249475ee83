//! Compares our middleware with actix-web-prom. Both wrap one application, and receive traffic that actix-web-prom counts
//! correctly. They must agree series by series in their counts, and within a known difference in their times.
//!
//! actix-web-prom is wrong in these cases, which the chaos test covers:
//!
//! - a request whose service answers `Err`: not counted
//! - a request dropped before its head (the client left): not counted
//! - a handler that panics: not counted
//! - a body that is cut off: counted as if it were whole
//! - a response stream: in the latency histogram, with the duration of the stream
//! - a path that matches nothing: a series for each path, unless `mask_unmatched_patterns` is set
//! - a method that a route does not have: a series for each
//!
//! Its clock starts once the inner service has made its future. So only our times contain the work before the first poll.

use std::{collections::BTreeMap, time::Duration};

use actix_vitals::Vitals;
use actix_web::{App, HttpResponse, http::Method, test as actix_test, web};
use actix_web_prom::PrometheusMetricsBuilder;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::http::{app, count::Count};

/// The minimum time of each request to `/nap`.
const NAP: Duration = Duration::from_millis(200);

const NAPS: usize = 10;

#[actix_web::test]
async fn ours_and_actix_web_prom_agree_series_by_series_where_it_is_right() {
    let vitals = Vitals::builder().build().expect("defaults build");
    let oracle = PrometheusMetricsBuilder::new("oracle")
        .registry(vitals.registry().prometheus().clone())
        .buckets(&actix_vitals::LATENCY_BUCKETS)
        .mask_unmatched_patterns("unmatched")
        .build()
        .expect("an oracle");
    let service = actix_test::init_service(
        App::new()
            .configure(app::routes)
            .route(
                "/nap",
                web::get().to(async || {
                    actix_web::rt::time::sleep(NAP).await;
                    HttpResponse::Ok().body("slept well")
                }),
            )
            .wrap(vitals.http())
            .wrap(oracle),
    )
    .await;
    let exchanges = [
        (Method::GET, "/ok"),
        (Method::HEAD, "/ok"),
        (Method::POST, "/echo"),
        (Method::GET, "/items/5"),
        (Method::GET, "/items/five"),
        (Method::DELETE, "/empty"),
        (Method::GET, "/error"),
        (Method::GET, "/nowhere"),
        (Method::GET, "/users/ada/posts/1"),
    ];
    let mut random = StdRng::seed_from_u64(11);
    let drawn = (0..5_000).map(|_| &exchanges[random.random_range(0..exchanges.len())]);
    let naps = std::iter::repeat_n(&(Method::GET, "/nap"), NAPS);
    for (method, path) in drawn.chain(naps) {
        let request = actix_test::TestRequest::with_uri(path)
            .method(method.clone())
            .to_request();
        let response = actix_test::call_service(&service, request).await;
        actix_test::read_body(response).await;
    }

    let count = Count::of(&vitals);
    let theirs = |name: &str| -> BTreeMap<[String; 3], f64> {
        count.samples(name, ["method", "endpoint", "status"])
    };
    let ours = |name: &str| -> BTreeMap<[String; 3], f64> {
        count.samples(name, ["method", "endpoint", "http_status"])
    };
    assert_eq!(
        ours("http_requests_total"),
        theirs("oracle_http_requests_total")
    );
    assert_eq!(
        ours("http_request_duration_seconds_count"),
        theirs("oracle_http_requests_duration_seconds_count")
    );
    assert_eq!(
        ours("http_requests_total").values().sum::<f64>(),
        (5_000 + NAPS) as f64
    );
    // Compares times only where a minimum is known, because the overhead that only one of them measures is small
    // compared with it.
    let nap = ["GET", "/nap", "200"].map(str::to_owned);
    let known = NAP.as_secs_f64() * NAPS as f64;
    let ours = ours("http_request_duration_seconds_sum")[&nap];
    let theirs = theirs("oracle_http_requests_duration_seconds_sum")[&nap];
    assert!(
        ours >= known && theirs >= known,
        "{ours} and {theirs} of {known} s"
    );
    assert!(
        ours.max(theirs) <= ours.min(theirs) * 1.5,
        "{ours} and {theirs} s"
    );
}

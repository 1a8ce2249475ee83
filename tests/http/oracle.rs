//! actix-web-prom as an oracle: both middlewares around one application, on traffic that it counts correctly, must
//! agree series by series, in counts and in sums.
//!
//! Where it is wrong, and so no oracle (each by name, each counted by ours as the chaos test shows):
//!
//! - a request whose service answers `Err`: not counted
//! - a request dropped before its head (the client left): not counted
//! - a handler that panics: not counted
//! - a body that is cut off: counted as if it were whole
//! - a response stream: in the latency histogram, with the stream's whole life
//! - a path that matches nothing: a series for each path, unless `mask_unmatched_patterns` is set
//! - a method that nobody registered: a series for each

use std::collections::BTreeMap;

use actix_vitals::vitals::Vitals;
use actix_web::{App, http::Method, test as actix_test};
use actix_web_prom::PrometheusMetricsBuilder;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{app, count::Count};

#[actix_web::test]
async fn ours_and_actix_web_prom_agree_series_by_series_where_it_is_right() {
    let vitals = Vitals::builder().build().expect("defaults build");
    let oracle = PrometheusMetricsBuilder::new("oracle")
        .registry(vitals.registry().prometheus().clone())
        .buckets(&actix_vitals::vitals::LATENCY_BUCKETS)
        .mask_unmatched_patterns("unmatched")
        .build()
        .expect("an oracle");
    let service = actix_test::init_service(
        App::new()
            .configure(app::routes)
            .wrap(vitals.http())
            .wrap(oracle),
    )
    .await;
    let exchanges = [
        (Method::GET, "/ok"),
        (Method::HEAD, "/ok"),
        (Method::POST, "/ok"),
        (Method::GET, "/items/5"),
        (Method::GET, "/items/five"),
        (Method::DELETE, "/empty"),
        (Method::GET, "/error"),
        (Method::GET, "/nowhere"),
        (Method::GET, "/users/ada/posts/1"),
    ];
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..5_000 {
        let (method, path) = &exchanges[random.random_range(0..exchanges.len())];
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
    assert_eq!(ours("http_requests_total").values().sum::<f64>(), 5_000.0);
    // One stands outside of the other, so that the times differ by the way between them.
    let their_sums = theirs("oracle_http_requests_duration_seconds_sum");
    for (labels, seconds) in ours("http_request_duration_seconds_sum") {
        let requests = ours("http_requests_total")[&labels];
        let apart = (their_sums[&labels] - seconds).abs();
        assert!(
            apart < requests * 200e-6,
            "{labels:?}: sums {apart} seconds apart"
        );
    }
}

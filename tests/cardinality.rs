//! The memory that a client can make the service use. A process of its own, because resident memory is that of the process.

#![allow(
    clippy::expect_used,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test may panic; counts are whole numbers, which floats hold exactly"
)]

#[path = "http/count.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the HTTP recorder, which read more of it"
)]
mod count;

use actix_vitals::Vitals;
use actix_web::{
    App, HttpResponse,
    http::{Method, StatusCode},
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use count::Count;

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
        let status = StatusCode::from_u16(*status).expect("a status");
        HttpResponse::new(status)
    };
    let service = init_service(
        App::new()
            .route("/status/{status}", web::to(status))
            .wrap(vitals.http()),
    )
    .await;
    let call = async |method: &Method, path: String| {
        let request = TestRequest::with_uri(&path)
            .method(method.clone())
            .to_request();
        let response = call_service(&service, request).await;
        read_body(response).await;
    };
    // The warm-up: every status once, so that what is measured is growth by names that clients invent.
    call(&Method::GET, "/none".to_owned()).await;
    for status in 200..600 {
        call(&Method::GET, format!("/status/{status}")).await;
    }
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
    assert_eq!(
        requests[&["GET", "unmatched", "404"].map(str::to_owned)],
        1_000_001
    );
    let overflow = ["overflow"; 3].map(str::to_owned);
    let overflowed = count.samples("vitals_series_overflow_total", ["family"]);
    assert_eq!(
        overflowed[&["http_requests_total".to_owned()]],
        requests[&overflow] as f64
    );
    assert!(requests[&overflow] > 0);
}

//! The time that requests keep the event loop busy.

use std::{
    thread,
    time::{Duration, Instant},
};

use actix_vitals::Vitals;
use actix_web::{
    App,
    test::{TestRequest, call_service, init_service, read_body},
    web,
};

/// How long the handler blocks, and how long the connection waits before it asks for the body.
const BUSY: Duration = Duration::from_millis(120);
const LATE: Duration = Duration::from_millis(150);

#[actix_web::test]
async fn a_poll_counts_to_its_end_if_the_body_is_asked_for_late() {
    let vitals = Vitals::builder().build().expect("defaults build");
    let block = || async {
        thread::sleep(BUSY);
        "the answer"
    };
    let app = App::new()
        .wrap(vitals.http())
        .route("/", web::get().to(block));
    let service = init_service(app).await;
    let begun = Instant::now();
    for _ in 0..5 {
        let response = call_service(&service, TestRequest::default().to_request()).await;
        tokio::time::sleep(LATE).await;
        read_body(response).await;
    }
    let passed = begun.elapsed();
    let labels = [("method", "GET"), ("endpoint", "/")];
    let sum = vitals.value("http_request_loop_seconds_sum", &labels);
    let sum = sum.expect("the sum");
    let (least, most) = (
        5.0 * BUSY.as_secs_f64(),
        passed.saturating_sub(LATE).as_secs_f64(),
    );
    assert!(sum >= least, "{sum} of {least} s were counted");
    assert!(sum < most, "{sum} of {passed:?} contain the waits");
}

//! The log lines of a request contain the id of its trace, on each thread and at each level. A process of its own, because a
//! subscriber that is not shared would find its spans disabled by those of other tests.

#![allow(clippy::expect_used, reason = "a test may panic")]

mod support;

use actix_vitals::{Vitals, context::carry};
use actix_web::{
    App, HttpResponse,
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use support::log::Log;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn logging() -> HttpResponse {
    tracing::error!("the handler has something to say");
    actix_web::rt::task::yield_now().await;
    let said = web::block(carry(|| tracing::error!("and says it again elsewhere"))).await;
    said.expect("a thread");
    HttpResponse::Ok().finish()
}

#[actix_web::test]
async fn log_lines_of_a_request_bear_its_trace_id() {
    let log = Log::of_process(tracing::Level::ERROR);
    let vitals = Vitals::builder().build().expect("defaults build");
    let app = App::new()
        .route("/", web::get().to(logging))
        .wrap(vitals.http());
    let service = init_service(app).await;
    let request = TestRequest::default()
        .insert_header(("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-00")))
        .to_request();
    let response = call_service(&service, request).await;
    read_body(response).await;

    let log = log.lines();
    let lines: Vec<_> = log.iter().filter(|line| line.contains("say")).collect();
    assert_eq!(lines.len(), 2, "{log:#?}");
    assert!(lines.iter().all(|line| line.contains(TRACE)), "{log:#?}");
}

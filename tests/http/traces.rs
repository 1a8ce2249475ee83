//! The trace id of a `traceparent` appears in the exemplars and in the response. `tests/log.rs` tests the log.

use std::panic::AssertUnwindSafe;

use actix_vitals::{Vitals, registry::Format};
use actix_web::{
    App, HttpResponse,
    http::header::HeaderMap,
    test::{TestRequest, init_service, read_body, try_call_service},
    web,
};
use futures_util::FutureExt;
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Serves one request with these `traceparent` headers. Returns the response's headers and the OpenMetrics exposition.
async fn serve(path: &str, traceparents: &[String]) -> (HeaderMap, String) {
    let vitals = Vitals::builder().build().expect("defaults build");
    let service = init_service(
        App::new()
            .route("/", web::get().to(HttpResponse::Ok))
            .route(
                "/named",
                web::get().to(async || {
                    HttpResponse::Ok()
                        .insert_header(("x-request-id", "mine"))
                        .finish()
                }),
            )
            .route(
                "/panic",
                web::get()
                    .to(async || -> HttpResponse { panic!("the handler panics as it should") }),
            )
            .wrap(vitals.http()),
    )
    .await;
    let request = traceparents
        .iter()
        .fold(TestRequest::with_uri(path), |request, value| {
            request.append_header(("traceparent", value.as_str()))
        });
    let headers = match try_call_service(&service, request.to_request()).await {
        Ok(response) => {
            let headers = response.headers().clone();
            read_body(response).await;
            headers
        }
        Err(error) => error.error_response().headers().clone(),
    };
    let exposition = vitals.registry().encode(Format::OpenMetrics);
    (headers, String::from_utf8(exposition).expect("UTF-8"))
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

#[actix_web::test]
async fn a_sampled_request_leaves_an_exemplar_and_its_response_carries_the_trace_id() {
    let (headers, exposition) = serve("/", &[traceparent("01")]).await;
    let exemplar = format!("# {{trace_id=\"{TRACE}\",span_id=\"{SPAN}\"}}");
    let with_exemplar: Vec<_> = exposition
        .lines()
        .filter(|line| {
            line.starts_with("http_request_duration_seconds_bucket{") && line.contains(&exemplar)
        })
        .collect();
    assert_eq!(
        with_exemplar.len(),
        1,
        "one classic bucket of one series: {with_exemplar:#?}"
    );
    assert_eq!(headers.get("x-request-id").expect("an id"), TRACE);
}

#[actix_web::test]
async fn an_unsampled_request_leaves_no_exemplar_but_its_response_carries_the_trace_id() {
    let (headers, exposition) = serve("/", &[traceparent("00")]).await;
    assert!(!exposition.contains("trace_id"));
    assert_eq!(headers.get("x-request-id").expect("an id"), TRACE);
}

#[actix_web::test]
async fn a_malformed_a_repeated_and_an_absent_traceparent_break_nothing() {
    for (values, why) in [
        (vec!["00-nonsense".to_owned()], "malformed"),
        (vec![traceparent("01"), traceparent("01")], "repeated"),
        (vec![], "absent"),
    ] {
        let (headers, exposition) = serve("/", &values).await;
        assert!(!exposition.contains("trace_id"), "{why}");
        assert!(!headers.contains_key("x-request-id"), "{why}");
    }
}

#[actix_web::test]
async fn a_handler_that_names_its_request_itself_is_left_alone() {
    let (headers, _) = serve("/named", &[traceparent("01")]).await;
    assert_eq!(headers.get("x-request-id").expect("an id"), "mine");
}

#[actix_web::test]
async fn the_answer_to_a_panic_carries_the_trace_id_too() {
    let (headers, exposition) = serve("/panic", &[traceparent("01")]).await;
    assert_eq!(headers.get("x-request-id").expect("an id"), TRACE);
    assert!(exposition.contains("http_status=\"500\""), "{exposition}");
}

/// A log that fails at every span.
struct BrokenLog;

impl Subscriber for BrokenLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        panic!("the log is broken, as it should be");
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[actix_web::test]
async fn a_request_that_the_log_cannot_tell_of_does_not_stay_in_progress() {
    let vitals = Vitals::builder().build().expect("defaults build");
    let service = init_service(
        App::new()
            .route("/", web::get().to(HttpResponse::Ok))
            .wrap(vitals.http()),
    )
    .await;
    let log = tracing::subscriber::set_default(BrokenLog);
    let request = TestRequest::with_uri("/").insert_header(("traceparent", traceparent("01")));
    let call = AssertUnwindSafe(try_call_service(&service, request.to_request())).catch_unwind();
    call.await.expect_err("the log's panic");
    drop(log);
    let exposition = vitals.registry().encode(Format::Text);
    let exposition = String::from_utf8(exposition).expect("UTF-8");
    assert!(
        exposition.contains("\ninprogress_requests 0\n"),
        "{exposition}"
    );
}

//! A middleware outside of the monitoring that waits between the head of an answer and its body keeps no event loop busy.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use actix_vitals::{Vitals, registry::Format};
use actix_web::{
    App, HttpResponse,
    dev::Service as _,
    rt::time::sleep,
    test::{TestRequest, call_service, init_service, read_body},
    web,
};

/// A poll that lasts as long is a stall.
const STALL: Duration = Duration::from_millis(250);

async fn answer_of(size: web::Path<usize>) -> HttpResponse {
    HttpResponse::Ok().body(vec![b'x'; *size])
}

#[actix_web::test]
async fn the_wait_of_an_outer_middleware_is_no_stall_whatever_the_size_of_the_body() {
    let vitals = Vitals::builder().stall_threshold(STALL).build().unwrap();
    let app = App::new()
        .route("/{size}", web::get().to(answer_of))
        .wrap(vitals.http())
        .wrap_fn(|request, service| {
            let answering = service.call(request);
            async move {
                let response = answering.await?;
                sleep(3 * STALL).await;
                Ok(response)
            }
        });
    let service = init_service(app).await;
    for size in [0, 1_000, 100_000] {
        let request = TestRequest::with_uri(&format!("/{size}")).to_request();
        let response = call_service(&service, request).await;
        assert_eq!(read_body(response).await.len(), size);
    }
    let scrape = String::from_utf8(vitals.registry().encode(Format::Text)).unwrap();
    let mut stalls = scrape
        .lines()
        .filter(|line| line.starts_with("http_loop_stalls_total"));
    assert!(stalls.all(|line| line.ends_with(" 0")), "{scrape}");
}

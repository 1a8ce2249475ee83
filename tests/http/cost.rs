//! What recording a request costs in allocations, which, unlike time, can be asserted.

use std::{future::poll_fn, pin::pin};

use actix_http::Request;
use actix_vitals::vitals::Vitals;
use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    rt::System,
    test::{TestRequest, init_service},
};

use crate::app;

const REQUESTS: u64 = 1_000;

/// Serves a number of requests, each to the last byte of its answer.
async fn serve<S, B>(service: &S, path: &str, requests: u64)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    for _ in 0..requests {
        let response = service
            .call(TestRequest::with_uri(path).to_request())
            .await
            .expect("an answer");
        let mut body = pin!(response.into_body());
        while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            assert!(chunk.is_ok(), "a whole body");
        }
    }
}

/// Allocations of a thousand requests, after a warm-up.
fn allocations<S, B>(system: &actix_web::rt::SystemRunner, service: &S, path: &str) -> u64
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    system.block_on(serve(service, path, 100));
    allocation_counter::measure(|| system.block_on(serve(service, path, REQUESTS))).count_total
}

#[test]
fn recording_a_request_allocates_nothing_but_the_route_pattern_that_actix_builds() {
    let system = System::new();
    let vitals = Vitals::builder().build().expect("defaults build");
    let bare = system.block_on(init_service(App::new().configure(app::routes)));
    let monitored = system.block_on(init_service(
        App::new().configure(app::routes).wrap(vitals.http()),
    ));
    for path in ["/ok", "/items/5", "/users/ada/posts/1"] {
        let without = allocations(&system, &bare, path);
        let with = allocations(&system, &monitored, path);
        assert_eq!(
            with - without,
            REQUESTS,
            "{path}: one allocation a request, inside of match_pattern"
        );
    }
}

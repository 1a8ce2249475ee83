//! What recording a request costs in allocations, which, unlike time, can be asserted.

use std::{future::poll_fn, hint::black_box, pin::pin};

use actix_http::Request;
use actix_vitals::vitals::Vitals;
use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    http::Uri,
    rt::System,
    test::init_service,
};
use futures_util::TryFutureExt;

use crate::app;

const REQUESTS: u64 = 1_000;

/// A request as the server's own parser makes it: without a body, it has no payload.
fn get(path: &'static str) -> Request {
    let mut request = Request::new();
    request.head_mut().uri = Uri::from_static(path);
    request
}

/// Serves a number of requests, each to the last byte of its answer.
async fn serve<S, B>(service: &S, path: &'static str, requests: u64)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    for _ in 0..requests {
        let response = service.call(get(path)).await.expect("an answer");
        let mut body = pin!(response.into_body());
        while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            assert!(chunk.is_ok(), "a whole body");
        }
    }
}

/// Allocations of a thousand requests, after a warm-up.
fn allocations<S, B>(system: &actix_web::rt::SystemRunner, service: &S, path: &'static str) -> u64
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    system.block_on(serve(service, path, 100));
    allocation_counter::measure(|| system.block_on(serve(service, path, REQUESTS))).count_total
}

#[test]
fn recording_a_request_allocates_nothing_beyond_the_route_pattern_that_actix_builds() {
    let system = System::new();
    let vitals = Vitals::builder().build().expect("defaults build");
    let with_pattern = App::new()
        .configure(app::routes)
        .wrap_fn(|request, service| {
            service.call(request).map_ok(|response| {
                black_box(response.request().match_pattern());
                response
            })
        });
    let bare = system.block_on(init_service(with_pattern));
    let monitored = system.block_on(init_service(
        App::new().configure(app::routes).wrap(vitals.http()),
    ));
    for path in ["/ok", "/items/5", "/users/ada/posts/1"] {
        let without = allocations(&system, &bare, path);
        let with = allocations(&system, &monitored, path);
        // A native histogram takes memory when it first sees an octave of durations: a few times in its life.
        let more = with.saturating_sub(without);
        assert!(
            more <= 16,
            "{path}: {more} more allocations in {REQUESTS} requests"
        );
    }
}

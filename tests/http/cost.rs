//! The cost of recording in allocations and memory.

use std::{future::poll_fn, pin::pin, time::Duration};

use actix_http::Request;
use actix_vitals::{
    LATENCY_BUCKETS, Vitals,
    registry::{Descriptor, Registry, Unit},
};
use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    http::Uri,
    rt::System,
    test::init_service,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::http::app;

const REQUESTS: u64 = 1_000;

/// A request as the server's parser creates it: without a body it has no payload.
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

/// How many timelines were made so far.
fn timelines(vitals: &Vitals) -> u64 {
    let newest = vitals.kept_requests().since(None).pop();
    let id = newest.map_or_else(String::new, |request| request.id.to_string());
    // The lower half of an id counts the timelines.
    id.get(8..).map_or(0, |number| {
        u64::from_str_radix(number, 16).expect("hexadecimal")
    })
}

#[test]
fn only_a_request_that_is_kept_allocates_its_timeline() {
    let system = System::new();
    let bare = system.block_on(init_service(App::new().configure(app::routes)));
    let vitals = Vitals::builder().build().expect("a valid configuration");
    let app = App::new().configure(app::routes).wrap(vitals.http());
    let monitored = system.block_on(init_service(app));
    for path in ["/ok", "/items/5"] {
        let without = allocations(&system, &bare, path);
        let measured = (0..3).map(|_| {
            let before = timelines(&vitals);
            let with = allocations(&system, &monitored, path);
            let made = timelines(&vitals) - before;
            let more = with.saturating_sub(without);
            (more.saturating_sub(made * 8), more, made)
        });
        let (others, more, made) = measured.min().expect("three measurements");
        assert!(made < REQUESTS / 2, "{path}: {made} of {REQUESTS} are kept");
        assert!(
            others <= 32,
            "{path}: {more} more allocations, and {made} timelines"
        );
    }
}

#[test]
fn recording_a_request_allocates_nothing() {
    let system = System::new();
    let bare = system.block_on(init_service(App::new().configure(app::routes)));
    let builders = [
        Vitals::builder().keep_requests(0),
        Vitals::builder()
            .keep_requests(0)
            .body_sizes(false)
            .database_tally(false),
    ];
    for builder in builders {
        let vitals = builder.build().expect("a valid configuration");
        let app = App::new().configure(app::routes).wrap(vitals.http());
        let monitored = system.block_on(init_service(app));
        for path in ["/ok", "/items/5", "/users/ada/posts/1"] {
            let without = allocations(&system, &bare, path);
            // A native histogram allocates memory the first time that it observes an octave of durations. There are two
            // of durations, and a busy machine has many octaves of them, but few that come in one thousand requests only.
            let measured = (0..3).map(|_| allocations(&system, &monitored, path));
            let with = measured.min().expect("three measurements");
            let more = with.saturating_sub(without);
            assert!(
                more <= 32,
                "{path}: {more} more allocations in {REQUESTS} requests"
            );
        }
    }
}

/// Observes log-normally distributed times of some milliseconds, like those of a real route.
fn observe_a_typical_spread(observe: impl Fn(f64), seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..100_000 {
        let sum: f64 = (0..12).map(|_| random.random::<f64>()).sum();
        observe(0.002 * (0.7 * (sum - 6.0)).exp());
    }
}

#[test]
fn a_live_latency_series_takes_at_most_four_kilobytes() {
    let mut registry = Registry::builder(|| Duration::from_secs(1));
    let labels = ["method", "endpoint", "http_status"];
    let latency = registry.histogram(
        Descriptor::new("latency_seconds", "A latency.", labels).unit(Unit::Seconds),
        &LATENCY_BUCKETS,
    );
    let _registry = registry.build().expect("a registry");
    let series = |endpoint: &str| latency.series(["GET", endpoint, "200"]);
    // The first series allocates more than the others.
    drop(series("/first").writer());
    let taken = allocation_counter::measure(|| {
        let series = series("/data/{item_id}");
        let workers = [series.writer(), series.writer()];
        for (seed, worker) in (0..).zip(&workers) {
            observe_a_typical_spread(|value| worker.observe(value), seed);
        }
        assert_eq!(series.snapshot().count, 200_000);
    });
    assert!(
        taken.bytes_current <= 4096,
        "{} bytes, by two workers",
        taken.bytes_current
    );
}

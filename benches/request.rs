//! What monitoring adds to a request in process: one application bare, under our middleware, and under
//! actix-web-prom, taking turns in one run, so that the machine's moods fall on all three alike.
//!
//! The table shows nanoseconds for orientation; the ratios are what counts.

use std::{
    future::poll_fn,
    hint::black_box,
    pin::pin,
    time::{Duration, Instant},
};

use actix_http::Request;
use actix_vitals::vitals::Vitals;
use actix_web::{
    App, Error, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    http::Uri,
    rt::System,
    test::init_service,
    web,
};
use actix_web_prom::PrometheusMetricsBuilder;

const ROUNDS: usize = 60;
const REQUESTS: u32 = 4_000;

/// A name, and a request's path.
const ROUTES: [(&str, &str); 3] = [
    ("a static route", "/static"),
    ("a route with parameters", "/items/42/parts/7"),
    ("a nested scope", "/api/v1/users/42/posts/7"),
];

fn routes(config: &mut web::ServiceConfig) {
    let ok = async || HttpResponse::Ok().body("hello");
    config
        .route("/static", web::get().to(ok))
        .route("/items/{item}/parts/{part}", web::get().to(ok))
        .service(
            web::scope("/api")
                .service(web::scope("/v1").service(
                    web::scope("/users/{user}").route("/posts/{post}", web::get().to(ok)),
                )),
        );
}

/// A request as the server's own parser makes it: without a body, it has no payload.
fn get(path: &'static str) -> Request {
    let mut request = Request::new();
    request.head_mut().uri = Uri::from_static(path);
    request
}

/// Serves a round of requests, each to the last byte of its answer. Returns the time of one.
async fn round<S, B>(service: &S, path: &'static str) -> Duration
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let mut elapsed = Duration::ZERO;
    for _ in 0..REQUESTS {
        let request = get(path);
        let started = Instant::now();
        if let Ok(response) = service.call(request).await {
            let mut body = pin!(response.into_body());
            while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                black_box(chunk.is_ok());
            }
        }
        elapsed += started.elapsed();
    }
    elapsed / REQUESTS
}

fn median(mut nanoseconds: Vec<f64>) -> f64 {
    nanoseconds.sort_by(f64::total_cmp);
    nanoseconds[nanoseconds.len() / 2]
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let vitals = Vitals::builder().build()?;
    let prom = PrometheusMetricsBuilder::new("peer").build()?;
    System::new().block_on(async move {
        let bare = init_service(App::new().configure(routes)).await;
        let ours = init_service(App::new().configure(routes).wrap(vitals.http())).await;
        let peer = init_service(App::new().configure(routes).wrap(prom)).await;
        println!(
            "{:<26} {:>9} {:>11} {:>11} {:>16}",
            "request", "bare", "ours adds", "peer adds", "peer over ours"
        );
        for (name, path) in ROUTES {
            let (mut alone, mut added, mut peer_added) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let nanoseconds = |time: Duration| time.as_nanos() as f64;
                let without = nanoseconds(round(&bare, path).await);
                alone.push(without);
                added.push(nanoseconds(round(&ours, path).await) - without);
                peer_added.push(nanoseconds(round(&peer, path).await) - without);
            }
            let (added, peer_added) = (median(added), median(peer_added));
            println!(
                "{name:<26} {:>6.0} ns {added:>8.0} ns {peer_added:>8.0} ns {:>15.1}x",
                median(alone),
                peer_added / added
            );
        }
    });
    Ok(())
}

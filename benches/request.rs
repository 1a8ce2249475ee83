//! The cost of monitoring a request in process. One application is measured bare, with a middleware that does nothing, with ours
//! (the core families, and all of them), and with actix-web-prom. They take turns in one run, so that a change of the machine's
//! speed affects all of them.
//!
//! The ratios are the result; the nanoseconds are for orientation. The empty middleware shows what Actix itself costs for any
//! code that sees a request from its head to the last byte of its answer.

use std::{
    future::{Future, Ready, poll_fn, ready},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_http::Request;
use actix_vitals::Vitals;
use actix_web::{
    App, Error, HttpResponse,
    body::{BodySize, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::Uri,
    rt::System,
    test::init_service,
    web::{self, Bytes},
};
use actix_web_prom::PrometheusMetricsBuilder;
use pin_project_lite::pin_project;

const ROUNDS: usize = 100;
const REQUESTS: u32 = 2_000;

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

/// Serves a round of requests, each to the last byte of its answer. Returns the time of all.
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
    elapsed
}

/// A middleware that takes part in all of a request, and does nothing.
struct Empty;

impl<S, B> Transform<S, ServiceRequest> for Empty
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EmptyBody<B>>;
    type Error = Error;
    type Transform = EmptyService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(EmptyService { service }))
    }
}

struct EmptyService<S> {
    service: S,
}

impl<S, B> Service<ServiceRequest> for EmptyService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EmptyBody<B>>;
    type Error = Error;
    type Future = EmptyFuture<S::Future>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let future = self.service.call(request);
        EmptyFuture { future }
    }
}

pin_project! {
    struct EmptyFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, B> Future for EmptyFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<EmptyBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().future.poll(cx))?;
        Poll::Ready(Ok(response.map_body(|_, body| EmptyBody { body })))
    }
}

pin_project! {
    struct EmptyBody<B> {
        #[pin]
        body: B,
    }
}

impl<B: MessageBody> MessageBody for EmptyBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().body.poll_next(cx)
    }
}

/// The fastest quarter's slowest time, in nanoseconds: what a request takes where nothing interferes.
fn quartile(mut rounds: Vec<Duration>) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 4].as_secs_f64() * 1e9 / f64::from(REQUESTS)
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let core = Vitals::builder().body_sizes(false).database_tally(false);
    let (core, all) = (core.build()?, Vitals::builder().build()?);
    let prom = PrometheusMetricsBuilder::new("peer").build()?;
    System::new().block_on(async move {
        let app = || App::new().configure(routes);
        let bare = init_service(app()).await;
        let empty = init_service(app().wrap(Empty)).await;
        let core = init_service(app().wrap(core.http())).await;
        let all = init_service(app().wrap(all.http())).await;
        let peer = init_service(app().wrap(prom)).await;
        println!(
            "{:<24} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9}",
            "adds to a request", "bare", "empty", "core", "all", "peer", "peer/core", "peer/all"
        );
        for (name, path) in ROUTES {
            let mut times = [const { Vec::new() }; 5];
            for _ in 0..ROUNDS {
                times[0].push(round(&bare, path).await);
                times[1].push(round(&empty, path).await);
                times[2].push(round(&core, path).await);
                times[3].push(round(&all, path).await);
                times[4].push(round(&peer, path).await);
            }
            let [bare, empty, core, all, peer] = times.map(quartile);
            println!(
                "{name:<24} {bare:>6.0} ns {:>6.0} ns {:>6.0} ns {:>6.0} ns {:>8.0} ns {:>8.1}x {:>8.1}x",
                empty - bare,
                core - bare,
                all - bare,
                peer - bare,
                (peer - bare) / (core - bare),
                (peer - bare) / (all - bare),
            );
        }
        println!("{:<24} {:>73} {:>9}", "wanted", "8.0x", "5.0x");
    });
    Ok(())
}

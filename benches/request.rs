//! The cost of monitoring a request in process. One application is measured bare, with a middleware that does nothing, with ours
//! (the core families, and all of them), and with actix-web-prom. They take turns in one run, so that a change of the machine's
//! speed affects all of them.
//!
//! The ratios are the result; the nanoseconds are for orientation. The empty middleware shows what Actix itself costs for any
//! code that sees a request from its head to the last byte of its answer. The floor is the empty middleware with the least that
//! records a request.

use std::{
    future::{Future, Ready, poll_fn, ready},
    hint::black_box,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_http::Request;
use actix_vitals::{
    LATENCY_BUCKETS, Vitals,
    registry::{CounterWriter, Descriptor, GaugeWriter, HistogramWriter, Registry},
};
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

/// A name, a request's path, and how many times the floor the core families may add.
const ROUTES: [(&str, &str, &str); 3] = [
    ("a static route", "/static", "1.8x"),
    ("a route with parameters", "/items/42/parts/7", ""),
    ("a nested scope", "/api/v1/users/42/posts/7", "2.5x"),
];

type Failure = Box<dyn std::error::Error + Send + Sync>;

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

/// What a middleware does with a request from its head to the last byte of its answer.
trait Recording: Clone + 'static {
    /// Dropped when the answer's body is.
    type Record;

    fn begin(&self) -> Self::Record;
}

/// Does nothing.
#[derive(Clone)]
struct Nothing;

impl Recording for Nothing {
    type Record = ();

    fn begin(&self) {}
}

/// The least that records a request: two readings of the clock, a gauge up and down, a counter and a histogram, of one
/// series that is known from the start.
#[derive(Clone)]
struct Floor(Rc<FloorSeries>);

struct FloorSeries {
    clock: quanta::Clock,
    in_progress: GaugeWriter,
    requests: CounterWriter,
    duration: HistogramWriter,
    /// What is read at a scrape.
    _registry: Registry,
}

struct FloorRecord {
    series: Rc<FloorSeries>,
    started: u64,
}

impl Floor {
    fn new() -> Result<Self, Failure> {
        let mut registry = Registry::builder(|| Duration::ZERO);
        let in_progress = registry.gauge(Descriptor::new("in_progress", "Requests.", []));
        let requests = registry.counter(Descriptor::new("requests_total", "Requests.", []));
        let duration = registry.histogram(
            Descriptor::new("duration_seconds", "Durations.", []),
            &LATENCY_BUCKETS,
        );
        Ok(Self(Rc::new(FloorSeries {
            clock: quanta::Clock::new(),
            in_progress: in_progress.get().writer(),
            requests: requests.get().writer(),
            duration: duration.get().writer(),
            _registry: registry.build()?,
        })))
    }
}

impl Recording for Floor {
    type Record = FloorRecord;

    fn begin(&self) -> FloorRecord {
        self.0.in_progress.inc();
        FloorRecord {
            series: Rc::clone(&self.0),
            started: self.0.clock.raw(),
        }
    }
}

impl Drop for FloorRecord {
    fn drop(&mut self) {
        let series = &self.series;
        let took = (series.clock).delta_as_nanos(self.started, series.clock.raw());
        series.requests.inc();
        series.duration.observe_with(took as f64 / 1e9, None);
        series.in_progress.dec();
    }
}

/// A middleware that takes part in all of a request.
struct Watch<R>(R);

impl<S, B, R> Transform<S, ServiceRequest> for Watch<R>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
    R: Recording,
{
    type Response = ServiceResponse<WatchedBody<B, R::Record>>;
    type Error = Error;
    type Transform = WatchedService<S, R>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let recording = self.0.clone();
        ready(Ok(WatchedService { service, recording }))
    }
}

struct WatchedService<S, R> {
    service: S,
    recording: R,
}

impl<S, B, R> Service<ServiceRequest> for WatchedService<S, R>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
    R: Recording,
{
    type Response = ServiceResponse<WatchedBody<B, R::Record>>;
    type Error = Error;
    type Future = WatchedFuture<S::Future, R::Record>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let record = Some(self.recording.begin());
        let future = self.service.call(request);
        WatchedFuture { future, record }
    }
}

pin_project! {
    struct WatchedFuture<F, R> {
        #[pin]
        future: F,
        record: Option<R>,
    }
}

impl<F, B, R> Future for WatchedFuture<F, R>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<WatchedBody<B, R>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let record = this.record.take();
        Poll::Ready(Ok(response.map_body(|_, body| WatchedBody { body, record })))
    }
}

pin_project! {
    struct WatchedBody<B, R> {
        #[pin]
        body: B,
        record: Option<R>,
    }
}

impl<B: MessageBody, R> MessageBody for WatchedBody<B, R> {
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

/// What a case adds to the bare application, as a multiple of another case.
fn multiple(case: f64, of: f64, bare: f64) -> f64 {
    (case - bare) / (of - bare)
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() -> Result<(), Failure> {
    let core = Vitals::builder().body_sizes(false).database_tally(false);
    let (core, all) = (core.build()?, Vitals::builder().build()?);
    let prom = PrometheusMetricsBuilder::new("peer").build()?;
    let floor = Floor::new()?;
    System::new().block_on(async move {
        let app = || App::new().configure(routes);
        let bare = init_service(app()).await;
        let empty = init_service(app().wrap(Watch(Nothing))).await;
        let floor = init_service(app().wrap(Watch(floor))).await;
        let core = init_service(app().wrap(core.http())).await;
        let all = init_service(app().wrap(all.http())).await;
        let peer = init_service(app().wrap(prom)).await;
        println!(
            "{:<24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>10} {:>9} {:>9}",
            "adds to a request", "bare", "empty", "floor", "core", "all", "peer", "core/floor", "peer/core", "peer/all"
        );
        for (name, path, most) in ROUTES {
            let mut times = [const { Vec::new() }; 6];
            for _ in 0..ROUNDS {
                times[0].push(round(&bare, path).await);
                times[1].push(round(&empty, path).await);
                times[2].push(round(&floor, path).await);
                times[3].push(round(&core, path).await);
                times[4].push(round(&all, path).await);
                times[5].push(round(&peer, path).await);
            }
            let [bare, empty, floor, core, all, peer] = times.map(quartile);
            println!(
                "{name:<24} {bare:>6.0} ns {:>6.0} ns {:>6.0} ns {:>6.0} ns {:>6.0} ns {:>8.0} ns {:>9.1}x {:>8.1}x {:>8.1}x",
                empty - bare,
                floor - bare,
                core - bare,
                all - bare,
                peer - bare,
                multiple(core, floor, bare),
                multiple(peer, core, bare),
                multiple(peer, all, bare),
            );
            println!("{:<24} {:>73} {:>9} {:>9}", "  wanted", most, "8.0x", "5.0x");
        }
        Ok(())
    })
}

//! The cost of single parts of the recording: one poll of a request, and one checkout of a connection. Each is the difference
//! between a monitored and a bare application, which take turns in one run. A count of events is in
//! `crates/recorder/benches/events.rs`.
//!
//! `cargo bench --bench parts`

use std::{
    future::{Future, poll_fn},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use actix_http::Request;
use actix_vitals::Vitals;
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    error::ErrorInternalServerError,
    http::Uri,
    rt::System,
    test::init_service,
    web,
};
use diesel::{
    SqliteConnection,
    r2d2::{ConnectionManager, Pool},
};

const ROUNDS: usize = 400;
/// Polls of a request that return nothing, or checkouts of a request.
const MANY: u32 = 256;
/// A process reads the system's clock until its own is calibrated, which takes a fraction of this.
const WARM_UP: Duration = Duration::from_secs(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Returns nothing for as many polls as the query string says.
async fn pending(request: HttpRequest) -> HttpResponse {
    let mut left: u32 = request.query_string().parse().unwrap_or_default();
    poll_fn(|_| {
        let polled = if left == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        };
        left = left.saturating_sub(1);
        polled
    })
    .await;
    HttpResponse::Ok().body("hello")
}

/// The two pools that take turns.
struct Pools {
    bare: Pool<ConnectionManager<SqliteConnection>>,
    ours: actix_vitals::database::Pool<SqliteConnection>,
}

/// Prints what a checkout costs in each of the pools.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
async fn checkouts(pools: web::Data<Pools>) -> Result<HttpResponse, Error> {
    let mut times = [const { Vec::new() }; 2];
    for round in 0..ROUNDS {
        for turn_of in [round, round + 1].map(|turn| turn % 2) {
            let started = Instant::now();
            for _ in 0..MANY {
                if turn_of == 0 {
                    drop(black_box(
                        pools.bare.get().map_err(ErrorInternalServerError)?,
                    ));
                } else {
                    drop(black_box(
                        pools.ours.get().map_err(ErrorInternalServerError)?,
                    ));
                }
            }
            times[turn_of].push(started.elapsed());
        }
    }
    let [bare, ours] = times.map(quartile);
    print("a checkout and its return", bare, ours, "50 ns");
    Ok(HttpResponse::Ok().finish())
}

/// Serves a request to its last byte, by polling it until it is there.
fn exchange<S, B>(service: &S, uri: Uri) -> Result<Duration, Failure>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let mut request = Request::new();
    request.head_mut().uri = uri;
    let mut context = Context::from_waker(Waker::noop());
    let started = Instant::now();
    let mut response = pin!(service.call(request));
    let response = loop {
        if let Poll::Ready(response) = response.as_mut().poll(&mut context) {
            break response.map_err(|error| Failure::from(error.to_string()))?;
        }
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(chunk)) = body.as_mut().poll_next(&mut context) {
        black_box(chunk.is_ok());
    }
    Ok(started.elapsed())
}

/// The fastest quarter's slowest time, in nanoseconds for one of many.
fn quartile(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 4].as_secs_f64() * 1e9 / f64::from(MANY)
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn print(name: &str, bare: f64, ours: f64, wanted: &str) {
    let added = ours - bare;
    println!("{name:<28} {bare:>7.1} ns {ours:>7.1} ns {added:>7.1} ns {wanted:>10}");
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() -> Result<(), Failure> {
    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>10}",
        "", "bare", "monitored", "adds", "at most"
    );
    let vitals = Vitals::builder().build()?;
    System::new().block_on(async move {
        let app = || App::new().route("/", web::get().to(pending));
        let bare = init_service(app()).await;
        let ours = init_service(app().wrap(vitals.http())).await;
        let started = Instant::now();
        while started.elapsed() < WARM_UP {
            exchange(&ours, Uri::from_static("/?1"))?;
        }
        let uris = [0, MANY].map(|polls| Uri::try_from(format!("/?{polls}")));
        let [none, many] = uris;
        let (none, many) = (none?, many?);
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            let single = exchange(&bare, none.clone())?;
            times[0].push(exchange(&bare, many.clone())?.saturating_sub(single));
            let single = exchange(&ours, none.clone())?;
            times[1].push(exchange(&ours, many.clone())?.saturating_sub(single));
        }
        let [bare, ours] = times.map(quartile);
        print("a poll that returns nothing", bare, ours, "25 ns");

        let bare = Pool::builder().max_size(1).test_on_check_out(false);
        let ours = Pool::builder().max_size(1).test_on_check_out(false);
        let pools = Pools {
            bare: bare.build(ConnectionManager::new(":memory:"))?,
            ours: vitals
                .instrument(ours)
                .build(ConnectionManager::new(":memory:"))?,
        };
        let app = App::new()
            .app_data(web::Data::new(pools))
            .route("/", web::get().to(checkouts));
        let service = init_service(app.wrap(vitals.http())).await;
        exchange(&service, Uri::from_static("/"))?;
        Ok(())
    })
}

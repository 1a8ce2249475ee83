//! The paths that are counted: with our monitoring, with the peer's, and bare, for what each adds to be told.

use std::{
    future::poll_fn,
    hint::black_box,
    pin::pin,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use actix_http::Request;
use actix_vitals::{
    registry::{Descriptor, Format, Registry, Unit},
    vitals::{BuildError, Builder, LATENCY_BUCKETS, Vitals},
};
use actix_web::{
    App, Error, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse},
    error::ErrorInternalServerError,
    http::Uri,
    rt::System,
    test::init_service,
    web,
};
use actix_web_prom::PrometheusMetricsBuilder;
use diesel::{
    connection::SimpleConnection,
    prelude::*,
    r2d2::{ConnectionManager, Pool, PooledConnection},
};

use super::Failure;

/// The path of a route in a nested scope, with parameters.
const NESTED: &str = "/api/v1/users/42/posts/7";

/// Series that a scrape is of.
const SERIES: usize = 100;

mod schema {
    //! The table that is queried.
    diesel::table! {
        items (id) {
            id -> Integer,
            name -> Text,
        }
    }
}
use schema::items;

/// Runs one path so many times.
pub(crate) fn run(path: &str, times: usize) -> Result<(), Failure> {
    match path {
        "bare-request" => serve_bare("/", times),
        "request" => serve_monitored(Vitals::builder(), "/", times),
        "core-request" => {
            let core = Vitals::builder().body_sizes(false).database_tally(false);
            serve_monitored(core, "/", times)
        }
        "peer-request" => serve_peered("/", times),
        "bare-nested-request" => serve_bare(NESTED, times),
        "nested-request" => serve_monitored(Vitals::builder(), NESTED, times),
        "peer-nested-request" => serve_peered(NESTED, times),
        "bare-request-that-queries" => query_bare(1, times),
        "request-that-queries" => query(1, times),
        "bare-query" => query_bare(times, 1),
        "query" => query(times, 1),
        "text" => scrape(Format::Text, times),
        "openmetrics" => scrape(Format::OpenMetrics, times),
        "protobuf" => scrape(Format::Protobuf, times),
        _ => Err(format!("no path is called {path}").into()),
    }
}

/// Monitoring as it is after a start: by then it is known whether time can be read from the processor.
fn settled(builder: Builder) -> Result<Vitals, BuildError> {
    let vitals = builder.build();
    thread::sleep(Duration::from_millis(500));
    vitals
}

fn serve_bare(path: &'static str, times: usize) -> Result<(), Failure> {
    serve(App::new().configure(greet), path, times)
}

fn serve_monitored(builder: Builder, path: &'static str, times: usize) -> Result<(), Failure> {
    let vitals = settled(builder)?;
    serve(App::new().configure(greet).wrap(vitals.http()), path, times)
}

fn serve_peered(path: &'static str, times: usize) -> Result<(), Failure> {
    let prom = PrometheusMetricsBuilder::new("peer").build()?;
    serve(App::new().configure(greet).wrap(prom), path, times)
}

fn greet(routes: &mut web::ServiceConfig) {
    let ok = async || HttpResponse::Ok().body("hello");
    let posts = web::scope("/users/{user}").route("/posts/{post}", web::get().to(ok));
    routes
        .route("/", web::get().to(ok))
        .service(web::scope("/api").service(web::scope("/v1").service(posts)));
}

/// Serves so many requests, each to the last byte of its answer.
fn serve<T, B>(app: App<T>, path: &'static str, times: usize) -> Result<(), Failure>
where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        > + 'static,
    B: MessageBody,
{
    System::new().block_on(async {
        let service = init_service(app).await;
        for _ in 0..times {
            let mut request = Request::new();
            request.head_mut().uri = Uri::from_static(path);
            let response = service.call(request).await;
            let response = response.map_err(|error| Failure::from(error.to_string()))?;
            if !response.status().is_success() {
                return Err(format!("the answer is {}", response.status()).into());
            }
            let mut body = pin!(response.into_body());
            while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                black_box(chunk.is_ok());
            }
        }
        Ok(())
    })
}

type Connection = PooledConnection<ConnectionManager<SqliteConnection>>;

/// A connection from a pool, whose threads make every allocation and every lock dearer.
fn connect() -> Result<Connection, Failure> {
    let pool = Pool::builder().max_size(1).test_on_check_out(false);
    Ok(pool.build(ConnectionManager::new(":memory:"))?.get()?)
}

/// Serves requests that query so many times each, under no monitoring.
fn query_bare(queries: usize, requests: usize) -> Result<(), Failure> {
    let app = App::new().configure(querying(connect()?, queries)?);
    serve(app, "/", requests)
}

/// Serves requests that query so many times each, with all that is recorded of that.
fn query(queries: usize, requests: usize) -> Result<(), Failure> {
    let vitals = settled(Vitals::builder())?;
    let mut connection = connect()?;
    vitals.instrument_connection(&mut *connection);
    let app = App::new().configure(querying(connection, queries)?);
    serve(app.wrap(vitals.http()), "/", requests)
}

/// A route that selects so many times by the primary key.
fn querying(
    mut connection: Connection,
    queries: usize,
) -> Result<impl FnOnce(&mut web::ServiceConfig), Failure> {
    connection.batch_execute(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
         INSERT INTO items VALUES (1, 'one');",
    )?;
    let connection = web::Data::new(Mutex::new(connection));
    let select = move |connection: web::Data<Mutex<Connection>>| async move {
        let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..queries {
            let item = items::table.find(black_box(1));
            let item: (i32, String) =
                (item.first(&mut **connection)).map_err(ErrorInternalServerError)?;
            black_box(item);
        }
        Ok::<_, Error>(HttpResponse::Ok().body("hello"))
    };
    Ok(move |routes: &mut web::ServiceConfig| {
        routes
            .app_data(connection)
            .route("/", web::get().to(select));
    })
}

/// Writes a registry of latency series out, so many times.
fn scrape(format: Format, times: usize) -> Result<(), Failure> {
    let mut builder = Registry::builder(|| Duration::from_secs(1));
    let descriptor =
        Descriptor::new("latency_seconds", "A latency.", ["endpoint"]).unit(Unit::Seconds);
    let family = builder.histogram(descriptor, &LATENCY_BUCKETS);
    let registry = builder.build()?;
    for endpoint in 0..SERIES {
        let series = family.series([&format!("/endpoint/{endpoint}")]);
        for observation in 0..50 {
            series.observe(f64::from(observation) * 0.001);
        }
    }
    for _ in 0..times {
        black_box(registry.encode(format));
    }
    Ok(())
}

//! The paths that are counted: with our monitoring, with that of the alternative, and without any. The difference is the cost of
//! each.
//!
//! The warm-up runs each path until nothing happens for the first time any more, and until every decision that depends on a
//! duration is the same each time. It has requests and queries of all durations up to some seconds, and many long ones. Then
//! every histogram has its memory, and no later request is among the slowest.

use std::{
    future::{Future, poll_fn},
    hint::black_box,
    pin::pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use actix_http::Request;
use actix_vitals::{
    Builder, LATENCY_BUCKETS, Vitals,
    registry::{Descriptor, Format, Registry, Unit},
};
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse},
    error::ErrorInternalServerError,
    http::Uri,
    rt::{System, time::sleep},
    test::init_service,
    web,
};
use actix_web_prom::PrometheusMetricsBuilder;
use diesel::{
    connection::SimpleConnection,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    r2d2::{ConnectionManager, Pool, PooledConnection},
    sql_types::{Integer, Text},
    sqlite::Sqlite,
};
use futures_util::future::join_all;

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

#[diesel::declare_sql_function]
extern "SQL" {
    /// Takes this many microseconds.
    fn spin_for(micros: diesel::sql_types::BigInt) -> diesel::sql_types::BigInt;
}

/// Times that requests and queries are counted, after as many that are not.
const TIMES: usize = 2_000;

/// Times that a scrape is counted.
const SCRAPES: usize = 20;

/// Requests of the warm-up that take longer than any that follow: more of them than are kept as the slowest.
const SLOW_REQUESTS: usize = 64;

/// How long those take, all at once.
const SLOW: Duration = Duration::from_secs(2);

/// Answers that wait for their clients.
const ANSWERS: usize = 10_000;

/// Texts of a query, each with a shape of its own: as many as are kept by default.
const TEXTS: usize = 1_000;

/// Runs one path, and prints how many times it was counted.
#[allow(clippy::print_stdout, reason = "that is the answer")]
pub(crate) fn run(path: &str) -> Result<(), Failure> {
    let times = match path {
        "bare-request" => serve_bare("/", Counted::Requests),
        "request" => serve_monitored(builder(), "/", Counted::Requests),
        "core-request" => {
            let core = builder().body_sizes(false).database_tally(false);
            serve_monitored(core, "/", Counted::Requests)
        }
        "peer-request" => serve_peered("/"),
        "bare-nested-request" => serve_bare(NESTED, Counted::Requests),
        "nested-request" => serve_monitored(builder(), NESTED, Counted::Requests),
        "peer-nested-request" => serve_peered(NESTED),
        "bare-request-that-queries" => query_bare(Counted::Requests),
        "request-that-queries" => query(Counted::Requests),
        "bare-query" => query_bare(Counted::Queries),
        "query" => query(Counted::Queries),
        "bare-request-beside-answers" => serve_bare("/", Counted::RequestsBesideAnswers),
        "request-beside-answers" => serve_monitored(builder(), "/", Counted::RequestsBesideAnswers),
        "bare-query-of-two-texts" => query_bare(Counted::Texts(2)),
        "query-of-two-texts" => query(Counted::Texts(2)),
        "bare-query-of-many-texts" => query_bare(Counted::Texts(TEXTS)),
        "query-of-many-texts" => query(Counted::Texts(TEXTS)),
        "text" => scrape(Format::Text),
        "openmetrics" => scrape(Format::OpenMetrics),
        "protobuf" => scrape(Format::Protobuf),
        _ => Err(format!("no path is called {path}").into()),
    }?;
    println!("{times}");
    Ok(())
}

/// Runs what is counted. `callgrind` knows this function by its name.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    // Not in tail position: the function must still be there when the work is done.
    black_box(work())
}

/// Monitoring with as many buckets of latencies as by default. The first is below every duration: what ends in the first
/// bucket costs less, and nothing may depend on how long a request takes.
fn builder() -> Builder {
    let mut bounds = LATENCY_BUCKETS;
    bounds[0] = 1e-9;
    Vitals::builder().latency_buckets(bounds)
}

fn serve_bare(path: &'static str, part: Counted) -> Result<usize, Failure> {
    serve(App::new().configure(greet), path, part)
}

fn serve_monitored(builder: Builder, path: &'static str, part: Counted) -> Result<usize, Failure> {
    let vitals = builder.build()?;
    let app = App::new().configure(greet).wrap(vitals.http());
    serve(app, path, part)
}

fn serve_peered(path: &'static str) -> Result<usize, Failure> {
    let prom = PrometheusMetricsBuilder::new("peer").build()?;
    serve(
        App::new().configure(greet).wrap(prom),
        path,
        Counted::Requests,
    )
}

fn greet(routes: &mut web::ServiceConfig) {
    let ok = async |request: HttpRequest| {
        match nap(&request) {
            Some(SLOW) => sleep(SLOW).await,
            Some(nap) => spin(nap),
            None => {}
        }
        HttpResponse::Ok().body("hello")
    };
    let posts = web::scope("/users/{user}").route("/posts/{post}", web::get().to(ok));
    routes
        .route("/", web::get().to(ok))
        .service(web::scope("/api").service(web::scope("/v1").service(posts)));
}

/// How long a request of the warm-up is to take: its query, in microseconds.
fn nap(request: &HttpRequest) -> Option<Duration> {
    let nap = request.query_string();
    nap.parse().ok().map(Duration::from_micros)
}

/// Passes the time to the microsecond, which no sleep does.
fn spin(nap: Duration) {
    if !nap.is_zero() {
        let started = Instant::now();
        while started.elapsed() < nap {}
    }
}

/// What is counted of a path: whole requests, or the queries of one.
#[derive(Clone, Copy, PartialEq)]
enum Counted {
    Requests,
    /// Requests while [`ANSWERS`] others have an answer that their clients have not taken.
    RequestsBesideAnswers,
    Queries,
    /// Queries of one type that has this many texts. They take turns.
    Texts(usize),
}

/// Serves requests, each to the last byte of its answer; the number of times that were counted.
fn serve<T, B>(app: App<T>, path: &'static str, part: Counted) -> Result<usize, Failure>
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
        let napping = |nap: Duration| Uri::try_from(format!("{path}?{}", nap.as_micros()));
        for power in 0..21 {
            exchange(&service, napping(Duration::from_micros(1 << power))?).await?;
        }
        let slow = napping(SLOW)?;
        let slow = (0..SLOW_REQUESTS).map(|_| exchange(&service, slow.clone()));
        join_all(slow)
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        let uri = Uri::from_static(path);
        for _ in 0..TIMES {
            exchange(&service, uri.clone()).await?;
        }
        let mut waiting = Vec::new();
        if part == Counted::RequestsBesideAnswers {
            for _ in 0..ANSWERS {
                let answer = service.call(request(uri.clone())).await;
                waiting.push(answer.map_err(|error| Failure::from(error.to_string()))?);
            }
        }
        match part {
            Counted::Requests | Counted::RequestsBesideAnswers => counted(|| {
                // Nothing that is served here waits.
                (0..TIMES).try_for_each(|_| ready(exchange(&service, uri.clone())))
            })?,
            Counted::Queries => exchange(&service, Uri::from_static("/?count")).await?,
            Counted::Texts(texts) => {
                exchange(&service, Uri::try_from(format!("/?texts={texts}"))?).await?;
            }
        }
        drop(waiting);
        Ok(TIMES)
    })
}

/// A request as the server's own parser makes it: without a body, it has no payload.
fn request(uri: Uri) -> Request {
    let mut request = Request::new();
    request.head_mut().uri = uri;
    request
}

async fn exchange<S, B>(service: &S, uri: Uri) -> Result<(), Failure>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let response = service.call(request(uri)).await;
    let response = response.map_err(|error| Failure::from(error.to_string()))?;
    if !response.status().is_success() {
        return Err(format!("the answer is {}", response.status()).into());
    }
    let mut body = pin!(response.into_body());
    while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        black_box(chunk.is_ok());
    }
    Ok(())
}

/// Returns the output of a future that does not wait. It needs no runtime, whose timers may be due.
fn ready(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err("what is counted must not wait".into()),
    }
}

type Connection = PooledConnection<ConnectionManager<SqliteConnection>>;

/// A connection from a pool, whose threads make every allocation and every lock dearer.
fn connect() -> Result<Connection, Failure> {
    let pool = Pool::builder().max_size(1).test_on_check_out(false);
    let pool = pool.build(ConnectionManager::<SqliteConnection>::new(":memory:"))?;
    let mut connection = pool.get()?;
    connection.batch_execute(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
         INSERT INTO items VALUES (1, 'one');",
    )?;
    spin_for_utils::register_impl(&mut connection, |micros: i64| {
        spin(Duration::from_micros(micros.unsigned_abs()));
        micros
    })?;
    Ok(connection)
}

/// Serves requests with a query, under no monitoring.
fn query_bare(part: Counted) -> Result<usize, Failure> {
    serve(App::new().configure(querying(connect()?)), "/", part)
}

/// Serves requests with a query, fully recorded.
fn query(part: Counted) -> Result<usize, Failure> {
    let vitals = builder().build()?;
    let mut connection = connect()?;
    vitals.instrument_connection(&mut *connection);
    let app = App::new().configure(querying(connection));
    serve(app.wrap(vitals.http()), "/", part)
}

/// A select by the primary key with a text of its own. Diesel keeps it prepared.
#[derive(Clone, Copy)]
struct Select<'a>(&'a str);

impl QueryFragment<Sqlite> for Select<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(self.0);
        out.push_bind_param::<Integer, _>(&1)
    }
}

impl QueryId for Select<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Select<'_> {
    type SqlType = (Integer, Text);
}

impl<C> RunQueryDsl<C> for Select<'_> {}

/// Runs queries of this many texts, which take turns.
fn select_texts(connection: &mut SqliteConnection, texts: usize) -> QueryResult<()> {
    let texts: Vec<String> = (0..texts)
        .map(|text| format!("SELECT id AS c{text}, name FROM items WHERE id = "))
        .collect();
    let mut select = || {
        let mut texts = texts.iter().cycle().take(TIMES);
        texts.try_for_each(|text| {
            let found: Vec<(i32, String)> = Select(text).load(connection)?;
            black_box(found);
            Ok(())
        })
    };
    select()?;
    counted(select)
}

/// A route that selects by the primary key: once, `?count` many times, or `?texts=` with this many texts.
fn querying(connection: Connection) -> impl FnOnce(&mut web::ServiceConfig) {
    let connection = web::Data::new(Mutex::new(connection));
    let select = async |request: HttpRequest, connection: web::Data<Mutex<Connection>>| {
        let select = |micros: i64| {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            // One statement serves long and short queries. It has no limit: SQLite prepares a statement again for each
            // value bound to a limit.
            let found = items::table
                .find(black_box(1))
                .filter(spin_for(micros).ge(0));
            let found: QueryResult<Vec<(i32, String)>> = found.load(&mut **connection);
            found
                .map(|found| drop(black_box(found)))
                .map_err(ErrorInternalServerError)
        };
        match nap(&request) {
            Some(SLOW) => sleep(SLOW).await,
            Some(nap) => select(i64::try_from(nap.as_micros()).unwrap_or_default())?,
            None if request.query_string() == "count" => {
                (0..TIMES).try_for_each(|_| select(0))?;
                counted(|| (0..TIMES).try_for_each(|_| select(0)))?;
            }
            None => match request.query_string().strip_prefix("texts=") {
                Some(texts) => {
                    let texts = texts.parse().map_err(ErrorInternalServerError)?;
                    let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                    select_texts(&mut connection, texts).map_err(ErrorInternalServerError)?;
                }
                None => select(0)?,
            },
        }
        Ok::<_, Error>(HttpResponse::Ok().body("hello"))
    };
    move |routes| {
        routes
            .app_data(connection)
            .route("/", web::get().to(select));
    }
}

/// Writes a registry of latency series out; the number of times that were counted.
fn scrape(format: Format) -> Result<usize, Failure> {
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
    let scrapes = || {
        for _ in 0..SCRAPES {
            black_box(registry.encode(format));
        }
    };
    scrapes();
    counted(scrapes);
    Ok(SCRAPES)
}
